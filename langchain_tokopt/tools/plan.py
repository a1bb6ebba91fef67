"""The tools that one request is sent with, in which order and at which place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from langchain_tokopt.tools.additions import Form, with_additions
from langchain_tokopt.tools.nearest import with_short_errors
from langchain_tokopt.tools.notes import with_notes
from langchain_tokopt.tools.proxy import proxied
from langchain_tokopt.tools.schema import cache_mark, in_anthropics_form, marked, tool_name
from langchain_tokopt.tools.worth import Way

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage, BaseMessage

    from langchain_tokopt.tokens import TokenCounter
    from langchain_tokopt.tools.registry import Registry
    from langchain_tokopt.tools.thread import Batch


@dataclass(frozen=True)
class Plan:
    """Which tools a request is sent with, and how.

    First come the tools that every thread is given: `always`, what the provider runs, and those that find and call
    others. Then, where tools are bound anew (`way="rebind"`), the `batches`; otherwise the model is told of these in
    the conversation. Then `last`, which is for this call only. In this order the provider's cached prefix lasts
    longest: what threads have in common comes first, whatever is added comes at the end.

    Attributes:
        way: How the thread is shown some of the tools.
        form: How the model is told of tools when `way` is "inline".
        registry: All tools.
        always: Names of tools that every thread is given.
        searches: Whether the tool that finds others is among them.
        batches: What became necessary in the thread, and with which of its messages.
        last: Names of tools that this call needs besides.
        strict: Whether the tools that find and call others need a strict schema.
    """

    way: Way
    form: Form | None
    registry: Registry
    always: Sequence[str]
    searches: bool
    batches: Sequence[Batch]
    last: Sequence[str]
    strict: bool = False

    @cached_property
    def tools(self) -> list[Any]:
        """The tools to send."""
        registry = self.registry
        first = sorted([*registry.others, *(registry.at[name] for name in self.always)])
        chosen = [registry.sent(position) for position in first]
        # A request that tells of tools in its messages needs one of its own.
        searcher, caller = (
            registry.strict_schemas if self.strict else (registry.searcher_schema, registry.caller_schema)
        )
        chosen += [searcher] * (self.searches or (self.way == "inline" and not chosen))
        chosen += [caller] * (self.way == "proxy")
        chosen += [registry.sent(registry.at[name]) for name in [*self._rebound, *self.last]]
        return _with_breakpoint_last(chosen, registry.tools)

    @cached_property
    def bound(self) -> list[str]:
        """Names of the function tools among `tools`, without those that find and call others, in order."""
        return [*self.always, *self._rebound, *self.last]

    @cached_property
    def known(self) -> list[str]:
        """Names of the tools that the model can call by now, in the order in which it was told of them."""
        return [*self.always, *(name for batch in self.batches for name in batch.names), *self.last]

    @property
    def _rebound(self) -> list[str]:
        return [name for batch in self.batches for name in batch.names] if self.way == "rebind" else []

    def messages(self, shown: Sequence[AnyMessage], thread: Sequence[BaseMessage]) -> list[AnyMessage]:
        """The messages to send. `shown` are the request's own, which may be a part of the `thread`."""
        messages: Any = with_short_errors(shown)
        if self.way == "rebind":
            return list(messages)
        place = _places(shown, thread)
        form = self.form
        if self.way == "inline" and form is not None:
            told = [
                (place(batch.at), [made for name in batch.names if (made := self.registry.definition(name, form))])
                for batch in self.batches
            ]
            return with_additions(messages, told, form)
        hidden = set(self.registry.index.names).difference(self.bound)
        notes = [(place(batch.at), self.note(batch)) for batch in self.batches if batch.kind == "asked"]
        noted: Any = with_notes(proxied(messages, hidden, self.registry.caller), notes)
        return list(noted)

    def note(self, batch: Batch) -> str:
        """What the model is told of a batch of tools that it calls through another one."""
        return self.registry.note(batch.names)

    def weights(self, counter: TokenCounter, model: str | None) -> tuple[int, list[int], int]:
        """Tokens of what every thread is given, of each batch as the model is told of it, and of the `last` tools."""
        registry = self.registry
        names = list(self.always)
        total = registry.tokens(names, counter, model, others=True)
        helpers = registry.helper_tokens(counter, model, searches=self.searches, calls=self.way == "proxy")
        core, added = total + helpers, []
        if self.way == "proxy":
            for batch in self.batches:
                added.append(counter.text(self.note(batch), model) if batch.kind == "asked" else 0)
        else:
            for batch in self.batches:
                names += batch.names
                before, total = total, registry.tokens(names, counter, model, others=True)
                added.append(total - before)
        last = registry.tokens([*names, *self.last], counter, model, others=True) - total if self.last else 0
        return core, added, last


def _places(shown: Sequence[BaseMessage], thread: Sequence[BaseMessage]) -> _Places:
    return _Places(
        thread,
        {id(message): at for at, message in enumerate(shown)},
        {message.id: at for at, message in enumerate(shown) if message.id},
    )


@dataclass(frozen=True)
class _Places:
    """Where a message of the thread is among those that are shown; at the beginning if it is not."""

    thread: Sequence[BaseMessage]
    by_object: Mapping[int, int]
    by_id: Mapping[str, int]

    def __call__(self, at: int) -> int:
        message = self.thread[at]
        found = self.by_object.get(id(message))
        return self.by_id.get(message.id or "", 0) if found is None else found


def _with_breakpoint_last(chosen: list[Any], tools: Sequence[Any]) -> list[Any]:
    """`chosen`, with the cache breakpoint of the last of `tools` on the last that is left.

    Anthropic caches everything up to a breakpoint, and the usual place for one is the last tool.
    """
    mark = cache_mark(tools[-1]) if tools else None
    if mark is None or not chosen:
        return chosen
    carrier = tool_name(tools[-1])
    without = [
        marked(tool, None) if tool is tools[-1] or (carrier is not None and tool_name(tool) == carrier) else tool
        for tool in chosen
    ]
    last = without[-1]
    if isinstance(tools[-1], BaseTool) or "input_schema" in tools[-1]:
        last = in_anthropics_form(last)  # langchain-anthropic reads no breakpoint in OpenAI's
    return [*without[:-1], marked(last, mark)]
