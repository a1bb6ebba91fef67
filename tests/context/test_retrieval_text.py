"""Parts of a text: pages that add up to all of it, and the lines that match."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.retrieval_lines import lines_from
from langchain_tokopt.context.retrieval_text import PAGE_TOKENS, PASSAGES_TOKENS, page, passages, sendable

LINES = [f"{n}: the order of customer {n * 7919 % 1000} was sent" for n in range(1, 3001)]
FILE = "\n".join(LINES)
ONE_LINE = " ".join(LINES)


def read_on(shown: str) -> tuple[str, dict[str, int]] | None:
    """The text of a page that is not the last, and what its end says to go on with."""
    if found := re.fullmatch(r"(.*\n)\[lines \d+-\d+ of \d+: go on with start=(\d+)\]", shown, re.DOTALL):
        return found[1], {"start": int(found[2])}
    if found := re.fullmatch(r'(.*)\n\[\d+ characters are left: go on with id="x\+(\d+)"\]', shown, re.DOTALL):
        return found[1], {"offset": int(found[2])}
    return None


def all_pages(text: str) -> list[str]:
    pages, place = [], {"start": 1}
    while True:
        part = page(text, "x", **place)
        assert not part.error
        more = read_on(part.text)
        if more is None:
            return [*pages, part.text]
        pages.append(more[0])
        place = more[1]


@pytest.mark.parametrize("text", ["a", "two\nlines", "ends\n", "\n", "\r\n\r\n", "\x00", "é\u2028\x0b", FILE[:9000]])
def test_a_text_that_fits_is_given_as_it_is(text: str) -> None:
    assert page(text, "x").text == text


def test_an_empty_text_is_said_to_be_empty() -> None:
    assert page("", "x").text == "(The text is empty.)"


LONG = {
    "lines": FILE,
    "one line": ONE_LINE,
    "Windows": FILE.replace("\n", "\r\n"),
    "old Mac": FILE.replace("\n", "\r"),
    "a long line between": FILE[:5000] + ONE_LINE + FILE,
    "a long line after none": "\n\n\n" + ONE_LINE,
    "a long word": "x" * 50_000 + "\n" + FILE,
    "NUL": "\x00" * 300_000,
    "no line has anything": "\n" * 300_000,
    "spaces": " " * 300_000,
    "Chinese": "字" * 30_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_the_pages_of_a_long_text_add_up_to_it(text: str) -> None:
    pages = all_pages(text)
    assert len(pages) > 1
    assert "".join(pages) == text
    assert max(map(text_size, pages)) <= PAGE_TOKENS + 50


PIECES = ["\n", "\r\n", "\r", "\x00", " ", "word ", "字", "=" * 70, "lines 1-2", "x" * 900, FILE[:4000]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["\n", "\r\n", "\r", "\x00", " ", "word ", "字", "=" * 70, "lines 1-2", "x" * 900, FILE[:4000]])
    ),
    st.integers(1, 12),
)
@example(["[lines 1-2 of 3: go on with start=2]\n"], 1)
def test_no_character_of_any_text_is_lost(pieces: list[str], times: int) -> None:
    text = "".join(pieces) * times
    if text and read_on(text) is None:
        assert "".join(all_pages(text)) == text


def test_a_page_begins_at_the_line_that_is_wanted_and_names_its_lines() -> None:
    shown = page(FILE, "x", start=1000).text.split("\n")
    assert shown[:2] == LINES[999:1001]
    last = int(shown[-2].split(":")[0])
    assert shown[-1] == f"[lines 1000-{last} of 3000: go on with start={last + 1}]"
    assert page(FILE, "x", start=2999).text == "\n".join(LINES[-2:])


@pytest.mark.parametrize("place", [{"start": 3001}, {"offset": len(FILE)}, {"offset": 10**11}, {"start": 10**11}])
@pytest.mark.parametrize("query", [None, "order"])
def test_past_the_end_there_is_nothing(place: dict[str, int], query: str | None) -> None:
    part = page(FILE, "x", **place) if query is None else passages(FILE, "x", query=query, **place)
    assert part.error
    assert part.text == f"The text has only 3000 lines and {len(FILE)} characters."


@pytest.mark.parametrize(
    ("text", "sent"), [("a\ud800b", "a\\ud800b"), ("\udcff\x00", "\\udcff\x00"), ("\U0001f600é", "\U0001f600é")]
)
def test_what_utf8_cannot_hold_is_written_out(text: str, sent: str) -> None:
    assert sendable(text) == sent
    assert sendable(text).encode()


# --- what matches ----------------------------------------------------------------------------------------------------


def test_lines_that_match_come_with_their_numbers_and_those_beside_them() -> None:
    lines = [*LINES[:1500], "the PARCEL got lost in Vienna", *LINES[1500:]]
    shown = passages("\n".join(lines), "x", query="lost parcels").text.split("\n")
    assert shown == [
        f"1499: {LINES[1498]}",
        f"1500: {LINES[1499]}",
        "1501: the PARCEL got lost in Vienna",
        f"1502: {LINES[1500]}",
        f"1503: {LINES[1501]}",
        "[the best of 3001 lines: read on with start]",
    ]


def test_places_that_match_keep_their_order_and_gaps_are_marked() -> None:
    text = "\n".join([*LINES[:900], "lost", *LINES[900:1800], "lost lost lost", *LINES[1800:]])
    shown = passages(text, "x", query="lost").text.split("\n")
    numbers = [line.split(":")[0] for line in shown[:-1]]
    assert numbers == ["899", "900", "901", "902", "903", "--", "1800", "1801", "1802", "1803", "1804"]


def test_a_line_that_has_the_query_as_it_stands_is_better_than_its_words() -> None:
    text = "\n".join([*LINES, "user id get user id", *LINES, "return getUserId(7)", *LINES])
    shown = passages(text, "x", query="getUserId").text
    assert "return getUserId(7)" in shown


def test_each_name_that_is_asked_for_is_shown_where_it_stands() -> None:
    other = [f"raw id {n} of a foreign key, widget and model admin" for n in range(300)]
    text = "\n".join([*other, "class ForeignKeyRawIdWidget:", *other, "x = get_model_admin(7)", *other])
    shown = passages(text, "x", query="ForeignKeyRawIdWidget get_model_admin").text
    assert "301: class ForeignKeyRawIdWidget:" in shown
    assert "602: x = get_model_admin(7)" in shown


def test_a_piece_of_a_long_line_has_the_place_where_it_begins() -> None:
    text = f"{ONE_LINE} the parcel got lost {ONE_LINE}"
    shown = passages(text, "abc", query="parcel").text.split("\n")
    assert shown[-1] == '[the best of 1 lines: read on with start, or from +n with id="abc+n"]'
    for line in shown[:-1]:
        at, piece = line.split(": ", 1)
        assert text[int(at) :].startswith(piece)
    assert any("the parcel got lost" in line for line in shown)


def test_matches_are_looked_for_from_the_line_on_that_is_wanted() -> None:
    text = "\n".join(["lost at first", *LINES, "lost at last"])
    shown = passages(text, "x", query="lost", start=2).text
    assert "lost at last" in shown
    assert "lost at first" not in shown


@pytest.mark.parametrize("query", ["zebra", "!?", "the of", "\x00"])
def test_when_nothing_matches_it_says_how_to_read_on(query: str) -> None:
    text = FILE.replace("the", "a").replace("of", "at")
    part = passages(text, "x", query=query)
    assert part.text == "No line has a word of the query. Leave `query` out to read them, from `start` on."
    assert not part.error


def test_a_short_text_is_given_whole_whatever_is_asked() -> None:
    text = "\n".join(LINES[:30])
    assert passages(text, "x", query="zebra").text == text
    assert passages(FILE, "x", query="zebra", start=2990).text == "\n".join(LINES[2989:])


@pytest.mark.parametrize(
    "text", [FILE, ONE_LINE, "字句" * 20_000, "order\n" * 100_000, "İ order " * 9_000], ids=range(5)
)
@pytest.mark.parametrize("query", ["order", "order customer sent", "字句", "i̇"])
def test_what_matches_has_a_bound(text: str, query: str) -> None:
    assert 0 < text_size(passages(text, "x", query=query).text) <= 1.4 * PASSAGES_TOKENS


def test_lines_are_taken_apart_without_loss() -> None:
    text = f"\n\n{FILE}\n\n{ONE_LINE}\r\n{'x' * 3000}\n"
    rows = lines_from(text, 0)
    assert "".join(text[a:b] for a, b in zip(rows.begins, rows.ends, strict=True)) == text.replace("\n", "")
    numbers = [text.count("\n", 0, at) + 1 for at in rows.begins]
    assert rows.numbers.tolist() == numbers
    assert max(rows.ends - rows.begins) <= 400


def test_letters_that_are_longer_in_lower_case_do_not_shift_what_is_found() -> None:
    text = "\n".join(["İİİİİİİİ", *LINES, "the parcel is lost", *LINES])
    assert "3002: the parcel is lost" in passages(text, "x", query="PARCEL").text
