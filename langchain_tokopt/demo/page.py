"""The demo's figures as one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from html import escape

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.demo import show
from langchain_tokopt.demo.figures import PARTS, Pair, Totals
from langchain_tokopt.demo.outcome import Outcome
from langchain_tokopt.demo.run import Answer

STYLE = """
:root { color-scheme: light dark; --line: #c8ccd2; --soft: #f2f4f7; --text: #1b1f24; --page: #fff;
  --bare: #8a94a3; --less: #2f7d4f; }
@media (prefers-color-scheme: dark) { :root { --line: #3a414b; --soft: #1e2329; --text: #e4e7eb; --page: #14171b;
  --bare: #6f7a89; --less: #58b883; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 64rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
@media (max-width: 40rem) { table { font-size: .8rem; } th, td { padding: .3rem .25rem; } .how { display: block; } }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tbody th { font-weight: 400; }
tr.main td, tr.main th { font-weight: 700; } .how { opacity: .75; font-weight: 400; }
svg { width: 100%; height: auto; max-width: 44rem; } svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
.bare { fill: var(--bare); } .less { fill: var(--less); } .base { stroke: var(--line); }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.sides > div { min-width: 0; }
.message { background: var(--soft); border-radius: .4rem; padding: .4rem .6rem; margin: .5rem 0; }
.message pre { margin: .3rem 0 0; white-space: pre-wrap; font: 12px/1.4 ui-monospace, monospace; max-height: 20rem;
  overflow-y: auto; }
.who { font-size: .85rem; opacity: .75; }
"""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def page(outcome: Outcome) -> str:
    """The whole page as HTML. It loads nothing, runs nothing, and every text in it is escaped."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = [
        "<h1>What the optimiser saved</h1>",
        _paragraph(outcome.setting),
        chart(outcome.pairs),
        _table(outcome.pairs),
        *(_paragraph(note) for note in show.notes(outcome)),
        _paragraph(outcome.caveat),
        "<h2>Questions and answers</h2>",
        *(_example(*each) for each in show.examples(outcome.pairs[0])),
        _transcript(outcome.pairs),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>What the optimiser saved</title><style>{STYLE}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def text(value: str) -> str:
    """A text for HTML: escaped, and without the characters that HTML and UTF-8 cannot hold."""
    return escape(_CONTROL.sub("\ufffd", value))


def _paragraph(value: str) -> str:
    return f"<p>{text(value)}</p>"


def chart(pairs: Sequence[Pair]) -> str:
    """A bar for each bill as a share of the bare one."""
    known = [pair for pair in pairs if pair.difference is not None]
    if not known:
        return ""
    longest = max([Decimal(1), *(1 + (pair.difference or 0) for pair in known)])
    rows: list[str] = []
    for number, pair in enumerate(known):
        top = number * 74
        share = 1 + (pair.difference or Decimal(0))
        rows.append(f'<text x="0" y="{top + 16}">{text(pair.bare_run.table.title)}</text>')
        bars = (("bare", Decimal(1), pair.bare.cost_usd), ("less", share, pair.optimised.cost_usd))
        for place, (kind, value, amount) in enumerate(bars):
            width = round(float(value / longest) * 430, 1)
            y = top + 24 + place * 20
            said = f"{show.usd(amount)} USD" + (f", {show.percent(pair.difference)}" if place else " bare")
            rows.append(f'<rect class="{kind}" x="0" y="{y}" width="{width}" height="16"></rect>')
            rows.append(f'<text x="{width + 8}" y="{y + 13}">{text(said)}</text>')
    height = len(known) * 74
    label = "Billed cost of each run, bare and optimised"
    return f'<svg viewBox="0 0 620 {height}" role="img" aria-label="{label}">{"".join(rows)}</svg>'


def _table(pairs: Sequence[Pair]) -> str:
    played = [pair.bare_run.table for pair in pairs]
    heads = "".join(
        f'<th scope="col">{text(each.provider_title)}<br>{text(each.model_title)}'
        f'<br><span class="how">{text(each.caching)}</span></th>'
        for each in played
    )
    lines: list[str] = []

    def line(name: str, how: str, values: Iterable[str], kind: str = "") -> None:
        cells = "".join(f"<td>{text(value)}</td>" for value in values)
        shown = f' class="{kind}"' if kind else ""
        lines.append(f'<tr{shown}><th scope="row">{text(name)} <span class="how">{text(how)}</span></th>{cells}</tr>')

    figures: tuple[tuple[str, Callable[[Totals], str]], ...] = (
        ("model calls", lambda totals: f"{totals.calls:,}"),
        ("input tokens", lambda totals: f"{totals.input_tokens:,}"),
        ("of them cached", lambda totals: f"{totals.cache_read_tokens:,}"),
        ("output tokens", lambda totals: f"{totals.output_tokens:,}"),
        ("billed, USD", lambda totals: show.usd(totals.cost_usd)),
    )
    for name, shown in figures:
        line(name, "bare", (shown(pair.bare) for pair in pairs))
        line(name, "optimised", (shown(pair.optimised) for pair in pairs))
    line("difference of the bills", "measured", (show.percent(pair.difference) for pair in pairs), "main")
    for number, part in enumerate(PARTS):
        line(f"saved by {part}, USD", "estimate", (show.usd(pair.saved[number].usd) for pair in pairs))
    line("answered from cache", "", (f"{pair.cache_hits}" for pair in pairs))
    line("added time a call", "p50", (show.milliseconds(pair.added_p50_seconds) for pair in pairs))
    line("added time a call", "p95", (show.milliseconds(pair.added_p95_seconds) for pair in pairs))
    line("answers equal", "", (f"{pair.equal}/{len(pair.both)}" for pair in pairs), "main")
    head = f"<thead><tr><td></td>{heads}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _example(bare: Answer, optimised: Answer) -> str:
    again = " (asked before in other words)" if bare.asked.repeats is not None else ""
    answers = f"<br>{text(bare.text)}"
    if bare.text != optimised.text:
        answers = f"<br>Bare: {text(bare.text)}<br>Optimised: {text(optimised.text)}"
    return f"<p><strong>{text(bare.asked.text)}</strong>{again}{answers}</p>"


# --- one question, both ways -----------------------------------------------------------------------------------------


def _transcript(pairs: Sequence[Pair]) -> str:
    """The question whose prompt was shortened most, as the model was sent it in the last call."""
    both = [(pair, one, two) for pair in pairs for one, two in pair.both if one.prompt and two.prompt]
    if not both:
        return ""
    pair, bare, optimised = max(both, key=lambda each: _size(each[1]) - _size(each[2]))
    return (
        f"<h2>One question both ways</h2><p>{text(bare.asked.text)}</p>"
        f"<p>This is what the model was sent in its last call for this question, from the question on"
        f" ({text(pair.bare_run.table.title)}). The thread itself keeps every message as it was.</p>"
        f'<div class="sides">{_side("Bare", bare)}{_side("Optimised", optimised)}</div>'
    )


def _size(answer: Answer) -> int:
    return sum(len(message.text) for message in answer.prompt)


def _side(title: str, answer: Answer) -> str:
    shown = "".join(_message(message) for message in answer.prompt)
    said = f'<div class="message"><span class="who">answer</span><pre>{text(answer.text)}</pre></div>'
    return f"<div><h3>{title}: {answer.tools} tools, {_size(answer):,} characters</h3>{shown}{said}</div>"


def _message(message: BaseMessage) -> str:
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = "\n".join(f"{c['name']}({json.dumps(c['args'], ensure_ascii=False)})" for c in message.tool_calls)
        return _box("the model calls", calls)
    if isinstance(message, ToolMessage):
        return _box(f"result of {message.name or 'a tool'}", message.text)
    return _box("question" if isinstance(message, HumanMessage) else message.type, message.text)


def _box(who: str, said: str) -> str:
    return f'<div class="message"><span class="who">{text(who)}</span><pre>{text(said)}</pre></div>'
