"""The lines of a text that match some words best."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.lexical import BM25, terms

# A line is taken in pieces of at most so many characters, cut between words.
_PIECE: Final = 400
_WORDS_END: Final = 40
# Of a query so many words count, of a word so many places. So many lines, those with most and rarest of the words, are
# compared word by word.
_MOST_WORDS: Final = 32
_MOST_PLACES: Final = 200_000
_TAKEN_APART: Final = 4_000
# Lines shown before and after each one that matches, and how much of what the best one scores a line must have.
_BESIDE: Final = 2
_LEAST: Final = 0.2
# How much the rarity of a word counts that stands in a line as it is written in the query, beside BM25.
_AS_WRITTEN: Final = 2.0
# What the lines beside a line count for it: words that belong together may stand in several.
_LENT: Final = 0.25
# Tokens of a line's number and its end.
_NUMBER: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A line, or with `cut` a piece of a long one; `apart` if lines before it are left out."""

    number: int
    begin: int
    end: int
    cut: bool
    apart: bool


@dataclass(frozen=True)
class Lines:
    """The lines of a text that are not empty, long ones in pieces: where each begins and ends.

    Attributes:
        text: The text.
        begins: Characters, int64 `[n]`, ascending.
        ends: Characters, int64 `[n]`.
        numbers: Numbers of the lines, counted from 1, int64 `[n]`.
        cut: Whether it is a piece, bool `[n]`.
    """

    text: str
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    numbers: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def best(self, query: str, tokens: int) -> list[Row]:
        """The rows to show, in order: the best ones and those beside them, as many as fit. Empty if none matches."""
        scores = self._scores(query) if len(self.begins) else np.zeros(0, dtype=np.float32)
        matching = np.flatnonzero(scores)
        order = matching[np.argsort(-scores[matching], kind="stable")]
        shown: set[int] = set()
        for at in order.tolist():
            if scores[at] < _LEAST * scores[order[0]] or tokens <= _NUMBER:
                break
            beside = range(max(0, at - _BESIDE), min(len(scores), at + _BESIDE + 1))
            for near in sorted(beside, key=lambda near: abs(near - at)):
                size = text_size(self._row(near)) + _NUMBER
                if near not in shown and size <= tokens:
                    shown.add(near)
                    tokens -= size
        places = sorted(shown)
        return [
            Row(int(self.numbers[at]), int(self.begins[at]), int(self.ends[at]), bool(self.cut[at]), at - before > 1)
            for before, at in zip([*places[:1], *places], places, strict=False)
        ]

    def shown(self, row: Row) -> Iterator[str]:
        """The row as it is shown, after a mark for what is left out before it."""
        if row.apart:
            yield "--"
        place = f"+{row.begin}" if row.cut else str(row.number)
        yield f"{place}: {self.text[row.begin : row.end]}"

    def _row(self, at: int) -> str:
        return self.text[self.begins[at] : self.ends[at]]

    def _scores(self, query: str) -> NDArray[np.float32]:
        """How well each row matches, float32 `[n]`: BM25, and more where words, or the query, stand as they are.

        A name that is asked for as it is written says more than the words that it is made of.
        """
        literal = query.lower()
        written = list(dict.fromkeys([literal, *(word for word in literal.split() if terms(word))]))[:_MOST_WORDS]
        # A stem is part of the word that it comes from, so a row without any need not be taken apart into words.
        wanted = list(dict.fromkeys([*written, *terms(query)[:_MOST_WORDS]]))
        there = {word: self._rows_with(word) for word in wanted}
        count = len(self.begins)
        promise = np.zeros(count, dtype=np.float32)
        as_written = np.zeros(count, dtype=np.float32)
        for word, rows in there.items():
            rarity = np.float32(np.log1p((count - len(rows) + 0.5) / (len(rows) + 0.5)))
            promise[rows] += rarity
            if word in written:
                as_written[rows] += rarity
        likely = np.flatnonzero(promise)
        likely = np.sort(likely[np.argsort(-promise[likely], kind="stable")[:_TAKEN_APART]])
        scores = np.zeros(count, dtype=np.float32)
        if not likely.size:
            return scores
        scores[likely] = BM25([self._row(at) for at in likely.tolist()]).scores(query)
        scores[likely] += np.float32(_AS_WRITTEN) * as_written[likely]
        lent = np.zeros_like(scores)
        lent[1:] += scores[:-1]
        lent[:-1] += scores[1:]
        return np.where(scores > 0, scores + np.float32(_LENT) * lent, scores)

    def _rows_with(self, word: str) -> NDArray[np.intp]:
        matches = re.compile(re.escape(word)).finditer(self._lowered, int(self.begins[0]))
        places = (match.start() for match in matches)
        begins = np.fromiter(islice(places, _MOST_PLACES), dtype=np.int64)
        return np.unique(np.searchsorted(self.begins, begins, side="right") - 1)

    @cached_property
    def _lowered(self) -> str:
        """The text in lower case, each character in its place."""
        lowered = self.text.lower()
        if len(lowered) == len(self.text):
            return lowered
        return "".join(small if len(small := one.lower()) == 1 else one for one in self.text)


def lines_from(text: str, begin: int) -> Lines:
    """The lines of the text from character `begin` on."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")[begin:]
    newlines = np.flatnonzero(codes == ord("\n")).astype(np.int64) + begin
    begins = np.concatenate(([begin], newlines + 1))
    ends = np.concatenate((newlines, [len(text)]))
    numbers = np.arange(len(begins)) + text.count("\n", 0, begin) + 1
    long = np.flatnonzero(ends - begins > _PIECE)
    pieces = [(*piece, numbers[at]) for at in long.tolist() for piece in _pieces(text, int(begins[at]), int(ends[at]))]
    kept = (ends > begins) & (ends - begins <= _PIECE)
    whole = np.stack((begins[kept], ends[kept], numbers[kept]), axis=1)
    cut = np.array(pieces, dtype=np.int64).reshape(-1, 3)
    rows = np.concatenate((whole, cut))
    order = np.argsort(rows[:, 0], kind="stable")
    begins, ends, numbers = rows[order].T
    return Lines(text, begins, ends, numbers, order >= len(whole))


def _pieces(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        cut = min(begin + _PIECE, end)
        if cut < end:
            space = text.rfind(" ", cut - _WORDS_END, cut)
            cut = space + 1 if space > 0 else cut
        yield begin, cut
        begin = cut
