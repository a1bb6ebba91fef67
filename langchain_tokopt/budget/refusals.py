"""Why a call was stopped: over the limit, without a known price, or without a ledger to ask."""

from __future__ import annotations

from decimal import Decimal

from langchain_core.exceptions import ModelError

from langchain_tokopt.budget.hold import Shortage
from langchain_tokopt.budget.nodes import GLOBAL, Path, shown
from langchain_tokopt.budget.planning.saying import amount
from langchain_tokopt.budget.rules import Ruled
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError, StoreError
from langchain_tokopt.pricing import from_nano, to_nano

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


def over_limit(name: str, shortage: Shortage) -> CallRefusedError:
    """The error for a call that did not fit, with the figures of the limit that lasts longest."""
    short, ruled = shortage.decisive
    cap, taken, needed = short.cap, short.balance.taken, shortage.hold.reserved
    node, per, resets_at = shown(ruled.rule.node), ruled.rule.limit.per, ruled.period.resets_at
    where = f"budget {name!r}" if node == GLOBAL else f"budget {name!r} on {node!r}"
    until = f"; it starts afresh at {resets_at:%Y-%m-%d %H:%M:%S} UTC" if resets_at else ""

    def error(
        said: str, limit: Decimal | int, spent: Decimal | int, wanted: Decimal | int, unit: str
    ) -> CallRefusedError:
        return CallRefusedError(
            f"{where}: {said}{until}. {_REMEDIES[unit]}",
            limit=limit,
            spent=spent,
            needed=wanted,
            unit=unit,
            resets_at=resets_at,
            node=node,
            per=per,
        )

    if cap.nano is not None and needed.nano and taken.nano + needed.nano > cap.nano:
        said = (
            f"${taken.usd:f} of ${from_nano(cap.nano):f} is spent or held, and this call may take up to ${needed.usd:f}"
        )
        return error(said, from_nano(cap.nano), taken.usd, needed.usd, "usd")
    if cap.tokens is not None and needed.tokens and taken.tokens + needed.tokens > cap.tokens:
        said = f"{taken.tokens} of {cap.tokens} tokens are spent or held, and this call may take up to {needed.tokens}"
        return error(said, cap.tokens, taken.tokens, needed.tokens, "tokens")
    said = f"{taken.calls} of {cap.calls} calls are made or under way"
    return error(said, cap.calls or 0, taken.calls, needed.calls, "calls")


_REMEDIES = {
    "usd": "Raise `usd`, bound the answer with `max_output_tokens`, or wait.",
    "tokens": "Raise `tokens`, bound the answer with `max_output_tokens`, or wait.",
    "calls": "Raise `calls`, or wait.",
}


class UnknownNodeError(CallRefusedError):
    """The call's path cannot be read; or no limit is written for a node on it, and the budget refuses such calls.

    `spent` and `needed` are `Decimal("NaN")`: not known.
    """


def no_node(name: str, path: Path) -> UnknownNodeError:
    return UnknownNodeError(
        f"budget {name!r}: no limit is written for a node on the path {str(path)!r}, and unknown_nodes='refuse'. Write "
        'one (a pattern such as "user=*" will do), name another path, or use unknown_nodes="count".',
        limit=UNKNOWN,
        spent=UNKNOWN,
        needed=UNKNOWN,
        unit="usd",
        node=shown(str(path)),
    )


def unreadable_path(name: str, error: ConfigurationError) -> UnknownNodeError:
    return UnknownNodeError(
        f"budget {name!r}: {error}", limit=UNKNOWN, spent=UNKNOWN, needed=UNKNOWN, unit="usd", node=str(error.value)
    )


def no_price(name: str, model: str | None, ruled: Ruled) -> UnknownPriceError:
    return UnknownPriceError(
        f"budget {name!r}: the price of model {model!r} is not known, and unknown_price='refuse'. Give its rates with "
        'Pricing(overrides={...}), a ceiling with unknown_price=Rates(...), or use unknown_price="tokens".',
        limit=from_nano(ruled.rule.limit.nano or 0),
        spent=UNKNOWN,
        needed=UNKNOWN,
        unit="usd",
        resets_at=ruled.period.resets_at,
        node=shown(ruled.rule.node),
        per=ruled.rule.limit.per,
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
    if isinstance(refused, UnknownNodeError):
        return "I have to stop here: the budget has no limit for who is asking, and allows no call without one."
    limit, spent, needed = (_for_people(each, refused.unit) for each in (refused.limit, refused.spent, refused.needed))
    afresh = f" It starts afresh at {refused.resets_at:%Y-%m-%d %H:%M} UTC." if refused.resets_at else ""
    return (
        f"I have to stop here: the budget does not allow another call. {spent} of {limit} is spent or held, and the "
        f"call may take up to {needed}.{afresh}"
    )


def _for_people(value: Decimal | int, unit: str) -> str:
    if unit == "usd":
        return amount(to_nano(Decimal(value)), "usd")
    return amount(int(value), "calls" if unit == "calls" else "tokens")
