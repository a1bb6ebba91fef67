"""What a report says in sentences, the most important first: spent, saved, wrong, where it goes, what is to come."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.findings_outlook import changes, outlook, to_do, where
from langchain_tokopt.telemetry.kpis_chance import wilson
from langchain_tokopt.telemetry.report_figures import amount, duration, money, name, number, percent, said, times

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.report import CacheReport, PartReport, Report, Saved, Usage

# Other views of figures use these as well.
__all__ = ["amount", "duration", "findings", "money", "number", "times"]

_MOST_PARTS: Final = 8
_MOST_FAILURES: Final = 5


def findings(report: Report) -> tuple[str, ...]:
    """The report in plain sentences, each with its figures."""
    when = "" if report.hours is None else f" in the last {_hours(report.hours)}"
    if not report.events:
        return (f"Nothing has been recorded{when}.", *outlook(report), *to_do(report))
    return (
        *_calls(report, when),
        *_savings(report),
        *where(report),
        *changes(report),
        *_trouble(report),
        *outlook(report),
        *to_do(report),
    )


def _calls(report: Report, when: str) -> list[str]:
    found = []
    measured, estimated = report.measured, report.estimated
    if measured.calls:
        found.append(
            f"{times(measured.calls, 'model call')}{when} used {_tokens(measured)} as reported by the providers; "
            f"{_cost(measured)}."
        )
        if measured.cache_read_tokens and measured.input_tokens:
            share = measured.cache_read_tokens / measured.input_tokens
            found.append(f"{percent(share)} of these input tokens were read from the providers' prompt caches.")
    if estimated.calls:
        found.append(
            f"For {times(estimated.calls, 'model call')} the provider reported no usage; we estimate "
            f"{_tokens(estimated)}; {_cost(estimated)}."
        )
    if not measured.calls and not estimated.calls:
        found.append(f"No model call was answered{when}.")
    return found


def _savings(report: Report) -> list[str]:
    found = []
    own = report.overhead.calls + report.overhead_estimated.calls
    if own:
        spent = " and ".join(
            f"{money(usage.cost_usd)} ({source})"
            for usage, source in ((report.overhead, "measured"), (report.overhead_estimated, "estimated"))
            if usage.calls
        )
        net = (
            "the net saving is not known"
            if report.net_saved_usd is None
            else f"net, {_net(report, report.net_saved_usd)}"
        )
        found.append(f"The optimiser's own {times(own, 'model call')} cost {spent}; {net}.")
    elif report.net_saved_usd is not None and report.saved.applied:
        unknown = f", and what {times(report.saved.unpriced)} saved at unknown prices" if report.saved.unpriced else ""
        sentence = f"{_net(report, report.net_saved_usd)}{unknown}; the optimiser made no model calls of its own."
        found.append(sentence[0].upper() + sentence[1:])
    for part in sorted(report.parts, key=lambda part: part.rank)[:_MOST_PARTS]:
        if part.real.applied:
            found.append(f"Estimate: {_did(part, part.real)} {_saved(part.real, 'saved', 'cost')}.")
        if part.shadow.applied:
            would = _saved(part.shadow, "would have saved", "would have cost")
            found.append(f"Estimate: in shadow mode, {_did(part, part.shadow)} {would}.")
    for cache, saw in ((report.cache, "answered"), (report.cache_in_shadow, "would have answered (shadow mode)")):
        if cache.eligible:
            found.append(f"The semantic cache {saw} {_rate(cache)}.")
    if report.added_seconds is not None:
        added = report.added_seconds
        found.append(
            f"The optimiser added {duration(added.p50)} to a request (median; {duration(added.p95)} at the 95th "
            "percentile)."
        )
    return found


def _trouble(report: Report) -> list[str]:
    found = []
    if report.failed_calls:
        found.append(f"{times(report.failed_calls, 'model call')} failed; providers may or may not bill them.")
    if report.refused_calls:
        found.append(f"The budget refused {times(report.refused_calls, 'call')}.")
    if report.refused_in_shadow:
        found.append(f"In shadow mode, the budget would have refused {times(report.refused_in_shadow, 'call')}.")
    for failure in report.failures[:_MOST_FAILURES]:
        often = f"; most often: {said(failure.errors[0][0] or 'no reason given')}" if failure.errors else ""
        found.append(f"{name(failure.part)} failed {times(failure.count)} and stepped aside{often}.")
    if more := report.failures[_MOST_FAILURES:]:
        found.append(f"{times(len(more), 'other part')} failed {times(sum(one.count for one in more))}.")
    return found


def _tokens(usage: Usage) -> str:
    return f"{number(usage.input_tokens)} input and {number(usage.output_tokens)} output tokens"


def _cost(usage: Usage) -> str:
    if not usage.unpriced:
        return f"{money(usage.cost_usd)} at list prices"
    unknown = f"the cost of {number(usage.unpriced)} of them is unknown, since their price is"
    return unknown if usage.cost_usd is None else f"{money(usage.cost_usd)} at list prices, but {unknown}"


def _rate(cache: CacheReport) -> str:
    low, high = wilson(cache.hits, cache.eligible)
    rate = percent(cache.hits / cache.eligible)
    return (
        f"{number(cache.hits)} of {times(cache.eligible, 'request')} that it may answer ({rate}; {percent(low)} to "
        f"{percent(high)} with a chance of 95%)"
    )


def _did(part: PartReport, saved: Saved) -> str:
    return f"{name(part.part)} (applied {times(saved.applied)})"


def _saved(saved: Saved, gain: str, loss: str) -> str:
    """What was saved, or lost: fewer tokens cost more where the provider's prompt cache is written anew for them."""
    tokens = "an unknown number of tokens" if saved.tokens is None else f"{number(saved.tokens)} tokens"
    if saved.usd is None:
        return f"{gain} {tokens}, at an unknown price"
    unknown = f", and what {times(saved.unpriced)} saved at unknown prices" if saved.unpriced else ""
    if saved.usd < 0:
        sent = "" if saved.tokens is None else f", with {number(abs(saved.tokens))} {_fewer(saved.tokens)} tokens"
        return f"{loss} {money(-saved.usd)} more than doing nothing{sent}{unknown}"
    return f"{gain} {tokens} and {money(saved.usd)}{unknown}"


def _fewer(tokens: int) -> str:
    return "fewer" if tokens >= 0 else "more"


def _net(report: Report, usd: Decimal) -> str:
    if usd < 0:
        return f"an estimated {money(-usd)} more was spent than saved"
    spent = report.measured.cost_usd
    share = "" if not spent or not usd or report.measured.unpriced else f", {percent(usd / spent)} of what calls cost"
    return f"an estimated {money(usd)} was saved{share}"


def _hours(hours: float) -> str:
    return "hour" if hours == 1 else f"{hours:g} hours"
