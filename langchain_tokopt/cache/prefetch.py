"""What is likely to be asked next is loaded into memory; and, if the user pays for it, answered ahead."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.background import Background
from langchain_tokopt.cache.precompute import Known, Paid, Precompute, paying
from langchain_tokopt.cache.prediction import EVERYBODY, Likely, Successions
from langchain_tokopt.cache.prediction_store import SuccessionStore
from langchain_tokopt.cache.prefetch_report import Key, PrefetchReport, Tally
from langchain_tokopt.cache.track_record import TrackRecord
from langchain_tokopt.forks import follow_forks
from langchain_tokopt.later import AbandonedError, Later
from langchain_tokopt.pricing import Pricing

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

_BATCH: Final = 64  # observations that are written together
_LOADED: Final = 10_000
_WORTH_LOADING: Final = 0.1  # share of used predictions from which an entry is worth being read ahead
_MAX_ID: Final = 64


class Prefetch:
    """Watches what is asked, and acts on what is likely next where that pays. Thread-safe.

    It never delays an answer: the database is read and written in threads of its own, and answers ahead are made by
    `Later`. It never fails one either: what goes wrong is logged once, and goes on in memory. It acts only after its
    own track record shows that it pays, scope by scope; a question whose user is not known teaches it nothing.

    Args:
        database: Gives the database that observations are kept in; called in a thread, at the first use.
        preload: Loads entries into memory, called in a thread with a scope and ids; returns those that it loaded.
            `None` for off.
        precompute: Whether and for how much likely answers are made ahead; `None` for off.
        pricing: What calls cost.
        successions: The model of what follows what.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        database: Callable[[], Database],
        preload: Callable[[str, Sequence[str]], Collection[str]] | None = None,
        precompute: Precompute | None = None,
        pricing: Pricing | None = None,
        successions: Successions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.record = TrackRecord()
        self.precompute = precompute
        self._successions = successions or Successions(clock=clock)
        self._database = database
        self._preload = preload
        self._pricing = pricing or Pricing()
        self._clock = clock
        self._aside = Background(limit=2)
        self._store: SuccessionStore | None = None
        self._loaded: OrderedDict[Key, None] = OrderedDict()
        self._tally = Tally()
        self._under_way: set[Key] = set()
        self._failures_logged: set[str] = set()
        self._start_anew()
        follow_forks(self, level=1)  # the database rests below

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._writing = False

    # --- one question ------------------------------------------------------------------------------------------------

    def asked(self, user: str | None, scope: str, question: str, *, hit: bool) -> list[Likely]:
        """What is likely next, the likeliest first; what pays is loaded into memory meanwhile.

        Args:
            user: Who asks, as a digest or a short name; `None` if that is not known.
            scope: Within which what follows what is learned, without the earlier turns of the conversation.
            question: What questions with the same answer have in common, at most 64 characters.
            hit: Whether the cache answered.
        """
        self._tally.asked((scope, question), hit=hit)
        if not user or not 0 < len(question) <= _MAX_ID or len(user) > _MAX_ID or len(scope) > _MAX_ID:
            return []
        seen = self._successions.observe(user, scope, question)
        if seen.repeated:
            return []
        self.record.asked(user, scope, question, follows=seen.follows)
        self._load((scope, EVERYBODY), (scope, user))
        likely = self._successions.predict(user, scope, seen.recent)
        self.record.predicted(user, scope, likely)
        self._load_ahead(scope, likely)
        if self._successions.unwritten() >= _BATCH:
            self._write_soon()
        return likely

    def _load_ahead(self, scope: str, likely: Sequence[Likely]) -> None:
        preload = self._preload
        if preload is None:
            return
        ids = [one.id for one in likely if self.record.worthwhile(scope, one.probability, needed=_WORTH_LOADING)]
        ids = self._tally.to_load(scope, ids)
        if not ids:
            return

        def load() -> None:
            self._tally.loaded(scope, preload(scope, ids))

        if not self._aside.run(load, self._failed):
            self._tally.not_loaded(scope, ids)

    # --- answers ahead -----------------------------------------------------------------------------------------------

    def ahead(
        self,
        scope: str,
        likely: Sequence[Likely],
        *,
        known: Callable[[str], Known | None],
        request_for: Callable[[str], ModelRequest[Any] | None],
        store: Callable[[ModelRequest[Any], ModelResponse[Any]], bool],
    ) -> Iterator[Later]:
        """The calls to be made in the background, for a flow to yield one by one.

        Args:
            scope: As in `asked`.
            likely: What `asked` gave.
            known: What the cache knows of a question; `None` for nothing. Called in the flow's own step, and only
                where a prediction is worth its price.
            request_for: The request that a question's text would make, `None` if that cannot be told; called likewise.
            store: Stores an answer; whether it was one to be stored. Called in a worker thread.
        """
        settings = self.precompute
        if settings is None:
            return
        for one in likely:
            key = (scope, one.id)
            if key in self._under_way:
                continue
            if not self.record.worthwhile(scope, one.probability, needed=settings.needed):
                self._tally.refused("too seldom used")
                continue
            try:
                found = known(one.id)
                if found is None or not self._missing(found, settings):
                    continue
                request = request_for(found.text)
            except Exception as error:
                self._failed(error)
                return
            if request is not None:
                yield self._later(key, request, found, settings, store)

    def _missing(self, found: Known, settings: Precompute) -> bool:
        return found.fresh_until is None or found.fresh_until <= self._clock() + settings.before_expiry_seconds

    def _later(
        self,
        key: Key,
        request: ModelRequest[Any],
        found: Known,
        settings: Precompute,
        store: Callable[[ModelRequest[Any], ModelResponse[Any]], bool],
    ) -> Later:
        bill: list[Paid] = []

        def then(response: ModelResponse[Any]) -> None:
            try:
                stored = store(request, response)
            finally:
                self._under_way.discard(key)
            self._tally.made(key, bill[0] if bill else None, stored=stored)

        def otherwise(error: BaseException) -> None:
            self._under_way.discard(key)
            self._tally.refused(error.reason if isinstance(error, AbandonedError) else "the call failed")

        def paid(what: Paid) -> None:
            bill.append(what)
            self._tally.paid(what)

        self._under_way.add(key)
        through = paying(
            settings=settings,
            usage=found.usage,
            store=self._opened,
            pricing=self._pricing,
            clock=self._clock,
            paid=paid,
        )
        return Later(request, then, otherwise, through=through)

    # --- keeping it --------------------------------------------------------------------------------------------------

    def _opened(self) -> SuccessionStore:
        with self._opening:
            if self._store is None:
                self._store = SuccessionStore(self._database())
            return self._store

    def _load(self, *keys: Key) -> None:
        """Read what the database knows of these, once each; it counts from the next question on."""
        for key in keys:
            with self._lock:
                if key in self._loaded:
                    self._loaded.move_to_end(key)
                    continue
                self._loaded[key] = None
                while len(self._loaded) > _LOADED:
                    self._loaded.popitem(last=False)
            if not self._aside.run(partial(self._load_now, key), self._failed):
                with self._lock:
                    self._loaded.pop(key, None)  # too much at once: the next time

    def _load_now(self, key: Key) -> None:
        scope, user = key
        places, records = self._opened().load(user, scope)
        self._successions.take_over(places)
        self.record.take_over(records)

    def _write_soon(self) -> None:
        with self._lock:
            if self._writing:
                return
            self._writing = True

        def write() -> None:
            try:
                self._opened().write(self._successions, self.record)
            finally:
                self._writing = False

        if not self._aside.run(write, self._failed):
            self._writing = False

    def flush(self) -> None:
        """Write down what was observed. A database that cannot be used is logged once."""
        try:
            self._opened().write(self._successions, self.record)
        except Exception as error:
            self._failed(error)

    def drain(self, timeout_seconds: float) -> bool:
        """Whether all that is being read and written in the background was done within that time."""
        return self._aside.drain(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Write down what was observed, and stop. What is under way has `timeout_seconds` to finish."""
        self._aside.close(timeout_seconds)
        if self._successions.unwritten():
            self.flush()

    def forget(self, *, scope: str | None = None, user: str | None = None) -> None:
        """Forget what was learned in a scope (or in all whose names begin like it) or about a user, or everything.

        Raises:
            StoreError: The database cannot be used.
        """
        self._successions.forget(scope=scope, user=user)
        self.record.forget(scope=scope, user=user)
        self._opened().forget(scope=scope, user=user)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, AbandonedError):
            return
        kind = type(error).__name__
        with self._lock:
            new = kind not in self._failures_logged
            self._failures_logged.add(kind)
        if new:
            log.warning("predicting goes on in memory only: %s: %s", kind, error)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        """What is unwritten and under way is the parent's."""
        self._start_anew()
        self._under_way.clear()
        for part in (self._successions, self.record, self._tally):
            part.start_in_child()

    # --- telling -----------------------------------------------------------------------------------------------------

    def report(self) -> PrefetchReport:
        """What predicting did in this process so far."""
        return self._tally.report(self.record)
