"""A report as HTML: a part of a page for notebooks, and a whole page. Well-formed, so that XML tools read it, too."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.findings_outlook import saving
from langchain_tokopt.telemetry.kpis_chance import wilson
from langchain_tokopt.telemetry.pictures_report import pictures
from langchain_tokopt.telemetry.render_tables import TITLE, Table, above_recommendations, span, tables
from langchain_tokopt.telemetry.report_figures import money, number, percent, plain

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.recommendation import Recommendation
    from langchain_tokopt.telemetry.report import Report

# Notebooks may take style sheets out, so that every look is at its element. Colours are the page's own.
_LINE: Final = "border-bottom:1px solid rgba(128,128,128,.35);background:transparent"
_CELL: Final = "padding:.2em 1em .2em 0;text-align:"
_FAINT: Final = "opacity:.78"
_CARD: Final = "border:1px solid rgba(128,128,128,.35);border-radius:.5em;padding:.5em .9em;min-width:9em;flex:1 1 9em"
_CODE: Final = (
    "font-family:ui-monospace,monospace;font-size:.92em;background:rgba(128,128,128,.14);color:inherit;"
    "padding:.1em .35em;border-radius:.3em;overflow-wrap:anywhere"
)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_PAGE: Final = (
    ":root{color-scheme:light dark}body{margin:0 auto;padding:1.2em;max-width:76em;background:Canvas;color:CanvasText;"
    "font:15px/1.5 system-ui,sans-serif}"
)


def to_html(report: Report) -> str:
    """The report as a part of a page: it brings nothing with it and takes its colours from the page, light or dark."""
    parts = [
        '<div style="color:inherit;background:transparent;font-family:inherit;max-width:76em;line-height:1.45">',
        f'<h2 style="margin:.2em 0;font-size:1.35em">{TITLE}</h2>',
        f'<p style="margin:.2em 0 .8em;{_FAINT}">{_text(span(report))}</p>',
        _cards(report),
        _list(report.findings),
        _recommendations(report),
        _pictures(report),
        *(_table(table) for table in tables(report)),
        "</div>",
    ]
    return "".join(parts)


def to_page(report: Report) -> str:
    """The report as a whole page that needs nothing else and may load nothing."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        f"<title>{TITLE}</title><style>{_PAGE}</style></head><body><main>{to_html(report)}</main></body></html>\n"
    )


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f'<ul style="margin:.8em 0;padding-left:1.3em">{items}</ul>'


def _cards(report: Report) -> str:
    """The figures that are looked for first."""
    found = []
    if report.measured.calls:
        unknown = f", {number(report.measured.unpriced)} calls unknown" if report.measured.unpriced else ""
        found.append(("Spent", money(report.measured.cost_usd), f"measured{unknown}"))
    if report.estimated.calls:
        found.append(("Spent beside that", money(report.estimated.cost_usd), "estimated"))
    if report.saved.applied or report.net_saved_usd is not None:
        found.append(("Saved, net", money(report.net_saved_usd), "estimated"))
    if report.cache.hit_rate is not None:
        low, high = wilson(report.cache.hits, report.cache.eligible)
        found.append(("Cache hit rate", percent(report.cache.hit_rate), f"95%: {percent(low)} to {percent(high)}"))
    if not found:
        return ""
    cards = "".join(
        f'<div style="{_CARD}"><div style="{_FAINT}">{_text(label)}</div>'
        f'<div style="font-size:1.5em;font-weight:600">{_text(figure)}</div>'
        f'<div style="{_FAINT};font-size:.88em">{_text(note)}</div></div>'
        for label, figure, note in found
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:.7em">{cards}</div>'


def _recommendations(report: Report) -> str:
    if not report.recommendations:
        return ""
    items = "".join(_recommendation(one) for one in report.recommendations)
    return (
        f"{_heading('Recommendations')}"
        f'<p style="margin:.2em 0;{_FAINT}">{_text(above_recommendations(report))}</p>'
        f'<ol style="margin:.4em 0;padding-left:1.6em">{items}</ol>'
    )


def _recommendation(one: Recommendation) -> str:
    worth = saving(one)
    told = f"{one.basis}; {one.confidence} confidence: {one.why}. {one.caveat}"
    return (
        f'<li style="margin:.5em 0"><b>{_text(one.title)}</b>{f"<br/>{_text(worth)}" if worth else ""}'
        f'<br/><code style="{_CODE}">{_text(one.change)}</code>'
        f'<br/><span style="{_FAINT};font-size:.92em">{_text(told[0].upper() + told[1:])}</span></li>'
    )


def _pictures(report: Report) -> str:
    drawn = "".join(
        f'<figure style="margin:0;flex:1 1 26em;max-width:560px"><figcaption style="margin:.6em 0 .2em;'
        f'font-weight:600">{_text(title)}</figcaption>{picture}</figure>'
        for title, picture in pictures(report)
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:.6em 2em;margin:.6em 0">{drawn}</div>' if drawn else ""


def _table(table: Table) -> str:
    rows = []
    for tag, row in [('th scope="col"', table.head), *(("td", row) for row in table.rows)]:
        cells = "".join(
            f'<{tag} style="{_CELL}{"right" if table.on_the_right(n) else "left"}">{_text(cell)}</{tag[:2]}>'
            for n, cell in enumerate(row)
        )
        rows.append(f'<tr style="{_LINE}">{cells}</tr>')
    drawn = (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;color:inherit;background:transparent;'
        f'font-variant-numeric:tabular-nums"><thead>{rows[0]}</thead><tbody>{"".join(rows[1:])}</tbody></table></div>'
    )
    if not table.detail:
        return f"{_heading(table.title)}{drawn}"
    return f'<details style="margin:1em 0"><summary>{_text(table.title)}</summary>{drawn}</details>'


def _heading(text: str) -> str:
    return f'<h3 style="margin:1em 0 .2em;font-size:1.08em">{_text(text)}</h3>'


def _text(text: str) -> str:
    return html.escape(plain(text))
