"""What is seen of each message when the whole list is read once: place, references, repetition, likeness to a request.

Everything is known when the list ends where it ends: "used" means used by messages that are there already.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.context.importance.reading import Kind, Reading, arguments_of, kind_of, text_of
from langchain_tokopt.context.importance.wording import read_part
from langchain_tokopt.context.ranking import Passage, rank

_PATHS = ("path", "file", "file_path", "filepath", "filename", "url", "uri")


@dataclass(slots=True)
class Signals:
    """One message.

    Attributes:
        age: How many messages came after it.
        first_task: Whether it is the user's first message that is no small talk.
        newest: Whether it is the newest message of the user.
        answers: Whether it follows a question of somebody else.
        superseded: Whether the same call was made again later.
        resolved: Whether it is an error, and the same tool worked later.
        brought: Names that came up first here.
        used: Those of them that messages of the model or the user used later.
        last_use: How many messages ago that was the last time; `None` when there was none.
        new_terms: Words that were said first here.
        likeness: By how many standard deviations the ranking puts it above the mean for the request; 0 without one.
    """

    kind: Kind
    reading: Reading
    age: int
    calls: bool = False
    error: bool = False
    small_talk: bool = False
    first_task: bool = False
    newest: bool = False
    answers: bool = False
    superseded: bool = False
    resolved: bool = False
    brought: int = 0
    used: int = 0
    last_use: int | None = None
    new_terms: int = 0
    likeness: float = 0.0


def read(
    messages: Sequence[BaseMessage], readings: Callable[[BaseMessage], Reading], query: str | None = None
) -> list[Signals]:
    """The signals of each message, in time linear in the text."""
    found = [_alone(message, readings(message), len(messages) - 1 - at) for at, message in enumerate(messages)]
    _places(found)
    _references(found)
    _repetition(messages, found)
    if query is not None and query.strip():
        _likeness(messages, found, query)
    return found


def _alone(message: BaseMessage, reading: Reading, age: int) -> Signals:
    calls = isinstance(message, AIMessage) and bool(message.tool_calls or message.invalid_tool_calls)
    return Signals(
        kind_of(message),
        reading,
        age,
        calls=calls,
        error=reading.error or getattr(message, "status", None) == "error",
        # A picture has no text, and is no small talk.
        small_talk=reading.small_talk and not calls and isinstance(message.content, str),
    )


def _places(found: list[Signals]) -> None:
    users = [signals for signals in found if signals.kind == "human"]
    if users:
        users[-1].newest = True
        # A greeting is no task.
        next((signals for signals in users if not signals.small_talk), users[0]).first_task = True
    for before, after in itertools.pairwise(found):
        after.answers = before.reading.question and before.kind != after.kind


def _references(found: list[Signals]) -> None:
    """Who brought a name or a word up first, and who used it later."""
    brought: dict[str, int] = {}
    said: set[str] = set()
    used: set[str] = set()
    for index, signals in enumerate(found):
        speaks = signals.kind != "result"
        for name in signals.reading.names:
            first = brought.setdefault(name, index)
            if first == index:
                signals.brought += 1
            elif speaks:
                found[first].last_use = signals.age
                found[first].used += name not in used
                used.add(name)
        if signals.kind != "system":
            signals.new_terms = sum(term not in said for term in signals.reading.terms)
            said.update(signals.reading.terms)


def _repetition(messages: Sequence[BaseMessage], found: list[Signals]) -> None:
    """Marks results whose call was made again later, and errors after which the same tool worked."""
    made: dict[str | None, tuple[str, Any]] = {}
    calls: list[tuple[str, Any] | None] = []
    for message in messages:
        if isinstance(message, AIMessage):
            made.update((call["id"], (call["name"], call["args"])) for call in message.tool_calls)
        # An id may come again in a later turn: the call that was made last is the one that is answered.
        calls.append(made.get(message.tool_call_id) if isinstance(message, ToolMessage) else None)
    again: set[str] = set()
    whole: set[str] = set()
    worked: set[str] = set()
    for signals, call in zip(reversed(found), reversed(calls), strict=True):
        if call is None:
            continue
        name, args = call
        key, file = _key(name, args), _file(name, args)
        signals.superseded = key in again or (file is not None and file in whole)
        signals.resolved = signals.error and name in worked
        if not signals.error:
            # What failed stands in for nothing.
            again.add(key)
            worked.add(name)
            if file is not None and len(args) == 1:
                whole.add(file)


def _key(name: str, args: Any) -> str:
    try:
        return name + json.dumps(args, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):
        return f"{name}{args}"


def _file(name: str, args: Any) -> str | None:
    """The tool and the file that a call reads, whatever part of it."""
    if isinstance(args, dict):
        for key in _PATHS:
            if isinstance(args.get(key), str):
                return f"{name}\0{key}\0{args[key]}"
    return None


def _likeness(messages: Sequence[BaseMessage], found: list[Signals], query: str) -> None:
    texts = (read_part(f"{text_of(message)}\n{arguments_of(message)}") for message in messages)
    passages = [
        Passage(text, group="", label=message.name or "") for message, text in zip(messages, texts, strict=True)
    ]
    scores = rank(query, passages)
    deviation = float(scores.std()) if len(scores) else 0.0
    if deviation > 0.0:
        for signals, score in zip(found, ((scores - scores.mean()) / deviation).tolist(), strict=True):
            signals.likeness = score
