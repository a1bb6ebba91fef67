from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.tools.clauses import MOST_CLAUSES, clauses


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("book a flight and then find a hotel", ["book a flight", "find a hotel"]),
        ("Book a flight. Find a hotel!", ["Book a flight.", "Find a hotel!"]),
        ("book a flight, find a hotel, rent a car", ["book a flight", "find a hotel", "rent a car"]),
        ("book a flight\nfind a hotel", ["book a flight", "find a hotel"]),
        ("book a flight AND ALSO find a hotel", ["book a flight", "find a hotel"]),
        ("预订去罗马的航班。再找一家酒店", ["预订去罗马的航班", "再找一家酒店"]),
    ],
)
def test_a_text_is_split_where_people_begin_to_ask_for_something_else(text: str, parts: list[str]) -> None:
    assert clauses(text) == parts


@pytest.mark.parametrize("text", ["", "  ,, ", "book a flight", "salt and pepper", "bed and breakfast in Rome"])
def test_one_request_has_no_parts(text: str) -> None:
    assert clauses(text) == []


def test_a_part_of_few_words_goes_with_the_one_before_it_or_after_it() -> None:
    assert clauses("book a flight, please, and find a hotel") == ["book a flight please", "find a hotel"]
    assert clauses("Hi, book a flight and find a hotel") == ["Hi book a flight", "find a hotel"]


def test_a_text_of_many_parts_is_a_story() -> None:
    wish = "find a hotel"
    assert len(clauses(", ".join([wish] * MOST_CLAUSES))) == MOST_CLAUSES
    assert clauses(", ".join([wish] * (MOST_CLAUSES + 1))) == []


@given(st.text(alphabet=st.sampled_from("ab .,!?;\n天气。"), max_size=80))
def test_nothing_of_a_text_is_lost_but_what_stands_between_its_parts(text: str) -> None:
    parts = clauses(text)
    assert len(parts) in range(MOST_CLAUSES + 1)
    assert len(parts) != 1
    if parts:
        kept = "".join(parts)
        assert [char for char in kept if char in "ab天气"] == [char for char in text if char in "ab天气"]
