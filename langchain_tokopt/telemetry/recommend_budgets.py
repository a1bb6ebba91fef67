"""Budgets that run out before their period ends, and budgets that hold more for an answer than answers take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.recommend_statistics import quantile
from langchain_tokopt.telemetry.recommendation import Recommendation
from langchain_tokopt.telemetry.report_figures import amount, moment, name, number, percent, times

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.recommend_evidence import Evidence
    from langchain_tokopt.telemetry.report_details import BudgetLine

# A 99th percentile takes a hundred answers.
_FEWEST_ANSWERS: Final = 100
_STEP: Final = 256
_ROOM: Final = 1.25
_TOO_MUCH: Final = 2


def about_budgets(evidence: Evidence, budgets: Sequence[BudgetLine]) -> Iterator[Recommendation]:
    """What to change about budgets."""
    yield from (found for line in budgets if (found := _runs_out(line, budgets)) is not None)
    held = _holds_too_much(evidence)
    if held is not None:
        yield held


def _runs_out(line: BudgetLine, lines: Sequence[BudgetLine]) -> Recommendation | None:
    """A hard limit that the forecast goes beyond: to be raised, or to be spent from more slowly."""
    if not line.hard or line.expected is None or line.expected <= line.limit:
        return None
    expected, limit, spent = (Decimal(value) for value in (line.expected, line.limit, line.spent))
    high = Decimal(line.high if line.high is not None else line.expected)
    enough = _rounded(high, line.unit)
    left, ahead = max(Decimal(0), limit - spent), expected - spent
    instead = "wait until it starts afresh"
    if left > 0 and ahead > 0:
        instead = f"spend at {percent(left / ahead)} of the pace that is expected"
    when = "" if line.runs_out_at is None else f"; it runs out about {moment(line.runs_out_at)}"
    beyond = line.low is not None and line.low > line.limit
    likely = ""
    if line.low is not None and line.high is not None and line.coverage is not None:
        between = f"{amount(line.low, line.unit)} and {amount(line.high, line.unit)}"
        likely = f", between {between} with a chance of {percent(line.coverage)}"
    return Recommendation(
        id=f"raise-limit:{line.budget}:{line.node}:{line.per}:{line.unit}",
        title=(
            f"Raise the limit of {name(line.node)} per {name(line.per)} by "
            f"{amount(_less(enough, limit), line.unit)}, or {instead}"
        ),
        change=f"budget.set_limit({line.node!r}, Limit({_limits(line, enough, lines)}, per={line.per!r}))",
        source="estimated",
        events=0,
        basis=(
            f"{amount(line.spent, line.unit)} of {amount(line.limit, line.unit)} is spent; by the end of the period "
            f"{amount(line.expected, line.unit)} is expected{likely}{when}"
        ),
        confidence="medium" if beyond and not line.rough else "low",
        why=(
            "the forecast is a guess from hardly any history"
            if line.rough
            else "the whole interval of the forecast is beyond the limit"
            if beyond
            else "the limit is inside the interval of the forecast"
        ),
        caveat="A forecast goes by what was spent so far; a hard limit refuses calls when it is reached.",
    )


def _holds_too_much(evidence: Evidence) -> Recommendation | None:
    """Reservations that hold several times what answers take keep other calls from being allowed."""
    answers = sum(n for _, n in evidence.outputs)
    reserved = sum(n for _, n in evidence.reserved_for_output)
    if answers < _FEWEST_ANSWERS or reserved < _FEWEST_ANSWERS:
        return None
    longest, p99 = evidence.outputs[-1][0], quantile(evidence.outputs, 0.99)
    held = quantile(evidence.reserved_for_output, 0.5)
    enough = max(_STEP, math.ceil(longest * _ROOM / _STEP) * _STEP)
    if held < _TOO_MUCH * enough:
        return None
    return Recommendation(
        id="max-output-tokens",
        title=f"Hold {number(enough)} tokens for an answer instead of {number(held)}",
        change=f"Budget(max_output_tokens={enough}, ...)",
        source="measured",
        events=answers,
        basis=(
            f"of {number(answers)} answers 99% took {number(p99)} tokens or fewer, the longest {number(longest)}; a "
            f"budget held {number(held)} beyond the input (median of {times(reserved, 'reservation')}) and refused "
            f"{times(evidence.refused, 'call')}"
        ),
        confidence="high" if answers >= 10 * _FEWEST_ANSWERS else "medium",
        why=f"no answer on record would have been cut, with {_ROOM - 1:.0%} to spare",
        caveat="It saves no money by itself: each call holds less, so that others fit. A longer answer would be cut.",
    )


def _rounded(value: Decimal, unit: str) -> Decimal:
    """Up to whole cents, or whole tokens and calls."""
    return value.quantize(Decimal("0.01") if unit == "usd" else Decimal(1), rounding=ROUND_CEILING)


def _limits(line: BudgetLine, enough: Decimal, lines: Sequence[BudgetLine]) -> str:
    """The arguments of the new limit: it takes the place of the old one, in all its units."""
    place = (line.budget, line.node, line.per)
    units = {one.unit: Decimal(one.limit) for one in lines if (one.budget, one.node, one.per) == place}
    units[line.unit] = enough
    return ", ".join(f"{unit}={_code(units[unit], unit)}" for unit in ("usd", "tokens", "calls") if unit in units)


def _less(one: Decimal, other: Decimal) -> Decimal:
    return max(Decimal(0), one - other)


def _code(value: Decimal, unit: str) -> str:
    return f'"{value}"' if unit == "usd" else str(int(value))
