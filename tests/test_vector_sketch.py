"""A first look at coded rows must never cost a neighbour."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt import vector_compaction
from langchain_tokopt.vector_segments import Clustered, Flat, Open, Segment, faiss
from langchain_tokopt.vector_sketch import Query, Sketch
from langchain_tokopt.vectors import VectorIndex
from tests.test_vector_segments import kinds, settled
from tests.unit_vectors import around_centres, random_units, unit


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Segment]:
    """Segments that were scanned without their sketch."""
    seen: list[Segment] = []
    real = Segment.nearest

    def nearest(segment: Segment, query: Any, k: int) -> Any:
        seen.append(segment)
        return real(segment, query, k)

    monkeypatch.setattr(Segment, "nearest", nearest)
    return seen


def check_exact(index: VectorIndex, rows: dict[int, Any], query: Any, k: int) -> None:
    """Nothing that was left out is nearer than what was found, as far as float32 can tell."""
    found = index.search(query, k)
    keys = np.array(list(rows))
    true = np.stack([rows[key] for key in keys]).astype(np.float64) @ query.astype(np.float64)
    best = np.sort(true)[::-1][:k]
    assert [similarity for _, similarity in found] == pytest.approx(best.clip(-1, 1), abs=1e-6)
    told = dict(zip(keys.tolist(), true, strict=True))
    assert [similarity for _, similarity in found] == pytest.approx([told[key] for key, _ in found], abs=1e-6)
    assert len({key for key, _ in found}) == len(found) == min(k, len(rows))


@pytest.mark.parametrize("k", [1, 10, 20])
def test_the_nearest_of_ten_thousand_are_found_by_the_sketch_alone(scans: list[Segment], k: int) -> None:
    rows, queries = around_centres(10_000, 128, 200), around_centres(60, 128, 200)
    index = VectorIndex(128)
    index.add(range(10_000), rows)
    assert kinds(index) == [Flat, Open]
    for query in queries:
        check_exact(index, dict(enumerate(rows)), query, k)
    assert scans == []


def test_near_ties_that_the_codes_cannot_tell_apart_are_told_apart(scans: list[Segment]) -> None:
    random = np.random.default_rng(3)
    query = random_units(1, 64, 9)[0]
    rows = random_units(4000, 64)
    # Thousands of rows within a hair of one similarity: closer than half a step of the code.
    beside = unit(rows - (rows @ query)[:, None] * query)
    near = (0.8 + 1e-4 * random.random(3000)).astype(np.float32)[:, None]
    rows[:3000] = unit(near * query + np.sqrt(1 - near**2) * beside[:3000])
    index = VectorIndex(64)
    index.add(range(4000), rows)
    for k in (1, 10, 20):
        check_exact(index, dict(enumerate(rows)), query, k)
    assert scans != []  # it was seen that the sketch cannot tell


def test_equal_rows_are_as_many_as_are_asked_for() -> None:
    rows = np.repeat(random_units(3, 32), 700, axis=0)
    index = VectorIndex(32)
    index.add(range(2100), rows)
    check_exact(index, dict(enumerate(rows)), rows[0], 20)


# Few numbers a row: the codes are rough. A common part: what the centre is for. One loud number: a wide scale.
@settings(deadline=None, max_examples=60)
@given(
    dim=st.sampled_from([2, 3, 8, 17, 48]),
    common=st.sampled_from([0.0, 1.0, 5.0]),
    loud=st.sampled_from([0.0, 10.0, 1000.0]),
    late=st.booleans(),
    removed=st.integers(0, 600),
    seed=st.integers(0, 10_000),
    k=st.sampled_from([1, 5, 20, 40]),
)
def test_exact_whatever_the_rows_are(
    dim: int, common: float, loud: float, late: bool, removed: int, seed: int, k: int
) -> None:
    random = np.random.default_rng(seed)
    raw = random.normal(size=(2500, dim)) + common
    # Before the scale is fixed, or after it.
    raw[(2000 if late else 3), 0] += loud
    raw[100:130] = raw[99] + 1e-3 * random.normal(size=(30, dim))
    rows = unit(raw)
    index = VectorIndex(dim)
    for start in range(0, 2500, 500):
        index.add(range(start, start + 500), rows[start : start + 500])
    truth = dict(enumerate(rows))
    queries = unit(random.normal(size=(3, dim)) + common)
    gone = np.argsort(-(rows @ queries[0]))[:removed].tolist()
    index.remove(gone)
    for key in gone:
        del truth[key]
    for query in (*queries, rows[99], rows[2000], rows[3]):
        check_exact(index, truth, query, k)


@settings(deadline=None, max_examples=100)
@given(dim=st.integers(1, 40), wide=st.floats(0.01, 100), seed=st.integers(0, 10_000), reach=st.integers(1, 60))
def test_nothing_outside_of_the_likely_is_above_the_bound(dim: int, wide: float, seed: int, reach: int) -> None:
    random = np.random.default_rng(seed)
    rows = unit(random.normal(size=(300, dim)) * np.geomspace(1, wide, dim))
    sketch = Sketch(rows[:100], 300)
    sketch.write(100, rows[100:])
    query = unit(random.normal(size=dim))
    likely, bound = Query(query, faiss()).likely(sketch, 300, reach)
    assert len(set(likely.tolist())) == reach
    others = np.setdiff1d(np.arange(300), likely)
    assert (rows[others].astype(np.float64) @ query <= bound).all()


def test_fewer_rows_than_are_asked_for_are_all_likely() -> None:
    rows = random_units(5, 8)
    likely, bound = Query(rows[0], faiss()).likely(Sketch(rows, 5), 5, 9)
    assert sorted(likely.tolist()) == [0, 1, 2, 3, 4]
    assert bound == -np.inf


def test_rows_that_are_written_later_are_looked_at_when_they_are_counted() -> None:
    rows = random_units(1100, 8)
    index = VectorIndex(8)
    index.add(range(1023), rows[:1023])
    assert index._segments[-1].sketch is None
    for n in range(1023, 1100):
        index.add([n], rows[n][None, :])
        assert index.search(rows[n], 1) == [(n, pytest.approx(1.0, abs=1e-6))]
    assert index._segments[-1].sketch is not None


def test_sketches_are_made_for_some_rows_only_and_count_as_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, scans: list[Segment]
) -> None:
    monkeypatch.setattr(vector_compaction, "_SKETCHED_ROWS", 16_384)
    rows = around_centres(30_000, 64, 300)
    index = VectorIndex(64, exact_rows=None)
    for start in range(0, 30_000, 1000):
        index.add(range(start, start + 1000), rows[start : start + 1000])
    assert [segment.sketch is not None for segment in index._segments] == [True, True, False, False]
    plain = sum(segment.count for segment in index._segments) * (4 * 64 + 9)
    assert index.nbytes >= plain + 16_384 * 64
    check_exact(index, dict(enumerate(rows)), rows[4], 10)
    assert scans == list(index._segments[2:])
    index.save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index")
    assert [segment.sketch is not None for segment in loaded._segments] == [True, True, False, False]
    check_exact(loaded, dict(enumerate(rows)), rows[4], 10)


def test_segments_that_are_rewritten_have_sketches_again() -> None:
    rows = around_centres(17_000, 32, 100)
    index = VectorIndex(32)
    index.add(range(17_000), rows)
    index.remove(range(0, 17_000, 2))
    settled(index)
    assert kinds(index) == [Flat, Open]
    assert index._segments[0].sketch is not None
    left = {n: rows[n] for n in range(1, 17_000, 2)}
    for query in rows[:20]:
        check_exact(index, left, query, 10)


def test_an_inverted_file_beside_sketches() -> None:
    rows = around_centres(20_000, 32, 300)
    index = VectorIndex(32, exact_rows=16_384)
    index.add(range(16_500), rows[:16_500])
    settled(index)
    index.add(range(16_500, 20_000), rows[16_500:])
    assert Clustered in kinds(index)
    assert index._segments[-1].sketch is not None
    assert all(index.search(rows[n], 1)[0][0] == n for n in range(0, 20_000, 500))


def test_threads_write_while_others_look_at_the_sketch() -> None:
    rows = random_units(9000, 16)
    index = VectorIndex(16)
    index.add(range(1100), rows[:1100])
    wrong: list[Any] = []

    def write() -> None:
        for n in range(1100, 9000, 20):
            index.add(range(n, n + 20), rows[n : n + 20])
            index.remove([n - 1100])

    def look() -> None:
        while writing.is_alive():
            for n in range(1001, 1100):
                if index.search(rows[n], 1) != [(n, pytest.approx(1.0, abs=1e-6))] and n in index:
                    wrong.append(n)

    writing = threading.Thread(target=write)
    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in (writing, *looking):
        thread.start()
    for thread in (writing, *looking):
        thread.join()
    assert wrong == []
    check_exact(index, {key: rows[key] for key in index.ids()}, rows[8000], 20)
