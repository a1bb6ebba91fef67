"""The plain decision: near enough, and nothing in the words forbids it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from langchain_tokopt.cache.decision.reader import Reader
from langchain_tokopt.cache.decision.verdict import Neighbour, Verdict
from langchain_tokopt.cache.guard import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Threshold:
    """Serves the nearest question from `threshold` (cosine similarity, in (0, 1]) that the guard does not refuse."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._read = Reader()

    def decide(
        self,
        question: str,
        vector: NDArray[np.float32],
        near: Sequence[Neighbour],
        vectors: Callable[[], NDArray[np.float32]],
    ) -> Verdict:
        refused: str | None = None
        for neighbour in near:
            if neighbour.similarity < self.threshold:
                break
            differs = difference(self._read(question), self._read(neighbour.text))
            if differs is None:
                return Verdict(neighbour=neighbour, serve=True, near=tuple(near))
            refused = refused or f"the nearest question differs in {differs}"
        return Verdict(
            neighbour=near[0] if near else None,
            reason=refused or ("nothing similar" if near else "nothing stored"),
            near=tuple(near),
        )
