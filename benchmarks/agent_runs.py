"""What long runs of agents cost with their history compressed, and what of it stays in sight.

    python -m benchmarks.agent_runs --data RUNS.jsonl[.gz] [--only METHOD ...] [--tables TABLE ...] [--json OUT]

Rows are runs in OpenAI's chat format: {"id", "messages": [...]}. Each answer of the model is one call that was sent all
messages before it. Every call goes through the middleware as in an agent, and is billed with the provider's prompt
cache (`langchain_tokopt.prefix.PromptCache`) at listed prices: "anthropic", "openai", and "uncached" (nothing is ever
read from a cache). All of it is relative to sending everything.

* `billed_input`: input of all runs; `worst_run`: the dearest single run.
* `identifiers_visible`: of the identifiers that a call's arguments use and that had come from tool results only, the
  share that the model was shown at that moment; `retrievable`: visible, or in a text whose id it was shown.
* `prefix_breaks_per_call`: calls whose prompt does not go on from the last one's.
* `violations`: prompts that a provider would refuse, and messages whose id, name or call changed.
* `ms_per_10k_tokens`: CPU time of the middleware per 10,000 tokens that the runs bring, at "anthropic".

* `nothing`; `clear_tool_uses`: LangChain's ContextEditingMiddleware (keeps 3 results, from 10,000 tokens on);
  `lossless`: `HistoryCompression` without showing anything in part; `ours`: as it is by default. It learns from the
  runs that came before, in the order of the file, how long runs are and whether their results are large;
  `ours+first`: each run as if it were the first one.
  `--curve` adds `ours@N` with new results of N tokens, from careful to bold, and `within@N` with all messages in at
  most N tokens, which also shortens and leaves out what the model itself said: how much is saved, and what is seen.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage, convert_to_messages
from langchain_core.tools import StructuredTool

from benchmarks.rows import Measure, publish
from benchmarks.tools_bills import PriceTable, price_tables
from langchain_tokopt import HistoryCompression, HistoryCompressionMiddleware, Pricing, TokenCounter
from langchain_tokopt.context.history import View
from langchain_tokopt.context.retrieval import Originals
from langchain_tokopt.context.validate import problem
from langchain_tokopt.prefix import PromptCache, Segment, rates_in_use, segments

SAMPLE = Path(__file__).parent / "samples" / "agent_runs.jsonl"
METHODS = ("nothing", "clear_tool_uses", "lossless", "ours", "ours+first")
TABLES = ("anthropic", "openai", "uncached")
CURVE = (2_000, 1_000, 500, 300, 200)
CURVE_WITHIN = (16_000, 12_000, 8_000, 6_000)

COUNTER = TokenCounter()
PRICING = Pricing()
# Identifiers as they are used in arguments: with an inner mark or capital, or with a digit.
_WORD = re.compile(r"[A-Za-z_#][\w#-]*(?:[./][\w-]+)*")
_HANDLE = re.compile(r'retrieve_original(?:_\d+)?\("([0-9a-f]{8})"\)')
_ARGUMENT_CHARACTERS = 1_500


@dataclass(frozen=True)
class Sent:
    """The request that is sent, and the texts behind handles in it that are no message's, by their handles."""

    request: ModelRequest[Any]
    blocks: Mapping[str, str] = field(default_factory=dict)


Sender = Callable[[ModelRequest[Any]], Sent]


@dataclass(frozen=True, eq=False)
class Run:
    """One run: its system message, its messages, its tools, and what its calls need of earlier results."""

    id: str
    system: SystemMessage | None
    messages: list[BaseMessage]
    tools: list[Any]
    needs: dict[int, list[str]]

    @property
    def calls(self) -> list[int]:
        """The index of each answer of the model."""
        return [at for at, message in enumerate(self.messages) if isinstance(message, AIMessage) and at]


@dataclass
class Outcome:
    """What runs came to with one method at one price table."""

    cost: float = 0.0
    runs: list[float] = field(default_factory=list)
    needed: int = 0
    visible: int = 0
    retrievable: int = 0
    calls: int = 0
    breaks: int = 0
    violations: int = 0
    seconds: float = 0.0


# --- runs ------------------------------------------------------------------------------------------------------------


def read_runs(path: Path) -> list[Run]:
    """The runs of a file.

    Raises:
        ValueError: A row is not a run; the message names the line.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [_run(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _run(number: int, line: str) -> Run:
    try:
        row = json.loads(line)
        messages = convert_to_messages([{"content": "", **message} for message in row["messages"]])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"line {number} is not a run in OpenAI's chat format: {error}"
        raise ValueError(msg) from error
    system = messages[0] if messages and isinstance(messages[0], SystemMessage) else None
    rest = messages[1:] if system else messages
    named = [message.model_copy(update={"id": f"{row['id']}-{at}"}) for at, message in enumerate(rest)]
    names = {call["name"] for message in named if isinstance(message, AIMessage) for call in message.tool_calls}
    return Run(str(row["id"]), system, named, [_tool(name, named) for name in sorted(names)], _needs(named))


def _tool(name: str, messages: Sequence[BaseMessage]) -> StructuredTool:
    """A tool with the arguments that its calls have."""
    calls = [call for message in messages for call in getattr(message, "tool_calls", ()) if call["name"] == name]
    arguments = sorted({key for call in calls for key in call["args"]})
    schema = {"type": "object", "properties": {key: {"type": "string"} for key in arguments}}
    return StructuredTool(name=name, description=f"The tool {name}.", args_schema=schema, func=lambda **_: None)


def _needs(messages: Sequence[BaseMessage]) -> dict[int, list[str]]:
    """For each call the identifiers in its arguments that stood in tool results only until then."""
    needs: dict[int, list[str]] = {}
    results = others = ""
    for at, message in enumerate(messages):
        text = _said(message)
        if isinstance(message, AIMessage) and results:
            arguments = [json.dumps(call["args"])[:_ARGUMENT_CHARACTERS] for call in message.tool_calls]
            used = _identifiers(" ".join(arguments))
            needs[at] = [one for one in used if one not in others and one in results]
        if isinstance(message, ToolMessage):
            results += "\n" + text
        else:
            others += "\n" + text
    return needs


def _said(message: BaseMessage) -> str:
    calls = [json.dumps(call["args"], ensure_ascii=False) for call in getattr(message, "tool_calls", ())]
    return "\n".join([str(message.text), *calls])


def _identifiers(text: str) -> list[str]:
    words = dict.fromkeys(_WORD.findall(text.replace("\\n", "\n")))
    return [word for word in words if (len(word) >= 6 and re.search(r"[_./]|[a-z][A-Z]", word)) or _has_digits(word)]


def _has_digits(word: str) -> bool:
    return len(word) >= 4 and any(character.isdigit() for character in word)


# --- methods ---------------------------------------------------------------------------------------------------------


def _nothing() -> Sender:
    return Sent


def _clear_tool_uses() -> Sender:
    middleware = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=10_000, keep=3)])
    return partial(_through_hook, middleware)


def _through_hook(middleware: Any, request: ModelRequest[Any]) -> Sent:
    sent: list[ModelRequest[Any]] = []

    def handler(asked: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(asked)
        return ModelResponse(result=[AIMessage("")])

    middleware.wrap_model_call(request, handler)
    history = getattr(middleware, "history", None)
    return Sent(sent[-1], history.blocks if isinstance(history, _Watched) else {})


class _Watched(HistoryCompression):
    """Remembers what its last view leaves out."""

    blocks: Mapping[str, str] = MappingProxyType({})

    def examine(self, messages: Sequence[BaseMessage], **how: Any) -> View:
        view = super().examine(messages, **how)
        self.blocks = view.blocks
        return view


def _ours(**settings: Any) -> Sender:
    history = _Watched(**settings).attach(counter=COUNTER, pricing=PRICING)
    return partial(_through_hook, HistoryCompressionMiddleware(history))


def _first(**settings: Any) -> Sender:
    """Each run with an object of its own, so that nothing is learned."""
    known: dict[str, Sender] = {}

    def send(request: ModelRequest[Any]) -> Sent:
        run = str(request.messages[0].id)
        if run not in known:
            known.clear()
            known[run] = _ours(**settings)
        return known[run](request)

    return send


def methods(*, curve: bool) -> dict[str, Callable[[], Sender]]:
    """Each method by its name: makes what turns a request into the one that is sent."""
    found: dict[str, Callable[[], Sender]] = {
        "nothing": _nothing,
        "clear_tool_uses": _clear_tool_uses,
        "lossless": partial(_ours, max_result_tokens=None, old_result_tokens=None),
        "ours": _ours,
        "ours+first": _first,
    }
    for tokens in CURVE if curve else ():
        found[f"ours@{tokens}"] = partial(_ours, max_result_tokens=tokens, old_result_tokens=max(40, tokens // 12))
    for tokens in CURVE_WITHIN if curve else ():
        found[f"within@{tokens}"] = partial(_ours, max_tokens=tokens)
    return found


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(runs: Sequence[Run], make: Callable[[], Sender], table: PriceTable) -> Outcome:
    """All the runs, one after another, with one method at one price table."""
    outcome, send = Outcome(), make()
    _warm_up(runs[0], make(), table)
    rates = PRICING.rates(table.model)
    if rates is None:
        msg = f"the price of {table.name} is not known"
        raise ValueError(msg)
    for run in runs:
        cache = PromptCache(clock=lambda: 0.0)  # all calls come in time
        cost, last = 0.0, ()
        for at in run.calls:
            request = _request(run, at, table)
            started = time.process_time()
            sent = send(request)
            outcome.seconds += time.process_time() - started
            prompt = segments(sent.request, COUNTER)
            used = rates_in_use(request, rates)
            used = used if table.cached else used.without_caching()
            cost += float(cache.observe(prompt, used).cost(used))
            outcome.calls += 1
            outcome.breaks += not _goes_on(last, prompt)
            last = prompt
            _look(outcome, run, at, sent)
        outcome.cost += cost
        outcome.runs.append(cost)
    return outcome


def _request(run: Run, at: int, table: PriceTable) -> ModelRequest[Any]:
    """The request that the answer at this index answers."""
    return ModelRequest(
        model=table.model,
        messages=list(run.messages[:at]),
        system_message=run.system,
        tools=list(run.tools),
        model_settings=dict(table.settings),
        state={"messages": list(run.messages[:at])},
    )


def _warm_up(run: Run, send: Sender, table: PriceTable) -> None:
    """Load what is loaded once."""
    for at in run.calls[:3]:
        send(_request(run, at, table))


def _goes_on(last: Sequence[Segment], now: Sequence[Segment]) -> bool:
    return [one.digest for one in last] == [one.digest for one in now[: len(last)]]


def _look(outcome: Outcome, run: Run, at: int, sent: Sent) -> None:
    """What the call is shown of what it needs, and whether a provider would take it."""
    before, messages = run.messages[:at], sent.request.messages
    outcome.violations += problem(messages) is not None
    given = {message.id: message for message in before}
    for message in messages:
        old = given.get(message.id)
        same = old is not None and type(old) is type(message) and old.name == message.name
        same = same and getattr(old, "tool_call_id", None) == getattr(message, "tool_call_id", None)
        outcome.violations += not same and message.id is not None
    needed = run.needs.get(at, [])
    if not needed:
        return
    shown = "\n".join(_said(message) for message in messages)
    originals = Originals(before, sent.blocks)
    found = (originals.find(handle) for handle in _HANDLE.findall(shown))
    behind = "\n".join(text for text in found if text is not None)
    outcome.needed += len(needed)
    outcome.visible += sum(one in shown for one in needed)
    outcome.retrievable += sum(one in shown or one in behind for one in needed)


def rows(name: str, table: str, outcome: Outcome, base: Outcome, tokens: int) -> Iterator[Measure]:
    """The figures of one method at one price table."""
    yield Measure(name, "billed_input", table, outcome.cost / base.cost)
    worst = max(own / other for own, other in zip(outcome.runs, base.runs, strict=True) if other)
    yield Measure(name, "worst_run", table, worst)
    if outcome.needed:
        yield Measure(name, "identifiers_visible", table, outcome.visible / outcome.needed)
        yield Measure(name, "retrievable", table, outcome.retrievable / outcome.needed)
    yield Measure(name, "prefix_breaks_per_call", table, outcome.breaks / max(1, outcome.calls))
    yield Measure(name, "violations", table, outcome.violations)
    if table == "anthropic":
        yield Measure(name, "ms_per_10k_tokens", None, 1e7 * outcome.seconds / max(1, tokens))


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Exit code 2: the data cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent_runs", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="runs in OpenAI's chat format, JSON lines")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), help="methods to measure")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="price tables")
    parser.add_argument("--curve", action="store_true", help="also with other sizes of results")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args(argv)
    try:
        runs = read_runs(args.data)
    except (OSError, ValueError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    measured: list[Measure] = []
    tokens = sum(COUNTER.message(message) for run in runs for message in run.messages)
    known = methods(curve=args.curve)
    chosen = ["nothing", *(name for name in known if name in args.only or "@" in name)]
    for table in price_tables():
        if table.name not in args.tables:
            continue
        base = measure(runs, _nothing, table)
        for name in dict.fromkeys(chosen):
            outcome = base if name == "nothing" else measure(runs, known[name], table)
            measured += rows(name, table.name, outcome, base, tokens)
    publish("agent_runs", args.data.name, measured, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
