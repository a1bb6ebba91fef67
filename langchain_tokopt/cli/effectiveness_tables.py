"""What each part is worth, in a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from langchain_tokopt.cli.effectiveness_rows import Effect, Effects
from langchain_tokopt.cli.fitted import Column, fitted
from langchain_tokopt.cli.shown import shortened
from langchain_tokopt.cli.top_tables import cost, saving
from langchain_tokopt.telemetry.findings import duration, money

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_tokopt.telemetry.report import Saved

_COLUMNS = (
    Column("Part", "left", least=8),
    Column("Applied"),
    Column("Left alone", rank=4),
    Column("Tokens saved", rank=1),
    Column("Saved"),
    Column("95 %", rank=6),
    Column("Net", rank=3),
    Column("Errors", rank=2),
    Column("95 % of errors", rank=8),
    Column("Added (95th)", rank=7),
    Column("Verdict", "left"),
)
_COLOURS = {
    "saves": "green",
    "would save": "green",
    "costs more than it saves": "red",
    "would cost more than it saves": "red",
}
_LONGEST = 200


def judged_parts(found: Effects, screen: Console) -> Group:
    """A line for each part and all together, what it follows from, and why requests were left alone."""
    rows = [row for effect in found.parts for row in _rows(effect)]
    rows.append(
        {
            "Part": Text("all", "bold"),
            "Applied": Text(f"{found.real.applied:,}", "bold"),
            "Tokens saved": Text(_count(found.real), "bold"),
            "Saved": Text(saving(found.real), "bold"),
            "Net": Text("unknown" if found.net is None else money(found.net), "bold"),
        }
    )
    table = fitted(_COLUMNS, rows, screen)
    said: list[RenderableType] = [table]
    own = [
        f"{usage.calls:,} {'call' if usage.calls == 1 else 'calls'} for {cost(usage)} ({source})"
        for usage, source in ((found.own_measured, "measured"), (found.own_estimated, "estimated"))
        if usage.calls
    ]
    said.append(Text("Savings are estimates; net: less the optimiser's own calls.", "dim"))
    if own:
        whose = "; events do not say for which part" if found.unnamed else ""
        said.append(Text(f"The optimiser's own: {' and '.join(own)}{whose}.", "dim"))
    said.append(Text("\nWhy", "bold"))
    said += [Text(f"- {shortened(effect.part, 40)}: {effect.verdict}; {effect.why}.") for effect in found.parts]
    left = [effect for effect in found.parts if effect.reasons]
    if left:
        said.append(Text("\nMost often left alone because", "bold"))
    for effect in left:
        why = "; ".join(f"{shortened(reason, _LONGEST)} ({count:,})" for reason, count in effect.reasons)
        said.append(Text(f"- {shortened(effect.part, 40)}: {why}"))
    return Group(*said)


def _rows(effect: Effect) -> list[dict[str, Text]]:
    real, shadow = effect.figures.real, effect.figures.shadow
    rows = []
    verdict = {"Verdict": Text(effect.verdict, _COLOURS.get(effect.verdict, ""))}
    rest = {
        "Left alone": Text(f"{effect.figures.skipped:,}"),
        **_errors(effect),
        "Added (95th)": Text("" if effect.added is None else duration(effect.added.p95)),
    }
    if real.applied or not shadow.applied:
        rows.append(
            {
                **_saved(shortened(effect.part, 40), real),
                "Net": Text(_net(effect)),
                **_between(effect),
                **rest,
                **verdict,
            }
        )
        verdict, rest = {}, {}
    if shadow.applied:
        between = {} if real.applied else _between(effect)
        rows.append({**_saved(f"{shortened(effect.part, 40)} (shadow)", shadow), **between, **rest, **verdict})
    return rows


def _saved(name: str, saved: Saved) -> dict[str, Text]:
    loss = saved.usd is not None and saved.usd < 0
    return {
        "Part": Text(name),
        "Applied": Text(f"{saved.applied:,}"),
        "Tokens saved": Text(_count(saved)),
        "Saved": Text(saving(saved), "red" if loss else ""),
    }


def _between(effect: Effect) -> dict[str, Text]:
    if effect.interval is None:
        return {}
    low, high = effect.interval
    return {"95 %": Text(f"{money(low)} to {money(high)}")}


def _net(effect: Effect) -> str:
    if effect.net is not None:
        return money(effect.net)
    if effect.least is None or not effect.figures.real.applied:
        return "unknown" if effect.figures.real.applied else ""
    return f"{money(effect.least)} or more"


def _errors(effect: Effect) -> dict[str, Text]:
    errors = effect.errors
    if errors is None or errors.value is None or errors.low is None or errors.high is None:
        return {}
    style = "red" if Decimal(str(errors.value)) > 0 else ""
    return {
        "Errors": Text(f"{errors.value:.1%}", style),
        "95 % of errors": Text(f"{errors.low:.1%} to {errors.high:.1%}"),
    }


def _count(saved: Saved) -> str:
    return "" if not saved.applied else "unknown" if saved.tokens is None else f"{saved.tokens:,}"
