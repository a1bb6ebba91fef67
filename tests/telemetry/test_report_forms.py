"""The forms of a report: all show the same figures, which are the sums over the events, and no name can do harm."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation, Who
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry.render_tables import tables
from langchain_tokopt.telemetry.report import Report
from langchain_tokopt.telemetry.report_figures import money
from langchain_tokopt.telemetry.report_reading import read_report
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url

NOW = 1_800_003_000.0
USD = Decimal


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


@pytest.fixture
def memory() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


def read(store: EventStore, *events: Event, **settings: Any) -> Report:
    store.write(events)
    return read_report(store, now=NOW, hours=24, **settings)


def node(name: str, spent: str, *, per: str = "month") -> dict[str, Any]:
    usd = {"limit": USD(50), "spent": USD(spent), "held": USD(0), "left": None}
    none = {"limit": None, "spent": 0, "held": 0, "left": None}
    return {"node": name, "per": per, "scope": None, "resets_at": NOW, "usd": usd, "tokens": none, "calls": none}


STATUS = {"name": "default", "nodes": [node("global", "30"), node("team", "44")]}


# --- all forms agree -------------------------------------------------------------------------------------------------


def many(seed: int = 7) -> list[Event]:
    """Some hundred events of a day and the day before, with known sums."""
    lot = random.Random(seed)
    found: list[Event] = []
    for n in range(300):
        at = NOW - lot.uniform(1, 2 * 86_400)
        tokens = lot.randint(10, 5000)
        usage: Any = {"input_tokens": tokens, "output_tokens": 100, "total_tokens": tokens + 100}
        settings: Any = {"usage_source": lot.choice(["provider", "provider", "estimate"]), "usage": usage}
        found.append(
            ModelCall(
                at=at,
                who=Who(agent=lot.choice(["writer", "reader", None]), thread=f"t{n % 20}"),
                request=f"r{n}",
                model=lot.choice(["big", "small"]),
                provider="p",
                cost_usd=None if lot.random() < 0.1 else USD(lot.randint(1, 99)) / 10_000,
                internal=lot.random() < 0.1,
                latency_seconds=lot.uniform(0.1, 3),
                **settings,
            )
        )
        found.append(
            Decision(
                at=at,
                part=lot.choice(["tools", "history"]),
                action="applied",
                mode=lot.choice(["optimize", "shadow"]),
                tokens_before=500,
                tokens_after=lot.randint(100, 600),
                saved_usd=USD(lot.randint(-50, 100)) / 100_000,
                seconds=0.002,
            )
        )
        outcome: Any = lot.choice(["exact", "semantic", "miss", "bypass"])
        found.append(CacheLookup(at=at, outcome=outcome, saved_input_tokens=9, saved_usd=USD("0.001")))
    return found


def test_figures_are_the_sums_over_the_events(store: EventStore) -> None:
    events = many()
    found = read(store, *events)
    ours = [event for event in events if event.at >= NOW - 86_400]
    calls = [event for event in ours if isinstance(event, ModelCall)]

    def cost(source: str, given: list[ModelCall] = calls) -> Decimal:
        return sum((one.cost_usd or USD(0) for one in given if one.usage_source == source), USD(0))

    assert found.measured.cost_usd == cost("provider")
    assert found.estimated.cost_usd == cost("estimate")
    for many_of in (found.slices, found.agents):
        assert sum((one.measured_usd or USD(0) for one in many_of), USD(0)) == cost("provider")
        assert sum((one.estimated_usd or USD(0) for one in many_of), USD(0)) == cost("estimate")
        assert sum(one.calls for one in many_of) == len(calls)
    assert sum((one.measured.cost_usd or USD(0) for one in found.models), USD(0)) == cost("provider")
    measured = [one for one in calls if one.usage_source == "provider" and not one.internal and one.usage]
    assert found.tokens is not None
    assert found.tokens.input == sum(one.usage["input_tokens"] for one in measured if one.usage)
    lookups = [event.outcome for event in ours if isinstance(event, CacheLookup)]
    hits = sum(outcome in ("exact", "semantic") for outcome in lookups)
    assert sum(one.hits for one in found.slices) == found.cache.hits == hits
    saved = [event for event in ours if isinstance(event, (Decision, CacheLookup)) and event.mode == "optimize"]
    total = sum(
        (
            event.saved_usd or USD(0)
            for event in saved
            if isinstance(event, Decision) or event.outcome in ("exact", "semantic")
        ),
        USD(0),
    )
    assert sum((one.saved_usd or USD(0) for one in found.slices), USD(0)) == found.saved.usd == total
    before = [one for one in events if isinstance(one, ModelCall) and one.at < NOW - 86_400]
    assert found.before is not None
    assert found.before.measured_usd == cost("provider", before)


class Read(HTMLParser):
    """What a browser sees of a page: tables, texts, tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.labels: list[str] = []
        self._in_cell = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.labels += [value or "" for name, value in attrs if name == "aria-label"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.tables[-1][-1][-1] += data


def test_every_form_shows_the_same_figures(memory: EventStore) -> None:
    found = read(memory, *many(), budgets=STATUS)
    expected = [[list(table.head), *map(list, table.rows)] for table in tables(found)]
    titles = [table.title for table in tables(found)]
    assert titles[:4] == ["Model calls", "By model", "By agent", "Savings (estimates)"]
    page = Read(found.to_html())
    assert page.tables == expected
    markdown = [line for line in found.to_markdown().splitlines() if line.startswith("|") and "---" not in line]
    cells = [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line[1:-1].split(" | ")] for line in markdown]
    assert cells == [row for table in expected for row in table]
    text = found.to_text(width=400)
    detail = {table.title for table in tables(found) if table.detail}
    for table in tables(found):
        for row in table.rows if table.title not in detail else ():
            assert all(cell in text for cell in row if cell not in ("-", "unknown"))
    for finding in found.findings:
        assert finding in page.text
        assert finding in text
    shown = json.loads(found.to_json())
    assert shown["measured"]["cost_usd"] == str(found.measured.cost_usd)
    assert [one["change"] for one in shown["recommendations"]] == [one.change for one in found.recommendations]
    assert sum(Decimal(one["measured_usd"] or 0) for one in shown["slices"]) == found.measured.cost_usd


def test_pictures_say_their_figures(memory: EventStore) -> None:
    found = read(memory, *many())
    labels = Read(found.to_html()).labels
    assert [label.split(".")[0] for label in labels] == [
        "Cost per hour",
        "Cost by model",
        "Cost by agent",
        "Saved by part (estimates)",
        "Hit rate of the semantic cache per hour",
        "Tokens of agents' calls",
    ]
    cost, models, _, _, rate, tokens = labels
    assert f"{money(found.measured.cost_usd)} measured, {money(found.estimated.cost_usd)} estimated in all" in cost
    for model in found.models:
        shown = f"{money(model.measured.cost_usd)} measured, {money(model.estimated.cost_usd)} estimated"
        assert f"{model.model}: {shown}" in models
    assert f"{found.cache.hits:,} of {found.cache.eligible:,} requests" in rate
    assert found.tokens is not None
    assert f"{found.tokens.output:,} tokens" in tokens


# --- names that mean harm --------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "]]><!-- --><svg/onload=alert(1)>&lt;&#x3c;",
    "\x1b[2J\x1b]0;owned\x07\r\n\x00\u202egnp.exe\u2028\ufeff\uffff",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png) <http://evil.example>",
    "# heading\n- list\n| a | b |\n```\n$x^2$ ~~gone~~ `code`",
    "[bold red]markup[/] {braces} %s \\N",
    "long " * 4000,
]
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "div", "h2", "h3", "p", "ul", "ol", "li", "b", "br"),
    *("code", "span", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption"),
    *("svg", "g", "rect", "line", "text", "polyline", "circle"),
}


@pytest.fixture
def hostile(memory: EventStore) -> Report:
    events: list[Event] = []
    for n, text in enumerate(HOSTILE):
        who = Who(tenant=text, project=text, task=text, agent=text, user=text, thread=text, run=text, node=text)
        usage: Any = {"input_tokens": 1000 + n, "output_tokens": 100, "total_tokens": 1100 + n}
        settings: Any = {"who": who, "request": text, "usage": usage}
        for at in (NOW - 60, NOW - 7200):
            events += [
                ModelCall(at=at, model=text, provider=text, usage_source="provider", cost_usd=USD(n), **settings),
                ModelCall(at=at, model=text, provider=text, usage_source="estimate", **settings),
                ModelCall(at=at, model=text, provider=text, error=text, who=who),
                Decision(
                    at=at, part=text, action="applied", tokens_before=9, tokens_after=1, saved_usd=USD(n), who=who
                ),
                Decision(at=at, part=text, action="skipped", reason=text, who=who),
                CacheLookup(at=at, outcome="exact", reason=text, who=who),
                Failure(at=at, part=text, error=text, who=who),
                Reservation(at=at, action="refused", path=text, reason=text, who=who),
            ]
    status = [{"name": text, "nodes": [node(text, "49", per=text)]} for text in HOSTILE]
    pricing = Pricing(overrides={"x": Rates(input=USD(1), output=USD(1))})
    return read(memory, *events, budgets=[*status, {"name": HOSTILE[0], "error": HOSTILE[0]}], pricing=pricing)


@pytest.mark.parametrize("form", ["to_html", "_repr_html_"])
def test_html_holds_nothing_but_what_it_is_made_of(hostile: Report, form: str) -> None:
    page = getattr(hostile, form)()
    seen = Read(page)
    assert seen.tags <= ALLOWED
    names = {name for name, _ in seen.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href", "srcset", "action")}
    assert all("url(" not in (value or "") for name, value in seen.attributes if name == "style")
    assert "<script>alert(1)</script>" in seen.text
    assert len(page) < 150_000


@pytest.mark.parametrize("form", ["to_html", "_repr_html_"])
def test_html_is_well_formed(hostile: Report, form: str) -> None:
    page = getattr(hostile, form)().removeprefix("<!DOCTYPE html>\n")
    assert ET.fromstring(page).tag in ("html", "div")


def test_a_page_may_load_nothing(hostile: Report) -> None:
    page = hostile.to_html()
    assert 'content="default-src &#x27;none&#x27;; style-src &#x27;unsafe-inline&#x27;"' in page
    assert "color-scheme:light dark" in page


def test_markdown_holds_no_html_and_no_links(hostile: Report) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(hostile.to_markdown())
    flat = [token.type for token in tokens] + [child.type for token in tokens for child in token.children or ()]
    assert not {"html_block", "html_inline", "link_open", "image", "s_open", "fence", "code_block"} & set(flat)
    headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[:2] == ["What was spent and saved", "Recommendations"]
    assert [heading for heading in headings if "\\#" in heading or "heading" in heading] == []


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_is_sent_nothing_that_it_obeys(hostile: Report, width: int) -> None:
    text = hostile.to_text(width=width)
    assert [sign for sign in text if ord(sign) < 32 and sign != "\n"] == []
    assert not set("\u202e\u2028\ufeff\x7f") & set(text)
    assert "[bold red]" in text
    assert max(map(len, text.splitlines())) <= width


def test_plain_signs_do_where_a_terminal_has_no_others(memory: EventStore) -> None:
    class Ascii(StringIO):
        encoding = "ascii"  # type: ignore[assignment]

    out = Ascii()
    Console(file=out, width=100, color_system=None).print(read(memory, *many()))
    text = out.getvalue()
    assert "#### $" in text
    assert [sign for sign in text.replace("µ", "") if ord(sign) > 126] == []


def test_json_holds_names_as_they_are(hostile: Report) -> None:
    shown = json.loads(hostile.to_json())
    assert HOSTILE[0] in [one["agent"] for one in shown["agents"]]
