from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.tools.shrink_text import LEAST_CHARS, cut, repeats, without_needless_space

PARTS = ["a", "word", ".", "e.g.", " ", "  ", "\n", "\t", "\r", "\v", "\u3000", "(", "…", "``", "`", "長い"]
texts = st.lists(st.sampled_from(PARTS)).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  One line.  ", "One line."),
        ("Two  words,\tone \t tab. ", "Two words,\tone tab."),
        ("Find it.\r\n\r\n\r\n\r\nThen stop.   \nEnd.", "Find it.\n\nThen stop.\nEnd."),
        ("", ""),
        (" \n\t ", ""),
    ],
)
def test_needless_space_goes(text: str, expected: str) -> None:
    assert without_needless_space(text) == expected


def test_how_lines_are_nested_stays_visible() -> None:
    text = (
        "Find it.\n\n        Args:\n            where: One of\n                - here\n            when: Now\n        "
    )
    assert without_needless_space(text) == "Find it.\n\nArgs:\n where: One of\n  - here\n when: Now"


def test_nothing_inside_a_fenced_block_moves() -> None:
    text = "Run it.  \n\n```python\nif a:\n    b  =  1\n```"
    assert without_needless_space(text) == "Run it.\n\n```python\nif a:\n    b  =  1\n```"


@given(texts)
def test_a_text_without_needless_space_has_none_left(text: str) -> None:
    short = without_needless_space(text)
    assert without_needless_space(short) == short
    assert short.split() == text.split()
    assert len(short) <= len(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The user ID", "user_id"),
        ("`userId`", "user_id"),
        ("A list of ids", "ids_list"),
        ("城市", "城市"),
        ("the", "a_user"),
    ],
)
def test_a_text_without_a_word_of_its_own_repeats(text: str, name: str) -> None:
    assert repeats(text, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The user's name", "user_id"),
        ("User IDs", "user_id"),
        ("to date", "date"),
        ("price in %", "price"),
        ("3 days", "days"),
        ("The name", ""),
        ("…", "name"),
    ],
)
def test_a_text_with_a_word_of_its_own_does_not(text: str, name: str) -> None:
    assert not repeats(text, name)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Short enough.", 13, "Short enough."),
        ("One sentence here. Another one follows.", 25, "One sentence here."),
        ("One sentence here. Another one follows.", 37, "One sentence here. Another one…"),
        ('Say "this or that." Another one follows.', 30, 'Say "this or that."'),
        ("A city, e.g. New York or Los Angeles.", 22, "A city, e.g. New York…"),
        ("Short. Then it goes on for very long.", 30, "Short. Then it goes on for…"),
        ("First line of the text\nSecond line of it", 30, "First line of the text"),
        ("One of (first, second, third or fourth).", 23, "One of (first, second…"),
        ("长长的说明文字没有空格也没有停顿就这样一直写下去", 18, "长长的说明文字没有空格也没有停顿就…"),
        ("https://example.com/a/very/long/address", 20, "https://example.com…"),
        ("Whatever it is.", 10, ""),
    ],
)
def test_a_text_is_cut_at_a_sentence_or_a_word(text: str, limit: int, expected: str) -> None:
    assert cut(text, limit) == expected


@given(texts, st.integers(0, 60))
def test_a_cut_text_is_a_beginning_within_the_limit(text: str, limit: int) -> None:
    short = cut(text, limit)
    assert len(short) <= limit
    assert text.startswith(short.removesuffix("…"))
    assert cut(short, limit) == short
    assert limit < LEAST_CHARS or bool(short) == bool(text)
