"""How much risk may be taken, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import astuple, fields
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.decision import steering
from langchain_tokopt.cache.decision.steering import Noise, Share, Sums

NONE = Noise()

# --- sums ------------------------------------------------------------------------------------------------------------


def test_sums_add_up_field_by_field() -> None:
    names = [field.name for field in fields(Sums)]
    one = Sums(*(float(n) for n, _ in enumerate(names, 1)))
    other = Sums(*(10.0 * n for n, _ in enumerate(names, 1)))
    assert astuple(one + other) == tuple(11.0 * n for n, _ in enumerate(names, 1))
    assert astuple(one.halved()) == tuple(n / 2 for n, _ in enumerate(names, 1))
    assert one + Sums() == one


@pytest.mark.parametrize("name", [field.name for field in fields(Sums)])
def test_sums_are_something_as_soon_as_anything_was_counted(name: str) -> None:
    assert not Sums()
    assert Sums(**{name: 1.0})


# --- what may be spent -----------------------------------------------------------------------------------------------


def test_the_allowance_grows_with_the_requests_up_to_a_rate() -> None:
    afford = [steering.affordable(Sums(requests=n), 0.01, 1.0, NONE) for n in (0, 1_000, 2_000, 10_000, 1e6)]
    assert afford == sorted(afford)
    assert 0.0 < afford[0] < 0.01
    assert afford[-2] == afford[-1]  # what was saved for long is not spent all at once
    assert afford[-1] < 0.02


@pytest.mark.parametrize("max_error", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("requests", [0, 500, 20_000])
def test_room_is_left_for_chance(requests: int, max_error: float) -> None:
    spent = Sums(requests=requests, known_wrong=max_error * requests)  # exactly at the bound
    n = requests + steering.HORIZON
    planned = spent.known_wrong + steering.affordable(spent, max_error, 1.0, NONE) * steering.HORIZON
    assert planned <= max_error * n
    assert requests == 0 or planned <= max(spent.known_wrong, max_error * n - 0.5 * math.sqrt(max_error * n))


def test_nothing_may_be_spent_when_too_much_was() -> None:
    assert steering.affordable(Sums(requests=1_000, known_wrong=25), 0.01, 1.0, NONE) == 0.0
    assert steering.affordable(Sums(requests=1_000, pending_risk=9), 0.01, 3.0, NONE) == 0.0
    assert steering.affordable(Sums(requests=1_000, pending_risk=9), 0.01, 0.5, NONE) > 0.0


def test_wrong_answers_are_those_found_and_the_corrected_risk_of_the_others() -> None:
    assert steering.wrong_so_far(Sums(known_wrong=3, pending_risk=10, audits=50), 1.5, NONE) == 18.0


def test_what_a_judge_finds_wrong_by_mistake_is_left_out() -> None:
    noise = Noise(apart=0.1, alike=0.0)
    # Of 100 audits of right answers, 10 are called wrong; of 100 of which 20 are wrong, 20 + 8 are.
    assert steering.wrong_so_far(Sums(known_wrong=10, audits=100), 1.0, noise) == 0.0
    assert steering.wrong_so_far(Sums(known_wrong=28, audits=100), 1.0, noise) == pytest.approx(20.0)
    assert steering.wrong_so_far(Sums(known_wrong=1, audits=100, pending_risk=2), 1.0, noise) == 2.0  # never negative


# --- the factor ------------------------------------------------------------------------------------------------------


def test_before_the_first_audit_the_estimates_count_as_right() -> None:
    before = steering.correction(0.0, 0.0)
    assert before.mean == 1.0
    assert before.upper > 1.0


def test_the_factor_comes_near_what_the_audits_say() -> None:
    assert steering.correction(1_000.0, 2_000.0).mean == pytest.approx(2.0, rel=0.01)
    assert steering.correction(1_000.0, 2_000.0).upper == pytest.approx(2.0, rel=0.06)
    assert steering.correction(10.0, 10.0).mean == 1.0


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.01, 100))
def test_the_factor_rises_with_wrong_answers_and_falls_with_expected_ones(
    expected: float, wrong: float, more: float
) -> None:
    here = steering.correction(expected, wrong)
    worse = steering.correction(expected, wrong + more)
    better = steering.correction(expected + more, wrong)
    assert worse.mean > here.mean > better.mean
    assert worse.upper >= here.upper >= better.upper
    assert here.upper >= here.mean
    assert math.isfinite(here.upper)


def test_luck_does_not_open_the_gate() -> None:
    lucky = steering.correction(1e6, 0.0)
    assert lucky.mean < 1e-3
    assert 0.1 <= lucky.upper < 1.0


def test_the_upper_bound_is_a_quantile_of_the_posterior() -> None:
    rng = np.random.default_rng(1)
    above, tried, strength = 0, 4_000, steering._PRIOR_WRONG
    for _ in range(tried):
        factor = rng.gamma(strength) / strength
        above += factor > steering.correction(20.0, float(rng.poisson(20.0 * factor))).upper
    assert above / tried == pytest.approx(1.0 - NormalDist().cdf(steering._UPPER_Z), abs=0.03)


def audits(seed: int, *, factor: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Audits of many sure and a few risky answers that go wrong so much more often than estimated, and the factor."""
    rng = np.random.default_rng(seed)
    risks = np.where(rng.random(6_000) < 0.8, 0.01, 0.1)
    wrong = rng.random(6_000) < np.where(risks < 0.05, factor[0], factor[1]) * risks
    rates = np.where(risks < 0.05, 0.03, 0.15)
    drawn = rng.random(6_000) < rates
    return risks[drawn], 1.0 / rates[drawn], wrong[drawn].astype(float), float(wrong.sum() / risks.sum())


@pytest.mark.parametrize("factor", [(1.0, 1.0), (20.0, 1.0), (1.0, 4.0)])
def test_what_audits_prove_is_true_nine_times_out_of_ten(factor: tuple[float, float]) -> None:
    proved = [
        steering.surely(risks, weights, wrong, NONE) <= true
        for risks, weights, wrong, true in (audits(seed, factor=factor) for seed in range(300))
    ]
    assert sum(proved) / 300 >= 0.87


def test_sure_answers_that_go_wrong_are_seen_although_they_are_audited_least() -> None:
    risks, weights, wrong, true = audits(0, factor=(20.0, 1.0))
    unweighted = steering.correction(float(risks.sum()), float(wrong.sum())).mean
    assert unweighted < steering.surely(risks, weights, wrong, NONE) <= true


def test_without_wrong_answers_nothing_is_proved() -> None:
    assert steering.surely(np.full(9, 0.1), np.ones(9), np.zeros(9), NONE) == 0.0
    one = steering.surely(np.full(9, 0.1), np.ones(9), np.eye(9)[0], NONE)
    assert 0.0 < one < 0.2  # of 0.9 expected, 1 was found: that proves next to nothing
    assert steering.surely(np.full(9, 0.1), np.ones(9), np.eye(9)[0], Noise(apart=0.2)) == 0.0


# --- the limit -------------------------------------------------------------------------------------------------------


def spent(risks: list[float], weights: list[float], limit: float, share: float, factor: float) -> float:
    """What a request costs on average if all up to `limit` are served."""
    served = sum(r * w for r, w in zip(risks, weights, strict=True) if r <= limit)
    return served * factor * share / sum(weights)


some_risks = st.lists(
    st.tuples(st.sampled_from([0.001, 0.002, 0.005, 0.01, 0.03, 0.2]) | st.floats(1e-4, 1.0), st.floats(0.5, 50.0)),
    min_size=1,
    max_size=30,
)


@given(some_risks, st.floats(0.05, 1.0), st.floats(0.5, 4.0), st.floats(0.0, 0.05))
def test_the_limit_is_the_largest_risk_that_can_be_afforded(
    proposals: list[tuple[float, float]], share: float, factor: float, afford: float
) -> None:
    risks, weights = [r for r, _ in proposals], [w for _, w in proposals]
    limit = steering.limit(np.array(risks), np.array(weights), share=share, factor=factor, afford=afford, max_error=0.9)
    slack = 1e-9
    possible = [r for r in risks if spent(risks, weights, r, share, factor) <= afford]
    surely = [r for r in risks if spent(risks, weights, r, share, factor) <= afford - slack]
    cap = max([r for r in risks if r <= 9.0 / factor], default=0.0)
    assert limit <= max(possible, default=0.0) + slack or spent(risks, weights, limit, share, factor) <= afford + slack
    assert limit >= min(max(surely, default=0.0), cap)


def test_equal_risks_are_served_all_or_none() -> None:
    risks = np.array([0.001, 0.01, 0.01, 0.01])
    given = {"share": 1.0, "factor": 1.0, "max_error": 0.5}
    assert steering.limit(risks, np.ones(4), afford=0.0055, **given) == 0.001  # two of the three could be afforded
    assert steering.limit(risks, np.ones(4), afford=0.0078, **given) == 0.01
    assert steering.limit(risks[1:], np.ones(3), afford=0.005, **given) == 0.0


def test_no_single_answer_may_be_a_gamble() -> None:
    risks = np.array([0.001, 0.9])
    limit = steering.limit(risks, np.ones(2), share=1.0, factor=1.0, afford=1.0, max_error=0.01)
    assert 0.001 <= limit < 0.9
    risks = np.array([0.9])
    plain = steering.limit(risks, np.ones(1), share=1.0, factor=1.0, afford=1.0, max_error=0.01)
    corrected = steering.limit(risks, np.ones(1), share=1.0, factor=4.0, afford=4.0, max_error=0.01)
    assert corrected == pytest.approx(plain / 4.0)  # where the estimates are too low, sooner


def test_without_proposals_and_without_means_nothing_is_served() -> None:
    empty = np.zeros(0)
    assert steering.limit(empty, empty, share=0.0, factor=1.0, afford=1.0, max_error=0.5) == 0.0
    assert steering.limit(np.array([0.1]), np.ones(1), share=1.0, factor=1.0, afford=0.0, max_error=0.5) == 0.0


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (8, 10, 0.4902, 0.9433),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilsons_interval(hits: int, count: int, low: float, high: float) -> None:
    assert steering.wilson(hits, count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilsons_interval_of_nothing_is_everything() -> None:
    assert steering.wilson(0, 0) == (0.0, 1.0)


def audited(seed: int, *, served: int = 2_000, requests: int = 4_000) -> tuple[Sums, float]:
    """What audits of unequal rates find, and the true share of wrong answers among the requests."""
    rng = np.random.default_rng(seed)
    risk = rng.choice([0.005, 0.02, 0.1], served, p=[0.5, 0.3, 0.2])
    wrong = rng.random(served) < risk
    rate = np.clip(np.sqrt(risk), 0.06, 0.4)  # the risky ones are audited more often
    drawn = rng.random(served) < rate
    weight = 1.0 / rate[drawn]
    sums = Sums(
        requests=requests,
        served=served,
        audits=float(drawn.sum()),
        weight=float(weight.sum()),
        weight_squared=float((weight**2).sum()),
        weight_wrong=float((weight * wrong[drawn]).sum()),
    )
    return sums, float(wrong.sum()) / requests


def test_the_audited_error_is_unbiased_and_its_interval_covers() -> None:
    off, covered = [], 0
    for seed in range(300):
        sums, true = audited(seed)
        share = steering.audited_error(sums)
        assert share.value is not None
        assert share.low is not None
        assert share.high is not None
        assert share.low <= share.value <= share.high
        off.append(share.value - true)
        covered += share.low <= true <= share.high
    assert abs(float(np.mean(off))) < 3 * float(np.std(off)) / math.sqrt(300)
    assert covered / 300 >= 0.93


def test_without_audits_the_error_is_unknown_unless_nothing_was_served() -> None:
    assert steering.audited_error(Sums()) == Share(None, None, None)
    assert steering.audited_error(Sums(requests=100, served=7)) == Share(None, None, None)
    assert steering.audited_error(Sums(requests=100)) == Share(0.0, 0.0, 0.0)


# --- the judge's errors ----------------------------------------------------------------------------------------------


def test_a_judge_without_twins_and_strangers_is_trusted() -> None:
    assert steering.noise(Sums()) == Noise(0.0, 0.0)


def test_the_judges_errors_are_taken_so_that_the_cache_is_trusted_less() -> None:
    found = steering.noise(Sums(twins=200, twins_apart=20, strangers=200, strangers_alike=4))
    assert 0.05 < found.apart < 0.1  # low, since it excuses the cache
    assert found.alike == 0.02
    assert steering.noise(Sums(twins=10, twins_apart=10)).apart <= 0.5  # nor is everything put down to it


@given(st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 1))
def test_the_correction_undoes_the_judges_errors(apart: float, alike: float, true: float) -> None:
    seen = true * (1.0 - alike) + (1.0 - true) * apart
    assert float(Noise(apart, alike).true_share(np.array([seen]))[0]) == pytest.approx(true, abs=1e-9)


def test_with_a_judge_that_errs_the_audited_error_is_near_the_truth() -> None:
    values, truths = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wrong = rng.random(1_000) < 0.05
        seen = wrong | (rng.random(1_000) < 0.1)
        apart = float((rng.random(2_000) < 0.1).sum())
        count = float(len(wrong))
        sums = Sums(2_000.0, served=1_000.0, audits=count, weight=count, weight_squared=count)
        share = steering.audited_error(sums + Sums(weight_wrong=float(seen.sum()), twins=2_000.0, twins_apart=apart))
        assert share.value is not None
        values.append(share.value)
        truths.append(float(wrong.sum()) / 2_000.0)
    # 0.05 of the served half; uncorrected it would be 0.0725. What is left over errs on the side of more errors.
    assert float(np.mean(truths)) <= float(np.mean(values)) < float(np.mean(truths)) + 0.011
