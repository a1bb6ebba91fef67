from __future__ import annotations

import numpy as np
import pytest

from langchain_tokopt.embedding_quality import SENTENCES, Quality, compare


def test_a_model_loses_nothing_against_itself() -> None:
    rows = np.eye(4, dtype=np.float32)
    assert compare(rows, rows) == Quality(sentences=4, cosine_min=1.0, cosine_median=1.0, neighbours=1.0)


def test_what_is_lost_is_measured() -> None:
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    moved = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    quality = compare(rows, moved)
    assert quality.cosine_min == pytest.approx(0.96)
    assert quality.cosine_median == pytest.approx(1.0)
    assert quality.neighbours == pytest.approx(2 / 3)  # the second is now nearer to the third
    assert "lowest 0.9600" in str(quality)


@pytest.mark.parametrize("other", [np.zeros((3, 2), np.float32), np.full((4, 4), np.nan, np.float32)])
def test_what_cannot_be_compared_is_bad(other: np.ndarray) -> None:
    assert not compare(np.eye(4, dtype=np.float32), other).acceptable


@pytest.mark.parametrize(
    ("lowest", "median", "neighbours", "good"),
    [(0.9, 0.97, 0.8, True), (0.89, 0.99, 1.0, False), (0.95, 0.96, 1.0, False), (0.95, 0.99, 0.79, False)],
)
def test_what_is_acceptable(lowest: float, median: float, neighbours: float, good: bool) -> None:
    quality = Quality(sentences=98, cosine_min=lowest, cosine_median=median, neighbours=neighbours)
    assert quality.acceptable is good


def test_the_sentences_are_all_different() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES)
