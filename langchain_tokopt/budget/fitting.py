"""Making a call fit under its limits: as it is, or with a shorter answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from langchain_tokopt.budget.hold import Hold, Shortage
from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import Cap, Granted, Refusal
from langchain_tokopt.budget.worst_case import affordable_output

# Others may take what was left before a shorter answer is reserved: then it has to be shorter still.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Fitting:
    """How calls are made to fit.

    Attributes:
        least_output_tokens: An answer is not bounded to less.
        lease_seconds: How long a reservation is held without being renewed.
    """

    least_output_tokens: int
    lease_seconds: float

    def reserve(self, ledger: Ledger, hold: Hold, now: float, *, bound: bool) -> Hold | Shortage:
        """What is held now, its answer bounded if it may be and must be; or the call as it was, and what stopped it."""
        first = refusal = self._hold(ledger, hold, hold.terms.caps, now)
        for _ in range(_TRIES if bound else 0):
            if isinstance(refusal, Granted):
                return hold
            shorter = self.bounded(Shortage(hold, refusal.short))
            if shorter is None:
                break
            refusal = self._hold(ledger, shorter, shorter.terms.caps, now)
            if isinstance(refusal, Granted):
                return shorter
        if isinstance(first, Granted):
            return hold
        return Shortage(hold, refusal.short if isinstance(refusal, Refusal) else first.short)

    def reserve_anyway(self, ledger: Ledger, hold: Hold, now: float) -> None:
        """Hold the call whatever the limits."""
        self._hold(ledger, hold, [Cap(account) for account in hold.terms.accounts], now)

    def bounded(self, shortage: Shortage) -> Hold | None:
        """The call with an answer that fits into what is left; `None` when that is too short or cannot be asked for."""
        hold, left = shortage.hold, shortage.left
        case = hold.case
        if not case.settings or left.calls < hold.reserved.calls:
            return None
        fits = min(case.output_tokens, affordable_output(case, hold.rates, left))
        if fits < (self.least_output_tokens + case.thinking_tokens) * case.answers:
            return None
        shorter = case.clamped(fits)
        return replace(hold, case=shorter, reserved=shorter.amount(hold.rates))

    def _hold(self, ledger: Ledger, hold: Hold, caps: tuple[Cap, ...] | list[Cap], now: float) -> Granted | Refusal:
        return ledger.reserve(
            hold.id, caps, hold.reserved, path=str(hold.path), now=now, expires_at=now + self.lease_seconds
        )
