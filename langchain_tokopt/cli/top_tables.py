"""Who or what spends most, in a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from langchain_tokopt.cli.fitted import Column, bar, fitted
from langchain_tokopt.cli.shown import shortened
from langchain_tokopt.cli.top_rows import Ranked, Ranking, tokens
from langchain_tokopt.telemetry.findings import money

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_tokopt.telemetry.report import Saved, Usage

UNKNOWN = "(unknown)"
_LONGEST = 120
_LEAST = 18


def ranked(found: Ranking, screen: Console) -> Group:
    """A line for each, the others, and all together; below it, what the columns are."""
    parts = "part" in found.by
    every = [*found.rows, *([found.others] if found.others else []), found.total]
    measured = not parts and found.sort != "saved" and any(row.calls.measured.calls for row in every)
    rows = []
    for row in every:
        style = "bold" if row is found.total else "dim" if row is found.others else ""
        share = found.share(row, measured=measured)
        rows.append(
            {
                **_names(found, row, style),
                **(_of_part(row, style) if parts else _of_calls(row, style, saved_known=found.saved_known)),
                "Share": Text("" if share is None or row is found.total else f"{share:.0%}", style),
                "": Text("" if share is None or row is found.total else bar(share, screen), "green"),
            }
        )
    columns = [Column(name.capitalize(), "left", least=_LEAST) for name in found.by]
    columns += _PARTS if parts else _CALLS
    table = fitted(columns, rows, screen)
    shown = {str(column.header) for column in table.columns}
    notes = _PART_NOTES if parts else _notes(found.total, shown, shared=measured)
    said: list[RenderableType] = [table, *(Text(line, style="dim") for line in notes)]
    return Group(*said)


_CALLS = (
    Column("Calls", rank=1),
    Column("Tokens", rank=4),
    Column("Cost"),
    Column("Share"),
    Column("", "left", rank=3),
    Column("Est. calls", rank=6),
    Column("Est. tokens", rank=8),
    Column("Est. cost"),
    Column("Failed", rank=5),
    Column("Own cost", rank=7),
    Column("Net saved", rank=2),
)
_PARTS = (
    Column("Applied", rank=1),
    Column("Left alone", rank=5),
    Column("Tokens saved", rank=2),
    Column("Saved"),
    Column("Share"),
    Column("", "left", rank=4),
    Column("Shadow applied", rank=7),
    Column("Shadow tokens", rank=6),
    Column("Shadow saved", rank=3),
)
_PART_NOTES = ("All of this is estimated. Shadow: what it would have saved.",)


def _names(found: Ranking, row: Ranked, style: str) -> dict[str, Text]:
    first = found.by[0].capitalize()
    if row is found.total:
        return {first: Text("all", style)}
    if row is found.others:
        left = found.groups - len(found.rows)
        return {first: Text(f"({left:,} {'other' if left == 1 else 'others'})", style)}
    return {
        name.capitalize(): Text(UNKNOWN, "dim") if value is None else Text(shortened(value, _LONGEST))
        for name, value in zip(found.by, row.key, strict=True)
    }


def _of_calls(row: Ranked, style: str, *, saved_known: bool) -> dict[str, Text]:
    calls = row.calls
    own = [
        f"{cost(usage)}{source}"
        for usage, source in ((calls.own_measured, ""), (calls.own_estimated, " est."))
        if usage.calls
    ]
    cells = {
        **_usage(calls.measured, ("Calls", "Tokens", "Cost")),
        **_usage(calls.estimated, ("Est. calls", "Est. tokens", "Est. cost")),
        "Failed": f"{calls.failed:,}" if calls.failed else "",
        "Own cost": ", ".join(own),
        "Net saved": _net(row) if saved_known else "",
    }
    styles = {"Failed": "red", "Net saved": "red" if row.net is not None and row.net < 0 else ""}
    return {name: Text(cell, styles.get(name) or style) for name, cell in cells.items()}


def _net(row: Ranked) -> str:
    if row.net is not None:
        return money(row.net)
    nothing = not (row.parts.real.applied or row.calls.own_measured.calls or row.calls.own_estimated.calls)
    return "" if nothing else "unknown"


def _usage(usage: Usage, names: tuple[str, str, str]) -> dict[str, str]:
    if not usage.calls:
        return {}
    count = tokens(usage)
    return dict(
        zip(names, (f"{usage.calls:,}", "unknown" if count is None else f"{count:,}", cost(usage)), strict=True)
    )


def cost(usage: Usage) -> str:
    """The cost of some calls; "+ ?" beside what is known says that the price of some of them is not."""
    if usage.cost_usd is None:
        return "unknown" if usage.unpriced else money(Decimal(0))
    return f"{money(usage.cost_usd)}{' + ?' if usage.unpriced else ''}"


def saving(saved: Saved) -> str:
    """The same for what was saved."""
    if not saved.applied:
        return ""
    if saved.usd is None:
        return "unknown"
    return f"{money(saved.usd)}{' + ?' if saved.unpriced else ''}"


def _of_part(row: Ranked, style: str) -> dict[str, Text]:
    real, shadow = row.parts.real, row.parts.shadow
    cells = {
        "Applied": f"{real.applied:,}",
        "Left alone": f"{row.parts.skipped:,}",
        "Tokens saved": _count(real),
        "Saved": saving(real),
        "Shadow applied": f"{shadow.applied:,}" if shadow.applied else "",
        "Shadow tokens": _count(shadow),
        "Shadow saved": saving(shadow),
    }
    return {name: Text(cell, style) for name, cell in cells.items()}


def _count(saved: Saved) -> str:
    return "" if not saved.applied else "unknown" if saved.tokens is None else f"{saved.tokens:,}"


def _notes(total: Ranked, shown: set[str], *, shared: bool) -> list[str]:
    calls = total.calls
    said = []
    if calls.measured.calls:
        said.append("Calls, tokens, cost: as the providers reported usage, at list prices.")
    if calls.estimated.calls:
        said.append("Est.: calls whose usage no provider reported, by our estimate; not in the other figures.")
    if calls.measured.unpriced or calls.estimated.unpriced:
        said.append("+ ?: some of these calls have no known price.")
    if "Own cost" in shown:
        said.append("Own cost: the optimiser's own calls; they are in the cost, too.")
    if "Net saved" in shown:
        said.append("Net saved: an estimate, less the optimiser's own calls.")
    if calls.measured.calls and calls.estimated.calls and shared:
        said.append("Share: of what was measured.")
    return said
