"""Shows the adaptive policy how entries are used, from the rows that changed since the last time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from langchain_tokopt.cache.eviction.adaptive import Adaptive
from langchain_tokopt.cache.eviction.ghosts import Ghosts
from langchain_tokopt.cache.eviction.rows import Row, Rows, usual_value
from langchain_tokopt.cache.eviction.simulation import Access

_AT_ONCE = 2_000  # rows
_OVERLAP_SECONDS = 10.0  # a use is noted a little later than it happened

_USED = text(
    """SELECT id, scope_id, exact, used_at, created_at, expires_at, hits, bytes, value FROM tokopt_cache_entries
    WHERE kind = :kind AND alive = 1 AND used_at > :since AND exact < :below ORDER BY used_at, id LIMIT :count"""
)


class Observation:
    """The uses of a sample of the entries, each told once.

    The sample is the same for all processes: questions whose digest is below a limit, so that of each of them every use
    is seen. Nothing is logged for it while questions are answered; uses are read off the rows afterwards. `alike`: see
    `Ghosts`.
    """

    def __init__(self, rows: Rows, adaptive: Adaptive, *, alike: float) -> None:
        self._rows = rows
        self._adaptive = adaptive
        self._below = _digest_below(adaptive.share)
        self._since = 0.0
        self._newest = 0
        self._seen: dict[int, int] = {}
        self._forget_at = _AT_ONCE
        self._ghosts = Ghosts(rows, alike=alike, below=self._below)

    def catch_up(self) -> int:
        """How many entries were used since the last time, of those in the sample."""
        self._ghosts.catch_up()
        told = 0
        while True:
            since = self._since
            rows = self._read()
            if rows:
                self._since = max(since, rows[-1].used_at - (_OVERLAP_SECONDS if len(rows) < _AT_ONCE else 0.0))
            last = len(rows) < _AT_ONCE or self._since == since
            if last:
                # Few, and each use is told once: so they may be read every time, and twice.
                rows = sorted([*rows, *self._rows.these(self._ghosts.outside())], key=lambda row: (row.used_at, row.id))
            usual = usual_value(rows)
            told += sum(self._tell(row, usual) for row in rows)
            if rows:
                self._newest = max(self._newest, *(row.id for row in rows))
            if last:
                break
        if len(self._seen) > self._forget_at:
            self._forget()
        return told

    def _read(self) -> list[Row]:
        values = {"kind": self._rows.kind, "since": self._since, "below": self._below, "count": _AT_ONCE}
        with self._rows.database.read() as connection:
            return [Row(*row) for row in connection.execute(_USED, values)]

    def _tell(self, row: Row, usual: float) -> bool:
        # The first use of a new entry is the question that it was stored for. Of an old one only the last is known.
        unseen = -1 if row.id > self._newest else row.hits - 1
        times = row.hits - self._seen.get(row.id, unseen)
        self._seen[row.id] = row.hits
        if times < 1:
            return False
        self._adaptive.observe(
            Access(
                key=self._ghosts.key(row),
                at=row.used_at,
                bytes=row.bytes,
                value=usual if row.value is None else float(row.value),
                ttl_seconds=None if row.expires_at is None else max(0.0, row.expires_at - row.created_at),
                times=times,
            )
        )
        return True

    def _forget(self) -> None:
        """Forget the entries that are gone."""
        there = {row.id for row in self._rows.these(self._seen.keys())}
        self._seen = {key: hits for key, hits in self._seen.items() if key in there}
        self._forget_at = 2 * len(self._seen) + _AT_ONCE
        self._ghosts.forget(self._adaptive.holds)

    def state(self) -> Any:
        return [self._since, self._newest, list(self._seen.items())]

    def restore(self, state: Any) -> None:
        since, newest, seen = state
        self._since, self._newest = float(since), int(newest)
        self._seen = {int(key): int(hits) for key, hits in seen}


def _digest_below(share: float) -> str:
    """The hexadecimal digits below which this share of all digests lies."""
    return "g" if share >= 1.0 else f"{int(share * 2**64):016x}"
