"""Which tools a request is sent with: chosen by what the user asks for, only ever added to within a thread."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import BaseTool

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.strictness import needs_strict
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools.bill import Bill
from langchain_tokopt.tools.encoder import TIMEOUT_SECONDS, Encoder, check_timeout
from langchain_tokopt.tools.index import FITTING_LEAST, ToolIndex
from langchain_tokopt.tools.memory import ToolMemory
from langchain_tokopt.tools.nearest import with_short_errors
from langchain_tokopt.tools.plan import Plan
from langchain_tokopt.tools.registry import Registry
from langchain_tokopt.tools.schema import cache_mark, identity, tool_name
from langchain_tokopt.tools.search import NAMES
from langchain_tokopt.tools.selected import Selection
from langchain_tokopt.tools.small_talk import is_small_talk
from langchain_tokopt.tools.thread import batches, called, chosen, question, thread_messages
from langchain_tokopt.tools.ways import SelectionMode, choose
from langchain_tokopt.tools.worth import CALLS_PER_THREAD, Way
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.embeddings import Embeddings

    from langchain_tokopt.database import Database
    from langchain_tokopt.tools.additions import Form

log = logging.getLogger("langchain_tokopt")

# How many tools a model is told of at once: Anthropic looks for a cached prefix in the last 20 blocks of a prompt only,
# and each definition is a block.
# https://platform.claude.com/docs/en/build-with-claude/prompt-caching ("When to use multiple breakpoints")
MOST_TOLD = 12
_REGISTRIES_KEPT = 32


class ToolSelection:
    """Sends a thread the tools that it needs instead of all of them.

    For each user message the `max_tools` best fitting tools are chosen, besides those that are always bound: `pinned`
    ones, tools that the provider runs, the target of `tool_choice`, tools that were called before, and tools that the
    model found with `search_tools`. Within a thread tools are only added, so that the provider's cached prefix lasts.
    What is sent is a pure function of the thread's messages, the tools, these settings and what was learned when a
    message came (while the embedder works); a resumed thread goes on as it was.

    The model is told of them in one of three ways. "rebind": they are the request's tools. "inline": the request's
    tools never change, and the others are defined in the conversation, where the provider takes that (Anthropic's
    `tool_addition`, OpenAI's `additional_tools`). "proxy": the request's tools never change, the others are described
    in the conversation, and the model calls them through one tool, `call_tool`; the agent sees the real calls.

    Args:
        max_tools: How many tools a thread's first message picks at most, and half as many each later one; tools that
            fit far worse than the best are left out. At most 12 when the model is told of them "inline".
        max_tokens: How many schema tokens each message's picks may have together, the first pick aside; `None` for any.
        pinned: Tools that are always bound: names, or the tools themselves.
        min_tools: With fewer tools, "auto" binds all. `None`: with fewer than 30 that also have fewer than 5,000 schema
            tokens together.
        mode: "auto" chooses the cheapest of all ways, binding all tools among them, the provider's prompt cache
            counted; "rebind", "inline" or "proxy" narrows in that way wherever there is something to leave out (where
            "inline" is not possible, as "auto" would); "off" leaves everything alone.
        shrink: Whether tools are sent with smaller schemas that accept the same arguments, also when all are bound.
        tool_tokens: Above this many schema tokens a tool's descriptions are shortened, the longest first; `None`
            shortens none.
        learn: Whether successful calls teach which texts lead to which tools.
        calls_expected: How many model calls a thread makes; `None`: it must pay for 8 and for 24.
        embeddings: A LangChain `Embeddings`, or a model name or folder; `None` ranks by words alone.
        embed_timeout_seconds: How long a call waits for the embedder before tools are ranked by words alone; three
            times as long for the tools themselves, once.
        counter: Counts tokens.
        pricing: Knows prices; where a price is unknown, uncached tokens decide.
        database: Where what is learned, picked and embedded is kept; `None` keeps it in memory.
    """

    def __init__(
        self,
        *,
        max_tools: int = 10,
        max_tokens: int | None = None,
        pinned: Sequence[str | BaseTool | Mapping[str, Any]] = (),
        min_tools: int | None = None,
        mode: SelectionMode = "auto",
        shrink: bool = True,
        tool_tokens: int | None = None,
        learn: bool = True,
        calls_expected: int | None = None,
        embeddings: Embeddings | str | None = None,
        embed_timeout_seconds: float = TIMEOUT_SECONDS,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
        database: Database | None = None,
    ) -> None:
        _whole("max_tools", max_tools, 1)
        for argument, value, least in (
            ("max_tokens", max_tokens, 1),
            ("min_tools", min_tools, 0),
            ("tool_tokens", tool_tokens, 1),
            ("calls_expected", calls_expected, 1),
        ):
            if value is not None:
                _whole(argument, value, least)
        if mode not in get_args(SelectionMode):
            raise ConfigurationError("mode", mode, 'use "auto", "rebind", "inline", "proxy" or "off"')
        self.max_tools = max_tools
        self.max_tokens = max_tokens
        self.pinned = _names(pinned)
        self.min_tools = min_tools
        self.mode: SelectionMode = mode
        self.shrink = shrink
        self.tool_tokens = tool_tokens
        self._calls = CALLS_PER_THREAD if calls_expected is None else (calls_expected,)
        check_timeout(embed_timeout_seconds)
        self._timeout = embed_timeout_seconds
        self._encoder = None if embeddings is None else Encoder(embeddings, timeout_seconds=embed_timeout_seconds)
        self.memory = ToolMemory(database, learn=learn)
        self._counter = counter
        self._pricing = pricing
        self._own_counter = TokenCounter()
        self._own_pricing = Pricing()
        self._indexes: WeightedMemo[ToolIndex] = WeightedMemo(weight_limit=_REGISTRIES_KEPT)
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
        database: Database | None = None,
    ) -> ToolSelection:
        """This object, with what it was not given. What it has stays."""
        with self._lock:
            if self._encoder is None and embeddings is not None:
                self._encoder = Encoder(embeddings, timeout_seconds=self._timeout)
                self._forget_registries()
            self._counter = self._counter or counter
            self._pricing = self._pricing or pricing
            if database is not None and self.memory.attach(database):
                self._forget_registries()
        return self

    def close(self) -> None:
        """Write what was learned and not written yet."""
        self.memory.close()

    def index(self, tools: Sequence[Any]) -> ToolIndex:
        """The index over `tools`; the same object as long as the tools are the same. They must not change in place.

        Raises:
            ConfigurationError: Two tools have the same name.
        """
        return self._registry(tools).index

    def learn_from(self, request: ModelRequest[Any]) -> None:
        """Take note of the calls that succeeded since the model's last answer."""
        if self.mode == "off":
            return
        with suppress(ConfigurationError):  # equal names, which `select` tells of
            self.memory.learn_from(thread_messages(request), self._registry(request.tools).index)

    def select(self, request: ModelRequest[Any], *, searches: bool = True) -> Selection:
        """What to bind for this request. `searches`: whether the model may search for other tools.

        How a thread is told of tools depends on how it began, the tools, the prices and the settings, not on how long
        it has become: it is so from its beginning to its end.
        """
        if self.mode == "off":
            return Selection(reason="turned off")
        try:
            registry = self._registry(request.tools)
        except ConfigurationError as error:
            return Selection(reason=str(error), problems=(error,))
        messages = thread_messages(request)
        asked = question(messages)
        if not len(registry.index):
            return Selection(reason="nothing to choose from: 0 function tools")
        if registry.defers:
            return Selection(reason="the provider's own tool search is in use (defer_loading)")
        bill = Bill(request, registry, messages, self.counter_in_use, self.pricing_in_use)
        if not asked:
            return self._all(bill, "no user message" if asked is None else "the first user message has no text")
        chosen_way = choose(
            bill,
            asked,
            mode=self.mode,
            always=registry.index.ordered(self.pinned),
            picks=self.max_tools,
            min_tools=self.min_tools,
            calls=self._calls,
            searches=True,  # or a thread would be told in another way when searches have come to an end
        )
        way, reason, problems = chosen_way.way, chosen_way.reason, chosen_way.problems
        if way is None:
            return self._all(bill, reason, problems)
        # Where the request's tools must not change, neither does the one that searches.
        plan = self._plan(registry, way, chosen_way.form, messages, searches or way != "rebind")
        plan = replace(plan, strict=needs_strict(request))
        wanted = [
            *called(request.messages),
            *chosen(request.tool_choice),
            *chosen(request.model_settings.get("tool_choice")),
        ]
        # What was called through another tool is shown so; only what this call is forced to use must be bound.
        have = plan.known if way == "rebind" else [*plan.bound, *called(request.messages)]
        last = {name for name in wanted if name not in have}
        if plan.form is not None:
            last.update(name for name in plan.known if registry.definition(name, plan.form) is None)
        plan = replace(plan, last=[name for name in registry.index.ordered(last) if name not in plan.bound])
        return Selection(
            reason=reason,
            tools=plan.tools,
            messages=plan.messages(request.messages, messages),
            tokens_before=bill.given,
            tokens_after=bill.after(plan),
            saved_usd=bill.saved_usd(plan),
            detail={**_counts(plan), "mode": way, "embedded": registry.index.embedded(asked)},
            plan=plan,
            problems=(*problems, *self._problems()),
        )

    def _all(self, bill: Bill, reason: str, problems: Sequence[Exception] = ()) -> Selection:
        """All tools, as small as they can be."""
        registry, messages = bill.registry, bill.request.messages
        tools = registry.all_sent()
        short: Any = with_short_errors(messages)
        changed = any(a is not b for a, b in zip(short, messages, strict=True))
        return Selection(
            reason=reason,
            tools=tools,
            messages=short if changed else None,
            tokens_before=bill.given,
            tokens_after=bill.everything,
            saved_usd=None if tools is None else bill.saved_usd_by_size(),
            problems=(*problems, *self._problems()),
        )

    def _problems(self) -> tuple[Exception, ...]:
        embedding = () if self._encoder is None else self._encoder.problems()
        return (*embedding, *self.memory.problems())

    def _registry(self, tools: Sequence[Any]) -> Registry:
        # The same objects are the same tools: told at once, however many there are. Copies are compared.
        objects = tuple(map(id, tools))
        seen = self._seen.get(objects)
        if seen is not None:
            return seen[1]
        key = tuple(identity(tool) for tool in tools)
        marks = tuple((at, repr(mark)) for at, tool in enumerate(tools) if (mark := cache_mark(tool)) is not None)
        known = self._registries.get((key, marks))
        if known is None:
            known = Registry(tuple(tools), self._index(key, tools), shrink=self.shrink, tool_tokens=self.tool_tokens)
            self._registries.put((key, marks), known)
        self._seen.put(objects, (tuple(tools), known))
        return known

    def _index(self, key: Hashable, tools: Sequence[Any]) -> ToolIndex:
        index = self._indexes.get(key)
        if index is None:
            index = ToolIndex(
                tools,
                embeddings=self._encoder,
                usage=self.memory.usage,
                intents=self.memory.intents if self.memory.learns else None,
                keeper=self.memory.keeper,
                recall=self.memory.recall,
            )
            self._indexes.put(key, index)
        return index

    def _forget_registries(self) -> None:
        for memo in (self._indexes, self._registries, self._seen):
            memo.clear()

    def _plan(
        self,
        registry: Registry,
        way: Way,
        form: Form | None,
        messages: Sequence[BaseMessage],
        searches: bool,
    ) -> Plan:
        index = registry.index
        always = index.ordered([*self.pinned, *(registry.undefinable(form) if form is not None else ())])
        for name in self.pinned:
            if name not in index:
                self._warn_once(f"pinned tool {name!r} is not among the tools of this request; it is bound once it is")
        if searches and registry.searcher != NAMES[0]:
            self._warn_once(
                f"there is a tool named {NAMES[0]!r} already; the tool that finds others is named {registry.searcher!r}"
            )
        found = batches(
            messages,
            index,
            bound=always,
            searcher=registry.searcher,
            pick=lambda at, text: self._picked(registry, messages, at, text, way),
        )
        return Plan(way, form, registry, always, searches, found, ())

    def _picked(
        self, registry: Registry, messages: Sequence[BaseMessage], at: int, text: str, way: Way
    ) -> tuple[str, ...]:
        """The tools for one message of the user's, which stay the same as long as the message is remembered."""
        if not text:
            # An image may ask for anything. Told in the conversation, all tools would be there for good: it may search.
            return registry.index.names if way == "rebind" else ()
        if is_small_talk(text):
            return ()
        k = min(self.max_tools, MOST_TOLD) if way == "inline" else self.max_tools
        if any(isinstance(message, HumanMessage) for message in messages[:at]):
            # Much of what a later message needs is there already, and one more search costs less than five tools.
            k = min(k, max(FITTING_LEAST, k // 2))

        def pick() -> list[str]:
            best = registry.index.fitting(text, k, before=called(messages[:at])[-2:])
            return self._within_tokens(registry, best)

        settings = f"{k} {self.max_tokens}"
        names = self.memory.picks.of(messages, at, settings, pick)
        # Those of another agent over the same messages, which has a few tools in common with this one.
        if 2 * sum(name in registry.index for name in names) < len(names):
            names = self.memory.picks.of(messages, at, f"{settings} {registry.names_digest}", pick)
        return names

    def _within_tokens(self, registry: Registry, names: list[str]) -> list[str]:
        if self.max_tokens is None:
            return names
        kept: list[str] = []
        left = self.max_tokens
        for name in names:
            tokens = self.counter_in_use.tool(registry.sent(registry.at[name]))
            if not kept or tokens <= left:
                kept.append(name)
                left -= tokens
        return kept

    def _warn_once(self, warning: str) -> None:
        with self._lock:
            new = warning not in self._warned
            self._warned.add(warning)
        if new:
            log.warning("%s", warning)


def _counts(plan: Plan) -> dict[str, Any]:
    kinds = Counter(batch.kind for batch in plan.batches for _ in batch.names)
    return {
        "tools": len(plan.registry.tools),
        "bound": len(plan.tools),
        "hidden": len(plan.registry.index) - len(plan.known),
        "pinned": len(plan.always),
        "asked": kinds["asked"],
        "called": kinds["called"],
        "found": kinds["found"],
        "forced": len(plan.last),
        "searcher": plan.registry.searcher if plan.searches else None,
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
