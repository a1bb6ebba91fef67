"""What successful calls taught about tools: by a tool's digest, in any registry that holds it."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.forks import follow_forks
from langchain_tokopt.tools.usage_index import Centroids, WordIndex
from langchain_tokopt.tools.usage_sums import UsageSums, lessons_of, term_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_TOOLS: Final = 10_000  # that no registry in use holds


class LearnedUsage:
    """What was learned about tools from the questions that led to successful calls. Thread-safe.

    A tool is known by the digest of what the model sees of it: one that changed starts anew, and one that did not is
    known in every registry. Of a question its vector and hashes of its words are added to sums, and nothing else kept.

    Several processes share what they learn through a database: each adds what it observed since the last time to the
    sums there (`flush`), and takes up what others added (`merge`). The sums of a tool in this process are always those
    of the database, as they were when they were last read, with what was observed here and is not in them on top. So
    nothing is counted twice, with one exception: when the database did commit and could not say so.
    """

    def __init__(self) -> None:
        self._sums: OrderedDict[bytes, UsageSums] = OrderedDict()
        self._new: OrderedDict[bytes, UsageSums] = OrderedDict()
        self._views: weakref.WeakSet[ToolUsage] = weakref.WeakSet()
        self._version = 0
        self._waiting = 0
        self._sweep_above = _MAX_TOOLS
        self._new_locks()
        follow_forks(self)

    def _new_locks(self) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._read_meanwhile: dict[bytes, UsageSums] | None = None  # during a flush: what was to be merged

    @property
    def version(self) -> int:
        """A number that grows with everything that is learned."""
        return self._version

    @property
    def waiting(self) -> int:
        """How many questions were observed that no `flush` has written yet."""
        return self._waiting

    def observe(
        self,
        query: str,
        vector: NDArray[np.float32] | None,
        called: Sequence[bytes],
        before: Sequence[bytes] = (),
    ) -> None:
        """Learn that a question led to successful calls.

        Args:
            query: What the user wrote.
            vector: Its embedding, float32 `[d]`, unit norm; `None` where there is no embedder.
            called: Digests of the tools that were called.
            before: Digests of the tools that were called before in the thread, oldest first; the last two count.
        """
        taught = lessons_of(query, vector, called, before)
        if not taught:
            return
        with self._lock:
            for digest, lesson in taught.items():
                known = self._new.get(digest)
                self._new[digest] = lesson if known is None else known.then(lesson)
            while len(self._new) > _MAX_TOOLS:  # nobody flushes
                self._new.popitem(last=False)
            self._waiting += 1
            self._replace(
                {
                    digest: lesson if (known := self._sums.get(digest)) is None else known.then(lesson)
                    for digest, lesson in taught.items()
                }
            )

    def for_tools(self, digests: Sequence[bytes]) -> ToolUsage:
        """What is learned of these tools, now and from now on."""
        view = ToolUsage(digests)
        with self._lock:
            self._views.add(view)
            view.tell({digest: self._sums[digest] for digest in view.digests if digest in self._sums})
        return view

    # --- exchange with other processes -------------------------------------------------------------------------------

    def flush(self, add: Callable[[Mapping[bytes, UsageSums]], Mapping[bytes, UsageSums]]) -> None:
        """Hand what was observed since the last time to `add`, and go on from the sums that it gives back.

        `add` puts it on top of the sums in the database (`ToolStore.add_usage`). It is not called when there is
        nothing. When it raises, what was observed is kept for the next time, and the error goes on. Nobody who learns,
        reads or merges waits for it, only another flush.
        """
        with self._flushing:
            with self._lock:
                if not self._new:
                    return
                taken, self._new = self._new, OrderedDict()
                count, self._waiting = self._waiting, 0
                self._read_meanwhile = {}
            rows: Mapping[bytes, UsageSums] = {}
            try:
                rows = add(taken)
            except BaseException:
                with self._lock:
                    for digest, later in self._new.items():
                        known = taken.get(digest)
                        taken[digest] = later if known is None else known.then(later)
                    self._new = taken
                    self._waiting += count
                raise
            finally:
                with self._lock:
                    meanwhile, self._read_meanwhile = self._read_meanwhile, None
                    self._take_over(rows)
                    self._take_over(self._no_older(meanwhile or {}))

    def merge(self, rows: Mapping[bytes, UsageSums]) -> None:
        """Take up sums that were read from the database, in place of older ones (`ToolStore.usage`, `changed_since`).

        They already hold what this process has flushed; what it has not is counted on top of them. During a flush
        nobody knows which of the two is true of what is being flushed: they are taken up when it ends.
        """
        with self._lock:
            if self._read_meanwhile is None:
                self._take_over(self._no_older(rows))
            else:
                self._read_meanwhile.update(rows)

    def _no_older(self, rows: Mapping[bytes, UsageSums]) -> dict[bytes, UsageSums]:
        known = self._sums
        return {
            digest: row for digest, row in rows.items() if digest not in known or known[digest].revision <= row.revision
        }

    def _take_over(self, rows: Mapping[bytes, UsageSums]) -> None:
        if rows:
            new = self._new
            self._replace({digest: row.then(new[digest]) if digest in new else row for digest, row in rows.items()})

    def _replace(self, changed: Mapping[bytes, UsageSums]) -> None:
        for digest, sums in changed.items():
            self._sums[digest] = sums
            self._sums.move_to_end(digest)
        self._version += 1
        for view in self._views:
            view.tell(changed)
        if len(self._sums) > self._sweep_above:
            in_use = {digest for view in self._views for digest in view.digests}
            spare = [digest for digest in self._sums if digest not in in_use]
            for digest in spare[: -_MAX_TOOLS // 2]:
                del self._sums[digest]
            self._sweep_above = len(self._sums) + _MAX_TOOLS // 2

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        """What is not flushed is for the parent to flush; any lock may be held by a thread that is not there."""
        self._new_locks()
        self._new, self._waiting = OrderedDict(), 0
        for view in self._views:
            view.start_anew()
            view.tell(self._sums)


class ToolUsage:
    """What is learned of the tools of one registry, by position. Thread-safe; comes from `LearnedUsage.for_tools`.

    Each read brings itself up to date first, at the cost of what changed, and sees all that one question taught or
    nothing of it.

    Args:
        digests: One for each tool of the registry, `[n]`.
    """

    def __init__(self, digests: Iterable[bytes]) -> None:
        self.digests: tuple[bytes, ...] = tuple(digests)
        self._positions_of: dict[bytes, list[int]] = {}
        for position, digest in enumerate(self.digests):
            self._positions_of.setdefault(digest, []).append(position)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget everything, the locks too."""
        self._inbox_lock = threading.Lock()
        self._inbox: dict[bytes, UsageSums] = {}
        self._lock = threading.Lock()
        self._rows: dict[int, int] = {}  # position -> row
        self._sums: list[UsageSums] = []  # by row, as the next three
        self._positions = np.zeros(0, dtype=np.intp)
        self._words = WordIndex()
        self._centroids = Centroids()
        self._weights = np.zeros(len(self.digests), dtype=np.float32)
        self._weights.setflags(write=False)

    def tell(self, changed: Mapping[bytes, UsageSums]) -> None:
        """Take note of sums that changed, of whatever tools."""
        own = {digest: changed[digest] for digest in changed if digest in self._positions_of}
        if own:
            with self._inbox_lock:
                self._inbox.update(own)

    @property
    def weights(self) -> NDArray[np.float32]:
        """How many examples each tool has, faded: float32 `[n]`, read-only."""
        with self._lock:
            self._catch_up()
            return self._weights

    def similarity(self, base: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of each of `queries` (float32 `[m, d]`, unit norm) with the centroid of each tool: float32 `[m, n]`.

        `base` as for `centroids`, whose product with the queries it is, without making that matrix.
        """
        positions, blocks = self._moved(base)
        similarity = np.asarray(queries @ base.T, dtype=np.float32)
        if blocks:
            similarity[:, positions] = np.concatenate([block @ queries.T for block in blocks]).T
        return similarity

    def centroids(self, base: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where each tool is, once the questions that led to it are counted: float32 `[n, d]`, unit norm.

        It is a copy of `base`, the vectors of the tools' texts, in which the rows of learned tools are others. `base`
        must not be changed, and is best the same object every time.
        """
        positions, blocks = self._moved(base)
        centroids = np.array(base, dtype=np.float32)
        if blocks:
            centroids[positions] = np.concatenate(blocks)
        return centroids

    def _moved(self, base: NDArray[np.float32]) -> tuple[NDArray[np.intp], tuple[NDArray[np.float32], ...]]:
        with self._lock:
            self._catch_up()
            return self._positions, self._centroids.blocks(base, self._positions, self._sums)

    def word_scores(self, query: str) -> NDArray[np.float32]:
        """How much the words of a text speak for each tool, in nats: float32 `[n]`, 0 for tools that were never called.

        The sum over its distinct words of what `WordIndex.evidence` says of each; "all examples" are those of the
        tools of this registry, one that led to two tools counted twice.
        """
        hashes = term_hashes(query)
        scores = np.zeros(len(self.digests), dtype=np.float32)
        with self._lock:
            self._catch_up()
            scores[self._positions] = self._words.evidence(hashes, self._weights[self._positions])
        return scores

    def neighbours(self, positions: Iterable[int]) -> NDArray[np.float32]:
        """How often each tool is called along with those at `positions`: float32 `[n]`, their rates added up.

        The rate of a pair is the number of questions that led to both, over the examples of the one at `positions` + 1.
        """
        return self._rates(positions, lambda sums: sums.together)

    def after(self, positions: Iterable[int]) -> NDArray[np.float32]:
        """How often each tool is called next after those at `positions`: float32 `[n]`, their rates added up."""
        return self._rates(positions, lambda sums: sums.following)

    def _rates(
        self, positions: Iterable[int], pairs: Callable[[UsageSums], Mapping[bytes, float]]
    ) -> NDArray[np.float32]:
        with self._lock:
            self._catch_up()
            known = [self._sums[self._rows[position]] for position in positions if position in self._rows]
        rates = np.zeros(len(self.digests), dtype=np.float32)
        for sums in known:
            for digest, count in pairs(sums).items():
                rates[self._positions_of.get(digest, [])] += count / (sums.weight + 1)
        return rates

    def _catch_up(self) -> None:
        with self._inbox_lock:
            if not self._inbox:
                return
            inbox, self._inbox = self._inbox, {}
        changes: list[tuple[int, UsageSums, UsageSums | None]] = []
        weights, begun = self._weights.copy(), []
        for digest, sums in inbox.items():
            for position in self._positions_of[digest]:
                weights[position] = sums.weight
                row = self._rows.get(position)
                if row is None:
                    row = self._rows[position] = len(self._sums)
                    self._sums.append(sums)
                    begun.append(position)
                    changes.append((row, sums, None))
                else:
                    changes.append((row, sums, self._sums[row]))
                    self._sums[row] = sums
                self._centroids.changed(row)
        self._words.put(changes)
        self._positions = np.concatenate([self._positions, np.array(begun, dtype=np.intp)])
        weights.setflags(write=False)
        self._weights = weights
