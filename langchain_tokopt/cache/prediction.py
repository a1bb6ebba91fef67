"""Which question follows which: a Markov model of order 1 and 2, per user and for all users of a scope.

The four chains (all users after one question, after two, this user after one, after two) are mixed from the general to
the particular, as in a hierarchical Dirichlet language model: a chain that has seen N continuations says
`(count + strength * what the more general chains say) / (N + strength)`. So a chain that knows little leaves the word
to the others; what none of them has seen keeps the rest of the probability. How much a chain must know before it is
believed is learned for each chain of a scope: of a few strengths the one that would have foretold best what was asked.
Users who all do the same, and users with routines of their own, need different ones.

D. J. C. MacKay and L. C. Bauman Peto, "A hierarchical Dirichlet language model", Natural Language Engineering 1(3),
1995, https://doi.org/10.1017/S1351324900000218.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from langchain_tokopt.errors import ConfigurationError

EVERYBODY: Final = ""
_MAX_USERS: Final = 10_000
_MAX_SCOPES: Final = 1_024
_STRENGTHS: Final = (0.5, 2.0, 8.0, 32.0)
_FIRST_STRENGTH: Final = 1
_NEVER_SEEN: Final = 1e-3  # the probability of a question that no chain knows, when chains are compared
_FADE: Final = 0.99  # of a strength's losses, with every observation
_UNWRITTEN: Final = 4_096  # observations that wait to be written; without a database the latest of them are kept


class Likely(NamedTuple):
    """A question that may come next, with its probability in (0, 1]."""

    id: str
    probability: float


class Observed(NamedTuple):
    """The user's latest questions in a scope, the latest last; and what the new one is to them.

    `follows`: it belongs to the same session as those before. `repeated`: it was asked again at once, which is no news.
    """

    recent: tuple[str, ...]
    follows: bool
    repeated: bool


class Place(NamedTuple):
    """What a chain's counts are about: after the questions `after` (one or two ids, the latest last), in a scope.

    `user` is `EVERYBODY` for all users of the scope together.
    """

    scope: str
    user: str
    after: tuple[str, ...]


class Seen(NamedTuple):
    """That `then` was asked at `at` (Unix time)."""

    place: Place
    then: str
    at: float


@dataclass(slots=True)
class Followers:
    """What was asked after a `Place`, with counts that halve with time.

    `counts` hold the most frequent only. A newcomer takes the place of one that is worth no more than a single
    question, and wears down the smallest otherwise, as in J. Misra and D. Gries, "Finding repeated elements", Science
    of Computer Programming 2(2), 1982; `total` counts all.
    """

    at: float
    total: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)

    def aged(self, now: float, half_life: float) -> None:
        """Bring the counts to `now`."""
        if now <= self.at:
            return
        left = 0.5 ** ((now - self.at) / half_life)
        self.at = now
        self.total *= left
        for then in self.counts:
            self.counts[then] *= left

    def add(self, then: str, limit: int) -> None:
        """Count one more."""
        self.total += 1.0
        if then in self.counts or len(self.counts) < limit:
            self.counts[then] = self.counts.get(then, 0.0) + 1.0
            return
        smallest = min(self.counts, key=lambda known: (self.counts[known], known))
        if self.counts[smallest] <= 1.0:
            del self.counts[smallest]
            self.counts[then] = 1.0
        else:
            self.counts[smallest] -= 1.0


class Successions:
    """The model. Bounded in memory and thread-safe; knows no database, see `SuccessionStore`.

    Args:
        half_life_seconds: After how long an observation counts half.
        session_seconds: After which pause a question is taken to follow none.
        max_places: How many `Place`s are remembered; the least recently used go first.
        max_followers: How many continuations of a place are counted, the most frequent.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        half_life_seconds: float = 14 * 86_400.0,
        session_seconds: float = 1_800.0,
        max_places: int = 50_000,
        max_followers: int = 8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, seconds in (("half_life_seconds", half_life_seconds), ("session_seconds", session_seconds)):
            if not seconds > 0:
                raise ConfigurationError(name, seconds, "use a number of seconds above 0")
        for name, count in (("max_places", max_places), ("max_followers", max_followers)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigurationError(name, count, "use a whole number of at least 1")
        self.half_life_seconds = half_life_seconds
        self.max_followers = max_followers
        self._session_seconds = session_seconds
        self._max_places = max_places
        self._clock = clock
        self._lock = threading.Lock()
        self._followers: OrderedDict[Place, Followers] = OrderedDict()
        self._recent: OrderedDict[tuple[str, str], tuple[tuple[str, ...], float]] = OrderedDict()
        self._losses: OrderedDict[str, list[list[float]]] = OrderedDict()
        self._unwritten: list[Seen] = []

    def __len__(self) -> int:
        return len(self._followers)

    def observe(self, user: str, scope: str, question: str) -> Observed:
        """Learn that the user asked this. The `recent` of the result is what `predict` is asked with."""
        now = self._clock()
        with self._lock:
            recent, at = self._recent.pop((scope, user), ((), now))
            follows = bool(recent) and now - at <= self._session_seconds
            repeated = follows and recent[-1] == question
            if not follows:
                recent = ()
            if not repeated:
                self._compare(user, scope, recent, question, now)
                for place in _places(user, scope, recent):
                    self._learn(Seen(place, question, now))
                recent = (*recent, question)[-2:]
            self._recent[scope, user] = recent, now
            while len(self._recent) > _MAX_USERS:
                self._recent.popitem(last=False)
            return Observed(recent, follows, repeated)

    def _compare(self, user: str, scope: str, recent: Sequence[str], question: str, now: float) -> None:
        """Note how well each strength of each chain would have foretold the question."""
        losses = self._losses.pop(scope, None) or [[0.0] * len(_STRENGTHS) for _ in range(4)]
        self._losses[scope] = losses
        while len(self._losses) > _MAX_SCOPES:
            self._losses.popitem(last=False)
        general = _NEVER_SEEN
        for place in _places(user, scope, recent):
            known = self._followers.get(place)
            if known is None:
                continue
            known.aged(now, self.half_life_seconds)
            count = known.counts.get(question, 0.0)
            loss = losses[_chain(place)]
            best = _best(loss)
            told = [(count + strength * general) / (known.total + strength) for strength in _STRENGTHS]
            loss[:] = [_FADE * before - math.log(max(chance, 1e-9)) for before, chance in zip(loss, told, strict=True)]
            general = told[best]

    def _learn(self, seen: Seen) -> None:
        known = self._followers.pop(seen.place, None) or Followers(seen.at)
        known.aged(seen.at, self.half_life_seconds)
        known.add(seen.then, self.max_followers)
        self._put(seen.place, known)
        self._unwritten.append(seen)
        if len(self._unwritten) > _UNWRITTEN:
            del self._unwritten[: _UNWRITTEN // 2]

    def _put(self, place: Place, known: Followers) -> None:
        self._followers[place] = known
        while len(self._followers) > self._max_places:
            self._followers.popitem(last=False)

    def predict(self, user: str, scope: str, recent: Sequence[str], *, k: int = 3) -> list[Likely]:
        """At most `k` questions that may follow the `recent` ones (the latest last), the likeliest first."""
        now = self._clock()
        odds: dict[str, float] = {}
        with self._lock:
            losses = self._losses.get(scope)
            for place in _places(user, scope, recent):
                known = self._followers.get(place)
                if known is None:
                    continue
                self._followers.move_to_end(place)
                known.aged(now, self.half_life_seconds)
                strength = _STRENGTHS[_best(losses[_chain(place)]) if losses else _FIRST_STRENGTH]
                weight = known.total + strength
                odds = {
                    then: (known.counts.get(then, 0.0) + strength * odds.get(then, 0.0)) / weight
                    for then in odds.keys() | known.counts.keys()
                }
        likely = [Likely(then, chance) for then, chance in odds.items() if then != recent[-1]]
        return sorted(likely, key=lambda one: (-one.probability, one.id))[:k]

    # --- keeping it --------------------------------------------------------------------------------------------------

    def unwritten(self) -> int:
        """How many observations wait to be written."""
        return len(self._unwritten)

    def take_unwritten(self) -> list[Seen]:
        """The observations that nobody has written yet, oldest first; from now on they are the caller's."""
        with self._lock:
            taken, self._unwritten = self._unwritten, []
            return taken

    def put_back(self, taken: list[Seen]) -> None:
        """Give back what could not be written."""
        with self._lock:
            self._unwritten = [*taken, *self._unwritten][-_UNWRITTEN:]

    def take_over(self, known: Mapping[Place, Followers]) -> None:
        """Replace what is known of these places by what the database knows, and count again what it does not yet."""
        with self._lock:
            for place, followers in known.items():
                self._followers.pop(place, None)
                self._put(place, followers)
            for seen in self._unwritten:
                if seen.place in known:
                    found = known[seen.place]
                    found.aged(seen.at, self.half_life_seconds)
                    found.add(seen.then, self.max_followers)

    def start_in_child(self) -> None:
        """After a fork: what is unwritten is the parent's, and a thread that is not here may have held the lock."""
        self._lock = threading.Lock()
        self._unwritten = []

    def forget(self, *, scope: str | None = None, user: str | None = None) -> None:
        """Forget a scope, a user (what all users did stays counted), a user in a scope, or everything.

        `scope`: also of scopes whose names begin like this.
        """

        def meant(one_scope: str, one_user: str) -> bool:
            return (scope is None or one_scope.startswith(scope)) and (user is None or one_user == user)

        with self._lock:
            for place in [place for place in self._followers if meant(place.scope, place.user)]:
                del self._followers[place]
            for key in [key for key in self._recent if meant(*key)]:
                del self._recent[key]
            self._unwritten = [seen for seen in self._unwritten if not meant(seen.place.scope, seen.place.user)]


def _places(user: str, scope: str, recent: Sequence[str]) -> Iterable[Place]:
    """What the recent questions are looked up under, the most general first."""
    contexts = [tuple(recent[-length:]) for length in (1, 2) if len(recent) >= length]
    users = (EVERYBODY, user) if user != EVERYBODY else (EVERYBODY,)
    return itertools.starmap(Place, ((scope, one, context) for one in users for context in contexts))


def _chain(place: Place) -> int:
    """Which of the four chains a place belongs to, the most general first."""
    return (0 if place.user == EVERYBODY else 2) + len(place.after) - 1


def _best(losses: Sequence[float]) -> int:
    """Index of the strength that foretold best; of equals the one to begin with."""
    return min(range(len(losses)), key=lambda n: (losses[n], abs(n - _FIRST_STRENGTH)))
