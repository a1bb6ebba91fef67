"""Which tools a request is sent with: chosen by what the user asks for, only ever added to within a thread."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools.bill import Bill
from langchain_tokopt.tools.encoder import TIMEOUT_SECONDS, Encoder, check_timeout
from langchain_tokopt.tools.index import ToolIndex
from langchain_tokopt.tools.plan import Plan, Registry
from langchain_tokopt.tools.schema import identity, tool_name
from langchain_tokopt.tools.search import NAMES, find, search_tool
from langchain_tokopt.tools.thread import batches, called, chosen, question, thread_messages
from langchain_tokopt.tools.worth import CALLS_PER_THREAD
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.embeddings import Embeddings

log = logging.getLogger("langchain_tokopt")

SelectionMode = Literal["auto", "rebind", "off"]

# Fewer tools than this with fewer schema tokens than that cost less than choosing among them.
MIN_TOOLS = 30
MIN_TOKENS = 5_000
# Without the search tool a tool that was not picked cannot be asked for: pick more.
WITHOUT_SEARCH = 2
_REGISTRIES_KEPT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to do with one request's tools.

    `tools` is what to bind, `None` to leave the request alone; `reason` says why. Token counts are those of the tool
    schemas. `saved_usd` is for this one call, with the provider's prompt cache counted. `searcher` is the search tool
    that is among `tools`. `problems` are failures that did not keep the tools from being chosen.
    """

    reason: str
    tools: list[Any] | None = None
    tokens_before: int | None = None
    tokens_after: int | None = None
    saved_usd: Decimal | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    searcher: BaseTool | None = None
    problems: tuple[Exception, ...] = ()


class ToolSelection:
    """Binds the tools that a thread needs instead of all of them.

    For each user message the `max_tools` best fitting tools are bound, besides those that are always bound: `pinned`
    ones, tools that the provider runs, the target of `tool_choice`, tools that were called before, and tools that the
    model found with `search_tools`. Within a thread tools are only added, at the end, so that the provider's cached
    prefix lasts as long as it can. What is bound is a pure function of the thread's messages, the tools and these
    settings (while the embedder works): no state is kept, and a resumed thread goes on as it was.

    Args:
        max_tools: How many tools each user message picks. Twice as many where the model cannot search for others.
        pinned: Tools that are always bound: names, or the tools themselves.
        min_tools: With fewer tools, "auto" leaves them alone. `None`: with fewer than 30 that also have fewer than
            5,000 schema tokens together.
        mode: "auto" narrows where it is expected to pay, the provider's prompt cache counted; "rebind" wherever there
            is something to leave out; "off" never.
        calls_expected: How many model calls a thread makes; `None`: it must pay for 8 and for 24.
        embeddings: A LangChain `Embeddings`, or a model name or folder; `None` ranks by words alone.
        embed_timeout_seconds: How long a call waits for the embedder before tools are ranked by words alone; three
            times as long for the tools themselves, once.
        counter: Counts tokens.
        pricing: Knows prices; where a price is unknown, uncached tokens decide.
    """

    def __init__(
        self,
        *,
        max_tools: int = 10,
        pinned: Sequence[str | BaseTool | Mapping[str, Any]] = (),
        min_tools: int | None = None,
        mode: SelectionMode = "auto",
        calls_expected: int | None = None,
        embeddings: Embeddings | str | None = None,
        embed_timeout_seconds: float = TIMEOUT_SECONDS,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
    ) -> None:
        _whole("max_tools", max_tools, 1)
        if min_tools is not None:
            _whole("min_tools", min_tools, 0)
        if calls_expected is not None:
            _whole("calls_expected", calls_expected, 1)
        if mode not in get_args(SelectionMode):
            raise ConfigurationError("mode", mode, 'use "auto", "rebind" or "off"')
        self.max_tools = max_tools
        self.pinned = _names(pinned)
        self.min_tools = min_tools
        self.mode: SelectionMode = mode
        self._calls = CALLS_PER_THREAD if calls_expected is None else (calls_expected,)
        check_timeout(embed_timeout_seconds)
        self._timeout = embed_timeout_seconds
        self._encoder = None if embeddings is None else Encoder(embeddings, timeout_seconds=embed_timeout_seconds)
        self._counter = counter
        self._pricing = pricing
        self._own_counter = TokenCounter()
        self._own_pricing = Pricing()
        self._registries: WeightedMemo[Registry] = WeightedMemo(weight_limit=_REGISTRIES_KEPT)
        self._seen: WeightedMemo[tuple[tuple[Any, ...], Registry]] = WeightedMemo(
            weight_limit=_REGISTRIES_KEPT
        )  # keeps ids in use
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    @property
    def counter_in_use(self) -> TokenCounter:
        """The counter that was given or attached, else one of its own."""
        return self._counter or self._own_counter

    @property
    def pricing_in_use(self) -> Pricing:
        """The prices that were given or attached, else those that are listed."""
        return self._pricing or self._own_pricing

    def attach(
        self,
        *,
        embeddings: Embeddings | str | None = None,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
    ) -> ToolSelection:
        """This object, with what it was not given. What it has stays."""
        with self._lock:
            if self._encoder is None and embeddings is not None:
                self._encoder = Encoder(embeddings, timeout_seconds=self._timeout)
                self._registries.clear()
                self._seen.clear()
            self._counter = self._counter or counter
            self._pricing = self._pricing or pricing
        return self

    def index(self, tools: Sequence[Any]) -> ToolIndex:
        """The index over `tools`; the same object as long as the tools are the same. They must not change in place.

        Raises:
            ConfigurationError: Two tools have the same name.
        """
        return self._registry(tools).index

    def select(self, request: ModelRequest[Any], *, escape_hatch: bool = True) -> Selection:
        """What to bind for this request. `escape_hatch`: whether a `search_tools` call would be answered.

        Whether a thread is narrowed depends on how it began, the tools, the prices and the settings, not on how long
        it has become: it is narrowed from its beginning to its end or not at all.
        """
        if self.mode == "off":
            return Selection(reason="turned off")
        try:
            registry = self._registry(request.tools)
        except ConfigurationError as error:
            return Selection(reason=str(error), problems=(error,))
        messages = thread_messages(request)
        asked = question(messages)
        if len(registry.index) < 2:
            return Selection(reason=f"nothing to choose from: {len(registry.index)} function tools")
        if registry.defers:
            return Selection(reason="the provider's own tool search is in use (defer_loading)")
        if not asked:
            return Selection(reason="no user message" if asked is None else "the first user message has no text")
        bill = Bill(request, registry, messages, self.counter_in_use, self.pricing_in_use)
        narrow, reason = self._worth_it(bill, messages, asked, escape_hatch)
        if not narrow:
            return Selection(reason=reason, tokens_before=bill.before, tokens_after=bill.before)
        plan = self._plan(registry, request.tools, messages, escape_hatch)
        wanted = [
            *called(request.messages),
            *chosen(request.tool_choice),
            *chosen(request.model_settings.get("tool_choice")),
        ]
        plan = replace(plan, last=[name for name in registry.index.ordered(wanted) if name not in plan.names])
        return Selection(
            reason=reason,
            tools=plan.bound,
            tokens_before=bill.before,
            tokens_after=bill.after(plan),
            saved_usd=bill.saved_usd(plan),
            detail={**_counts(plan), "embedded": registry.index.embedded(asked)},
            searcher=plan.searcher,
            problems=() if self._encoder is None else self._encoder.problems(),
        )

    def _registry(self, tools: Sequence[Any]) -> Registry:
        # The same objects are the same tools: told at once, however many there are. Copies are compared.
        objects = tuple(map(id, tools))
        seen = self._seen.get(objects)
        if seen is not None:
            return seen[1]
        key = tuple(identity(tool) for tool in tools)
        known = self._registries.get(key)
        if known is None:
            known = Registry(tuple(tools), ToolIndex(tools, embeddings=self._encoder))
            self._registries.put(key, known)
        self._seen.put(objects, (tuple(tools), known))
        return known

    def _worth_it(
        self, bill: Bill, messages: Sequence[BaseMessage], asked: str, escape_hatch: bool
    ) -> tuple[bool, str]:
        """Whether to narrow, and why. Ranks nothing, so that no embedder is needed where nothing is narrowed."""
        index = bill.registry.index
        always = index.ordered(self.pinned)
        picks = self._picks(escape_hatch)
        if len(index) - len(always) <= picks:
            return False, f"every tool would be bound: {len(index)} tools"
        if self.mode == "rebind":
            return True, "asked for by mode='rebind'"
        if self._too_few(len(index), bill.before):
            return False, f"too few to pay: {len(index)} tools, {bill.before} schema tokens"
        outlook = bill.outlook(always=always, picks=picks, asked=asked, calls=self._calls, searches=escape_hatch)
        if outlook.pays:
            return True, f"expected to pay: {outlook}"
        # A search in the thread tells that it was narrowed before, whatever has changed since (the model, the prices).
        searcher = bill.registry.searcher if escape_hatch else None
        if any(isinstance(message, ToolMessage) and message.name == searcher for message in messages):
            return True, "the thread was narrowed before"
        return False, f"would not pay: {outlook}"

    def _plan(
        self, registry: Registry, tools: Sequence[Any], messages: Sequence[BaseMessage], escape_hatch: bool
    ) -> Plan:
        index = registry.index
        always = index.ordered(self.pinned)
        for name in self.pinned:
            if name not in index:
                self._warn_once(f"pinned tool {name!r} is not among the tools of this request; it is bound once it is")
        name = registry.searcher
        if escape_hatch and name != NAMES[0]:
            self._warn_once(f"there is a tool named {NAMES[0]!r} already; the tool that finds others is named {name!r}")
        k = self._picks(escape_hatch)
        found = batches(
            messages, index, bound=always, searcher=name if escape_hatch else None, pick=lambda text: index.top(text, k)
        )
        bound = frozenset([*always, *(each for batch in found for each in batch.names)])
        searcher = search_tool(name, partial(find, index, bound)) if escape_hatch else None
        return Plan(tools=tools, registry=registry, always=always, searcher=searcher, batches=found, last=())

    def _picks(self, escape_hatch: bool) -> int:
        return self.max_tools if escape_hatch else self.max_tools * WITHOUT_SEARCH

    def _too_few(self, count: int, tokens: int) -> bool:
        if self.min_tools is not None:
            return count < self.min_tools
        return count < MIN_TOOLS and tokens < MIN_TOKENS

    def _warn_once(self, warning: str) -> None:
        with self._lock:
            new = warning not in self._warned
            self._warned.add(warning)
        if new:
            log.warning("%s", warning)


def _counts(plan: Plan) -> dict[str, Any]:
    kinds = Counter(batch.kind for batch in plan.batches for _ in batch.names)
    return {
        "tools": len(plan.tools),
        "bound": len(plan.bound),
        "hidden": len(plan.registry.index) - len(plan.names),
        "pinned": len(plan.always),
        "asked": kinds["asked"],
        "called": kinds["called"],
        "found": kinds["found"],
        "forced": len(plan.last),
        "searcher": plan.searcher.name if plan.searcher is not None else None,
    }


def _names(pinned: Sequence[str | BaseTool | Mapping[str, Any]]) -> tuple[str, ...]:
    if isinstance(pinned, (str, BaseTool, Mapping)) or not isinstance(pinned, Iterable):
        raise ConfigurationError("pinned", pinned, "pass a list of tools or of their names")
    names = [tool if isinstance(tool, str) else tool_name(tool) for tool in pinned]
    for tool, name in zip(pinned, names, strict=True):
        if not name:
            raise ConfigurationError("pinned", tool, "pass function tools or their names; others are always bound")
    return tuple(dict.fromkeys(name for name in names if name))


def _whole(argument: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(argument, value, f"use a whole number of at least {least}")
