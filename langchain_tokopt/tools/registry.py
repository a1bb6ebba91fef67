"""A list of tools that requests come with: its index, the form in which each tool is sent, and what they weigh."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.tools.additions import Form, definition, tellable
from langchain_tokopt.tools.notes import note_text
from langchain_tokopt.tools.proxy import caller_name, caller_tool
from langchain_tokopt.tools.schema import deferred, tool_name
from langchain_tokopt.tools.search import search_schema, searcher_name
from langchain_tokopt.tools.shrink import shrunk
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from langchain_tokopt.tokens import TokenCounter
    from langchain_tokopt.tools.index import ToolIndex

# How many tools are looked at to know how long a note about a tool is, beside its schema.
_SAMPLE = 40
_NOTES_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Registry:
    """A list of tools that requests come with, its index, and what the tools weigh.

    Attributes:
        tools: The tools as they were given.
        index: The function tools among them.
        shrink: Whether tools are sent with smaller schemas that accept the same arguments.
        tool_tokens: Above this many tokens a tool's descriptions are shortened; `None` shortens none.

    Raises:
        ConfigurationError: Two tools have the same name.
    """

    tools: Sequence[Any]
    index: ToolIndex
    shrink: bool = True
    tool_tokens: int | None = None
    _counted: WeightedMemo[int] = field(default_factory=lambda: WeightedMemo(weight_limit=2_048))
    _notes: WeightedMemo[str] = field(default_factory=lambda: WeightedMemo(weight_limit=_NOTES_CHARACTERS))
    _sent: dict[int, Any] = field(default_factory=dict)
    _definitions: dict[tuple[str, Form], dict[str, Any] | None] = field(default_factory=dict)

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
        """The name that the tool which finds others has beside these tools."""
        return searcher_name(self._taken)

    @cached_property
    def caller(self) -> str:
        """The name that the tool which calls others has beside these tools."""
        return caller_name(self._taken)

    # As schemas: LangChain refuses tools that the agent cannot run.

    @cached_property
    def searcher_schema(self) -> dict[str, Any]:
        """The tool that finds others, as it is sent."""
        return search_schema(self.searcher)

    @cached_property
    def caller_schema(self) -> dict[str, Any]:
        """The tool that calls others, as it is sent."""
        return convert_to_openai_tool(caller_tool(self.caller))

    @cached_property
    def strict_schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tools that find and call others where each tool has to be strict: `bind_tools` does not make them so."""
        caller = convert_to_openai_tool(caller_tool(self.caller, as_text=True), strict=True)
        return search_schema(self.searcher, strict=True), caller

    def sent(self, at: int) -> Any:
        """The tool at a position of the list, as it is sent."""
        if not self.shrink:
            return self.tools[at]
        found = self._sent.get(at)
        if found is None:
            found = self._sent.setdefault(at, shrunk(self.tools[at], max_tokens=self.tool_tokens))
        return found

    def definition(self, name: str, form: Form) -> dict[str, Any] | None:
        """The tool as a model is told of it in the conversation; `None` when it has to be bound."""
        key = (name, form)
        if key not in self._definitions:
            self._definitions[key] = definition(self.sent(self.at[name]), form)
        return self._definitions[key]

    def undefinable(self, form: Form) -> list[str]:
        """Names of tools that have to be bound, as far as that can be told without converting each."""
        return [
            spec.name
            for spec in self.index.specs
            if not (tellable(self.tools[self.at[spec.name]], spec.parameters, form))
        ]

    def all_sent(self) -> list[Any] | None:
        """All tools as they are sent; `None` when nothing of them is different."""
        sent = [self.sent(at) for at in range(len(self.tools))]
        return None if all(a is b for a, b in zip(sent, self.tools, strict=True)) else sent

    def tokens_given(self, counter: TokenCounter, model: str | None) -> int:
        """Schema tokens of all tools as they were given."""
        key = ("given", model)
        known = self._counted.get(key)
        if known is None:
            known = counter.tools(list(self.tools), model)
            self._counted.put(key, known)
        return known

    def tokens(self, names: Sequence[str], counter: TokenCounter, model: str | None, *, others: bool = False) -> int:
        """Schema tokens of the tools named as they are sent, and of what a provider adds once for all tools.

        With `others` also of those that the provider runs.
        """
        key = (model, others, *names)
        known = self._counted.get(key)
        if known is None:
            weighed = [self.at[name] for name in names] + (self.others if others else [])
            known = counter.tool_prompt(model) + sum(counter.tool(self.sent(at), model) for at in weighed)
            self._counted.put(key, known)
        return known

    def helper_tokens(self, counter: TokenCounter, model: str | None, *, searches: bool, calls: bool) -> int:
        """Schema tokens of the tools that find and call others, without what a provider adds once for all tools."""
        key = ("helpers", model, searches, calls)
        known = self._counted.get(key)
        if known is None:
            helpers = [self.searcher_schema] * searches + [self.caller_schema] * calls
            known = sum(counter.tool(tool, model) for tool in helpers)
            self._counted.put(key, known)
        return known

    def note(self, names: Sequence[str]) -> str:
        """What the model is told of tools that it calls through another one."""
        key = tuple(names)
        known = self._notes.get(key)
        if known is None:
            known = note_text([self.index.spec(name) for name in names], self.caller)
            self._notes.put(key, known, len(known))
        return known

    def note_share(self, counter: TokenCounter, model: str | None) -> float:
        """Tokens of a note about tools as a share of those of their schemas, from some of the tools."""
        key = ("note", model)
        known = self._counted.get(key)
        if known is None:
            step = max(1, len(self.index) // _SAMPLE)
            names = self.index.names[::step][:_SAMPLE]
            note = counter.text(self.note(names), model)
            schemas = sum(counter.tool(self.sent(self.at[name]), model) for name in names)
            known = round(1_000 * note / max(1, schemas))
            self._counted.put(key, known)
        return known / 1_000

    @cached_property
    def names_digest(self) -> str:
        """What stands for the names of the function tools."""
        return hashlib.blake2b("\0".join(self.index.names).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @cached_property
    def _taken(self) -> set[str]:
        outside = (self.tools[at] for at in self.others)
        return {*self.at, *(str(tool.get("name")) for tool in outside if isinstance(tool, Mapping))}
