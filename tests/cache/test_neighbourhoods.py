"""Stored questions drawn with their neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.entries import ScopeState
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.neighbourhoods import draw
from langchain_tokopt.cache.replica import Replica
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from tests.fakes import FakeClock, TableEmbeddings
from tests.unit_vectors import random_units

DIM = 8


def replica(first: int, vectors: Any, *, expires_at: float | None = None) -> Replica:
    """Rows with ids from `first`, each two of them with one answer."""
    made = Replica("e", DIM)
    rows: Sequence[Any] = [
        (first + n, 1, f"q{first + n}", row.astype("<f4").tobytes(), "e", expires_at, n + 1, first + n - n % 2)
        for n, row in enumerate(vectors)
    ]
    made.follow(ScopeState(1, len(rows), 0), -1, [rows])
    return made


def test_every_question_comes_with_the_nearest_of_the_others() -> None:
    vectors = random_units(60, DIM, seed=1)
    found = draw([("s", replica(1, vectors))], 60, np.random.default_rng(0), k=5, now=0.0)
    assert sorted(one.id for one in found) == list(range(1, 61))
    for one in found:
        similarities = vectors @ vectors[one.id - 1]
        similarities[one.id - 1] = -2.0
        nearest = np.argsort(-similarities, kind="stable")[:5]
        assert [neighbour.id for neighbour in one.near] == (nearest + 1).tolist()
        np.testing.assert_allclose([n.similarity for n in one.near], similarities[nearest], atol=1e-5)
        np.testing.assert_array_equal(one.vectors, vectors[nearest])
        np.testing.assert_array_equal(one.vector, vectors[one.id - 1])
        assert (one.scope, one.text, one.answer) == ("s", f"q{one.id}", one.id - (one.id - 1) % 2)


def test_scopes_count_by_their_size_and_small_ones_not_at_all() -> None:
    scopes = [
        (name, replica(first, random_units(size, DIM, seed=first)))
        for name, first, size in (("small", 1, 49), ("fifty", 1_001, 50), ("big", 2_001, 150))
    ]
    counts: Counter[str] = Counter()
    for seed in range(50):
        drawn = draw(scopes, 20, np.random.default_rng(seed), k=3, now=0.0)
        assert len({one.id for one in drawn}) == 20
        counts.update(one.scope for one in drawn)
    assert set(counts) == {"fifty", "big"}
    assert counts["fifty"] == pytest.approx(250, abs=4 * 13)  # a quarter of 1,000, four standard deviations
    everything = draw(scopes, 10_000, np.random.default_rng(0), k=3, now=0.0)
    assert Counter(one.scope for one in everything) == {"fifty": 50, "big": 150}


def test_the_same_seed_draws_the_same() -> None:
    scopes = [("s", replica(1, random_units(100, DIM, seed=1)))]
    one, two = (draw(scopes, 10, np.random.default_rng(7), k=3, now=0.0) for _ in "ab")
    assert [each.id for each in one] == [each.id for each in two]


def test_what_has_expired_or_is_removed_meanwhile_is_left_out() -> None:
    assert draw([], 5, np.random.default_rng(0), k=3, now=0.0) == []
    expired = replica(1, random_units(60, DIM, seed=1), expires_at=10.0)
    assert draw([("s", expired)], 5, np.random.default_rng(0), k=3, now=10.0) == []
    shrinking = replica(1, random_units(60, DIM, seed=1))
    known = shrinking.ids()
    shrinking._held[0].remove(range(1, 31))
    shrinking.ids = lambda: known  # type: ignore[method-assign]
    drawn = draw([("s", shrinking)], 60, np.random.default_rng(0), k=3, now=0.0)
    assert sorted(one.id for one in drawn) == list(range(31, 61))


def test_the_store_draws_from_what_it_has_in_memory() -> None:
    vectors = random_units(51, DIM, seed=3)
    table = {f"question {n}": row.tolist() for n, row in enumerate(vectors)}
    database = Database()
    store = AnswerStore(
        database,
        MemoEmbeddings(TableEmbeddings(table)),
        kind="agent",
        decider=Threshold(0.99),
        max_entries=100,
        max_scopes=10,
        clock=FakeClock(),
    )
    for n in range(50):
        question = f"question {n}"
        store.keep(scope="s", owner="o", exact=text_digest(question), question=question, payload="x", semantic=True)
    assert store.neighbourhoods(10, np.random.default_rng(0)) == []
    store.find("s", text_digest("question 50"), "question 50", exact_only=None)
    drawn = store.neighbourhoods(10, np.random.default_rng(0))
    assert len(drawn) == 10
    assert {len(one.near) for one in drawn} == {20}
    assert all(one.id not in [neighbour.id for neighbour in one.near] for one in drawn)
    database.close()
