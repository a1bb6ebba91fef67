"""Limits that are raised for the rest of their period, because somebody was asked and agreed."""

from __future__ import annotations

from langchain_tokopt.budget.hold import Shortage
from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import StoredLimit
from langchain_tokopt.budget.limits import Limit


def grant(ledger: Ledger, shortage: Shortage, more: Limit, *, reason: str | None, now: float) -> None:
    """Raise the limit that decides over the call, by `more`, on top of what was granted before.

    Raises:
        StoreError: The ledger cannot be used.
    """
    short, ruled = shortage.decisive
    limit, scope = ruled.rule.limit, short.cap.account.scope
    earlier = [
        one
        for one in ledger.limits()
        if (one.source, one.node, one.per, one.scope) == ("granted", ruled.rule.node, limit.per, scope)
        and not (one.until is not None and one.until <= now)
    ]
    granted = StoredLimit(
        node=ruled.rule.node,
        per=limit.per,
        nano=sum(one.nano or 0 for one in earlier) + (more.nano or 0) or None,
        tokens=sum(one.tokens or 0 for one in earlier) + (more.tokens or 0) or None,
        calls=sum(one.calls or 0 for one in earlier) + (more.calls or 0) or None,
        timezone=limit.timezone,
        source="granted",
        scope=scope,
        at=now,
        until=None if ruled.period.end is None else float(ruled.period.end),
    )
    said = f"raised by {more.amounts} until its period ends"
    said = f"{said}: {reason}" if reason else said
    ledger.put_limits([granted], reasons={ruled.rule.node: said}, now=now)
