"""What was spent lately under a node, and what its answers were worth."""

from __future__ import annotations

from datetime import datetime

from langchain_tokopt.budget.allocations import is_within
from langchain_tokopt.budget.amounts import Amount, Unit
from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import Bucket, Valued
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.periods import Period, period_at
from langchain_tokopt.budget.planning import Series, forecast

_DAY = 86_400
# How far back a forecast looks, and feedback counts.
_DAYS = 120
_FEEDBACK_DAYS = 90
# How far ahead a forecast looks for a limit that never ends, and how far back its use counts as recent.
_AHEAD_DAYS = 30
_HOUR = 3600
_QUARTER = 900


class History:
    """The past of a budget, in the unit and the period of one limit; read from the ledger once.

    Attributes:
        period: The period that is on; for a limit that never ends, up to thirty days from now.
    """

    def __init__(self, ledger: Ledger, limit: Limit, unit: Unit, now: float) -> None:
        self._ledger = ledger
        self._limit = limit
        self._unit = unit
        self._now = now
        self._buckets: list[Bucket] | None = None
        self._valued: list[Valued] | None = None
        found = limit.period(now)
        self.period = Period(found.start, found.end or int(now) + _AHEAD_DAYS * _DAY)
        offset = datetime.fromtimestamp(now, limit.zone).utcoffset()
        # Hours begin a quarter or half an hour off where the time zone is.
        self._piece_seconds = _HOUR if offset is None or offset.total_seconds() % _HOUR == 0 else _QUARTER

    def _all(self) -> list[Bucket]:
        if self._buckets is None:
            piece = self._piece_seconds
            since = (self._now - _DAYS * _DAY) // piece * piece
            self._buckets = self._ledger.series(since=since, until=self._now + 1, bucket_seconds=piece)
        return self._buckets

    def _under(self, node: str) -> list[Bucket]:
        known = {path: is_within(path, node) for path in {bucket.path for bucket in self._all()}}
        return [bucket for bucket in self._all() if known[bucket.path]]

    def paths(self) -> set[str]:
        """The paths that were spent on."""
        return {bucket.path for bucket in self._all()}

    def pieces(self, node: str) -> list[tuple[float, int]]:
        """What was spent, by the start of each hour or quarter."""
        return [(float(bucket.start), bucket.spent.of(self._unit)) for bucket in self._under(node)]

    def series(self, node: str) -> Series:
        """What was spent, by hours or days, up to the end of the period."""
        until = float(self.period.end or self._now)
        return Series.read(
            self.pieces(node),
            piece_seconds=self._piece_seconds,
            now=self._now,
            until=max(until, self._now),
            zone=self._limit.zone,
        )

    def recent(self, node: str) -> int:
        """What was spent in this period and the one before."""
        if self._limit.per == "forever":
            since = self._now - _AHEAD_DAYS * _DAY
        else:
            since = float(period_at(self._limit.per, self.period.start - 1, self._limit.zone).start)
        return sum(amount for start, amount in self.pieces(node) if start >= since)

    def needed(self, node: str, used: int) -> int | None:
        """What the node is expected to have spent by the end of the period; `None` when nobody knows."""
        found = forecast(self.series(node), spent=used, unit=self._unit)
        return None if found is None else found.expected

    def values(self, node: str) -> tuple[float, ...]:
        """What answers were worth."""
        if self._valued is None:
            self._valued = self._ledger.values(since=self._now - _FEEDBACK_DAYS * _DAY, until=self._now + 1)
        return tuple(float(one.value) for one in self._valued if is_within(one.path, node))

    def cost(self, node: str) -> int:
        """What as many calls took as there are values."""
        since = self._now - _FEEDBACK_DAYS * _DAY
        spent = sum((bucket.spent for bucket in self._under(node) if bucket.start >= since), Amount())
        return round(len(self.values(node)) * spent.of(self._unit) / spent.calls) if spent.calls else 0
