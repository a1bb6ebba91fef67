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
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware, ModelRequest
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.agent_runs import SAMPLE, Run, read_runs
from benchmarks.budget_counts import claude_family, claude_tokens, exact_claude, openai_tokens, provider_count
from benchmarks.rows import Measure, publish
from langchain_tokopt import Pricing, TokenCounter
from langchain_tokopt.budget import Budget, BudgetMiddleware, worst_case
from langchain_tokopt.encodings import encoding_of
from langchain_tokopt.events import Event, Reservation
from tests.providers.billing import Bill
from tests.providers.replies import Answer, Asked, Reply, ToolCall
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


# --- what a run says -------------------------------------------------------------------------------------------------


@dataclass
class Script:
    """A run as it is played: what the user says, what the model answers, what the tools give.

    Each call of a tool has a new id, and its result is known by it.
    """

    asks: list[HumanMessage] = field(default_factory=list)
    answers: list[Reply] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Script:
        """The script of a run."""
        script = cls()
        renamed: dict[str, str] = {}
        for message in run.messages:
            if isinstance(message, HumanMessage):
                script.asks.append(HumanMessage(str(message.text)))
            elif isinstance(message, AIMessage):
                calls = []
                for call in message.tool_calls:
                    name = renamed[str(call["id"])] = f"call_{len(script.results)}"
                    script.results[name] = ""
                    calls.append(ToolCall(name=call["name"], args=call["args"], id=name))
                script.answers.append(
                    Reply(
                        text=str(message.text) or "" if calls else str(message.text) or "Yes.", tool_calls=tuple(calls)
                    )
                )
            elif isinstance(message, ToolMessage) and message.tool_call_id in renamed:
                script.results[renamed[message.tool_call_id]] = str(message.text)
        return script


class Player:
    """A policy: the answers of a run one after the other, whatever is asked."""

    def __init__(self, script: Script) -> None:
        self._answers = iter(script.answers)

    def __call__(self, asked: Asked) -> Answer:
        return next(self._answers, Reply(text="That is all."))


class Results(AgentMiddleware[Any, Any]):
    """Gives the results of a run in place of its tools."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._results = script.results

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> ToolMessage:
        """The recorded result."""
        call = request.tool_call
        return ToolMessage(self._results[call["id"]], tool_call_id=call["id"], name=call["name"])


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
    client: str, counter: TokenCounter, way: str, runs: Sequence[Run], extra: Sequence[StructuredTool]
) -> tuple[list[Compared], Decimal]:
    """All calls of the runs, and USD by which what was settled differs from the bills."""
    compared: list[Compared] = []
    misbooked = Decimal(0)
    for run in runs:
        told, inputs, script = Reservations(), Inputs(counter), Script.of(run)
        with ProviderServer(policy=Player(script), count=provider_count) as server:
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


def read_tools(path: Path, count: int) -> list[StructuredTool]:
    """The first tools of a registry."""
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    return [
        StructuredTool(
            name=row["name"],
            description=row["description"],
            args_schema=dict(row["parameters"]),
            func=lambda **_: None,
        )
        for row in rows
    ]


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
    if not exact_claude():
        print("ctok is not installed: Claude's tokens are taken to be a multiple of cl100k's", file=sys.stderr)
    for client in args.only:  # tiktoken keeps what it has loaded, also while a counter must not find its files
        model = MODELS[client]
        (claude_tokens(claude_family(model)) if "claude" in model else openai_tokens(encoding_of(model)))("a")
    rows: list[Measure] = []
    for kind in args.counters:
        with counter_of(kind) as counter:
            for client in args.only:
                if counter.source(MODELS[client]) != kind:
                    print(f"{client}: tiktoken has no file for {MODELS[client]}", file=sys.stderr)
                    continue
                for way in args.ways:
                    compared, misbooked = compare(client, counter, way, runs, extra)
                    rows += measures(client, f"{kind}/{way}", compared, misbooked)
    publish("budget_reserved", args.data.name, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
