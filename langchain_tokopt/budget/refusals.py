"""Why a call was stopped: over the limit, without a known price, or without a ledger to ask."""

from __future__ import annotations

from decimal import Decimal

from langchain_core.exceptions import ModelError

from langchain_tokopt.budget.accounts import Refusal
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.periods import Period
from langchain_tokopt.errors import BudgetExceededError, StoreError
from langchain_tokopt.pricing import from_nano

UNKNOWN = Decimal("NaN")


class CallRefusedError(BudgetExceededError, ModelError):
    """A call was stopped before it reached the model.

    It is also LangChain's `ModelError` and not retryable, so that a `ModelRetryMiddleware` around the budget hands it
    on at once; it would otherwise wait and ask again, and then turn the refusal into an answer.
    """

    is_retryable = False


class UnknownPriceError(CallRefusedError):
    """The model's price is not known, and the budget was told to refuse such calls.

    `spent` and `needed` are `Decimal("NaN")`: not known.
    """


class BudgetStoreError(CallRefusedError, StoreError):
    """The ledger cannot be used, and the budget was told to fail closed.

    `spent` and `needed` are `Decimal("NaN")`: not known.
    """


def over_limit(name: str, refusal: Refusal, needed: Amount, period: Period) -> CallRefusedError:
    """The error for a reservation that did not fit, with the figures of the limit that it did not fit under."""
    cap, taken = refusal.cap, refusal.balance.taken
    until = f"; it starts afresh at {period.resets_at:%Y-%m-%d %H:%M:%S} UTC" if period.resets_at else ""
    if cap.nano is not None and taken.nano + needed.nano > cap.nano:
        limit, spent, wanted = from_nano(cap.nano), taken.usd, needed.usd
        return CallRefusedError(
            f"budget {name!r}: ${spent:f} of ${limit:f} is spent or held, and this call may take up to ${wanted:f}"
            f"{until}. Raise `usd`, bound the answer with `max_output_tokens`, or wait.",
            limit=limit,
            spent=spent,
            needed=wanted,
            unit="usd",
            resets_at=period.resets_at,
        )
    return CallRefusedError(
        f"budget {name!r}: {taken.tokens} of {cap.tokens} tokens are spent or held, and this call may take up to "
        f"{needed.tokens}{until}. Raise `tokens`, bound the answer with `max_output_tokens`, or wait.",
        limit=cap.tokens or 0,
        spent=taken.tokens,
        needed=needed.tokens,
        unit="tokens",
        resets_at=period.resets_at,
    )


def no_price(name: str, model: str | None, limit_nano: int, period: Period) -> UnknownPriceError:
    return UnknownPriceError(
        f"budget {name!r}: the price of model {model!r} is not known, and unknown_price='refuse'. Give its rates with "
        'Pricing(overrides={...}), a ceiling with unknown_price=Rates(...), or use unknown_price="tokens".',
        limit=from_nano(limit_nano),
        spent=UNKNOWN,
        needed=UNKNOWN,
        unit="usd",
        resets_at=period.resets_at,
    )


def store_failed(name: str, error: BaseException, limit: Decimal | int, unit: str) -> BudgetStoreError:
    return BudgetStoreError(
        f"budget {name!r} could not be checked ({type(error).__name__}: {error}), and on_store_failure='closed'. "
        'Repair the cause, or use on_store_failure="open" to let calls go on unchecked.',
        limit=limit,
        spent=UNKNOWN,
        needed=UNKNOWN,
        unit=unit,
    )


def farewell(refused: BudgetExceededError) -> str:
    """The refusal in the words of an agent that has to stop, for whoever reads the conversation."""
    if isinstance(refused, UnknownPriceError):
        return "I have to stop here: this model's price is not known, and the budget allows no call without one."
    unit = "USD" if refused.unit == "usd" else "tokens"
    afresh = f" It starts afresh at {refused.resets_at:%Y-%m-%d %H:%M} UTC." if refused.resets_at else ""
    return (
        f"I have to stop here: the budget does not allow another call. {refused.spent} of {refused.limit} {unit} are "
        f"spent or held, and the call may take up to {refused.needed}.{afresh}"
    )
