from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.context.ranking.sentences import sentences


def cut(text: str) -> list[str]:
    return [sentence.strip() for sentence in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He came. He saw! Did he win?", ["He came.", "He saw!", "Did he win?"]),
        ("Dr. Smith met Mr. J. R. Jones. They talked.", ["Dr. Smith met Mr. J. R. Jones.", "They talked."]),
        ("It is 3.5 p.m. on Jan. 5. It costs $3.50.", ["It is 3.5 p.m. on Jan. 5.", "It costs $3.50."]),
        (
            "The U.S. Army came. She left the U.S. He stayed.",
            ["The U.S. Army came.", "She left the U.S.", "He stayed."],
        ),
        ("See Fig. 3 and No. 5, e.g. Berlin. No. That is wrong.", ["See Fig. 3 and No. 5, e.g. Berlin.", "No."]),
        ('"Really?" she asked. "Yes!" (He nodded.) Then', ['"Really?" she asked.', '"Yes!"', "(He nodded.)", "Then"]),
        ("Well... maybe not. Call a.b() in x.py now.", ["Well... maybe not.", "Call a.b() in x.py now."]),
        (
            "\u4eca\u5929\u597d\u3002\u8d70\u5427\uff01\u597d",
            ["\u4eca\u5929\u597d\u3002", "\u8d70\u5427\uff01", "\u597d"],
        ),
        (
            "Das ist z.B. ein Satz. \u00dcber alles. \u00bfQu\u00e9? S\u00ed.",
            ["Das ist z.B. ein Satz.", "\u00dcber alles."],
        ),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert cut(text)[: len(expected)] == expected


def test_each_line_of_a_list_is_one_and_its_number_ends_none() -> None:
    assert cut("Buy:\n- bread\n- milk\n1. First thing.\n2. Second thing\n") == [
        "Buy:",
        "- bread",
        "- milk",
        "1. First thing.",
        "2. Second thing",
    ]


def test_lines_that_are_full_go_on() -> None:
    text = "This line of a wrapped paragraph is long enough and it\ngoes on here. Short\nlines end."
    assert cut(text) == [
        "This line of a wrapped paragraph is long enough and it\ngoes on here.",
        "Short",
        "lines end.",
    ]


def test_code_is_cut_at_its_lines_and_a_fenced_block_not_at_all() -> None:
    assert sentences("def f(x):\n    return x.y\n\nz = 1\n") == ["def f(x):\n", "    return x.y\n\n", "z = 1\n"]
    assert sentences("See:\n```py\na = 1. \nb = C\n```\nDone. It works.") == [
        "See:\n",
        "```py\na = 1. \nb = C\n```\n",
        "Done. ",
        "It works.",
    ]


@given(st.text(alphabet="aB1.!?\"') \n`-\u3002\u2026\t", max_size=80) | st.text(max_size=80))
def test_joined_together_they_are_the_text(text: str) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize("piece", [".", '."', ". ", "\n", "a\n", "a", "```\n", "A. ", " "])
def test_long_texts_of_one_kind_are_cut(piece: str) -> None:
    text = piece * 100_000
    assert "".join(sentences(text)) == text
