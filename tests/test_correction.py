import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.correction import Corrections


def test_without_reports_nothing_is_corrected() -> None:
    assert Corrections().of("gpt-4o") == 1.0
    assert Corrections().of(None) == 1.0


def test_first_guess_for_claude_is_what_its_provider_says() -> None:
    assert Corrections().of("claude-sonnet-4-5") == 1.2
    assert Corrections().of("us.anthropic.claude-3-5-sonnet-20241022-v2:0") == 1.2
    for newer in ("claude-opus-4-7", "claude-opus-4.8", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5"):
        assert Corrections().of(newer) == 1.55, newer


def test_reports_are_learned_from_quickly_and_per_model() -> None:
    corrections = Corrections()
    corrections.observe("a", 1000, 1210)
    assert corrections.of("a") == pytest.approx(1.1)  # half of the way, in logarithms
    for _ in range(30):
        corrections.observe("a", 1000, 1210)
    assert corrections.of("a") == pytest.approx(1.21, abs=0.001)
    assert corrections.of("b") == 1.0


def test_twice_too_much_and_half_too_little_cancel_out() -> None:
    corrections = Corrections()
    for _ in range(40):
        corrections.observe(None, 100, 50)
    low = corrections.of(None)
    corrections = Corrections()
    for _ in range(40):
        corrections.observe(None, 100, 200)
    assert low * corrections.of(None) == pytest.approx(1.0)


@pytest.mark.parametrize(("counted", "reported"), [(0, 10), (10, 0), (-1, 10), (10, -5)])
def test_reports_without_meaning_are_left_out(counted: int, reported: int) -> None:
    corrections = Corrections()
    corrections.observe("a", counted, reported)
    assert corrections.of("a") == 1.0


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9))))
def test_correction_stays_within_its_bounds(reports: list[tuple[int, int]]) -> None:
    corrections = Corrections()
    for counted, reported in reports:
        corrections.observe("a", counted, reported)
        assert 0.5 <= corrections.of("a") <= 2.0
