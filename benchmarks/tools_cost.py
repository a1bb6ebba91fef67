"""What a thread's input costs with each way of binding tools, relative to binding all of them.

Every request that would reach a provider is billed with its prompt cache (`prefix.PromptCache`) at the listed prices of
five models. The threads of an application share the beginning of their prompts, so what other threads began with is in
the cache when a thread begins. `cold` is the same with an empty cache, as for the first thread of all.

* `ours` is `ToolSelectionMiddleware`, which learns from thread to thread; `ours:MODE` forces a mode instead of letting
  it choose. "inline" has figures only for models that can be told of tools in a conversation.
* `fresh` binds the 10 best tools for each user message, and those only, as most routers do.
* `append` does the same but keeps what was bound and adds to the end.
* `llm_tool_selector` is LangChain's middleware; its selector picks exactly the tools that are needed.
* `none` binds no tools at all: what the conversation costs by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import BaseTool

from benchmarks.peers import llm_tool_selector
from benchmarks.rows import Measure
from benchmarks.tools_bills import Bill, Biller, PriceTable, price_tables
from benchmarks.tools_threads import Conversation, Handler, Turn, Wrap, as_tools, drawn, specs_of
from langchain_tokopt import Pricing, TokenCounter
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.prefix import segments
from langchain_tokopt.tools import ToolIndex, ToolSelection, ToolSelectionMiddleware
from langchain_tokopt.tools.additions import form_of
from langchain_tokopt.tools.encoder import Encoder

SIZES = (5, 15, 30, 60, 120, 250, 500, 1000)
THREADS = 8
METHODS = ("ours", "ours:rebind", "ours:inline", "ours:proxy", "fresh", "append", "llm_tool_selector", "none")
KNOWN_METHODS = ("ours:off", *METHODS)
MAX_TOOLS = 10
_PATIENCE_SECONDS = 600.0  # a benchmark waits for its embedder; an agent would not

Way: TypeAlias = "Callable[[Conversation], Wrap]"


# --- ways of binding tools -------------------------------------------------------------------------------------------


def everything(_: Conversation) -> Wrap:
    """All tools, always."""
    return lambda request, handler: handler(request)


def none(_: Conversation) -> Wrap:
    """No tools."""
    return lambda request, handler: handler(request.override(tools=[]))


def routed(index: ToolIndex, *, keep: bool) -> Way:
    """The best tools for each user message in the order of registration; with `keep` after those of earlier ones."""

    def wrap(request: Any, handler: Handler) -> Any:
        asked = [message.text for message in request.messages if isinstance(message, HumanMessage)]
        names: dict[str, None] = {}
        for text in asked if keep else asked[-1:]:
            names.update(dict.fromkeys(index.ordered(index.top(text, MAX_TOOLS))))
        tools = {tool.name: tool for tool in request.tools}
        return handler(request.override(tools=[tools[name] for name in names]))

    return lambda _: wrap


def selected(conversation: Conversation) -> Wrap:
    """LangChain's selector. Its calls are billed like the agent's, with the provider's cache in use."""

    def told(messages: list[Any], tools: list[dict[str, Any]], answer: Any) -> None:
        system, *rest = messages
        request = conversation.request(rest, tools, SystemMessage(system.text))
        conversation.record("selector", request, answer)

    middleware = llm_tool_selector.selector(MAX_TOOLS, lambda: conversation.turn.tools, told)
    return middleware.wrap_model_call


# --- regimes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Application:
    """An agent with some tools, and the threads that it will run."""

    tools: Sequence[BaseTool]
    threads: Sequence[Sequence[Turn]]

    def run(self, way: Way, table: PriceTable) -> list[Conversation]:
        """Play every thread with this model, one after the other."""
        specs = specs_of(self.tools)
        played = []
        for number, turns in enumerate(self.threads):
            conversation = Conversation(f"thread {number}", turns, self.tools, specs, table.model, table.settings)
            conversation.run(way(conversation))
            played.append(conversation)
        return played


class Comparison:
    """Ways of binding the tools of one application, beside binding all of them.

    Raises:
        ConfigurationError: The price of a model is not known.
    """

    def __init__(self, app: Application, tables: Sequence[PriceTable], embeddings: Embeddings) -> None:
        self._app = app
        self._tables = tables
        self._embeddings = embeddings
        self._counter = TokenCounter()
        self._pricing = Pricing()
        self._billers = {table.name: Biller(table, self._counter, self._pricing) for table in tables}
        self._index = ToolIndex(app.tools, embeddings=Encoder(embeddings, timeout_seconds=_PATIENCE_SECONDS))
        played = app.run(everything, tables[0])
        self._all = {table.name: self._bills(table, played) for table in tables}

    def measures(self, method: str) -> Iterator[Measure]:
        """The figures of one method, each `at` a price table and the number of tools."""
        size = len(self._app.tools)
        highest = {"input_cost": 0.0, "total_cost": 0.0}
        played = self._played(method)
        tables = [table for table in self._tables if table.name in played]
        for table in tables:
            bills = self._bills(table, played[table.name])
            for kind, bill, full in zip(("", " cold"), bills, self._all[table.name], strict=True):
                if kind and not table.cached:
                    continue  # without a cache the first thread is as any other
                costs = {
                    "input_cost": float(bill.input / full.input),
                    "total_cost": float(bill.total / full.total),
                }
                for metric, cost in costs.items():
                    yield Measure(method, metric, f"{table.name}:{size}{kind}", cost)
                    if table.cached and not kind:
                        highest[metric] = max(highest[metric], cost)
        if any(table.cached for table in tables):
            yield from (Measure(method, metric, f"cached:{size}", cost) for metric, cost in highest.items())
        yield from self._counts(method, size, [thread for threads in played.values() for thread in threads])

    def _counts(self, method: str, size: int, threads: Sequence[Conversation]) -> Iterator[Measure]:
        calls = [sent for thread in threads for sent in thread.sent]
        yield Measure(
            method,
            "reached",
            size,
            sum(thread.reached for thread in threads) / sum(thread.needed for thread in threads),
        )
        turns = sum(len(thread.turns) for thread in threads)
        yield Measure(method, "searches_per_turn", size, sum(sent.kind == "search" for sent in calls) / turns)
        beside = [sent.request for sent in calls if sent.kind == "selector"]
        if beside:
            tokens = sum(segment.tokens for request in beside for segment in segments(request, self._counter))
            yield Measure(method, "selector_tokens", size, tokens / len(beside))

    def _played(self, method: str) -> dict[str, list[Conversation]]:
        """The threads, by the price table whose model they had. Only this project's way asks which model it is."""
        kind, _, mode = method.partition(":")
        if kind == "ours":
            able = [table for table in self._tables if mode != "inline" or form_of(table.model, table.settings)]
            return {table.name: self._app.run(self._ours(mode or "auto"), table) for table in able}
        ways = {
            "fresh": routed(self._index, keep=False),
            "append": routed(self._index, keep=True),
            "llm_tool_selector": selected,
            "none": none,
        }
        played = self._app.run(ways[kind], self._tables[0])
        return {table.name: played for table in self._tables}

    def _ours(self, mode: Any) -> Way:
        selection = ToolSelection(
            mode=mode,
            max_tools=MAX_TOOLS,
            embeddings=self._embeddings,
            embed_timeout_seconds=_PATIENCE_SECONDS,
            counter=self._counter,
            pricing=self._pricing,
        )
        selection.index(self._app.tools).warm()
        middleware = ToolSelectionMiddleware(selection)  # one for all threads of the application
        return lambda _: middleware.wrap_model_call

    def _bills(self, table: PriceTable, played: Sequence[Conversation]) -> tuple[Bill, Bill]:
        return self._billers[table.name].bills([thread.sent for thread in played])


def regimes(
    rows: Sequence[Mapping[str, Any]],
    turns: Sequence[Turn],
    *,
    embeddings: Embeddings,
    sizes: Sequence[int],
    threads: int,
    methods: Sequence[str],
    seed: int,
) -> Iterator[Measure]:
    """All figures, over numbers of tools. A number for which the data has no threads is named and left out."""
    names = [row["name"] for row in rows]
    tables = price_tables()
    if not tables:
        print("costs: left out, neither langchain-anthropic nor langchain-openai is installed", file=sys.stderr)
        return
    methods = [method for method in methods if _available(method)]
    for size in sizes:
        chosen, drawn_threads = drawn(turns, names, threads, size, seed)
        if len(chosen) < size or not drawn_threads:
            why = "the registry is smaller" if len(chosen) < size else "no query can do with so few"
            print(f"costs with {size} tools: left out, {why}", file=sys.stderr)
            continue
        app = Application(as_tools([row for row in rows if row["name"] in chosen]), drawn_threads)
        comparison = Comparison(app, tables, embeddings)
        for method in methods:
            yield from comparison.measures(method)


def _available(method: str) -> bool:
    mode: Any = method.partition(":")[2] or "auto"
    try:
        ToolSelection(mode=mode)
    except ConfigurationError as error:
        print(f"{method} is left out: {error}", file=sys.stderr)
        return False
    return True


def worst(rows: Sequence[Measure]) -> Iterator[Measure]:
    """The regime in which each method costs most, `at` that regime."""
    highest: dict[str, Measure] = {}
    for row in rows:
        if row.metric == "input_cost" and not str(row.at).startswith("cached:"):
            known = highest.get(row.method)
            if known is None or _upper(row) > _upper(known):
                highest[row.method] = row
    for method, row in highest.items():
        yield Measure(method, "worst", row.at, _upper(row))


def _upper(row: Measure) -> float:
    return row.value if row.high is None else row.high
