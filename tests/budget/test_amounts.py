"""Limits as users write them: read into whole nano-USD and whole tokens, or refused at construction."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.budget import Budget
from langchain_tokopt.budget.amounts import Amount, read_tokens, read_usd
from langchain_tokopt.errors import ConfigurationError


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("5.00", 5_000_000_000),
        (Decimal("0.25"), 250_000_000),
        (3, 3_000_000_000),
        (0.1, 100_000_000),
        ("0.000000001", 1),
        ("1e3", 1_000_000_000_000),
        ("1000000000", 10**18),
        (None, None),
    ],
)
def test_an_amount_of_usd_is_read_exactly(usd: Any, nano: int | None) -> None:
    assert read_usd(usd) == nano


@pytest.mark.parametrize(
    "usd",
    [
        *(0, -1, "0", "-0.5", True, "NaN", "sNaN", "Infinity", float("nan"), float("inf"), "five", "", b"5", [5]),
        *(0.1 + 0.2, "0.0000000001", "1.0000000000001", "1000000000.000000001", 10**10),
    ],
)
def test_an_amount_that_cannot_be_a_limit_is_refused(usd: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Budget(usd=usd)
    assert refused.value.argument == "usd"
    assert refused.value.value is usd


@given(st.integers(1, 10**18))
def test_every_whole_number_of_nano_usd_can_be_a_limit(nano: int) -> None:
    assert read_usd(Decimal(nano).scaleb(-9)) == nano


@pytest.mark.parametrize("tokens", [0, -1, True, 1.5, 100.0, "100", float("nan"), 2**61])
def test_a_number_of_tokens_that_cannot_be_a_limit_is_refused(tokens: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Budget(tokens=tokens)
    assert refused.value.argument == "tokens"


def test_a_number_of_tokens_is_read() -> None:
    assert read_tokens("tokens", 100_000) == 100_000


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"usd": 1, "per": "year"},
        {"usd": 1, "per": ["day"]},
        {"usd": 1, "timezone": "Europe/Atlantis"},
        {"usd": 1, "timezone": None},
        {"usd": 1, "timezone": "../etc/passwd"},
        {"usd": 1, "name": ""},
        {"usd": 1, "name": "a:b"},
        {"usd": 1, "name": 5},
        {"usd": 1, "on_exceeded": "stop"},
        {"usd": 1, "on_store_failure": "maybe"},
        {"usd": 1, "unknown_price": "guess"},
        {"usd": 1, "unknown_price": None},
        {"usd": 1, "max_output_tokens": 0},
        {"usd": 1, "min_output_tokens": -5},
        {"usd": 1, "lease_seconds": 0},
        {"usd": 1, "lease_seconds": True},
        {"usd": 1, "lease_seconds": float("nan")},
        {"usd": 1, "lease_seconds": "600"},
    ],
)
def test_settings_that_cannot_work_fail_at_construction(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Budget(**settings)
    assert refused.value.argument in (*settings, "usd")


def test_amounts_are_compared_unit_by_unit() -> None:
    assert Amount(10, 5).beyond(Amount(4, 9)) == Amount(6, 0)
    assert Amount(1, 2) + Amount(3, 4) == Amount(4, 6)
    assert Amount(1, 2).less(Amount(3, 4)) == Amount(-2, -2)
    assert not Amount()
    assert Amount(1_500_000_000).usd == Decimal("1.5")
