"""What the user may answer when a call would go beyond a limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from langchain_tokopt.budget.amounts import Amount, read_calls, read_tokens, read_usd
from langchain_tokopt.budget.ledgers.words import NOTHING
from langchain_tokopt.errors import ConfigurationError

_APPROVED: Final = (True, "approve")
_REJECTED: Final = (False, "reject")
_UNITS: Final = ("usd", "tokens", "calls")

UNDERSTOOD: Final = (
    'answer "approve" for this one call, {"type": "raise", "usd": "1.00"} to raise the limit by so much until it '
    'starts afresh ("tokens" and "calls" as well), or "reject"'
)

# For clients that show a form; the answers are read by `read_answer` in any case.
SCHEMA: Final[dict[str, Any]] = {
    "title": "BudgetAnswer",
    "oneOf": [
        {
            "type": "object",
            "title": "Approve",
            "description": "Make this one call beyond the limit.",
            "properties": {"type": {"const": "approve"}},
            "required": ["type"],
        },
        {
            "type": "object",
            "title": "Raise",
            "description": "Raise the limit by so much until it starts afresh.",
            "properties": {
                "type": {"const": "raise"},
                "usd": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?$"},
                "tokens": {"type": "integer", "minimum": 1},
                "calls": {"type": "integer", "minimum": 1},
            },
            "required": ["type"],
        },
        {
            "type": "object",
            "title": "Reject",
            "description": "Do not make this call.",
            "properties": {"type": {"const": "reject"}, "message": {"type": "string"}},
            "required": ["type"],
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        type: What is to be done.
        by: By how much the limit is raised; 0 where a unit was not named.
        message: What the user said when refusing; "" for nothing.
    """

    type: Literal["approve", "raise", "reject"]
    by: Amount = NOTHING
    message: str = ""

    @property
    def usd(self) -> Decimal | None:
        return self.by.usd if self.by.nano else None


def read_answer(given: object, *, missing: Amount) -> Answer:
    """The answer, whichever of its forms it has; also the one decision in a `HITLResponse` of LangChain's.

    Raises:
        ValueError: It is not understood, or the limit is raised by less than is `missing`; the message says which, to
            whoever answered.
    """
    if any(given is word or (isinstance(word, str) and given == word) for word in _APPROVED):
        return Answer("approve")
    if any(given is word or (isinstance(word, str) and given == word) for word in _REJECTED):
        return Answer("reject")
    if not isinstance(given, Mapping):
        raise ValueError(_not_understood(given))
    decisions = given.get("decisions")
    if decisions is not None:
        if not isinstance(decisions, (list, tuple)) or len(decisions) != 1:
            raise ValueError(_not_understood(given))
        return read_answer(decisions[0], missing=missing)
    kind = given.get("type")
    if kind == "approve":
        return Answer("approve")
    if kind == "reject":
        message = given.get("message")
        return Answer("reject", message=message if isinstance(message, str) else "")
    if kind == "raise":
        return Answer("raise", _raised(given, missing))
    raise ValueError(_not_understood(given))


def _raised(given: Mapping[Any, Any], missing: Amount) -> Amount:
    unknown = [key for key in given if key not in ("type", *_UNITS)]
    if unknown or all(given.get(unit) is None for unit in _UNITS):
        raise ValueError(_not_understood(given))
    try:
        by = Amount(
            read_usd(given.get("usd")) or 0,
            read_tokens("tokens", given.get("tokens")) or 0,
            read_calls(given.get("calls")) or 0,
        )
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    if missing.beyond(by):
        raise ValueError(f"that is not enough for this call: raise the limit by at least {_amount(missing)}")
    return by


def _amount(missing: Amount) -> str:
    parts = (
        f"{missing.usd:f} USD" if missing.nano else "",
        f"{missing.tokens} tokens" if missing.tokens else "",
        f"{missing.calls} calls" if missing.calls else "",
    )
    return " and ".join(part for part in parts if part)


def _not_understood(given: object) -> str:
    try:
        shown = json.dumps(given)
    except (TypeError, ValueError):
        shown = repr(given)
    return f"{shown[:200]} is not understood: {UNDERSTOOD}"
