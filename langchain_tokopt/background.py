"""Where model calls beside the user's answer are made: in threads or on event loops, never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import multiprocessing.util
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks
from langchain_tokopt.later import AbandonedError, Errand, Later, nothing
from langchain_tokopt.surroundings import beside_the_run
from langchain_tokopt.threads import in_thread

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelResponse

log = logging.getLogger("langchain_tokopt")

_LOOP_ENDED = "its event loop ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundStats:
    """Calls in the background: `under_way` now, and how those that ended did.

    `dropped` ones were not begun, because too many were under way or because it was closed; `abandoned` ones were
    begun and given up.
    """

    under_way: int
    answered: int
    failed: int
    dropped: int
    abandoned: int


class Background:
    """Where calls in the background are made: a daemon thread each, or a task on the caller's event loop.

    A sync agent's call runs in a thread that does not keep the process from ending, an async agent's on its own event
    loop, since clients are bound to one. What is under way when the loop or the process ends is abandoned.

    Args:
        limit: How many calls may be under way at once; those beyond are dropped.
        grace_seconds: How long a call waits before it begins, so that it does not take the interpreter from the answer
            that is on its way out.
    """

    def __init__(self, *, limit: int = 8, grace_seconds: float = 0.05) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ConfigurationError("limit", limit, "use a whole number; 0 for no calls in the background")
        if not grace_seconds >= 0:
            raise ConfigurationError("grace_seconds", grace_seconds, "use a number of seconds, or 0")
        self.limit = limit
        self._grace_seconds = grace_seconds
        self._closed = False
        self._hooked = False
        self._start_anew()

    def _start_anew(self) -> None:
        self._errands: set[Errand] = set()
        self._counts: Counter[str] = Counter()
        # Reentrant: the garbage collector may end a coroutine, and so an errand, while this thread is inside.
        self._changed = threading.Condition(threading.RLock())

    # --- beginning ---------------------------------------------------------------------------------------------------

    def start(self, later: Later, call: Callable[[], ModelResponse[Any]]) -> None:
        """Begin a call in a thread of its own. Never raises and never waits."""
        errand = Errand(later)
        refused = self._begin(errand, call)
        if refused is not None:
            errand.missed(AbandonedError(refused))

    def _begin(self, errand: Errand, call: Callable[[], Any]) -> str | None:
        """Why it could not be begun in a thread; `None` if it was."""
        refused = self._refused(errand)
        if refused is not None:
            return refused
        try:
            threading.Thread(
                target=beside_the_run().run, args=(self._run, errand, call), name="tokopt-background", daemon=True
            ).start()
        except Exception as error:  # no thread is to be had, or the interpreter is going down
            self._drop(errand)
            return f"it could not be begun: {error}"
        return None

    def run(self, work: Callable[[], object], failed: Callable[[BaseException], None] = nothing) -> bool:
        """Whether `work`, which is no model call, was begun in a thread of its own. `failed` is told its error."""
        errand = Errand(Later(cast("Any", None), lambda _: None, failed))
        return self._begin(errand, work) is None

    async def astart(self, later: Later, call: Callable[[], Awaitable[ModelResponse[Any]]]) -> str | None:
        """Begin a call on this event loop; if that is not possible, why. Never raises and never waits."""
        errand = Errand(later)
        refused = self._refused(errand)
        if refused is not None:
            return refused
        errand.loop = asyncio.get_running_loop()
        work = self._arun(errand, call)
        try:
            errand.task = beside_the_run().run(errand.loop.create_task, work)
        except Exception as error:
            work.close()
            self._drop(errand)
            return f"it could not be begun: {error}"
        # A task that is cancelled before its first step never runs: then this is the only one to know.
        errand.task.add_done_callback(lambda _: self._over(errand))
        return None

    def _refused(self, errand: Errand) -> str | None:
        """Why the call is not made; `None` if it was taken."""
        self._abandon_those_without_a_loop()
        with self._changed:
            if not self._closed and len(self._errands) < self.limit:
                self._errands.add(errand)
                self._follow()
                return None
            self._counts["dropped"] += 1
            return "it was closed" if self._closed else f"{self.limit} others were under way"

    def _drop(self, errand: Errand) -> None:
        with self._changed:
            self._errands.discard(errand)
            self._counts["dropped"] += 1
            self._changed.notify_all()

    # --- running -----------------------------------------------------------------------------------------------------

    def _run(self, errand: Errand, call: Callable[[], Any]) -> None:
        try:
            wait_for([errand.go], timeout=self._grace_seconds)
            if not errand.over:
                errand.answered(call())
        except BaseException as error:  # nobody is above this thread
            errand.missed(error)
        finally:
            self._over(errand)

    async def _arun(self, errand: Errand, call: Callable[[], Awaitable[ModelResponse[Any]]]) -> None:
        try:
            await asyncio.wait([asyncio.wrap_future(errand.go)], timeout=self._grace_seconds)
            if not errand.over:
                await in_thread(errand.answered, await call())
        except GeneratorExit:  # the loop is gone: nothing can be awaited any more
            raise
        except BaseException as error:
            ended = isinstance(error, asyncio.CancelledError)
            await in_thread(errand.missed, AbandonedError(_LOOP_ENDED) if ended else error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._over(errand)

    def _over(self, errand: Errand) -> None:
        errand.missed(AbandonedError(_LOOP_ENDED))  # unless it has ended in another way
        with self._changed:
            if errand in self._errands:
                self._errands.remove(errand)
                self._counts[errand.outcome] += 1
                self._changed.notify_all()

    # --- ending ------------------------------------------------------------------------------------------------------

    def stats(self) -> BackgroundStats:
        """How the calls in the background are doing."""
        self._abandon_those_without_a_loop()
        with self._changed:
            counts = {name: self._counts[name] for name in ("answered", "failed", "dropped", "abandoned")}
            return BackgroundStats(under_way=len(self._errands), **counts)

    def drain(self, timeout_seconds: float) -> bool:
        """Whether every call under way ended within `timeout_seconds`.

        Called on an event loop, it does not wait for the calls of that loop, which could not go on meanwhile: use
        `adrain` there.
        """
        here = _running_loop()
        until = time.monotonic() + timeout_seconds
        while True:
            self._abandon_those_without_a_loop()
            with self._changed:
                for errand in self._errands:
                    errand.hurry()
                if all(errand.loop is here and here is not None for errand in self._errands):
                    return not self._errands
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)

    async def adrain(self, timeout_seconds: float) -> bool:
        """`drain` on an event loop."""
        return await asyncio.to_thread(self.drain, timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Let what is under way finish, for at most `timeout_seconds`, and abandon the rest. Later calls are dropped.

        On an event loop the calls of that loop are not waited for: `await adrain(...)` first.
        """
        with self._changed:
            self._closed = True
        self.drain(timeout_seconds)
        self._abandon("it was closed")

    def _abandon(self, reason: str) -> None:
        with self._changed:
            errands = list(self._errands)
        for errand in errands:
            errand.missed(AbandonedError(reason))
            self._over(errand)
            if errand.loop is not None and errand.task is not None:
                with contextlib.suppress(RuntimeError):  # the loop was closed just now
                    errand.loop.call_soon_threadsafe(errand.task.cancel)

    def _abandon_those_without_a_loop(self) -> None:
        """A loop that is closed without cancelling its tasks tells nobody."""
        with self._changed:
            stranded = [errand for errand in self._errands if errand.loop is not None and errand.loop.is_closed()]
        for errand in stranded:
            # As asyncio itself does with tasks whose end is somebody else's affair: no complaint when it is collected.
            errand.task._log_destroy_pending = False  # type: ignore[union-attr]  # noqa: SLF001
            self._over(errand)

    # --- the process -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """From the first call on: abandon what is under way when the process ends, and start anew in a forked child."""
        if self._hooked:
            return
        self._hooked = True
        weakref.finalize(self, _abandon_all, weakref.ref(self))
        if multiprocessing.parent_process() is not None:
            # A child of `multiprocessing` ends without the hooks of the interpreter.
            multiprocessing.util.Finalize(self, _abandon_all, args=(weakref.ref(self),), exitpriority=100)
        follow_forks(self, level=1)

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        """What is under way is the parent's."""
        self._start_anew()


def _abandon_all(background: weakref.ref[Background]) -> None:
    found = background()
    if found is not None:
        found.close(timeout_seconds=0)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
