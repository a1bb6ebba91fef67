"""Events on their way: nothing lost, nothing raised, nothing waited for."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import Event, Failure
from langchain_tokopt.telemetry.store import EventStore
from langchain_tokopt.telemetry.writer import BatchWriter, WriterStatus

ROOT = Path(__file__).parent.parent.parent
NEVER = 3600.0


class Disk:
    """Where batches go. `broken` and `refuses` make it fail."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.wrote = threading.Event()
        self.tries = 0
        self.broken = False
        self.refuses: Callable[[Event], bool] = lambda _: False

    def __call__(self, events: Sequence[Event]) -> None:
        self.tries += 1
        if self.broken:
            raise StoreError("the disk is gone")
        if any(self.refuses(event) for event in events):
            raise TypeError("not storable")
        self.batches.append(list(events))
        self.wrote.set()

    @property
    def names(self) -> list[str]:
        return [event.part for batch in self.batches for event in batch if isinstance(event, Failure)]


def event(name: object) -> Failure:
    return Failure(part=str(name), error="x")


def writer(disk: Disk, *, flush_seconds: float = NEVER, max_queue: int = 100_000) -> BatchWriter:
    return BatchWriter(disk, flush_seconds=flush_seconds, max_queue=max_queue)


def test_nothing_is_written_before_its_time_and_flush_writes_all_in_order() -> None:
    disk = Disk()
    queue = writer(disk)
    for n in range(3):
        queue.put(event(n))
    assert queue.status() == WriterStatus(queued=3, written=0, dropped=0, last_error=None)
    assert [each.id for each in queue.pending()] == [each.id for each in queue.pending()]
    assert queue.flush()
    assert disk.names == ["0", "1", "2"]
    assert queue.status() == WriterStatus(queued=0, written=3, dropped=0, last_error=None)
    queue.close()


def test_the_thread_writes_by_itself_after_a_while() -> None:
    disk = Disk()
    queue = writer(disk, flush_seconds=0.01)
    queue.put(event("a"))
    assert disk.wrote.wait(timeout=30)
    assert disk.names == ["a"]
    queue.close()


def test_an_urgent_event_is_written_at_once_with_what_came_before() -> None:
    disk = Disk()
    queue = writer(disk)
    queue.put(event("a"))
    queue.put(event("b"), urgent=True)
    assert disk.wrote.wait(timeout=30)
    queue.close()
    assert disk.names == ["a", "b"]


def test_a_full_batch_is_written_at_once() -> None:
    disk = Disk()
    queue = writer(disk)
    for n in range(500):
        queue.put(event(n))
    assert disk.wrote.wait(timeout=30)
    queue.close()
    assert disk.names == [str(n) for n in range(500)]


def test_between_two_batches_something_else_is_done_until_there_is_no_more() -> None:
    disk, left, done = Disk(), [1, 2, 3], threading.Event()

    def between() -> bool:
        left.pop()
        if not left:
            done.set()
        return bool(left)

    queue = BatchWriter(disk, flush_seconds=0.01, max_queue=10, between=between)
    queue.put(event("a"))
    assert done.wait(timeout=30)
    queue.close()
    assert disk.names == ["a"]


def test_a_full_queue_drops_the_oldest_and_counts_them() -> None:
    disk = Disk()
    queue = writer(disk, max_queue=3)
    for n in range(5):
        queue.put(event(n))
    assert queue.status() == WriterStatus(queued=3, written=0, dropped=2, last_error=None)
    queue.close()
    assert disk.names == ["2", "3", "4"]


def test_a_broken_disk_is_logged_once_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.broken = True
    queue = writer(disk)
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        for n in range(3):
            queue.put(event(n))
            assert not queue.flush()
    assert queue.status() == WriterStatus(queued=3, written=0, dropped=0, last_error="the disk is gone")
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry goes on in memory, until the database can be used again: the disk is gone"
    ]
    disk.broken = False
    queue.put(event(3))
    assert queue.flush()
    assert disk.names == ["0", "1", "2", "3"]
    queue.close()


def test_while_the_disk_is_broken_the_queue_stays_bounded() -> None:
    disk = Disk()
    disk.broken = True
    queue = writer(disk, max_queue=4)
    for n in range(10):
        queue.put(event(n))
        queue.flush()
    assert (queue.status().queued, queue.status().dropped) == (4, 6)
    disk.broken = False
    queue.close()
    assert disk.names == ["6", "7", "8", "9"]


def test_the_thread_tries_again_by_itself() -> None:
    disk = Disk()
    disk.broken = True
    queue = writer(disk, flush_seconds=0.01)
    queue.put(event("a"))
    while disk.tries < 2:
        threading.Event().wait(0.005)
    disk.broken = False
    assert disk.wrote.wait(timeout=30)
    assert disk.names == ["a"]
    queue.close()


def test_one_event_that_cannot_be_stored_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.refuses = lambda one: isinstance(one, Failure) and one.part == "bad"
    queue = writer(disk)
    for name in ("a", "bad", "b", "bad"):
        queue.put(event(name))
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        assert queue.flush()
    assert disk.names == ["a", "b"]
    assert queue.status() == WriterStatus(queued=0, written=2, dropped=2, last_error="TypeError: not storable")
    assert len(caplog.records) == 1
    queue.close()


def test_what_comes_after_close_is_dropped_and_counted() -> None:
    disk = Disk()
    queue = writer(disk)
    queue.put(event("a"))
    queue.close()
    queue.put(event("b"))
    queue.close()
    assert disk.names == ["a"]
    assert queue.status() == WriterStatus(queued=0, written=1, dropped=1, last_error=None)


def test_closing_over_a_broken_disk_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.broken = True
    queue = writer(disk)
    queue.put(event("a"))
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        queue.close()
    assert caplog.records[-1].getMessage() == "telemetry is closed with 1 events that could not be written"


def test_eight_threads_lose_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    queue = BatchWriter(EventStore(database).write, flush_seconds=0.01, max_queue=100_000)

    def work(thread: int) -> None:
        for n in range(500):
            queue.put(event(f"{thread}.{n}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    queue.close()
    stored = [each.part for each in EventStore(database).events() if isinstance(each, Failure)]
    assert sorted(stored) == sorted(f"{thread}.{n}" for thread in range(8) for n in range(500))
    assert queue.status() == WriterStatus(queued=0, written=4000, dropped=0, last_error=None)
    database.close()


def test_an_event_from_within_put_does_not_block() -> None:
    class Nested(Disk):
        pass

    disk = Nested()
    queue = writer(disk)
    with queue._lock:  # as when the garbage collector runs a finaliser inside `put`
        queue.put(event("a"))
    queue.close()
    assert disk.names == ["a"]


# --- how processes end -----------------------------------------------------------------------------------------------

BEGIN = """
import os, sys
from langchain_tokopt.database import Database
from langchain_tokopt.events import Failure
from langchain_tokopt.telemetry import Telemetry
telemetry = Telemetry(database=Database(sys.argv[1]), flush_seconds=3600)
telemetry.emit(Failure(part="before", error="x", at=1.0))
"""


def stored(path: Path) -> list[str]:
    database = Database(path)
    names = [each.part for each in EventStore(database).events() if isinstance(each, Failure)]
    database.close()
    return names


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + code, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError('the agent failed')", 1), ("del telemetry", 0)],
    ids=["end", "exit", "exception", "dropped"],
)
def test_what_is_queued_is_written_when_the_process_ends(tmp_path: Path, ending: str, code: int) -> None:
    done = run(ending, tmp_path / "x.db")
    assert done.returncode == code
    assert stored(tmp_path / "x.db") == ["before"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_forked_child_writes_its_own_events_and_not_its_parents(tmp_path: Path) -> None:
    code = """
child = os.fork()
if child == 0:
    telemetry.emit(Failure(part="child", error="x", at=2.0))
    telemetry.flush()
    os._exit(0)
os.waitpid(child, 0)
telemetry.emit(Failure(part="parent", error="x", at=3.0))
"""
    assert run(code, tmp_path / "x.db").returncode == 0
    assert stored(tmp_path / "x.db") == ["before", "child", "parent"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_child_of_multiprocessing_writes_what_is_queued_when_it_ends(tmp_path: Path) -> None:
    code = """
import multiprocessing
def work():
    telemetry.emit(Failure(part="child", error="x", at=2.0))
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
assert process.exitcode == 0
"""
    done = run(code, tmp_path / "x.db")
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path / "x.db") == ["before", "child"]
