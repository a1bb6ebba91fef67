"""Unit vectors for tests of what holds them."""

from __future__ import annotations

from typing import Any

import numpy as np


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def random_units(count: int, dim: int, seed: int = 0) -> Any:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)))


def around_centres(count: int, dim: int, centres: int, seed: int = 0) -> Any:
    """Vectors as texts have them: many near to each other, most far apart."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, dim))
    return unit(middle[random.integers(centres, size=count)] + 0.5 * random.normal(size=(count, dim)))
