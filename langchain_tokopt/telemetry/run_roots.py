"""Which run of a whole chain or graph the runs inside it belong to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

_MAX_RUNS: Final = 65_536


class RunRoots:
    """Remembers the outermost run of each run that is under way. Thread-safe, and bounded: a run may never end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._root: OrderedDict[UUID, UUID] = OrderedDict()

    def begin(self, run: UUID, parent: UUID | None) -> None:
        """Note that `run` has begun."""
        root = self.of(run, parent)
        with self._lock:
            self._root[run] = root
            while len(self._root) > _MAX_RUNS:
                self._root.popitem(last=False)

    def end(self, run: UUID) -> None:
        """Note that `run` has ended."""
        with self._lock:
            self._root.pop(run, None)

    def of(self, run: UUID, parent: UUID | None) -> UUID:
        """The outermost run around `run`, as far as it is known."""
        if parent is None:
            return run
        with self._lock:
            return self._root.get(parent, parent)


class FollowsRuns(BaseCallbackHandler):
    """A handler that, if it has `roots`, is told of chains, tools and retrievers to know the run of all of them."""

    _roots: RunRoots | None = None

    @property
    def ignore_chain(self) -> bool:
        return self._roots is None

    @property
    def ignore_agent(self) -> bool:
        return self._roots is None

    @property
    def ignore_retriever(self) -> bool:
        return self._roots is None

    @property
    def ignore_retry(self) -> bool:
        return True

    @property
    def ignore_custom_event(self) -> bool:
        return True

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._begun(**kwargs)

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self._begun(**kwargs)

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
        self._begun(**kwargs)

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self._over(**kwargs)

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self._over(**kwargs)

    def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:
        self._over(**kwargs)

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self._over(**kwargs)

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        self._over(**kwargs)

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
        self._over(**kwargs)

    def _begun(self, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any) -> None:
        if self._roots is not None:
            self._roots.begin(run_id, parent_run_id)

    def _over(self, *, run_id: UUID, **_: Any) -> None:
        if self._roots is not None:
            self._roots.end(run_id)
