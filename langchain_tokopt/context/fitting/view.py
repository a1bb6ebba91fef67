"""The view of a history that has at most so many tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.fitting.forms import LINE, Forms
from langchain_tokopt.context.fitting.units import Unit, units_of
from langchain_tokopt.context.importance import MessageImportance
from langchain_tokopt.context.importance.reading import text_of
from langchain_tokopt.context.validate import problem
from langchain_tokopt.errors import ConfigurationError, ContextTooLargeError
from langchain_tokopt.tokens import PER_MESSAGE, TokenCounter

KEEP_LAST: Final = 4
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
# A text that was cut to so many tokens may have some more.
_PARTS: Final = (1.0, 0.9, 0.75, 0.5)
_NAMED_PARTS: Final = 3


def fit(
    messages: Sequence[BaseMessage],
    max_tokens: int,
    *,
    query: str | None = None,
    counter: TokenCounter | None = None,
    model: str | None = None,
    keep_last: int = KEEP_LAST,
    tool: str | None = None,
    importance: MessageImportance | None = None,
) -> list[BaseMessage]:
    """The messages in at most `max_tokens` tokens, as `counter.messages` counts them. The given ones stay as they are.

    What fits is left alone. Else system messages, the first task, the newest message of the user with what follows it
    and the last `keep_last` messages stay; what follows a user's message for longer than that is older, too. Of the
    older ones the most important ones stay whole, others with their best sentences and lines, as a line of names, or
    not at all, the less the older they are. A call and its results go together. A list that no provider would take
    comes back as it is.

    Args:
        messages: The history.
        max_tokens: For the messages alone; the schemas of tools and the answer need their own room.
        query: What the messages are needed for; the newest text of the user by default.
        counter: Counts tokens. The same settings and the same counter give the same bytes.
        model: Whose tokens are counted.
        keep_last: How many of the newest messages stay whole, if they take no more than half of the room.
        tool: The tool that gives back what is left out of a result; `None` where the model has none.
        importance: Says which messages matter; keep one for a history that grows.

    Raises:
        ConfigurationError: `max_tokens` is below 1, or `keep_last` below 0.
        ContextTooLargeError: What has to stay does not fit.
    """
    _check("max_tokens", max_tokens, 1)
    _check("keep_last", keep_last, 0)
    given = list(messages)
    if problem(given) is not None:
        return given
    counter = counter or TokenCounter()
    sizes = [counter.message(message, model) for message in given]
    if sum(sizes) <= max_tokens:
        return given
    asked = _newest_text(given) if query is None else query
    scores = [one.score for one in (importance or MessageImportance()).classify(given, asked)]
    fitting = _Fitting(given, sizes, scores, asked, max_tokens, tool, lambda one: counter.message(one, model))
    view = fitting.view(keep_last)
    if problem(view) is not None or sum(counter.message(message, model) for message in view) > max_tokens:
        return given
    return view


def _check(argument: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(argument, value, f"give a whole number of at least {least}")


def _newest_text(messages: Sequence[BaseMessage]) -> str:
    return next((text_of(message) for message in reversed(messages) if isinstance(message, HumanMessage)), "")


@dataclass(frozen=True, slots=True)
class _Form:
    """What is shown of a unit, and its tokens."""

    messages: tuple[BaseMessage, ...]
    tokens: int


class _Fitting:
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
        self._texts = Forms(messages, query, tool)
        self._shown: dict[int, _Form] = {}
        self._forms: dict[tuple[int, float], _Form] = {}
        self._used = 0
        self._most = limit

    def view(self, keep_last: int) -> list[BaseMessage]:
        """The messages that are shown."""
        self._pin()
        self._keep_recent(keep_last)
        self._fill()
        return [message for at in sorted(self._shown) for message in self._shown[at].messages]

    # --- what stays --------------------------------------------------------------------------------------------------

    def _pin(self) -> None:
        """Shows what has to stay: pinned units, and the last one, with its results in a line each if need be."""
        must = [at for at, unit in enumerate(self._units) if unit.pinned or at == len(self._units) - 1]
        least = {at: self._least(at) for at in must}
        needed = sum(form.tokens for form in least.values())
        if needed > self._limit:
            raise self._too_large(needed, least)
        for at, form in least.items():
            self._show(at, form)
        # Results of the last unit are what the model works with now: they come before anything that may go.
        share = RECENT_SHARE if len(must) < len(self._units) else 1.0
        for at in reversed(must):
            if not self._upgrade(at, self._whole(at), self._limit):
                self._fill_unit(at, self._used + int(share * (self._limit - self._used)))

    def _keep_recent(self, keep_last: int) -> None:
        """Shows what follows the newest message of the user as it is, or else the newest units, as far as they fit."""
        last = len(self._units)
        newest = next((at for at in reversed(range(last)) if self._units[at].pinned == "newest user message"), last)
        tail = [at for at in range(newest, last) if at not in self._shown]
        if self._used + sum(self._whole(at).tokens for at in tail) <= self._limit:
            for at in tail:
                self._show(at, self._whole(at))
        bound = self._used + round(RECENT_SHARE * (self._limit - self._used))
        for at in reversed(range(last)):
            if len(self._messages) - self._units[at].start > keep_last:
                break
            if at not in self._shown and not self._upgrade(at, self._whole(at), bound):
                break

    def _too_large(self, needed: int, least: dict[int, _Form]) -> ContextTooLargeError:
        parts = [(self._name(self._units[at]), form.tokens) for at, form in least.items()]
        parts.sort(key=lambda part: -part[1])
        return ContextTooLargeError(needed=needed, limit=self._limit, parts=tuple(parts[:_NAMED_PARTS]))

    def _name(self, unit: Unit) -> str:
        what = unit.pinned or ("last call with its results" if unit.end - unit.start > 1 else "last message")
        return f"{what} (message {unit.start + 1})"

    # --- what may go -------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Gives out the room: lines first, then short forms, then whole messages, to the most important ones first."""
        older = [at for at in range(len(self._units)) if at not in self._shown]
        worth = {at: self._scores[at] / max(1, self._line(at).tokens) ** COST_WEIGHT for at in older}
        order = sorted(older, key=lambda at: (-worth[at], -at))
        ratios = {at: RATIOS[min(2, 3 * back // max(1, len(older)))] for back, at in enumerate(reversed(older))}
        room = self._limit - self._used
        self._most = int(LARGEST_SHARE * room)
        bounds = [self._used + round(share * room) for share in SHARES]
        for at in order:
            if self._used + PER_MESSAGE <= bounds[0]:
                self._upgrade(at, self._line(at), bounds[0])
        for at in order:
            if self._used + PER_MESSAGE <= bounds[1]:
                self._upgrade(at, self._short(at, ratios[at]), bounds[1])
        for at in order:
            if self._used + PER_MESSAGE <= self._limit and not self._upgrade(at, self._whole(at), self._limit):
                for form in (self._short(at, ratios[at]), self._line(at)) if at not in self._shown else ():
                    if self._upgrade(at, form, self._limit):
                        break

    def _fill_unit(self, at: int, bound: int) -> None:
        """Shows as much as possible of a unit whose whole does not fit."""
        whole = self._whole(at).tokens
        room = bound - self._used + self._shown[at].tokens
        for part in _PARTS:
            if self._upgrade(at, self._short(at, part * room / whole), bound):
                return

    def _upgrade(self, at: int, form: _Form, bound: int) -> bool:
        """Shows the form if that keeps within the bound; whether a form of at least its tokens is shown now."""
        before = self._shown[at].tokens if at in self._shown else 0
        if form.tokens <= before:
            return True
        if self._used - before + form.tokens > bound:
            return False
        self._show(at, form)
        return True

    def _show(self, at: int, form: _Form) -> None:
        self._used += form.tokens - (self._shown[at].tokens if at in self._shown else 0)
        self._shown[at] = form

    # --- forms -------------------------------------------------------------------------------------------------------

    def _whole(self, at: int) -> _Form:
        unit = self._units[at]
        return _Form(tuple(self._messages[unit.start : unit.end]), sum(self._sizes[unit.start : unit.end]))

    def _least(self, at: int) -> _Form:
        """The fewest tokens that a pinned unit can have: its results in a line, its own text as it is."""
        return self._form(at, lambda index: self._texts.line(index) if index > self._units[at].start else None)

    def _line(self, at: int) -> _Form:
        if (at, 0.0) not in self._forms:
            self._forms[at, 0.0] = self._form(at, self._texts.line)
        return self._forms[at, 0.0]

    def _short(self, at: int, ratio: float) -> _Form:
        if (at, ratio) not in self._forms:
            self._forms[at, ratio] = self._shortened(at, ratio)
        return self._forms[at, ratio]

    def _shortened(self, at: int, ratio: float) -> _Form:
        pinned = self._units[at].pinned is not None

        def short(index: int) -> BaseMessage | None:
            if pinned and index == self._units[at].start:
                return None
            return self._texts.shorter(index, max(LINE, min(int(ratio * self._sizes[index]), self._most)))

        return self._form(at, short)

    def _form(self, at: int, make: Callable[[int], BaseMessage | None]) -> _Form:
        shown, tokens = [], 0
        for index in self._units[at].indices:
            made = make(index)
            size = self._sizes[index] if made is None else self._count(made)
            if made is None or size >= self._sizes[index]:
                made, size = self._messages[index], self._sizes[index]
            shown.append(made)
            tokens += size
        return _Form(tuple(shown), tokens)
