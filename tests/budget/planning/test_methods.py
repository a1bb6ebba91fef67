"""The methods on series whose continuation is known, and the backtest that chooses among them."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_tokopt.budget.planning.backtest import Backtest, backtest
from langchain_tokopt.budget.planning.interval import Spread
from langchain_tokopt.budget.planning.methods import METHODS
from langchain_tokopt.budget.planning.past import Floats, Ints, Past, tame

WEEK = np.array([5.0, 6.0, 5.0, 6.0, 5.0, 1.0, 0.0])
NAMES = list(METHODS)


def phases(n: int) -> Ints:
    return np.arange(n, dtype=np.int64) % 7


def on(values: Floats, count: int, name: str) -> Floats:
    n = len(values)
    return METHODS[name](Past.of(values, phases(n), 7), phases(n + count)[n:])  # type: ignore[index]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_every_day_stays_the_same(name: str) -> None:
    assert on(np.full(30, 4.0), 10, name) == pytest.approx(np.full(10, 4.0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 5, 7, 13])
def test_less_than_two_weeks_are_enough_for_a_level(name: str, n: int) -> None:
    assert on(np.full(n, 4.0), 3, name) == pytest.approx(np.full(3, 4.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_week_that_repeats_goes_on(name: str) -> None:
    assert on(np.tile(WEEK, 8), 14, name) == pytest.approx(np.tile(WEEK, 2), abs=0.15)


@pytest.mark.parametrize(("name", "off"), [("linear", 0.001), ("seasonal_median", 0.1), ("damped_trend", 0.1)])
def test_a_straight_line_is_followed(name: str, off: float) -> None:
    line = 10 + 0.5 * np.arange(70)
    assert on(line[:56], 14, name).sum() == pytest.approx(line[56:].sum(), rel=off)


@pytest.mark.parametrize("name", NAMES)
def test_a_fall_ends_at_nothing(name: str) -> None:
    assert (on(np.maximum(0.0, 30.0 - np.arange(30)), 60, name) >= 0).all()


@pytest.mark.parametrize("name", ["linear", "seasonal_median"])
def test_a_slope_that_may_be_chance_is_not_followed(name: str) -> None:
    rng = np.random.default_rng(5)
    noise = np.exp(rng.normal(0, 0.3, 14))
    assert on(noise, 60, name)[-1] == pytest.approx(noise.mean(), rel=0.25)


def test_seasonal_naive_repeats_the_last_week_as_it_was() -> None:
    values = np.arange(20.0)
    assert on(values, 9, "seasonal_naive").tolist() == [13, 14, 15, 16, 17, 18, 19, 13, 14]
    assert on(values[:3], 2, "seasonal_naive").tolist() == [2, 2]


def test_single_outliers_are_cut_and_new_levels_and_customs_are_not() -> None:
    flat = np.full(30, 2.0)
    odd = flat.copy()
    odd[11] = 80.0
    assert tame(odd, 7).tolist() == [*flat[:11], 5.0, *flat[12:]]
    last = flat.copy()
    last[-1] = 80.0
    assert tame(last, 7)[-1] == 5.0
    risen = np.concatenate([flat, flat[:2] * 40])
    assert tame(risen, 7).tolist() == risen.tolist()
    seldom = np.zeros(40)
    seldom[::4] = 3.0
    assert tame(seldom, 7).tolist() == seldom.tolist()


def test_days_that_differ_by_chance_have_no_season() -> None:
    rng = np.random.default_rng(8)
    past = Past.of(np.exp(rng.normal(0, 0.2, 56)), phases(56), 7)
    assert np.abs(past.index - 1).max() < 0.1


def test_of_a_single_week_most_is_expected_again() -> None:
    past = Past.of(WEEK, phases(7), 7)
    assert past.index == pytest.approx(1 + 0.6 * (WEEK / WEEK.mean() - 1))
    assert Past.of(WEEK[:6], phases(6), 7).index.tolist() == [1] * 7


def test_hours_have_a_day_and_a_week() -> None:
    hours = np.arange(4 * 168)
    values = np.where((hours % 24 >= 8) & (hours % 24 < 16), 4.0, 0.0) * np.where(hours // 24 % 7 < 5, 1.0, 0.25)
    past = Past.of(values, hours % 168, 24)
    index = past.index.reshape(7, 24)
    assert index[:, :8].max() == 0
    assert index[5:, 8:16].mean() == pytest.approx(0.25 * index[:5, 8:16].mean(), rel=0.1)


# --- backtest ---


def test_a_method_sees_only_what_was_before() -> None:
    """Changing what came last changes outcomes, but no forecast that was made before it."""
    rng = np.random.default_rng(4)
    values = np.exp(rng.normal(0, 0.3, 40))
    later = values.copy()
    later[-7:] *= 10
    one, other = backtest(values, phases(40), 7, 7), backtest(later, phases(40), 7, 7)
    before = [at for at in range(len(one.outcomes)) if one.outcomes[at] == other.outcomes[at]]
    assert len(before) >= 10
    last = before[-1] + 1  # the first moment whose outcome has the change in it: its past has not
    for name, totals in one.foretold.items():
        assert totals[: last + 1].tolist() == other.foretold[name][: last + 1].tolist()


@pytest.mark.parametrize(
    ("n", "asked", "horizon", "count"), [(4, 30, 1, 1), (20, 30, 8, 6), (60, 14, 14, 24), (60, 1, 1, 24)]
)
def test_a_short_past_is_tried_over_fewer_steps(n: int, asked: int, horizon: int, count: int) -> None:
    tried = backtest(np.ones(n), phases(n), 7, asked)
    assert (tried.horizon, len(tried.outcomes)) == (horizon, count)


def made(**foretold: list[float]) -> Backtest:
    totals = {name: np.array(values) for name, values in foretold.items()}
    return Backtest(1, totals, np.full(len(foretold["combined"]), 10.0))  # type: ignore[arg-type]


def test_the_mean_of_all_is_used_unless_another_is_clearly_better() -> None:
    assert made(combined=[12.0] * 10, linear=[11.8] * 10).best() == "combined"
    assert made(combined=[12.0] * 10, linear=[11.0] * 10).best() == "linear"
    assert made(combined=[12.0] * 5, linear=[10.0] * 5).best() == "combined"  # too few to tell


def test_one_outcome_beyond_all_reason_does_not_choose() -> None:
    """`linear` is off by less nine times of ten, and by far more once."""
    assert made(combined=[12.0] * 10, linear=[10.5] * 9 + [22.0]).best() == "linear"


def test_errors_are_shares_of_the_mean_outcome() -> None:
    found = made(combined=[12.0, 8.0], linear=[11.0, 11.0]).errors()
    assert [(one.method, one.error, one.bias) for one in found] == [("linear", 0.1, 0.1), ("combined", 0.2, 0.0)]


def test_without_outcomes_errors_are_unknown() -> None:
    tried = Backtest(1, {"combined": np.ones(9), "linear": np.ones(9)}, np.zeros(9))
    assert [(one.error, one.bias) for one in tried.errors()] == [(None, None), (None, None)]
    assert tried.best() == "combined"


# --- interval ---


def spread(off: list[float], **settings: float) -> Spread:
    outcomes = np.full(len(off), 100.0)
    foretold = 110.0 / np.exp(np.array(off)) - 10.0
    given = {"horizon": 1, "asked": 1.0, "coverage": 0.8, **settings}
    return Spread.of(foretold, outcomes, **given)  # type: ignore[arg-type]


def test_the_interval_is_as_wide_as_the_backtest_was_off() -> None:
    off = [0.1 * (-1) ** n for n in range(200)]
    found = spread(off)
    assert found.width == pytest.approx(0.1, rel=0.01)
    low, high = found.around(90.0, 1.0)
    assert low == pytest.approx(100 / np.exp(found.width) - 10)
    assert high == pytest.approx(100 * np.exp(found.width) - 10)


def test_few_tries_and_far_horizons_widen_it() -> None:
    assert spread([0.1] * 4).width > spread([0.1] * 20).width > spread([0.1] * 200).width
    assert spread([0.1] * 20, horizon=10).width > spread([0.1] * 20).width
    assert spread([0.1] * 20, asked=4.0).width > spread([0.1] * 20).width


def test_a_part_of_a_step_is_less_certain_for_its_size() -> None:
    found = spread([0.3] * 20)
    whole = found.around(100.0, 1.0)[1] - 100.0
    assert found.around(25.0, 0.25)[1] - 25.0 == pytest.approx(whole / 2)
    assert found.around(0.0, 0.0) == (0.0, 0.0)


def test_the_upper_end_is_at_most_six_times_as_much() -> None:
    low, high = spread([3.0] * 30).around(100.0, 1.0)
    assert low == 0
    assert high == pytest.approx(6 * 110 - 10)
