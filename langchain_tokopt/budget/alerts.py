"""Which shares of its limits a booking has taken a budget across."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from langchain_tokopt.budget.amounts import Amount, Unit
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.ledgers.words import Settlement
from langchain_tokopt.budget.nodes import shown
from langchain_tokopt.budget.rules import Ruled
from langchain_tokopt.events import LimitAlert
from langchain_tokopt.pricing import from_nano

log = logging.getLogger("langchain_tokopt")


def alerts(name: str, hold: Hold, actual: Amount, done: Settlement, *, at: float) -> Iterator[LimitAlert]:
    """An alert for the highest share of each limit that this settlement has crossed.

    The balances are those of one transaction, so that of all processes the one that crosses a share tells it, once.
    """
    for ruled in hold.terms.ruled:
        balance = done.balances.get(ruled.account)
        if balance is None:
            continue
        after, before = balance.spent, balance.spent.less(actual)
        limit = ruled.rule.limit
        for unit in limit.units:
            most, was, now = limit.of(unit) or 0, before.of(unit), after.of(unit)
            crossed = [share for share in limit.alert_at if was < share * most <= now]
            if crossed:
                yield _alert(name, ruled, unit, crossed[-1], most, now, hold=hold, at=at)


def _alert(
    name: str, ruled: Ruled, unit: Unit, share: float, limit: int, spent: int, *, hold: Hold, at: float
) -> LimitAlert:
    end = ruled.period.end
    return LimitAlert(
        at=at,
        who=hold.who,
        budget=name,
        path=shown(ruled.rule.node),
        per=ruled.rule.limit.per,
        unit=unit,
        share=share,
        limit=limit,
        spent=spent,
        hard=ruled.rule.limit.hard,
        resets_at=None if end is None else float(end),
    )


def say(alert: LimitAlert) -> None:
    """Write the alert into the log."""
    if alert.unit == "usd":
        figures = f"${from_nano(alert.spent):f} of ${from_nano(alert.limit):f}"
    else:
        figures = f"{alert.spent:,} of {alert.limit:,} {alert.unit}"
    per = "in all" if alert.per == "forever" else f"per {alert.per}"
    kind = "" if alert.hard else " (a soft limit: calls go on)"
    log.warning(
        "budget %r: %s has spent %s %s, %g %% of it%s",
        alert.budget,
        alert.path,
        figures,
        per,
        round(alert.share * 100, 2),
        kind,
    )
