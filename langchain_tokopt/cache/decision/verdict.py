"""What a decision is made of, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stored question near the one that is asked.

    Attributes:
        id: Of its entry.
        revision: Of its entry.
        text: The stored question.
        similarity: Cosine similarity to the question that is asked, in [-1, 1].
        answer: Entries with the same number hold the same answer in different words or to different phrasings; the
            number is the id of the first of them.
    """

    id: int
    revision: int
    text: str
    similarity: float
    answer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with a question.

    Attributes:
        neighbour: Whose answer would be given, `None` if none comes into question.
        serve: Whether it is given.
        audit_rate: Probability, in [0, 1], with which a given answer is checked against the model's.
        audit: Whether this one is.
        risk: Estimated probability that the answer is wrong, `None` if that is not known.
        features: What the estimate was made from: float64 `[f]`.
        reason: Why it is not given.
        near: All neighbours, nearest first.
    """

    neighbour: Neighbour | None = None
    serve: bool = False
    audit_rate: float = 0.0
    audit: bool = False
    risk: float | None = None
    features: NDArray[np.float64] | None = None
    reason: str | None = None
    near: tuple[Neighbour, ...] = ()


class Decider(Protocol):
    """Looks at the neighbours of a question. Must be quick and thread-safe.

    One that counts what it lets be given may have a method `withdrawn(verdict)`, too: it is told of a verdict whose
    answer could not be given after all, because it was removed in that moment or could not be read.
    """

    def decide(
        self,
        question: str,
        vector: NDArray[np.float32],
        near: Sequence[Neighbour],
        vectors: Callable[[], NDArray[np.float32]],
    ) -> Verdict:
        """The verdict on `near`, nearest first. `vector`: of the question, float32 `[d]`, unit norm.

        `vectors` gives those of `near` in the same order, float32 `[n, d]`. Ask for them before anything is counted: if
        one of `near` has just been removed, an error is raised that is to pass through, and the decision is asked for
        again without that one.
        """
        ...
