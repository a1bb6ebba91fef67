"""The lexical guard: what two similar questions must have in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.guard import difference, needs_context


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("transfer 50 euros", "transfer 500 euros", "numbers"),
        ("convert 5 to 3", "convert 3 to 5", "numbers"),
        ("give me two examples", "give me three examples", "numbers"),
        ("what is 15% of it", "what is 15 of it", "numbers"),
        ("weather for the first of may", "weather for the third of may", "numbers"),
        ("upgrade to v2", "upgrade to v3", "numbers"),
        ("flights on 2024-05-01", "flights on 2024-05-02", "numbers"),
        ("my card works", "my card does not work", "negation"),
        ("can I pay by card", "can\u2019t I pay by card", "negation"),
        ("export with headers", "export without headers", "negation"),
        ('find "alpha" in the text', 'find "beta" in the text', "quoted text"),
        ("rename `a` please", "rename `b` please", "quoted text"),
        ("define 'mean' for me", "define 'mode' for me", "quoted text"),
        ("what is the capital of France", "what is the capital of Spain", "names"),
        ("write to anna@example.org", "write to emma@example.org", "names"),
        ("delete /srv/alpha", "delete /srv/beta", "names"),
        ("what does get_user do", "what does get_group do", "names"),
    ],
)
def test_a_change_of_meaning_is_seen_both_ways(one: str, other: str, kind: str) -> None:
    assert difference(one, other) == kind
    assert difference(other, one) == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my PIN?", "how can i reset my pin"),
        ("send 1,000 EUR", "please send 1000 EUR"),
        ("it costs 5.0 dollars", "it costs 5.00 dollars"),
        ("I need three copies", "3 copies is what I need"),
        ("My dog's name", "The name of my dog"),
        ("Is Paris in France's north?", "is paris in the north of France?"),
        ("I don't like it, I'm sure", "I do not like it, that is sure"),
        ("WHERE IS MY CARD", "where is my card"),
    ],
)
def test_a_paraphrase_passes(one: str, other: str) -> None:
    assert difference(one, other) is None


@given(st.text())
def test_every_text_agrees_with_itself(text: str) -> None:
    assert difference(text, text) is None


@given(st.text(), st.text())
def test_the_guard_is_symmetric(one: str, other: str) -> None:
    assert difference(one, other) == difference(other, one)


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "continue",
        "and the second one?",
        "what about Berlin in winter time?",
        "Can you explain that in more detail?",
        "How much does it cost per month?",
        "\u7b2c\u4e8c\u4e2a\u5462",
        "Go on",
        "",
    ],
)
def test_follow_ups_need_their_context(text: str) -> None:
    assert needs_context(text)


@pytest.mark.parametrize("text", ["How do I reset my PIN?", "Which documents are required for a mortgage?"])
def test_a_full_question_does_not(text: str) -> None:
    assert not needs_context(text)
