"""Lexical features of a pair of questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.guard import prepare
from langchain_tokopt.cache.likeness import FEATURE_NAMES, features


def told(one: str, other: str) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, features(prepare(one), prepare(other)), strict=True))


def test_the_same_question_twice() -> None:
    flags = ("numbers_differ", "negation_differs", "opposites", "entities_differ", "units_differ", "swapped")
    assert told("how do I reset my pin", "how do I reset my pin") == {
        **dict.fromkeys(FEATURE_NAMES, 1.0),
        **dict.fromkeys((*flags, "any_number", "question_words_differ", "unmatched_content"), 0.0),
    }


def test_shares_are_exact() -> None:
    found = told("how do I reset my red card", "where is my red hat")
    assert found["word_jaccard"] == 2 / 10
    assert found["content_jaccard"] == 1 / 4  # reset, red, card, hat
    assert found["unmatched_content"] == 3 / 4
    assert found["length_ratio"] == 5 / 7
    assert found["question_words_differ"] == 1.0


def test_trigrams_see_a_typing_error() -> None:
    assert told("abcdef", "abcdxf")["trigram_jaccard"] == 2 / 6


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("send 5", "send 50", "numbers_differ"),
        ("send 5", "send it", "any_number"),
        ("it works", "it does not work", "negation_differs"),
        ("enable it", "disable it", "opposites"),
        ("call Emma", "call Anna", "entities_differ"),
        ("open on monday", "open on friday", "entities_differ"),
        ("a walk of 3 km", "a walk of 3 miles", "units_differ"),
        ("what is open", "who is open", "question_words_differ"),
        ("from paris to rome", "from rome to paris", "swapped"),
    ],
)
def test_each_difference_is_a_feature(one: str, other: str, name: str) -> None:
    assert told(one, other)[name] == 1.0


def test_the_order_of_common_words_counts() -> None:
    assert told("red green blue yellow", "yellow red green blue")["content_order"] == 3 / 4
    assert told("red green blue", "blue green red")["content_order"] == 1 / 3


def test_rare_words_weigh_more_if_told_so() -> None:
    weights = {"card": 1.0, "reset": 1.0, "gniezno": 8.0}
    one, other = prepare("reset card"), prepare("reset card gniezno")
    place = FEATURE_NAMES.index("unmatched_content")
    assert features(one, other)[place] == 1 / 3
    assert features(one, other, weights.__getitem__)[place] == 8 / 10
    assert features(one, other, lambda _: 0.0)[place] == 0.0


@given(st.text(), st.text())
def test_all_are_shares_and_the_same_both_ways(one: str, other: str) -> None:
    found = features(prepare(one), prepare(other))
    assert len(found) == len(FEATURE_NAMES)
    assert all(0.0 <= value <= 1.0 for value in found)
    assert found == features(prepare(other), prepare(one))
