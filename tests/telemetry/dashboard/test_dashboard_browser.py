"""The page in a real browser: what it shows is what the events say, whatever they say, and for whoever looks at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from langchain_tokopt.telemetry.dashboard import Server, arrivals, dashboard_data
from tests.browser import Page
from tests.telemetry.dashboard.happenings import (
    ANN,
    HOSTILE,
    NOW,
    alert,
    budgets,
    call,
    day,
    forecast,
    hostile,
    many,
    report,
    store_of,
)

Show = Callable[..., Page]

# The exact value of a figure: in the title where the text is rounded.
_EXACT = """(within => {
  const figure = within.querySelector("span[title]:not(.bar)");
  return figure !== null && /^[\\u2212]?[$\\d][\\d.,]*$/.test(figure.title) ? figure.title : within.textContent.trim();
})"""
_TABLE = (
    f"""(root => Array.from(document.querySelectorAll(root + " tbody tr"), row => Array.from(row.cells, {_EXACT})))"""
)


def table(page: Page, root: str) -> list[list[str]]:
    rows: list[list[str]] = page.run(f"{_TABLE}({json.dumps(root)})")
    return rows


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({json.dumps(selector)}).textContent"))


def click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


def enter(page: Page, field: str, value: str, event: str) -> None:
    """Give a field a value, as if it were entered."""
    page.run(
        f"(field => {{ field.value = {json.dumps(value)}; field.dispatchEvent(new Event({event!r})); }})"
        f"(document.getElementById({field!r}))"
    )


def spent(page: Page) -> str:
    """What was spent by the head, measured, exact."""
    return str(page.run(f"{_EXACT}(document.querySelector('#head .big'))"))


def usd(shown: str) -> Decimal:
    return Decimal(shown.replace("$", "").replace(",", "").replace("\u2212", "-"))


def full() -> dict[str, Any]:
    """A day with something of everything."""
    return dashboard_data(
        store_of(day()),
        now=NOW,
        budgets=budgets(),
        forecasts={"shop": forecast()},
        alerts=[alert("slow")],
        report=report("All is well."),
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_head_says_what_was_spent_and_saved(show: Show) -> None:
    page = show(full())
    figures = page.run(f"Array.from(document.querySelectorAll('#head .big'), {_EXACT})")
    assert figures == ["$0.035000001", "$0.495300001", "3,390", "4"]
    said = text(page, "#head")
    assert "4 calls reported by providers. Price unknown for 1.+ $0.04 estimated, for 1 call." in said
    assert "3,350 in, 40 out.400 fewer by our estimate." in said
    assert "1 failed, 1 refused, 1 part stepped aside." in said


def test_tables_show_the_sums_over_the_events(show: Show) -> None:
    page = show(full())
    writer, planner = table(page, "#by")
    assert writer == ["writer", "$0.030000001", "-", "$0.500300001", "3,000", "1,500", "20", "2", "0", "50%"]
    assert planner == ["planner", "$0.005 +1 unpriced", "$0.04", "-", "350", "175", "20", "3", "1", "-"]
    click(page, "[data-focus='dimension-part']")
    assert {row[0]: row[1:4] for row in table(page, "#by")} == {
        "cache": ["$0.50", "100", "1"],
        "tools": ["$0.000300001", "300", "1"],
        "history": ["-", "-", "0"],
    }


def test_the_table_behind_a_chart_adds_up_to_the_total(show: Show) -> None:
    page = show(full())
    click(page, "[data-focus='table-spend']")
    rows = table(page, "#chart-spend")
    assert sum(usd(measured) for _, measured, _ in rows if measured != "-") == Decimal("0.035000001")
    assert [estimated for *_, estimated in rows if estimated != "-"] == ["$0.04"]
    assert text(page, "[data-focus='table-spend']") == "Hide table"


def test_another_span_of_time_shows_other_sums(show: Show) -> None:
    page = show(full())
    click(page, "[data-focus='window-0']")
    assert spent(page) == "$0.005"
    assert [row[0] for row in table(page, "#by")] == ["planner", "writer"]
    assert len(table(page, "#requests")) == 6
    click(page, "[data-focus='window-1']")
    assert len(table(page, "#requests")) == 7


def test_unknown_is_said_and_never_nothing(show: Show) -> None:
    page = show(full())
    rows = {row[4] + row[2]: row for row in table(page, "#requests")}
    assert rows["failedbob"][5:9] == ["unknown"] * 4
    unpriced = next(row for row in table(page, "#requests") if row[5] == "300")
    assert unpriced[8] == "unknown"
    kinds = {row[0]: row[1:] for row in table(page, "#tokens")}
    assert kinds["Cache write"] == ["unknown"] * 3


def test_budgets_show_how_much_is_taken_and_what_is_to_come(show: Show) -> None:
    page = show(full())
    (row,) = table(page, "#budgets")
    assert row[0:2] == ["shop", "day"]
    assert row[2:7] == ["90%", "$4.25", "$0.25", "$0.50", "$5.00"]
    assert row[9] == "never"
    assert "$6.00 ($5.00 to $7.00)" in text(page, "#budgets")
    widths = page.run("Array.from(document.querySelectorAll('#budgets .track span'), each => each.offsetWidth)")
    whole = page.run("document.querySelector('#budgets .track').offsetWidth")
    assert [round(width / whole, 2) for width in widths] == [0.85, 0.05]


def test_where_a_figure_is_from_can_be_read(show: Show) -> None:
    page = show(full())
    said = text(page, "#by .source")
    assert f"Readings(store).calls(Span(since={NOW - 86400!r}, until={NOW!r}), by=('agent',))" in said
    assert f"SELECT * FROM tokopt_events WHERE kind = 'ModelCall' AND at >= {NOW - 86400!r}" in said


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_opens_to_all_that_happened_in_it(show: Show) -> None:
    page = show(full())
    click(page, "[data-focus='open-r1']")
    assert page.run("document.getElementById('request').open")
    said = text(page, "#request")
    assert "2 of 9 tools fit" in said
    assert "it would cost more than it saves" in said
    assert "Came in1,000 tokens, estimatedWent out2,000 tokens, measured" in said
    assert "3,000 in (1,500 read from the provider's cache), 20 out, $0.030000001" in said
    assert page.run("document.querySelectorAll('#request .steps > li').length") == 6
    page.press("Escape")
    assert not page.run("document.getElementById('request').open")
    page.wait("document.activeElement.dataset.focus === 'open-r1'")


def test_requests_are_found_by_any_word_and_by_outcome(show: Show) -> None:
    page = show(full())
    for words, count in (("BOB gpt", 3), ("tools fit", 1), ("r7", 1), ("nobody", 0), ("", 7)):
        enter(page, "find", words, "input")
        assert text(page, "#found") == f"{count} of the newest 7 requests"
    enter(page, "outcome", "refused", "change")
    assert [row[4] for row in table(page, "#requests")] == ["refused"]


def test_requests_are_sorted_with_the_unknown_last_either_way(show: Show) -> None:
    page = show(full())
    for way, known in (
        ("descending", ["$0.030000001", "$0.005\xa0+est."]),
        ("ascending", ["$0.005\xa0+est.", "$0.030000001"]),
    ):
        click(page, "[data-focus='sort-cost']")
        assert page.run("document.querySelector('#requests th[aria-sort]').getAttribute('aria-sort')") == way
        shown = [row[8] for row in table(page, "#requests")]
        assert (shown[:2], sorted(shown[2:])) == (known, ["-", "-", "-", "unknown", "unknown"])


def test_a_name_in_a_table_leads_to_its_requests(show: Show) -> None:
    page = show(full())
    click(page, "#by [data-focus='by-planner']")
    assert text(page, "#chip").startswith("agent = planner")
    assert {row[1] for row in table(page, "#requests")} == {"planner"}
    click(page, "#chip button")
    assert len(table(page, "#requests")) == 7


# --- empty, large, hostile -------------------------------------------------------------------------------------------


def test_nothing_recorded_is_a_page_that_says_so(show: Show) -> None:
    page = show(dashboard_data(store_of([]), now=NOW))
    assert "No requests yet." in text(page, "#requests")
    assert "Nothing was recorded" in text(page, "#by")
    assert page.run("Array.from(document.querySelectorAll('#charts .nothing')).length") == 4
    assert page.run("document.getElementById('budgets-section').hidden")


def test_a_week_of_many_events_is_paged_and_adds_up(show: Show) -> None:
    events = many(6_000)
    page = show(dashboard_data(store_of(events), now=NOW, hours=168))
    cost = sum(event.cost_usd for event in events if hasattr(event, "cost_usd"))
    assert usd(spent(page)) == cost
    assert sum(usd(row[1]) for row in table(page, "#by")) == cost
    assert text(page, "#found") == "2,000 of the newest 2,000 requests"
    assert (len(table(page, "#requests")), text(page, ".pages span")) == (25, "1 of 80")
    click(page, "[data-focus='turn-1']")
    assert text(page, ".pages span") == "2 of 80"
    click(page, "[data-focus='dimension-user']")
    rows = table(page, "#by")
    assert (len(rows), rows[-1][0]) == (26, "75 more")
    assert sum(usd(row[1]) for row in rows) == cost


def test_hostile_text_is_text(show: Show) -> None:
    events = [event for n, each in enumerate(HOSTILE) for event in hostile(each, n)]
    shown = dashboard_data(
        store_of(events),
        now=NOW,
        budgets=[budgets(each) for each in HOSTILE],
        alerts=[alert(each) for each in HOSTILE],
        report=report(*HOSTILE),
    )
    page = show(shown)
    for dimension in ("part", "model", "project", "user", "agent"):
        click(page, f"[data-focus='dimension-{dimension}']")
        assert len(table(page, "#by")) >= len(HOSTILE)
    for n in range(len(HOSTILE)):
        page.run(f"document.querySelectorAll('#requests tbody th button')[{n}].click()")
        page.press("Escape")
    assert page.run("document.title") == "Token costs - tokopt"
    assert page.run("document.querySelectorAll('script, img, iframe, object, main b').length") == 2
    said = page.run("document.body.innerText")
    assert "<img src=x onerror=" in said
    assert "\\u202egnirts desrever\\u202c" in said
    assert [sign for sign in "\u202e\u2066\x07\x1b\ufeff\u2028" if sign in said] == []
    page.resize(360, 800)
    assert page.run("document.documentElement.scrollWidth") == 360
    assert page.problems() == []


# --- whoever looks ---------------------------------------------------------------------------------------------------

_REACHABLE = """
Array.from(document.querySelectorAll("a[href], button:not(:disabled), input, select, summary, [tabindex='0']"))
  .filter(each => each.checkVisibility({visibilityProperty: true}) && each.closest("dialog") === null)
  .filter(each => each.type !== "radio" || each.checked).length"""
# Whether what has the focus has it for the first time, and shows it.
_FOCUS = """(at => {
  if (at === document.body) return null;
  window.seen ??= new Set();
  const first = !window.seen.has(at);
  window.seen.add(at);
  const ring = getComputedStyle(at.type === "radio" ? at.nextElementSibling : at);
  return [first, ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2];
})(document.activeElement)"""


def test_every_control_is_reached_by_keyboard_and_shows_it(show: Show) -> None:
    page = show(full())
    wanted, reached = page.run(_REACHABLE), 0
    for _ in range(wanted + 5):
        page.press("Tab")
        at = page.run(_FOCUS)
        if at is None or not at[0]:
            break
        assert at[1], page.run("document.activeElement.outerHTML")
        reached += 1
    assert reached == wanted


def test_a_chart_is_read_with_the_arrow_keys(show: Show) -> None:
    page = show(full())
    page.run("document.querySelector('[data-focus=plot-spend]').focus()")
    page.press("Home")
    first = text(page, "#chart-spend .reading")
    page.press("ArrowRight")
    second = text(page, "#chart-spend .reading")
    assert first != second
    assert "measured" in first
    page.press("End")
    assert "measured" in text(page, "#chart-spend .reading")


def test_radio_buttons_are_chosen_with_the_arrow_keys(show: Show) -> None:
    page = show(full())
    page.run("document.querySelector('[data-focus=dimension-agent]').focus()")
    page.press("ArrowRight")
    assert text(page, "#by thead th") == "Model"
    assert page.run("document.activeElement.dataset.focus") == "dimension-model"


def test_a_screen_reader_finds_its_way(show: Show) -> None:
    page = show(full())
    page.send("Accessibility.enable")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    landmarks = {role for role, _ in roles}
    assert {
        "banner",
        "main",
        "contentinfo",
        "search",
        "heading",
        "table",
        "columnheader",
        "rowheader",
        "status",
    } <= landmarks
    named = ("button", "radio", "combobox", "searchbox", "table", "region", "image", "radiogroup", "link")
    assert [role for role, name in roles if role in named and not name.strip()] == []
    headings = "Array.from(document.querySelectorAll('h1, h2, h3, h4')).filter(each => each.checkVisibility())"
    levels = page.run(f"{headings}.map(each => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert [n for n, level in enumerate(levels[1:]) if level > levels[n] + 1] == []


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_phone_needs_no_sideways_scrolling(show: Show, width: int) -> None:
    page = show(full())
    page.resize(width, 780)
    assert page.run("document.documentElement.scrollWidth") == width
    click(page, "[data-focus='open-r1']")
    assert page.run("(each => each.scrollWidth <= each.clientWidth)(document.getElementById('request'))")
    assert page.wait(f"document.querySelector('#chart-spend canvas').getBoundingClientRect().right <= {width}")


# Contrast by WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
_FAINT = """(() => {
  const paper = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const over = (colours) => {
    paper.clearRect(0, 0, 1, 1);
    for (const each of colours) { paper.fillStyle = each; paper.fillRect(0, 0, 1, 1); }
    return Array.from(paper.getImageData(0, 0, 1, 1).data).slice(0, 3);
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => rgb.reduce((sum, v, n) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][n], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const at = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !at.checkVisibility()) continue;
    if (at.closest("script, noscript, :disabled, .hidden, .uplot") !== null) continue;
    const below = [];
    for (let each = at; each; each = each.parentElement) below.unshift(getComputedStyle(each).backgroundColor);
    const [low, high] = [light(over(below)), light(over([...below, getComputedStyle(at).color]))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.push([walker.currentNode.data, ratio]);
  }
  return found;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(show: Show, blank: Page, dark: bool) -> None:
    blank.prefer(dark=dark)
    page = show(full())
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(18, 19, 21)" if dark else "rgb(246, 246, 244)")
    assert page.run(_FAINT) == []
    click(page, "[data-focus='open-r1']")
    assert page.run(_FAINT) == []


def test_the_theme_is_switched_and_charts_with_it(show: Show) -> None:
    page = show(full())
    seen = []
    for _ in range(3):
        seen.append((text(page, "#theme"), page.run("getComputedStyle(document.body).backgroundColor")))
        click(page, "#theme")
        page.wait("document.querySelectorAll('#charts canvas').length >= 3")
    light, dark = "rgb(246, 246, 244)", "rgb(18, 19, 21)"
    assert seen == [("Theme: auto", light), ("Theme: light", light), ("Theme: dark", dark)]


def test_nothing_moves_for_whoever_wants_it_still_and_paper_has_no_buttons(show: Show) -> None:
    page = show(full())
    moves = "each => parseFloat(getComputedStyle(each).transitionDuration) > 0"
    moving = f"Array.from(document.querySelectorAll('*')).filter({moves}).length"
    assert page.run(moving) == 0
    page.prefer(still=False)
    assert page.run(moving) > 0
    page.prefer(media="print")
    assert page.run("document.querySelector('.controls').checkVisibility()") is False
    assert page.run("document.getElementById('head').checkVisibility()")


def test_times_are_local_with_utc_beside_them(blank: Page, show: Show) -> None:
    blank.send("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    page = show(full())
    assert page.run("document.querySelector('#status time').textContent.endsWith('17:00:00')")
    assert page.run("document.querySelector('#status time').title") == "2027-01-15 08:00:00.000 UTC"


# --- live ------------------------------------------------------------------------------------------------------------

_ASK = "document.dispatchEvent(new Event('visibilitychange'))"


def test_a_file_says_how_old_it_is(show: Show) -> None:
    assert text(show(full()), "#status").startswith("Snapshot of ")


def test_a_new_event_appears_on_an_open_page(blank: Page) -> None:
    store = store_of(day())
    with Server(lambda: dashboard_data(store, now=NOW), version=lambda: arrivals(store), port=0) as server:
        blank.open(server.url)
        assert text(blank, "#status").startswith("Live, as of ")
        blank.run("document.querySelector('[data-focus=sort-cost]').focus()")
        store.write([call(NOW - 1, ANN, 77, "7.000000007", request="new")])
        blank.run(_ASK)
        blank.wait("document.querySelector('#head .big span').title === '$7.035000008'")
        assert text(blank, "#found") == "8 of the newest 8 requests"
        assert blank.run("document.activeElement.dataset.focus") == "sort-cost"
        blank.run(_ASK)
        assert blank.problems() == []
        assert {url.rpartition("/")[2] for url in blank.requested()} == {"", "data.json"}


def test_a_page_whose_server_is_gone_says_that_it_is_stale(blank: Page) -> None:
    store = store_of(day())
    with Server(lambda: dashboard_data(store, now=NOW), port=0) as server:
        blank.open(server.url)
    blank.run(_ASK)
    blank.wait("document.getElementById('status').className === 'lost'")
    assert text(blank, "#status").startswith("Stale: the server does not answer.")
    assert len(table(blank, "#requests")) == 7
