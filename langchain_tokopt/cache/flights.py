"""One model call for equal and near-equal questions that are asked at the same time: the first goes ahead.

The idea of a single flight is that of Go's `golang.org/x/sync/singleflight`; that similar questions share one, too, is
ours. Nothing is handed over: those who waited look into the cache again, where the same decision is taken as ever.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal

from typing_extensions import Self

from langchain_tokopt.cache.guard import difference
from langchain_tokopt.events import request_scope
from langchain_tokopt.flow import Pause
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_tokopt.cache.reading import Prepared

_MAX_FLIGHTS: Final = 10_000  # beyond that, questions are not held together any more
_MAX_COMPARED: Final = 256  # of the flights in a scope, the latest ones
_BUCKETS: Final = 1_024

_Situation = Literal["equal", "others", "begun", "full"]


@dataclass(frozen=True, slots=True)
class Question:
    """What near-equal questions are known by: the text, and its unit vector (float32 `[d]`)."""

    text: Prepared | str
    vector: NDArray[np.float32]

    def near(self, other: Question, threshold: float) -> bool:
        """Whether the cosine similarity reaches `threshold` and nothing in the words forbids it."""
        if self.vector.shape != other.vector.shape or float(self.vector @ other.vector) < threshold:
            return False
        return difference(self.text, other.text) is None


@dataclass(eq=False, slots=True)
class _Flight:
    """A question under way. `landed` tells whether it went well."""

    number: int
    begun: float
    question: Question | None
    landed: Future[bool] = field(default_factory=Future)


class Flights:
    """Who is ahead with which question. Waiting is bounded in time.

    Thread-safe; sync and async callers on any event loop wait for each other. Who is ahead with anything never waits,
    so nobody waits in a circle. A flow uses it like this::

        mark = flights.mark(scope)
        ...                                     # look into the cache: a hit ends here
        with flights.board(scope, exact, question=question, threshold=0.93, mark=mark) as turn:
            while (pause := turn.pause()) is not None:
                yield pause
                ...                             # look again: a hit ends here
            response = yield request
            ...                                 # store it

    Args:
        timeout_seconds: How long one caller waits at most, all in all; 0 for not at all.
        clock: Seconds that only go forward.
    """

    def __init__(self, timeout_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_seconds = timeout_seconds
        self.clock = clock
        self._start_anew()
        follow_forks(self)

    def _start_anew(self) -> None:
        self._numbers = itertools.count(1)
        self._flights: dict[Hashable, dict[Hashable, _Flight]] = {}
        self._under_way = 0
        self._leaders: Counter[str] = Counter()
        self._landings = [0] * _BUCKETS
        # Reentrant: the garbage collector may close a flow, and so end a turn, while this thread is inside.
        self._lock = threading.RLock()

    @property
    def under_way(self) -> int:
        """How many questions others may wait for."""
        return self._under_way

    def mark(self, scope: Hashable) -> int:
        """A mark in time. Taken before a look into the cache, it tells `board` whether a flight has landed since."""
        return self._landings[hash(scope) % _BUCKETS]

    def board(
        self,
        scope: Hashable,
        exact: Hashable | None,
        *,
        question: Question | None = None,
        threshold: float | None = None,
        mark: int | None = None,
    ) -> Turn:
        """A turn for the question `exact` of `scope`, which only holds for the block of a `with`.

        Args:
            scope: What questions must have in common to be compared at all.
            exact: What equal questions have in common; `None` to wait for nobody and hold up nobody.
            question: What near-equal questions are known by. Without it only equal ones are waited for.
            threshold: From which cosine similarity on a question under way is waited for; `None` for equal ones only.
            mark: Taken by `mark` before the last look. Without it that look is taken to be fresh.
        """
        return Turn(self, scope, exact, question, threshold, mark)

    # --- outside of a flow -------------------------------------------------------------------------------------------

    @contextmanager
    def turn(self, key: Hashable | None) -> Iterator[None]:
        """Inside, this caller is ahead with `key`, or whoever was ahead is done or too slow. `None`: no waiting."""
        with request_scope(), self.board(None, key) as turn:
            while (pause := turn.pause()) is not None:
                wait_for([pause.until], timeout=pause.seconds)
            yield

    @asynccontextmanager
    async def aturn(self, key: Hashable | None) -> AsyncIterator[None]:
        """`turn` for a caller on an event loop, which holds no worker thread meanwhile."""
        with request_scope(), self.board(None, key) as turn:
            while (pause := turn.pause()) is not None:
                await asyncio.wait([asyncio.wrap_future(pause.until)], timeout=pause.seconds)
            yield

    # --- what a turn asks --------------------------------------------------------------------------------------------

    def leads(self, caller: str) -> bool:
        """Whether others wait for this caller. It must not wait for them, then."""
        return caller in self._leaders

    def approach(self, turn: Turn, seen: int, now: float) -> tuple[_Situation, list[_Flight]]:
        """What `turn` meets: an equal question under way, others newer than number `seen` (the latest first), or none.

        If there are none, it has begun a flight of its own.
        """
        with self._lock:
            in_scope = self._flights.get(turn.scope, {})
            equal = in_scope.get(turn.exact)
            if equal is not None and not self._stale(equal, now):
                return "equal", [equal]
            if turn.threshold is not None:
                latest = itertools.islice(reversed(in_scope.values()), _MAX_COMPARED)
                new = [flight for flight in latest if flight.number > seen and not self._stale(flight, now)]
                if new:
                    return "others", new
            flight = self._begin(turn, now)
            return ("begun", [flight]) if flight is not None else ("full", [])

    def end(self, turn: Turn, flight: _Flight, *, well: bool) -> None:
        """Let those who wait for `flight` go on."""
        with self._lock:
            self._forget(turn.scope, turn.exact, flight)
            if turn.caller in self._leaders:  # or the process has forked meanwhile
                self._leaders[turn.caller] -= 1
                if not self._leaders[turn.caller]:
                    del self._leaders[turn.caller]
            if well:
                self._landings[hash(turn.scope) % _BUCKETS] += 1
        flight.landed.set_result(well)

    def _stale(self, flight: _Flight, now: float) -> bool:
        """Whether everybody who waited for it has given up: then a new one may begin."""
        return now - flight.begun >= self.timeout_seconds

    def _begin(self, turn: Turn, now: float) -> _Flight | None:
        """The flight that `turn` leads from now on; `None` if there are too many."""
        if self._under_way >= _MAX_FLIGHTS:
            self._forget_stale(now)
            if self._under_way >= _MAX_FLIGHTS:
                return None
        flight = _Flight(next(self._numbers), now, turn.question)
        flight.landed.set_running_or_notify_cancel()  # so that no waiter can cancel it for the others
        in_scope = self._flights.setdefault(turn.scope, {})
        if in_scope.pop(turn.exact, None) is None:
            self._under_way += 1
        in_scope[turn.exact] = flight
        self._leaders[turn.caller] += 1
        return flight

    def _forget(self, scope: Hashable, exact: Hashable, flight: _Flight) -> None:
        in_scope = self._flights.get(scope, {})
        if in_scope.get(exact) is flight:  # or a new one has taken its place
            del in_scope[exact]
            self._under_way -= 1
            if not in_scope:
                del self._flights[scope]

    def _forget_stale(self, now: float) -> None:
        every = [(scope, exact, flight) for scope, some in self._flights.items() for exact, flight in some.items()]
        for scope, exact, flight in every:
            if self._stale(flight, now):
                self._forget(scope, exact, flight)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        """Whoever was ahead is in the parent, and nobody here hears of it."""
        self._start_anew()


class Turn:
    """One caller's turn; see `Flights.board`. Used as a context manager, which lands the flight if it leads one."""

    def __init__(
        self,
        flights: Flights,
        scope: Hashable,
        exact: Hashable | None,
        question: Question | None,
        threshold: float | None,
        mark: int | None,
    ) -> None:
        self.scope = scope
        self.exact = exact
        self.question = question
        self.threshold = threshold if question is not None else None
        self.caller = ""
        self._flights = flights
        self._mark = mark
        self._deadline: float | None = None
        self._flight: _Flight | None = None
        self._waiting: tuple[_Flight, bool] | None = None
        self._goes_on = exact is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            self._flights.end(self, flight, well=error is None)

    @property
    def leads(self) -> bool:
        """Whether others wait for this turn."""
        return self._flight is not None

    def pause(self) -> Pause | None:
        """What to wait for before the cache is looked into again; `None` when the model is to be called.

        An equal question that went well, and whose answer is not in the cache all the same, is not waited for again:
        its answer was not one to be stored. One that failed is followed by one of those who waited; the others wait
        for that one. After a near-equal question only equal ones are waited for.
        """
        if self._goes_on or self._flight is not None:
            return None
        now = self._flights.clock()
        if self._deadline is None:
            with request_scope() as request:
                self.caller = request
            self._deadline = now + self._flights.timeout_seconds
        if self._flights.leads(self.caller) or now >= self._deadline or not self._may_wait_again():
            self._goes_on = True
            return None
        found = self._found(now)
        if found is not None:
            self._waiting = found
            return self._wait_for(found[0].landed, self._deadline - now)
        if self._flight is not None and self._mark not in (None, self._flights.mark(self.scope)):
            # Somebody's answer was stored after the last look, and before this turn began to hold up others.
            return self._wait_for(_over(), 0.0)
        return None

    def _may_wait_again(self) -> bool:
        """Whether it makes sense to wait once more, or to go ahead for others."""
        if self._waiting is None:
            return True
        (flight, near), self._waiting = self._waiting, None
        if not flight.landed.done():
            return False
        if near and flight.landed.result():
            self.threshold = None
        return near or not flight.landed.result()

    def _found(self, now: float) -> tuple[_Flight, bool] | None:
        """The flight to wait for, and whether it is only near. If there is none, this turn leads one from now on."""
        seen = 0
        while True:
            situation, flights = self._flights.approach(self, seen, now)
            if situation == "equal":
                return flights[0], False
            if situation == "begun":
                self._flight = flights[0]
                return None
            if situation == "full":
                self._goes_on = True
                return None
            # Compared outside of the lock; whoever boards meanwhile is compared in the next round.
            seen = flights[0].number
            for flight in flights:
                if self._near(flight):
                    return flight, True

    def _near(self, flight: _Flight) -> bool:
        if self.question is None or self.threshold is None or flight.question is None:
            return False
        return self.question.near(flight.question, self.threshold)

    def _wait_for(self, until: Future[bool], seconds: float) -> Pause:
        if self._mark is not None:
            self._mark = self._flights.mark(self.scope)
        return Pause(until, seconds)


def _over() -> Future[bool]:
    done: Future[bool] = Future()
    done.set_result(True)
    return done
