"""Budgets as a report shows them: a line for each limit, from what their owner says of them.

Telemetry knows no budgets: it is given what `Budget.status()` says, and what `Budget.forecast()` says of a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from langchain_tokopt.pricing import from_nano
from langchain_tokopt.telemetry.report_details import BudgetLine

Status = Mapping[str, Any]
Budgets = Status | Sequence[Status] | Callable[[], Any]
Forecasts = Mapping[str, Any] | Callable[[str], Any]

_UNITS: Final[tuple[Literal["usd", "tokens", "calls"], ...]] = ("usd", "tokens", "calls")
_MOST_FORECASTS: Final = 20


def budget_lines(
    budgets: Budgets | None, forecasts: Forecasts | None = None
) -> tuple[tuple[BudgetLine, ...], tuple[tuple[str, str], ...]]:
    """A line for each limit, the fullest first, and the budgets that could not be read, with what was wrong.

    A report does not fail because a budget does: what is wrong with it is part of the report.

    Args:
        budgets: What `Budget.status()` gives, of one budget or of several; or a callable that gives that.
        forecasts: What `Budget.forecast(node)` gives, by node; or a callable that gives it for a node. `None` where
            there is nothing to go by.
    """
    lines: list[BudgetLine] = []
    errors: list[tuple[str, str]] = []
    try:
        given = budgets() if callable(budgets) else budgets
    except Exception as error:
        return (), (("budgets", _said(error)),)
    for status in [given] if isinstance(given, Mapping) else given or ():
        name = str(status.get("name", "default"))
        if status.get("error") is not None:
            errors.append((name, str(status["error"])))
        try:
            lines += [line for node in status.get("nodes") or () for line in _lines(name, node)]
        except Exception as error:
            errors.append((name, _said(error)))
    lines.sort(key=lambda line: (-line.share, line.budget, line.node, line.per, line.unit))
    if forecasts is not None:
        try:
            lines = _foretold(lines, forecasts)
        except Exception as error:
            errors.append(("forecasts", _said(error)))
    return tuple(lines), tuple(errors)


def _lines(budget: str, node: Mapping[str, Any]) -> Iterable[BudgetLine]:
    if node.get("scope"):
        return  # a run or a thread is over before anybody reads of it
    for unit in _UNITS:
        figures = node.get(unit)
        if figures is None or figures.get("limit") is None:
            continue
        yield BudgetLine(
            budget=budget,
            node=str(node["node"]),
            per=str(node["per"]),
            unit=unit,
            limit=figures["limit"],
            spent=figures["spent"],
            held=figures["held"],
            hard=node.get("hard") is not False,
            resets_at=_unix(node.get("resets_at")),
        )


def _foretold(lines: Sequence[BudgetLine], forecasts: Forecasts) -> list[BudgetLine]:
    """The lines with the forecasts for the nodes that are fullest: to make one takes a look at all that was spent."""
    nodes = list(dict.fromkeys(line.node for line in lines))[:_MOST_FORECASTS]
    found = {node: forecasts(node) if callable(forecasts) else forecasts.get(node) for node in nodes}
    return [_with(line, found.get(line.node)) for line in lines]


def _with(line: BudgetLine, forecast: Any) -> BudgetLine:
    """The line with the forecast, where that is held against the same limit."""
    if forecast is None or _of(forecast, "unit", "usd") != line.unit:
        return line

    def value(name: str) -> Decimal | int | None:
        whole = _of(forecast, name)
        return None if whole is None else from_nano(int(whole)) if line.unit == "usd" else int(whole)

    if value("limit") not in (None, line.limit):
        return line
    return replace(
        line,
        expected=value("expected"),
        low=value("low"),
        high=value("high"),
        coverage=_of(forecast, "coverage"),
        runs_out_at=_unix(_of(forecast, "runs_out_at")),
        steps=_of(forecast, "steps"),
    )


def _of(found: Any, name: str, otherwise: Any = None) -> Any:
    return found.get(name, otherwise) if isinstance(found, Mapping) else getattr(found, name, otherwise)


def _unix(moment: Any) -> float | None:
    if isinstance(moment, datetime):
        return moment.timestamp()
    if isinstance(moment, (int, float)) and not isinstance(moment, bool) and math.isfinite(moment):
        return float(moment)
    return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
