"""The lexical guard: what two similar questions must have in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.guard import difference, needs_context, prepare

CHANGES = [
    # numbers
    ("transfer 50 euros", "transfer 500 euros", "numbers"),
    ("convert 5 to 3", "convert 3 to 5", "numbers"),
    ("give me two examples", "give me three examples", "numbers"),
    ("give me one hundred and five examples", "give me one hundred and six examples", "numbers"),
    ("weather for the first of may", "weather for the third of may", "numbers"),
    ("upgrade to v2", "upgrade to v3", "numbers"),
    ("flights on 2024-05-01", "flights on 2024-05-02", "numbers"),
    ("a loan of 5k", "a loan of 50k", "numbers"),
    ("can I eat it", "can 2 eat it", "numbers"),
    # units
    ("what is 15% of it", "what is 15 of it", "units"),
    ("run 10 km", "run 10 miles", "units"),
    ("send 50 EUR", "send $50", "units"),
    ("bake at 180\u00b0C", "bake at 180\u00b0F", "units"),
    ("how far is it in miles", "how far is it in km", "units"),
    ("price in dollars", "price in yen", "units"),
    ("wake me at 6 am", "wake me at 6 pm", "units"),
    # negation
    ("my card works", "my card does not work", "negation"),
    ("can I pay by card", "can\u2019t I pay by card", "negation"),
    ("export with headers", "export without headers", "negation"),
    ("I know how to pay", "I do not know how to pay or how not to pay", "negation"),
    # quoted text
    ('find "alpha" in the text', 'find "beta" in the text', "quoted text"),
    ("rename `a` please", "rename `b` please", "quoted text"),
    ("define 'mean' for me", "define 'mode' for me", "quoted text"),
    ('split at ";" please', 'split at "|" please', "quoted text"),
    # names
    ("write to anna@example.org", "write to emma@example.org", "names"),
    ("delete /srv/alpha", "delete /srv/beta", "names"),
    ("what does get_user do", "what does get_group do", "names"),
    ("call Emma Smith", "call Emma Jones", "names"),
    ("who owns Contoso", "who owns Fabrikam", "names"),
    ("flights from gniezno", "flights from chojnice", "names"),
    # closed classes
    ("what is the capital of France", "what is the capital of Spain", "places"),
    ("hotels in new york", "hotels in los angeles", "places"),
    ("taxes in the US", "taxes in the UK", "places"),
    ("translate hello to german", "translate hello to polish", "tongues"),
    ("weather in june", "weather in july", "months"),
    ("is it open in may", "is it open in march", "months"),
    ("open on monday", "open on friday", "weekdays"),
    ("rain tomorrow", "rain today", "days"),
    ("what is the monthly fee", "what is the yearly fee", "periods"),
    ("sort a list in java", "sort a list in C++", "languages"),
    ("export it as csv", "export it as pdf", "formats"),
    ("my statement of last month", "my statement of this month", "turns"),
    # opposites
    ("how do I enable alerts", "how do I disable alerts", "opposites"),
    ("enabling alerts", "alerts were disabled", "opposites"),
    ("what have I bought", "what have I sold", "opposites"),
    ("lock my card", "unlock my card", "opposites"),
    ("show active users", "show inactive users", "opposites"),
    ("how do I log in", "how do I log out", "opposites"),
    ("turn the heating on", "turn off the heating", "opposites"),
    ("what should I eat before a run", "what should I eat after a run", "opposites"),
    ("the cheapest flight", "the most expensive flight", "opposites"),
    ("credit card fees", "debit card fees", "opposites"),
    # order
    ("trains from gniezno to chojnice", "trains from chojnice to gniezno", "order"),
    ("flights from Paris to London", "flights from London to Paris", "order"),
    ("is gold heavier than lead", "is lead heavier than gold", "order"),
    ("convert miles to km", "convert km to miles", "order"),
    ("did the dog bite the man", "did the man bite the dog", "order"),
    ("can you call me", "can I call you", "order"),
    ("should I stretch before running", "should I run before stretching", "order"),
    # question words
    ("when is the meeting", "where is the meeting", "question word"),
]

PARAPHRASES = [
    ("How do I pay?", "how can I pay"),
    ("How do I reset my PIN?", "how can i reset my pin"),
    ("send 1,000 EUR", "please send 1000 euros"),
    ("it costs 5.0 dollars", "it costs $5.00"),
    ("I need three copies", "3 copies is what I need"),
    ("twenty-five copies", "25 copies"),
    ("a loan of 5 thousand", "a loan of 5k"),
    ("2.5 million users", "2500000 users"),
    ("one day", "1 day"),
    ("on the 1st of may", "on may 1"),
    ("several hundred of them", "hundreds of them"),
    ("activate it first", "activate it"),
    ("I was charged twice", "I was charged two times"),
    ("a meeting at 9am", "a meeting at 9:00 am"),
    ("under 18 years", "under 18"),
    ("a run of 10km", "a run of 10 kilometres"),
    ("My dog's name", "The name of my dog"),
    ("Is Paris in France's north?", "is paris in the north of France?"),
    ("I don't like it, I'm sure", "I do not like it, that is sure"),
    ("WHERE IS MY CARD", "where is my card"),
    ("How Do I Close My Account", "how do I close my account"),
    ("I'm not sure how to pay", "how do I pay"),
    ("I don't know where my card is", "where is my card"),
    ("It is open, isn't it?", "it is open"),
    ("why is it not available", "why is it unavailable"),
    ("the user is not active", "the user is inactive"),
    ("the rate is not correct", "the rate is incorrect"),
    ('what does "pending" mean', "what does pending mean"),
    ("life in the USA", "life in the United States"),
    ("what may I do", "what might I do"),
    ("trains from gniezno to chojnice", "trains to chojnice from gniezno"),
    ("should I stretch before running", "should I run after stretching"),
    ("what is the difference between gold and lead", "what is the difference between lead and gold"),
    ("tell me my balance please", "please tell me my balance"),
    ("what time is the meeting", "when is the meeting"),
    ("how does it work", "in what way does it work"),
    ("where does the fee come from", "why is there a fee"),
    ("how do I discover it", "how do I cover it"),  # looks like an opposite and is none: left to the embedding
]


@pytest.mark.parametrize(("one", "other", "kind"), CHANGES)
def test_a_change_of_meaning_is_seen_both_ways(one: str, other: str, kind: str) -> None:
    assert difference(one, other) == kind
    assert difference(other, one) == kind


@pytest.mark.parametrize(("one", "other"), PARAPHRASES)
def test_a_paraphrase_passes(one: str, other: str) -> None:
    assert difference(one, other) is None
    assert difference(other, one) is None


def test_what_was_read_before_is_compared_alike() -> None:
    for one, other, kind in CHANGES:
        assert difference(prepare(one), other) == difference(one, prepare(other)) == kind


def test_what_is_too_long_to_be_read_must_be_the_same() -> None:
    long = "word " * 4_000
    assert difference(long + "a", long + "a") is None
    assert difference(long + "a", long + "b") == "what follows"


@given(st.text())
def test_every_text_agrees_with_itself(text: str) -> None:
    assert difference(text, text) is None
    assert difference(prepare(text), prepare(text)) is None


_PIECES = (
    "not unable lock unlock from to Paris london 5 50 five one hundred may in US before after than I you km % $ how "
    '"x" `y` isn\'t , where log on off and a the New York first 9:00am w-2 C++ \ud800 \x00 \u0663'
)
_ENGLISH = st.lists(st.sampled_from(_PIECES.split(" ")), max_size=12).map(" ".join)


@given(st.one_of(st.text(), _ENGLISH), _ENGLISH)
def test_the_guard_is_symmetric(one: str, other: str) -> None:
    assert difference(one, other) == difference(other, one)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "\ud800\udfff",
        "\u7b2c\u4e8c\u4e2a\u5462",
        "\u0661\u0662\u0663 \u00bd \u00b2 \u216b",
        "1e999999999 9" + "9" * 400,
        "a" * 1_000_000,
        "\u201c" * 1_000_000,
        "@" * 1_000_000,
        "hundred thousand million " * 20_000,
    ],
    ids=lambda text: repr(text[:10]),
)
def test_no_text_is_too_strange(text: str) -> None:
    assert difference(text, "how do I pay") == difference("how do I pay", text)


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
