"""A prediction is judged by what was asked next; acting on it begins and ends by that."""

from __future__ import annotations

import random

import pytest

from langchain_tokopt.cache.prediction import Likely
from langchain_tokopt.cache.track_record import Band, Came, Record, TrackRecord


def judged(record: TrackRecord, shares: list[bool], probability: float = 0.6) -> None:
    """Make one prediction after the other, and let it come true or not."""
    for n, true in enumerate(shares):
        record.predicted("ada", "s", [Likely(f"q{n}", probability)])
        for _ in range(3):
            record.asked("ada", "s", f"q{n}" if true else "something else")


def test_a_prediction_is_used_within_the_next_questions_or_not() -> None:
    record = TrackRecord(within=2)
    record.predicted("ada", "s", [Likely("a", 0.6), Likely("b", 0.6), Likely("c", 0.01)])
    assert record.asked("bob", "s", "a") == []
    assert record.asked("ada", "s", "x") == []
    record.predicted("ada", "s", [Likely("a", 0.3)])  # open already: one prediction, not two
    assert record.asked("ada", "s", "a") == ["a"]
    assert (record.made, record.used) == (2, 1)
    assert record.asked("ada", "s", "b") == []
    assert record.record("s", 0.65) == Record(pytest.approx(1.994, abs=1e-3), pytest.approx(0.994, abs=1e-2))


def test_a_new_session_ends_what_is_open() -> None:
    record = TrackRecord()
    record.predicted("ada", "s", [Likely("a", 0.6)])
    assert record.asked("ada", "s", "a", follows=False) == []
    assert (record.made, record.used) == (1, 0)


def test_the_interval_is_wilsons() -> None:
    # 8 of 10 at 90 %: centre (0.8 + z^2/20) / (1 + z^2/10), z = 1.645.
    assert Record(10, 8).interval() == (pytest.approx(0.5408, abs=1e-3), pytest.approx(0.9314, abs=1e-3))
    assert Record().interval() == (0.0, 1.0)
    assert (Record().share(), Record(4, 1).share()) == (None, 0.25)


def test_acting_begins_when_it_is_all_but_certain_and_ends_when_it_looks_untrue() -> None:
    record = TrackRecord()
    judged(record, [True] * 19)
    assert not record.worthwhile("s", 0.6, needed=0.5)
    judged(record, [True] * 4)
    assert record.worthwhile("s", 0.6, needed=0.5)
    assert not record.worthwhile("s", 0.3, needed=0.5)
    assert not record.worthwhile("other", 0.6, needed=0.5)
    judged(record, [False] * 17)
    assert record.record("s", 0.6).interval()[0] < 0.5
    assert record.worthwhile("s", 0.6, needed=0.5)  # not certain any more, and not untrue yet
    judged(record, [False] * 10)
    assert not record.worthwhile("s", 0.6, needed=0.5)
    judged(record, [True] * 12)
    assert record.record("s", 0.6).share() > 0.5  # type: ignore[operator]
    assert not record.worthwhile("s", 0.6, needed=0.5)


def test_chance_alone_hardly_ever_switches_it_on() -> None:
    on = 0
    for seed in range(200):
        rng, record = random.Random(seed), TrackRecord()
        judged(record, [rng.random() < 0.35 for _ in range(100)])
        on += record.worthwhile("s", 0.6, needed=0.5)
    assert on == 0


def test_what_is_unwritten_is_taken_and_counted_on_top_of_the_databases() -> None:
    record = TrackRecord()
    judged(record, [True, False])
    band = Band("s", 5)
    taken = record.take_unwritten()
    assert taken == [Came(band, True), Came(band, False)]
    record.put_back(taken)
    record.take_over({band: Record(10, 5)})
    assert record.record("s", 0.6).made == pytest.approx(12, abs=0.2)
    record.forget(scope="s")
    assert record.take_unwritten() == []
    assert record.record("s", 0.6) == Record()


def test_a_user_is_forgotten_without_the_record() -> None:
    record = TrackRecord()
    judged(record, [True] * 5)
    record.predicted("ada", "s", [Likely("a", 0.6)])
    record.forget(user="ada")
    assert record.asked("ada", "s", "a") == []
    assert record.made == 5
    assert record.record("s", 0.6).made > 4
