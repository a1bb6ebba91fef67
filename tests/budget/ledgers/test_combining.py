"""Threads that ask at once are served together, whatever happens to the one that serves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from langchain_tokopt.budget.ledgers.combining import Combiner, _Ticket
from langchain_tokopt.errors import StoreError

ROOT = Path(__file__).resolve().parents[3]


class Counter:
    """Serves numbers, each answered by its double; the first batch waits until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.fail: Callable[[Sequence[int]], None] = lambda batch: None

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        if len(self.batches) == 1:
            self.began.set()
            self.may_end.wait()
        self.fail(batch)
        return [2 * number for number in batch]


class Asking(threading.Thread):
    """One thread that asks for one answer."""

    def __init__(self, combine: Combiner[int], number: int) -> None:
        super().__init__(daemon=True)
        self._combine = combine
        self._number = number
        self.answer: int | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._combine(self._number)
        except BaseException as error:
            self.error = error


@pytest.fixture
def counter() -> Counter:
    return Counter()


def ask_during_the_first(counter: Counter, combine: Combiner[int], count: int) -> list[Asking]:
    """Ask for 0, and for all the others while that is being served."""
    threads = [Asking(combine, 0)]
    assert counter.began.wait(10)
    for number in range(1, count):
        threads.append(Asking(combine, number))
        while len(combine._queue) < number + 1:
            pass
    counter.may_end.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return threads


def test_a_lone_caller_is_served_at_once_and_alone(counter: Counter) -> None:
    counter.may_end.set()
    combine = Combiner(counter)
    assert [combine(1), combine(2)] == [2, 4]
    assert counter.batches == [[1], [2]]


def test_who_asks_while_others_are_served_shares_the_next_batch(counter: Counter) -> None:
    threads = ask_during_the_first(counter, Combiner(counter), 50)
    assert [thread.answer for thread in threads] == [2 * number for number in range(50)]
    assert counter.batches == [[0], list(range(1, 50))]


def test_a_batch_is_not_larger_than_it_may_be(counter: Counter) -> None:
    threads = ask_during_the_first(counter, Combiner(counter, most=20), 50)
    assert [thread.answer for thread in threads] == [2 * number for number in range(50)]
    assert [len(batch) for batch in counter.batches] == [1, 20, 20, 9]


def test_when_the_store_cannot_be_used_everyone_in_the_batch_is_told(counter: Counter) -> None:
    def fail(batch: Sequence[int]) -> None:
        if len(batch) > 1:
            raise StoreError("gone")

    counter.fail = fail
    threads = ask_during_the_first(counter, Combiner(counter), 5)
    assert threads[0].answer == 0
    assert [str(thread.error) for thread in threads[1:]] == ["gone"] * 4
    assert len({id(thread.error) for thread in threads[1:]}) == 4
    assert len(counter.batches) == 2


def test_an_error_that_is_the_fault_of_one_is_told_to_that_one_only(counter: Counter) -> None:
    def fail(batch: Sequence[int]) -> None:
        if 3 in batch:
            raise OverflowError

    counter.fail = fail
    threads = ask_during_the_first(counter, Combiner(counter), 5)
    assert [thread.answer for thread in threads] == [0, 2, 4, None, 8]
    assert [type(thread.error) for thread in threads] == [type(None)] * 3 + [OverflowError, type(None)]
    assert counter.batches == [[0], [1, 2, 3, 4], [1], [2], [3], [4]]


def test_when_the_serving_thread_is_interrupted_the_next_serves_the_others(counter: Counter) -> None:
    def fail(batch: Sequence[int]) -> None:
        if batch[0] == 1 and len(counter.batches) == 2:
            raise KeyboardInterrupt

    counter.fail = fail
    threads = ask_during_the_first(counter, Combiner(counter), 5)
    interrupted = [thread for thread in threads if isinstance(thread.error, KeyboardInterrupt)]
    assert len(interrupted) == 1
    assert [thread.answer for thread in threads if thread not in interrupted] == [
        2 * thread._number for thread in threads if thread not in interrupted
    ]


def test_nobody_waits_for_one_that_was_called_to_serve_but_is_gone(counter: Counter) -> None:
    combine = Combiner(counter)
    first = Asking(combine, 0)
    assert counter.began.wait(10)
    # As if its thread had been interrupted just when it was called.
    combine._queue.append(_Ticket(1))
    other = Asking(combine, 2)
    while len(combine._queue) < 3:
        pass
    counter.may_end.set()
    for thread in (first, other):
        thread.join(10)
    assert (first.answer, other.answer) == (0, 4)
    assert counter.batches == [[0], [1, 2]]


INTERRUPTED = """
import os, signal, threading
from langchain_tokopt.budget.ledgers.combining import Combiner

began, may_end = threading.Event(), threading.Event()

def serve(batch):
    began.set()
    may_end.wait()
    return batch

combine = Combiner(serve)
answers = []
first = threading.Thread(target=lambda: answers.append(combine(1)))
first.start()
began.wait()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    combine(2)
except KeyboardInterrupt:
    print("interrupted")
may_end.set()
first.join()
print(answers, combine(3), len(combine._queue))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send it to a process of its own group only")
def test_a_waiting_thread_can_be_interrupted() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("interrupted\n[1] 3 0\n", "")


FORKING = """
import os, threading
from langchain_tokopt.budget.ledgers.combining import Combiner

began, may_end = threading.Event(), threading.Event()

def serve(batch):
    if batch[0] == "slow":
        began.set()
        may_end.wait()
    return batch

combine = Combiner(serve)
answers = []
slow = threading.Thread(target=lambda: answers.append(combine("slow")))
slow.start()
began.wait()
child = os.fork()
if child == 0:
    os._exit(0 if combine("in the child") == "in the child" else 1)
assert os.waitpid(child, 0)[1] == 0
may_end.set()
slow.join()
assert answers == ["slow"]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    ignore = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # that it has threads, from Python 3.12 on
    done = subprocess.run(
        [sys.executable, *ignore, "-c", FORKING], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
