"""Many threads that ask at once are served together: one transaction instead of one for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from langchain_tokopt.errors import StoreError
from langchain_tokopt.forks import follow_forks

C = TypeVar("C")

# A signal may interrupt the thread that was called to serve the others: who waits looks again after so many seconds.
_PATIENCE_SECONDS = 0.1


class Combiner(Generic[C]):
    """Serves the commands of all threads in batches, each by whichever thread finds that nobody serves just now.

    A lone caller serves itself at once. While a batch is under way others queue up, and then one of them serves all of
    them ("flat combining", https://doi.org/10.1145/1810479.1810540).

    When the store cannot be used, everyone in the batch is told. Any other error is the fault of one command: they are
    served again one by one, and whoever it belongs to gets it. When the serving thread is interrupted, the others are
    served by the next. So a command may be carried out twice, and has to bear it.

    Args:
        serve: The answers to some commands, made in one transaction.
        most: How many commands make a batch at most.
    """

    _queue: list[_Ticket[C]]
    _queueing: threading.Lock
    _turn: threading.Lock

    def __init__(self, serve: Callable[[Sequence[C]], Sequence[Any]], *, most: int = 128) -> None:
        self._serve = serve
        self._most = most
        self._start_afresh()
        follow_forks(self, level=1)

    def __call__(self, command: C) -> Any:
        """The answer to the command. Raises what `serve` raises for it."""
        ticket = _Ticket(command)
        try:
            with self._queueing:
                self._queue.append(ticket)
            while not ticket.done:
                if not self._turn.acquire(blocking=False):
                    ticket.wait(_PATIENCE_SECONDS)
                    continue
                try:
                    while not ticket.done:
                        self._serve_some()
                finally:
                    self._turn.release()
                    self._call_next()
            if ticket.error is not None:
                raise ticket.error
            return ticket.answer
        except BaseException:
            if not ticket.done:  # interrupted: nobody waits for the answer any more
                ticket.done = True
                self._call_next()
            raise
        finally:
            del ticket  # an error holds this frame

    def _waiting(self) -> list[_Ticket[C]]:
        with self._queueing:
            self._queue = [ticket for ticket in self._queue if not ticket.done]
            return self._queue[: self._most]

    def _call_next(self) -> None:
        """Wake who waits longest. Whoever queues up from now on sees for himself that nobody serves."""
        for ticket in self._waiting()[:1]:
            ticket.wake()

    def _serve_some(self) -> None:
        batch = self._waiting()
        try:
            self._answer(batch)
        finally:
            for ticket in batch:
                ticket.wake()

    def _answer(self, batch: Sequence[_Ticket[C]]) -> None:
        try:
            answers = self._serve([ticket.command for ticket in batch])
        except StoreError as error:
            for ticket in batch:
                # A traceback belongs to one thread.
                ticket.fail(error if len(batch) == 1 else _another(error))
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return
            for ticket in batch:
                self._answer([ticket])
        else:
            for ticket, answer in zip(batch, answers, strict=True):
                ticket.answer = answer
                ticket.done = True

    # --- forks: who waits here waits in the parent ---

    def _start_afresh(self) -> None:
        self._queue = []
        self._queueing = threading.Lock()
        self._turn = threading.Lock()

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        self._start_afresh()


class _Ticket(Generic[C]):
    """One command in the queue, and what became of it."""

    __slots__ = ("_asleep", "answer", "command", "done", "error")

    def __init__(self, command: C) -> None:
        self.command = command
        self.answer: Any = None
        self.error: Exception | None = None
        self.done = False
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done = True

    def wait(self, seconds: float) -> None:
        """Sleep until it is woken, or not at all if that was done before."""
        self._asleep.acquire(timeout=seconds)

    def wake(self) -> None:
        try:
            self._asleep.release()
        except RuntimeError:
            return  # it is awake


def _another(error: StoreError) -> StoreError:
    another = StoreError(*error.args)
    another.__cause__ = error
    return another
