"""How answers to a budget's question are read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.steps.answers import Answer, read_answer

NOTHING = Amount()


@pytest.mark.parametrize("given", [True, "approve", {"type": "approve"}, {"decisions": [{"type": "approve"}]}])
def test_what_approves(given: Any) -> None:
    assert read_answer(given, missing=Amount(5)) == Answer("approve")


@pytest.mark.parametrize("given", [False, "reject", {"type": "reject"}, {"decisions": [{"type": "reject"}]}])
def test_what_refuses(given: Any) -> None:
    assert read_answer(given, missing=Amount(5)) == Answer("reject")


def test_a_refusal_may_say_why() -> None:
    given = {"decisions": [{"type": "reject", "message": "too dear"}]}
    assert read_answer(given, missing=NOTHING) == Answer("reject", message="too dear")
    assert read_answer({"type": "reject", "message": 3}, missing=NOTHING) == Answer("reject")


@pytest.mark.parametrize(
    ("given", "by"),
    [
        ({"usd": "1.00"}, Amount(1_000_000_000)),
        ({"usd": 2}, Amount(2_000_000_000)),
        ({"usd": Decimal("0.000000001")}, Amount(1)),
        ({"tokens": 500}, Amount(0, 500)),
        ({"calls": 3}, Amount(0, 0, 3)),
        ({"usd": "1", "tokens": 500, "calls": None}, Amount(1_000_000_000, 500)),
    ],
)
def test_what_raises_the_limit(given: dict[str, Any], by: Amount) -> None:
    assert read_answer({"type": "raise", **given}, missing=NOTHING) == Answer("raise", by)


@pytest.mark.parametrize(
    "given",
    [
        1,  # equal to True, and no answer
        0,
        "",
        "maybe",
        [],
        {},
        {"type": "edit"},
        {"type": "raise"},
        {"type": "raise", "usd": None},
        {"type": "raise", "eur": "1"},
        {"decisions": []},
        {"decisions": [{"type": "approve"}, {"type": "approve"}]},
        {"decisions": "approve"},
        object(),
    ],
)
def test_what_is_not_understood_is_said_with_what_is(given: Any) -> None:
    with pytest.raises(ValueError, match=r'is not understood: answer "approve" for this one call, .*, or "reject"'):
        read_answer(given, missing=NOTHING)


@pytest.mark.parametrize("amount", ["-1", 0, "much", "1e-12", True, float("nan")])
def test_an_amount_that_is_none_is_refused(amount: Any) -> None:
    with pytest.raises(ValueError, match="usd="):
        read_answer({"type": "raise", "usd": amount}, missing=NOTHING)


def test_a_raise_that_is_not_enough_is_refused_with_what_is() -> None:
    missing = Amount(250_000_000, 0, 2)
    with pytest.raises(ValueError, match=r"raise the limit by at least 0\.25\d* USD and 2 calls"):
        read_answer({"type": "raise", "usd": "0.2", "calls": 2}, missing=missing)
    assert read_answer({"type": "raise", "usd": "0.25", "calls": 2}, missing=missing).by == missing
