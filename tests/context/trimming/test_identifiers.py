"""Which words of a text are names that a later message may need letter by letter."""

from __future__ import annotations

import pytest
from hypothesis import given

from langchain_tokopt.context.trimming.identifiers import LONGEST, SHORTEST, identifiers, is_identifier
from tests.strategies import odd_texts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("open /etc/hosts.conf please", ["/etc/hosts.conf"]),
        ("call get_user_by_id now", ["get_user_by_id"]),
        ("HttpClient and useEffect", ["HttpClient", "useEffect"]),
        ("mail ada.lovelace@example.org", ["ada.lovelace@example.org"]),
        ("https://example.org/a/b", ["https://example.org/a/b"]),
        ("C:\\Users\\ada", ["C:\\Users\\ada"]),
        ("commit 9f8e7d6c in v1.2", ["9f8e7d6c", "v1.2"]),
        ("ticket #48213 and order 1234567", ["#48213", "1234567"]),
        ("std::vector of ints", ["std::vector"]),
        ("twice: a_name_x a_name_x", ["a_name_x", "a_name_x"]),
    ],
)
def test_names_are_found_as_they_are_written(text: str, found: list[str]) -> None:
    assert list(identifiers(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Common words, Also In Capitals, and AN ACRONYM.",
        "well-known words with a hyphen",
        "on 2024-05-20 at 12:00:01",
        "10.5 % of 1200",
        "a.b i.e.",
        "---- ==== ....",
        "漢字だけの文章です",
    ],
)
def test_common_words_short_numbers_dates_and_times_are_none(text: str) -> None:
    assert list(identifiers(text)) == []


def test_a_file_and_its_line_are_one_name() -> None:
    assert list(identifiers("src/app/main.py:42: in run")) == ["src/app/main.py:42"]


@given(odd_texts(200))
def test_each_stands_in_the_text_in_its_order(text: str) -> None:
    at = 0
    for name in identifiers(text):
        assert SHORTEST <= len(name) <= LONGEST
        assert is_identifier(name)
        at = text.index(name, at) + len(name)


def test_a_huge_token_is_none_and_is_not_remembered() -> None:
    before = is_identifier.cache_info().currsize
    assert list(identifiers("a1" * 2_500_000)) == []
    assert is_identifier.cache_info().currsize == before
