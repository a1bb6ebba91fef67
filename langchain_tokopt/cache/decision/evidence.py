"""What speaks for giving a stored answer to a question: how its neighbours lie, and what the words have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.cache.guard import difference
from langchain_tokopt.cache.likeness import FEATURE_NAMES as WORDS
from langchain_tokopt.cache.likeness import features as likeness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.cache.decision.verdict import Neighbour
    from langchain_tokopt.cache.reading import Prepared

GEOMETRY: Final = (
    "similarity",  # of the nearest question with the proposed answer
    "closeness",  # the same on a scale that sets 0.99 and 0.95 as far apart as 0.9 and 0.7
    "margin",  # by which it is nearer than the nearest question with another answer
    "vote",  # weighted share of the neighbours that have the proposed answer
    "share",  # the same, each counted once
    "density",  # mean similarity of all neighbours
    "nearest",  # whether the very nearest question has it
    "centre",  # similarity to the centre of the neighbours that have it
    "centre_margin",  # by which that is nearer than the centre of any other answer
)
FEATURES: Final = (*GEOMETRY, *WORDS)

# Similarity at which a neighbour has no say: that of unrelated sentences under common embedders.
_UNRELATED: Final = 0.3


@dataclass(frozen=True, slots=True)
class Proposal:
    """The answer that the neighbours speak for.

    Attributes:
        neighbour: The nearest question with that answer which no word forbids to use; the nearest one if all are
            forbidden.
        features: Numbers for `FEATURES`, float64 `[f]`.
        forbidden: What differs in the words ("numbers", "negation" ...), `None` if nothing forbids it.
    """

    neighbour: Neighbour
    features: NDArray[np.float64]
    forbidden: str | None


def propose(
    question: Prepared,
    vector: NDArray[np.float32],
    near: Sequence[Neighbour],
    vectors: NDArray[np.float32],
    read: Callable[[str], Prepared],
) -> Proposal:
    """The proposal of `near`, which must not be empty.

    `vector`: of the question, float32 `[d]`; `vectors`: of `near` in the same order, float32 `[n, d]`; all of unit
    norm. `read` prepares a stored question.
    """
    similarities = np.array([neighbour.similarity for neighbour in near])
    answers = np.array([neighbour.answer for neighbour in near])
    weights = np.maximum(similarities - _UNRELATED, 0.0) ** 2
    distinct, member = np.unique(answers, return_inverse=True)
    votes = np.bincount(member, weights)
    total = float(votes.sum())
    chosen = int(votes.argmax()) if total > 0 else int(member[0])
    mine = member == chosen
    nearest = float(similarities[mine].max())
    others = similarities[~mine]
    centres = (member == np.arange(len(distinct))[:, None]).astype(np.float32) @ vectors
    towards = np.einsum("ij,j->i", centres, vector) / np.maximum(np.sqrt(np.einsum("ij,ij->i", centres, centres)), 1e-9)
    elsewhere = np.delete(towards, chosen)
    geometry = (
        nearest,
        -math.log(max(1.02 - nearest, 0.02)),  # a compressed vector may be nearer than 1
        nearest - (float(others.max()) if len(others) else 0.0),
        float(votes[chosen]) / total if total > 0 else 0.0,
        float(mine.mean()),
        float(similarities.mean()),
        float(mine[int(similarities.argmax())]),
        float(towards[chosen]),
        float(towards[chosen]) - (float(elsewhere.max()) if len(elsewhere) else 0.0),
    )
    neighbour, forbidden, stored = _usable(question, [one for one, own in zip(near, mine, strict=True) if own], read)
    return Proposal(neighbour, np.array((*geometry, *likeness(question, stored))), forbidden)


def _usable(
    question: Prepared, members: Sequence[Neighbour], read: Callable[[str], Prepared]
) -> tuple[Neighbour, str | None, Prepared]:
    """The nearest of `members` that no word forbids, what forbids it if all are forbidden, and its text."""
    first: tuple[Neighbour, str | None, Prepared] | None = None
    for neighbour in members:
        stored = read(neighbour.text)
        differs = difference(question, stored)
        if differs is None:
            return neighbour, None, stored
        first = first or (neighbour, differs, stored)
    assert first is not None  # noqa: S101 - an answer has at least one member
    return first
