"""Vectors for `benchmarks.tools`, which cannot know beforehand what the index will embed: made once, kept in a table.

The options are those of `benchmarks.vectors`. With `--embeddings real --table FILE.npz` vectors are read from the table
as far as it has them; what it lacks is embedded and written to it at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from benchmarks.vectors import HashEmbeddings
from langchain_tokopt.embeddings import MemoEmbeddings

_BATCH = 256


class KeptVectors(Embeddings):
    """The vectors that are known, and those that `source` makes of new texts.

    Attributes:
        source: The embedder underneath; `None` makes nothing new.
    """

    def __init__(self, source: MemoEmbeddings | None = None, known: dict[str, np.ndarray] | None = None) -> None:
        self.source = source
        self._lacking: list[str] = []
        self._known = dict(known or {})
        self._made = 0

    def matrix(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of the texts: float32 `[n, d]`.

        Raises:
            ValueError: A text is not known, and there is no embedder.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if self.source is None:
            self._lacking += new
            self.check()
        else:
            for start in range(0, len(new), _BATCH):
                batch = new[start : start + _BATCH]
                self._known.update(zip(batch, self.source.vectors(batch), strict=True))
            self._made += len(new)
        return np.stack([self._known[text] for text in texts])

    def embed_query(self, text: str) -> Any:
        return self.matrix([text])[0]

    def embed_documents(self, texts: list[str]) -> Any:
        return self.matrix(texts)

    def check(self) -> None:
        """Raise `ValueError` if a vector was ever lacking: whoever asked for it may have gone on without."""
        if self._lacking:
            msg = f"the table has no vector for {self._lacking[0]!r}: write it with --embeddings real"
            raise ValueError(msg)

    def save(self, table: Path) -> None:
        """Write all that is known to the table, if there is anything new."""
        if self._made:
            np.savez_compressed(table, texts=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))


def open_vectors(args: argparse.Namespace) -> KeptVectors:
    """The vectors that the options ask for.

    Raises:
        ValueError: `--embeddings table` without a table.
        OSError: The table cannot be read.
    """
    if args.embeddings == "hash":
        return KeptVectors(MemoEmbeddings(HashEmbeddings()))
    known: dict[str, np.ndarray] = {}
    if args.table is not None and (args.embeddings == "table" or args.table.exists()):
        with np.load(args.table) as stored:
            known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))
    if args.embeddings == "real":
        return KeptVectors(MemoEmbeddings(args.model), known)
    if args.table is None:
        msg = "--embeddings table needs --table FILE.npz"
        raise ValueError(msg)
    return KeptVectors(None, known)
