"""langgraph-bigtool (https://github.com/langchain-ai/langgraph-bigtool): its retrieval, set up as its README shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings


class _OneByOne(Embeddings):
    """Vectors as lists of floats, which is what LangGraph's store expects."""

    def __init__(self, inner: Embeddings) -> None:
        self._inner = inner

    def embed_query(self, text: str) -> list[float]:
        return [float(x) for x in np.asarray(self._inner.embed_query(text))]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in np.asarray(self._inner.embed_documents(texts))]


class BigtoolPeer:
    """The tool with which its agent finds tools, on an in-memory store of "name: description".

    Raises:
        ImportError: It is not installed.
    """

    def __init__(self, registry: Sequence[Mapping[str, Any]], *, embeddings: Embeddings, dim: int, k: int) -> None:
        from langgraph.store.memory import InMemoryStore
        from langgraph_bigtool.tools import get_default_retrieval_tool

        self._store = InMemoryStore(index={"embed": _OneByOne(embeddings), "dims": dim, "fields": ["description"]})
        for row in registry:
            self._store.put(("tools",), row["name"], {"description": f"{row['name']}: {row['description']}"})
        self._retrieve, _ = get_default_retrieval_tool(("tools",), limit=k)

    def __call__(self, query: str) -> list[str]:
        """The names of the `k` best tools, best first."""
        names: list[str] = self._retrieve(query, store=self._store)
        return names
