"""How each KPI follows from the readings of a window."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Final

from langchain_tokopt.telemetry.findings import money
from langchain_tokopt.telemetry.kpis_events import Shortened
from langchain_tokopt.telemetry.kpis_found import Found, Source, rate, share, unknown
from langchain_tokopt.telemetry.kpis_window import Window, saved_together
from langchain_tokopt.telemetry.readings import CallFigures
from langchain_tokopt.telemetry.report import Saved, Usage

_NO_CALLS: Final = "no model call was answered in this window"


# --- cost ------------------------------------------------------------------------------------------------------------


def _side(calls: CallFigures) -> tuple[Usage, Usage, Source]:
    """All calls and the optimiser's own of these: what providers reported, or our estimates where none did."""
    if calls.measured.calls or not calls.estimated.calls:
        return calls.measured, calls.own_measured, "measured"
    return calls.estimated, calls.own_estimated, "estimated"


def _same_side(calls: CallFigures, source: Source) -> tuple[Usage, Usage]:
    if source == "measured":
        return calls.measured, calls.own_measured
    return calls.estimated, calls.own_estimated


def _left_out(calls: CallFigures, source: Source, usage: Usage) -> str | None:
    """What a sum over calls lacks."""
    said = []
    if usage.unpriced:
        said.append(f"without {_n(usage.unpriced, 'call')} of {usage.calls:,}, whose price is not known")
    if source == "measured" and calls.estimated.calls:
        cost = calls.estimated.cost_usd
        worth = "nobody knows the cost" if cost is None else f"{money(cost)} by our estimate"
        said.append(f"without {_n(calls.estimated.calls, 'call')} that no provider reported on ({worth})")
    return "; ".join(said) or None


def _n(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def spend(window: Window) -> Found:
    calls = window.calls
    usage, _, source = _side(calls)
    if not usage.calls:
        return unknown(_NO_CALLS)
    if usage.cost_usd is None:
        return unknown("no call has a known price", count=usage.calls, source=source)
    note = _left_out(calls, source, usage)

    def slices() -> dict[int, float]:
        return {n: _usd(_same_side(each, source)[0]) for n, each in window.calls_in_slices.items()}

    return Found(value=usage.cost_usd, count=usage.calls, source=source, slices=slices, note=note)


def saved_net(window: Window) -> Found:
    saved = total_saved(window)
    own = (window.calls.own_measured, window.calls.own_estimated)
    count = saved.applied + sum(each.calls for each in own)
    if not count:
        return unknown("no part did anything in this window", source="estimated")
    if any(each.unpriced for each in own):
        return unknown("a call of the optimiser's own has no known price", count=count, source="estimated")
    if saved.usd is None and saved.applied:
        return unknown("nothing that was saved has a known price", count=count, source="estimated")
    spent = sum((each.cost_usd or Decimal(0) for each in own), Decimal(0))
    note = f"without what was saved at an unknown price ({_n(saved.unpriced, 'time')})" if saved.unpriced else None

    def slices() -> dict[int, float]:
        found: dict[int, float] = {}
        for n, part in window.parts_in_slices.items():
            found[n] = found.get(n, 0.0) + float(part.real.usd or 0)
        for n, calls in window.calls_in_slices.items():
            found[n] = found.get(n, 0.0) - _usd(calls.own_measured) - _usd(calls.own_estimated)
        return found

    return Found(value=(saved.usd or Decimal(0)) - spent, count=count, source="estimated", slices=slices, note=note)


def per_answer(window: Window) -> Found:
    calls = window.calls
    usage, own, source = _side(calls)
    hits = window.lookups.real.hits
    answers = _priced(usage) - _priced(own) + hits
    if not answers:
        reason = "no answer has a known price" if usage.calls > own.calls else "nothing was answered in this window"
        return unknown(reason, source=source)
    slices = []
    for n in {**window.calls_in_slices, **window.lookups_in_slices}:
        part, own_part = _same_side(window.calls_in_slices.get(n, CallFigures()), source)
        looks = window.lookups_in_slices.get(n)
        slices.append((_usd(part), float(_priced(part) - _priced(own_part) + (looks.real.hits if looks else 0))))
    value = (usage.cost_usd or Decimal(0)) / answers
    return share(value, slices, count=answers, source=source, note=_left_out(calls, source, usage))


def total_saved(window: Window) -> Saved:
    """What all parts did and saved for real."""
    return saved_together(figures.real for figures in window.parts.values())


def _priced(usage: Usage) -> int:
    return usage.calls - usage.unpriced


def _usd(usage: Usage) -> float:
    return float(usage.cost_usd or 0)


# --- tokens ----------------------------------------------------------------------------------------------------------


def reduction(window: Window) -> Found:
    calls, saved = window.calls, total_saved(window)
    sent, own = _tokens(calls), _own_tokens(calls)
    if not sent and not saved.applied:
        return unknown("nothing was sent or saved in this window", source="estimated")
    if saved.applied and saved.tokens is None:
        return unknown("no part says how many tokens it saved", count=saved.applied, source="estimated")
    net = (saved.tokens or 0) - own
    if sent + net <= 0:
        return unknown("no tokens are known to have been sent", source="estimated")
    slices = []
    for n in {**window.calls_in_slices, **window.parts_in_slices}:
        part, figures = window.parts_in_slices.get(n), window.calls_in_slices.get(n, CallFigures())
        less = float((part.real.tokens or 0) if part else 0) - _own_tokens(figures)
        slices.append((less, _tokens(figures) + less))
    count = calls.measured.calls + calls.estimated.calls + window.lookups.real.hits
    return share(net / (sent + net), slices, count=count, source="estimated", least=None, most=1.0)


def _tokens(calls: CallFigures) -> int:
    """What was sent and answered; a term of an estimate, so that estimates may be in it."""
    return sum((usage.input_tokens or 0) + (usage.output_tokens or 0) for usage in (calls.measured, calls.estimated))


def _own_tokens(calls: CallFigures) -> int:
    own = (calls.own_measured, calls.own_estimated)
    return sum((usage.input_tokens or 0) + (usage.output_tokens or 0) for usage in own)


def compression(window: Window) -> Found:
    slices = window.shortened.get("history", {})
    found = sum(slices.values(), Shortened())
    if not found.calls:
        return _of_singles(window, unknown("no history was shortened in this window", source="estimated"))
    if not found.after:
        return unknown("no shortened history was counted", count=found.calls, source="estimated")
    parts = [(float(each.before), float(each.after)) for each in slices.values()]
    return _of_singles(window, share(found.before / found.after, parts, count=found.counted, source="estimated"))


def _of_singles(window: Window, found: Found) -> Found:
    """What is found in single events, with what is left out where only sums of them are kept."""
    if not window.rolled_up:
        return found
    if found.value is None:
        return replace(found, reason="of this window only sums are kept, which do not tell")
    begin = datetime.fromtimestamp(window.singles.since or 0, timezone.utc)
    return replace(found, note=f"only of what is kept one by one, from {begin:%Y-%m-%d %H:%M} UTC on")


def provider_cache(window: Window) -> Found:
    usage = window.calls.measured
    if not usage.calls:
        return unknown("no provider reported what a call used in this window")
    if usage.cache_read_tokens is None:
        return unknown("no provider said what it read from its cache", count=usage.calls)
    if not usage.input_tokens:
        return unknown("no provider reported input tokens", count=usage.calls)
    slices = [
        (float(each.measured.cache_read_tokens or 0), float(each.measured.input_tokens or 0))
        for each in window.calls_in_slices.values()
    ]
    value = usage.cache_read_tokens / usage.input_tokens
    return share(value, slices, count=usage.calls, source="measured", most=1.0)


# --- cache -----------------------------------------------------------------------------------------------------------


def hit_rate(window: Window) -> Found:
    looks = window.lookups.real
    return rate(looks.hits, looks.eligible, nothing="no request was looked up in the semantic cache in this window")


def audited_error(window: Window) -> Found:
    told = window.audits
    if told is None:
        return unknown("the semantic cache was not asked, or does not audit", source="estimated")
    value = told.get("audited_error")
    count = int(told.get("audits") or 0)
    if value is None:
        return unknown("no stored answer has been audited yet", count=count, source="estimated")
    low, high, target = (told.get(name) for name in ("audited_error_low", "audited_error_high", "max_error"))
    note = "of all requests that the cache remembers, not only of this window"
    return Found(
        value=float(value),
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        count=count,
        source="estimated",
        note=note,
        target=None if target is None else float(target),
    )


# --- quality ---------------------------------------------------------------------------------------------------------


def evidence(window: Window) -> Found:
    return _not_asked_again(window, "history", "no history was shortened in this window")


def tools_found(window: Window) -> Found:
    return _not_asked_again(window, "tools", "no tools were left out in this window")


def _not_asked_again(window: Window, part: str, nothing: str) -> Found:
    found = sum(window.shortened.get(part, {}).values(), Shortened())
    return _of_singles(window, rate(found.calls - found.asked, found.calls, nothing=nothing))


def fallback(window: Window) -> Found:
    hits = window.fallbacks
    found = rate(hits, max(hits, window.single_requests), nothing="no request reached a model in this window")
    return _of_singles(window, found)


# --- health ----------------------------------------------------------------------------------------------------------


def model_errors(window: Window) -> Found:
    failed, tried = window.calls_by_end
    return _of_singles(window, rate(failed, tried, nothing="no model was called in this window"))


def added_p95(window: Window) -> Found:
    added = window.times.added
    if added is None:
        return unknown("no request was timed in this window")
    note = f"to within {added.error:.0%}, from rolled-up times" if added.error else None
    return Found(value=added.p95, count=added.count, note=note)


def refused(window: Window) -> Found:
    steps = window.reservations
    refused = steps.get("refused", 0)
    return rate(refused, steps.get("reserved", 0) + refused, nothing="no call was held against a budget in this window")


def part_errors(window: Window) -> dict[str | None, Found]:
    found: dict[str | None, Found] = {}
    for part in sorted({*window.parts, *window.failures}):
        failed = window.failures.get(part, 0)
        found[part] = rate(failed, failed + tries(window, part), nothing="the part had nothing to do in this window")
    return found


def tries(window: Window, part: str) -> int:
    """How often a part did its work, or decided that there was none."""
    if part == "budget":
        return sum(count for step, count in window.reservations.items() if step.split()[-1] in ("reserved", "refused"))
    figures = window.parts.get(part)
    return 0 if figures is None else figures.real.applied + figures.shadow.applied + figures.skipped
