"""What was learned is kept, in memory and in every database, and none of it is lost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from langchain_tokopt.cache.decision import record as module
from langchain_tokopt.cache.decision.record import DatabaseRecord, Label, MemoryRecord, Record
from langchain_tokopt.cache.decision.steering import Sums
from langchain_tokopt.database import Database
from tests.databases import KINDS, database_url

WIDTH = 3


@pytest.fixture(params=("python", *KINDS))
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Record]:
    """The one in this process's memory, and one in every database."""
    if request.param == "python":
        yield MemoryRecord()
        return
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield DatabaseRecord(database, book="agent|mini", width=WIDTH)
        database.close()


def label(number: float, *, same: bool = True, weight: float = 1.0, risk: float | None = None) -> Label:
    """A label that can be told from others by its first feature."""
    return Label(np.array([number, 0.5, -1.0]), same, weight, risk)


def numbers(labels: list[Label]) -> list[float]:
    return [float(one.features[0]) for one in labels]


def plain(one: Label) -> tuple[list[float], bool, float, float | None]:
    return list(one.features), one.same, one.weight, one.risk


# --- one contract ----------------------------------------------------------------------------------------------------


def test_an_empty_record(record: Record) -> None:
    assert record.read(0) == (0, [], Sums())


def test_what_is_added_is_read_as_it_was(record: Record) -> None:
    given = [label(1), label(2, same=False), label(3, weight=12.5, risk=0.0625)]
    record.add(given, Sums(requests=3, served=1, pending_risk=0.0625))
    _, labels, sums = record.read(0)
    assert [plain(one) for one in labels] == [plain(one) for one in given]
    assert sums == Sums(requests=3, served=1, pending_risk=0.0625)


def test_only_what_is_newer_is_read_and_each_label_once(record: Record) -> None:
    record.add([label(1), label(2)], Sums(requests=2))
    reached, labels, _ = record.read(0)
    assert numbers(labels) == [1, 2]
    assert record.read(reached) == (reached, [], Sums(requests=2))
    record.add([label(3)], Sums(requests=1))
    record.add([label(4)], Sums(requests=1))
    after, labels, sums = record.read(reached)
    assert (numbers(labels), sums.requests) == ([3, 4], 4)
    assert numbers(record.read(0)[1]) == [1, 2, 3, 4]
    assert record.read(after)[1] == []


def test_sums_add_up_and_can_be_taken_back(record: Record) -> None:
    every = Sums(*(float(n) for n in range(1, len(astuple(Sums())) + 1)))
    record.add([], every)
    record.add([], every)
    assert record.read(0)[2] == every + every
    record.add([], Sums(served=-1.0))
    assert record.read(0)[2] == every + every + Sums(served=-1.0)


def test_labels_alone_and_sums_alone(record: Record) -> None:
    record.add([label(1)], Sums())
    record.add([], Sums(twins=1))
    _, labels, sums = record.read(0)
    assert (numbers(labels), sums) == ([1], Sums(twins=1))


def test_old_labels_are_forgotten(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 5)
    record.add([label(n) for n in range(4)], Sums())
    reached, _, _ = record.read(0)
    record.add([label(n) for n in range(4, 7)], Sums())
    assert numbers(record.read(0)[1]) == [2, 3, 4, 5, 6]
    assert numbers(record.read(reached)[1]) == [4, 5, 6]
    record.add([label(n) for n in range(7, 20)], Sums())
    assert numbers(record.read(reached)[1]) == [15, 16, 17, 18, 19]


def test_old_requests_count_less(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY", 100)
    record.add([], Sums(requests=60, served=20, known_wrong=3))
    assert record.read(0)[2] == Sums(requests=60, served=20, known_wrong=3)
    record.add([], Sums(requests=60, served=20, known_wrong=3))
    assert record.read(0)[2] == Sums(requests=60, served=20, known_wrong=3)  # half of twice as much
    record.add([], Sums(requests=1))
    assert record.read(0)[2].requests == 61


def test_whoever_adds_at_the_same_time_loses_nothing(record: Record) -> None:
    everybody = threading.Barrier(6)
    failures: list[BaseException] = []

    def add(thread: int) -> None:
        try:
            everybody.wait()
            for n in range(15):
                record.add([label(100 * thread + n)], Sums(requests=1, known_wrong=2))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    seen: list[float] = []
    reached = 0
    while any(thread.is_alive() for thread in threads):
        reached, labels, _ = record.read(reached)
        seen += numbers(labels)
    for thread in threads:
        thread.join()
    _, labels, sums = record.read(reached)
    seen += numbers(labels)
    assert failures == []
    assert sums == Sums(requests=90, known_wrong=180)
    expected = sorted(100 * thread + n for thread in range(6) for n in range(15))
    assert sorted(numbers(record.read(0)[1])) == expected
    assert sorted(seen) == expected  # whoever follows along sees each of them once


# --- databases -------------------------------------------------------------------------------------------------------


def test_books_are_kept_apart(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    mine, other = (DatabaseRecord(database, book=book, width=WIDTH) for book in ("agent|mini", "agent|large"))
    mine.add([label(1)], Sums(requests=1))
    other.add([label(n) for n in range(10, 20)], Sums(requests=10))
    assert (numbers(mine.read(0)[1]), mine.read(0)[2].requests) == ([1], 1)
    assert (numbers(other.read(0)[1]), other.read(0)[2].requests) == ([17, 18, 19], 10)


def test_labels_of_another_width_are_left_out(database: Database) -> None:
    old = DatabaseRecord(database, book="b", width=2)
    old.add([Label(np.array([1.0, 2.0]), True)], Sums(requests=1))
    new = DatabaseRecord(database, book="b", width=WIDTH)
    reached, labels, sums = new.read(0)
    assert (labels, sums.requests) == ([], 1)
    new.add([label(5)], Sums())
    assert numbers(new.read(reached)[1]) == [5]
    assert [list(one.features) for one in old.read(0)[1]] == [[1.0, 2.0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_labels_that_are_no_numbers_are_left_out(database: Database, bad: float) -> None:
    record = DatabaseRecord(database, book="b", width=WIDTH)
    record.add([label(1), label(bad), label(3)], Sums())
    assert numbers(record.read(0)[1]) == [1, 3]


def test_a_record_that_is_opened_again_has_everything(tmp_path: Path) -> None:
    path = tmp_path / "tokopt.db"
    first = Database(path)
    DatabaseRecord(first, book="b", width=WIDTH).add([label(1, risk=0.25)], Sums(requests=7))
    first.close()
    second = Database(path)
    _, labels, sums = DatabaseRecord(second, book="b", width=WIDTH).read(0)
    second.close()
    assert ([plain(one) for one in labels], sums) == ([plain(label(1, risk=0.25))], Sums(requests=7))


def test_a_write_that_fails_leaves_nothing_behind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    record = DatabaseRecord(database, book="b", width=WIDTH)
    monkeypatch.setattr(module, "_TRIM", module.text("DELETE FROM no_such_table"))
    with pytest.raises(Exception, match="no_such_table"):
        record.add([label(1)], Sums(requests=1))
    monkeypatch.undo()
    assert record.read(0) == (0, [], Sums())


_CHILD = textwrap.dedent(
    """
    import sys

    import numpy as np

    from langchain_tokopt.cache.decision.record import DatabaseRecord, Label
    from langchain_tokopt.cache.decision.steering import Sums
    from langchain_tokopt.database import Database

    record = DatabaseRecord(Database(sys.argv[1]), book="b", width=3)
    _, labels, sums = record.read(0)
    assert [float(one.features[0]) for one in labels] == [1.0], labels
    assert sums == Sums(requests=1)
    for n in range(10):
        record.add([Label(np.array([10.0 + n, 0.0, 0.0]), False)], Sums(requests=1))
    """
)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_two_processes_see_what_the_other_wrote(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        assert url is not None
        database = Database(url)
        record = DatabaseRecord(database, book="b", width=WIDTH)
        record.add([label(1)], Sums(requests=1))
        reached, _, _ = record.read(0)
        subprocess.run([sys.executable, "-c", _CHILD, url], check=True, timeout=60)
        _, labels, sums = record.read(reached)
        database.close()
    assert (numbers(labels), sums) == ([10.0 + n for n in range(10)], Sums(requests=11))


def test_on_postgresql_labels_are_numbered_in_the_order_in_which_they_are_committed(
    tmp_path: Path,
) -> None:
    """Or a reader who has reached the later number would never see the label of a transaction that ends later."""
    with database_url("postgresql", tmp_path) as url:
        slow, fast = Database(url), Database(url)
        records = [DatabaseRecord(one, book="b", width=WIDTH) for one in (slow, fast)]
        records[0].add([], Sums(requests=1))
        done = threading.Event()

        def add() -> None:
            records[1].add([label(2)], Sums())
            done.set()

        later = threading.Thread(target=add)
        with slow.write():
            records[0].add([label(1)], Sums())
            later.start()
            assert not done.wait(0.2)  # it waits for the one who was first
            assert records[1].read(0)[1] == []
        later.join()
        reached, labels, _ = records[1].read(0)
        assert numbers(labels) == [1, 2]
        assert records[1].read(reached)[1] == []
        slow.close()
        fast.close()
