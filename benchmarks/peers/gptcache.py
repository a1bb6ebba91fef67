"""GPTCache (https://github.com/zilliztech/GPTCache) with SQLite and FAISS, as its documentation sets it up."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIM = 384


def load() -> None:
    """Import gptcache, so that it cannot install packages.

    Its `gptcache.utils` runs pip for what it does not find, at import and at run time. The module that does so is put
    in its place beforehand.

    Raises:
        ImportError: It is not installed.
    """
    name = "gptcache.utils.dependency_control"
    if name not in sys.modules:
        stub: Any = types.ModuleType(name)
        stub.prompt_install = _refuse
        sys.modules[name] = stub
    try:
        import gptcache  # noqa: F401
    except ImportError:
        del sys.modules[name]
        raise


def _refuse(package: str, warn: bool = False) -> None:
    msg = f"gptcache wants to install {package}; a benchmark installs nothing"
    raise ModuleNotFoundError(msg)


class GPTCachePeer:
    """GPTCache with its own distance evaluation and its default threshold."""

    semantic = True
    first_steps = (
        "from benchmarks.peers import gptcache; gptcache.load(); from gptcache.adapter.api import get; "
        "import faiss, sqlalchemy"
    )

    def __init__(self, *, embed: Callable[[str], np.ndarray], folder: Path, limit: int, system: str) -> None:
        load()
        from gptcache import Cache
        from gptcache.adapter.api import get
        from gptcache.manager import manager_factory
        from gptcache.processor.pre import get_prompt
        from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses names that SQLAlchemy has moved
            manager = manager_factory(
                "sqlite,faiss",
                data_dir=str(folder),
                vector_params={"dimension": DIM},
                eviction_params={"max_size": limit, "clean_size": 1},
            )
        self._get = get
        self._cache = Cache()
        self._cache.init(
            pre_embedding_func=get_prompt,
            embedding_func=lambda text, **_: embed(text),
            data_manager=manager,
            similarity_evaluation=SearchDistanceEvaluation(),
        )

    def fill(self, questions: Sequence[str], answers: Sequence[str]) -> None:
        """Store answers, in its own bulk way."""
        self._cache.import_data(list(questions), list(answers))

    def ask(self, question: str) -> str | None:
        """The stored answer."""
        found: str | None = self._get(question, cache_obj=self._cache)
        return found

    def close(self) -> None:
        """Write what is pending, now: it would do so again at the end of the program, when its folder is gone."""
        self._cache.data_manager.close()
        self._cache.data_manager = types.SimpleNamespace(close=lambda: None)
