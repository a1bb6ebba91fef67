"""What one message's text says by itself; worked out once per text."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from langchain_tokopt.context.importance import wording
from langchain_tokopt.context.importance.facts import facts
from langchain_tokopt.context.memory.render import made_here
from langchain_tokopt.lexical import terms
from langchain_tokopt.weighted_memo import WeightedMemo

Kind = Literal["system", "human", "ai", "result"]

_TELLING = 4
_FEW_TERMS = 400  # of a long text, its first terms
_DEEPEST = 20  # levels of a call's arguments that are looked into


@dataclass(frozen=True, slots=True)
class Reading:
    """One text. Names and terms are in the order in which they come, each once; terms of what a tool said are left out.

    Attributes:
        facts: Numbers, dates, proper names, quoted words, and things told of oneself or done: how many of each.
    """

    names: tuple[str, ...]
    terms: tuple[str, ...]
    facts: tuple[int, int, int, int, int]
    instruction: bool
    decision: bool
    error: bool
    small_talk: bool
    question: bool


class Readings:
    """Reads messages, and remembers what it read by content.

    Args:
        limit: The most names and terms that are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._known: WeightedMemo[Reading] = WeightedMemo(weight_limit=limit)

    def __call__(self, message: BaseMessage) -> Reading:
        kind, text, written = kind_of(message), text_of(message), arguments_of(message)
        digest = hashlib.blake2b(f"{kind}\0{written}\0".encode("utf-8", "surrogatepass"), digest_size=16)
        digest.update(text.encode("utf-8", "surrogatepass"))
        known = self._known.get(digest.digest())
        if known is None:
            known = _read(kind, text, written)
            self._known.put(digest.digest(), known, 4 + len(known.names) + len(known.terms))
        return known


def _read(kind: Kind, text: str, written: str) -> Reading:
    part = wording.read_part(text)
    names = tuple(wording.identifiers(f"{text}\n{written}" if written else text))
    if kind == "result":
        return Reading(names, (), (0, 0, 0, 0, 0), False, False, wording.fails(part), False, False)
    words = wording.words_of(part)
    distinct = dict.fromkeys(words)
    return Reading(
        names,
        _telling(part, distinct),
        facts(part, words),
        instruction=kind == "human" and wording.instructs(part, distinct),
        decision=wording.decides(part, distinct),
        error=False,
        small_talk=wording.is_small_talk(text, words),
        question="? " in part or part.rstrip().endswith("?"),
    )


def _telling(text: str, words: Collection[str]) -> tuple[str, ...]:
    """The first words of a text that may say something new: by their length, which is faster than a list of words."""
    # Where words are written without spaces, pairs of characters take their place.
    found = [word for word in words if len(word) >= _TELLING] if text.isascii() else list(dict.fromkeys(terms(text)))
    return tuple(found[:_FEW_TERMS])


def kind_of(message: BaseMessage) -> Kind:
    """Who speaks."""
    if isinstance(message, ToolMessage):
        return "result"
    if isinstance(message, SystemMessage) or message.type in ("system", "developer"):
        return "system"
    return "ai" if isinstance(message, AIMessage) or made_here(message) else "human"


def text_of(message: BaseMessage) -> str:
    """The text of the message's content; blocks of other kinds say nothing here."""
    content: Any = message.content
    if isinstance(content, str):
        return content
    texts = (block if isinstance(block, str) else block.get("text") for block in content if block)
    return "\n".join(text for text in texts if isinstance(text, str))


def arguments_of(message: BaseMessage) -> str:
    """The arguments of the message's tool calls as text, a value a line; empty without calls."""
    if not isinstance(message, AIMessage):
        return ""
    return "\n".join(written(call.get("args")) for call in (*message.tool_calls, *message.invalid_tool_calls))


def written(value: Any, deepest: int = _DEEPEST) -> str:
    """A call's arguments as text, a value a line."""
    if isinstance(value, str) or deepest == 0:
        return value if isinstance(value, str) else ""
    if isinstance(value, dict):
        return "\n".join(written(item, deepest - 1) for item in value.values())
    return "\n".join(written(item, deepest - 1) for item in value) if isinstance(value, list) else str(value)
