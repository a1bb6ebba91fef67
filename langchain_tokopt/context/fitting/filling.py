"""A history on its way into so many tokens: what is shown of each unit, and notes for what is not shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_tokopt.context.fitting.forms import Forms, texts_of
from langchain_tokopt.context.fitting.notes import (
    NAMES,
    Gap,
    Note,
    least_note,
    names_in,
    neighbours,
    note,
    places_of,
)
from langchain_tokopt.context.fitting.unit_forms import Form, UnitForms
from langchain_tokopt.context.fitting.units import FIRST_THOUGHT, NEWEST, Unit, units_of
from langchain_tokopt.context.handles import handle
from langchain_tokopt.errors import ContextTooLargeError
from langchain_tokopt.tokens import PER_MESSAGE

# The newest messages may take so much of what the pinned ones leave.
RECENT_SHARE: Final = 0.5
# Of the tokens of an older message so much is shown in its short form: of the newest third, the middle, the oldest.
RATIOS: Final = (0.5, 0.3, 0.15)
# Up to which share of the room lines are given out, then short forms; whole messages get the rest.
SHARES: Final = (0.4, 0.8)
# What is shown of one text in its short form takes at most so much of the room.
LARGEST_SHARE: Final = 0.25
# How much a message's length counts against it: 1 would be its worth per token, which keeps little but one-liners.
COST_WEIGHT: Final = 0.25
# How a form is looked for that fills a room: it is full from this share on.
_TRIES: Final = 6
_FULL: Final = 0.92
_NEARLY_FULL: Final = 0.85
_WIDER: Final = 1.6
_NARROWER: Final = 0.8
_NAMED_PARTS: Final = 3
# Of the room so much is kept for notes: where they lead back to what is left out, and where they only say that it is.
NOTES_SHARE: Final = 0.08
BARE_NOTES_SHARE: Final = 0.02
# When less than this is left, the room is used.
LEFT_SHARE: Final = 0.04
LEFT: Final = 24  # tokens


class Filling:
    """One history on its way into so many tokens."""

    def __init__(
        self,
        messages: list[BaseMessage],
        sizes: list[int],
        scores: list[float],
        query: str,
        limit: int,
        tool: str | None,
        count: Callable[[BaseMessage], int],
    ) -> None:
        self._messages = messages
        self._sizes = sizes
        self._limit = limit
        self._count = count
        self._units = units_of(messages)
        # A call matters for what it got.
        self._scores = [max(scores[unit.start + (unit.end - unit.start > 1) : unit.end]) for unit in self._units]
        self._forms = UnitForms(messages, sizes, self._units, Forms(messages, query, tool), count)
        self._tool = tool
        self._least_note = least_note(tool, count)
        self._shown: dict[int, Form] = {}
        self._used = 0
        self._bound = limit

    def view(self, keep_last: int) -> tuple[list[BaseMessage], list[Note]]:
        """The messages that are shown, and the notes among them."""
        self._pin()
        self._keep_recent(keep_last)
        order = self._fill()
        self._grow(order, self._bound)
        self._bound = self._limit
        notes = self._notes()
        self._grow([at for at in order if at in self._shown], self._limit)
        view: list[BaseMessage] = []
        for at in range(len(self._units)):
            view += [notes[at].message] if at in notes else []
            view += self._shown[at].messages if at in self._shown else ()
        return view, list(notes.values())

    # --- what stays --------------------------------------------------------------------------------------------------

    def _pin(self) -> None:
        """Shows what has to stay: pinned units, and the last one, with its results in a line each if need be."""
        must = [at for at, unit in enumerate(self._units) if unit.pinned or at == len(self._units) - 1]
        least = {at: self._forms.least(at) for at in must}
        needed = sum(form.tokens for form in least.values())
        if needed > self._limit:
            raise self._too_large(needed, least)
        for at, form in least.items():
            self._show(at, form)
        if len(must) < len(self._units):
            self._bound -= self._room_for_notes()
        # Results of the last unit are what the model works with now: they come before anything that may go.
        share = RECENT_SHARE if len(must) < len(self._units) else 1.0
        for at in reversed(must):
            if not self._upgrade(at, self._forms.whole(at), self._bound):
                self._fill_unit(at, self._used + int(share * (self._bound - self._used)))

    def _keep_recent(self, keep_last: int) -> None:
        """Shows what follows the newest message of the user as it is, or else the newest units, as far as they fit."""
        last = len(self._units)
        newest = next((at for at in reversed(range(last)) if self._units[at].pinned == NEWEST), last)
        tail = [at for at in range(newest, last) if at not in self._shown]
        if self._used + sum(self._forms.whole(at).tokens for at in tail) <= self._bound:
            for at in tail:
                self._show(at, self._forms.whole(at))
        bound = self._used + round(RECENT_SHARE * (self._bound - self._used))
        for at in reversed(range(last)):
            if len(self._messages) - self._units[at].start > keep_last:
                break
            if at not in self._shown and not self._upgrade(at, self._forms.whole(at), bound):
                break

    def _too_large(self, needed: int, least: dict[int, Form]) -> ContextTooLargeError:
        parts = [(self._name(self._units[at]), form.tokens) for at, form in least.items()]
        parts.sort(key=lambda part: -part[1])
        return ContextTooLargeError(needed=needed, limit=self._limit, parts=tuple(parts[:_NAMED_PARTS]))

    def _name(self, unit: Unit) -> str:
        what = unit.pinned or ("last call with its results" if unit.end - unit.start > 1 else "last message")
        return f"{what} (message {unit.start + 1})"

    # --- what may go -------------------------------------------------------------------------------------------------

    def _fill(self) -> list[int]:
        """Gives out the room: lines first, then short forms, then whole messages, to the most important ones first.

        Returns:
            The units that may have more, the first ones first.
        """
        older = [at for at in range(len(self._units)) if at not in self._shown]
        worth = {at: self._scores[at] / max(1, self._forms.line(at).tokens) ** COST_WEIGHT for at in older}
        order = sorted(older, key=lambda at: (-worth[at], -at))
        ratios = {at: RATIOS[min(2, 3 * back // max(1, len(older)))] for back, at in enumerate(reversed(older))}
        room = self._bound - self._used
        most = int(LARGEST_SHARE * room)
        bounds = [self._used + round(share * room) for share in SHARES]
        for at in order:
            if self._used + PER_MESSAGE <= bounds[0]:
                self._upgrade(at, self._forms.line(at), bounds[0])
        for at in order:
            if self._used + PER_MESSAGE <= bounds[1]:
                self._upgrade(at, self._forms.short(at, ratios[at], most), bounds[1])
        for at in order:
            if self._used + PER_MESSAGE <= self._bound and not self._upgrade(at, self._forms.whole(at), self._bound):
                for form in (
                    (self._forms.short(at, ratios[at], most), self._forms.line(at)) if at not in self._shown else ()
                ):
                    if self._upgrade(at, form, self._bound):
                        break
        # What is worked with now comes first.
        recent = [at for at in reversed(range(len(self._units))) if at in self._shown and at not in worth]
        return [*recent, *order]

    def _grow(self, order: Iterable[int], bound: int) -> None:
        """Spends what is left of the room on more of the first units."""
        for at in order:
            if bound - self._used < max(LEFT, LEFT_SHARE * self._limit):
                return
            if not self._upgrade(at, self._forms.whole(at), bound):
                self._fill_unit(at, bound)

    def _fill_unit(self, at: int, bound: int) -> None:
        """Shows as much as possible of a unit whose whole does not fit."""
        self._search(at, bound, names=True)
        if self._tokens(at) < _NEARLY_FULL * (bound - self._used + self._tokens(at)):
            self._search(at, bound, names=False)

    def _search(self, at: int, bound: int, *, names: bool) -> None:
        whole, room = self._forms.whole(at).tokens, bound - self._used + self._tokens(at)
        # A form has more or fewer tokens than it is asked to have.
        aim, low, high = float(room), 0.0, 0.0
        for _ in range(_TRIES):
            form = self._forms.shortened(at, aim / whole, whole, names=names)
            if form.tokens <= room:
                self._upgrade(at, form, bound)
                if form.tokens >= _FULL * room:
                    return
                low = aim
            else:
                high = aim
            aim = (low + high) / 2 if low and high else _WIDER * low if low else _NARROWER * high

    def _upgrade(self, at: int, form: Form, bound: int) -> bool:
        """Shows the form if that keeps within the bound; whether a form of at least its tokens is shown now."""
        before = self._tokens(at)
        if form.tokens <= before:
            return True
        if self._used - before + form.tokens > bound:
            return False
        self._show(at, form)
        return True

    def _show(self, at: int, form: Form) -> None:
        self._used += form.tokens - self._tokens(at)
        self._shown[at] = form

    def _tokens(self, at: int) -> int:
        return self._shown[at].tokens if at in self._shown else 0

    # --- what is left out --------------------------------------------------------------------------------------------

    def originals(self) -> dict[str, str]:
        """What texts of results were before they were cut, by the handles that they have now: they may be cut again."""
        found: dict[str, str] = {}
        for at, form in self._shown.items():
            for index, new in zip(self._units[at].indices, form.messages, strict=True):
                old = self._messages[index]
                if new is not old and isinstance(new, ToolMessage):
                    texts = zip(texts_of(old), texts_of(new), strict=True)
                    found.update((handle(now), text) for (_, text), (_, now) in texts if now != text)
        return found

    def _room_for_notes(self) -> int:
        room = self._limit - self._used
        if self._tool is None:
            return int(BARE_NOTES_SHARE * room)
        return min(room, max(self._least_note, int(NOTES_SHARE * room)))

    def _notes(self) -> dict[int, Note]:
        """Notes for the units that are not shown, by the unit before which they stand, as many as there is room for."""
        self._show_short_runs()
        runs, left = neighbours(self._units, self._shown), self._limit - self._used
        if not runs or left < self._least_note:
            return {}
        thought = next((at for at, unit in enumerate(self._units) if unit.pinned == FIRST_THOUGHT), len(self._units))
        apart = [sum(self._tokens(at) for at in range(one[-1], other[0])) for one, other in pairwise(runs)]
        places = places_of(runs, apart, max(1, left // (self._least_note + NAMES)), thought)
        seen = names_in(message for form in self._shown.values() for message in form.messages)
        found: dict[int, Note] = {}
        for done, (place, units) in enumerate(places.items()):
            indices = [index for at in units for index in self._units[at].indices]
            gap = Gap(tuple(self._messages[index] for index in indices), indices[-1] + 1 - self._units[place].start)
            made = note(gap, self._tool, seen, left // (len(places) - done), self._count)
            # Without the tool it only says that there was more, and has to be shorter than that.
            if made is None or (self._tool is None and made.tokens >= sum(self._sizes[index] for index in indices)):
                continue
            found[place] = made
            left -= made.tokens
            self._used += made.tokens
        return found

    def _show_short_runs(self) -> None:
        """Shows what is shorter than a note of it."""
        for run in reversed(neighbours(self._units, self._shown)):
            tokens = sum(self._forms.whole(at).tokens for at in run)
            if tokens <= self._least_note and self._used + tokens + self._least_note <= self._limit:
                for at in run:
                    self._show(at, self._forms.whole(at))
