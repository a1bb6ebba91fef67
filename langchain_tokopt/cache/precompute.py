"""Answers made ahead: the user's settings for them, the day's budget, and the call that is paid from it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

from langchain_tokopt.errors import BudgetExceededError, ConfigurationError, StoreError
from langchain_tokopt.identity import model_identity
from langchain_tokopt.later import AbandonedError

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse
    from langchain_core.messages.ai import UsageMetadata

    from langchain_tokopt.cache.prediction_store import SuccessionStore
    from langchain_tokopt.flow import Flow
    from langchain_tokopt.pricing import Pricing

_USD_FORMS = 'give an amount above 0 such as "0.50" or Decimal("0.50"), in steps of 0.000000001'


@dataclass(frozen=True, slots=True, kw_only=True)
class Precompute:
    """That likely next questions may be answered ahead, and for how much.

    An answer made ahead saves no money: the call is paid sooner, or for nothing when nobody asks. It saves a wait.
    `worth` says how much that is worth.

    Attributes:
        usd_per_day: What may be spent on it in a day (UTC). What calls under way will cost is set aside first, as the
            answer's last cost: so a day can end over the limit by as much as those calls cost more than last time.
        worth: What it is worth that an answer is there when it is asked for, as a multiple of the call's cost, above
            0. At 1.0 a call is made ahead where more than every second one is used, at 3.0 every fourth.
        before_expiry_seconds: How long before an answer expires it counts as missing.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    usd_per_day: Decimal
    worth: float = 1.0
    before_expiry_seconds: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "usd_per_day", _usd(self.usd_per_day))
        if not _number(self.worth) or not self.worth > 0:
            raise ConfigurationError("worth", self.worth, "use a number above 0, such as 1.0")
        if not _number(self.before_expiry_seconds) or not self.before_expiry_seconds >= 0:
            remedy = "use a number of seconds, or 0 for answers that have expired only"
            raise ConfigurationError("before_expiry_seconds", self.before_expiry_seconds, remedy)

    @property
    def needed(self) -> float:
        """The share of answers made ahead that must be used, in (0, 1)."""
        return 1.0 / (1.0 + self.worth)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _usd(given: object) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, (Decimal, str, int)):
        raise ConfigurationError("usd_per_day", given, _USD_FORMS)
    try:
        usd = Decimal(given)
    except InvalidOperation:
        raise ConfigurationError("usd_per_day", given, _USD_FORMS) from None
    if not usd.is_finite() or not Decimal("1e-9") <= usd <= Decimal(1_000_000_000) or usd % Decimal("1e-9"):
        raise ConfigurationError("usd_per_day", given, _USD_FORMS)
    return usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the cache knows of a question that is likely to come next.

    Attributes:
        text: The question.
        fresh_until: Unix time until which its answer is served where it is expected; `math.inf` for one that does not
            expire, `None` if there is none.
        usage: What its answer used when a model last gave it, here or elsewhere; `None` if that is not known.
    """

    text: str
    fresh_until: float | None
    usage: UsageMetadata | None


@dataclass(frozen=True, slots=True)
class Paid:
    """What an answer that was made ahead cost. `measured`: by the provider's own usage; else it is the estimate."""

    usd: Decimal
    seconds: float
    measured: bool


def paying(
    *,
    settings: Precompute,
    usage: UsageMetadata | None,
    store: Callable[[], SuccessionStore],
    pricing: Pricing,
    clock: Callable[[], float],
    paid: Callable[[Paid], None],
) -> Callable[[ModelRequest[Any]], Flow]:
    """A flow that lets a call through if its price is known and the day's budget has room, and books what it cost.

    It runs in the background, around the flows inside of the one that asked, so that none of this is waited for.
    """

    def flow(request: ModelRequest[Any]) -> Flow:
        identity = model_identity(request.model, request.model_settings)
        name = identity.name
        expected = pricing.cost(usage, name, identity.provider) if usage is not None and name else None
        if expected is None or name is None:
            reason = "what it costs is not known"
            raise AbandonedError(reason)
        day = datetime.fromtimestamp(clock(), timezone.utc).date().isoformat()
        if not store().hold(day, expected, settings.usd_per_day):
            reason = "today's budget for answers made ahead is used up"
            raise AbandonedError(reason)
        started = time.perf_counter()
        # Unless it is known better: a call that was broken off may have been billed.
        cost, measured = expected, False
        try:
            response = yield request
            real = _real_cost(response, lambda used: pricing.cost(used, name, identity.provider))
            if real is not None:
                cost, measured = real, True
        except (AbandonedError, BudgetExceededError):
            cost = Decimal(0)  # given up or refused further in, before the model was called
            raise
        finally:
            with contextlib.suppress(StoreError):  # then it stays set aside for the rest of the day
                store().settle(day, expected, cost)
            paid(Paid(cost, time.perf_counter() - started, measured))
        return response

    return flow


def _real_cost(response: ModelResponse[Any], price: Callable[[UsageMetadata], Decimal | None]) -> Decimal | None:
    for message in response.result:
        if isinstance(message, AIMessage) and message.usage_metadata is not None:
            return price(message.usage_metadata)
    return None
