"""An output in part: whole lines, what is left out named, and how to get the rest."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.trimming import Trimmed, Wanted, identifiers, trimmed
from langchain_tokopt.context.trimming.trim import LEAST_SAVED, MOST_PIECES
from tests.context.in_part import handles, log
from tests.strategies import odd_texts, tool_texts

_GAP = re.compile(r"\[(?:\d+ lines?|\d+ characters)(?:: [^\n]*)?\]")


def part(text: str, tokens: int = 150, **more: object) -> Trimmed:
    found = trimmed(text, tokens, **more)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_lines_that_matter_stay_and_the_others_are_counted() -> None:
    lines = log(1, 80).split("\n")
    lines[40] = "ERROR job/000001 failed: the disk is full"
    found = part("\n".join(lines), 120, wanted=Wanted(call="why did job/000001 fail"))
    shown = found.text.split("\n")
    assert lines[40] in shown
    left_out = sum(int(line[1:].split()[0]) for line in shown if re.match(r"\[\d+ line", line))
    assert left_out + sum(line in lines for line in shown) == 80


def test_the_last_line_says_how_to_get_all_of_it() -> None:
    text = log(1)
    found = part(text)
    assert found.handle == handle(text)
    assert found.text.endswith(f'\n[shown in part; retrieve_original("{found.handle}") has all of it]')
    assert part(text, tool="retrieve_original_2").text.endswith(f'retrieve_original_2("{found.handle}") has all of it]')


def test_without_a_tool_it_only_says_that_there_is_more() -> None:
    assert part(log(1), tool=None).text.endswith("\n[shown in part]")


def test_the_handle_is_that_of_the_original() -> None:
    assert part(log(1), original="what the tool gave").handle == handle("what the tool gave")


def test_new_names_of_what_is_left_out_are_named_once() -> None:
    modules = [f"module_{n * n}" for n in range(5, 55)]
    text = "\n".join(f"a line of plain words and then {name} again\nand {name} once more" for name in modules)
    found = part(text, 60)
    gaps = [name for gap in re.findall(_GAP, found.text) for name in identifiers(gap)]
    assert len(gaps) == len(set(gaps))
    assert set(modules) <= set(identifiers(found.text))


def test_names_that_are_shown_elsewhere_are_not_named() -> None:
    text = "\n".join(f"a line of plain words and then module_{n}" for n in range(100))
    seen = {f"module_{n}" for n in range(100)}
    found = part(text, 60, seen=seen)
    assert not any("module_" in gap for gap in _GAP.findall(found.text))


@pytest.mark.parametrize("tokens", [0, -5])
def test_with_no_room_names_are_left(tokens: int) -> None:
    found = part(log(1), tokens)
    assert found.text.startswith("[60 lines: ")
    assert found.tokens < text_size(log(1)) / 2


@pytest.mark.parametrize("text", ["", "\0", "short", "a\nb\n", "\ud800" * 5])
def test_what_is_small_stays(text: str) -> None:
    assert trimmed(text, 0) is None


def test_what_fits_stays() -> None:
    text = log(1)
    assert trimmed(text, text_size(text)) is None
    assert trimmed(text, text_size(text) - LEAST_SAVED) is None


def test_json_on_one_line_is_cut_between_values() -> None:
    rows = [{"id": n, "name": f"user_{n}", "note": "nothing much to say about this one"} for n in range(200)]
    rows[120]["note"] = "error: the card was refused"
    text = json.dumps(rows)
    found = part(text, 200, wanted=Wanted(call="refused card"))
    assert "error: the card was refused" in found.text
    assert re.search(r"\[\d+ characters(: [^\]]*)?\]", found.text)
    outside = _GAP.split(found.text.rsplit("\n", 1)[0])
    assert all(one.strip() in text for one in outside)


def test_windows_lines_stay_whole() -> None:
    text = log(1).replace("\n", "\r\n")
    kept = [line for line in part(text).text.split("\n")[:-1] if not _GAP.fullmatch(line)]
    assert kept
    assert all(line in text.split("\n") for line in kept)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000,
        " " * 2_000_000,
        "漢字かな交じりの文章です。" * 20_000,
        "\n" * 200_000,
        "\n".join(f"line_{n}" for n in range(200_000)),
        "\ud800\0" * 100_000,
        "a_b." * 500_000,
        (" " * 599 + "\n") * 4_000,
        ("1" * 599 + "\n") * 8_000,
        ("a" * 598 + ":\n") * 8_000,
    ],
    ids=[
        "one line",
        "spaces",
        "Japanese",
        "blank lines",
        "many lines",
        "surrogates",
        "one name",
        "padding",
        "digits",
        "colons",
    ],
)
def test_huge_outputs_are_shown_in_part(text: str) -> None:
    found = trimmed(text, 500, wanted=Wanted("line_7", "find line_7"))
    assert found is None or (found.tokens < text_size(text) and found.tokens == text_size(found.text))


def test_of_very_many_pieces_the_first_and_the_last_ones_are_looked_at() -> None:
    lines = ["the first line", *["a line of plain words"] * 3 * MOST_PIECES, "the last line"]
    found = part("\n".join(lines), 2_000)
    assert found.text.startswith("the first line\n")
    assert "\nthe last line\n" in found.text


def test_of_very_many_names_only_some_are_named() -> None:
    found = part("\n".join(f"a line of plain words and then module_{n}" for n in range(10_000)), 500)
    assert found.tokens < 4_500
    assert "module_" in found.text


def test_text_that_looks_like_a_mark_is_shown_as_any_other() -> None:
    mark = '[shown in part; retrieve_original("0123abcd") has all of it]'
    found = part(f"{mark}\n{log(1)}\n[3 lines: a_name]")
    assert found.text.split("\n")[-1] != mark
    assert handles(found.text)[-1] == found.handle


@given(
    st.one_of(tool_texts(), st.builds("{}\n{}".format, tool_texts(), st.integers(0, 5).map(log))),
    st.integers(0, 400),
    odd_texts(),
    st.booleans(),
)
def test_a_part_is_shorter_and_has_whole_lines_in_their_order(
    text: str, tokens: int, call: str, one_line: bool
) -> None:
    text = text.replace("\n", ", ") if one_line else text
    found = trimmed(text, tokens, wanted=Wanted(call, "find the job"))
    assert found == trimmed(text, tokens, wanted=Wanted(call, "find the job"), size=text_size(text))
    if found is None:
        return
    assert found.tokens == text_size(found.text) <= text_size(text) - LEAST_SAVED
    assert found.handle == handle(text)
    lines = text.split("\n")
    short = [line for line in lines if len(line) <= 600]
    at = 0
    for line in found.text.split("\n")[:-1]:
        if line in short:
            at = lines.index(line, at) if line in lines[at:] else at
        else:
            assert _GAP.search(line) or any(line in whole for whole in lines)
