"""How large a text is when it is decided what it looks like: the same number in every process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from langchain_tokopt.estimate import estimate

Size: TypeAlias = Callable[[str], int]

# Above so many characters a text is measured by samples: what is decided by its size is then far from close.
SAMPLED_ABOVE = 64_000
SAMPLES = 8
SAMPLE = 6_000


def text_size(text: str) -> int:
    """About how many tokens the text has, whatever tokenizers are installed here."""
    if len(text) <= SAMPLED_ABOVE:
        return estimate(text)
    step = (len(text) - SAMPLE) // (SAMPLES - 1)
    sampled = sum(estimate(text[start : start + SAMPLE]) for start in range(0, step * SAMPLES, step))
    return round(sampled * len(text) / (SAMPLES * SAMPLE))
