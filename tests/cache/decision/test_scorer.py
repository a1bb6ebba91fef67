"""The regression finds what there is to find, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_tokopt.cache.decision.evidence import FEATURES
from langchain_tokopt.cache.decision.scorer import Scorer, fit, unlearned

WIDTH = len(FEATURES)
SIMILARITY = FEATURES.index("similarity")


def sigmoid(score: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-score))


def labels(
    seed: int, count: int, *, weights: np.ndarray | None = None, floor: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, whether the answer was right, and the true probability that it is wrong. `floor`: wrong by chance."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0.5, 0.25, size=(count, WIDTH))
    if weights is None:
        weights = np.zeros(WIDTH)
        weights[:4] = (8.0, -4.0, 3.0, 2.0)
    right = (1.0 - floor) * sigmoid((features - 0.5) @ weights + 2.0)
    return features, (rng.random(count) < right).astype(float), 1.0 - right


def raw(scorer: Scorer) -> np.ndarray:
    """Weights of the features as they are."""
    return scorer.weights[1:] / scorer.scale


def test_known_weights_are_found() -> None:
    weights = np.zeros(WIDTH)
    weights[[0, 3, 7]] = (6.0, -5.0, 3.0)
    features, same, _ = labels(0, 20_000, weights=weights)
    found = raw(fit(features, same))
    assert found == pytest.approx(weights, abs=0.5)
    assert np.linalg.norm(found - weights) < 0.15 * np.linalg.norm(weights)


@pytest.mark.parametrize("floor", [0.0, 0.05, 0.15])
def test_the_risk_is_the_share_of_wrong_answers(floor: float) -> None:
    features, same, _ = labels(1, 6_000, floor=floor)
    scorer = fit(features, same)
    fresh, outcome, true = labels(2, 40_000, floor=floor)
    risk = scorer.risk(fresh)
    order = np.argsort(risk)
    for part in np.array_split(order, 10):
        observed, predicted = 1.0 - outcome[part].mean(), risk[part].mean()
        assert predicted == pytest.approx(observed, abs=0.02 + 0.15 * observed)
    surest = order[:400]
    assert risk[surest].mean() == pytest.approx(true[surest].mean(), rel=0.6, abs=0.004)
    assert np.abs(risk - true).mean() < 0.03


def test_noise_in_the_labels_raises_the_risk_of_the_surest_to_the_noise() -> None:
    clean = fit(*labels(3, 6_000)[:2])
    noisy = fit(*labels(3, 6_000, floor=0.1)[:2])
    fresh = labels(4, 5_000)[0]
    assert float(np.quantile(clean.risk(fresh), 0.05)) < 0.02
    assert float(noisy.risk(fresh).min()) == pytest.approx(0.1, abs=0.03)


def test_a_start_from_an_earlier_fit_comes_to_the_same() -> None:
    features, same, _ = labels(5, 3_000)
    before = fit(features[:2_800], same[:2_800])
    warm, cold = fit(features, same, start=before), fit(features, same)
    fresh = labels(6, 2_000)[0]
    assert warm.mean is before.mean
    assert warm.risk(fresh) == pytest.approx(cold.risk(fresh), abs=0.01)
    assert np.log(warm.risk(fresh)) == pytest.approx(np.log(cold.risk(fresh)), abs=0.1)


@pytest.mark.parametrize("change", ["mean", "scale"])
def test_an_earlier_fit_of_other_features_is_no_start(change: str) -> None:
    features, same, _ = labels(7, 1_000)
    before = fit(features, same)
    moved = features + 0.5 if change == "mean" else features.mean(axis=0) + 3.0 * (features - features.mean(axis=0))
    after = fit(moved, same, start=before)
    assert np.array_equal(after.mean, moved.mean(axis=0))
    assert np.array_equal(after.weights, fit(moved, same).weights)


def test_a_fit_never_starts_from_one_that_saw_no_labels() -> None:
    features, same, _ = labels(7, 200)
    assert np.array_equal(fit(features, same, start=unlearned()).weights, fit(features, same).weights)


def test_before_the_first_label_similar_questions_have_the_same_answer() -> None:
    scorer = unlearned()
    near, far, differs = np.zeros((3, WIDTH))
    for row, similarity in ((near, 0.97), (far, 0.6), (differs, 0.97)):
        row[SIMILARITY] = similarity
        row[FEATURES.index("vote")] = 1.0
    differs[FEATURES.index("numbers_differ")] = 1.0
    risk = scorer.risk(np.stack((near, differs, far)))
    assert risk[0] < risk[1] < risk[2]
    assert risk[0] < 0.2
    assert risk[2] > 0.9


@pytest.mark.parametrize("count", [1, 50, 2_000])
@pytest.mark.parametrize("right", [0.0, 1.0])
def test_labels_that_all_say_the_same_are_believed_the_more_the_more_there_are(count: int, right: float) -> None:
    features, _, _ = labels(8, count)
    risk = fit(features, np.full(count, right)).risk(features)
    assert np.isfinite(risk).all()
    assert ((risk > 0.0) & (risk < 1.0)).all()
    if count == 2_000:
        assert np.median(np.abs(risk - (1.0 - right))) < 0.01


def test_extreme_and_constant_features_do_no_harm() -> None:
    features, same, _ = labels(9, 500)
    features[:, 5] = 1.0  # constant
    features[:, 6] = 0.0
    features[::50, 7] = 1e6
    features[1::50, 8] = -1e6
    scorer = fit(features, same)
    wild = np.concatenate((features, np.full((1, WIDTH), 1e9), np.full((1, WIDTH), -1e9)))
    risk = scorer.risk(wild)
    assert np.isfinite(risk).all()
    assert ((risk >= 0.0) & (risk <= 1.0)).all()
    again = fit(features, same, start=scorer)
    assert np.isfinite(again.weights).all()


def test_labels_that_can_be_told_apart_wholly_do_no_harm() -> None:
    rng = np.random.default_rng(10)
    features = rng.normal(size=(400, WIDTH))
    same = (features[:, 0] > 0.0).astype(float)
    scorer = fit(features, same)
    risk = scorer.risk(features)
    assert np.isfinite(scorer.weights).all()
    assert ((risk < 0.5) == (same == 1.0)).mean() > 0.95


def test_what_calibrates_was_not_seen_by_the_regression() -> None:
    """Each fold's weights are those of a regression without its labels, whatever these say."""
    features, same, _ = labels(11, 600)
    folds = fit(features, same).folds
    flipped = same.copy()
    flipped[1::3] = 1.0 - flipped[1::3]
    others = fit(features, flipped).folds
    unchanged = [bool(np.array_equal(a, b)) for a, b in zip(folds, others, strict=True)]
    assert unchanged == [False, True, False]


def test_a_regression_that_learned_by_heart_is_not_believed() -> None:
    """With hardly more labels than features it separates what is pure chance; held out labels show that it cannot."""
    rng = np.random.default_rng(12)
    features = rng.normal(0.5, 0.25, size=(60, WIDTH))
    features[:, SIMILARITY] = 0.85
    same = (rng.random(60) < 0.7).astype(float)
    scorer = fit(features, same)
    fresh = rng.normal(0.5, 0.25, size=(2_000, WIDTH))
    fresh[:, SIMILARITY] = 0.85
    assert float(np.quantile(scorer.risk(fresh), 0.1)) > 0.08
    assert float(scorer.risk(fresh).mean()) == pytest.approx(0.3, abs=0.15)


def test_rehearsed_labels_teach_and_do_not_calibrate() -> None:
    features, same, true = labels(13, 2_000)
    hard, wrong, _ = labels(14, 2_000)
    hopeless = np.zeros(len(wrong))  # rehearsed ones that all went wrong
    both, all_labels = np.concatenate((features, hard)), np.concatenate((same, hopeless))
    live = fit(both, all_labels, live=len(same)).risk(features)
    mixed = fit(both, all_labels).risk(features)
    assert float(live.mean()) == pytest.approx(float(true.mean()), abs=0.03)
    assert float(mixed.mean()) > float(true.mean()) + 0.2


def test_without_anything_that_was_really_asked_the_calibration_changes_nothing() -> None:
    features, same, _ = labels(15, 300)
    assert fit(features, same, live=0).calibration == pytest.approx((0.0, 0.0, -4.0), abs=0.05)
