"""What will be spent by the end of a period, between which amounts, and when the limit runs out."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.budget.planning import Forecast, Series, Stretch, forecast
from langchain_tokopt.errors import ConfigurationError

NANO = 10**9
DAY = 86_400.0
NOW = 1_800_057_600.0  # a Saturday, midnight in UTC


def days(
    values: Sequence[float], ahead: int = 7, *, current: float = 0.0, over: float = 0.0, unit: int = NANO
) -> Series:
    """A series of days, in dollars, as it is when `over` of the day is over."""
    n = len(values)
    first = Stretch(NOW + DAY, n % 7, 1 - over)
    return Series(
        step="day",
        values=tuple(round(value * unit) for value in values),
        phases=tuple(at % 7 for at in range(n)),
        current=round(current * unit),
        over=over,
        now=NOW + over * DAY,
        ahead=(first, *(Stretch(NOW + (at + 1) * DAY, (n + at) % 7) for at in range(1, ahead))),
    )


def foretold(series: Series, **settings: object) -> Forecast:
    found = forecast(series, **{"spent": 0, **settings})  # type: ignore[arg-type]
    assert found is not None
    return found


# --- little or nothing to go by ---


def test_without_anything_spent_nothing_is_foretold() -> None:
    assert forecast(days([]), spent=0) is None
    assert forecast(days([], over=0.5), spent=0, limit=5) is None


def test_days_without_spending_foretell_none() -> None:
    found = foretold(days([0] * 30), limit=NANO)
    assert (found.expected, found.low, found.high) == (0, 0, 0)
    assert (found.runs_out_at, found.runs_out_earliest) == (None, None)
    assert found.method == "mean_rate"
    assert str(found).endswith("The limit of $1.00 lasts. Nothing was spent in the 30 days before.")


def test_few_backtests_are_said_to_be_few() -> None:
    found = foretold(days([3.0, 4.0] * 4))
    assert found.backtests == 3
    assert "in 3 backtests" in str(found)
    assert str(found).endswith("; so few tell little.")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_days_give_their_mean_with_a_wide_interval(n: int) -> None:
    found = foretold(days([2.0] * n))
    assert found.method == "mean_rate"
    assert found.errors == ()
    assert found.beats_naive is None
    assert found.expected == 14 * NANO
    assert found.low == pytest.approx(14 / 3 * NANO, abs=1)
    assert found.high == pytest.approx(14 * 3 * NANO, abs=1)
    assert "rough guess" in str(found)


def test_a_first_day_gives_its_rate() -> None:
    found = foretold(days([], ahead=2, current=1.0, over=0.25), spent=NANO)
    assert found.expected == NANO + round(4 * 1.75 * NANO)


def test_the_first_call_of_the_first_day_is_not_a_rate() -> None:
    found = foretold(days([], ahead=1, current=0.01, over=0.0001), spent=NANO // 100)
    assert found.expected < NANO // 4


# --- series of many kinds ---


def test_the_same_every_day_is_foretold_with_certainty() -> None:
    found = foretold(days([3.0] * 40))
    assert found.expected == 21 * NANO
    assert found.high - found.low <= 2
    assert found.steps == 40


def test_a_week_repeats() -> None:
    week = [5.0, 6.0, 5.0, 6.0, 5.0, 1.0, 0.0]
    found = foretold(days(week * 6, ahead=3))
    assert found.expected == pytest.approx(16 * NANO, rel=0.02)
    assert [point.expected for point in found.path] == pytest.approx([5 * NANO, 11 * NANO, 16 * NANO], rel=0.05)


def test_growth_goes_on() -> None:
    """By straight growth, not by the level of last week."""
    series = [10 + 0.2 * day for day in range(56)]
    found = foretold(days(series, ahead=14))
    real = sum(10 + 0.2 * day for day in range(56, 70))
    assert found.expected == pytest.approx(real * NANO, rel=0.02)
    assert found.beats_naive is True


def test_after_a_launch_the_new_level_counts() -> None:
    found = foretold(days([1.0] * 40 + [10.0] * 16))
    assert 55 * NANO < found.expected < 85 * NANO


def test_one_day_beyond_all_reason_changes_little() -> None:
    rng = np.random.default_rng(3)
    usual = list(10 * np.exp(rng.normal(0, 0.1, 42)))
    for at in (41, 38, 20):
        odd = [*usual[:at], 200.0, *usual[at + 1 :]]
        assert foretold(days(odd)).expected == pytest.approx(foretold(days(usual)).expected, rel=0.2)


def test_most_days_without_spending_give_a_mean_and_a_low_end_of_nothing() -> None:
    rng = np.random.default_rng(7)
    series = np.where(rng.random(84) < 0.25, 4.0, 0.0)
    found = foretold(days(list(series)))
    assert found.expected == pytest.approx(7 * series.mean() * NANO, rel=0.5)
    assert found.low <= NANO
    assert foretold(days(list(series), ahead=1)).low == 0


def test_what_ended_long_ago_is_not_foretold() -> None:
    found = foretold(days([5.0] * 30 + [0.0] * 30))
    assert found.expected < NANO // 2
    assert found.low == 0


def test_the_first_and_last_of_many_kinds_of_days_are_never_negative() -> None:
    found = foretold(days([max(0.0, 20.0 - day) for day in range(22)], ahead=30))
    assert found.low >= 0
    assert [point.expected for point in found.path] == sorted(point.expected for point in found.path)


# --- the day that is on ---


def test_a_dear_morning_raises_the_rest_of_the_day_and_not_the_days_after() -> None:
    usual, dear = (foretold(days([10.0] * 28, ahead=2, current=current, over=0.5), spent=0) for current in (5.0, 10.0))
    assert usual.path[0].expected == pytest.approx(5 * NANO, rel=0.01)
    # Half of the day seen counts a third: half a day of (10 + 5 / 1.5).
    assert dear.path[0].expected == pytest.approx(0.5 * (10 + 5 / 1.5) * NANO, rel=0.01)
    assert dear.path[1].expected - dear.path[0].expected == usual.path[1].expected - usual.path[0].expected


def test_a_dear_hour_is_not_taken_for_the_whole_day() -> None:
    found = foretold(days([10.0] * 28, ahead=1, current=500.0, over=0.5))
    assert found.expected < 15 * NANO


def test_at_the_end_of_the_period_all_is_known() -> None:
    series = Series("day", (NANO,) * 20, tuple(at % 7 for at in range(20)), NANO, 1.0, NOW, (Stretch(NOW, 6, 0.0),))
    found = foretold(series, spent=5 * NANO, limit=6 * NANO)
    assert (found.expected, found.low, found.high) == (5 * NANO,) * 3
    assert (found.runs_out_at, found.runs_out_earliest) == (None, None)


# --- the limit ---


def test_the_limit_runs_out_in_the_course_of_a_day() -> None:
    found = foretold(days([4.0] * 28), spent=2 * NANO, limit=12 * NANO)
    assert found.runs_out_at == pytest.approx(NOW + 2.5 * DAY)
    assert found.runs_out_earliest == pytest.approx(NOW + 2.5 * DAY, abs=60)
    assert str(found) == (
        "About $30.00 by Sat 23 Jan 2027, 00:00, between $30.00 and $30.00 with a chance of 80 %; $2.00 spent so far. "
        "The limit of $12.00 runs out about Mon 18 Jan 2027, 12:00. "
        "By the mean of all methods over 28 days, off by 0 % on average in 15 backtests (seasonal-naive: 0 %)."
    )


def test_the_limit_may_run_out_though_it_should_last() -> None:
    rng = np.random.default_rng(1)
    series = days(list(4 * np.exp(rng.normal(0, 0.4, 35))))
    free = foretold(series)
    found = foretold(series, limit=(free.expected + free.high) // 2)
    assert found.runs_out_at is None
    assert found.runs_out_earliest is not None
    assert NOW < found.runs_out_earliest < found.ends_at
    assert "should last, but may run out from" in found.explain()


def test_a_limit_that_is_used_up_ran_out_now() -> None:
    found = foretold(days([4.0] * 28), spent=12 * NANO, limit=12 * NANO)
    assert found.runs_out_at == found.runs_out_earliest == NOW
    assert "is used up" in found.explain()


def test_a_limit_far_away_lasts() -> None:
    found = foretold(days([4.0] * 28), limit=1_000 * NANO)
    assert (found.runs_out_at, found.runs_out_earliest) == (None, None)
    assert "The limit of $1,000.00 lasts." in found.explain()


# --- how it was made ---


def test_every_method_is_shown_with_its_error() -> None:
    rng = np.random.default_rng(1)
    week = np.array([5, 6, 5, 6, 5, 1, 1])
    found = foretold(days(list(np.tile(week, 8) * np.exp(rng.normal(0, 0.2, 56)))))
    methods = [error.method for error in found.errors]
    assert sorted(methods) == sorted(
        ["seasonal_naive", "seasonal_median", "smoothing", "damped_trend", "linear", "moving_average", "combined"]
    )
    errors = [error.error for error in found.errors]
    assert None not in errors
    assert errors == sorted(errors, key=lambda error: error or 0)
    assert all(error.bias is not None and abs(error.bias) <= (error.error or 0) + 1e-9 for error in found.errors)
    assert found.backtests == 24
    by_name = dict(zip(methods, errors, strict=True))
    assert found.beats_naive is ((by_name[found.method] or 0) < (by_name["seasonal_naive"] or 0))
    assert "seasonal-naive" in found.explain()


def test_more_certainty_is_a_wider_interval() -> None:
    rng = np.random.default_rng(2)
    series = days(list(np.exp(rng.normal(0, 0.5, 60))))
    widths = [(found.high - found.low) for found in (foretold(series, coverage=share) for share in (0.5, 0.8, 0.95))]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_the_same_series_gives_the_same_forecast() -> None:
    rng = np.random.default_rng(2)
    series = days(list(np.exp(rng.normal(0, 0.5, 60))))
    assert foretold(series) == foretold(series)


def test_hours_follow_the_day() -> None:
    """Working hours from 8 to 16; at 12 o'clock four such hours are left of the day."""
    values = [3 * NANO if 8 <= hour % 24 < 16 else 0 for hour in range(14 * 24 + 12)]
    n = len(values)
    series = Series(
        step="hour",
        values=tuple(values),
        phases=tuple(hour % 168 for hour in range(n)),
        current=0,
        over=0.0,
        now=NOW,
        ahead=tuple(Stretch(NOW + 3600.0 * (at + 1), (n + at) % 168) for at in range(12)),
    )
    found = foretold(series, spent=12 * NANO, unit="tokens")
    assert found.expected == pytest.approx(24 * NANO, rel=0.05)
    assert found.path[3].expected == pytest.approx(24 * NANO, rel=0.05)


@pytest.mark.parametrize("coverage", [0, 0.4, 1, 1.5])
def test_a_coverage_out_of_range_is_refused(coverage: float) -> None:
    with pytest.raises(ConfigurationError, match="coverage"):
        forecast(days([1.0]), spent=0, coverage=coverage)


@pytest.mark.parametrize("amounts", [{"spent": -1}, {"spent": 0, "limit": -1}])
def test_negative_amounts_are_refused(amounts: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        forecast(days([1.0]), **amounts)


# --- whatever the series ---


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 2**60)), max_size=45),
    current=st.integers(0, 100),
    over=st.floats(0, 1),
    ahead=st.integers(1, 20),
    spent=st.integers(0, 10**6),
    limit=st.one_of(st.none(), st.integers(0, 10**4)),
)
def test_amounts_are_in_order_and_times_within_the_period(
    values: list[int], current: int, over: float, ahead: int, spent: int, limit: int | None
) -> None:
    series = days(values, ahead, current=current, over=over, unit=1)
    found = forecast(series, spent=spent, limit=limit)
    if found is None:
        assert not values
        assert not current
        return
    assert spent <= found.low <= found.expected <= found.high
    for earlier, later in zip(found.path, found.path[1:], strict=False):
        assert (earlier.at, earlier.low, earlier.expected, earlier.high) <= (
            later.at,
            later.low,
            later.expected,
            later.high,
        )
    assert all(spent <= point.low <= point.expected <= point.high for point in found.path)
    last = found.path[-1]
    assert (last.at, last.low, last.expected, last.high) == (found.ends_at, found.low, found.expected, found.high)
    for when in (found.runs_out_at, found.runs_out_earliest):
        assert when is None or series.now <= when <= found.ends_at
    if found.runs_out_at is not None:
        assert found.runs_out_earliest is not None
        assert found.runs_out_earliest <= found.runs_out_at
        assert limit is not None
        assert found.expected >= limit
    if limit is None:
        assert found.runs_out_earliest is None
    assert str(found)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.integers(0, 1000), min_size=8, max_size=40), factor=st.sampled_from([1000, 10**6]))
def test_the_unit_of_the_amounts_does_not_matter(values: list[int], factor: int) -> None:
    small, large = (foretold(days(values, unit=unit)) for unit in (factor, 1000 * factor))
    assert small.method == large.method
    assert large.expected == pytest.approx(1000 * small.expected, rel=1e-6, abs=2000)
    assert math.isclose(large.high, 1000 * small.high, rel_tol=1e-6, abs_tol=2000)


def test_the_methods_are_loaded_by_the_first_forecast() -> None:
    """They need numpy, and importing a budget does not wait for it."""
    check = "import sys, langchain_tokopt.budget.planning as p; sys.exit(f'{p.__name__}.methods' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
