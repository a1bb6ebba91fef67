"""What a callback handler has seen, added up: measured and estimated side by side, never as a sum."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from typing_extensions import Self

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import ModelCall, Who
from langchain_tokopt.telemetry.report import Usage
from langchain_tokopt.telemetry.report_figures import money, number
from langchain_tokopt.telemetry.tally import call_tokens

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

DIMENSIONS: Final = ("model", "provider", *(each.name for each in fields(Who)))

_MAX_KEYS: Final = 10_000

Key = tuple["str | None", "str | None", Who]


@dataclass(frozen=True, kw_only=True)
class CallTotals:
    """Calls, their tokens and their cost.

    Attributes:
        calls: All of them, the failed ones too.
        failed: Those that ended with an error.
        measured: Those whose usage the provider has reported.
        estimated: Those whose usage we have estimated: the provider did not say, or the call was stopped.
    """

    calls: int = 0
    failed: int = 0
    measured: Usage = field(default_factory=Usage)
    estimated: Usage = field(default_factory=Usage)


class _Used:
    """Tokens and cost of some calls, to be added to."""

    __slots__ = ("calls", "cost", "tokens", "unpriced")

    def __init__(self) -> None:
        self.calls = self.unpriced = 0
        self.tokens: list[int | None] = [None] * 5
        self.cost: Decimal | None = None

    def add(self, tokens: Iterable[int | None], cost: Decimal | None, *, calls: int, unpriced: int) -> None:
        self.calls += calls
        self.unpriced += unpriced
        for n, count in enumerate(tokens):
            if count is not None:
                self.tokens[n] = count + (self.tokens[n] or 0)
        if cost is not None:
            self.cost = cost + (self.cost or 0)

    def usage(self) -> Usage:
        read, said, cache_read, cache_write, reasoning = self.tokens
        return Usage(
            calls=self.calls,
            input_tokens=read,
            output_tokens=said,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            reasoning_tokens=reasoning,
            cost_usd=self.cost,
            unpriced=self.unpriced,
        )


class _Sums:
    """`CallTotals`, to be added to."""

    __slots__ = ("calls", "estimated", "failed", "measured")

    def __init__(self) -> None:
        self.calls = self.failed = 0
        self.measured, self.estimated = _Used(), _Used()

    def add(self, other: _Sums) -> None:
        self.calls += other.calls
        self.failed += other.failed
        for mine, more in ((self.measured, other.measured), (self.estimated, other.estimated)):
            mine.add(more.tokens, more.cost, calls=more.calls, unpriced=more.unpriced)

    def totals(self) -> CallTotals:
        return CallTotals(
            calls=self.calls, failed=self.failed, measured=self.measured.usage(), estimated=self.estimated.usage()
        )


class Totals:
    """Adds calls up, by model and by whom they belong to. Thread-safe.

    The 10,000 latest combinations are told apart. Older ones stay in the sums: first by their model, then as unknown.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by: OrderedDict[Key, _Sums] = OrderedDict()
        self._metadata: dict[str, dict[str, Any]] = {}

    def add(self, call: ModelCall, *, run: str | None = None) -> None:
        """Count a call; `run` is that of the whole chain or graph, if it is known."""
        used = call_tokens(call)
        measured = call.usage_source == "provider"
        who = replace(call.who, run=run) if run is not None and call.who.run is None else call.who
        with self._lock:
            sums = self._sums((call.model, call.provider, who))
            sums.calls += 1
            sums.failed += call.error is not None
            if used is not None:
                tokens = (used.input, used.output, used.cache_read, used.cache_write, used.reasoning)
                kind, cost = sums.measured if measured else sums.estimated, call.cost_usd
                kind.add(tokens, cost, calls=1, unpriced=int(cost is None))
            if call.usage is not None and measured:
                _accumulate(self._metadata.setdefault(call.model or "", {}), call.usage)
            while len(self._by) > _MAX_KEYS:
                (model, provider, whose), old = self._by.popitem(last=False)
                self._sums((None, None, Who()) if whose == Who() else (model, provider, Who())).add(old)

    def _sums(self, key: Key) -> _Sums:
        found = self._by.get(key)
        if found is None:
            found = self._by[key] = _Sums()
        self._by.move_to_end(key)
        return found

    def all(self) -> CallTotals:
        """Everything."""
        found = _Sums()
        with self._lock:
            for one in self._by.values():
                found.add(one)
        return found.totals()

    def by(self, *dimensions: str) -> dict[Any, CallTotals]:
        """The totals for each value of a dimension, or each tuple of values of several; `None` is "not said"."""
        for name in dimensions:
            if name not in DIMENSIONS:
                raise ConfigurationError("by", name, f"use one of these: {', '.join(DIMENSIONS)}")
        found: dict[Any, _Sums] = {}
        with self._lock:
            for (model, provider, who), one in self._by.items():
                named = {"model": model, "provider": provider}
                values = tuple(named[name] if name in named else getattr(who, name) for name in dimensions)
                key: Any = values[0] if len(values) == 1 else values
                found.setdefault(key, _Sums()).add(one)
        return {key: one.totals() for key, one in found.items()}

    def metadata(self) -> dict[str, UsageMetadata]:
        """What the provider has reported, by model, in LangChain's form; "" for a model without a name."""
        with self._lock:
            return cast("dict[str, UsageMetadata]", copy.deepcopy(self._metadata))

    def clear(self) -> None:
        """Begin again at 0."""
        with self._lock:
            self._by.clear()
            self._metadata.clear()


class SeenCalls:
    """What a callback handler has seen so far, as far as its user reads it."""

    def __init__(self) -> None:
        super().__init__()
        self._totals = Totals()
        self._outer: SeenCalls | None = None

    @property
    def usage(self) -> CallTotals:
        """All calls so far."""
        return self._totals.all()

    @property
    def usage_metadata(self) -> dict[str, UsageMetadata]:
        """What providers have reported, by model, as LangChain's `UsageMetadataCallbackHandler` has it."""
        return self._totals.metadata()

    def by(self, *dimensions: str) -> dict[Any, CallTotals]:
        """The calls so far for each value of a dimension, or each tuple of values of several; `None` is "not said".

        Args:
            dimensions: "model", "provider", "tenant", "project", "task", "agent", "user", "thread", "run" or "node".

        Raises:
            ConfigurationError: There is no such dimension.
        """
        return self._totals.by(*dimensions)

    def reset(self) -> None:
        """Begin again at 0."""
        self._totals.clear()

    def within(self, outer: SeenCalls | None) -> Self:
        """This object; what it sees from now on is added to the totals of `outer`, too."""
        self._outer = outer
        return self

    def saw(self, call: ModelCall, run: str | None = None) -> None:
        """Count a call."""
        self._totals.add(call, run=run)
        if self._outer is not None:
            self._outer.saw(call, run)

    def __repr__(self) -> str:
        rows = table(self.by("model"))
        shown = (f"{name}: {calls} calls, {read} + {said} tokens, {cost}" for name, calls, read, _, said, cost in rows)
        return f"{type(self).__name__}({'; '.join(shown)})"

    def _repr_html_(self) -> str:
        return to_html(self.by("model"))


def _accumulate(sums: dict[str, Any], usage: Mapping[str, Any]) -> None:
    """Add usage up as LangChain's `add_usage` does, in place."""
    for key, value in usage.items():
        if isinstance(value, Mapping):
            _accumulate(sums.setdefault(key, {}), value)
        elif isinstance(value, int):
            sums[key] = sums.get(key, 0) + value


# --- showing ---------------------------------------------------------------------------------------------------------

_COLUMNS: Final = ("model", "calls", "input", "cached", "output", "cost")


def to_html(by_model: Mapping[str | None, CallTotals]) -> str:
    """A small table: a row for each model, of what was measured, and one for what was estimated."""
    from html import escape

    rows = ""
    for name, *figures in table(by_model):
        cells = "".join(f'<td style="text-align: right">{escape(figure)}</td>' for figure in figures)
        rows += f"<tr><td>{escape(name)}</td>{cells}</tr>"
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def table(by_model: Mapping[str | None, CallTotals]) -> list[tuple[str, ...]]:
    """The cells of that table, as text."""
    rows = []
    for model, totals in sorted(by_model.items(), key=lambda item: item[0] or ""):
        name = model or "unknown model"
        for used, remark in ((totals.measured, ""), (totals.estimated, " (estimated)")):
            if used.calls:
                figures = (used.input_tokens, used.cache_read_tokens, used.output_tokens)
                cost = f"at least {money(used.cost_usd)}" if used.unpriced and used.cost_usd else money(used.cost_usd)
                rows.append((name + remark, f"{used.calls:,}", *map(number, figures), cost))
        unknown = totals.calls - totals.measured.calls - totals.estimated.calls
        if unknown:
            rows.append((f"{name} (no usage)", f"{unknown:,}", *[number(None)] * 4))
    return rows
