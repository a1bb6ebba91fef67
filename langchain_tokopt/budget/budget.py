"""The budget: reserves before a call, settles after it, and says what happens when it cannot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from langchain_tokopt.budget.allocations import Allocation
from langchain_tokopt.budget.amounts import MAX_AMOUNT, read_tokens, read_usd
from langchain_tokopt.budget.books import Books
from langchain_tokopt.budget.fitting import Fitting
from langchain_tokopt.budget.ledgers.opening import budget_names, check_store, open_ledger
from langchain_tokopt.budget.ledgers.words import Correction, StoredLimit
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import GLOBAL, LEVELS, Path
from langchain_tokopt.budget.paths import read_levels
from langchain_tokopt.budget.periods import Per
from langchain_tokopt.budget.planned import Planned
from langchain_tokopt.budget.prices import Prices
from langchain_tokopt.budget.rules import Rules
from langchain_tokopt.budget.spending import Spending
from langchain_tokopt.budget.standing import standings
from langchain_tokopt.budget.steps.ladder import Ladder, Step
from langchain_tokopt.budget.worst_case import WorstCase
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import NullSink, Sink, Who
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from os import PathLike

    from langchain_core.language_models import BaseChatModel

    from langchain_tokopt.budget.ledgers.contract import Ledger
    from langchain_tokopt.database import Database


class Budget(Planned):
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
        allocations: How the children of nodes share their budget, by node; see `Allocation`.
        name: Tells the budgets in one store apart.
        on_exceeded: What a call does that does not fit: "raise" `BudgetExceededError`, "end" the run with a message
            that says so, or "ask" the user by an interrupt; each after the answer was bounded to what fits, if that
            helps. Or a sequence of steps, tried in their order on top of each other: "compress" the input, "fallback"
            to `fallback_model`, "clamp" the answer, "ask", and at last "end" or "raise".
        fallback_model: A cheaper chat model, or its name for `init_chat_model`.
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
        allocations: Mapping[str, Allocation] | None = None,
        name: str = "default",
        on_exceeded: Literal["raise", "end", "ask"] | Sequence[Step] = "raise",
        fallback_model: BaseChatModel | str | None = None,
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
        ladder = Ladder.read(on_exceeded, fallback_model)
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
        rules = Rules(_with(simple, limits))
        super().__init__(
            allocations=_read(allocations),
            name=name,
            levels=read_levels(levels),
            rules=rules,
            books=Books(name, rules=rules, store=store, lease_seconds=float(lease_seconds), clock=clock),
            fitting=Fitting(least, float(lease_seconds)),
            prices=Prices(pricing, unknown_price),
            on_store_failure=on_store_failure,
            unknown_nodes=unknown_nodes,
            sink=sink or NullSink(),
            clock=clock,
        )
        self.ladder = ladder
        self.max_output_tokens = read_tokens("max_output_tokens", max_output_tokens)
        self._counter = counter
        self.enforced = True

    @classmethod
    def opened(cls, store: Database | str | PathLike[str], *, name: str = "default", **settings: Any) -> Budget:
        """A budget as it is kept in a store: with the limits of the code that spends from it, as it published them.

        For looking at it and planning with it from elsewhere. `settings` are further arguments of `Budget`.

        Raises:
            ConfigurationError: There is no budget of that name; the message has the names that there are.
            StoreError: The store cannot be used.
        """
        published: list[StoredLimit] = []
        names = budget_names(store)
        if name in names:
            ledger, own = open_ledger(store, budget=name)
            try:
                published = [one for one in ledger.limits() if one.source == "code"]
            finally:
                ledger.close()
                if own is not None:
                    own.close()
        if not published:
            there = f"there are: {', '.join(map(repr, names))}" if names else "nothing was spent from it yet"
            raise ConfigurationError("name", name, f"the store has no budget of that name; {there}")
        limits: dict[str, list[Limit]] = {}
        for one in published:
            limits.setdefault(one.node, []).append(Limit.stored(one))
        budget = cls(limits=limits, store=store, name=name, **settings)
        budget._books.only_look()
        return budget

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
        sink: Sink | None = None,
        enforced: bool = True,
    ) -> Budget:
        """This budget, with the resources that it does not have yet.

        With `enforced=False` calls through `spend` are never refused; middleware has a mode of its own.
        """
        if self._books.store is None:
            self._books.store = database
        self._counter = self._counter or counter
        self._prices.pricing = self._prices.pricing or pricing
        if sink is not None and isinstance(self._sink, NullSink):
            self._sink = sink
        self.enforced = enforced
        return self

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

        `nodes` holds them from the root down, `share` being how much of the tightest unit is taken. For a limit per run
        or thread there are the figures of those that began last; of more than a thousand nodes those in which something
        began last, and `complete` is false.

        Raises:
            StoreError: The ledger cannot be used.
        """
        found, complete = standings(self._books.ledger(), self._rules, self._clock())
        return {"name": self.name, "nodes": [one.as_json() for one in found], "complete": complete}

    def sweep(self, *, sink: Sink | None = None) -> int:
        """How many reservations of dead processes were freed. It also happens by itself, when a call does not fit."""
        return self._books.sweep(sink or self._sink)

    def reconcile(self) -> list[Correction]:
        """Rebuild the counters of this budget from the journal; those that were wrong."""
        return self._books.ledger().reconcile(now=self._clock())

    def close(self) -> None:
        """Book what is owed and stop renewing leases. A database that was handed in stays open."""
        self._books.close()


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


def _read(allocations: Mapping[str, Allocation] | None) -> Mapping[str, Allocation]:
    remedy = 'map nodes to allocations, such as {"project=shop": Allocation(strategy="equal")}'
    found = {} if allocations is None else allocations
    if not isinstance(found, Mapping) or not all(isinstance(one, Allocation) for one in found.values()):
        raise ConfigurationError("allocations", allocations, remedy)
    return found
