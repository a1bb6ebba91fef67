"""Where a benchmark's vectors come from: the real embedder, a table of what it gave before, or a hash of the words.

--embeddings real    the default embedder of the package, or one named with --model
--embeddings table   read from --table FILE.npz, written by an earlier run with `--embeddings real --table FILE.npz`
--embeddings hash    hashed words and trigrams: no model, for a quick look and for tests; no figure to publish
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.embeddings import MemoEmbeddings

DIM = 384
_BATCH = 256


class HashEmbeddings(Embeddings):
    """Texts that share words and parts of words are near each other; nothing else is known of them."""

    def embed_query(self, text: str) -> list[float]:
        vector = np.zeros(DIM)
        words = re.findall(r"\w+", text.casefold())
        parts = [word[start : start + 3] for word in words for start in range(len(word) - 2)]
        for weight, pieces in ((1.0, words), (0.3, parts)):
            for piece in pieces:
                seed = int.from_bytes(hashlib.blake2b(piece.encode("utf-8", "replace"), digest_size=8).digest(), "big")
                vector[seed % DIM] += weight if seed >> 63 else -weight
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:
            vector[0] = norm = 1.0
        return [float(x) for x in vector / norm]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options above."""
    parser.add_argument(
        "--embeddings", choices=["real", "table", "hash"], default="real", help="see benchmarks/vectors"
    )
    parser.add_argument("--table", type=Path, metavar="NPZ", help="where vectors are read from, or with `real` written")
    parser.add_argument("--model", help="another embedder than the default one: a name or a folder")


def vectors(texts: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """Unit vector of each text: float32 `[d]`.

    Raises:
        ValueError: The table lacks a text; says which.
    """
    unique = list(dict.fromkeys(texts))
    if args.embeddings == "table":
        if args.table is None:
            msg = "--embeddings table needs --table FILE.npz"
            raise ValueError(msg)
        stored = np.load(args.table)
        known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))
        lacking = next((text for text in unique if text not in known), None)
        if lacking is not None:
            msg = f"{args.table} has no vector for {lacking!r}: write it anew with --embeddings real"
            raise ValueError(msg)
        return {text: known[text] for text in unique}
    source = MemoEmbeddings(HashEmbeddings() if args.embeddings == "hash" else args.model)
    found: dict[str, Any] = {}
    for start in range(0, len(unique), _BATCH):
        batch = unique[start : start + _BATCH]
        found.update(zip(batch, source.vectors(batch), strict=True))
    if args.table is not None and args.embeddings == "real":
        np.savez_compressed(args.table, texts=np.array(unique), vectors=np.stack([found[text] for text in unique]))
    return found
