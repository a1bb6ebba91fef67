"""How things stand, in a terminal: the figures in their groups."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from langchain_tokopt.cli.fitted import Column, fitted
from langchain_tokopt.cli.shown import safe, shortened
from langchain_tokopt.telemetry.findings import money
from langchain_tokopt.telemetry.kpis import Kpi, shown

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = (
    Column("Figure", "left", least=32),
    Column("Value"),
    Column("95 %", rank=3),
    Column("Before", rank=4),
    Column("Trend", "left", rank=2),
    Column("Target", rank=5),
    Column("Met", "left", rank=1),
    Column("Of", rank=7),
    Column("Source", "left", rank=6),
)
_INDENT = "  "
_LONGEST = 60


def standing(found: Sequence[Kpi], screen: Console, *, explained: bool) -> Group:
    """A line that says the most important, then a line for each figure, and what is not known and why."""
    rows = []
    group = None
    for kpi in found:
        if kpi.group != group:
            group = kpi.group
            rows.append({"Figure": Text(group.capitalize(), "bold")})
        rows.append(_row(kpi))
    said: list[RenderableType] = [_head(found), fitted(_COLUMNS, rows, screen)]
    if any(row["Trend"].plain.endswith("?") for row in rows if "Trend" in row):
        said.append(Text("?: it may be chance.", "dim"))
    if explained:
        said += [_explained(kpi) for kpi in found]
    else:
        said += [Text(f"{kpi.title}: {safe(why)}.", "dim") for kpi in found if (why := kpi.reason or kpi.note)]
    return Group(*said)


def _head(found: Sequence[Kpi]) -> Text:
    by_name = {kpi.name: kpi for kpi in found}
    spend, saved = by_name.get("cost.spend"), by_name.get("cost.saved_net")
    parts: list[str | tuple[str, str]] = []
    if spend is not None:
        parts += ["Spent ", (spend.shown, "bold"), f" ({spend.source})"]
    if saved is not None:
        loss = saved.value is not None and saved.value < 0
        parts += [", saved net ", (saved.shown, "bold red" if loss else "bold green"), f" ({saved.source})"]
    hours = found[0].hours if found else 24
    parts.append(f" in the last {'hour' if hours == 1 else f'{hours:g} hours'}.")
    missed = [kpi for kpi in found if kpi.ok is False]
    aimed = sum(kpi.ok is not None for kpi in found)
    if aimed:
        met = f" {aimed - len(missed):,} of {aimed:,} {'target' if aimed == 1 else 'targets'} met."
        parts.append((met, "red") if missed else met)
    return Text.assemble(*parts)


def _row(kpi: Kpi) -> dict[str, Text]:
    colour = {None: "", True: "green", False: "red"}[kpi.ok]
    row = {
        "Figure": Text(f"{_INDENT}{shortened(kpi.title, _LONGEST)}"),
        "Value": Text(kpi.shown, colour if kpi.value is not None else "dim"),
        "Before": Text("" if kpi.previous is None else shown(kpi.previous, kpi.unit)),
        "Trend": _trend(kpi),
        "Met": Text({None: "", True: "yes", False: "NO"}[kpi.ok], colour),
        "Of": Text(f"{kpi.count:,}" if kpi.count else ""),
        "Source": Text(kpi.source if kpi.value is not None else ""),
    }
    if kpi.target is not None:
        side = ">=" if kpi.better == "higher" else "<="
        row["Target"] = Text(f"{side} {_rounded(kpi)}")
    if kpi.low is not None and kpi.high is not None:
        row["95 %"] = Text(f"{shown(kpi.low, kpi.unit)} to {shown(kpi.high, kpi.unit)}")
    return row


def _rounded(kpi: Kpi) -> str:
    """A target without digits that nobody gave."""
    if kpi.target is None:
        return ""
    if kpi.unit == "usd":
        return money(Decimal(str(kpi.target)))
    return f"{kpi.target * 100:g} %" if kpi.unit == "share" else shown(kpi.target, kpi.unit)


def _trend(kpi: Kpi) -> Text:
    """Where it went; in colour only if that is more than chance."""
    if kpi.trend is None:
        return Text("")
    if kpi.trend == "same":
        return Text("same")
    if not kpi.certain:
        return Text(f"{kpi.trend} ?", "dim")
    good = (kpi.trend == "up") == (kpi.better == "higher")
    return Text(kpi.trend, "green" if good else "red")


def _explained(kpi: Kpi) -> Text:
    lines = [
        f"{kpi.definition}",
        f"Formula: {kpi.formula}.",
        f"From: {kpi.trace}.",
        *([f"Left out: {kpi.note}."] if kpi.note else []),
        *([f"Not known: {kpi.reason}."] if kpi.reason else []),
    ]
    text = Text(f"\n{shortened(kpi.title, _LONGEST)} ", "bold")
    text.append(f"({shortened(kpi.name, _LONGEST)})", "dim")
    for line in lines:
        text.append(f"\n{_INDENT}{safe(line)}", "")
    return text
