"""What stands where messages were left out: how many they were, names that came in them, and how to get them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.memory.render import MARK, lines_of, rendered
from langchain_tokopt.context.message_text import message_text
from langchain_tokopt.context.trimming import identifiers

# So many tokens of names, at most.
NAMES: Final = 32
_CHARACTERS: Final = 3  # a token, of names
# Names are read from the beginning and the end of a long text.
_HEAD, _TAIL = 6_000, 2_000
# The model acts on what it names in a call.
_CALL_WEIGHT: Final = 3
# More messages than a note is of: numbers with fewer digits take no more tokens.
_MANY: Final = 99_999


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that are left out, and how many messages there were from the first of them to the last."""

    messages: tuple[BaseMessage, ...]
    span: int


@dataclass(frozen=True, slots=True)
class Note:
    """What is shown for a gap.

    Attributes:
        message: It; `additional_kwargs` say that it is no user's message.
        tokens: What it takes.
        original: What was left out, as text.
        handle: The text's handle.
    """

    message: BaseMessage
    tokens: int
    original: str
    handle: str


def note(
    gap: Gap, tool: str | None, shown: Collection[str], room: int, count: Callable[[BaseMessage], int]
) -> Note | None:
    """A note for a gap in at most `room` tokens; `None` where there is no room, or nothing was said in the gap.

    Args:
        gap: What is left out.
        tool: The tool that gives it back; `None` where the model has none.
        shown: Names that the model sees anyway.
        room: In tokens.
        count: Counts the tokens of a message.
    """
    original = rendered(lines_of(gap.messages))
    if not original.strip():
        return None
    name = handle(original)
    named = _most_telling(gap.messages, shown)
    while True:
        message = _message(len(gap.messages), gap.span, named, _behind(tool, name))
        tokens = count(message)
        if tokens <= room:
            return Note(message, tokens, original, name)
        if not named:
            return None
        named = named[: len(named) // 2]


def least_note(tool: str | None, count: Callable[[BaseMessage], int]) -> int:
    """The tokens of a note without names."""
    return count(_message(_MANY, _MANY + 1, (), _behind(tool, "1a2b3c4d")))


def neighbours(units: Collection[object], shown: Collection[int]) -> list[list[int]]:
    """The units that are not shown, by their numbers; neighbours together."""
    runs: list[list[int]] = []
    for at in range(len(units)):
        if at in shown:
            continue
        if runs and runs[-1][-1] == at - 1:
            runs[-1].append(at)
        else:
            runs.append([at])
    return runs


def places_of(runs: Sequence[Sequence[int]], apart: Sequence[int], most: int, thought: int) -> dict[int, list[int]]:
    """Which units share a note, by the unit before which it stands.

    Args:
        runs: The units that are left out, neighbours together.
        apart: The tokens that are shown between a run and the next one: those with the fewest share a note.
        most: How many notes there may be, at least 1.
        thought: The unit with the first thought of the newest answer. No text of the user's may come between it and
            the rest of the answer, which would be one without a thought: notes of that stand before all of it.
    """
    widest = set(sorted(range(len(apart)), key=lambda at: (-apart[at], at))[: most - 1])
    places: dict[int, list[int]] = {}
    place = -1
    for number, run in enumerate(runs):
        if number == 0 or number - 1 in widest:
            place = min(run[0], thought)
        places.setdefault(place, []).extend(run)
    return places


def names_in(messages: Iterable[BaseMessage]) -> set[str]:
    """The identifiers that messages show."""
    return {name for message in messages for name in identifiers(message_text(message))}


def _behind(tool: str | None, name: str) -> str:
    return f'; {tool}("{name}") has all of it' if tool else ""


def _message(left_out: int, span: int, named: Sequence[str], more: str) -> BaseMessage:
    number = f"{left_out} of the next {span}" if left_out < span else f"{left_out} earlier"
    plural = "s" if span > 1 else ""
    names = f": {' '.join(named)}" if named else ""
    return HumanMessage(f"[{number} message{plural} left out{names}{more}]", additional_kwargs={MARK: "left out"})


def _most_telling(messages: Sequence[BaseMessage], shown: Collection[str]) -> list[str]:
    """The names that come in most of the messages, those in calls first of all, and are not shown."""
    found: Counter[str] = Counter()
    for message in messages:
        text = str(message.text)
        part = text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"
        found.update(dict.fromkeys(identifiers(part), 1))
        calls = message_text(message)[len(text) :]
        found.update(dict.fromkeys(identifiers(calls[:_HEAD]), _CALL_WEIGHT))
    left = NAMES * _CHARACTERS
    named: list[str] = []
    # Of equals, a name comes before a number, then the one that came first.
    for name in sorted(found, key=lambda name: (-found[name], name.isnumeric())):
        if name not in shown and len(name) < left:
            named.append(name)
            left -= len(name) + 1
    return named
