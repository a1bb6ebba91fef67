"""What is left out of a tool's text, and what is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as examples

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.lossless.tool_output import looks_like_code, shorter_text, tidy
from tests.strategies import tool_texts

PYTHON = "import os\n\n\n\ndef main(path):   \n    if path:\n        return os.listdir(path)\n\n\n\n\n"
DIFF = "diff --git a/x b/x\n@@ -1,3 +1,3 @@\n one \n \n\n\n\n-two\t\n+\x1b[32mthree\x1b[0m\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[1;31mFAILED\x1b[0m test_a \x1b[38;5;120mok\x1b[m", "FAILED test_a ok"),
        ("\x1b]0;title of the window\x07done\x1b(B", "done"),
        ("\x1b[2K\x1b[1Gline\x1b[?25h", "line"),
        ("\x1b]8;;https://example.org\x07link\x1b]8;;\x07", "\x1b]8;;https://example.org\x07link\x1b]8;;\x07"),
        ("10 %\r55 %\r100 %\ndone", "100 %\ndone"),
        ("a long first state\rshort", "shortg first state"),
        ("one\r\ntwo\r\n", "one\ntwo"),
        ("a  \n\n\n\n\nb\t\n\n", "a\n\nb"),
        ("\n\n  indented stays\n", "  indented stays"),
        ("=" * 200 + "\nruler", "=" * 200 + "\nruler"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_tidy(text: str, expected: str) -> None:
    assert tidy(text) == expected


@examples(deadline=None)
@given(tool_texts())
def test_tidying_twice_is_tidying_once(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


@examples(deadline=None)
@given(tool_texts())
def test_nothing_but_whitespace_goes_from_a_text_without_terminal_codes(text: str) -> None:
    if "\x1b" not in text and "\r" not in text:
        assert tidy(text).split() == text.split()
        kept = [line.rstrip(" \t") for line in text.split("\n") if line.strip(" \t")]
        assert [line.rstrip(" \t") for line in tidy(text).split("\n") if line.strip(" \t")] == kept


def test_a_text_whose_escapes_join_to_new_ones_is_left_alone() -> None:
    assert tidy("\x1b\x1b[0m[0mtext") == "\x1b\x1b[0m[0mtext"


@pytest.mark.parametrize("code", [PYTHON, DIFF, "```\na  \n\n\n\nb\n```", "  1\tone  \n\n\n  2\ttwo  \n  3\tthree\n"])
def test_code_and_diffs_keep_their_line_ends_and_blank_lines(code: str) -> None:
    assert looks_like_code(code)
    assert tidy(code) == code


def test_colours_go_from_code_but_not_from_diffs() -> None:
    assert tidy(PYTHON.replace("main", "\x1b[33mmain\x1b[0m")) == PYTHON
    assert tidy(DIFF) == DIFF


@pytest.mark.parametrize(
    "text", ["INFO started\nINFO stopped\n", "total 12\ndrwxr-xr-x 2 root 4096 Oct 24 .\n", "Prose.\n\nMore."]
)
def test_logs_listings_and_prose_are_no_code(text: str) -> None:
    assert not looks_like_code(text)


def test_each_change_is_named_and_must_save_enough() -> None:
    pretty = json.dumps({"numbers": list(range(9))}, indent=4)
    bar = "\r".join(f"{n} % of 812 files are downloaded" for n in range(101))
    last = "100 % of 812 files are downloaded"
    assert shorter_text(pretty, len, 8, json=True, whitespace=True) == ("numbers: [0,1,2,3,4,5,6,7,8]", "json")
    assert shorter_text(pretty, len, 8, json=False, whitespace=True) == (pretty, None)
    assert shorter_text(bar, len, 8, json=True, whitespace=True) == (last, "whitespace")
    assert shorter_text(bar, len, 8, json=True, whitespace=False) == (bar, None)
    assert shorter_text(bar, len, 10_000, json=True, whitespace=True) == (bar, None)
    assert shorter_text("a   \n", len, 4, json=True, whitespace=True) == ("a", "whitespace")
    assert shorter_text("a   \n", len, 5, json=True, whitespace=True) == ("a   \n", None)


def test_a_text_never_becomes_empty() -> None:
    colours = "\x1b[31m\x1b[0m" * 100
    assert shorter_text(colours, len, 1, json=True, whitespace=True) == (colours, None)


def test_odd_texts_take_linear_time() -> None:
    # Each of these took quadratic time with a careless pattern; at this size that would be minutes.
    for text in (
        " " * 500_000 + "x",
        "\n" * 500_000,
        "\x1b[" * 200_000,
        "\x1b]0;" * 100_000,
        "{ " * 200_000,
        "\r" * 500_000,
    ):
        assert len(tidy(text)) <= len(text)


def test_the_size_of_a_long_text_is_taken_from_samples() -> None:
    line = "the quick brown fox jumps over the lazy dog 42 times\n"
    exact = text_size(line * 1_000) / 1_000
    assert text_size(line * 100_000) == pytest.approx(exact * 100_000, rel=0.02)
