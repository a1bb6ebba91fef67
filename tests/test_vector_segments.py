"""What happens to an index when it grows, wears and is compacted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import langchain_tokopt
from langchain_tokopt.vector_compaction import Job, Plan
from langchain_tokopt.vector_segments import Clustered, Flat, Open, Quantised, Segment
from langchain_tokopt.vectors import VectorIndex
from tests.unit_vectors import around_centres, random_units


def kinds(index: VectorIndex) -> list[type[Segment]]:
    return [type(segment) for segment in index._segments]


def settled(index: VectorIndex) -> VectorIndex:
    """The index when its background has nothing more to do."""
    while (thread := index._background) is not None:
        thread.join()
    index.compact()
    return index


class Held:
    """Stops the rewriting of segments until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        real = Plan.written

        def written(plan: Plan, job: Job, kept: Sequence[Any]) -> list[Segment]:
            done = real(plan, job, kept)
            self.begun.set()
            assert self.go.wait(30)
            return done

        monkeypatch.setattr(Plan, "written", written)


# --- growing ---------------------------------------------------------------------------------------------------------


def test_up_to_the_limit_every_search_is_exact_and_beyond_it_nearly() -> None:
    rows, queries = around_centres(20_000, 32, 300), around_centres(50, 32, 300)
    index = VectorIndex(32, exact_rows=4096)
    index.add(range(4096), rows[:4096])
    assert Clustered not in kinds(settled(index))
    index.add(range(4096, 20_000), rows[4096:])
    assert kinds(settled(index))[0] is Clustered
    assert sum(segment.living for segment in index._segments if not isinstance(segment, Clustered)) <= 4096
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    found = [{key for key, _ in index.search(query, 10)} for query in queries]
    right = sum(len(keys & set(best.tolist())) for keys, best in zip(found, truth, strict=True))
    assert right / truth.size > 0.97
    assert len(index) == 20_000
    assert len(index.search(queries[0], 15_000)) == 15_000


def test_inverted_files_grow_together_up_to_four_times_the_limit() -> None:
    index = VectorIndex(8, exact_rows=64)
    rows = random_units(1200, 8)
    for start in range(0, 1200, 40):
        index.add(range(start, start + 40), rows[start : start + 40])
        settled(index)
    sizes = [segment.count for segment in index._segments if isinstance(segment, Clustered)]
    assert max(sizes) <= 256
    assert len(sizes) <= 8
    assert len(index) == 1200


def test_no_limit_means_always_exact() -> None:
    index = VectorIndex(8, exact_rows=None)
    index.add(range(20_000), random_units(20_000, 8))
    assert kinds(settled(index)) == [Flat, Flat, Open]


def test_one_byte_a_number_takes_a_quarter_of_the_memory_and_moves_similarities_little() -> None:
    rows, queries = around_centres(16_400, 128, 200), around_centres(40, 128, 200)
    index = VectorIndex(128, storage="int8")
    index.add(range(16_400), rows)
    assert kinds(settled(index)) == [Quantised, Quantised, Open]
    assert index.nbytes < 0.34 * rows.nbytes  # ids and what finds them are a larger part than at 384 dimensions
    for query in queries:
        for key, similarity in index.search(query, 10):
            assert similarity == pytest.approx(float(query @ rows[key]), abs=0.01)
    assert np.linalg.norm(index.vectors(range(100)), axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    assert np.einsum("ij,ij->i", index.vectors(range(100)), rows[:100]).min() > 0.999


def test_one_byte_a_number_in_inverted_files() -> None:
    rows = around_centres(6000, 64, 100)
    index = VectorIndex(64, storage="int8", exact_rows=1024)
    index.add(range(6000), rows)
    assert kinds(settled(index))[0] is Clustered
    assert sum(index.search(rows[n], 1)[0][0] == n for n in range(0, 6000, 60)) >= 97
    assert np.einsum("ij,ij->i", index.vectors(range(100)), rows[:100]).min() > 0.999


def test_float_rows_take_little_more_than_their_own_bytes() -> None:
    rows = around_centres(12_000, 256, 100)
    index = VectorIndex(256, exact_rows=4096)
    index.add(range(12_000), rows)
    assert settled(index).nbytes < 1.15 * rows.nbytes


# --- wearing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("exact_rows", [64, None])
def test_removed_rows_are_cleared_wherever_they_lie(storage: Any, exact_rows: int | None) -> None:
    rows = random_units(9000, 8)
    index = VectorIndex(8, storage=storage, exact_rows=exact_rows)
    index.add(range(9000), rows)
    settled(index)
    assert index.remove(range(0, 9000, 2)) == 4500
    settled(index)
    assert sum(segment.count for segment in index._segments) < 4500 / 0.74
    assert sorted(index.ids()) == list(range(1, 9000, 2))
    assert [key for key, _ in index.search(rows[41], 1)] == [41]
    index.rebuild()
    assert sum(segment.count for segment in index._segments) == 4500
    index.remove(range(9000))
    index.rebuild()
    assert index.search(rows[0], 3) == []
    assert len(index) == 0


def test_dead_rows_are_skipped_in_an_inverted_file_until_they_are_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = around_centres(2000, 16, 20)
    index = VectorIndex(16, exact_rows=256)
    index.add(range(2000), rows)
    settled(index)
    monkeypatch.setattr(Plan, "due", lambda *_: None)
    order = [key for key, _ in index.search(rows[0], 400)]
    index.remove(order[:150])
    assert [key for key, _ in index.search(rows[0], 20)] == order[150:170]


# --- in the background -----------------------------------------------------------------------------------------------


def test_what_changes_while_segments_are_rewritten_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_units(400, 8)
    held = Held(monkeypatch)
    index = VectorIndex(8, exact_rows=64)
    index.add(range(100), rows[:100])
    assert held.begun.wait(30)
    assert index.remove(range(10)) == 10
    index.add([20, 21], rows[300:302])  # new vectors for ids that are being moved
    index.add(range(100, 200), rows[100:200])
    assert index.remove([150]) == 1
    expected = {n: rows[n] for n in range(10, 200) if n != 150} | {20: rows[300], 21: rows[301]}

    def check() -> None:
        assert sorted(index.ids()) == sorted(expected)
        assert len(index) == len(expected)
        keys = sorted(expected)
        assert index.vectors(keys) == pytest.approx(np.stack([expected[key] for key in keys]), abs=1e-6)
        for key in (11, 20, 21, 199):
            assert index.search(expected[key], 1)[0][0] == key

    check()
    held.go.set()
    settled(index)
    check()
    assert Clustered in kinds(index)


def test_a_search_waits_for_nobody_who_writes_or_compacts() -> None:
    rows = random_units(100, 8)
    index = settled(VectorIndex(8, exact_rows=64))
    index.add(range(100), rows)
    found: list[Any] = []
    with index._compacting, index._lock:
        looking = threading.Thread(target=lambda: found.append(index.search(rows[5], 1)))
        looking.start()
        looking.join(30)
        assert [key for key, _ in found[0]] == [5]


def test_a_search_during_which_an_id_was_renewed_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_units(3, 8)
    index = VectorIndex(8)
    index.add([1, 2], rows[:2])
    real, looks = Segment.nearest, []

    def nearest(segment: Segment, query: Any, k: int) -> Any:
        looks.append(k)
        found = real(segment, query, k)
        if len(looks) == 1:
            index.add([1], rows[2][None, :])
        return found

    monkeypatch.setattr(Segment, "nearest", nearest)
    found = dict(index.search(rows[2], 2))
    assert len(looks) == 2
    assert found[1] == pytest.approx(1.0, abs=1e-6)


def test_when_compacting_fails_it_is_said_once_and_the_index_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(Clustered, "made", broken)
    rows = random_units(400, 8)
    index = VectorIndex(8, exact_rows=64)
    with caplog.at_level(logging.ERROR, "langchain_tokopt"):
        for start in range(0, 400, 50):
            index.add(range(start, start + 50), rows[start : start + 50])
            while (thread := index._background) is not None:
                thread.join()
    assert [record.getMessage() for record in caplog.records] == ["a vector index goes on without being compacted"]
    assert all(index.search(rows[n], 1)[0][0] == n for n in range(400))


def run(program: str) -> subprocess.CompletedProcess[str]:
    root = Path(langchain_tokopt.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=root, timeout=120
    )


def test_a_program_ends_while_its_index_is_being_compacted() -> None:
    done = run(
        "import numpy as np; from langchain_tokopt.vectors import VectorIndex;"
        "rows = np.random.default_rng(0).normal(size=(30000, 32)).astype('f4');"
        "rows /= np.linalg.norm(rows, axis=1, keepdims=True);"
        "VectorIndex(32, exact_rows=2048).add(range(30000), rows)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_sets_right_what_a_thread_of_its_parent_had_half_done() -> None:
    done = run("""
import os, threading, warnings
warnings.simplefilter("ignore")
import numpy as np
from langchain_tokopt.vectors import VectorIndex

rows = np.eye(8, dtype="f4")
index = VectorIndex(8)
index.add(range(6), rows[:6])
changing, go = threading.Event(), threading.Event()

def half_done():
    with index._lock:
        index._renewed += 1
        segment = index._segments[-1]
        segment.dead[2] = True
        segment._by_id[99] = 6
        changing.set()
        go.wait(60)

thread = threading.Thread(target=half_done)
thread.start()
assert changing.wait(60)
child = os.fork()
if child:
    status = os.waitpid(child, 0)[1]
    go.set()
    thread.join()
    os._exit(status != 0)
assert index.search(rows[1], 1) == [(1, 1.0)]
assert (len(index), 99 in index, 2 in index) == (5, False, False)
index.add([7], rows[7:])
assert 99 not in index and index.remove([7, 99]) == 1
os._exit(0)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_was_forked_meanwhile_goes_on() -> None:
    done = run("""
import os, threading, warnings
warnings.simplefilter("ignore")
import numpy as np
from langchain_tokopt.vector_compaction import Plan
from langchain_tokopt.vectors import VectorIndex

rows = np.random.default_rng(0).normal(size=(300, 8)).astype("f4")
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
begun, go, real = threading.Event(), threading.Event(), Plan.written
def held(*given):
    begun.set()
    go.wait(60)
    return real(*given)
Plan.written = held
index = VectorIndex(8, exact_rows=64)
index.add(range(100), rows[:100])
assert begun.wait(60)
child = os.fork()
Plan.written = real
index.add([1000 + child % 2], rows[299][None, :])  # memory is not shared: neither sees what the other writes
index.add(range(100, 300), rows[100:])
if child == 0:
    index.compact()
else:
    go.set()
    assert os.waitpid(child, 0)[1] == 0
    while index._background:
        index._background.join()
assert len(index) == 301, len(index)
assert all(index.search(rows[n], 1)[0][0] in (n, 1000, 1001) for n in range(300))
os._exit(0)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_change_and_search_while_segments_are_rewritten() -> None:
    rows = random_units(3000, 8)
    index = VectorIndex(8, exact_rows=128)
    index.add(range(1000), rows[:1000])
    wrong: list[Any] = []

    def churn(start: int) -> None:
        for n in range(start, start + 500):
            index.add([1000 + n], rows[1000 + n][None, :])
            index.remove([n])
            index.add([1000 + n], rows[2000 + n][None, :])

    def look() -> None:
        for n in range(400):
            found = index.search(rows[n], 5)
            if len(found) != 5 or len({key for key, _ in found}) != 5:
                wrong.append(found)

    threads = [threading.Thread(target=churn, args=(start,)) for start in (0, 500)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled(index)
    assert wrong == []
    assert sorted(index.ids()) == list(range(1000, 2000))
    assert index.vectors(range(1000, 2000)) == pytest.approx(rows[2000:3000], abs=1e-6)


def test_a_small_index_reserves_little_and_grows_as_it_is_filled() -> None:
    rows = random_units(9000, 8)
    index = VectorIndex(8, exact_rows=None)
    capacities = []
    for n, row in enumerate(rows):
        index.add([n], row[None, :])
        capacities.append(index._segments[-1].capacity)  # type: ignore[attr-defined]
    assert list(dict.fromkeys(capacities)) == [256, 1024, 4096, 8192]
    assert kinds(index) == [Flat, Open]
    assert all(index.search(rows[n], 1)[0][0] == n for n in range(0, 9000, 100))
