"""Parts of a long text: a page from a line on, or the lines that match some words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.lexical import BM25, terms

PAGE_TOKENS: Final = 4_000
PASSAGES_TOKENS: Final = 1_500
# A page is measured in steps of so many characters, and has at most so many of them.
_STEP: Final = 512
_MOST_STEPS: Final = 200
# A line is taken in pieces of at most so many characters, cut between words.
_PIECE: Final = 400
_WORDS_END: Final = 40
# Lines shown before and after each one that matches, and how much of what the best one scores a line must have.
_BESIDE: Final = 2
_LEAST: Final = 0.3
# What the lines beside a line count for it: words that belong together may stand in several.
_LENT: Final = 0.25

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Part:
    """What is shown of a text; or, with `error`, why nothing is."""

    text: str
    error: bool = False


def sendable(text: str) -> str:
    r"""The text as clients can send it: a lone surrogate, which UTF-8 cannot hold, is written as `\udc80`."""
    return text.encode("utf-8", "backslashreplace").decode() if _SURROGATE.search(text) else text


def page(text: str, id: str, *, offset: int = 0, start: int = 1) -> Part:  # noqa: A002 - as the model calls it
    """The text from a character or a line on, at most about `PAGE_TOKENS` of it; if more follows, with how to get it.

    It is cut at the end of a line. Then the last line names the next one, and stands in the place of the rest. A line
    too long for that is cut anywhere: then the last line is one more, and names the character where it goes on.
    """
    begin = _begin(text, offset, start)
    if begin is None:
        return _past_the_end(text)
    end = _fitting(text, begin, PAGE_TOKENS)
    if end == len(text):
        return Part(text[begin:] or "(The text is empty.)")
    cut = text.rfind("\n", begin, end) + 1
    if 2 * (cut - begin) < end - begin:
        return Part(f'{text[begin:end]}\n[{len(text) - end} characters are left: go on with id="{id}+{end}"]')
    first, last = (text.count("\n", 0, at) + 1 for at in (begin, cut - 1))
    return Part(f"{text[begin:cut]}[lines {first}-{last} of {_line_count(text)}: go on with start={last + 1}]")


def passages(text: str, id: str, *, query: str, offset: int = 0, start: int = 1) -> Part:  # noqa: A002
    """The lines from there on that match the query best, with those beside them, at most about `PASSAGES_TOKENS`.

    Each has its number; a piece of a long line has the character where it begins. They keep their order, and `--`
    stands where some are left out. A text that is no longer than that is given whole.
    """
    begin = _begin(text, offset, start)
    if begin is None:
        return _past_the_end(text)
    if _fitting(text, begin, PASSAGES_TOKENS) == len(text):
        return page(text, id, offset=begin)
    rows = list(_rows(text, begin))
    scores = _scores([text[row.begin : row.end] for row in rows], query)
    if not scores.any():
        there = "these" if begin == 0 else "the other"
        lines = f"{there} {len(rows)} {'pieces' if any(row.cut for row in rows) else 'lines'}"
        return Part(f"Nothing in {lines} has a word of the query. Leave `query` out to read them, from `start` on.")
    shown = _best(text, rows, scores)
    lines_shown = [line for at, before in _with_before(shown) for line in _lines(text, rows[at], at - before > 1)]
    long = any(rows[at].cut for at in shown)
    further = f'with start, or from +n with id="{id}+n"' if long else "with start"
    return Part("\n".join([*lines_shown, f"[best matches in {_line_count(text)} lines: read on {further}]"]))


# --- where a part begins and ends ------------------------------------------------------------------------------------


def _begin(text: str, offset: int, start: int) -> int | None:
    """The character where to begin; `None` past the end. An offset counts more than a line."""
    if offset:
        return offset if offset < len(text) else None
    at = 0
    for _ in range(start - 1):
        at = text.find("\n", at) + 1
        if not at:
            return None
    return at if at < len(text) or start == 1 else None


def _past_the_end(text: str) -> Part:
    return Part(f"The text has only {_line_count(text)} lines and {len(text)} characters.", error=True)


def _line_count(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n"))


def _fitting(text: str, begin: int, tokens: int) -> int:
    """Where a part of at most about so many tokens ends; it has at least one step."""
    last = min(len(text), begin + _STEP * _MOST_STEPS)
    used = 0
    for at in range(begin, last, _STEP):
        used += text_size(text[at : at + _STEP])
        if used > tokens:
            return max(at, min(begin + _STEP, last))
    return last


# --- what matches ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A line, or a piece of a long one: its number, where it begins and ends, and whether it is such a piece."""

    number: int
    begin: int
    end: int
    cut: bool


def _rows(text: str, begin: int) -> Iterator[_Row]:
    number = text.count("\n", 0, begin) + 1
    while begin < len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        if end - begin <= _PIECE:
            yield _Row(number, begin, end, cut=False)
        else:
            yield from _pieces(text, number, begin, end)
        begin, number = end + 1, number + 1


def _pieces(text: str, number: int, begin: int, end: int) -> Iterator[_Row]:
    while begin < end:
        cut = min(begin + _PIECE, end)
        if cut < end:
            space = text.rfind(" ", cut - _WORDS_END, cut)
            cut = space + 1 if space > 0 else cut
        yield _Row(number, begin, cut, cut=True)
        begin = cut


def _scores(rows: Sequence[str], query: str) -> NDArray[np.float32]:
    """How well each row matches, float32 `[n]`: BM25, and more than any of that where the query stands as it is."""
    literal = query.lower()
    wanted = dict.fromkeys([*terms(query), literal])
    lowered = [row.lower() for row in rows]
    # A stem is part of the word that it comes from. Rows without any need not be taken apart.
    likely = [at for at, row in enumerate(lowered) if any(term in row for term in wanted)]
    found = np.zeros(len(rows), dtype=np.float32)
    if not likely:
        return found
    found[likely] = BM25([rows[at] for at in likely]).scores(query)
    best = found.max()
    found[[at for at in likely if literal in lowered[at]]] += best + 1
    lent = np.zeros_like(found)
    lent[1:] += found[:-1]
    lent[:-1] += found[1:]
    return np.where(found > 0, found + np.float32(_LENT) * lent, found)


def _best(text: str, rows: Sequence[_Row], scores: NDArray[np.float32]) -> list[int]:
    """Positions of the rows to show, in order: the best ones and those beside them, as many as fit."""
    order = np.argsort(-scores, kind="stable")
    least = _LEAST * float(scores[order[0]])
    shown: set[int] = set()
    left = PASSAGES_TOKENS
    for at in order.tolist():
        if scores[at] < least or left <= 0:
            break
        beside = range(max(0, at - _BESIDE), min(len(rows), at + _BESIDE + 1))
        for near in sorted(beside, key=lambda near: abs(near - at)):
            size = text_size(text[rows[near].begin : rows[near].end]) + 3
            if near not in shown and size <= left:
                shown.add(near)
                left -= size
    return sorted(shown)


def _with_before(shown: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each position with the one before it; the first one follows itself."""
    yield from zip(shown, [shown[0], *shown], strict=False)


def _lines(text: str, row: _Row, apart: bool) -> Iterator[str]:
    if apart:
        yield "--"
    place = f"+{row.begin}" if row.cut else str(row.number)
    yield f"{place}: {text[row.begin : row.end]}"
