"""Stored questions with their neighbours, as if each were asked now: what a decision can rehearse with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.cache.decision.verdict import Neighbour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.cache.replica import Replica

_FEWEST: Final = 50  # questions of a scope: the neighbours of fewer say little of what will be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """A stored question, and the others near it.

    Attributes:
        scope: Where it is stored.
        id: Of its entry.
        text: The question.
        answer: Number of the group of entries that hold its answer.
        vector: float32 `[d]`, unit norm.
        near: The nearest of the others, nearest first.
        vectors: Of `near`, in the same order: float32 `[n, d]`.
    """

    scope: str
    id: int
    text: str
    answer: int
    vector: NDArray[np.float32]
    near: Sequence[Neighbour]
    vectors: NDArray[np.float32]


def draw(
    replicas: Iterable[tuple[str, Replica]], count: int, rng: np.random.Generator, *, k: int, now: float
) -> list[Neighbourhood]:
    """At most `count` different questions, each with at most `k` neighbours, in no order.

    Every question in a scope of 50 or more is as likely as any other. What has expired by `now`, or is removed in the
    meantime, is left out. It is one search for each; who looks into the cache meanwhile waits for none of them.
    """
    drawn_from = [(scope, replica, replica.ids()) for scope, replica in replicas if len(replica) >= _FEWEST]
    ends = np.cumsum([len(ids) for _, _, ids in drawn_from], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    found = []
    for place in rng.choice(total, size=min(count, total), replace=False).tolist() if total else []:
        which = int(np.searchsorted(ends, place, side="right"))
        scope, replica, ids = drawn_from[which]
        neighbourhood = _around(scope, replica, ids[place - int(ends[which])], k, now)
        if neighbourhood is not None:
            found.append(neighbourhood)
    return found


def _around(scope: str, replica: Replica, key: int, k: int, now: float) -> Neighbourhood | None:
    fact = replica.fact(key)
    if fact is None or fact.expires_at <= now:
        return None
    try:
        vector = replica.vectors([key])[0]
        near = [neighbour for neighbour in replica.nearest(vector, k + 1, now) if neighbour.id != key][:k]
        vectors = replica.vectors([neighbour.id for neighbour in near])
    except KeyError:  # removed in the meantime: there are others
        return None
    return Neighbourhood(
        scope=scope, id=key, text=fact.text, answer=fact.answer, vector=vector, near=near, vectors=vectors
    )
