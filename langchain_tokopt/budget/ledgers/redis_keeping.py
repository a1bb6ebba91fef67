"""What a budget in Redis keeps beside its counters: limits, claims and what answers were worth."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_tokopt.budget.ledgers.redis_keys import Keys, as_json
from langchain_tokopt.budget.ledgers.redis_replies import limit_fields, limit_of, limit_text, reason_text, valued_of
from langchain_tokopt.budget.ledgers.redis_server import RedisServer
from langchain_tokopt.budget.ledgers.words import Source, StoredLimit, Valued
from langchain_tokopt.budget.periods import Per

_REPORTS_A_PAGE = 5_000
# A claim that ran out by the callers' clock is forgotten a day later by the server's.
_SECONDS_BEFORE_A_CLAIM_IS_FORGOTTEN = 86_400
_LONGEST_CLAIM_SECONDS = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class RedisKeeping:
    server: RedisServer
    keys: Keys

    def limits(self) -> list[StoredLimit]:
        limits = [limit_of(raw) for raw in self.server.run("limits", [self.keys("limits")], [])]
        return sorted(limits, key=lambda limit: (limit.node, limit.per, limit.source, limit.scope))

    def put_limits(self, limits: Sequence[StoredLimit], *, reasons: Mapping[str, str], now: float) -> None:
        arguments: list[str] = []
        for limit in limits:
            limit_text(limit)
            place = as_json([limit.node, limit.per, limit.source, limit.scope])
            action = "moved" if limit.source == "allocated" else "set"
            reason = reason_text(reasons.get(limit.node))
            arguments += [place, as_json(limit_fields(limit)), limit.node, action, reason]
        if arguments:
            self.server.run("put_limits", self._limit_keys(), [self.keys.base, now, *arguments], again=False)

    def drop_limit(self, node: str, per: Per, *, source: Source, now: float, reason: str | None) -> bool:
        begins = as_json([node, per, source])[:-1] + ","
        arguments: list[str | float] = [self.keys.base, now, begins, node, reason_text(reason)]
        return bool(self.server.run("drop_limit", self._limit_keys(), arguments, again=False))

    def claim(self, task: str, *, now: float, until: float) -> bool:
        seconds = min(max(0.0, until - now), _LONGEST_CLAIM_SECONDS) + _SECONDS_BEFORE_A_CLAIM_IS_FORGOTTEN
        arguments: list[str | float] = [now, until, os.urandom(16).hex(), int(seconds * 1000)]
        return bool(self.server.run("claim", [self.keys("claim", task)], arguments))

    def value(self, valued: Valued) -> None:
        # Reports of the same time are kept in the order in which they were made; sent twice, one is kept once.
        report = as_json([f"{time.time_ns():020}", os.urandom(8).hex(), valued.at, valued.path, str(valued.value)])
        self.server.run("value", [self.keys("values")], [valued.at, report])

    def values(self, *, since: float, until: float) -> list[Valued]:
        # What is reported meanwhile can only move others to a later page, where they are seen again.
        reports: dict[bytes, None] = {}
        while True:
            bounds: list[str | float] = [since, f"({until}", len(reports), _REPORTS_A_PAGE]
            page = self.server.run("values", [self.keys("values")], bounds)
            reports.update(dict.fromkeys(page))
            if len(page) < _REPORTS_A_PAGE:
                return [valued_of(report) for report in reports]

    def _limit_keys(self) -> list[str]:
        return [self.keys("journal"), self.keys("hours"), self.keys("limits")]
