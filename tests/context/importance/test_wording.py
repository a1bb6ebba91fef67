"""What is read in a text."""

from __future__ import annotations

import pytest

from langchain_tokopt.context.importance.facts import facts
from langchain_tokopt.context.importance.wording import decides, fails, identifiers, is_small_talk, read_part, words_of


def test_identifiers_are_paths_code_names_and_ids() -> None:
    text = 'open src/app/main.py, getUserById and user_id=mia_li_3668 for order JG7FMM of 2024: "well-known" words. 12'
    assert list(identifiers(text)) == ["src/app/main.py", "getUserById", "user_id", "mia_li_3668", "JG7FMM"]


def test_identifiers_of_a_long_text_are_looked_for_at_both_ends() -> None:
    text = "first_name " + "word " * 40_000 + "last_name"
    assert list(identifiers(text)) == ["first_name", "last_name"]


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):",
        "ValueError: no",
        "E   assert 1 == 2",
        "2 failed, 3 passed",
        "bash: foo: command not found",
        "fatal: not a git repository",
        "<returncode>1</returncode>",
    ],
)
def test_output_of_a_failure_is_known(text: str) -> None:
    assert fails(f"some output\n{text}\n")


@pytest.mark.parametrize("text", ["0 failed, 3 passed", "raise ValueError(x)", "<returncode>0</returncode>", ""])
def test_output_that_speaks_of_failures_is_none(text: str) -> None:
    assert not fails(text)


@pytest.mark.parametrize("text", ["Thanks!", "ok", "Yes, sounds good", "Hello, how are you?", "", "👍"])
def test_small_talk_is_known(text: str) -> None:
    assert is_small_talk(text, words_of(text))


@pytest.mark.parametrize("text", ["ok 2", "Thanks, delete it", "No, the other file", "yes " * 60, "danke schön"])
def test_what_says_more_is_no_small_talk(text: str) -> None:
    assert not is_small_talk(text, words_of(text))


def test_decisions_are_known() -> None:
    assert [
        decides(text, words_of(text)) for text in ("Let\u2019s go with MySQL", "The root cause is a lock", "What a day")
    ] == [
        True,
        True,
        False,
    ]


def test_facts_are_counted_by_kind() -> None:
    text = 'In March 2021 I met Ines, she said "come in" to my friend. I have painted last week.'
    assert facts(text, words_of(text)) == (1, 3, 2, 1, 3)


def test_a_long_text_is_read_at_both_ends() -> None:
    assert read_part("a" * 10, 4, 2) == "aaaa\naa"
    assert read_part("a" * 6, 4, 2) == "aaaaaa"
