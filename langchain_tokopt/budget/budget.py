"""The budget: reserves before a call, settles after it, and decides what happens when it cannot."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.budget.accounts import Account, Correction
from langchain_tokopt.budget.amounts import MAX_AMOUNT, Amount, read_tokens
from langchain_tokopt.budget.books import Action, Books
from langchain_tokopt.budget.fitting import Fitting
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.outage import Owed
from langchain_tokopt.budget.periods import Per
from langchain_tokopt.budget.refusals import BudgetStoreError, no_price, over_limit, store_failed
from langchain_tokopt.budget.spending import Spending, spending
from langchain_tokopt.budget.worst_case import WorstCase, total_tokens
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import NullSink, Sink, Who
from langchain_tokopt.pricing import Pricing, Rates, from_nano, to_nano
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

_SCOPES_SHOWN = 20


class Budget:
    """One hard limit, in USD, in tokens or both, that any number of threads and processes spend from.

    A call first reserves the most that it can take, in one transaction; it is refused when that does not fit beside
    what is spent and what other calls hold. After the call what it really took is booked, and the rest is free again.

    Budgets of one name and one kind of period in one database count together, whatever process they are in; each
    enforces its own limit.

    Args:
        usd: The limit in USD: `Decimal`, `str` or `int`. A float is read as it is written, and refused when it is
            finer than a nano-USD: amounts are kept and counted in whole nano-USD.
        tokens: The limit in tokens, input and output together.
        per: What the limit is for: "forever", one "run" (invocation) of an agent, one "thread", or a calendar "hour",
            "day", "week" (from Monday) or "month".
        timezone: IANA name of the time zone whose calendar counts.
        name: Tells the budgets in one database apart.
        on_exceeded: What a refused call does to its agent: "raise" `BudgetExceededError`, or "end" the run with a
            message that says so. Where a structured answer is awaited, it is raised in any case.
        on_store_failure: What happens while the ledger cannot be used: "open" lets calls go on, and books them when it
            can be used again; "closed" stops them with `BudgetStoreError`.
        unknown_price: For models without a known price: "tokens" leaves such calls out of the limit in USD, "refuse"
            stops them with `UnknownPriceError`, `Rates` are taken as their price.
        max_output_tokens: Never reserve more than this for one answer, and tell the model so. `None`: the longest
            answer that the request, the model or its profile allows.
        min_output_tokens: When the longest answer does not fit, the model is told to keep to what does, where its
            setting for that is known; a call is refused when that is less than this.
        lease_seconds: What a process held that died is free again after so long.
        database: Where the ledger is. `None`: in memory, for this object only.
        counter: Counts the input.
        pricing: Knows what models cost.
        sink: Who is told about calls through `spend`; the middleware brings its own.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    def __init__(
        self,
        *,
        usd: Decimal | str | float | None = None,
        tokens: int | None = None,
        per: Per = "forever",
        timezone: str = "UTC",
        name: str = "default",
        on_exceeded: Literal["raise", "end"] = "raise",
        on_store_failure: Literal["open", "closed"] = "open",
        unknown_price: Literal["tokens", "refuse"] | Rates = "tokens",
        max_output_tokens: int | None = None,
        min_output_tokens: int = 256,
        lease_seconds: float = 600.0,
        database: Database | None = None,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
        sink: Sink | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = Limit.read(name=name, usd=usd, tokens=tokens, per=per, timezone=timezone)
        if on_exceeded not in ("raise", "end"):
            raise ConfigurationError("on_exceeded", on_exceeded, 'use "raise" or "end"')
        if on_store_failure not in ("open", "closed"):
            raise ConfigurationError("on_store_failure", on_store_failure, 'use "open" or "closed"')
        if unknown_price not in ("tokens", "refuse") and not isinstance(unknown_price, Rates):
            raise ConfigurationError("unknown_price", unknown_price, 'use "tokens", "refuse" or Rates(...)')
        if isinstance(lease_seconds, bool) or not isinstance(lease_seconds, (int, float)) or not lease_seconds > 0:
            raise ConfigurationError("lease_seconds", lease_seconds, "use a number of seconds above 0, such as 600")
        least = read_tokens("min_output_tokens", min_output_tokens) or 1
        self.on_exceeded = on_exceeded
        self.on_store_failure = on_store_failure
        self.max_output_tokens = read_tokens("max_output_tokens", max_output_tokens)
        self._unknown_price = unknown_price
        self._fitting = Fitting(self._limit, least, float(lease_seconds))
        self._books = Books(self.name, database=database, lease_seconds=float(lease_seconds), clock=clock)
        self._counter = counter
        self._pricing = pricing
        self._sink: Sink = sink or NullSink()
        self._clock = clock
        self._unpriced: set[str | None] = set()

    def __repr__(self) -> str:
        usd = None if self._limit.nano is None else f"{from_nano(self._limit.nano):f}"
        return f"Budget(name={self.name!r}, usd={usd!r}, tokens={self._limit.tokens!r}, per={self.per!r})"

    @property
    def name(self) -> str:
        return self._limit.name

    @property
    def per(self) -> Per:
        return self._limit.per

    @property
    def counter(self) -> TokenCounter:
        """What counts the input."""
        if self._counter is None:
            self._counter = TokenCounter()
        return self._counter

    def attach(
        self,
        *,
        database: Database | None = None,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
    ) -> Budget:
        """This budget, with the resources that it does not have yet."""
        self._books.database = self._books.database or database
        self._counter = self._counter or counter
        self._pricing = self._pricing or pricing
        return self

    # --- the life of a call ------------------------------------------------------------------------------------------

    def reserve(
        self,
        case: WorstCase,
        *,
        who: Who | None = None,
        scope: str | None = None,
        sink: Sink | None = None,
        enforce: bool = True,
    ) -> Hold:
        """What the call now holds. Its answer may have to be bounded: send `hold.case.bind(request)`.

        `scope` names the run or the thread of a limit that is per run or per thread; by default it is taken from `who`,
        and a call that belongs to none has the limit for itself. With `enforce=False` nothing is refused or bounded:
        what would have been is on record, and the call is held beyond the limit.

        Raises:
            BudgetExceededError: It does not fit; `UnknownPriceError` and `BudgetStoreError` are kinds of it.
        """
        began, now = time.perf_counter(), self._clock()
        sink, who, reservation = sink or self._sink, who or Who(), uuid.uuid4().hex
        period = self._limit.period(now)
        account = Account(self._limit.key(scope or self._limit.scope(who) or reservation), period.start)
        rates = self.rates(case.model, case.provider)
        hold = Hold(reservation, account, period, case, case.amount(rates), rates, who)

        def tell(action: Action, what: Hold, reason: str | None) -> None:
            self._books.tell(sink, action, what, what.reserved, reason=reason, began=began)

        if rates is None and self._limit.nano is not None:
            if self._unknown_price == "refuse":
                unpriced = no_price(self.name, case.model, self._limit.nano, period)
                tell("refused", hold, str(unpriced))
                if enforce:
                    raise unpriced
            else:
                self._say_unpriced(case.model)
        try:
            ledger = self._books.ledger()
            self._books.sweep(sink, only_when_due=True)
            held, refusal = self._fitting.reserve(ledger, hold, now, bound=enforce)
            if refusal is not None and self._books.sweep(sink):
                held, refusal = self._fitting.reserve(ledger, hold, now, bound=enforce)
            if refusal is not None and not enforce:
                self._fitting.reserve_anyway(ledger, hold, now)
        except StoreError as error:
            self._books.outage.failed(error, sink, "request")
            if self.on_store_failure == "open":
                return hold
            raise self.unchecked(error) from error
        self._books.outage.over()
        reason = self._why(case, held)
        if refusal is not None:
            would_fit = None if enforce else self._fitting.bounded(hold, refusal)
            if would_fit is None:
                over = over_limit(self.name, refusal, hold.reserved, period)
                tell("refused", hold, str(over))
                if enforce:
                    raise over
            else:
                reason = f"the answer would be bounded to {would_fit.case.output_tokens} tokens"
        self._books.leases.add(hold.id)
        tell("reserved", held, reason)
        self._books.settle_owed()
        return held

    def settle(
        self,
        hold: Hold,
        usage: UsageMetadata | None = None,
        *,
        usd: Decimal | None = None,
        reason: str | None = None,
        sink: Sink | None = None,
    ) -> None:
        """Book what the call took, whatever the limit; the rest is free again. Settling twice changes nothing.

        Without `usage` all that was reserved is booked. `usd` is what it cost, where the rates of the call's model do
        not say. Does not raise when the ledger cannot be used: the call is booked when it can be used again.
        """
        if usage is None:
            actual, reason = hold.reserved, reason or "no usage was given: booked as reserved"
        else:
            if usd is None and hold.rates is not None:
                usd = hold.rates.cost(usage)
            actual = Amount(0 if usd is None else to_nano(usd), total_tokens(usage))
        self._books.settle(Owed(hold, actual, reason, sink or self._sink))

    def release(self, hold: Hold, *, reason: str | None = None, sink: Sink | None = None) -> None:
        """Free what the call held: nothing was spent. Releasing what was settled or released changes nothing."""
        self._books.release(hold, reason=reason, sink=sink or self._sink)

    def spend(
        self,
        *,
        input_tokens: int,
        output_tokens: int = 0,
        model: str | None = None,
        provider: str | None = None,
        who: Who | None = None,
        sink: Sink | None = None,
    ) -> AbstractContextManager[Spending]:
        """A `with` block around a call that does not go through LangChain and takes at most these tokens.

        Call `.settle(usage)` on what it gives; without that, all that was reserved is booked. An error in the block
        releases it; a cancellation books the input.

        Raises:
            ConfigurationError: A number of tokens is not a whole number from 0 up.
            BudgetExceededError: The call does not fit; the block is not entered.
        """
        for argument, value in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AMOUNT:
                raise ConfigurationError(argument, value, "give a whole number of tokens from 0 up")
        case = WorstCase(model, provider, input_tokens, input_tokens, output_tokens)
        return spending(self, case, who, sink)

    # --- looking and repairing ---------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is spent, held and left in the current period: USD as `Decimal`, tokens as `int`.

        For a limit per run or thread, `scopes` has the figures of those that began last.

        Raises:
            StoreError: The ledger cannot be used.
        """
        ledger, period = self._books.ledger(), self._limit.period(self._clock())
        shown: dict[str, Any] = {"name": self.name, "per": self.per, "resets_at": period.resets_at}
        key = self._limit.key()
        if not self._limit.scoped:
            return shown | self._limit.figures(ledger.balance(Account(key, period.start)))
        latest = ledger.latest(key, count=_SCOPES_SHOWN)
        return shown | {"scopes": {found[len(key) :]: self._limit.figures(b) for found, b in latest.items()}}

    def sweep(self, *, sink: Sink | None = None) -> int:
        """How many reservations of dead processes were freed. It also happens by itself, when a call does not fit."""
        return self._books.sweep(sink or self._sink)

    def reconcile(self) -> list[Correction]:
        """Rebuild the counters of every budget in the database from the journal; those that were wrong."""
        return self._books.ledger().reconcile(now=self._clock())

    def close(self) -> None:
        """Book what is owed and stop renewing leases. A database that was handed in stays open."""
        self._books.close()

    def rates(self, model: str | None, provider: str | None) -> Rates | None:
        """Prices of the model; those of `unknown_price=Rates(...)` when they are not known, else `None`."""
        if self._pricing is None:
            self._pricing = Pricing()
        found = None if model is None else self._pricing.rates(model, provider)
        if found is None and isinstance(self._unknown_price, Rates):
            return self._unknown_price
        return found

    def unchecked(self, error: BaseException) -> BudgetStoreError:
        """The error for a call that is stopped because it could not be checked."""
        if self._limit.nano is not None:
            return store_failed(self.name, error, from_nano(self._limit.nano), "usd")
        return store_failed(self.name, error, self._limit.tokens or 0, "tokens")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _why(self, case: WorstCase, held: Hold) -> str | None:
        """What is special about a reservation."""
        if held.case != case:
            return f"the answer is bounded to {held.case.output_tokens} tokens"
        if held.rates is None and self._limit.nano is not None:
            return f"the price of {case.model} is not known: outside the limit in USD"
        return None

    def _say_unpriced(self, model: str | None) -> None:
        if model not in self._unpriced:
            self._unpriced.add(model)
            log.warning(
                "budget %r: the price of model %r is not known, so its calls are outside the limit in USD; give its "
                "rates with Pricing(overrides=...), or set unknown_price",
                self.name,
                model,
            )
