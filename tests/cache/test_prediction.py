"""What follows what: learned per user and for all, fading, bounded, and never wiser than what was seen."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.cache.prediction import EVERYBODY, Followers, Likely, Observed, Place, Successions
from langchain_tokopt.errors import ConfigurationError
from tests.fakes import FakeClock

SCOPE = "s"


def taught(*sessions: str, user: str = "ada", clock: FakeClock | None = None, **settings_: Any) -> Successions:
    """A model that has seen these sessions; each letter is a question."""
    clock = clock or FakeClock()
    model = Successions(clock=clock, **settings_)
    for session in sessions:
        for question in session:
            model.observe(user, SCOPE, question)
        clock.advance(7_200)
    return model


def ids(likely: list[Likely]) -> list[str]:
    return [one.id for one in likely]


def test_what_was_seen_before_is_foretold_with_a_mixed_probability() -> None:
    model = taught("ab")
    # Seen once (two hours ago), in two chains of strength 2: (1 + 2 * 0) / 3, then (1 + 2 * 1/3) / 3.
    assert model.predict("ada", SCOPE, ["a"]) == [Likely("b", pytest.approx(5 / 9, abs=2e-3))]
    assert model.predict("bob", SCOPE, ["a"]) == [Likely("b", pytest.approx(1 / 3, abs=2e-3))]
    assert model.predict("ada", SCOPE, ["x"]) == []
    assert model.predict("ada", "other", ["a"]) == []
    assert model.predict("ada", SCOPE, []) == []


def test_two_questions_decide_where_one_does_not() -> None:
    model = taught(*["xab", "yac"] * 10)
    assert ids(model.predict("ada", SCOPE, ["x", "a"]))[0] == "b"
    assert ids(model.predict("ada", SCOPE, ["y", "a"]))[0] == "c"
    assert model.predict("ada", SCOPE, ["x", "a"])[0].probability > 0.8
    one = {likely.id: likely.probability for likely in model.predict("ada", SCOPE, ["a"])}
    assert one["b"] == pytest.approx(one["c"], abs=0.05)
    # Two that were never seen together: what follows the latest one counts.
    assert {*ids(model.predict("ada", SCOPE, ["q", "a"]))} == {"b", "c"}


def test_a_user_with_a_routine_is_known_apart_from_the_others() -> None:
    clock = FakeClock()
    model = taught(*["ab"] * 20, user="all", clock=clock)
    for _ in range(6):
        for question in "ac":
            model.observe("ada", SCOPE, question)
        clock.advance(7_200)
    assert ids(model.predict("ada", SCOPE, ["a"]))[0] == "c"
    assert ids(model.predict("new", SCOPE, ["a"]))[0] == "b"
    assert ids(model.predict(EVERYBODY, SCOPE, ["a"]))[0] == "b"


def test_a_pause_begins_a_new_session_and_a_repetition_is_no_news() -> None:
    clock = FakeClock()
    model = Successions(clock=clock, session_seconds=60)
    assert model.observe("ada", SCOPE, "a") == Observed(("a",), follows=False, repeated=False)
    assert model.observe("ada", SCOPE, "a") == Observed(("a",), follows=True, repeated=True)
    clock.advance(60)
    assert model.observe("ada", SCOPE, "b") == Observed(("a", "b"), follows=True, repeated=False)
    clock.advance(61)
    assert model.observe("ada", SCOPE, "c") == Observed(("c",), follows=False, repeated=False)
    assert ids(model.predict("ada", SCOPE, ["a"])) == ["b"]
    assert model.predict("ada", SCOPE, ["b"]) == []


def test_what_is_old_counts_less() -> None:
    clock = FakeClock()
    model = taught(*["ab"] * 4, clock=clock, half_life_seconds=86_400)
    clock.advance(4 * 86_400)
    for question in "ac":
        model.observe("ada", SCOPE, question)
    (first, second) = model.predict("ada", SCOPE, ["a"])
    assert (first.id, second.id) == ("c", "b")
    assert second.probability < first.probability / 2


def test_memory_is_bounded_and_a_newcomer_gets_its_turn() -> None:
    model = taught(*[f"{chr(n)}a" for n in range(200, 260)], max_places=10, max_followers=3)
    assert len(model) == 10
    known = Followers(at=0.0)
    for then in "bbbbccd":
        known.add(then, 3)
    assert known.counts == {"b": 4, "c": 2, "d": 1}
    known.add("e", 3)  # "d" is worth no more than one question
    assert known.counts == {"b": 4, "c": 2, "e": 1}
    known.add("e", 3)
    known.add("f", 3)  # wears down the smallest
    assert known.counts == {"b": 4, "c": 1, "e": 2}
    assert known.total == 10


def test_what_was_learned_is_forgotten_on_request() -> None:
    model = taught("abc")
    model.observe("bob", "t", "a")
    model.observe("bob", "t", "b")
    model.forget(user="ada")
    assert model.predict("ada", SCOPE, ["a", "b"]) == model.predict("new", SCOPE, ["a", "b"]) != []
    model.forget(scope=SCOPE)
    assert model.predict("ada", SCOPE, ["a", "b"]) == []
    assert ids(model.predict("bob", "t", ["a"])) == ["b"]
    model.forget()
    assert (len(model), model.unwritten()) == (0, 0)


def test_unwritten_observations_are_taken_given_back_and_counted_on_top_of_the_databases() -> None:
    model = taught("ab")
    taken = model.take_unwritten()
    assert [(seen.place.user, seen.place.after, seen.then) for seen in taken] == [
        (EVERYBODY, ("a",), "b"),
        ("ada", ("a",), "b"),
    ]
    assert model.unwritten() == 0
    model.put_back(taken)
    assert model.unwritten() == 2
    place = Place(SCOPE, "ada", ("a",))
    model.take_over({place: Followers(at=taken[0].at, total=2.0, counts={"z": 2.0})})
    assert model._followers[place].counts == {"z": 2.0, "b": 1.0}


def test_threads_lose_nothing() -> None:
    model = Successions(session_seconds=1e9)

    def one(user: str) -> None:
        for _ in range(100):
            for question in "abc":
                model.observe(user, SCOPE, question)
            model.predict(user, SCOPE, ["a"])

    threads = [threading.Thread(target=one, args=(f"u{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert round(model._followers[Place(SCOPE, EVERYBODY, ("a",))].total) == 800
    assert ids(model.predict("u1", SCOPE, ["a"])) == ["b"]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcdefgh")), max_size=80))
@settings(max_examples=60, deadline=None)
def test_probabilities_are_probabilities(asked: list[tuple[str, str]]) -> None:
    model = Successions(max_followers=4, clock=FakeClock())
    for user, question in asked:
        recent = model.observe(user, SCOPE, question).recent
        likely = model.predict(user, SCOPE, recent, k=10)
        assert all(0 < one.probability <= 1 for one in likely)
        assert sum(one.probability for one in likely) <= 1 + 1e-9
        assert recent[-1] not in ids(likely)
        assert likely == sorted(likely, key=lambda one: (-one.probability, one.id))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("half_life_seconds", 0), ("session_seconds", -1), ("max_places", 0), ("max_followers", 1.5)],
)
def test_a_setting_that_cannot_work_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{argument}="):
        Successions(**{argument: value})
