"""The budget: reserves before a call, settles after it, and says what happens when it cannot."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.budget.amounts import MAX_AMOUNT, Amount, read_tokens, read_usd
from langchain_tokopt.budget.books import Action, Books
from langchain_tokopt.budget.fitting import Fitting
from langchain_tokopt.budget.hold import Hold, Shortage
from langchain_tokopt.budget.ledgers.opening import check_store
from langchain_tokopt.budget.ledgers.words import Correction, StoredLimit
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import GLOBAL, LEVELS, Path
from langchain_tokopt.budget.outage import Owed
from langchain_tokopt.budget.paths import path_of, read_levels
from langchain_tokopt.budget.periods import Per
from langchain_tokopt.budget.refusals import (
    BudgetStoreError,
    CallRefusedError,
    no_node,
    no_price,
    over_limit,
    store_failed,
)
from langchain_tokopt.budget.rules import Rules, Terms
from langchain_tokopt.budget.spending import Spending
from langchain_tokopt.budget.standing import standings
from langchain_tokopt.budget.worst_case import WorstCase, total_tokens
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import NullSink, Sink, Who
from langchain_tokopt.pricing import Pricing, Rates, to_nano
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from os import PathLike

    from langchain_tokopt.budget.ledgers.contract import Ledger
    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

_LONGEST_SCOPE = 128


class Budget:
    """Limits on what agents spend, on every node of a hierarchy, for any number of threads, processes and machines.

    A call first reserves the most that it can take, on every node of its path, in one transaction; it is refused when
    that does not fit beside what is spent and what other calls hold. After the call what it really took is booked, and
    the rest is free again.

    Budgets of one name in one store count together, whatever process they are in; each enforces the limits of its own
    code, and all enforce those that are kept in the store.

    Args:
        usd: A limit on all calls together; see `Limit`, as for the next four.
        tokens: The limit in tokens.
        calls: The limit in model calls.
        per: What the limit is for.
        timezone: Whose calendar counts.
        limits: Limits by node: "global"; "project=shop"; "project=shop/agent=writer"; "user=*" for each user; free
            names such as "acme/team-a". A `Limit`, or several with different `per`.
        levels: What the path of a call is made of, from the root down, read from the runtime context, `configurable`
            and `metadata` of the call. A caller may also give the whole path there as `budget_path`.
        name: Tells the budgets in one store apart.
        on_exceeded: What a refused call does to its agent: "raise" `BudgetExceededError`, or "end" the run with a
            message that says so. Where a structured answer is awaited, it is raised in any case.
        on_store_failure: What happens while the ledger cannot be used: "open" lets calls go on, and books them when it
            can be used again; "closed" stops them with `BudgetStoreError`.
        unknown_price: For models without a known price: "tokens" leaves such calls out of the limits in USD, "refuse"
            stops them with `UnknownPriceError`, `Rates` are taken as their price.
        unknown_nodes: For calls on a path that no limit is written for, beside the root's: "count" them, or "refuse"
            them with `UnknownNodeError`.
        max_output_tokens: Never reserve more than this for one answer, and tell the model so. `None`: the longest
            answer that the request, the model or its profile allows.
        min_output_tokens: When the longest answer does not fit, the model is told to keep to what does, where its
            setting for that is known; a call is refused when that is less than this.
        lease_seconds: What a process held that died is free again after so long.
        store: Where the ledger is: a `Database`, its URL, the path of a SQLite file, or a Redis URL. `None`: the
            optimizer's database; without an optimizer in memory, for this object only.
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
        calls: int | None = None,
        per: Per = "forever",
        timezone: str = "UTC",
        limits: Mapping[str, Limit | Sequence[Limit]] | None = None,
        levels: Sequence[str] = LEVELS,
        name: str = "default",
        on_exceeded: Literal["raise", "end"] = "raise",
        on_store_failure: Literal["open", "closed"] = "open",
        unknown_price: Literal["tokens", "refuse"] | Rates = "tokens",
        unknown_nodes: Literal["count", "refuse"] = "count",
        max_output_tokens: int | None = None,
        min_output_tokens: int = 256,
        lease_seconds: float = 600.0,
        store: Database | Ledger | str | PathLike[str] | None = None,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
        sink: Sink | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if on_exceeded not in ("raise", "end"):
            raise ConfigurationError("on_exceeded", on_exceeded, 'use "raise" or "end"')
        if on_store_failure not in ("open", "closed"):
            raise ConfigurationError("on_store_failure", on_store_failure, 'use "open" or "closed"')
        if unknown_price not in ("tokens", "refuse") and not isinstance(unknown_price, Rates):
            raise ConfigurationError("unknown_price", unknown_price, 'use "tokens", "refuse" or Rates(...)')
        if unknown_nodes not in ("count", "refuse"):
            raise ConfigurationError("unknown_nodes", unknown_nodes, 'use "count" or "refuse"')
        if isinstance(lease_seconds, bool) or not isinstance(lease_seconds, (int, float)) or not lease_seconds > 0:
            raise ConfigurationError("lease_seconds", lease_seconds, "use a number of seconds above 0, such as 600")
        if not isinstance(name, str) or not 1 <= len(name) <= 128 or ":" in name:
            raise ConfigurationError("name", name, 'use 1 to 128 characters without ":"')
        check_store(store)
        simple = None
        if limits is None or not (usd is None and tokens is None and calls is None):
            simple = Limit(usd=usd, tokens=tokens, calls=calls, per=per, timezone=timezone)
        least = read_tokens("min_output_tokens", min_output_tokens) or 1
        self.name = name
        self.levels = read_levels(levels)
        self.on_exceeded = on_exceeded
        self.on_store_failure = on_store_failure
        self.max_output_tokens = read_tokens("max_output_tokens", max_output_tokens)
        self._rules = Rules(_with(simple, limits))
        self._unknown_price = unknown_price
        self._unknown_nodes = unknown_nodes
        self._fitting = Fitting(least, float(lease_seconds))
        self._books = Books(name, rules=self._rules, store=store, lease_seconds=float(lease_seconds), clock=clock)
        self._counter = counter
        self._pricing = pricing
        self._sink: Sink = sink or NullSink()
        self._clock = clock
        self._unpriced: set[str | None] = set()

    def __repr__(self) -> str:
        limits = ", ".join(f"{str(pattern) or GLOBAL}: {limit}" for pattern, limit in self._rules.named())
        return f"Budget(name={self.name!r}, {limits})"

    @property
    def scoped(self) -> bool:
        """Whether a limit is for each run or each thread."""
        return any(limit.scoped for _, limit in self._rules.named())

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
        if self._books.store is None:
            self._books.store = database
        self._counter = self._counter or counter
        self._pricing = self._pricing or pricing
        return self

    # --- the life of a call ------------------------------------------------------------------------------------------

    def reserve(
        self,
        case: WorstCase,
        *,
        path: Path | str | Sequence[str] | None = None,
        who: Who | None = None,
        run: str | None = None,
        thread: str | None = None,
        sink: Sink | None = None,
        enforce: bool = True,
    ) -> Hold:
        """What the call now holds. Its answer may have to be bounded: send `hold.case.bind(request)`.

        `path` is where the call stands; by default it is made of `who`. `run` and `thread` name the scopes of limits
        for each run or thread, by default those of `who`; a call that belongs to none has such a limit for itself. With
        `enforce=False` nothing is refused or bounded: what would have been is on record, and the call is held beyond
        its limits.

        Raises:
            BudgetExceededError: It does not fit; `UnknownPriceError` and `BudgetStoreError` are kinds of it.
            ConfigurationError: `path` cannot be read.
        """
        offered = self.offer(
            case, path=path, who=who, run=run, thread=thread, sink=sink, bound=enforce, enforce=enforce
        )
        if isinstance(offered, Hold):
            return offered
        if enforce:
            raise self.refuse(offered, sink=sink)
        would_fit = self._fitting.bounded(offered)
        if would_fit is None:
            self.refuse(offered, sink=sink)
            return self.hold_anyway(offered, sink=sink)
        reason = f"the answer would be bounded to {would_fit.case.output_tokens} tokens"
        return self.hold_anyway(offered, reason=reason, sink=sink)

    def offer(
        self,
        case: WorstCase,
        *,
        path: Path | str | Sequence[str] | None = None,
        who: Who | None = None,
        run: str | None = None,
        thread: str | None = None,
        sink: Sink | None = None,
        bound: bool = False,
        enforce: bool = True,
    ) -> Hold | Shortage:
        """What the call now holds, as `reserve` would; or what it is short of, and then nobody is told.

        `bound`: whether the answer may be bounded to what fits.

        Raises:
            BudgetExceededError: The call cannot be checked, or has no price or no limit and needs one.
        """
        began, now = time.perf_counter(), self._clock()
        sink, who, reservation = sink or self._sink, who or Who(), uuid.uuid4().hex
        stands = path_of(who, self.levels) if path is None else Path.read(path)
        try:
            ledger = self._books.ledger()
        except StoreError as error:
            return self._unbooked(self._held(reservation, stands, Terms((), ()), case, who), error, sink)
        terms = self._rules.terms(
            stands, now, run=_scope(run or who.run or reservation), thread=_scope(thread or who.thread or reservation)
        )
        hold = self._held(reservation, stands, terms, case, who)
        self._check(hold, sink, began, enforce=enforce)
        try:
            self._books.sweep(sink, only_when_due=True)
            offered = self._fitting.reserve(ledger, hold, now, bound=bound)
            if isinstance(offered, Shortage) and self._books.sweep(sink):
                offered = self._fitting.reserve(ledger, hold, now, bound=bound)
        except StoreError as error:
            return self._unbooked(hold, error, sink)
        self._books.outage.over()
        if isinstance(offered, Hold):
            self._holding(offered, self._why(case, offered), sink, began)
        return offered

    def refuse(self, shortage: Shortage, *, sink: Sink | None = None) -> CallRefusedError:
        """The error for a call that does not fit, put on record."""
        error = over_limit(self.name, shortage)
        self._tell(sink, "refused", shortage.hold, str(error), time.perf_counter())
        return error

    def hold_anyway(self, shortage: Shortage, *, reason: str | None = None, sink: Sink | None = None) -> Hold:
        """What the call now holds beyond its limits."""
        began, sink, hold = time.perf_counter(), sink or self._sink, shortage.hold
        try:
            self._fitting.reserve_anyway(self._books.ledger(), hold, self._clock())
        except StoreError as error:
            return self._unbooked(hold, error, sink)
        self._holding(hold, reason or self._why(hold.case, hold), sink, began)
        return hold

    def grant(
        self,
        shortage: Shortage,
        *,
        usd: Decimal | str | float | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Raise the limit that the call is short of, by so much, until its period ends.

        A limit for each run or thread is raised for the one that the call belongs to.

        Raises:
            ConfigurationError: An amount cannot be read, or none was given.
            StoreError: The ledger cannot be used.
        """
        short, ruled = shortage.decisive
        more = Limit(usd=usd, tokens=tokens, calls=calls)
        ledger, now = self._books.ledger(), self._clock()
        place = (ruled.rule.node, ruled.rule.limit.per, short.cap.account.scope)
        earlier = [
            one
            for one in ledger.limits()
            if one.source == "granted"
            and (one.node, one.per, one.scope) == place
            and not (one.until is not None and one.until <= now)
        ]
        granted = StoredLimit(
            node=place[0],
            per=place[1],
            nano=sum(one.nano or 0 for one in earlier) + (more.nano or 0) or None,
            tokens=sum(one.tokens or 0 for one in earlier) + (more.tokens or 0) or None,
            calls=sum(one.calls or 0 for one in earlier) + (more.calls or 0) or None,
            timezone=ruled.rule.limit.timezone,
            source="granted",
            scope=place[2],
            at=now,
            until=None if ruled.period.end is None else float(ruled.period.end),
        )
        said = reason or f"raised by {more} for the rest of its period"
        ledger.put_limits([granted], reasons={place[0]: said}, now=now)
        self._books.refresh()

    def settle(
        self,
        hold: Hold,
        usage: UsageMetadata | None = None,
        *,
        usd: Decimal | None = None,
        reason: str | None = None,
        sink: Sink | None = None,
    ) -> None:
        """Book what the call took, whatever the limits; the rest is free again. Settling twice changes nothing.

        Without `usage` and `usd` all that was reserved is booked. `usd` is what it cost, where the rates of the call's
        model do not say. Does not raise when the ledger cannot be used: the call is booked when it can be used again.
        """
        if usage is None and usd is None:
            actual, reason = hold.reserved, reason or "no usage was given: booked as reserved"
        else:
            if usd is None and usage is not None and hold.rates is not None:
                usd = hold.rates.cost(usage)
            nano = (hold.case.nano or 0) if usd is None else to_nano(usd)
            actual = Amount(nano, 0 if usage is None else total_tokens(usage), hold.reserved.calls)
        self._books.settle(Owed(hold, actual, reason, sink or self._sink))

    def release(self, hold: Hold, *, reason: str | None = None, sink: Sink | None = None) -> None:
        """Free what the call held: nothing was spent. Releasing what was settled or released changes nothing."""
        self._books.release(hold, reason=reason, sink=sink or self._sink)

    def spend(
        self,
        path: Path | str | Sequence[str] | None = None,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        usd: Decimal | str | float | None = None,
        model: str | None = None,
        provider: str | None = None,
        who: Who | None = None,
        sink: Sink | None = None,
    ) -> Spending:
        """A `with` (or `async with`) block around a call that does not go through LangChain, and what it takes at most.

        `path` is where the call stands. `usd` is its price where that does not follow from tokens and a model, such as
        that of a search. Call `.settle(usage)` on what the block is given; without that, all that was reserved is
        booked. An error in the block releases it; a cancellation books the input.

        Raises:
            ConfigurationError: A number of tokens is not a whole number from 0 up, or `usd` or `path` cannot be read.
            BudgetExceededError: The call does not fit; the block is not entered.
        """
        for argument, value in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AMOUNT:
                raise ConfigurationError(argument, value, "give a whole number of tokens from 0 up")
        stands = None if path is None else Path.read(path)
        case = WorstCase(model, provider, input_tokens, input_tokens, output_tokens, nano=read_usd(usd))
        return Spending(self, case, path=stands, who=who, sink=sink)

    # --- looking and repairing ---------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Every node with a limit or with spending in its current periods: USD as `Decimal`, the rest as `int`.

        `nodes` holds them from the root down, as `Standing.as_json` has them. For a limit per run or thread there are
        the figures of those that began last.

        Raises:
            StoreError: The ledger cannot be used.
        """
        found = standings(self._books.ledger(), self._rules, self._clock())
        return {"name": self.name, "nodes": [one.as_json() for one in found]}

    def sweep(self, *, sink: Sink | None = None) -> int:
        """How many reservations of dead processes were freed. It also happens by itself, when a call does not fit."""
        return self._books.sweep(sink or self._sink)

    def reconcile(self) -> list[Correction]:
        """Rebuild the counters of this budget from the journal; those that were wrong."""
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
        _, limit = self._rules.named()[0]
        if limit.usd is not None:
            return store_failed(self.name, error, Decimal(limit.usd), "usd")
        if limit.tokens is not None:
            return store_failed(self.name, error, limit.tokens, "tokens")
        return store_failed(self.name, error, limit.calls or 0, "calls")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _held(self, reservation: str, path: Path, terms: Terms, case: WorstCase, who: Who) -> Hold:
        rates = self.rates(case.model, case.provider)
        return Hold(reservation, path, terms, case, case.amount(rates), rates, who)

    def _check(self, hold: Hold, sink: Sink, began: float, *, enforce: bool) -> None:
        """Whether the budget has all that it needs to know of a call."""
        if self._unknown_nodes == "refuse" and not self._rules.names(hold.path):
            nowhere = no_node(self.name, hold.path)
            self._tell(sink, "refused", hold, str(nowhere), began)
            if enforce:
                raise nowhere
        if hold.rates is not None or hold.case.nano is not None or not hold.reserved.tokens:
            return
        in_usd = next((one for one in hold.terms.ruled if one.rule.limit.nano is not None), None)
        if in_usd is None:
            return
        if self._unknown_price != "refuse":
            self._say_unpriced(hold.case.model)
            return
        unpriced = no_price(self.name, hold.case.model, in_usd)
        self._tell(sink, "refused", hold, str(unpriced), began)
        if enforce:
            raise unpriced

    def _holding(self, hold: Hold, reason: str | None, sink: Sink, began: float) -> None:
        self._books.leases.add(hold.id)
        self._tell(sink, "reserved", hold, reason, began)
        self._books.settle_owed()

    def _unbooked(self, hold: Hold, error: StoreError, sink: Sink) -> Hold:
        """A call that nothing is held for, because the ledger cannot be used."""
        self._books.outage.failed(error, sink, "request")
        if self.on_store_failure == "closed":
            raise self.unchecked(error) from error
        if hold.terms.caps:
            return hold
        terms = self._rules.terms(
            hold.path, self._clock(), run=_scope(hold.who.run or hold.id), thread=_scope(hold.who.thread or hold.id)
        )
        return replace(hold, terms=terms)

    def _tell(self, sink: Sink | None, action: Action, hold: Hold, reason: str | None, began: float) -> None:
        self._books.tell(sink or self._sink, action, hold, hold.reserved, reason=reason, began=began)

    def _why(self, case: WorstCase, held: Hold) -> str | None:
        """What is special about a reservation."""
        if held.case != case:
            return f"the answer is bounded to {held.case.output_tokens} tokens"
        priced = held.rates is not None or held.case.nano is not None or not held.reserved.tokens
        if not priced and any(one.rule.limit.nano is not None for one in held.terms.ruled):
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


def _with(
    simple: Limit | None, limits: Mapping[str, Limit | Sequence[Limit]] | None
) -> Mapping[str, Limit | Sequence[Limit]]:
    """The limits of all nodes; the simple one is one on the root."""
    if simple is None:
        return limits or {}
    if limits is None:
        return {GLOBAL: simple}
    if not isinstance(limits, Mapping):
        return limits
    ours = limits.get(GLOBAL, ())
    return {**limits, GLOBAL: [simple, *([ours] if isinstance(ours, Limit) else ours)]}


def _scope(name: str) -> str:
    return name if len(name) <= _LONGEST_SCOPE else sha256(name.encode("utf-8", "replace")).hexdigest()
