"""What a callback handler has seen, added up: measured and estimated side by side, never as a sum."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, Final

from langchain_core.messages.ai import UsageMetadata, add_usage
from typing_extensions import Self

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import ModelCall, Who
from langchain_tokopt.telemetry.report import Usage
from langchain_tokopt.telemetry.report_figures import money, number
from langchain_tokopt.telemetry.tally import CallTokens, call_tokens

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

    def __add__(self, other: CallTotals) -> CallTotals:
        return CallTotals(
            calls=self.calls + other.calls,
            failed=self.failed + other.failed,
            measured=_sum(self.measured, other.measured),
            estimated=_sum(self.estimated, other.estimated),
        )


class Totals:
    """Adds calls up, by model and by whom they belong to. Thread-safe.

    The 10,000 latest combinations are told apart. Older ones stay in the sums: first by their model, then as unknown.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by: OrderedDict[Key, CallTotals] = OrderedDict()
        self._metadata: dict[str, UsageMetadata] = {}

    def add(self, call: ModelCall, *, run: str | None = None) -> None:
        """Count a call; `run` is that of the whole chain or graph, if it is known."""
        used, one = call_tokens(call), CallTotals(calls=1, failed=int(call.error is not None))
        measured = call.usage_source == "provider"
        who = replace(call.who, run=run) if run is not None and call.who.run is None else call.who
        if used is not None:
            usage = _usage(used, call.cost_usd)
            one = replace(one, measured=usage) if measured else replace(one, estimated=usage)
        with self._lock:
            self._put((call.model, call.provider, who), one)
            while len(self._by) > _MAX_KEYS:
                (model, provider, whose), old = self._by.popitem(last=False)
                self._put((None, None, Who()) if whose == Who() else (model, provider, Who()), old)
            if call.usage is not None and measured:
                name = call.model or ""
                self._metadata[name] = add_usage(self._metadata.get(name), call.usage)

    def _put(self, key: Key, one: CallTotals) -> None:
        self._by[key] = self._by.get(key, CallTotals()) + one
        self._by.move_to_end(key)

    def all(self) -> CallTotals:
        """Everything."""
        with self._lock:
            return _added(self._by.values())

    def by(self, *dimensions: str) -> dict[Any, CallTotals]:
        """The totals for each value of a dimension, or each tuple of values of several; `None` is "not said"."""
        for name in dimensions:
            if name not in DIMENSIONS:
                raise ConfigurationError("by", name, f"use one of these: {', '.join(DIMENSIONS)}")
        found: dict[Any, CallTotals] = {}
        with self._lock:
            for (model, provider, who), one in self._by.items():
                named = {"model": model, "provider": provider}
                values = tuple(named[name] if name in named else getattr(who, name) for name in dimensions)
                key: Any = values[0] if len(values) == 1 else values
                found[key] = found.get(key, CallTotals()) + one
        return found

    def metadata(self) -> dict[str, UsageMetadata]:
        """What the provider has reported, by model, in LangChain's form; "" for a model without a name."""
        with self._lock:
            return dict(self._metadata)

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


def _usage(used: CallTokens, cost: Decimal | None) -> Usage:
    return Usage(
        calls=1,
        input_tokens=used.input,
        output_tokens=used.output,
        cache_read_tokens=used.cache_read,
        cache_write_tokens=used.cache_write,
        reasoning_tokens=used.reasoning,
        cost_usd=cost,
        unpriced=int(cost is None),
    )


def _sum(one: Usage, other: Usage) -> Usage:
    """Both; a figure that one of them lacks is the other's."""
    if not other.calls or not one.calls:
        return one if one.calls else other
    known: dict[str, Any] = {}
    for each in fields(Usage):
        values = [value for usage in (one, other) if (value := getattr(usage, each.name)) is not None]
        known[each.name] = sum(values[1:], values[0]) if values else None
    return Usage(**known)


def _added(totals: Iterable[CallTotals]) -> CallTotals:
    return sum(totals, CallTotals())


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
