"""What the scripts return, as words of the ledger; and what they are sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any, cast

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.redis_keys import accounts_in
from langchain_tokopt.budget.ledgers.words import Account, Action, Balance, Cap, Entry, StoredLimit, Valued
from langchain_tokopt.errors import ConfigurationError, StoreError

# Balances have at most 19 digits, so that every sum can be checked.
MOST = 10**19 - 1


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def amount_text(amount: Amount) -> str:
    """The amount as the scripts read it.

    Raises:
        StoreError: It is larger than a balance can be.
    """
    if max(amount.nano, amount.tokens, amount.calls) > MOST:
        msg = f"{amount} is more than a budget can count (at most {MOST} of each unit)"
        raise StoreError(msg)
    return f"{amount.nano} {amount.tokens} {amount.calls}"


def limit_text(limit: Cap | StoredLimit) -> str:
    """The limits in nano-USD, tokens and calls, "-" for none.

    Raises:
        ConfigurationError: One is larger than a balance can be.
    """
    texts = []
    for unit, most in (("nano", limit.nano), ("tokens", limit.tokens), ("calls", limit.calls)):
        if most is not None and most > MOST:
            raise ConfigurationError(unit, most, f"use a limit of at most {MOST}, or None for no limit")
        texts.append("-" if most is None else str(most))
    return " ".join(texts)


def reason_text(reason: str | None) -> str:
    """A reason that can be told from none."""
    return "" if reason is None else f":{reason}"


def amount_of(raw: bytes) -> Amount:
    nano, tokens, calls = map(int, raw.split())
    return Amount(nano, tokens, calls)


def balances_of(raw: bytes) -> list[Balance]:
    """Balances, each of six numbers."""
    numbers = list(map(int, raw.split()))
    return [
        Balance(Amount(*numbers[start : start + 3]), Amount(*numbers[start + 3 : start + 6]))
        for start in range(0, len(numbers), 6)
    ]


def entry_of(line: Sequence[Any]) -> Entry:
    """One line of the journal's stream: its id, and its fields in the order in which they are written."""
    id_, fields = line
    _, action, _, at, _, path, _, reservation, _, accounts, _, spent, _, held, _, reason = map(text, fields)
    return Entry(
        text(id_),
        float(at),
        cast("Action", action),
        path,
        reservation,
        accounts_in(accounts),
        amount_of(spent.encode()),
        amount_of(held.encode()),
        reason[1:] if reason else None,
    )


def limit_of(raw: bytes) -> StoredLimit:
    return StoredLimit(**json.loads(text(raw)))


def limit_fields(limit: StoredLimit) -> dict[str, Any]:
    return asdict(limit)


def valued_of(raw: bytes) -> Valued:
    _, _, at, path, value = json.loads(text(raw))
    return Valued(float(at), path, Decimal(value))


def by_account(accounts: Sequence[Account], raw: bytes) -> Mapping[Account, Balance]:
    return dict(zip(accounts, balances_of(raw), strict=True))
