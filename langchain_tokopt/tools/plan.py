"""The tools of one request in the order in which they are bound, and what they weigh."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_tokopt.tools.schema import cache_mark, deferred, marked, tool_name
from langchain_tokopt.tools.search import searcher_name
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from langchain_tokopt.tokens import TokenCounter
    from langchain_tokopt.tools.index import ToolIndex
    from langchain_tokopt.tools.thread import Batch


@dataclass(frozen=True)
class Registry:
    """A list of tools that requests come with, its index, and what the tools weigh.

    Raises:
        ConfigurationError: Two tools have the same name.
    """

    tools: Sequence[Any]
    index: ToolIndex
    _counted: WeightedMemo[int] = field(default_factory=lambda: WeightedMemo(weight_limit=2_048))

    @cached_property
    def at(self) -> dict[str, int]:
        """Where each function tool is in the list."""
        return {name: at for at, tool in enumerate(self.tools) if (name := tool_name(tool)) is not None}

    @cached_property
    def others(self) -> list[int]:
        """Where the tools are that the provider runs, and those of unknown shape."""
        return [at for at, tool in enumerate(self.tools) if tool_name(tool) is None]

    @cached_property
    def defers(self) -> bool:
        """Whether the provider already keeps some of the tools out of the prompt."""
        return any(deferred(tool) for tool in self.tools)

    @cached_property
    def searcher(self) -> str:
        """The name that the search tool has beside these tools."""
        outside = (self.tools[at] for at in self.others)
        return searcher_name({*self.at, *(str(tool.get("name")) for tool in outside if isinstance(tool, Mapping))})

    def tokens(self, names: Sequence[str], counter: TokenCounter, model: str | None, *, others: bool = False) -> int:
        """Schema tokens of the tools named, and with `others` of those that the provider runs."""
        key = (model, others, *names)
        known = self._counted.get(key)
        if known is None:
            weighed = [self.at[name] for name in names] + (self.others if others else [])
            known = counter.tools([self.tools[at] for at in weighed], model)
            self._counted.put(key, known)
        return known

    def searcher_tokens(self, searcher: BaseTool | None, counter: TokenCounter, model: str | None) -> int:
        """Schema tokens of the search tool, without what a provider adds once for all tools; 0 without one."""
        if searcher is None:
            return 0
        key = ("searcher", searcher.name, model)
        known = self._counted.get(key)
        if known is None:
            known = counter.tool(searcher, model)
            self._counted.put(key, known)
        return known


@dataclass(frozen=True)
class Plan:
    """Which of the request's `tools` to bind.

    First those that every thread is given (`always`, and what the provider runs), then the search tool, then `batches`,
    then `last`, which is for this call only. In this order the provider's cached prefix lasts longest: what threads
    have in common comes first, whatever is added comes at the end.
    """

    tools: Sequence[Any]
    registry: Registry
    always: Collection[str]
    searcher: BaseTool | None
    batches: Sequence[Batch]
    last: Sequence[str]

    @cached_property
    def bound(self) -> list[Any]:
        """The tools to send."""
        at = self.registry.at
        first = sorted([*self.registry.others, *(at[name] for name in self.always)])
        chosen = [self.tools[position] for position in first]
        chosen += [] if self.searcher is None else [self.searcher]
        chosen += [self.tools[at[name]] for batch in self.batches for name in batch.names]
        chosen += [self.tools[at[name]] for name in self.last]
        return _with_breakpoint_last(chosen, self.tools)

    @cached_property
    def names(self) -> list[str]:
        """The names of the function tools to send, without the search tool, in order."""
        return [*self._first, *(name for batch in self.batches for name in batch.names), *self.last]

    def tokens(self, counter: TokenCounter, model: str | None) -> list[int]:
        """Schema tokens of what every thread is given, of each batch, and of the `last` tools, in order."""
        names = self._first
        total = self.registry.tokens(names, counter, model, others=True)
        counts = [total + self.registry.searcher_tokens(self.searcher, counter, model)]
        for more in [*(batch.names for batch in self.batches), self.last]:
            names = [*names, *more]
            before, total = total, self.registry.tokens(names, counter, model, others=True)
            counts.append(total - before)
        return counts

    @property
    def _first(self) -> list[str]:
        return self.registry.index.ordered(self.always)


def _with_breakpoint_last(chosen: list[Any], tools: Sequence[Any]) -> list[Any]:
    """`chosen`, with the cache breakpoint of the last of `tools` on the last that is left.

    Anthropic caches everything up to a breakpoint, and the usual place for one is the last tool.
    """
    mark = cache_mark(tools[-1])
    if mark is None or chosen[-1] is tools[-1]:
        return chosen
    without = [marked(tool, None) if tool is tools[-1] else tool for tool in chosen]
    return [*without[:-1], marked(without[-1], mark)]
