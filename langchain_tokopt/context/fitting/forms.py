"""Shorter forms of a message: whole sentences of what was said, whole lines of what a tool gave, a line of names.

Only texts change. Whatever else a message holds stays: ids, names, calls, status, artifact, usage, pictures, thoughts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from numpy.typing import NDArray

from langchain_tokopt.context.fitting.units import has_thoughts, is_system
from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.importance.reading import written
from langchain_tokopt.context.importance.wording import read_part
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.ranking import Passage, best_within, rank
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.context.trimming import Wanted, identifiers, trimmed
from langchain_tokopt.context.trimming.pieces import Piece, joined, pieces
from langchain_tokopt.context.trimming.relevance import relevance

# What has fewer tokens is shown whole or not at all.
SHORT: Final = 120
# A line of names: so many tokens at most.
LINE: Final = 90
# Of the tokens of a shortened output the others name what is left out: agents come back for names more than for lines.
_BESIDE_NAMES: Final = 0.3
_MARKS: Final = 30  # tokens
# Of longer texts the middle is not looked into.
READ_HEAD: Final = 160_000  # characters
READ_TAIL: Final = 80_000
_LONGEST_LINE: Final = 1_000
_GAP: Final = "[...] "
_FIRST_LINE: Final = 120  # characters
# Of what is asked, what decides which lines stay.
_TASK_HEAD, _TASK_TAIL = 600, 400
# Of a longer output the names are taken from its head and its tail.
_NAMES_HEAD, _NAMES_TAIL = 48_000, 16_000


class Forms:
    """The shorter forms of the messages of a history.

    Args:
        messages: The history.
        query: What is asked: decides which sentences and lines stay.
        tool: The tool that gives back what is left out; `None` where the model has none.
    """

    def __init__(self, messages: Sequence[BaseMessage], query: str, tool: str | None) -> None:
        self._messages = messages
        self._query = query
        self._task = read_part(query, _TASK_HEAD, _TASK_TAIL)
        self._tool = tool
        self._calls = _calls(messages)
        self._sizes: dict[int, dict[int | None, int]] = {}
        self._scored: dict[tuple[int, int | None], tuple[list[str], NDArray[np.float32]]] | None = None

    def shorter(self, at: int, tokens: int, *, names: bool = True) -> BaseMessage | None:
        """Message `at` with about `tokens` tokens of text; `None` when it has no form that is shorter.

        `names`: whether most of a result's tokens may go to the names of what is left out of it.
        """
        message, sizes = self._messages[at], self._size(at)
        whole = sum(sizes.values())
        if whole <= max(tokens, SHORT) or not _may_change(message):
            return None
        new: dict[int | None, str] = {}
        for index, text in texts_of(message):
            room = tokens * sizes[index] // whole
            if isinstance(message, ToolMessage):
                wanted = Wanted(self._calls.get(at, ""), self._task)
                said = _lines(text, sizes[index], room, wanted, self._tool, names=names)
            else:
                said = self._sentences(at, index, room)
            if said is not None:
                new[index] = said
        return with_texts(message, new) if new else None

    def line(self, at: int) -> BaseMessage | None:
        """Message `at` in a line: a result as its size and the names in it, anything else as its best sentences."""
        message = self._messages[at]
        if sum(self._size(at).values()) <= SHORT or not _may_change(message):
            return None
        new: dict[int | None, str] = {}
        for index, text in texts_of(message):
            if len(text) < _FIRST_LINE:
                continue
            said = (
                names_line(text, self._tool) if isinstance(message, ToolMessage) else self._sentences(at, index, LINE)
            )
            if said is not None and len(said) < len(text):
                new[index] = said
        return with_texts(message, new) if new else None

    def _size(self, at: int) -> dict[int | None, int]:
        if at not in self._sizes:
            self._sizes[at] = {index: text_size(text) for index, text in texts_of(self._messages[at])}
        return self._sizes[at]

    def _sentences(self, at: int, index: int | None, tokens: int) -> str | None:
        """The best sentences within so many tokens, in order; `None` when not one fits, or all do."""
        if self._scored is None:
            self._scored = self._score()
        found, scores = self._scored[at, index]
        sizes = [text_size(one) for one in found]
        whole = _whole("".join(found), self._tool)
        room = tokens - text_size(whole)
        kept = best_within(scores, sizes, room)
        if kept:
            return None if len(kept) == len(found) else _joined(found, kept, whole)
        best = int(np.argmax(scores))
        head = _head(found[best], sizes[best], room)
        return _joined([*found[:best], head, "", *found[best + 1 :]], [best], whole) if head else None

    def _score(self) -> dict[tuple[int, int | None], tuple[list[str], NDArray[np.float32]]]:
        """The sentences of all long texts that are no results, and what they are worth: asked once for all of them."""
        long = [
            (at, index, _sentences_of(text))
            for at, message in enumerate(self._messages)
            if not isinstance(message, ToolMessage) and _may_change(message) and sum(self._size(at).values()) > SHORT
            for index, text in texts_of(message)
        ]
        passages = [Passage(one[:_LONGEST_LINE], group=(at, index or 0)) for at, index, found in long for one in found]
        scores = rank(self._query, passages)
        scored, start = {}, 0
        for at, index, found in long:
            scored[at, index] = found, scores[start : start + len(found)]
            start += len(found)
        return scored


def _calls(messages: Sequence[BaseMessage]) -> dict[int, str]:
    """For each result the arguments of its call, as text."""
    made: dict[str | None, str] = {}
    found: dict[int, str] = {}
    for at, message in enumerate(messages):
        if isinstance(message, AIMessage):
            made.update((call["id"], written(call["args"])) for call in message.tool_calls)
        elif isinstance(message, ToolMessage):
            found[at] = made.get(message.tool_call_id, "")
    return found


def with_texts(message: BaseMessage, texts: Mapping[int | None, str]) -> BaseMessage:
    """A copy of the message with other texts: by their index among the blocks, `None` for content that is one text."""
    content: Any = message.content
    if None in texts:
        content = texts[None]
    else:
        content = [
            block if index not in texts else texts[index] if isinstance(block, str) else {**block, "text": texts[index]}
            for index, block in enumerate(content)
        ]
    return message.model_copy(update={"content": content})


def names_line(text: str, tool: str | None = None) -> str:
    """What a tool gave in a line: how it begins, how long it is, and the names that come most often in it."""
    first = next((one.strip() for one in text.split("\n", 50) if one.strip()), "")
    head = f"{first}\n" if len(first) <= _FIRST_LINE else ""
    count = text.count("\n") + 1
    size = f"{count} lines" if count > 1 else f"{len(text)} characters"
    named = _names(text, head)
    return f"{head}[{size}{': ' if named else ''}{named}{_whole(text, tool)}]"


def _whole(text: str, tool: str | None) -> str:
    return f'; {tool}("{handle(text)}") has all of it' if tool else ""


def _names(text: str, shown: str) -> str:
    """The names that come most often in a text and are not shown."""
    part = text if len(text) <= _NAMES_HEAD + _NAMES_TAIL else f"{text[:_NAMES_HEAD]}\n{text[-_NAMES_TAIL:]}"
    left = LINE * 3  # characters: names have about three a token
    known = set(identifiers(shown))
    named: list[str] = []
    for name, _ in Counter(identifiers(part)).most_common():
        if name not in known and len(name) < left:
            named.append(name)
            left -= len(name) + 1
    return " ".join(named)


def _lines(text: str, size: int, tokens: int, wanted: Wanted, tool: str | None, *, names: bool) -> str | None:
    """The lines that matter, within about so many tokens; `None` when all of them fit."""
    if size <= tokens:
        return None
    if names and len(text) <= READ_HEAD + READ_TAIL:
        shown = trimmed(text, round(tokens * _BESIDE_NAMES), wanted=wanted, tool=tool, size=size)
        if shown is not None and shown.tokens <= tokens:
            return shown.text
    return _few_lines(text, size, tokens, wanted, tool)


def _few_lines(text: str, size: int, tokens: int, wanted: Wanted, tool: str | None) -> str | None:
    """The same without all the names of what is left out: for outputs of which little can be shown."""
    head, middle, tail = _parts(text)
    parts = pieces(head)
    if middle:
        parts = [*pieces(head.removesuffix("\n")), Piece(middle.removesuffix("\n"), ends_line=True), *pieces(tail)]
    sizes = [math.ceil((len(part.text) + 1) * size / len(text)) for part in parts]
    kept = best_within(relevance([part.text[:_LONGEST_LINE] for part in parts], wanted), sizes, tokens - LINE - _MARKS)
    if not kept or len(kept) == len(parts):
        return None
    shown: list[Piece] = []
    for before, at in zip([-1, *kept], kept, strict=False):
        if at != before + 1:
            shown[-1:] = [Piece(one.text, ends_line=True) for one in shown[-1:]]
            shown.append(Piece("[...]", ends_line=True))
        shown.append(parts[at])
    shown[-1] = Piece(shown[-1].text, ends_line=True)
    names = _names(text, joined(shown))
    left_out = len(text) - sum(len(parts[at].text) + parts[at].ends_line for at in kept)
    shown.append(
        Piece(
            f"[{max(1, left_out)} characters left out{': ' if names else ''}{names}{_whole(text, tool)}]",
            ends_line=True,
        )
    )
    return joined(shown)


def _parts(text: str) -> tuple[str, str, str]:
    """A long text's head, middle and tail; the middle is not looked into. A short one is all head."""
    if len(text) <= READ_HEAD + READ_TAIL:
        return text, "", ""
    start, end = READ_HEAD, len(text) - READ_TAIL
    # Between lines, where there is an end of a line.
    start = text.rfind("\n", start // 2, start) + 1 or start
    end = text.find("\n", end, end + READ_TAIL // 2) + 1 or end
    return text[:start], text[start:end], text[end:]


def _sentences_of(text: str) -> list[str]:
    """The sentences of a text; of a very long one the middle is one, with what is cut at its ends."""
    head, middle, tail = _parts(text)
    first, last = sentences(head), sentences(tail)
    if not middle:
        return first
    return [*first[:-1], first[-1] + middle + last[0], *last[1:]]


def texts_of(message: BaseMessage) -> list[tuple[int | None, str]]:
    """The texts in the message's content, by their index among its blocks; `None` for content that is one text."""
    content: Any = message.content
    if isinstance(content, str):
        return [(None, content)]
    return [
        (index, text)
        for index, block in enumerate(content)
        if isinstance(
            text := block if isinstance(block, str) else block.get("text") if block.get("type") == "text" else None, str
        )
    ]


def _may_change(message: BaseMessage) -> bool:
    """A thought belongs to the very text that follows it."""
    return not is_system(message) and not (isinstance(message, AIMessage) and has_thoughts(message))


def _head(sentence: str, size: int, tokens: int) -> str:
    """How a sentence begins, in about so many tokens."""
    end = len(sentence) * tokens // max(1, size)
    if end <= 0:
        return ""
    space = sentence.rfind(" ", end // 2, end)
    return sentence[: space + 1 if space > 0 else end]


def _joined(found: Sequence[str], kept: Sequence[int], whole: str) -> str:
    """The sentences, with a mark where others were; the last mark says where all of them are."""
    shown: list[str] = []
    last = -1
    for at in kept:
        if at != last + 1:
            if shown and not shown[-1][-1:].isspace():
                shown.append(" ")
            shown.append(_GAP)
        shown.append(found[at])
        last = at
    if whole or last != len(found) - 1:
        if not shown[-1][-1:].isspace():
            shown.append(" ")
        shown.append(f"[...{whole}]")
    return "".join(shown)
