"""Text that was shown before, as references to where it is.

An index holds every line that is shown word for word, in the order of the prompt. A new text is read once from the
top: where three lines in a row (or one long line) were shown before, the longest run from there on becomes one
reference to its earliest copy. The first telling line of a run stays, so that a reader knows what the reference is
about; a line that comes many times in a row stays once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from langchain_tokopt.context.lossless.references import Place, has_reference, repeated, same_lines, same_text
from langchain_tokopt.context.lossless.size import Size

ANCHOR_LINES = 3
LONG_LINE = 160
# Of equal anchors so many places are compared, the earliest ones: enough for real texts, and a bound for odd ones.
PLACES = 8
# Of a longer text the lines after these are shortened too, but not found again in later texts.
INDEXED_LINES = 40_000
# A text of more lines is only compared as a whole.
MOST_LINES = 200_000
# A shorter run cannot be worth a reference of about 20 tokens; spares counting it.
MIN_RUN_CHARACTERS = 60
# From so many lines on a run's first line is shown again, so that a reader knows what the reference is about.
HEADED_LINES = 20

_WORD = re.compile(r"\w{2}")

Anchor: TypeAlias = "str | tuple[str, str, str]"


@dataclass(slots=True)
class _Text:
    """A text as it is shown. `None` among its lines: a reference stands there."""

    place: Place
    lines: list[str | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Run:
    """`count` lines that are shown already: from line `start` of `source` on, or (`None`) the line before, again."""

    count: int
    source: _Text | None = None
    start: int = 0


class ShownLines:
    """Where each line of the tool results so far is shown."""

    def __init__(self) -> None:
        self._anchors: dict[Anchor, list[tuple[_Text, int]]] = {}
        self._whole: dict[str, Place] = {}
        self.lines = 0
        self._added: list[Anchor] = []
        self._wholes: list[str] = []

    def mark(self) -> tuple[int, int, int]:
        """Where the index is now, for `undo`."""
        return len(self._added), len(self._wholes), self.lines

    def undo(self, mark: tuple[int, int, int]) -> None:
        """Forget what was taken in since the mark."""
        anchors, wholes, self.lines = mark
        while len(self._added) > anchors:
            anchor = self._added.pop()
            self._anchors[anchor].pop()
        while len(self._wholes) > wholes:
            del self._whole[self._wholes.pop()]

    def add(self, text: str, place: Place, *, whole: str | None = None) -> None:
        """Take in a text as it is shown at `place`; `whole` is what it is shown for, where that is another text."""
        shown = _Text(place)
        odd = has_reference(text)
        for line in text.split("\n", INDEXED_LINES)[:INDEXED_LINES]:
            self._add_line(shown, None if odd and has_reference(line) else line)
        if not odd:
            self._add_whole(text if whole is None else whole, place)

    def shorten(self, text: str, place: Place, size: Size, min_tokens: int) -> str:
        """The text with references for what is shown already; it is taken in as it will be shown at `place`.

        `size` gives a text's tokens; each reference saves at least `min_tokens` of them. The text must hold no line
        that looks like a reference.
        """
        whole = self._whole.get(text)
        if whole and size(text) - size(same_text(whole)) >= min_tokens:
            self._add_line(_Text(place), None)
            return same_text(whole)
        lines = text.split("\n")
        if len(lines) > MOST_LINES:
            self.add(text, place)
            return text
        writing = _Text(place)
        shown: list[str] = []
        at, changed = 0, False
        while at < len(lines):
            kept, count, reference = self._next(lines, at, writing, size, min_tokens)
            for line in lines[at : at + kept]:
                self._add_line(writing, line)
                shown.append(line)
            if reference:
                self._add_line(writing, None)
                shown.append(reference)
                changed = True
            at += count
        if not changed:
            self._add_whole(text, place)
            return text
        return "\n".join(shown)

    def _next(self, lines: list[str], at: int, writing: _Text, size: Size, min_tokens: int) -> tuple[int, int, str]:
        """How many lines are shown as they are, how many are done with, and the reference for those that are not shown.

        Without a run that is worth a reference that is the one line: `(1, 1, "")`.
        """
        run = self._longest(lines, at, writing)
        if run is None:
            return 1, 1, ""
        kept = 1 if run.source is None else _heading(lines, at) if run.count >= HEADED_LINES else 0
        if _characters(lines, at + kept, at + run.count) < MIN_RUN_CHARACTERS:
            return 1, 1, ""
        if run.source is None:
            reference = repeated(run.count - 1)
        else:
            place = None if run.source is writing else run.source.place
            reference = same_lines(run.count - kept, run.start + kept + 1, place)
        if size("\n".join(lines[at + kept : at + run.count])) - size(reference) < min_tokens:
            return 1, 1, ""
        return kept, run.count, reference

    def _longest(self, lines: list[str], at: int, writing: _Text) -> _Run | None:
        """The longest run that starts here; of equal ones the earliest. Blank lines alone are none."""
        line, most = lines[at], len(lines)
        if not line and not (at + 2 < most and (lines[at + 1] or lines[at + 2])):
            return None
        best: _Run | None = None
        if line and at + 2 < most and line == lines[at + 1] == lines[at + 2] and not line.isspace():
            end = at + 3
            while end < most and lines[end] == line:
                end += 1
            best = _Run(end - at)
        places: list[tuple[_Text, int]] = []
        if at + 2 < most:
            places += self._anchors.get((line, lines[at + 1], lines[at + 2]), ())
        if len(line) >= LONG_LINE:
            places += self._anchors.get(line, ())
        for source, start in places:
            count = _equal_lines(lines, at, source.lines, start)
            if best is None or count > best.count:
                best = _Run(count, source, start)
        return best

    def _add_line(self, text: _Text, line: str | None) -> None:
        if len(text.lines) >= INDEXED_LINES:
            return
        self.lines += 1
        text.lines.append(line)
        end = len(text.lines)
        if line is None:
            return
        if len(line) >= LONG_LINE:
            self._add_anchor(line, text, end - 1)
        if end >= ANCHOR_LINES:
            first, second, third = text.lines[-ANCHOR_LINES:]
            if first is not None and second is not None and third is not None:
                self._add_anchor((first, second, third), text, end - ANCHOR_LINES)

    def _add_anchor(self, anchor: Anchor, text: _Text, position: int) -> None:
        places = self._anchors.setdefault(anchor, [])
        if len(places) < PLACES:
            places.append((text, position))
            self._added.append(anchor)

    def _add_whole(self, text: str, place: Place) -> None:
        if len(text) >= MIN_RUN_CHARACTERS and text not in self._whole:
            self._whole[text] = place
            self._wholes.append(text)


def _characters(lines: list[str], start: int, end: int) -> int:
    """How many characters these lines have; of many lines it is enough to know that there are many."""
    return sum(len(line) + 1 for line in lines[start : min(end, start + MIN_RUN_CHARACTERS)])


def _heading(lines: list[str], at: int) -> int:
    """How many lines it takes to say what a long run is about: up to the first one with a word, of the first three."""
    return next((n for n, line in enumerate(lines[at : at + 3], 1) if _WORD.search(line)), 0)


def _equal_lines(lines: list[str], at: int, others: list[str | None], position: int) -> int:
    """How many lines are equal from `at` and from `position` on."""
    count, most = 0, min(len(lines) - at, len(others) - position)
    while count < most and lines[at + count] == others[position + count]:
        count += 1
    return count
