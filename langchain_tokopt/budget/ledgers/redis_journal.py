"""How the journal of a budget in Redis is read: by page, newest first, and summed up by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.redis_keys import Keys, as_json
from langchain_tokopt.budget.ledgers.redis_replies import amount_of, entry_of, text
from langchain_tokopt.budget.ledgers.redis_server import RedisServer
from langchain_tokopt.budget.ledgers.words import NOTHING, Bucket, Entry

# A page takes the server about a millisecond.
_LINES_A_PAGE = 1000
_HOURS_A_PAGE = 100
_HOUR = 3600
_OLDEST, _NEWEST = "-", "+"


@dataclass(frozen=True, slots=True)
class _Span:
    """An hour of the callers' clock, and the first and last id of its lines in the journal."""

    hour: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class RedisJournal:
    """The lines of the stream, which are in the order in which the server wrote them.

    Their times are those of the callers' clocks, which may jump. An hour of these clocks has its lines somewhere
    between two ids that are kept for it, so that a question about a time need not read the whole journal.
    """

    server: RedisServer
    keys: Keys

    def entries(
        self, *, node: str | None, reservation: str | None, since: float | None, until: float | None, count: int
    ) -> list[Entry]:
        """The newest `count` entries that all of this is true of, newest first."""
        if count <= 0:
            return []
        if reservation is not None:
            keys = [self.keys("journal"), self.keys("reservations")]
            entries = map(entry_of, self.server.run("entries_of", keys, [self.keys.base, reservation]))
            return [entry for entry in entries if _is_asked_for(entry, node, since, until)][:count]
        first, last = _OLDEST, _NEWEST
        if since is not None or until is not None:
            spans = self._spans(since, until)
            if not spans:
                return []
            first, last = _around(spans)
        found: list[Entry] = []
        for lines in self._pages(first, last, node=node, since=since, until=until, count=count):
            found += map(entry_of, lines)
            if len(found) >= count:
                break
        return found[:count]

    def series(self, *, since: float, until: float, bucket_seconds: int) -> list[Bucket]:
        sums: dict[tuple[int, str], Amount] = {}

        def add(at: float, path: str, spent: Amount) -> None:
            start = int(at // bucket_seconds) * bucket_seconds
            sums[start, path] = sums.get((start, path), NOTHING) + spent

        spans = self._spans(since, until)
        whole = [span for span in spans if _is_whole(span, since, until)] if bucket_seconds % _HOUR == 0 else []
        for span, path, spent in self._hours(whole):
            add(span.hour * _HOUR, path, spent)
        summed = {span.hour for span in whole}
        parts = [span for span in spans if span.hour not in summed]
        for first, last in _joined(parts):
            for lines in self._pages(first, last, since=since, until=until, spending=True):
                for entry in map(entry_of, lines):
                    if int(entry.at // _HOUR) not in summed:
                        add(entry.at, entry.path, entry.spent)
        return [Bucket(start, path, spent) for (start, path), spent in sorted(sums.items()) if spent]

    def _spans(self, since: float | None, until: float | None) -> list[_Span]:
        """The hours that something was written in, of those that the time from `since` to `until` has a part of."""
        bounds = ["" if at is None else str(int(at // _HOUR)) for at in (since, until)]
        told = self.server.run("span", [self.keys("hours")], bounds)
        spans = [
            _Span(int(hour), text(first), text(last))
            for hour, first, last in zip(told[::3], told[1::3], told[2::3], strict=True)
        ]
        return sorted((span for span in spans if until is None or span.hour * _HOUR < until), key=lambda one: one.hour)

    def _hours(self, spans: list[_Span]) -> Iterator[tuple[_Span, str, Amount]]:
        for start in range(0, len(spans), _HOURS_A_PAGE):
            page = spans[start : start + _HOURS_A_PAGE]
            told = self.server.run("spending", [self.keys("spent", str(span.hour)) for span in page], [])
            for span, stored in zip(page, told, strict=True):
                for path, spent in zip(stored[::2], stored[1::2], strict=True):
                    yield span, text(path), amount_of(spent)

    def _pages(
        self,
        first: str,
        last: str,
        *,
        node: str | None = None,
        since: float | None = None,
        until: float | None = None,
        count: int = _LINES_A_PAGE,
        spending: bool = False,
    ) -> Iterator[list[Any]]:
        """Lines from `last` back to `first` that are asked for, page by page; other commands get their turn between."""
        ending = "" if node is None else f":{as_json(node)[1:]}"
        wanted = ["" if at is None else str(at) for at in (since, until)]
        of = ["0" if node is None else "1", node or "", ending, "1" if spending else "0"]
        while last:
            page: list[str | float] = [last, first, _LINES_A_PAGE, min(count, _LINES_A_PAGE), *wanted, *of]
            seen, lines = self.server.run("entries", [self.keys("journal")], page)
            yield lines
            last = f"({text(seen)}" if seen else ""


def _is_asked_for(entry: Entry, node: str | None, since: float | None, until: float | None) -> bool:
    return (
        (since is None or entry.at >= since)
        and (until is None or entry.at < until)
        and (node is None or any(account.node == node for account in entry.accounts))
    )


def _is_whole(span: _Span, since: float, until: float) -> bool:
    return since <= span.hour * _HOUR and (span.hour + 1) * _HOUR <= until


def _place(id_: str) -> tuple[int, int]:
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number)


def _around(spans: list[_Span]) -> tuple[str, str]:
    """The first and the last id of all of them."""
    return min((span.first for span in spans), key=_place), max((span.last for span in spans), key=_place)


def _joined(spans: list[_Span]) -> list[tuple[str, str]]:
    """The stretches of the journal that have all their lines, none of them twice."""
    joined: list[tuple[str, str]] = []
    for span in sorted(spans, key=lambda one: _place(one.first)):
        if joined and _place(span.first) <= _place(joined[-1][1]):
            first, last = joined.pop()
            joined.append((first, max(last, span.last, key=_place)))
        else:
            joined.append((span.first, span.last))
    return joined
