"""What the tool selection remembers: what calls taught, what was picked, and the vectors of tools."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks
from langchain_tokopt.memo import Memo
from langchain_tokopt.tools.intent import IntentClassifier
from langchain_tokopt.tools.lessons import newest_lesson
from langchain_tokopt.tools.picks import Picks
from langchain_tokopt.tools.usage import LearnedUsage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_tokopt.database import Database
    from langchain_tokopt.tools.index import ToolIndex
    from langchain_tokopt.tools.store import ToolStore

log = logging.getLogger("langchain_tokopt")

# What was learned is written when so many calls taught something, or after so long.
_FLUSH_CALLS = 16
_FLUSH_SECONDS = 10.0
# How often what other processes learned is read.
_REFRESH_SECONDS = 30.0
_CALLS_REMEMBERED = 8_192
# What is learned of kinds of tools is one value, and large: it is written seldom, and at the end.
_INTENTS = "intents"
_INTENTS_SECONDS = 300.0
_INTENT_HALF_LIFE = 5_000.0
_DAY_SECONDS = 86_400.0


class ToolMemory:
    """What is learned and kept about tools, here and in the database. Thread-safe; a failing database raises nothing.

    Args:
        database: Where it is kept; `None` keeps it in memory.
        learn: Whether calls teach anything.
        clock: Seconds from any start.
    """

    def __init__(
        self, database: Database | None = None, *, learn: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.learns = learn
        self._clock = clock
        self._store: ToolStore | None = None
        self._lock = threading.Lock()
        self._learned: Memo[bool] = Memo(limit=_CALLS_REMEMBERED)
        self._marks: dict[str, int] = {}
        self._recalled: set[tuple[str, bytes]] = set()
        self._not_before = clock()
        self._intents: dict[str, IntentClassifier] = {}  # by the embedder's name
        self._intents_kept_at = clock()
        self._cleaned_at: float | None = None
        self._flushed_at = self._refreshed_at = clock()
        self._problems: deque[Exception] = deque(maxlen=16)
        self._embedder = ""
        self.usage = LearnedUsage()
        self.picks = Picks()
        if database is not None:
            self.attach(database)
        follow_forks(self)

    def attach(self, database: Database) -> bool:
        """Keep everything in this database from now on, unless there is one already. Whether there was none."""
        if self._store is not None or not database.persistent:
            return False
        from langchain_tokopt.tools.store import ToolStore

        self._store = ToolStore(database)
        self.picks = Picks(self._store, failed=self._problems.append)
        return True

    def problems(self) -> tuple[Exception, ...]:
        """What went wrong with the database since this was last asked."""
        found = []
        while self._problems:
            found.append(self._problems.popleft())
        return tuple(found)

    @property
    def keeper(self) -> ToolMemory | None:
        """This object, where there is a database to keep vectors in."""
        return None if self._store is None else self

    def vectors(self, embedder: str, digests: Sequence[bytes]) -> Mapping[bytes, NDArray[np.float32]]:
        """The vectors that are kept for these digests, each float32 `[d]`."""
        found: dict[bytes, NDArray[np.float32]] = {}
        store = self._store
        if store is not None:
            self._try(lambda: found.update(store.vectors(embedder, digests)))
        return found

    def keep_vectors(self, embedder: str, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep vectors by their digests, where there is a database."""
        store = self._store
        if store is not None:
            self._try(lambda: store.keep_vectors(embedder, vectors))

    def recall(self, embedder: str, digests: Sequence[bytes]) -> None:
        """Take up what is kept about these tools, and now and then what other processes have learned."""
        store = self._store
        if store is None or not self.learns or self._clock() < self._not_before:
            return
        with self._lock:
            new = [digest for digest in digests if (embedder, digest) not in self._recalled]
            self._recalled.update((embedder, digest) for digest in new)
            due = self._clock() - self._refreshed_at >= _REFRESH_SECONDS
            if due:
                self._refreshed_at = self._clock()
        if new and not self._try(lambda: self._take_up(store, embedder, new)):
            self._not_before = self._clock() + _REFRESH_SECONDS
            with self._lock:
                self._recalled.difference_update((embedder, digest) for digest in new)
        if due:
            self._try(lambda: self._refresh(store, embedder))

    def intents(self, embedder: str) -> IntentClassifier:
        """What learns which kind of tool a text leads to, as it was kept for this embedder."""
        found = self._intents.get(embedder)
        if found is None:
            found = self._read_intents(embedder) or IntentClassifier(half_life=_INTENT_HALF_LIFE)
            with self._lock:
                found = self._intents.setdefault(embedder, found)
        return found

    def _read_intents(self, embedder: str) -> IntentClassifier | None:
        store = self._store
        kept: list[bytes | None] = []
        if store is not None:
            self._try(lambda: kept.append(store.blob(_blob_name(embedder))))
        try:
            return IntentClassifier.load(kept[0]) if kept and kept[0] else None
        except ConfigurationError as error:  # kept by another version: learned anew
            self._problems.append(error)
            return None

    def _keep_intents(self, store: ToolStore) -> None:
        self._intents_kept_at = self._clock()
        with self._lock:
            learned = dict(self._intents)
        for embedder, intents in learned.items():
            if intents.labels:
                self._try(partial(store.keep_blob, _blob_name(embedder), intents.save()))

    def learn_from(self, messages: Sequence[BaseMessage], index: ToolIndex) -> None:
        """Take note of the calls that succeeded since the last answer, each once."""
        if not self.learns:
            return
        lesson = newest_lesson(messages)
        if lesson is None:
            return
        with self._lock:
            new = [call_id for call_id in lesson.call_ids if self._learned.get(call_id) is None]
            for call_id in new:
                self._learned.put(call_id, True)
        if not new:
            return
        index.learn(lesson.text, lesson.called, before=lesson.before)
        self._embedder = index.embedder
        if self.usage.waiting >= _FLUSH_CALLS or self._clock() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was learned since the last time."""
        store, embedder = self._store, self._embedder
        if store is None:
            return
        self._flushed_at = self._clock()
        self._try(lambda: self.usage.flush(lambda deltas: store.add_usage(embedder, deltas)))
        if self._clock() - self._intents_kept_at >= _INTENTS_SECONDS:
            self._keep_intents(store)
        if self._cleaned_at is None or self._clock() - self._cleaned_at >= _DAY_SECONDS:
            self._cleaned_at = self._clock()
            self._try(store.cleanup)

    def close(self) -> None:
        """Write what was not written yet."""
        self.flush()
        if self._store is not None:
            self._keep_intents(self._store)
        for problem in {str(problem): problem for problem in self.problems()}.values():
            log.warning("what was learned of tools could not be kept (%s: %s)", type(problem).__name__, problem)

    def _take_up(self, store: ToolStore, embedder: str, digests: Sequence[bytes]) -> None:
        if embedder not in self._marks:
            self._marks[embedder] = store.revision(embedder)
        self.usage.merge(store.usage(embedder, digests))

    def _refresh(self, store: ToolStore, embedder: str) -> None:
        mark, rows = store.changed_since(embedder, self._marks.get(embedder, 0))
        self._marks[embedder] = mark
        self.usage.merge(rows)

    def _try(self, work: Callable[[], object]) -> bool:
        """Whether the work was done. What is not written now is written later, or forgotten: no agent waits for it."""
        try:
            work()
        except Exception as error:
            self._problems.append(error)
            return False
        return True

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


def _blob_name(embedder: str) -> str:
    return f"{_INTENTS} {hashlib.blake2b(embedder.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
