"""Small pictures: as long as the figures say, hollow where estimated, marked where unknown, and told in words."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from langchain_tokopt.telemetry.pictures import Bar, Row, bars, columns, sparkline, stacked
from langchain_tokopt.telemetry.pictures_report import pictures
from langchain_tokopt.telemetry.report import ModelUsage, PartReport, Report, Saved, Usage
from langchain_tokopt.telemetry.report_details import Slice, TokenShares

USD = Decimal
HOUR = 1_800_000_000


def rects(picture: str) -> list[dict[str, str]]:
    return [shape.attrib for shape in ET.fromstring(picture).iter("rect")]


def texts(picture: str) -> list[str]:
    return [shape.text or "" for shape in ET.fromstring(picture).iter("text")]


def drawn(*slots: Row) -> str:
    return columns("Cost", slots, first="from", last="to", top="at most", words="the figures")


def test_bars_are_as_long_as_their_values() -> None:
    picture = bars("Cost", [Row("a", (Bar(4.0, "$4"),)), Row("b", (Bar(1.0, "$1"),)), Row("c", (Bar(0.0, "$0"),))])
    long, short = (float(one["width"]) for one in rects(picture))
    assert long == pytest.approx(4 * short)
    assert texts(picture) == ["a", "$4", "b", "$1", "c", "$0"]


def test_columns_are_as_high_as_their_values_and_stand_on_the_ground() -> None:
    picture = drawn(Row("1", (Bar(4.0, "$4"),)), Row("2", (Bar(1.0, "$1"),)), Row("3", (Bar(0.0, "no calls"),)))
    high, low = rects(picture)
    assert float(high["height"]) == pytest.approx(4 * float(low["height"]))
    assert {float(one["y"]) + float(one["height"]) for one in (high, low)} == {108.0}
    assert texts(picture) == ["at most", "from", "to"]


def test_what_is_estimated_is_hollow() -> None:
    measured, estimated = rects(bars("Cost", [Row("a", (Bar(1.0, "$1"), Bar(1.0, "$1", "estimated")))]))
    assert "fill-opacity" not in measured["style"]
    assert "fill-opacity:.25" in estimated["style"]
    assert "stroke:" in estimated["style"]


def test_what_nobody_knows_is_marked_and_has_no_length() -> None:
    (mark,) = rects(drawn(Row("1", (Bar(None, "unknown"),))))
    assert float(mark["height"]) == 2.0
    assert "--tokopt-other" in mark["style"]
    assert rects(bars("Cost", [Row("a", (Bar(None, "unknown"),))])) == []


def test_a_loss_is_in_another_tone() -> None:
    gain, loss = rects(bars("Saved", [Row("a", (Bar(2.0, "$2", "saved"),)), Row("b", (Bar(-1.0, "-$1", "lost"),))]))
    assert "--tokopt-saved" in gain["style"]
    assert "--tokopt-lost" in loss["style"]
    assert float(gain["width"]) == pytest.approx(2 * float(loss["width"]))


def test_shares_fill_the_bar_and_are_told_below_it() -> None:
    picture = stacked("Tokens", [("input", 300, "measured"), ("output", 100, "saved")])
    large, _, small, _ = (rects(picture)[n] for n in (0, 2, 1, 3))
    assert float(large["width"]) + 2 == pytest.approx(3 * (float(small["width"]) + 2))
    assert texts(picture) == ["input: 300 (75%)", "output: 100 (25%)"]


def test_a_line_is_broken_where_there_is_no_share() -> None:
    picture = sparkline("Rate", [0.0, 1.0, None, 0.5, None, 0.5, 0.5], first="a", last="b", words="50%")
    lines = [shape.attrib["points"] for shape in ET.fromstring(picture).iter("polyline")]
    assert [len(line.split()) for line in lines] == [2, 2]
    assert lines[0].split()[0].endswith(",88.0")
    assert lines[0].split()[1].endswith(",16.0")
    assert len(list(ET.fromstring(picture).iter("circle"))) == 1


@pytest.mark.parametrize(
    "picture",
    [
        drawn(Row("<1>", (Bar(4.0, "$4"),))),
        bars('"Cost"', [Row("<a>", (Bar(4.0, "$4"),))]),
        stacked("Tokens & more", [("<input>", 300, "measured")]),
        sparkline("Rate", [0.5, 0.5], first="<a>", last="b", words='"50%" & more'),
        bars("\x1b[2J\x00", [Row("\u202e\uffff", (Bar(1.0, "\x07"),))]),
    ],
)
def test_a_picture_is_well_formed_has_words_and_brings_nothing_with_it(picture: str) -> None:
    svg = ET.fromstring(picture)
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"].startswith(f"{svg[0].text}. ")
    assert svg[0].tag == "title"
    assert {shape.tag for shape in svg.iter()} <= {"svg", "title", "g", "rect", "line", "text", "polyline", "circle"}
    for foreign in ("http", "href", "url(", "<script", "<style", "id="):
        assert foreign not in picture


def test_text_is_in_the_colour_of_the_page_and_bars_can_be_recoloured() -> None:
    picture = drawn(Row("1", (Bar(4.0, "$4"), Bar(1.0, "$1", "estimated"))))
    assert set(re.findall(r"fill:([a-zA-Z(-]+)", picture)) == {
        "currentColor",
        "var(--tokopt-measured",
        "var(--tokopt-estimated",
    }
    assert "#" not in picture


def test_many_slots_need_no_more_than_a_few_kilobytes() -> None:
    slots = [Row(str(n), (Bar(1.0 + n, "$1"), Bar(1.0, "$1", "estimated"))) for n in range(24)]
    assert len(drawn(*slots)) < 14_000
    many = [Row(str(n), (Bar(1.0 + n, "$1"),)) for n in range(400)]
    picture = drawn(*many)
    assert "<g>" not in picture
    assert len(rects(picture)) == 400


def test_nothing_at_all_can_be_drawn() -> None:
    for picture in (drawn(), bars("Cost", []), stacked("Tokens", []), sparkline("R", [], first="", last="", words="")):
        assert ET.fromstring(picture).tag == "svg"


# --- of a report -----------------------------------------------------------------------------------------------------


def shown(report: Report) -> dict[str, str]:
    return dict(pictures(report))


def label(picture: str) -> str:
    return ET.fromstring(picture).attrib["aria-label"]


@pytest.fixture
def report() -> Report:
    usage = Usage(calls=2, cost_usd=USD(3))
    slices = (
        Slice(start=HOUR, calls=1, measured_usd=USD(1)),
        Slice(start=HOUR + 3600),
        Slice(start=HOUR + 7200, calls=2, measured_usd=USD(2), estimated_usd=USD("0.5"), hits=1, eligible=2),
        Slice(start=HOUR + 10_800, calls=1),
    )
    return Report(
        measured=usage,
        estimated=Usage(calls=1, cost_usd=USD("0.5")),
        models=(ModelUsage(provider="p", model="big", measured=usage, estimated=Usage()),),
        parts=(PartReport(part="tools", real=Saved(applied=1, usd=USD(-1)), shadow=Saved(applied=2, usd=USD(2))),),
        tokens=TokenShares(input=100, output=50, tools=80, grown=70),
        slice_seconds=3600,
        slices=slices,
    )


def test_the_pictures_of_a_report_tell_its_figures(report: Report) -> None:
    found = shown(report)
    assert list(found) == ["Cost per hour", "Cost by model", "Saved by part (estimates)", "Tokens of agents' calls"]
    assert label(found["Cost per hour"]) == (
        "Cost per hour. $3.00 measured, $0.50 estimated in all; at most $2.00, at 2027-01-15 10:00 UTC"
    )
    assert label(found["Cost by model"]) == "Cost by model. big: $3.00 measured"
    assert label(found["Saved by part (estimates)"]) == (
        "Saved by part (estimates). tools: -$1.00, $2.00 in shadow mode"
    )
    # Our counts of parts of the input are no more than the input.
    assert label(found["Tokens of agents' calls"]) == (
        "Tokens of agents' calls. schemas of tools, by our count: 80 tokens (53%); conversation so far, at least: 20 "
        "tokens (13%); output: 50 tokens (33%)"
    )


def test_slots_without_a_known_price_are_marked(report: Report) -> None:
    found = rects(shown(report)["Cost per hour"])
    assert [("other" in one["style"]) for one in found] == [False, False, False, True]


@pytest.mark.parametrize("given", [{}, {"slices": (Slice(start=HOUR, calls=1, measured_usd=USD(1)),)}])
def test_a_report_with_nothing_to_show_has_no_pictures(given: dict[str, Any]) -> None:
    assert shown(Report(**given)) == {}
