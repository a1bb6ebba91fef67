"""Making a call fit under its limit: as it is, or with a shorter answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_tokopt.budget.accounts import Cap, Refusal
from langchain_tokopt.budget.amounts import MAX_AMOUNT, Amount
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.worst_case import affordable_output

if TYPE_CHECKING:
    from langchain_tokopt.budget.ledger import Ledger

# Others may take what was left before a shorter answer is reserved: then it has to be shorter still.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Fitting:
    """How calls are made to fit under `limit`.

    Attributes:
        limit: The limit.
        least_output_tokens: An answer is not bounded to less.
        lease_seconds: How long a reservation is held without being renewed.
    """

    limit: Limit
    least_output_tokens: int
    lease_seconds: float

    def reserve(self, ledger: Ledger, hold: Hold, now: float, *, bound: bool) -> tuple[Hold, Refusal | None]:
        """What is held now, its answer bounded if it may be and must be; or the call as it was, and what stopped it."""
        refusal = self._hold(ledger, hold, self._cap(hold), now)
        for _ in range(_TRIES if bound else 0):
            if refusal is None:
                return hold, None
            shorter = self.bounded(hold, refusal)
            if shorter is None:
                return hold, refusal
            refusal = self._hold(ledger, shorter, self._cap(hold), now)
            if refusal is None:
                return shorter, None
        return hold, refusal

    def reserve_anyway(self, ledger: Ledger, hold: Hold, now: float) -> None:
        """Hold the call whatever the limit."""
        self._hold(ledger, hold, Cap(hold.account), now)

    def bounded(self, hold: Hold, refusal: Refusal) -> Hold | None:
        """The call with an answer that fits into what is left; `None` when that is too short or cannot be asked for."""
        case, cap, taken = hold.case, refusal.cap, refusal.balance.taken
        if not case.settings:
            return None
        left = Amount(
            MAX_AMOUNT if cap.nano is None else cap.nano - taken.nano,
            MAX_AMOUNT if cap.tokens is None else cap.tokens - taken.tokens,
        )
        fits = min(case.output_tokens, affordable_output(case, hold.rates, left))
        if fits < (self.least_output_tokens + case.thinking_tokens) * case.answers:
            return None
        shorter = case.clamped(fits)
        return replace(hold, case=shorter, reserved=shorter.amount(hold.rates))

    def _cap(self, hold: Hold) -> Cap:
        return self.limit.cap(hold.account, priced=hold.rates is not None)

    def _hold(self, ledger: Ledger, hold: Hold, cap: Cap, now: float) -> Refusal | None:
        return ledger.reserve(hold.id, [cap], hold.reserved, now=now, expires_at=now + self.lease_seconds)
