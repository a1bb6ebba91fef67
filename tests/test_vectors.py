from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from langchain_tokopt.vectors import VectorIndex
from tests.unit_vectors import random_units, unit


def test_empty_index_finds_nothing() -> None:
    index = VectorIndex(3)
    assert index.search(unit([1, 0, 0]), 5) == []
    assert len(index) == 0
    index.add([], np.zeros((0, 3), dtype=np.float32))
    assert index.search(unit([1, 0, 0]), 5) == []


def test_nearest_first_with_cosine_and_no_more_than_there_are() -> None:
    index = VectorIndex(2)
    index.add([7, 8, 9], unit([[1, 0], [0.6, 0.8], [-1, 0]]))
    found = index.search(unit([1, 0]), 10)
    assert [key for key, _ in found] == [7, 8, 9]
    assert [similarity for _, similarity in found] == pytest.approx([1.0, 0.6, -1.0])
    assert index.search(unit([1, 0]), 0) == []
    assert 8 in index
    assert 1 not in index


def test_an_id_added_again_has_its_new_vector() -> None:
    index = VectorIndex(2)
    index.add([1, 2], unit([[1, 0], [0, 1]]))
    index.add([1, 1], unit([[0.5, 0.5], [-1, 0]]))
    assert len(index) == 2
    found = index.search(unit([1, 0]), 3)
    assert [key for key, _ in found] == [2, 1]
    assert [similarity for _, similarity in found] == pytest.approx([0.0, -1.0])


def test_removed_ids_are_never_found_even_if_they_were_the_nearest() -> None:
    rows = random_units(600, 6)
    index = VectorIndex(6)
    index.add(range(600), rows)
    order = [key for key, _ in index.search(rows[0], 600)]
    assert index.remove([*order[:150], 10_000]) == 150
    assert index.remove(order[:150]) == 0
    assert [key for key, _ in index.search(rows[0], 20)] == order[150:170]
    assert len(index) == 450


def test_dead_rows_are_dropped_when_there_are_many() -> None:
    rows = random_units(1000, 4)
    index = VectorIndex(4)
    index.add(range(1000), rows)
    index.remove(range(255))
    assert index._segments[0].count == 1000
    index.remove([255])
    assert index._segments[0].count == 744
    assert [key for key, _ in index.search(rows[300], 1)] == [300]
    assert sorted(index.ids()) == list(range(256, 1000))


def test_rebuild_of_an_emptied_index() -> None:
    index = VectorIndex(2)
    index.add([1], unit([[1, 0]]))
    index.remove([1])
    index.rebuild()
    assert index.search(unit([1, 0]), 1) == []
    index.add([2], unit([[0, 1]]))
    assert index.search(unit([0, 1]), 1) == [(2, 1.0)]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 0.0, 0.0]], "shape must be"),
        ([[1.0, 0.0], [0.0, 1.0]], "shape must be"),
        ([[2.0, 0.0]], "norm 2"),
        ([[float("nan"), 0.0]], "norm nan"),
        ([[0.0, 0.0]], "norm 0"),
    ],
)
def test_bad_vectors_are_refused_and_change_nothing(vectors: Any, message: str) -> None:
    index = VectorIndex(2)
    with pytest.raises(ConfigurationError, match=message):
        index.add([1], np.asarray(vectors, dtype=np.float32))
    assert len(index) == 0


@pytest.mark.parametrize("dim", [0, -1, True, 2.0])
def test_bad_dimension_is_refused(dim: Any) -> None:
    with pytest.raises(ConfigurationError, match="dim="):
        VectorIndex(dim)


@pytest.mark.parametrize(
    "settings", [{"storage": "int4"}, {"storage": None}, {"exact_rows": 0}, {"exact_rows": True}, {"exact_rows": 2.5}]
)
def test_bad_settings_are_refused(settings: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(settings))}="):
        VectorIndex(4, **settings)


@pytest.mark.parametrize("query", [[1.0, 0.0, 0.0], [[1.0, 0.0]], [2.0, 0.0], [float("nan"), 0.0]])
def test_a_bad_query_is_refused(query: Any) -> None:
    index = VectorIndex(2)
    index.add([1], unit([[1, 0]]))
    with pytest.raises(ConfigurationError):
        index.search(np.asarray(query, dtype=np.float32), 1)


def test_vectors_are_given_back_by_id() -> None:
    rows = random_units(50, 4)
    index = VectorIndex(4, exact_rows=16)
    index.add(range(50), rows)
    index.compact()
    index.add([3], rows[40][None, :])
    index.remove([5])
    assert index.vectors([7, 3, 49]) == pytest.approx(rows[[7, 40, 49]], abs=1e-6)
    assert index.vectors([]).shape == (0, 4)
    assert index.vector(0).dtype == np.float32
    for missing in (5, 99):
        with pytest.raises(KeyError, match=str(missing)):
            index.vectors([1, missing])


def test_any_64_bit_id_in_any_order() -> None:
    keys = [-(2**63), 2**63 - 1, 0, -1, 10**12, 5, 4, 3, 2, 1]
    rows = random_units(len(keys), 6)
    index = VectorIndex(6, exact_rows=8)
    index.add(keys, rows)
    index.compact()
    assert sorted(index.ids()) == sorted(keys)
    for key, row in zip(keys, rows, strict=True):
        assert key in index
        assert index.search(row, 1) == [(key, pytest.approx(1.0, abs=1e-6))]
    assert index.remove(keys[:3]) == 3
    assert keys[0] not in index
    assert "5" not in index


def test_faiss_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match="faiss-cpu"):
        VectorIndex(2)


def test_search_leaves_the_callers_faiss_threads_alone() -> None:
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    index = VectorIndex(2)
    index.add([1], unit([[1, 0]]))
    index.search(unit([1, 0]), 1)
    assert faiss.omp_get_max_threads() == before


def test_threads_that_add_remove_and_search_see_only_living_ids() -> None:
    rows = random_units(800, 8)
    index = VectorIndex(8)
    index.add(range(400), rows[:400])
    wrong: list[Any] = []

    def churn(start: int) -> None:
        for n in range(start, start + 100):
            index.add([400 + n], rows[400 + n][None, :])
            index.remove([n])

    def look() -> None:
        for n in range(200):
            found = index.search(rows[n], 5)
            if len(found) != 5 or len({key for key, _ in found}) != 5:
                wrong.append(found)

    threads = [threading.Thread(target=churn, args=(start,)) for start in (0, 100, 200, 300)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sorted(index.ids()) == list(range(400, 800))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 12), st.integers(0, 10_000)),
        st.tuples(st.just("remove"), st.integers(0, 12), st.just(0)),
        st.tuples(st.just("rebuild"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


# With eight exact rows every row is a segment of its own, and the ninth makes an inverted file in the background.
@pytest.mark.parametrize("exact_rows", [None, 8], ids=["one segment", "many segments"])
@settings(deadline=None)
@given(steps=steps, seed=st.integers(0, 10_000), k=st.integers(1, 20))
def test_same_as_brute_force(exact_rows: int | None, steps: list[tuple[str, int, int]], seed: int, k: int) -> None:
    index, truth = VectorIndex(5, exact_rows=exact_rows), {}
    for action, key, number in steps:
        if action == "add":
            truth[key] = random_units(1, 5, number)[0]
            index.add([key], truth[key][None, :])
        elif action == "remove":
            assert index.remove([key]) == (1 if truth.pop(key, None) is not None else 0)
        else:
            index.rebuild()
    query = random_units(1, 5, seed)[0]
    exact = {key: float(row @ query) for key, row in truth.items()}
    found = index.search(query, k)
    assert len(found) == min(k, len(truth))
    assert len({key for key, _ in found}) == len(found)
    assert [similarity for _, similarity in found] == pytest.approx(
        sorted(exact.values(), reverse=True)[: len(found)], abs=1e-5
    )
    assert [similarity for _, similarity in found] == pytest.approx([exact[key] for key, _ in found], abs=1e-5)
