"""Plans, forecasts, the journal and repaired counters of a budget, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from rich.text import Text

from langchain_tokopt.budget.nodes import shown
from langchain_tokopt.budget.planning.saying import amount, share
from langchain_tokopt.cli.budget_words import spoken
from langchain_tokopt.cli.common import utc
from langchain_tokopt.cli.fitted import Column, fitted
from langchain_tokopt.cli.shown import age, console, safe
from langchain_tokopt.rates import from_nano
from langchain_tokopt.telemetry.findings import money

if TYPE_CHECKING:
    from langchain_tokopt.budget.amounts import Unit
    from langchain_tokopt.budget.ledgers.words import Correction, Entry
    from langchain_tokopt.budget.planning import Forecast, MethodError, Plan

_NAIVE = "seasonal_naive"
_UNITS: tuple[tuple[str, Unit], ...] = (("USD", "usd"), ("tokens", "tokens"), ("calls", "calls"))


# --- shares ----------------------------------------------------------------------------------------------------------


def print_plan(plan: Plan) -> None:
    """Print the share of each child before and after, why it is so, and what moves."""

    def said(whole: int) -> str:
        return spoken(from_nano(whole) if plan.unit == "usd" else whole, plan.unit)

    screen = console()
    changed = {one.name: one.after - one.before for one in plan.shares}
    rows = [
        {
            "Child": Text(safe(one.name)),
            "Before": Text(said(one.before)),
            "After": Text(said(one.after), "bold" if changed[one.name] else ""),
            "Change": Text(
                f"{'+' if changed[one.name] > 0 else ''}{said(changed[one.name])}" if changed[one.name] else ""
            ),
        }
        for one in plan.shares
    ]
    columns = (Column("Child", "left", least=24), Column("Before"), Column("After"), Column("Change"))
    screen.print(fitted(columns, rows, screen))
    beside = [f"{amount(plan.total, plan.unit)} to share, {plan.strategy}"]
    if plan.unallocated:
        beside.append(f"{amount(plan.unallocated, plan.unit)} stays with nobody")
    if plan.overspent:
        beside.append(f"{amount(plan.overspent, plan.unit)} more was used than there is")
    screen.print(Text(f"{'; '.join(beside)}."), soft_wrap=True)
    for title, sentences in (
        ("Why", [one.reason for one in plan.shares]),
        ("Moves", [one.reason for one in plan.moves]),
        ("Notes", plan.notes),
    ):
        if sentences:
            screen.print(Text(f"\n{title}", style="bold"))
            for sentence in sentences:
                screen.print(Text(f"- {safe(sentence)}"), soft_wrap=True)


# --- looking ahead ---------------------------------------------------------------------------------------------------


def print_forecast(found: Forecast, now: float) -> None:
    """Print the forecast in words, when the limit runs out, and how far off each method was."""
    screen = console()
    screen.print(Text(found.explain()), soft_wrap=True)
    screen.print(Text(f"\nRuns out: {_runs_out(found, now)}"), soft_wrap=True)
    if not found.errors:
        return
    naive = next((one.error for one in found.errors if one.method == _NAIVE), None)
    rows = [
        {
            "Method": Text(one.method.replace("_", " "), style),
            "Off by": Text("" if one.error is None else share(one.error), style),
            "On average": Text("" if one.bias is None else _bias(one.bias), style),
            "Beside seasonal-naive": Text(_beside(one, naive), style),
            " ": Text("used" if one.method == found.method else ""),
        }
        for one in found.errors
        for style in ("bold" if one.method == found.method else "",)
    ]
    columns = (
        Column("Method", "left", least=20),
        Column("Off by"),
        Column("On average", rank=1),
        Column("Beside seasonal-naive"),
        Column(" ", "left"),
    )
    screen.print(fitted(columns, rows, screen))


def _runs_out(found: Forecast, now: float) -> str:
    if found.limit is None:
        return "there is no limit"
    if found.spent >= found.limit:
        return "it is used up"
    if found.runs_out_at is None:
        return f"not before {utc(found.ends_at)}, where this forecast ends"
    return f"{utc(found.runs_out_at)} (in {age(found.runs_out_at - now)})"


def _bias(bias: float) -> str:
    return f"{share(abs(bias))} {'high' if bias > 0 else 'low'}" if abs(bias) >= 0.0005 else "even"


def _beside(one: MethodError, naive: float | None) -> str:
    if one.method == _NAIVE:
        return "the one to beat"
    if one.error is None or not naive:
        return ""
    closer = 1 - one.error / naive
    return f"{share(abs(closer))} {'closer' if closer > 0 else 'farther'}" if abs(closer) >= 0.0005 else "the same"


# --- the journal -----------------------------------------------------------------------------------------------------

_JOURNAL = (
    Column("Time (UTC)", "left"),
    Column("Action", "left"),
    Column("Path", "left", least=20),
    Column("Spent"),
    Column("Held"),
    Column("Tokens", rank=2),
    Column("Reservation", "left", rank=3),
    Column("Reason", "left", rank=1, least=20),
)


def print_journal(entries: Sequence[Entry]) -> None:
    """Print a line for each entry, in the order given."""
    screen = console()
    moved = [each for entry in entries for each in (entry.spent, entry.held)]
    counted: list[Unit] = [unit for _, unit in _UNITS if any(one.of(unit) for one in moved)]
    unit: Unit = counted[0] if counted else "usd"
    rows = [
        {
            "Time (UTC)": Text(f"{datetime.fromtimestamp(entry.at, timezone.utc):%Y-%m-%d %H:%M:%S}"),
            "Action": Text(entry.action, _STYLES.get(entry.action, "")),
            "Path": Text(safe(shown(entry.path))),
            "Spent": Text(_signed(entry.spent.of(unit), unit)),
            "Held": Text(_signed(entry.held.of(unit), unit)),
            "Tokens": Text(f"{entry.spent.tokens:+,}" if entry.spent.tokens and unit == "usd" else ""),
            "Reservation": Text(safe(entry.reservation)),
            "Reason": Text(safe(entry.reason or "")),
        }
        for entry in entries
    ]
    screen.print(fitted(_JOURNAL, rows, screen))


_STYLES = {"overage": "red", "expired": "yellow", "set": "cyan", "dropped": "cyan", "moved": "cyan"}


def _signed(whole: int, unit: Unit) -> str:
    """What was added or taken away; nothing for nothing."""
    if not whole:
        return ""
    if unit == "usd":
        return f"{'+' if whole > 0 else ''}{money(from_nano(whole))}"
    return f"{whole:+,} {unit}"


# --- repaired counters -----------------------------------------------------------------------------------------------

_COUNTERS = (
    Column("Node", "left", least=24),
    Column("Per", "left"),
    Column("Since", "left", rank=1),
    Column("Counter", "left"),
    Column("Before"),
    Column("After"),
)


def print_corrections(corrections: Sequence[Correction]) -> None:
    """Print a line for each counter that was wrong."""
    screen = console()
    rows = [
        {
            "Node": Text(safe(shown(one.account.node))),
            "Per": Text(safe(f"{one.account.per} {one.account.scope}".strip())),
            "Since": Text("" if not one.account.period else utc(one.account.period) or ""),
            "Counter": Text(f"{kind} {said}"),
            "Before": Text(_counter(before.of(unit), unit)),
            "After": Text(_counter(after.of(unit), unit)),
        }
        for one in corrections
        for kind, before, after in (
            ("spent", one.before.spent, one.after.spent),
            ("held", one.before.held, one.after.held),
        )
        for said, unit in _UNITS
        if before.of(unit) != after.of(unit)
    ]
    screen.print(fitted(_COUNTERS, rows, screen))


def _counter(whole: int, unit: Unit) -> str:
    return money(from_nano(whole)) if unit == "usd" else f"{whole:,}"
