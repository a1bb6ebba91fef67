"""What a call holds while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_tokopt.budget.accounts import Account
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.periods import Period
from langchain_tokopt.budget.worst_case import WorstCase
from langchain_tokopt.events import Who
from langchain_tokopt.pricing import Rates


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation, to be settled or released once.

    Attributes:
        id: Its id in the ledger.
        account: What it was made on. It is settled in that account's period, however late that is.
        period: The period in which it was made.
        case: What the call may take; its answer may have been bounded to fit.
        reserved: What is held for it.
        rates: Prices of the call's model; `None` when they are not known, and then only tokens are counted.
        who: Whom the call belongs to.
    """

    id: str
    account: Account
    period: Period
    case: WorstCase
    reserved: Amount
    rates: Rates | None
    who: Who
