"""A report for people: as Markdown, as HTML for notebooks, and for terminals."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from langchain_tokopt.telemetry.report_figures import duration, money, number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from langchain_tokopt.telemetry.report import Percentiles, Report, Saved, Usage


@dataclass(frozen=True)
class _Table:
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def to_markdown(report: Report) -> str:
    """The report as Markdown, the findings first."""
    lines = [f"# {_TITLE}", "", _span(report), ""]
    lines += [f"- {_markdown(finding)}" for finding in report.findings]
    for table in _tables(report):
        lines += ["", f"## {table.title}", ""]
        lines.append(f"| {' | '.join(table.head)} |")
        lines.append(f"|{'|'.join(['---', *['---:'] * (len(table.head) - 1)])}|")
        lines += [f"| {' | '.join(_markdown(cell) for cell in row)} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def to_html(report: Report) -> str:
    """The report as HTML that brings nothing with it and takes its colours from the page, light or dark."""
    line = "border-bottom:1px solid rgba(128,128,128,.4);padding:.2em .8em;"
    parts = ['<div style="color:inherit;background:transparent;font-family:inherit;max-width:70em">']
    parts.append(f'<h3 style="margin:.2em 0">{_TITLE}</h3><p style="opacity:.75">{html.escape(_span(report))}</p>')
    parts.append(f"<ul>{''.join(f'<li>{html.escape(finding)}</li>' for finding in report.findings)}</ul>")
    for table in _tables(report):
        parts.append(f'<h4 style="margin:.8em 0 .2em">{html.escape(table.title)}</h4>')
        parts.append('<table style="border-collapse:collapse;color:inherit;background:transparent">')
        for tag, row in [("th", table.head), *(("td", row) for row in table.rows)]:
            cells = "".join(
                f'<{tag} style="{line}text-align:{"right" if n else "left"};color:inherit;background:transparent">'
                f"{html.escape(cell)}</{tag}>"
                for n, cell in enumerate(row)
            )
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    parts.append("</div>")
    return "".join(parts)


def to_rich(report: Report) -> RenderableType:
    """The report for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown: list[RenderableType] = [Text(_TITLE, style="bold"), Text(_span(report), style="dim"), Text()]
    shown += [Text(f"• {finding}") for finding in report.findings]
    for table in _tables(report):
        drawn = Table(title=table.title, title_justify="left")
        for n, name in enumerate(table.head):
            drawn.add_column(name, justify="right" if n else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(cell) for cell in row))
        shown += [Text(), drawn]
    return Group(*shown)


_TITLE = "What was spent and saved"


def _span(report: Report) -> str:
    if report.first is None or report.last is None:
        return "No events."
    first, last = (
        datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") for at in (report.first, report.last)
    )
    return f"{number(report.events)} events, {first} to {last} UTC."


def _tables(report: Report) -> list[_Table]:
    every = [_usage(report), _models(report), _parts(report), _cache(report), _times(report), _trouble(report)]
    return [table for table in every if table.rows]


def _usage(report: Report) -> _Table:
    rows = [
        ("Reported by the provider", report.measured),
        ("Estimated", report.estimated),
        ("Of these, the optimiser's own: reported", report.overhead),
        ("Of these, the optimiser's own: estimated", report.overhead_estimated),
    ]
    return _Table(
        "Model calls", ("Usage", *_USAGE_HEAD), [(name, *_figures(usage)) for name, usage in rows if usage.calls]
    )


_USAGE_HEAD = ("Calls", "Input", "Cache read", "Cache write", "Output", "Reasoning", "Cost")


def _figures(usage: Usage) -> tuple[str, ...]:
    cost = money(usage.cost_usd)
    if usage.unpriced:
        unknown = f"unknown for {_calls(usage.unpriced)}"
        cost = unknown if usage.cost_usd is None else f"{cost}; {unknown}"
    tokens = (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    return number(usage.calls), *(number(count) for count in tokens), cost


def _models(report: Report) -> _Table:
    rows = [
        (f"{model.provider or 'unknown'}: {model.model or 'unknown'} ({source})", *_figures(usage))
        for model in report.models
        for usage, source in ((model.measured, "reported"), (model.estimated, "estimated"))
        if usage.calls
    ]
    return _Table("By model", ("Model", *_USAGE_HEAD), rows)


def _parts(report: Report) -> _Table:
    rows = []
    for part in report.parts:
        why = "; ".join(f"{reason} ({count})" for reason, count in part.reasons) or "-"
        rows.append((part.part, *_saving(part.real), number(part.skipped), why))
        if part.shadow.applied:
            rows.append((f"{part.part}, shadow (would have)", *_saving(part.shadow), "-", "-"))
    if rows:
        rows.append(("All", *_saving(report.saved), "-", "-"))
        rows.append(("All, net of the optimiser's own calls", "-", "-", money(report.net_saved_usd), "-", "-"))
    head = ("Part", "Applied", "Tokens saved", "USD saved", "Left alone", "Most often because")
    return _Table("Savings (estimates)", head, rows)


def _saving(saved: Saved) -> tuple[str, str, str]:
    if not saved.applied:
        return "0", "-", "-"
    usd = money(saved.usd)
    if saved.unpriced and saved.usd is not None:
        usd = f"{usd}; unknown for {saved.unpriced}"
    return number(saved.applied), number(saved.tokens), usd


def _cache(report: Report) -> _Table:
    rows = [
        (
            name,
            number(cache.exact),
            number(cache.semantic),
            number(cache.misses),
            number(cache.bypassed),
            "-" if cache.hit_rate is None else f"{cache.hit_rate:.1%}",
        )
        for name, cache in (("Served", report.cache), ("Shadow (would have)", report.cache_in_shadow))
        if cache.eligible or cache.bypassed
    ]
    return _Table("Semantic cache", ("Lookups", "Exact", "Semantic", "Misses", "Passed by", "Hit rate"), rows)


def _times(report: Report) -> _Table:
    def row(name: str, times: Percentiles | None) -> list[tuple[str, ...]]:
        return [(name, number(times.count), duration(times.p50), duration(times.p95))] if times else []

    rows = [
        *row("Added per request", report.added_seconds),
        *row("Model's own time per call", report.latency_seconds),
    ]
    return _Table("Time", ("Time", "Count", "Median", "95th percentile"), rows)


def _trouble(report: Report) -> _Table:
    rows = []
    if report.failed_calls:
        rows.append(("Model calls that failed", number(report.failed_calls), "-"))
    if report.refused_calls:
        rows.append(("Calls that the budget refused", number(report.refused_calls), "-"))
    if report.refused_in_shadow:
        rows.append(("Calls that the budget would have refused (shadow)", number(report.refused_in_shadow), "-"))
    for failure in report.failures:
        errors = "; ".join(f"{error} ({count})" for error, count in failure.errors) or "-"
        rows.append((f"{failure.part} stepped aside", number(failure.count), errors))
    return _Table("Trouble", ("What", "Count", "Most often"), rows)


def _calls(count: int) -> str:
    return f"{number(count)} call{'' if count == 1 else 's'}"


def _markdown(text: str) -> str:
    """Text in which nothing is markup: names and errors come from outside."""
    flat = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
