"""A report for a terminal: findings, recommendations, tables that fit, and little bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.findings_outlook import saving
from langchain_tokopt.telemetry.render_tables import TITLE, Table, above_recommendations, span, tables
from langchain_tokopt.telemetry.report_figures import length, moment, money, name, plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from langchain_tokopt.telemetry.recommendation import Recommendation
    from langchain_tokopt.telemetry.report import Report

_LEVELS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN_LEVELS: Final = " .:-=+*#@"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_MOST_BARS: Final = 8
_EMPTY: Final = frozenset({"unknown", "-"})


@dataclass(frozen=True, slots=True)
class ReportView:
    """The report as Rich draws it, in the width and with the signs that the console has."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        report, ascii_only = self.report, options.ascii_only or options.encoding in ("ascii", "us-ascii")
        yield Text(TITLE, style="bold")
        yield Text(span(report), style="dim")
        yield Text()
        for finding in report.findings:
            yield _item("-" if ascii_only else "•", Text(plain(finding)))
        if report.recommendations:
            yield Text()
            yield Text("Recommendations", style="bold")
            yield Text(above_recommendations(report), style="dim")
            for n, one in enumerate(report.recommendations, 1):
                yield _item(f"{n}.", _recommendation(one))
        over_time = _over_time(report, options.max_width, ascii_only)
        if over_time is not None:
            yield Text()
            yield from over_time
        for title, rows in _bars(report):
            yield Text()
            yield Text(title, style="bold")
            yield _drawn(rows, options.max_width, ascii_only)
        for table in tables(report):
            if not table.detail:
                yield Text()
                yield Text(table.title, style="bold")
                yield _table(table)


def _item(mark: str, what: RenderableType) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=max(1, len(mark)))
    grid.add_column(overflow="fold")
    grid.add_row(mark, what)
    return grid


def _recommendation(one: Recommendation) -> RenderableType:
    from rich.text import Text

    worth = saving(one)
    told = f"{one.basis}; {one.confidence} confidence: {one.why}. {one.caveat}"
    lines = [Text(plain(one.title), style="bold")]
    lines += [Text(plain(worth))] if worth else []
    lines += [Text(plain(one.change), style="cyan"), Text(plain(told[0].upper() + told[1:]), style="dim")]
    return Text("\n").join(lines)


# --- bars ------------------------------------------------------------------------------------------------------------


def _over_time(report: Report, width: int, ascii_only: bool) -> list[RenderableType] | None:
    """What was spent in each slice, one sign each, and from when to when."""
    from rich.text import Text

    if len(report.slices) < 2:
        return None
    found: list[RenderableType] = []
    for word, values, whole in (
        ("measured", [one.measured_usd for one in report.slices], report.measured.cost_usd),
        ("estimated", [one.estimated_usd for one in report.slices], report.estimated.cost_usd),
    ):
        most = max((value for value in values if value is not None), default=Decimal(0))
        if most > 0:
            levels = _PLAIN_LEVELS if ascii_only else _LEVELS
            line = "".join(_level(value, most, levels) for value in values)[: max(1, width - 2)]
            every = length(report.slice_seconds).removeprefix("1 ")
            found += [
                Text(f"Cost per {every}, {word}: {money(whole)} in all, at most {money(most)}", style="bold"),
                Text(line, style="blue" if word == "measured" else "yellow"),
            ]
    if not found:
        return None
    first, last = moment(report.slices[0].start), moment(report.slices[-1].start)
    return [*found, Text(f"{first} to {last}", style="dim")]


def _level(value: Decimal | None, most: Decimal, levels: str) -> str:
    if not value or value < 0:
        return levels[0]
    return levels[max(1, round(float(value / most) * (len(levels) - 1)))]


def _bars(report: Report) -> list[tuple[str, list[tuple[str, Decimal, str]]]]:
    """Titles, and rows of a name, a value and its words."""
    models = [
        (name(one.model), one.measured.cost_usd, f"{money(one.measured.cost_usd)} measured")
        for one in report.models
        if one.measured.cost_usd
    ]
    parts = [
        (f"{name(one.part)}{word}", saved.usd, money(saved.usd))
        for one in sorted(report.parts, key=lambda part: part.rank)
        for saved, word in ((one.real, ""), (one.shadow, ", shadow"))
        if saved.usd
    ]
    found = [("Cost by model", models), ("Saved by part (estimates)", parts)]
    return [
        (title, [(label, value, words) for label, value, words in rows if value is not None][:_MOST_BARS])
        for title, rows in found
        if len(rows) > 1
    ]


def _drawn(rows: Sequence[tuple[str, Decimal, str]], width: int, ascii_only: bool) -> RenderableType:
    from rich.table import Table as Grid
    from rich.text import Text

    room = max(4, min(40, width - 50))
    most = max(abs(value) for _, value, _ in rows)
    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column(overflow="fold", max_width=30)
    grid.add_column(no_wrap=True)
    for label, value, words in rows:
        bar = _bar(float(abs(value) / most) * room, ascii_only)
        grid.add_row(Text(label), Text(f"{bar} {words}", style="red" if value < 0 else "green"))
    return grid


def _bar(size: float, ascii_only: bool) -> str:
    if ascii_only:
        return "#" * max(1, round(size))
    whole, part = int(size), int((size - int(size)) * 8)
    return ("█" * whole + _EIGHTHS[part].strip()) or _EIGHTHS[1]


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(table: Table) -> RenderableType:
    """The table without columns in which nothing is known."""
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    kept = [n for n in range(len(table.head)) if not n or any(row[n] not in _EMPTY for row in table.rows)]
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for n in kept:
        drawn.add_column(table.head[n], justify="right" if table.on_the_right(n) else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(plain(row[n])) for n in kept))
    return drawn
