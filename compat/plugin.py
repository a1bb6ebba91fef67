"""A pytest plugin for LangChain's tests: notes every outcome and, when told to, adds an optimiser to every agent.

It is loaded with `-p compat.plugin` and reads two environment variables: `TOKOPT_COMPAT_OUTCOMES`, the JSON file to
write, and `TOKOPT_COMPAT_POSITION`: "first" or "last" among the agent's middleware; unset adds nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.embeddings import Embeddings

if TYPE_CHECKING:
    import pytest

OUTCOMES = "TOKOPT_COMPAT_OUTCOMES"
POSITION = "TOKOPT_COMPAT_POSITION"
DIMENSION = 64
KEPT_ERROR = 2_000
# An optimiser opens its database when it is built, which a test that builds its agent inside an event loop must not
# see: so many are built before each test. No test makes more agents than that.
READY = 24

_outcomes: dict[str, dict[str, Any]] = {}
_said: list[str] = []
_ready: list[Any] = []
_used: list[Any] = []
_kept: list[Any] = []


class _Listener(logging.Handler):
    """Keeps what the package warns of: a part that failed and stepped aside lets the test pass."""

    def emit(self, record: logging.LogRecord) -> None:
        _said.append(record.getMessage())


class HashEmbeddings(Embeddings):
    """Directions from a hash: equal texts are equal, all others are far apart. Needs no model."""

    def embed_query(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")
        vector = np.random.default_rng(seed).normal(size=DIMENSION)
        return [float(x) for x in vector / np.linalg.norm(vector)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def pytest_configure(config: pytest.Config) -> None:
    """Replace `create_agent` before any test module can import it."""
    position = os.environ.get(POSITION)
    if position is None:
        return
    from langchain import agents
    from langchain.agents import factory

    logging.getLogger("langchain_tokopt").addHandler(_Listener(logging.WARNING))
    original = factory.create_agent

    @functools.wraps(original)
    def create_agent(*args: Any, middleware: Any = (), **kwargs: Any) -> Any:
        optimizer = _ready.pop() if _ready else _optimizer()
        _used.append(optimizer)
        ours = optimizer.middleware
        together = [*ours, *middleware] if position == "first" else [*middleware, *ours]
        return original(*args, middleware=together, **kwargs)

    factory.create_agent = create_agent
    agents.create_agent = create_agent


def pytest_runtest_logstart() -> None:
    """Build what the test may need."""
    if os.environ.get(POSITION) is None:
        return
    _kept.extend(_used)  # agents that were made while the tests were collected: any test may use them
    _used.clear()
    while len(_ready) < READY:
        _ready.append(_optimizer())


def _optimizer() -> Any:
    from langchain_tokopt import TokenOptimizer

    return TokenOptimizer(embeddings=HashEmbeddings())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst of a test's setup, call and teardown."""
    outcome: str = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
    elif report.failed and report.when != "call":
        outcome = "error"
    before = _outcomes.get(report.nodeid)
    if before is None or before["outcome"] == "passed":
        error = report.longreprtext[-KEPT_ERROR:] if report.failed else ""
        _outcomes[report.nodeid] = {"outcome": outcome, "error": error, "warnings": list(_said)}


def pytest_runtest_logfinish() -> None:
    """The test is over: nobody uses its optimisers any more."""
    while _used:
        _used.pop().close()
    _said.clear()


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    for optimizer in [*_ready, *_used, *_kept]:
        optimizer.close()
    if file := os.environ.get(OUTCOMES):
        Path(file).write_text(json.dumps(_outcomes, indent=1, sort_keys=True), encoding="utf-8")
