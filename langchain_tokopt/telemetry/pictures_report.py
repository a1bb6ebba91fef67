"""The pictures of a report: cost over time, by agent, by model, savings by part, the hit rate, what tokens are."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.pictures import Bar, Row, Tone, bars, columns, sparkline, stacked
from langchain_tokopt.telemetry.report_figures import length, moment, money, name, percent, times

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.report import Report, Saved
    from langchain_tokopt.telemetry.report_details import Slice

_MOST_ROWS: Final = 8


def pictures(report: Report) -> Iterator[tuple[str, str]]:
    """The title and the SVG of each picture that there is something to show in."""
    for title, picture in (
        (f"Cost per {_every(report)}", _cost),
        ("Cost by model", _models),
        ("Cost by agent", _agents),
        ("Saved by part (estimates)", _parts),
        (f"Hit rate of the semantic cache per {_every(report)}", _hit_rate),
        ("Tokens of agents' calls", _tokens),
    ):
        drawn = picture(report, title)
        if drawn is not None:
            yield title, drawn


def _cost(report: Report, title: str) -> str | None:
    if len(report.slices) < 2 or not any(one.measured_usd or one.estimated_usd for one in report.slices):
        return None
    slots = [Row(moment(one.start), tuple(_of_slice(one))) for one in report.slices]
    dearest = max(report.slices, key=lambda one: max(one.measured_usd or 0, one.estimated_usd or 0))
    most = max(dearest.measured_usd or Decimal(0), dearest.estimated_usd or Decimal(0))
    words = ", ".join(
        f"{money(usage.cost_usd)} {word}"
        for usage, word in ((report.measured, "measured"), (report.estimated, "estimated"))
        if usage.calls
    )
    return columns(
        title,
        slots,
        first=moment(report.slices[0].start),
        last=moment(report.slices[-1].start),
        top=f"{money(most)} at most",
        words=f"{words} in all; at most {money(most)}, at {moment(dearest.start)}",
    )


def _of_slice(one: Slice) -> Iterator[Bar]:
    if not one.calls:
        yield Bar(0.0, "no calls")
        return
    if one.measured_usd is not None or one.estimated_usd is None:
        # Calls whose price is not known are marked: they did cost something.
        yield Bar(_float(one.measured_usd), f"{money(one.measured_usd)} measured")
    if one.estimated_usd is not None:
        yield Bar(_float(one.estimated_usd), f"{money(one.estimated_usd)} estimated", "estimated")


def _models(report: Report, title: str) -> str | None:
    rows = [
        Row(name(one.model), tuple(_spent(one.measured.cost_usd, one.estimated.cost_usd)))
        for one in report.models[:_MOST_ROWS]
    ]
    return bars(title, rows) if any(bar.value for row in rows for bar in row.bars) else None


def _agents(report: Report, title: str) -> str | None:
    rows = [
        Row(name(one.agent, "without a name"), tuple(_spent(one.measured_usd, one.estimated_usd)))
        for one in report.agents[:_MOST_ROWS]
    ]
    return bars(title, rows) if len(rows) > 1 and any(bar.value for row in rows for bar in row.bars) else None


def _spent(measured: Decimal | None, estimated: Decimal | None) -> Iterator[Bar]:
    if measured is not None or estimated is None:
        yield Bar(_float(measured), f"{money(measured)} measured" if measured is not None else "unknown")
    if estimated is not None:
        yield Bar(_float(estimated), f"{money(estimated)} estimated", "estimated")


def _parts(report: Report, title: str) -> str | None:
    rows = []
    for part in sorted(report.parts, key=lambda part: part.rank):
        found = []
        tones: tuple[tuple[Saved, Tone, str], ...] = (
            (part.real, "saved", ""),
            (part.shadow, "watched", " in shadow mode"),
        )
        for saved, tone, word in tones:
            if saved.applied:
                lost = saved.usd is not None and saved.usd < 0
                found.append(Bar(_float(saved.usd), f"{money(saved.usd)}{word}", "lost" if lost else tone))
        if found:
            rows.append(Row(name(part.part), tuple(found)))
    return bars(title, rows[:_MOST_ROWS]) if any(bar.value for row in rows for bar in row.bars) else None


def _hit_rate(report: Report, title: str) -> str | None:
    points = [one.hits / one.eligible if one.eligible else None for one in report.slices]
    if len(points) < 2 or not any(point is not None for point in points) or report.cache.hit_rate is None:
        return None
    return sparkline(
        title,
        points,
        first=moment(report.slices[0].start),
        last=moment(report.slices[-1].start),
        words=(
            f"{percent(report.cache.hit_rate)} in all, {report.cache.hits:,} of "
            f"{times(report.cache.eligible, 'request')}"
        ),
    )


def _tokens(report: Report, title: str) -> str | None:
    tokens = report.tokens
    if tokens is None or not tokens.input + tokens.output:
        return None
    tools, grown = tokens.tools or 0, tokens.grown or 0
    # Our counts of parts of the input may be more than the input that the provider counted.
    tools = min(tools, tokens.input)
    grown = min(grown, tokens.input - tools)
    reasoning = min(tokens.reasoning or 0, tokens.output)
    rest = "other input" if tools or grown else "input"
    parts: list[tuple[str, int, Tone]] = [
        ("schemas of tools, by our count", tools, "estimated"),
        ("conversation so far, at least", grown, "other"),
        (rest, tokens.input - tools - grown, "measured"),
        ("reasoning", reasoning, "thought"),
        ("other output" if reasoning else "output", tokens.output - reasoning, "saved"),
    ]
    return stacked(title, [part for part in parts if part[1]])


def _every(report: Report) -> str:
    words = length(report.slice_seconds) if report.slice_seconds else ""
    return words.removeprefix("1 ") or "slice"


def _float(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)
