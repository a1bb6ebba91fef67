"""Amounts, shares and moments as people read them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.budget.planning.saying import amount, listing, moment, share


@pytest.mark.parametrize(
    ("whole", "unit", "said"),
    [
        (0, "usd", "$0.00"),
        (1, "usd", "$0.000000001"),
        (4_200_000, "usd", "$0.0042"),
        (50_000_000, "usd", "$0.05"),
        (99_900_000, "usd", "$0.10"),
        (100_000_000, "usd", "$0.10"),
        (1_200_000_000, "usd", "$1.20"),
        (1_234_567_890_000_000, "usd", "$1,234,567.89"),
        (-1_200_000_000, "usd", "-$1.20"),
        (1, "tokens", "1 token"),
        (1_200, "tokens", "1,200 tokens"),
        (1, "calls", "1 call"),
        (0, "calls", "0 calls"),
    ],
)
def test_amounts(whole: int, unit: Unit, said: str) -> None:
    assert amount(whole, unit) == said


@pytest.mark.parametrize(
    ("part", "said"), [(0, "0 %"), (0.034, "3.4 %"), (0.03, "3 %"), (0.8, "80 %"), (0.996, "100 %"), (1, "100 %")]
)
def test_shares(part: float, said: str) -> None:
    assert share(part) == said


def test_moments_in_a_time_zone() -> None:
    assert moment(1_800_057_600) == "Sat 16 Jan 2027, 00:00"
    assert moment(1_800_057_600, ZoneInfo("Europe/Berlin")) == "Sat 16 Jan 2027, 01:00"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdefg"), "a, b, c, d, e and 2 more"),
    ],
)
def test_lists(names: list[str], said: str) -> None:
    assert listing(names) == said
