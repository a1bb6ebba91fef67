"""Vectors in time, or none: an embedder that fails or is slow must not hold up an agent."""

from __future__ import annotations

import atexit
import contextvars
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from langchain_core.embeddings import Embeddings

from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tools.embedded import embedded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_tokopt.tools.embedded import VectorKeeper
    from langchain_tokopt.tools.schema import ToolSpec

T = TypeVar("T")

TIMEOUT_SECONDS = 10.0
# The first call loads a model (about 5 s on a free core) and embeds every tool (about 10 ms each): it may take longer.
FIRST_CALL_FACTOR = 3
RETRY_SECONDS = 60.0
_EXIT_SECONDS = 15.0

_running: set[threading.Thread] = set()
_ending = threading.Event()


@functools.cache
def _wait_at_exit() -> None:
    """At the end of the process let work that has begun come to a halt: PyTorch aborts when it is cut off."""

    def wait() -> None:
        _ending.set()
        deadline = time.monotonic() + _EXIT_SECONDS
        for thread in list(_running):
            thread.join(max(0.0, deadline - time.monotonic()))

    atexit.register(wait)


def check_timeout(seconds: float) -> None:
    """Raise `ConfigurationError` for a time limit that cannot work."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigurationError("embed_timeout_seconds", seconds, "use a number of seconds above 0")


class Encoder:
    """An embedder with a time limit.

    After a failure, or when a question took too long, it is left alone for `RETRY_SECONDS`. Work that took too long
    goes on in the background, and its result is there for whoever asks next.

    Args:
        embeddings: A LangChain `Embeddings`, or a model name or folder.
        timeout_seconds: How long a question waits to be embedded; the tools, and with them the loading of a model, may
            take three times as long.
        clock: Seconds from any start.
    """

    def __init__(
        self,
        embeddings: Embeddings | str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_timeout(timeout_seconds)
        self._memo = embeddings if isinstance(embeddings, MemoEmbeddings) else MemoEmbeddings(embeddings)
        self._timeout = timeout_seconds
        self._clock = clock
        self._paused_until = float("-inf")
        self._problems: deque[Exception] = deque(maxlen=16)

    def tools(self, specs: Sequence[ToolSpec], keeper: VectorKeeper | None = None) -> Future[NDArray[np.float32]]:
        """The vectors of tools to come, float32 `[n, d]`, unit norm; computed in the background from now on."""

        def proceed() -> None:
            if _ending.is_set():
                msg = "the process is ending"
                raise RuntimeError(msg)

        return self._start(lambda: embedded(specs, self._memo, keeper=keeper, proceed=proceed))

    def queries(self, text: str, parts: Sequence[str] = ()) -> Future[list[NDArray[np.float32]]]:
        """The vectors of a question and of its parts to come, each float32 `[d]`, unit norm.

        Of the question only where each text would be a call to another machine.
        """
        return self._start(lambda: self._memo.queries([text, *parts] if self._memo.local else [text]))

    def name(self) -> str:
        """What identifies the embedder where vectors are kept; an empty text as long as it was not used."""
        return self._memo.name if self._memo.loaded else ""

    def wait_for_tools(self, vectors: Future[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """What `vectors` gives within the time limit, else `None`; the reason is then among `problems`."""
        return self._wait(vectors, self._timeout * FIRST_CALL_FACTOR, rest=False)

    def wait_for_queries(self, vectors: Future[list[NDArray[np.float32]]]) -> list[NDArray[np.float32]] | None:
        """What `vectors` gives within the time limit, else `None`; the reason is then among `problems`."""
        return self._wait(vectors, self._timeout, rest=True)

    def _wait(self, result: Future[T], seconds: float, *, rest: bool) -> T | None:
        try:
            return result.result(seconds)
        except Exception as error:  # whatever the embedder raises, ranking goes on without it
            late = not result.done()
            slow = TimeoutError(f"embedding took longer than {seconds:g} s; tools are ranked by words alone")
            self._problems.append(slow if late else error)
            if rest or not late:
                self._paused_until = self._clock() + RETRY_SECONDS
        return None

    @property
    def resting(self) -> bool:
        """Whether the embedder is left alone at the moment."""
        return self._clock() < self._paused_until

    def problems(self) -> tuple[Exception, ...]:
        """What went wrong since this was last asked."""
        found = []
        while self._problems:
            found.append(self._problems.popleft())
        return tuple(found)

    def _start(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                future.set_result(context.run(work))
            except BaseException as error:  # handed to whoever waits
                future.set_exception(error)
            finally:
                _running.discard(thread)

        # A daemon thread: an embedder that hangs must not keep the process from ending.
        thread = threading.Thread(target=run, name="tokopt-embed", daemon=True)
        _wait_at_exit()
        _running.add(thread)
        thread.start()
        return future
