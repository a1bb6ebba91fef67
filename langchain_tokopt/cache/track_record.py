"""How often predictions came true, and whether it pays to act on them."""

from __future__ import annotations

import bisect
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from langchain_tokopt.cache.prediction import Likely

# Predictions are judged beside others of about the same probability: what pays for sure ones may not for long shots.
_BANDS: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
_MAX_SCOPES: Final = 1_024
_MAX_USERS: Final = 10_000
_Z: Final = 1.645  # 90 % of the interval, 95 % of each side
_FEWEST: Final = 20  # predictions before anything is done about them
_HALF_LIFE: Final = 120.0  # in predictions of a band: how soon a change is believed


class Band(NamedTuple):
    """Predictions of about one probability in one scope."""

    scope: str
    number: int


class Came(NamedTuple):
    """That a prediction of `band` was `used`, or not in time."""

    band: Band
    used: bool


@dataclass(slots=True)
class Record:
    """How many predictions were made, and how many of them used; both fade with every prediction."""

    made: float = 0.0
    used: float = 0.0

    def add(self, used: bool) -> None:
        fade = 0.5 ** (1.0 / _HALF_LIFE)
        self.made = self.made * fade + 1.0
        self.used = self.used * fade + (1.0 if used else 0.0)

    def share(self) -> float | None:
        """The share that was used, in [0, 1]; `None` if there were none."""
        return self.used / self.made if self.made else None

    def interval(self) -> tuple[float, float]:
        """Wilson's score interval of that share, at 90 %: https://doi.org/10.1080/01621459.1927.10502953."""
        if not self.made:
            return 0.0, 1.0
        n, share = self.made, self.used / self.made
        middle = share + _Z * _Z / (2 * n)
        spread = _Z * math.sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
        scale = 1 + _Z * _Z / n
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(slots=True)
class _Open:
    """A prediction that may still come true."""

    id: str
    band: Band
    left: int


class TrackRecord:
    """Watches every prediction, whether or not something was done about it. Thread-safe.

    So it costs nothing to find out that predicting pays, or that it does not any more.

    Args:
        within: Of how many next questions of the user one must be the predicted one, for the prediction to be used.
    """

    def __init__(self, *, within: int = 3) -> None:
        self._within = within
        self._lock = threading.Lock()
        self._records: OrderedDict[Band, Record] = OrderedDict()
        self._on: dict[tuple[Band, float], bool] = {}
        self._open: OrderedDict[tuple[str, str], list[_Open]] = OrderedDict()
        self._unwritten: list[Came] = []
        self.made = 0
        self.used = 0

    def asked(self, user: str, scope: str, question: str, *, follows: bool = True) -> list[str]:
        """Which open predictions of this user the question makes true.

        Without `follows` it begins a new session: those that are open did not come true.
        """
        with self._lock:
            true, still = [], []
            for one in self._open.pop((scope, user), []):
                one.left -= 1
                if follows and one.id == question:
                    true.append(one.id)
                    self._close(one, used=True)
                elif follows and one.left > 0:
                    still.append(one)
                else:
                    self._close(one, used=False)
            if still:
                self._open[scope, user] = still
            return true

    def predicted(self, user: str, scope: str, likely: Iterable[Likely]) -> None:
        """Note predictions; one that is open already stays as it is."""
        with self._lock:
            known = self._open.pop((scope, user), [])
            ids = {one.id for one in known}
            for one in likely:
                number = _band(one.probability)
                if number > 0 and one.id not in ids:
                    known.append(_Open(one.id, Band(scope, number), self._within))
            if known:
                self._open[scope, user] = known
            while len(self._open) > _MAX_USERS:
                self._open.popitem(last=False)  # who never came back does not tell whether it would have come true

    def _close(self, one: _Open, *, used: bool) -> None:
        self.made += 1
        self.used += used
        self._count(Came(one.band, used))
        self._unwritten.append(Came(one.band, used))
        del self._unwritten[:-4_096]

    def _count(self, came: Came) -> None:
        record = self._records.pop(came.band, None) or Record()
        record.add(came.used)
        self._put(came.band, record)

    def _put(self, band: Band, record: Record) -> None:
        self._records[band] = record
        while len(self._records) > _MAX_SCOPES * len(_BANDS):
            gone, _ = self._records.popitem(last=False)
            for key in [key for key in self._on if key[0] == gone]:
                del self._on[key]

    def record(self, scope: str, probability: float) -> Record:
        """The record of predictions like one of this probability; a copy."""
        with self._lock:
            found = self._records.get(Band(scope, _band(probability)), Record())
            return Record(found.made, found.used)

    def worthwhile(self, scope: str, probability: float, *, needed: float) -> bool:
        """Whether predictions like this one are used often enough: at least a share of `needed`, in (0, 1).

        It begins to be worthwhile when that is all but certain (the lower end of the interval), and ends when it looks
        untrue (the share itself is below), so that it does not go on and off with every question.
        """
        band = Band(scope, _band(probability))
        with self._lock:
            record = self._records.get(band)
            if record is None or band.number == 0:
                return False
            was = self._on.get((band, needed), False)
            share = record.share() or 0.0
            now = share >= needed if was else record.made >= _FEWEST and record.interval()[0] >= needed
            if now != was:
                self._on[band, needed] = now
            return now

    # --- keeping it --------------------------------------------------------------------------------------------------

    def take_unwritten(self) -> list[Came]:
        """What nobody has written yet, oldest first; from now on it is the caller's."""
        with self._lock:
            taken, self._unwritten = self._unwritten, []
            return taken

    def put_back(self, taken: Sequence[Came]) -> None:
        """Give back what could not be written."""
        with self._lock:
            self._unwritten = [*taken, *self._unwritten][-4_096:]

    def take_over(self, known: Mapping[Band, Record]) -> None:
        """Replace these records by what the database knows, and count again what it does not know yet."""
        with self._lock:
            for band, record in known.items():
                self._records.pop(band, None)
                self._put(band, record)
            for came in self._unwritten:
                if came.band in known:
                    known[came.band].add(came.used)

    def start_in_child(self) -> None:
        """After a fork: what is unwritten is the parent's, and a thread that is not here may have held the lock."""
        self._lock = threading.Lock()
        self._unwritten = []

    def forget(self, *, scope: str | None = None, user: str | None = None) -> None:
        """Forget the records of a scope, or all; of a user only what is open, since nothing else names users.

        `scope`: also of scopes whose names begin like this.
        """
        beginning = scope or ""
        with self._lock:
            for key in [key for key in self._open if key[0].startswith(beginning) and user in (None, key[1])]:
                del self._open[key]
            if user is not None:
                return
            for band in [band for band in self._records if band.scope.startswith(beginning)]:
                del self._records[band]
            self._on = {key: on for key, on in self._on.items() if not key[0].scope.startswith(beginning)}
            self._unwritten = [came for came in self._unwritten if not came.band.scope.startswith(beginning)]


def _band(probability: float) -> int:
    return bisect.bisect_right(_BANDS, probability)
