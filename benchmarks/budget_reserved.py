"""Whether what is reserved for a call covers what the provider then bills for it.

    python -m benchmarks.budget_reserved [--data RUNS.jsonl[.gz]] [--runs N] [--only CLIENT ...] [--json OUT]

Rows are runs of agents in OpenAI's chat format: {"id", "messages": [...]}. Each is played by a real agent with real
clients against a strict server on loopback (`tests/providers/server.py`), whole and streamed. The server answers with
what the model said in the run, counts tokens for itself (`benchmarks/budget_counts.py`), simulates the provider's
prompt cache and bills; a `BudgetMiddleware` reserves before each call and settles after it. Beside the tools that a run
uses the agent has those of a registry.

* `covered_tokens`, `covered_usd`: the share of calls that took no more than was reserved for them.
* `covered_input`: the same for the input alone, without the room that is reserved for the answer.
* `input_ratio`, `input_ratio_p01`: reserved over billed input, of the median call and of the 1 % where it is least.
* `usd_ratio`: the same for USD, of the median call: the answer at its longest counts in, and no discount does.
* `misbooked`: USD by which what was settled differs from the bills.

Each is told at counter/way, such as "tiktoken/stream". `tiktoken` counts with the files in TIKTOKEN_CACHE_DIR,
`estimate` without any.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware, ModelRequest
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.agent_runs import SAMPLE, Run, read_runs
from benchmarks.budget_counts import claude_family, claude_tokens, exact_claude, openai_tokens, provider_count
from benchmarks.budget_runs import Player, Results, Script, read_tools
from benchmarks.rows import Measure, publish
from langchain_tokopt import Pricing, TokenCounter
from langchain_tokopt.budget import Budget, BudgetMiddleware, worst_case
from langchain_tokopt.encodings import encoding_of
from langchain_tokopt.events import Event, Reservation
from tests.providers.billing import Bill
from tests.providers.replies import Asked
from tests.providers.server import ProviderServer

REGISTRY = Path(__file__).parent / "samples" / "registry.jsonl"
MODELS = {
    "openai": "gpt-4.1-mini",
    "responses": "gpt-5-mini",
    "anthropic": "claude-sonnet-4-6",
    "anthropic+newer": "claude-opus-4-8",
}
COUNTERS = ("tiktoken", "estimate")
WAYS = ("invoke", "stream")


# --- what was reserved and billed ------------------------------------------------------------------------------------


class Inputs(AgentMiddleware[Any, Any]):
    """Notes the input that is reserved for each call."""

    def __init__(self, counter: TokenCounter) -> None:
        super().__init__()
        self._counter = counter
        self.reserved: list[int] = []

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        """Note it, and call."""
        self.reserved.append(worst_case(request, self._counter, max_output_tokens=None).input_tokens)
        return handler(request)


class Reservations:
    """A sink that keeps what was reserved and settled."""

    def __init__(self) -> None:
        self._told: list[Reservation] = []

    def emit(self, event: Event) -> None:
        """Keep it, if it is of a reservation."""
        if isinstance(event, Reservation):
            self._told.append(event)

    def of(self, action: str) -> list[Reservation]:
        """What was told of that step, oldest first."""
        return [event for event in self._told if event.action == action]


@dataclass(frozen=True)
class Compared:
    """One call: what was reserved for it, and what was billed."""

    reserved_input: int
    reserved_tokens: int
    reserved_usd: Decimal
    bill: Bill
    billed_usd: Decimal


def compare(
    client: str,
    counter: TokenCounter,
    way: str,
    runs: Sequence[Run],
    extra: Sequence[StructuredTool],
    count: Callable[[Asked], int] | None,
) -> tuple[list[Compared], Decimal]:
    """All calls of the runs, and USD by which what was settled differs from the bills."""
    compared: list[Compared] = []
    misbooked = Decimal(0)
    for run in runs:
        told, inputs, script = Reservations(), Inputs(counter), Script.of(run)
        with ProviderServer(policy=Player(script), count=count) as server:
            play(client, server, counter, way, run, script, extra, told, inputs)
            if server.rejected or server.broken:
                raise RuntimeError([*server.rejected, *server.broken][0])
            bills = [record.bill for record in server.answered if record.bill is not None]
        usd = [price(client, bill) for bill in bills]
        for reserved_input, reserved, bill, billed in zip(
            inputs.reserved, told.of("reserved"), bills, usd, strict=True
        ):
            compared.append(Compared(reserved_input, reserved.tokens or 0, reserved.usd or Decimal(0), bill, billed))
        settled = sum((event.usd or Decimal(0) for event in told.of("settled") + told.of("overage")), Decimal(0))
        misbooked += abs(settled - sum(usd, Decimal(0)))
    return compared, misbooked


def play(
    client: str,
    server: ProviderServer,
    counter: TokenCounter,
    way: str,
    run: Run,
    script: Script,
    extra: Sequence[StructuredTool],
    told: Reservations,
    inputs: Inputs,
) -> None:
    """Let an agent go through the run."""
    budget = Budget(usd="1000000", counter=counter)
    names = {tool.name for tool in run.tools}
    agent = create_agent(
        chat_model(client, server),
        [*run.tools, *(tool for tool in extra if tool.name not in names)],
        system_prompt=None if run.system is None else str(run.system.text),
        middleware=[
            *([AnthropicPromptCachingMiddleware()] if client.startswith("anthropic") else []),
            Results(script),
            BudgetMiddleware(budget, sink=told),
            inputs,
        ],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": run.id}, "recursion_limit": 10_000}
    for ask in script.asks:
        if way == "invoke":
            agent.invoke({"messages": [ask]}, config)
        else:
            for _ in agent.stream({"messages": [ask]}, config, stream_mode="messages"):
                pass
    budget.close()


def chat_model(client: str, server: ProviderServer) -> BaseChatModel:
    """The provider's own client, talking to the server."""
    model = MODELS[client]
    if client.startswith("anthropic"):
        return ChatAnthropic(model_name=model, base_url=server.root, api_key="test", max_retries=0, max_tokens=4096)
    responses = client == "responses"
    return ChatOpenAI(
        model=model,
        base_url=server.openai_url,
        api_key="test",
        max_retries=0,
        stream_usage=True,
        use_responses_api=responses,
    )


def price(client: str, bill: Bill) -> Decimal:
    """USD for a call."""
    details = InputTokenDetails(cache_read=bill.cache_read, cache_creation=bill.cache_write)
    usage = UsageMetadata(
        input_tokens=bill.input, output_tokens=bill.output, total_tokens=bill.total, input_token_details=details
    )
    cost = Pricing().cost(usage, MODELS[client], "anthropic" if client.startswith("anthropic") else "openai")
    if cost is None:
        msg = f"the price of {MODELS[client]} is not known"
        raise RuntimeError(msg)
    return cost


def measures(client: str, at: str, compared: Sequence[Compared], misbooked: Decimal) -> Iterator[Measure]:
    """The figures of all calls."""
    measure = partial(Measure, client)
    calls = len(compared)
    yield measure("calls", at, calls)
    yield measure("covered_tokens", at, sum(c.bill.total <= c.reserved_tokens for c in compared) / calls)
    yield measure("covered_usd", at, sum(c.billed_usd <= c.reserved_usd for c in compared) / calls)
    yield measure("covered_input", at, sum(c.bill.input <= c.reserved_input for c in compared) / calls)
    ratios = sorted(c.reserved_input / c.bill.input for c in compared)
    yield measure("input_ratio", at, statistics.median(ratios))
    yield measure("input_ratio_p01", at, ratios[calls // 100])
    yield measure("usd_ratio", at, statistics.median(float(c.reserved_usd / c.billed_usd) for c in compared))
    yield measure("misbooked", at, float(misbooked))


@contextmanager
def counter_of(kind: str) -> Iterator[TokenCounter]:
    """A counter that finds tiktoken's files, or none."""
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    with tempfile.TemporaryDirectory() as empty:
        if kind == "estimate":
            os.environ["TIKTOKEN_CACHE_DIR"] = empty
        try:
            yield TokenCounter()
        finally:
            os.environ.pop("TIKTOKEN_CACHE_DIR", None)
            if before is not None:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


def _count(clients: Sequence[str]) -> Callable[[Asked], int] | None:
    """How the server counts: with tokenizers, if they are on this machine.

    They are loaded here: tiktoken keeps what it has loaded, also while a counter must not find its files.
    """
    if not exact_claude():
        print("ctok is not installed: Claude's tokens are taken to be a multiple of cl100k's", file=sys.stderr)
    try:
        for model in (MODELS[client] for client in clients):
            tokens = claude_tokens(claude_family(model)) if "claude" in model else openai_tokens(encoding_of(model))
            tokens("a")
    except LookupError as error:
        print(f"the server takes 4 characters for a token: {error}", file=sys.stderr)
        return None
    return provider_count


def main(argv: Sequence[str] | None = None) -> int:
    """Play the runs with all clients, and publish what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget_reserved", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, metavar="RUNS")
    parser.add_argument("--runs", type=int, default=10, help="how many of them, from the first on")
    parser.add_argument("--registry", type=Path, default=REGISTRY)
    parser.add_argument("--tools", type=int, default=10, help="of the registry")
    parser.add_argument("--only", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--counters", nargs="+", choices=COUNTERS, default=list(COUNTERS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    os.environ["NO_PROXY"] = "127.0.0.1"
    runs, extra = read_runs(args.data)[: args.runs], read_tools(args.registry, args.tools)
    count = _count(args.only)
    rows: list[Measure] = []
    for kind in args.counters:
        with counter_of(kind) as counter:
            for client in args.only:
                if counter.source(MODELS[client]) != kind:
                    print(f"{client}: tiktoken has no file for {MODELS[client]}", file=sys.stderr)
                    continue
                for way in args.ways:
                    compared, misbooked = compare(client, counter, way, runs, extra, count)
                    rows += measures(client, f"{kind}/{way}", compared, misbooked)
    publish("budget_reserved", args.data.name, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
