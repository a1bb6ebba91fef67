"""Finds answers and keeps new ones, and learns from both; one desk for each kind of cache."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from langchain_tokopt.cache.chores import Chores
from langchain_tokopt.cache.comparing import Comparing, answer_text
from langchain_tokopt.cache.decision import Decider, Threshold, Verdict
from langchain_tokopt.cache.decision.evidence import FEATURES
from langchain_tokopt.cache.decision.learned import Learned
from langchain_tokopt.cache.decision.record import DatabaseRecord, Label, MemoryRecord, Record
from langchain_tokopt.cache.decision.steering import Sums
from langchain_tokopt.cache.judging import Bench, find_judge
from langchain_tokopt.cache.settings import CacheSettings, Resources
from langchain_tokopt.cache.store import AnswerStore, Found
from langchain_tokopt.cache.turned_down import TurnedDown

if TYPE_CHECKING:
    from langchain_tokopt.cache.entries import Source

log = logging.getLogger("langchain_tokopt")

_FIRST_TWINS: Final = 30  # exact hits that are audited often, until it is known how much two answers differ
_TWIN_RATES: Final = (0.05, 0.002)
_LAST_SECONDS: Final = 5.0  # that are given to what is being learned when the cache is closed
_LAST_OPINIONS_SECONDS: Final = 1.0  # the same with a judge of the user's own, which may hang


class Question(Protocol):
    """What a desk must know of a request; `CacheKey` is one."""

    @property
    def scope(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def exact(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def exact_only(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What the store found, and whether the model is to be asked beside."""

    found: Found
    audit: bool = False


class AnswerDesk:
    """A store, the decision over it, and what that learns from.

    Args:
        kind: Tells apart caches that share a database.
        settings: The user's.
        resources: The embedder and the database.
        clock: Unix time in seconds.
    """

    def __init__(self, kind: str, settings: CacheSettings, resources: Resources, *, clock: Callable[[], float]) -> None:
        database = resources.database(clock)
        embeddings = resources.embeddings()
        self.chores = chores = Chores()
        self.learned: Learned | None = None
        self.comparing: Comparing | None = None
        self.bench: Bench | None = None
        decider: Decider = Threshold(settings.plain_threshold)
        if settings.max_error is not None:
            judge = "judge" if callable(settings.judge) else settings.judge
            record = _LaterRecord(
                ready=lambda: embeddings.loaded,
                make=lambda: DatabaseRecord(
                    database, book=f"{kind}|{embeddings.name}|{judge}"[:320], width=len(FEATURES)
                ),
            )
            decider = self.learned = Learned(
                settings.max_error,
                record=record,
                audit_rate=settings.audit_rate,
                warm_up=settings.warm_up_requests,
                background=self.chores.ask,
                rehearse=self._rehearse,
                seed=settings.seed,
            )
        self.store = AnswerStore(
            database,
            embeddings,
            kind=kind,
            decider=decider,
            eviction=settings.eviction,
            max_entries=settings.max_entries,
            max_bytes=settings.max_bytes,
            max_entry_bytes=settings.max_entry_bytes,
            ttl_jitter=settings.ttl_jitter,
            max_scopes=settings.max_scopes,
            neighbours=settings.neighbours,
            on_embedder_change=settings.on_embedder_change,
            index_folder=settings.index_folder,
            clock=clock,
        )
        self.turned_down = TurnedDown(database, clock=clock)
        if self.learned is not None:
            self.bench = Bench(
                find_judge(settings.judge, resources.embeddings),
                timeout_seconds=settings.judge_timeout_seconds,
                quick=not callable(settings.judge),
                wanted=lambda: chores.wanted,
            )
            self.comparing = Comparing(
                store=self.store,
                learned=self.learned,
                bench=self.bench,
                chores=self.chores,
                candidates=settings.candidates,
                seed=settings.seed,
            )
        self._lot = np.random.default_rng(settings.seed)
        self._lock = threading.Lock()

    def _rehearse(self) -> Sequence[Label]:
        return self.comparing.rehearse() if self.comparing is not None else ()

    # --- finding -----------------------------------------------------------------------------------------------------

    def find(self, question: Question, *, again: bool = False) -> Finding:
        """What is stored for a question. `again`: this request has looked before, and is counted once."""
        if self.learned is not None and not again:
            self.learned.asked()
        found = self.store.find(question.scope, question.exact, question.text, exact_only=question.exact_only)
        if found.how == "semantic" and self.turned_down.holds(question.scope, question.exact):
            return Finding(self._withdrawn(found, "a user turned the answer down"))
        if found.how == "exact":
            return Finding(found, audit=self._audit_twin())
        return Finding(found, audit=found.verdict is not None and found.verdict.audit)

    def _withdrawn(self, found: Found, reason: str) -> Found:
        verdict = found.verdict
        if self.learned is not None and verdict is not None:
            self.learned.withdrawn(verdict)
            verdict = replace(verdict, serve=False, audit=False)
        return Found(similarity=found.similarity, reason=reason, verdict=verdict)

    def _audit_twin(self) -> bool:
        if self.learned is None or self.bench is None:
            return False
        known = self.learned.sums.twins >= _FIRST_TWINS
        with self._lock:
            return bool(self._lot.random() < _TWIN_RATES[known])

    # --- keeping -----------------------------------------------------------------------------------------------------

    def keep(
        self,
        question: Question,
        payload: str,
        *,
        spent: str | None,
        tags: tuple[str, ...] = (),
        ttl_seconds: float | None,
        value_nano_usd: int | None,
        verdict: Verdict | None = None,
        source: Source = "model",
    ) -> int | None:
        """The id under which an answer was stored, `None` if it is too big. What the model said is learned from.

        `verdict`: what was decided about the neighbours before the model was asked.
        """
        entry = self.store.keep(
            scope=question.scope,
            owner=question.owner,
            exact=question.exact,
            question=question.text,
            payload=payload,
            semantic=question.exact_only is None,
            spent=spent,
            tags=tags,
            ttl_seconds=ttl_seconds,
            value_nano_usd=value_nano_usd,
            source=source,
        )
        if entry is not None and self.comparing is not None and verdict is not None:
            text = answer_text(payload)
            if text is not None:
                self.comparing.stored(question.text, verdict, entry, text)
        return entry

    # --- the whole ---------------------------------------------------------------------------------------------------

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Whether all that is done in the background was done within this time."""
        return self.chores.settle(timeout_seconds)

    def stats(self) -> dict[str, Any]:
        """What the store and the decision tell of themselves."""
        told: dict[str, Any] = {"entries": self.store.entries.count(), **self.store.counts()}
        if self.learned is not None:
            told["decision"] = self.learned.stats()
        if self.bench is not None and self.comparing is not None:
            told["judge_failures"] = self.bench.failures
            told["comparisons_given_up"] = self.comparing.given_up
        return told

    def close(self) -> None:
        """Write down what is pending and end what is done in the background. What cannot be written is logged."""
        self.chores.settle(_LAST_SECONDS if self.bench is None or self.bench.quick else _LAST_OPINIONS_SECONDS)
        self.chores.close()
        failed: Exception | None = None
        for part in (self.learned.flush if self.learned is not None else None, self.store.close):
            try:
                if part is not None:
                    part()
            except Exception as error:  # the database may be gone, or read-only
                failed = failed or error
        if failed is not None:
            log.warning("the cache could not write down its latest: %s: %s", type(failed).__name__, failed)


class _LaterRecord:
    """A record that is opened once the embedder is in use: only then it has a name, and only then there are labels."""

    def __init__(self, *, ready: Callable[[], bool], make: Callable[[], Record]) -> None:
        self._ready = ready
        self._make = make
        self._before = MemoryRecord()
        self._record: Record | None = None

    def add(self, labels: Sequence[Label], sums: Sums) -> None:
        self._in_use().add(labels, sums)

    def read(self, after: int) -> tuple[int, list[Label], Sums]:
        return self._in_use().read(after)

    def _in_use(self) -> Record:
        if self._record is None and self._ready():
            record = self._make()
            _, labels, sums = self._before.read(0)
            record.add(labels, sums)
            self._record = record
        return self._record if self._record is not None else self._before
