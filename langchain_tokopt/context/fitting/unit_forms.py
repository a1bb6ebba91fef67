"""The forms in which a unit of a history can be shown, and their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage

from langchain_tokopt.context.fitting.forms import LINE, Forms
from langchain_tokopt.context.fitting.units import Unit


@dataclass(frozen=True, slots=True)
class Form:
    """What is shown of a unit, and its tokens."""

    messages: tuple[BaseMessage, ...]
    tokens: int


class UnitForms:
    """The forms of the units of a history, by their numbers.

    Args:
        messages: The history.
        sizes: The tokens of each message.
        units: Its units.
        texts: The shorter forms of its messages.
        count: Counts the tokens of a message.
    """

    def __init__(
        self,
        messages: Sequence[BaseMessage],
        sizes: Sequence[int],
        units: Sequence[Unit],
        texts: Forms,
        count: Callable[[BaseMessage], int],
    ) -> None:
        self._messages = messages
        self._sizes = sizes
        self._units = units
        self._texts = texts
        self._count = count
        self._forms: dict[tuple[int, float], Form] = {}

    def whole(self, at: int) -> Form:
        """The unit as it is."""
        unit = self._units[at]
        return Form(tuple(self._messages[unit.start : unit.end]), sum(self._sizes[unit.start : unit.end]))

    def least(self, at: int) -> Form:
        """The fewest tokens that a pinned unit can have: its results in a line, its own text as it is."""
        return self._form(at, lambda index: self._texts.line(index) if index > self._units[at].start else None)

    def line(self, at: int) -> Form:
        """Each of its texts in a line."""
        if (at, 0.0) not in self._forms:
            self._forms[at, 0.0] = self._form(at, self._texts.line)
        return self._forms[at, 0.0]

    def short(self, at: int, ratio: float, most: int) -> Form:
        """The unit with such a part of its tokens, and at most so many of one text; made once for a ratio."""
        if (at, ratio) not in self._forms:
            self._forms[at, ratio] = self.shortened(at, ratio, most)
        return self._forms[at, ratio]

    def shortened(self, at: int, ratio: float, most: int, *, names: bool = True) -> Form:
        """The same, made anew. `names` as in `Forms.shorter`."""
        pinned = self._units[at].pinned is not None

        def shorter(index: int) -> BaseMessage | None:
            if pinned and index == self._units[at].start:
                return None
            return self._texts.shorter(index, max(LINE, min(int(ratio * self._sizes[index]), most)), names=names)

        return self._form(at, shorter)

    def _form(self, at: int, make: Callable[[int], BaseMessage | None]) -> Form:
        shown, tokens = [], 0
        for index in self._units[at].indices:
            made = make(index)
            size = self._sizes[index] if made is None else self._count(made)
            if made is None or size >= self._sizes[index]:
                made, size = self._messages[index], self._sizes[index]
            shown.append(made)
            tokens += size
        return Form(tuple(shown), tokens)
