"""Amounts in whole nano-USD, whole tokens and calls: what a limit may be, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal, get_args

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import from_nano

Unit = Literal["usd", "tokens", "calls"]

# A sum of three of these still fits the database's signed 64-bit columns.
MAX_AMOUNT = 2**60
_MAX_USD = Decimal(1_000_000_000)
_SMALLEST_USD = Decimal("1e-9")
_USD_FORMS = 'give a positive amount such as "5.00" or Decimal("0.25"), in steps of 0.000000001, up to 1000000000'


@dataclass(frozen=True, slots=True)
class Amount:
    """Money, tokens and calls side by side: nano-USD, tokens and calls, all of them whole numbers."""

    nano: int = 0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.nano + other.nano, self.tokens + other.tokens, self.calls + other.calls)

    def less(self, other: Amount) -> Amount:
        return Amount(self.nano - other.nano, self.tokens - other.tokens, self.calls - other.calls)

    def beyond(self, other: Amount) -> Amount:
        """By how much this is more than `other`, each unit for itself and never below 0."""
        return Amount(
            max(0, self.nano - other.nano), max(0, self.tokens - other.tokens), max(0, self.calls - other.calls)
        )

    def __bool__(self) -> bool:
        return bool(self.nano or self.tokens or self.calls)

    def of(self, unit: Unit) -> int:
        """The amount in that unit: nano-USD, tokens or calls."""
        return {"usd": self.nano, "tokens": self.tokens, "calls": self.calls}[unit]

    @property
    def usd(self) -> Decimal:
        return from_nano(self.nano)


def read_usd(usd: object) -> int | None:
    """A limit in USD as nano-USD, `None` for no limit.

    A float is read as it is written, `0.1` as "0.1": what it stands for, not the binary fraction behind it. One that
    is finer than a nano-USD, such as `0.1 + 0.2`, is the outcome of float arithmetic and refused.

    Raises:
        ConfigurationError: Not a number, not positive, too large, or finer than a nano-USD.
    """
    if usd is None:
        return None
    if isinstance(usd, bool) or not isinstance(usd, (Decimal, str, int, float)):
        raise ConfigurationError("usd", usd, _USD_FORMS)
    try:
        amount = Decimal(str(usd))
    except InvalidOperation:
        raise ConfigurationError("usd", usd, _USD_FORMS) from None
    if not amount.is_finite() or not _SMALLEST_USD <= amount <= _MAX_USD or amount % _SMALLEST_USD:
        raise ConfigurationError("usd", usd, _USD_FORMS)
    return int(amount / _SMALLEST_USD)


def read_unit(unit: object) -> Unit:
    """The unit.

    Raises:
        ConfigurationError: There is none of that name.
    """
    for known in get_args(Unit):
        if unit == known:
            found: Unit = known
            return found
    raise ConfigurationError("unit", unit, f"use one of {', '.join(map(repr, get_args(Unit)))}")


def read_amount(argument: str, amount: object, unit: Unit) -> int:
    """An amount from 0 up in that unit: nano-USD for USD, else a whole number.

    Raises:
        ConfigurationError: It is none.
    """
    if amount == 0 and not isinstance(amount, bool):
        return 0
    try:
        read = read_usd(amount) if unit == "usd" else read_tokens(argument, amount)
    except ConfigurationError as error:
        raise ConfigurationError(argument, amount, error.remedy) from None
    if read is None:
        raise ConfigurationError(argument, amount, f"give an amount in {unit}")
    return read


def read_calls(calls: object) -> int | None:
    """A number of calls, `None` for no limit.

    Raises:
        ConfigurationError: Not a whole number, not positive, or too large.
    """
    if calls is None:
        return None
    if isinstance(calls, bool) or not isinstance(calls, int) or not 1 <= calls <= MAX_AMOUNT:
        raise ConfigurationError("calls", calls, "give a whole number of calls from 1 up, such as 1_000")
    return calls


def read_tokens(argument: str, tokens: object) -> int | None:
    """A number of tokens, `None` for no limit.

    Raises:
        ConfigurationError: Not a whole number, not positive, or too large.
    """
    if tokens is None:
        return None
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= MAX_AMOUNT:
        raise ConfigurationError(argument, tokens, "give a whole number of tokens from 1 up, such as 100_000")
    return tokens
