"""The life of a call under its limits: offered, held, refused, settled, released."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.books import Action, Books
from langchain_tokopt.budget.fitting import Fitting
from langchain_tokopt.budget.grants import grant
from langchain_tokopt.budget.hold import Hold, Shortage
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.budget.outage import Owed
from langchain_tokopt.budget.paths import path_of
from langchain_tokopt.budget.prices import Prices
from langchain_tokopt.budget.refusals import BudgetStoreError, CallRefusedError, no_node, over_limit, store_failed
from langchain_tokopt.budget.rules import Rules, Terms
from langchain_tokopt.budget.worst_case import WorstCase, total_tokens
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import Sink, Who
from langchain_tokopt.pricing import Rates, to_nano

if TYPE_CHECKING:
    from langchain_tokopt.budget.ledgers.contract import Ledger

_LONGEST_SCOPE = 128


class Calls:
    """What a budget does around each call.

    Args:
        name: The budget's name.
        levels: What a path is made of where none is given.
        rules: The limits.
        books: The way to the ledger.
        fitting: How calls are made to fit.
        prices: What models cost.
        on_store_failure: Whether calls go on while the ledger cannot be used.
        unknown_nodes: Whether calls on a path without limits go on.
        sink: Who is told where a call brings nobody.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        levels: Sequence[str],
        rules: Rules,
        books: Books,
        fitting: Fitting,
        prices: Prices,
        on_store_failure: Literal["open", "closed"],
        unknown_nodes: Literal["count", "refuse"],
        sink: Sink,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.levels = tuple(levels)
        self.on_store_failure = on_store_failure
        self._rules = rules
        self._books = books
        self._fitting = fitting
        self._prices = prices
        self._unknown_nodes = unknown_nodes
        self._sink = sink
        self._clock = clock

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
        ledger = self._opened(now)
        terms = self._rules.terms(
            stands, now, run=_scope(run or who.run or reservation), thread=_scope(thread or who.thread or reservation)
        )
        hold = self._held(reservation, stands, terms, case, who)
        self._check(hold, sink, began, enforce=enforce)
        if isinstance(ledger, StoreError):
            return self._unbooked(hold, ledger, sink)
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
        more = Limit(usd=usd, tokens=tokens, calls=calls)
        grant(self._books.ledger(), shortage, more, reason=reason, now=self._clock())
        self._books.refresh()

    def settle(
        self,
        hold: Hold,
        usage: UsageMetadata | None = None,
        *,
        usd: Decimal | None = None,
        calls: int = 1,
        reason: str | None = None,
        sink: Sink | None = None,
    ) -> None:
        """Book what the call took, whatever the limits; the rest is free again. Settling twice changes nothing.

        Without `usage` and `usd` all that was reserved is booked. `usd` is what it cost, where the rates of the call's
        model do not say; `calls` how often it was made, when something further in tried again. Does not raise when the
        ledger cannot be used: the call is booked when it can be used again.
        """
        if usage is None and usd is None:
            actual, reason = hold.reserved, reason or "no usage was given: booked as reserved"
        else:
            if usd is None and usage is not None and hold.rates is not None:
                usd = hold.rates.cost(usage)
            nano = (hold.case.nano or 0) if usd is None else to_nano(usd)
            actual = Amount(nano, 0 if usage is None else total_tokens(usage), calls)
        self._books.settle(Owed(hold, actual, reason, sink or self._sink))

    def release(self, hold: Hold, *, reason: str | None = None, sink: Sink | None = None) -> None:
        """Free what the call held: nothing was spent. Releasing what was settled or released changes nothing."""
        self._books.release(hold, reason=reason, sink=sink or self._sink)

    def rates(self, model: str | None, provider: str | None) -> Rates | None:
        """Prices of the model; those of `unknown_price=Rates(...)` when they are not known, else `None`."""
        return self._prices.rates(model, provider)

    def unchecked(self, error: BaseException) -> BudgetStoreError:
        """The error for a call that is stopped because it could not be checked."""
        _, limit = self._rules.named()[0]
        if limit.usd is not None:
            return store_failed(self.name, error, Decimal(limit.usd), "usd")
        if limit.tokens is not None:
            return store_failed(self.name, error, limit.tokens, "tokens")
        return store_failed(self.name, error, limit.calls or 0, "calls")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _when_due(self, now: float) -> bool:
        """Whether limits were changed just now, because it was time to."""
        return False

    def _held(self, reservation: str, path: Path, terms: Terms, case: WorstCase, who: Who) -> Hold:
        rates = self.rates(case.model, case.provider)
        return Hold(reservation, path, terms, case, case.amount(rates), rates, who)

    def _check(self, hold: Hold, sink: Sink, began: float, *, enforce: bool) -> None:
        """Whether the budget has all that it needs to know of a call."""
        missing: CallRefusedError | None = None
        if self._unknown_nodes == "refuse" and not self._rules.names(hold.path):
            missing = no_node(self.name, hold.path)
        missing = missing or self._prices.check(self.name, hold)
        if missing is None:
            return
        self._tell(sink, "refused", hold, str(missing), began)
        if enforce:
            raise missing

    def _holding(self, hold: Hold, reason: str | None, sink: Sink, began: float) -> None:
        self._books.leases.add(hold.id)
        self._tell(sink, "reserved", hold, reason, began)
        self._books.settle_owed()

    def _opened(self, now: float) -> Ledger | StoreError:
        """The ledger, with shares moved where it is time to; or why it cannot be used."""
        try:
            ledger = self._books.ledger()
            return self._books.ledger() if self._when_due(now) else ledger
        except StoreError as error:
            return error

    def _unbooked(self, hold: Hold, error: StoreError, sink: Sink) -> Hold:
        """A call that nothing is held for, because the ledger cannot be used."""
        self._books.outage.failed(error, sink, "request")
        if self.on_store_failure == "closed":
            raise self.unchecked(error) from error
        return hold

    def _tell(self, sink: Sink | None, action: Action, hold: Hold, reason: str | None, began: float) -> None:
        self._books.tell(sink or self._sink, action, hold, hold.reserved, reason=reason, began=began)

    def _why(self, case: WorstCase, held: Hold) -> str | None:
        """What is special about a reservation."""
        if held.case != case:
            return f"the answer is bounded to {held.case.output_tokens} tokens"
        return self._prices.why(held)


def _scope(name: str) -> str:
    return name if len(name) <= _LONGEST_SCOPE else sha256(name.encode("utf-8", "replace")).hexdigest()
