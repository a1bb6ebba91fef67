"""What a report says in sentences, the most important first."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.report import CacheReport, PartReport, Report, Saved, Usage


def findings(report: Report) -> tuple[str, ...]:
    """The report in plain sentences."""
    when = "" if report.hours is None else f" in the last {_hours(report.hours)}"
    if not report.events:
        return (f"Nothing has been recorded{when}.",)
    return (*_calls(report, when), *_savings(report), *_trouble(report))


def _calls(report: Report, when: str) -> list[str]:
    said = []
    measured, estimated = report.measured, report.estimated
    if measured.calls:
        said.append(
            f"{_n(measured.calls, 'model call')}{when} used {_tokens(measured)} as reported by the providers; "
            f"{_cost(measured)}."
        )
        if measured.cache_read_tokens and measured.input_tokens:
            share = measured.cache_read_tokens / measured.input_tokens
            said.append(f"{share:.0%} of these input tokens were read from the providers' prompt caches.")
    if estimated.calls:
        said.append(
            f"For {_n(estimated.calls, 'model call')} the provider reported no usage; we estimate "
            f"{_tokens(estimated)}; {_cost(estimated)}."
        )
    if not measured.calls and not estimated.calls:
        said.append(f"No model call was answered{when}.")
    if report.failed_calls:
        said.append(f"{_n(report.failed_calls, 'model call')} failed; providers may or may not bill them.")
    return said


def _savings(report: Report) -> list[str]:
    said = []
    for cache, saw in ((report.cache, "answered"), (report.cache_in_shadow, "would have answered (shadow mode)")):
        if cache.eligible:
            said.append(f"The semantic cache {saw} {_rate(cache)}.")
    for part in report.parts:
        if part.real.applied:
            said.append(f"Estimate: {_did(part, part.real)} saved {_saved(part.real)}.")
        if part.shadow.applied:
            said.append(f"Estimate: in shadow mode, {_did(part, part.shadow)} would have saved {_saved(part.shadow)}.")
    own = report.overhead.calls + report.overhead_estimated.calls
    if own:
        spent = " and ".join(
            f"{money(usage.cost_usd)} ({source})"
            for usage, source in ((report.overhead, "measured"), (report.overhead_estimated, "estimated"))
            if usage.calls
        )
        net = "the net saving is not known" if report.net_saved_usd is None else f"net, {_net(report.net_saved_usd)}"
        said.append(f"The optimiser's own {_n(own, 'model call')} cost {spent}; {net}.")
    if report.added_seconds is not None:
        added = report.added_seconds
        said.append(
            f"The optimiser added {duration(added.p50)} to a request (median; {duration(added.p95)} at the 95th "
            "percentile)."
        )
    return said


def _trouble(report: Report) -> list[str]:
    said = []
    if report.refused_calls:
        said.append(f"The budget refused {_n(report.refused_calls, 'call')}.")
    if report.refused_in_shadow:
        said.append(f"In shadow mode, the budget would have refused {_n(report.refused_in_shadow, 'call')}.")
    for failure in report.failures:
        often = f"; most often: {failure.errors[0][0]}" if failure.errors else ""
        said.append(f"{failure.part} failed {_n(failure.count, 'time')} and stepped aside{often}.")
    return said


def _tokens(usage: Usage) -> str:
    return f"{number(usage.input_tokens)} input and {number(usage.output_tokens)} output tokens"


def _cost(usage: Usage) -> str:
    if not usage.unpriced:
        return f"{money(usage.cost_usd)} at list prices"
    unknown = f"the cost of {number(usage.unpriced)} of them is unknown, since their price is"
    return unknown if usage.cost_usd is None else f"{money(usage.cost_usd)} at list prices, but {unknown}"


def _rate(cache: CacheReport) -> str:
    rate = f" ({cache.hit_rate:.0%})" if cache.hit_rate is not None else ""
    return f"{number(cache.hits)} of {_n(cache.eligible, 'request')} that it may answer{rate}"


def _did(part: PartReport, saved: Saved) -> str:
    return f"{part.part} (applied {_n(saved.applied, 'time')})"


def _saved(saved: Saved) -> str:
    tokens = "an unknown number of tokens" if saved.tokens is None else f"{number(saved.tokens)} tokens"
    if saved.usd is None:
        return f"{tokens}, at an unknown price"
    unknown = f", and what {_n(saved.unpriced, 'time')} saved at unknown prices" if saved.unpriced else ""
    return f"{tokens} and {money(saved.usd)}{unknown}"


def _net(usd: Decimal) -> str:
    if usd < 0:
        return f"an estimated {money(-usd)} more was spent than saved"
    return f"an estimated {money(usd)} was saved"


def _n(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def _hours(hours: float) -> str:
    return "hour" if hours == 1 else f"{hours:g} hours"


# --- figures, as all views show them ---------------------------------------------------------------------------------


def number(value: int | None) -> str:
    """A count with separators; "unknown" for `None`."""
    return "unknown" if value is None else f"{value:,}"


def times(count: int, what: str = "time") -> str:
    """A count of things, in the singular or the plural."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def amount(value: Decimal | int | None, unit: str) -> str:
    """USD, tokens or calls."""
    if value is None:
        return "unknown"
    return money(Decimal(value)) if unit == "usd" else times(int(value), unit.removesuffix("s"))


def money(usd: Decimal | None) -> str:
    """USD: cents from a dollar on, below it up to three significant digits; "unknown" for `None`."""
    if usd is None:
        return "unknown"
    sign, size = ("-" if usd < 0 else ""), abs(usd)
    if size >= 1 or size == 0:
        return f"{sign}${size:,.2f}"
    whole, _, part = f"{size:.{2 - size.adjusted()}f}".partition(".")
    return f"{sign}${whole}.{part.rstrip('0'):0<2}"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
