"""Other caches, behind one small interface, so that each benchmark can run them beside this project's own.

A peer that is not installed is missing in the result; nothing is installed by running a benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.peers.gptcache import GPTCachePeer
from benchmarks.peers.inmemory import InMemoryPeer
from benchmarks.peers.ours import OursPeer


class Peer(Protocol):
    """A cache of answers.

    Attributes:
        semantic: Whether it finds questions that mean the same.
    """

    semantic: bool

    def fill(self, questions: Sequence[str], answers: Sequence[str]) -> None:
        """Store answers, beside what is there."""
        ...

    def ask(self, question: str) -> str | None:
        """The stored answer; the whole way from the question that a program has in its hands."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Opens(Protocol):
    """The class of a peer.

    Attributes:
        semantic: See `Peer`.
        first_steps: Python code that imports it and what it needs before its first look.
    """

    semantic: bool
    first_steps: str

    def __call__(self, *, embed: Callable[[str], np.ndarray], folder: Path, limit: int, system: str) -> Peer:
        """An empty cache. Raises `ImportError` if it is not installed.

        `embed` gives the vector of a text: float32 `[384]`, unit norm. `folder` is its own. `limit` is the most entries
        that it will hold. `system` is the system prompt of all questions.
        """
        ...


PEERS: dict[str, Opens] = {"ours": OursPeer, "gptcache": GPTCachePeer, "inmemory": InMemoryPeer}

__all__ = ["PEERS", "GPTCachePeer", "InMemoryPeer", "Opens", "OursPeer", "Peer"]
