"""What a report says of where the money goes, what changed, what will happen, and what to do."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.kpis_chance import rates_differ
from langchain_tokopt.telemetry.report_figures import amount, length, moment, money, name, number, percent, said, times

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.recommendation import Recommendation
    from langchain_tokopt.telemetry.report import Report
    from langchain_tokopt.telemetry.report_details import BudgetLine, SpanBefore

_MOST_BUDGETS: Final = 3
_MOST_TO_DO: Final = 3
# Of a limit without a forecast there is something to say from this share on.
_FULL: Final = 0.8


def where(report: Report) -> list[str]:
    """The agent and the model that cost most, and what the tokens are."""
    found = []
    whole = report.measured.cost_usd
    spenders = [one for one in report.agents if one.measured_usd]
    agent = max(spenders, key=lambda one: one.measured_usd or 0, default=None)
    if agent is not None and agent.measured_usd is not None and whole and len(spenders) > 1:
        found.append(
            f"Of agents, {name(agent.agent, 'one without a name')} cost most: {money(agent.measured_usd)} measured, "
            f"{percent(agent.measured_usd / whole)} of all, in {times(agent.calls, 'call')}."
        )
    models = [(one.measured.cost_usd, one) for one in report.models if one.measured.cost_usd]
    if len(models) > 1 and whole:
        usd, model = max(models, key=lambda pair: pair[0])
        found.append(
            f"Of models, {name(model.model)} cost most: {money(usd)} measured, {percent(usd / whole)} of all, in "
            f"{times(model.measured.calls, 'call')}."
        )
    if (shares := _shares(report)) is not None:
        found.append(shares)
    return found


def _shares(report: Report) -> str | None:
    tokens = report.tokens
    if tokens is None or not tokens.input + tokens.output:
        return None
    parts = []
    if tokens.tools and tokens.input:
        parts.append(f"schemas of tools {percent(tokens.tools / tokens.input)} (our count)")
    if tokens.grown and tokens.input:
        parts.append(f"what threads had grown by {percent(tokens.grown / tokens.input)} at least")
    inside = f"; of the input, {' and '.join(parts)}" if parts else ""
    thought = ""
    if tokens.reasoning and tokens.output:
        thought = f"; of the output, reasoning {percent(tokens.reasoning / tokens.output)}"
    whole = tokens.input + tokens.output
    since = "" if tokens.since is None else f" since {moment(tokens.since)}"
    return (
        f"Of the {number(whole)} tokens of agents' calls{since} {percent(tokens.input / whole)} were input and "
        f"{percent(tokens.output / whole)} output{inside}{thought}."
    )


def changes(report: Report) -> list[str]:
    """What is otherwise than in the span before."""
    before = report.before
    if before is None or report.hours is None:
        return []
    span = f"Against the {length(report.hours * 3600)} before"
    found = []
    if before.measured_usd is not None and report.measured.cost_usd is not None:
        calls = report.measured.calls + report.estimated.calls
        found.append(
            f"{span}, measured cost {_moved(before.measured_usd, report.measured.cost_usd)}, with {number(calls)} "
            f"instead of {times(before.calls, 'call')}."
        )
    elif before.calls:
        calls = report.measured.calls + report.estimated.calls
        found.append(f"{span}, there were {number(calls)} instead of {times(before.calls, 'model call')}.")
    if before.eligible and report.cache.eligible:
        found.append(_hit_rates(before, report))
    if before.net_saved_usd is not None and report.net_saved_usd is not None:
        found.append(
            f"The net saving was {money(report.net_saved_usd)}, after {money(before.net_saved_usd)} in the span before "
            "(both estimated)."
        )
    return found


def _moved(before: Decimal, now: Decimal) -> str:
    if not before:
        return f"went from {money(before)} to {money(now)}"
    change = now / before - 1
    word = "rose" if change > 0 else "fell" if change < 0 else ""
    return (
        f"{word} by {percent(abs(change))}, from {money(before)} to {money(now)}" if word else f"stayed at {money(now)}"
    )


def _hit_rates(before: SpanBefore, report: Report) -> str:
    now = report.cache
    differ = rates_differ(now.hits, now.eligible, before.hits, before.eligible)
    chance = "more than chance" if differ else "no more than chance"
    rates = [percent(hits / count) for hits, count in ((before.hits, before.eligible), (now.hits, now.eligible))]
    return (
        f"The cache's hit rate went from {rates[0]} to {rates[1]}, {chance} would move it (of "
        f"{number(before.eligible)} and {number(now.eligible)} requests)."
    )


def outlook(report: Report) -> list[str]:
    """Budgets that are nearly spent, or will be."""
    found = [f"The budget {name(budget)} could not be read: {said(error)}" for budget, error in report.budget_errors]
    lines = [line for line in report.budgets if line.share >= _FULL or line.expected is not None]
    lines.sort(key=lambda line: (line.expected is None or line.expected <= line.limit, -line.share))
    found += [_standing(line) for line in lines[:_MOST_BUDGETS]]
    if more := lines[_MOST_BUDGETS:]:
        fullest = max(line.share for line in more)
        found.append(f"{times(len(more), 'other limit')} are spent by at most {percent(fullest)}.")
    return found


def _standing(line: BudgetLine) -> str:
    held = f", and {amount(line.held, line.unit)} is held for calls under way" if line.held else ""
    spent = (
        f"Budget {name(line.budget)}: {name(line.node)} has spent {amount(line.spent, line.unit)} of "
        f"{amount(line.limit, line.unit)} per {name(line.per)}{held} ({percent(line.share)})"
    )
    ends = "" if line.resets_at is None else f" by {moment(line.resets_at)}"
    if line.expected is None:
        return f"{spent}{'' if line.resets_at is None else f', until {moment(line.resets_at)}'}."
    between = ""
    if line.low is not None and line.high is not None and line.coverage is not None:
        between = (
            f" ({amount(line.low, line.unit)} to {amount(line.high, line.unit)} with a chance of "
            f"{percent(line.coverage)})"
        )
    runs_out = "" if line.runs_out_at is None else f"; the limit is reached about {moment(line.runs_out_at)}"
    rough = "; a guess, from hardly any history" if line.rough else ""
    return f"{spent}; {amount(line.expected, line.unit)} is expected{ends}{between}{runs_out}{rough}."


def to_do(report: Report) -> list[str]:
    """The first recommendations, those about money before the others."""
    found = [f"To do: {one.title}{_worth(one)}." for one in report.recommendations[:_MOST_TO_DO]]
    if more := report.recommendations[_MOST_TO_DO:]:
        found.append(f"{times(len(more), 'more recommendation')} below; savings of several do not add up.")
    elif sum(one.saves_usd is not None for one in report.recommendations) > 1:
        found.append("Each saving is of that change alone; savings of several do not add up.")
    return [*found, report.too_little] if report.too_little else found


def _worth(one: Recommendation) -> str:
    worth = saving(one)
    return f" ({worth}; {one.confidence} confidence)" if worth else f" ({one.confidence} confidence)"


def saving(one: Recommendation) -> str | None:
    """What a recommendation saves in words: per day where that is known, else in the span; `None` without money."""
    if one.per_day_usd is not None:
        usd, low, high, when = one.per_day_usd, one.per_day_low_usd, one.per_day_high_usd, " a day"
    elif one.saves_usd is not None:
        usd, low, high, when = one.saves_usd, one.low_usd, one.high_usd, " in this span"
    else:
        return None
    shown = [money(value) for value in (usd, low, high)]
    between = "" if len(set(shown)) == 1 else f", {shown[1]} to {shown[2]}"
    return f"{shown[0]}{when}{between}, {one.source} from {times(one.events, 'event')}"
