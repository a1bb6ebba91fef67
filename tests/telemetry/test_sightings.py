"""A call that two observers see is counted once, and two calls are never taken for one."""

from __future__ import annotations

import gc

import pytest
from langchain_core.messages import AIMessage

from langchain_tokopt.telemetry import Sightings
from tests.fakes import FakeClock, ai

RUN = "lc_run--0190c9a6-0000-7000-8000-000000000001"


def counted(sightings: Sightings, *seen: tuple[AIMessage, str]) -> int:
    return sum(sightings.first(message, by=by) for message, by in seen)


def test_one_object_seen_by_two_is_one_call() -> None:
    message = ai("x")
    assert counted(Sightings(), (message, "callback"), (message, "middleware")) == 1
    assert counted(Sightings(), (message, "middleware"), (message, "callback")) == 1


def test_one_object_given_again_and_again_is_as_many_calls() -> None:
    message = ai("x", id="same")
    both = [(message, "callback"), (message, "middleware")]
    assert counted(Sightings(), *both, *both, *both) == 3
    assert counted(Sightings(), *[both[0]] * 3, *[both[1]] * 3) == 3
    assert counted(Sightings(), *[both[0]] * 5) == 5


def test_two_objects_with_the_id_of_one_run_are_one_call() -> None:
    assert counted(Sightings(), (ai("x", id=RUN), "callback"), (ai("x y", id=RUN), "middleware")) == 1


def test_two_objects_with_one_id_of_the_provider_are_one_call_if_they_say_the_same() -> None:
    first, second = (ai("x", input_tokens=5, output_tokens=1, id="chatcmpl-1") for _ in range(2))
    assert counted(Sightings(), (first, "callback"), (second, "middleware")) == 1


@pytest.mark.parametrize(
    "other", [ai("other", input_tokens=5, id="chatcmpl-1"), ai("x", input_tokens=6, id="chatcmpl-1"), ai("x", id=None)]
)
def test_a_server_that_repeats_its_ids_loses_no_call(other: AIMessage) -> None:
    message = ai("x", input_tokens=5, id="chatcmpl-1")
    assert counted(Sightings(), (message, "callback"), (other, "middleware")) == 2


def test_equal_answers_long_apart_are_two_calls() -> None:
    clock = FakeClock()
    sightings = Sightings(clock=clock)
    assert sightings.first(ai("x", id="same"), by="callback")
    clock.advance(60)
    assert sightings.first(ai("x", id="same"), by="middleware")


def test_equal_answers_without_an_id_are_two_calls() -> None:
    assert counted(Sightings(), (ai("x"), "callback"), (ai("x"), "middleware")) == 2


def test_three_observers_count_one_call() -> None:
    message = ai("x")
    assert counted(Sightings(), (message, "a"), (message, "b"), (message, "c")) == 1


def test_an_object_in_the_place_of_one_that_is_gone_is_new() -> None:
    sightings = Sightings()
    for _ in range(200):
        assert sightings.first(AIMessage("x"), by="callback")
        gc.collect(0)
        assert sightings.first(AIMessage("x"), by="middleware")


def test_without_a_name_only_the_first_look_is_the_first() -> None:
    sightings = Sightings()
    message = ai("x")
    assert [sightings.first(message) for _ in range(3)] == [True, False, False]


def test_memory_is_bounded() -> None:
    sightings = Sightings(max_entries=10)
    kept = [ai("x") for _ in range(100)]
    assert all(sightings.first(message, by="a") for message in kept)
    assert len(sightings._seen) == 10
    assert not sightings.first(kept[-1], by="b")
    assert sightings.first(kept[0], by="b")


def test_one_error_seen_by_two_is_one_failed_call() -> None:
    sightings = Sightings()
    error = ValueError("x")
    assert [sightings.first_error(error, by=by) for by in ("callback", "middleware")] == [True, False]
    assert [sightings.first_error(error, by=by) for by in ("callback", "middleware")] == [True, False]
    assert sightings.first_error(ValueError("x"), by="middleware")
    assert Sightings().first_error(error, by="middleware")


def test_an_error_is_not_kept_alive_and_looks_as_before() -> None:
    error = ValueError("x")
    Sightings().first_error(error, by="a")
    assert (str(error), error.args, repr(error)) == ("x", ("x",), "ValueError('x')")


def test_a_stop_that_two_see_is_one_and_later_ones_are_others() -> None:
    clock = FakeClock()
    sightings = Sightings(clock=clock)
    assert [sightings.first_stop("m", by=by) for by in ("a", "b", "a", "b")] == [True, False, True, False]
    assert sightings.first_stop("other", by="b")
    clock.advance(60)
    assert sightings.first_stop("m", by="b")


def test_a_run_whose_calls_somebody_counts_is_covered_for_all_others() -> None:
    sightings = Sightings(max_entries=2)
    sightings.cover("run", by="middleware")
    assert sightings.covered("run", but="callback")
    assert not sightings.covered("run", but="middleware")
    assert not sightings.covered("other", but="callback")
    for n in range(2):
        sightings.cover(n, by="middleware")
    assert not sightings.covered("run", but="callback")
