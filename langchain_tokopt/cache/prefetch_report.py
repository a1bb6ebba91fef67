"""What was done ahead, what became of it, and what it cost."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from langchain_tokopt.cache.precompute import Paid
    from langchain_tokopt.cache.track_record import TrackRecord

_REMEMBERED: Final = 4_096  # things done ahead that may still be used

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchReport:
    """What predicting did in this process.

    Attributes:
        predictions: Predictions whose time is over, whether or not something was done about them.
        predictions_used: How many of them came true within the user's next questions.
        preloaded: Entries read into memory ahead.
        preloaded_used: How many of them were asked for.
        precomputed: Answers made ahead and stored.
        precomputed_used: How many of them were served, counted once each.
        refused: Why likely answers were not made ahead, and how often.
        spent_usd: What the calls ahead cost.
        estimated_usd: The part of it that the provider did not report, and that is what the answer cost last time.
        saved_usd: What the used ones would have cost when they were asked for.
        saved_seconds: How long their callers would have waited for the model.
    """

    predictions: int
    predictions_used: int
    preloaded: int
    preloaded_used: int
    precomputed: int
    precomputed_used: int
    refused: dict[str, int]
    spent_usd: Decimal
    estimated_usd: Decimal
    saved_usd: Decimal
    saved_seconds: float

    @property
    def net_usd(self) -> Decimal:
        """Saved less spent; below 0 it is what `saved_seconds` of waiting were bought for."""
        return self.saved_usd - self.spent_usd


class Tally:
    """Counts what was done ahead, and what of it was used; for this process. Thread-safe."""

    def __init__(self) -> None:
        self.start_in_child()
        self._loaded: OrderedDict[Key, bool] = OrderedDict()  # whether there was something to load
        self._ahead: OrderedDict[Key, Paid] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._spent = self._estimated = self._saved = Decimal(0)
        self._saved_seconds = 0.0

    def start_in_child(self) -> None:
        """After a fork: the lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()

    def asked(self, key: Key, *, hit: bool) -> None:
        """Note that a question (scope and id) was asked, and whether the cache answered."""
        with self._lock:
            if self._loaded.pop(key, False):
                self._counts["preloaded_used"] += 1
            paid = self._ahead.pop(key, None) if hit else None
            if paid is not None:
                self._counts["precomputed_used"] += 1
                self._saved += paid.usd
                self._saved_seconds += paid.seconds

    def to_load(self, scope: str, ids: Iterable[str]) -> list[str]:
        """Those of the ids that were not loaded already, noted as under way."""
        with self._lock:
            new = [one for one in ids if (scope, one) not in self._loaded]
            for one in new:
                _remember(self._loaded, (scope, one), False)
            return new

    def not_loaded(self, scope: str, ids: Iterable[str]) -> None:
        """Note that these were not loaded after all."""
        with self._lock:
            for one in ids:
                self._loaded.pop((scope, one), None)

    def loaded(self, scope: str, ids: Iterable[str]) -> None:
        """Note what was loaded."""
        with self._lock:
            for one in ids:
                self._counts["preloaded"] += 1
                if (scope, one) in self._loaded:  # or it was asked in the meantime
                    self._loaded[scope, one] = True

    def made(self, key: Key, paid: Paid | None, *, stored: bool) -> None:
        """Note an answer that was made ahead."""
        with self._lock:
            self._counts["precomputed" if stored else "not_stored"] += 1
            if stored and paid is not None:
                _remember(self._ahead, key, paid)

    def paid(self, what: Paid) -> None:
        """Note what a call ahead cost."""
        with self._lock:
            self._spent += what.usd
            if not what.measured:
                self._estimated += what.usd

    def refused(self, reason: str) -> None:
        """Note why a likely answer was not made ahead."""
        with self._lock:
            self._refused[reason] += 1

    def report(self, record: TrackRecord) -> PrefetchReport:
        """All of it so far."""
        with self._lock:
            return PrefetchReport(
                predictions=record.made,
                predictions_used=record.used,
                preloaded=self._counts["preloaded"],
                preloaded_used=self._counts["preloaded_used"],
                precomputed=self._counts["precomputed"],
                precomputed_used=self._counts["precomputed_used"],
                refused=dict(self._refused),
                spent_usd=self._spent,
                estimated_usd=self._estimated,
                saved_usd=self._saved,
                saved_seconds=self._saved_seconds,
            )


def _remember(known: OrderedDict[Key, Any], key: Key, value: Any) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
