"""What a call holds while it runs, and what becomes of one that does not fit."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_tokopt.budget.amounts import MAX_AMOUNT, Amount
from langchain_tokopt.budget.ledgers.words import Short
from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.budget.rules import Ruled, Terms
from langchain_tokopt.budget.worst_case import WorstCase
from langchain_tokopt.events import Who
from langchain_tokopt.pricing import Rates


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation, to be settled or released once.

    Attributes:
        id: Its id in the ledger.
        path: Where the call stands.
        terms: What it was reserved under. It is settled on these accounts, in their periods, however late that is.
        case: What the call may take; its answer may have been bounded to fit.
        reserved: What is held for it.
        rates: Prices of the call's model; `None` when they are not known, and then only tokens and calls are counted.
        who: Whom the call belongs to.
    """

    id: str
    path: Path
    terms: Terms
    case: WorstCase
    reserved: Amount
    rates: Rates | None
    who: Who


@dataclass(frozen=True, slots=True)
class Shortage:
    """A call that does not fit: nothing is held for it.

    Attributes:
        hold: What would have been held.
        short: The caps that it does not fit under, and what was taken of them at that moment.
    """

    hold: Hold
    short: tuple[Short, ...]

    @property
    def left(self) -> Amount:
        """The most that would fit, unit by unit; `MAX_AMOUNT` in a unit that nothing is short of."""
        return Amount(
            min(
                (one.cap.nano - one.balance.taken.nano for one in self.short if one.cap.nano is not None),
                default=MAX_AMOUNT,
            ),
            min(
                (one.cap.tokens - one.balance.taken.tokens for one in self.short if one.cap.tokens is not None),
                default=MAX_AMOUNT,
            ),
            min(
                (one.cap.calls - one.balance.taken.calls for one in self.short if one.cap.calls is not None),
                default=MAX_AMOUNT,
            ),
        )

    @property
    def decisive(self) -> tuple[Short, Ruled]:
        """Of the limits that are short the one that lasts longest: there is no use in waiting for the others."""
        ruled = {one.account: one for one in reversed(self.hold.terms.ruled) if one.rule.limit.hard}
        ends = [(one, ruled[one.cap.account]) for one in self.short]
        return max(ends, key=lambda pair: float("inf") if pair[1].period.end is None else pair[1].period.end)
