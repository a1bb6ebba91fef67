"""How near passages are to a question by their vectors; each is embedded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.embeddings import MemoEmbeddings

_log = logging.getLogger(__name__)


class Similarity:
    """Vectors of passages that only get more.

    An embedder that fails is logged once and not asked again: the ranking goes on by the words alone.
    """

    def __init__(self, embeddings: MemoEmbeddings) -> None:
        self._embeddings = embeddings
        self._vectors: list[NDArray[np.float32]] = []
        self._matrix: NDArray[np.float32] | None = None
        self._failed = False

    def cosine(self, query: str, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """Similarity of the query and each text, `[n]`; `None` without texts or an embedder that works.

        Of texts that are longer by some than at the last call only the new ones are read.
        """
        if self._failed or not texts:
            return None
        try:
            new = texts[len(self._vectors) :]
            if new or self._matrix is None:
                self._vectors += list(self._embeddings.vectors(new))
                self._matrix = np.stack(self._vectors)
            return np.asarray(self._matrix @ self._embeddings.vector(query), dtype=np.float64)
        except Exception:
            self._failed = True
            _log.warning("embeddings failed: passages are ranked by their words alone", exc_info=True)
            return None
