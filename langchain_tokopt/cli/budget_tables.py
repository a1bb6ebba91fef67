"""Where a budget stands, in a terminal: its nodes from the root down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.text import Text

from langchain_tokopt.budget.nodes import GLOBAL
from langchain_tokopt.cli.budget_words import exact, spoken
from langchain_tokopt.cli.fitted import Column, bar, fitted
from langchain_tokopt.cli.shown import age, safe, shortened

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_UNITS = ("usd", "tokens", "calls")
_SAID = {"usd": "USD", "tokens": "tokens", "calls": "calls"}
_MUCH = Decimal("0.8")
_INDENT = "  "
_COLUMNS = (
    Column("Node", "left", least=24),
    Column("Per", "left"),
    Column("Unit", "left"),
    Column("Spent"),
    Column("Held", rank=3),
    Column("Limit"),
    Column("Left", rank=4),
    Column("Used"),
    Column("", "left", rank=5),
    Column("Resets in", rank=1),
    Column("By", "left", rank=2),
)


def standing_table(nodes: Sequence[Mapping[str, Any]], screen: Console, *, now: float) -> Table:
    """A table of the nodes that `Budget.status` told of, each below the one that it is part of.

    A limit in several units takes a line for each; what is only counted has one line, without a limit.
    """
    limited = [unit for unit in _UNITS if any(node[unit]["limit"] is not None for node in nodes)]
    main = (
        limited[0] if limited else next((unit for unit in _UNITS if any(node[unit]["spent"] for node in nodes)), "usd")
    )
    labels = dict(labelled([node["node"] for node in nodes]))
    rows = []
    for node in nodes:
        label = labels.pop(node["node"], "")
        units = [unit for unit in _UNITS if node[unit]["limit"] is not None]
        for place, unit in enumerate(units or [main]):
            rows.append(_row(label, node, unit, place == 0, screen, now))
            label = ""
    if all(row["Unit"].plain == _SAID["usd"] for row in rows):
        for row in rows:
            del row["Unit"]
    return fitted(_COLUMNS, rows, screen)


def _row(label: str, node: Mapping[str, Any], unit: str, first: bool, screen: Console, now: float) -> dict[str, Text]:
    figures = node[unit]
    used = part_used(figures)
    style = "" if node["origin"] else "dim"
    row = {"Node": Text(label, style), "Unit": Text(_SAID[unit], style)}
    for name in ("spent", "held"):
        row[name.capitalize()] = Text(spoken(figures[name], unit), style)
    if first:
        scope = f" {shortened(node['scope'], 12)}" if node["scope"] else ""
        ends = node["resets_at"]
        row["Per"] = Text(f"{node['per']}{scope}", style)
        row["Resets in"] = Text("" if ends is None else age(ends.timestamp() - now), style)
        row["By"] = Text(f"{node['origin'] or ''}{', soft' if node['hard'] is False else ''}")
    if used is None:
        return row
    colour = "red" if used >= 1 else "yellow" if used >= _MUCH else "green"
    limit = figures["limit"]
    return row | {
        "Limit": Text(exact(limit) if unit == "usd" else spoken(limit, unit)),
        "Left": Text(spoken(figures["left"], unit)),
        "Used": Text(f"{int(100 * used)} %", colour),
        "": Text(bar(used, screen), colour),
    }


def part_used(figures: Mapping[str, Any]) -> Decimal | None:
    """The part of a limit that is spent or held, 1 of a limit of 0; `None` without a limit."""
    if figures["limit"] is None:
        return None
    return Decimal(figures["spent"] + figures["held"]) / figures["limit"] if figures["limit"] else Decimal(1)


def labelled(nodes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each node with its name as part of the nearest one above it that is there, indented by how many there are."""
    above: list[str] = []
    for node in dict.fromkeys(nodes):
        while above and above[-1] != GLOBAL and not node.startswith(f"{above[-1]}/"):
            above.pop()
        part = node if not above or above[-1] == GLOBAL else node[len(above[-1]) + 1 :]
        yield node, f"{_INDENT * len(above)}{safe(part)}"
        above.append(node)
