"""What chance can do to a figure, against published numbers."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.telemetry.kpis_chance import (
    Ratio,
    rates_differ,
    ratio,
    ratios_differ,
    student,
    totals_differ,
    wilson,
)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=5e-5))
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_nothing_counted_can_be_any_rate() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert rates_differ(0, 0, 1, 2) is None
    assert rates_differ(1, 2, 0, 0) is None


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_rate_is_inside_its_interval(hits: int, more: int) -> None:
    count = hits + more
    low, high = wilson(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    mirrored = wilson(more, count)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))


def test_two_rates_differ_when_newcombes_interval_leaves_out_zero() -> None:
    # Newcombe, Interval estimation for the difference between independent proportions (1998), table II, method 10:
    # 56/70 - 48/80 is from 0.0524 to 0.3339, 9/10 - 3/10 from 0.1705 to 0.8090, 5/56 - 0/29 from -0.0381 to 0.1926.
    assert rates_differ(56, 70, 48, 80) is True
    assert rates_differ(9, 10, 3, 10) is True
    assert rates_differ(3, 10, 9, 10) is True
    assert rates_differ(5, 56, 0, 29) is False
    assert rates_differ(10, 100, 10, 100) is False


@pytest.mark.parametrize(("freedom", "quantile"), [(5, 2.5706), (10, 2.2281), (23, 2.0687), (1000, 1.9623)])
def test_students_quantile(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.002)


def test_a_ratio_varies_as_much_as_its_slices() -> None:
    pairs = [(1.0, 10.0), (2.0, 10.0), (3.0, 10.0), (1.0, 10.0), (2.0, 10.0), (3.0, 10.0)]
    found = ratio(pairs)
    assert found is not None
    assert (found.value, found.slices) == (0.2, 6)
    # Of slices of one size it is the standard error of the mean: sqrt(0.8 / 5 / 6) / 10 x 10.
    assert found.error == pytest.approx(math.sqrt(4 / 5 / 6) / 10)
    low, high = found.interval or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.2)


def test_few_slices_say_nothing_of_how_much_a_ratio_varies() -> None:
    found = ratio([(1.0, 2.0)] * 5)
    assert found == Ratio(0.5, None, 5)
    assert found.interval is None
    assert ratio([(1.0, 2.0)] * 6) == Ratio(0.5, 0.0, 6)
    assert ratio([]) is None
    assert ratio([(0.0, 0.0)] * 9) is None


def test_two_ratios_differ_beyond_their_errors() -> None:
    assert ratios_differ(Ratio(0.5, 0.05, 10), Ratio(0.2, 0.05, 10)) is True
    assert ratios_differ(Ratio(0.5, 0.2, 10), Ratio(0.2, 0.2, 10)) is False
    assert ratios_differ(Ratio(0.5, None, 3), Ratio(0.2, 0.2, 10)) is None


def test_totals_are_compared_slice_by_slice() -> None:
    day = {hour: 10.0 + hour for hour in range(24)}
    assert totals_differ({hour: spent + 1 for hour, spent in day.items()}, day) is True
    assert totals_differ(day, day) is False
    assert totals_differ({**day, 3: 200.0}, day) is False, "one hour that stands out may be chance"
    assert totals_differ({1: 1.0}, {2: 1.0}) is None


def test_chance_is_taken_for_more_in_about_one_of_twenty() -> None:
    lot = random.Random(7)
    found = [
        totals_differ({n: lot.gauss(10, 3) for n in range(24)}, {n: lot.gauss(10, 3) for n in range(24)})
        for _ in range(2000)
    ]
    assert 0.03 < sum(map(bool, found)) / len(found) < 0.07
