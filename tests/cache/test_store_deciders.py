"""What the store shows a decider, and what it tells it when an answer could not be given after all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.cache.decision import Neighbour, Verdict
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore, Found
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import StoreError
from tests.fakes import FakeClock, TableEmbeddings

TABLE = {f"question {n}": [1.0, n / 10] for n in range(30)} | {"asked": [1.0, 0.0]}


class FakeDecider:
    """Serves the nearest, audited, after it has asked for the vectors; keeps what it was shown and told."""

    def __init__(self) -> None:
        self.before: Callable[[Sequence[Neighbour]], None] = lambda near: None
        self.shown: list[list[int]] = []
        self.vectors: list[Any] = []
        self.withdrawals: list[Verdict] = []

    def decide(self, question: str, vector: Any, near: Sequence[Neighbour], vectors: Callable[[], Any]) -> Verdict:
        self.shown.append([neighbour.id for neighbour in near])
        self.before(near)
        self.vectors.append(vectors())
        if not near:
            return Verdict(reason="nothing stored")
        return Verdict(neighbour=near[0], serve=True, audit=True, audit_rate=0.5, near=tuple(near))

    def withdrawn(self, verdict: Verdict) -> None:
        self.withdrawals.append(verdict)


def filled(database: Database, decider: Any, count: int = 3, **settings: Any) -> AnswerStore:
    store = AnswerStore(
        database,
        MemoEmbeddings(TableEmbeddings(TABLE)),
        kind="agent",
        decider=decider,
        max_entries=100,
        max_scopes=10,
        clock=FakeClock(),
        **settings,
    )
    for n in range(count):
        question = f"question {n}"
        store.keep(scope="s", owner="o", exact=text_digest(question), question=question, payload=f"{n}", semantic=True)
    return store


def ask(store: AnswerStore) -> Found:
    return store.find("s", text_digest("asked"), "asked", exact_only=None)


@pytest.mark.parametrize(("settings", "count"), [({}, 20), ({"neighbours": 4}, 4)])
def test_neighbours_and_their_vectors_come_in_one_order(
    database: Database, settings: dict[str, Any], count: int
) -> None:
    decider = FakeDecider()
    store = filled(database, decider, 25, **settings)
    found = ask(store)
    assert found.entry is not None
    assert (found.how, found.entry.payload) == ("semantic", "0")
    assert decider.shown == [list(range(1, count + 1))]
    expected = np.array([TABLE[f"question {n}"] for n in range(count)], dtype=np.float32)
    np.testing.assert_allclose(
        decider.vectors[0][:, :2], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
    )
    assert decider.withdrawals == []
    assert found.vector is not None
    assert found.vector.tolist() == [1.0] + 7 * [0.0]


def test_a_neighbour_that_has_just_gone_is_left_out(database: Database) -> None:
    decider = FakeDecider()
    store = filled(database, decider)
    ask(store)
    decider.shown.clear()
    decider.vectors.clear()
    replica = store._follower._replicas.get("s")
    assert replica is not None
    decider.before = lambda near: replica._held[0].remove([1, 3]) and None
    found = ask(store)
    assert decider.shown == [[1, 2, 3], [2, 3], [2]]
    assert [len(vectors) for vectors in decider.vectors] == [1]
    assert found.entry is not None
    assert found.entry.payload == "1"
    assert found.verdict is not None
    assert [neighbour.id for neighbour in found.verdict.near] == [2]


def test_an_error_of_the_decider_s_own_passes_through(database: Database) -> None:
    decider = FakeDecider()
    store = filled(database, decider)

    def fails(near: Sequence[Neighbour]) -> None:
        raise KeyError(1)

    decider.before = fails
    with pytest.raises(KeyError):
        ask(store)
    assert len(decider.shown) == 1


def test_an_answer_removed_in_that_moment_is_not_served_and_the_decider_is_told(database: Database) -> None:
    decider = FakeDecider()
    store = filled(database, decider)
    decider.before = lambda near: store.remove([1]) and None
    found = ask(store)
    assert (found.entry, found.how, found.reason) == (None, "miss", "removed in the meantime")
    assert found.similarity == pytest.approx(1.0)
    [withdrawn] = decider.withdrawals
    assert (withdrawn.serve, withdrawn.audit) == (True, True)
    assert found.verdict == replace(withdrawn, serve=False, audit=False, reason="removed in the meantime")
    store.flush()
    assert store.entries.count() == 2


def test_a_decider_that_counts_nothing_need_not_be_told(database: Database) -> None:
    class Plain:
        def decide(self, question: str, vector: Any, near: Sequence[Neighbour], vectors: Callable[[], Any]) -> Verdict:
            store.remove([near[0].id])
            return Verdict(neighbour=near[0], serve=True)

    store = filled(database, Plain())
    found = ask(store)
    assert found.reason == "removed in the meantime"
    assert found.verdict is not None
    assert [neighbour.id for neighbour in found.verdict.near] == [1, 2, 3]


def test_an_answer_that_cannot_be_read_is_withdrawn_and_the_error_told(database: Database) -> None:
    decider = FakeDecider()
    store = filled(database, decider)

    def broken(entry_id: int, revision: int) -> None:
        raise StoreError("the server went away")

    store.entries.read = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreError, match="went away"):
        ask(store)
    assert [verdict.neighbour and verdict.neighbour.id for verdict in decider.withdrawals] == [1]
