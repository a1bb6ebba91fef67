"""How long it takes to choose among many tools: the whole selection of a new user message, and the ranking alone.

A registry is as large as asked for by repeating its tools with changed names. The vectors of the tools are arbitrary
ones, since how long it takes does not depend on what they say; the question is embedded by the real embedder.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from langchain.agents.middleware.types import ModelRequest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage

from benchmarks.overhead import AtOnce, percentile
from benchmarks.peers.bigtool import BigtoolPeer
from benchmarks.rows import Measure
from langchain_tokopt.tools import ToolSelection

SIZES = (100, 1_000, 10_000)
WARM_UP = 5
PEER_QUERIES = 50  # a second each, with 10,000 tools
_DIM = 384


class Arbitrary(Embeddings):
    """Tools at random places; a question where `question` puts it, or at random as well."""

    def __init__(self, question: Embeddings | None) -> None:
        self._question = question
        self._rng = np.random.default_rng(0)

    def embed_query(self, text: str) -> Any:
        return self._rng.normal(size=_DIM) if self._question is None else self._question.embed_query(text)

    def embed_documents(self, texts: list[str]) -> Any:
        return self._rng.normal(size=(len(texts), _DIM))


def repeated(registry: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many tools: those of the registry, again and again under new names."""
    rows = itertools.islice(itertools.cycle(registry), count)
    return [
        {**row, "name": f"{row['name']}_{at // len(registry)}" if at >= len(registry) else row["name"]}
        for at, row in enumerate(rows)
    ]


def measures(
    registry: Sequence[Mapping[str, Any]], queries: Sequence[str], *, embedder: Embeddings | None, sizes: Sequence[int]
) -> Iterator[Measure]:
    """Times at each size. Without an embedder only those of the ranking alone."""
    for size in sizes:
        rows = repeated(registry, size)
        tools = [{"type": "function", "function": row} for row in rows]
        for name, question in (("select", embedder), ("rank", None)):
            if name == "select" and embedder is None:
                continue
            selection = ToolSelection(mode="rebind", embeddings=Arbitrary(question))
            index = selection.index(tools)
            index.warm()
            run = _selecting(selection, tools) if name == "select" else (lambda text, index=index: index.top(text, 10))
            yield from _percentiles("ours", name, size, _times(run, queries))
        if embedder is not None:
            try:
                peer = BigtoolPeer(rows, embeddings=Arbitrary(embedder), dim=_DIM, k=10)
            except ImportError:
                continue
            yield from _percentiles("langgraph-bigtool", "select", size, _times(peer, queries[:PEER_QUERIES]))


def _selecting(selection: ToolSelection, tools: list[Any]) -> Callable[[str], Any]:
    model = AtOnce()
    return lambda text: selection.select(ModelRequest(model=model, messages=[HumanMessage(text)], tools=tools))


def _times(run: Callable[[str], Any], queries: Sequence[str]) -> list[float]:
    """Milliseconds for each query after the first few."""
    times = []
    for query in queries:
        started = time.perf_counter()
        run(query)
        times.append((time.perf_counter() - started) * 1000)
    return times[WARM_UP:]


def _percentiles(method: str, name: str, size: int, times: list[float]) -> Iterator[Measure]:
    yield Measure(method, f"{name}_p50_ms", size, statistics.median(times))
    yield Measure(method, f"{name}_p95_ms", size, percentile(times, 0.95))
