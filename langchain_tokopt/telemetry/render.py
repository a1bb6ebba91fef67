"""A report as Markdown and as plain text."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.findings_outlook import saving
from langchain_tokopt.telemetry.render_tables import TITLE, above_recommendations, span, tables
from langchain_tokopt.telemetry.report_figures import plain

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.recommendation import Recommendation
    from langchain_tokopt.telemetry.report import Report

# "$" begins a formula in notebooks and on GitHub, "://" makes a link of a name.
_MARKUP: Final = re.compile(r"[\\`*_\[\]<>|~$&#!]|:(?=//)")
_BEGINS: Final = re.compile(r"^(\d*)([-+=.)])")


def to_markdown(report: Report) -> str:
    """The report as Markdown, the findings first."""
    lines = [f"# {TITLE}", "", span(report), ""]
    lines += [f"- {_text(finding)}" for finding in report.findings]
    if report.recommendations:
        lines += ["", "## Recommendations", "", above_recommendations(report), ""]
        for n, one in enumerate(report.recommendations, 1):
            lines += _recommendation(n, one)
    for table in tables(report):
        lines += ["", f"## {_text(table.title)}", ""]
        lines.append(f"| {' | '.join(table.head)} |")
        lines.append(f"|{'|'.join('---:' if table.on_the_right(n) else '---' for n in range(len(table.head)))}|")
        lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def to_text(report: Report, *, width: int = 100) -> str:
    """The report as text of at most so many columns, without colours or anything that a terminal obeys."""
    from rich.console import Console

    from langchain_tokopt.telemetry.render_terminal import ReportView

    console = Console(
        width=width, file=io.StringIO(), color_system=None, force_terminal=False, legacy_windows=False, highlight=False
    )
    with console.capture() as captured:
        console.print(ReportView(report))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _recommendation(n: int, one: Recommendation) -> list[str]:
    worth = saving(one)
    code = plain(one.change)
    fence = "`" * (max((len(run) for run in re.findall("`+", code)), default=0) + 1)
    return [
        f"{n}. **{_text(one.title)}**{f' {_text(worth)}' if worth else ''}",
        f"   - {fence} {code} {fence}",
        f"   - {_text(one.basis)}; {one.confidence} confidence: {_text(one.why)}",
        f"   - {_text(one.caveat)}",
    ]


def _text(text: str) -> str:
    """Text in which nothing is markup, also at the beginning of a line: names and errors come from outside."""
    return _BEGINS.sub(r"\1\\\2", _cell(text))


def _cell(text: str) -> str:
    """The same for a cell of a table, where nothing begins a list."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", plain(text))
