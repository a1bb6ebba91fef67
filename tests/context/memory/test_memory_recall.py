"""What a question needs of closed blocks: when it is asked at all, and what comes back."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.memory.blocks import cut
from langchain_tokopt.context.memory.extract import Digest, digests
from langchain_tokopt.context.memory.query import Query, asks, query_of
from langchain_tokopt.context.memory.recall import Recollection, place, recall
from langchain_tokopt.context.memory.render import MARK
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from tests.context.memory.threads import FACTS, chat, with_tool
from tests.fakes import TableEmbeddings


def closed(messages: list[BaseMessage] | None = None, ratio: float = 0.0) -> list[Digest]:
    blocks = cut(messages or chat(40), block_tokens=500, keep_tokens=200).blocks
    return list(digests(blocks, ratio=ratio))


def test_what_the_question_needs_comes_back() -> None:
    found = recall("What was my passport number?", closed())
    assert found is not None
    assert found.additional_kwargs == {MARK: "recall"}
    assert found.text.splitlines()[0] == "[From earlier in this conversation, because it may matter now]"
    assert FACTS[3] in found.text


def test_what_the_short_form_shows_is_not_said_again() -> None:
    assert recall("What was my passport number?", closed(ratio=1.0)) is None


def test_nothing_comes_back_where_nothing_is_relevant() -> None:
    assert recall("How do I bake sourdough?", closed()) is None
    assert recall("What was my passport number?", []) is None


def test_small_talk_recalls_nothing() -> None:
    thread = [*chat(40), HumanMessage("That sounds lovely, I am so glad. My passport arrived by the way.")]
    query = query_of(thread)
    assert query is not None
    assert not query.asks
    assert recall(query, closed(thread)) is None


def test_what_stands_right_before_the_question_need_not_be_recalled() -> None:
    thread = [*chat(40), AIMessage("Your passport number is X4471293."), HumanMessage("Is that the passport number?")]
    query = query_of(thread)
    assert query is not None
    assert recall(query, closed(thread)) is None


def test_passages_keep_to_the_tokens_and_come_in_order() -> None:
    query, past = "What about my passport, PostgreSQL for billing, and hotels above 180 euros?", closed(chat(90))
    found = recall(query, past)
    assert found is not None
    text = str(found.text)
    assert [text.index(FACTS[number]) for number in (3, 5, 8)] == sorted(text.index(FACTS[n]) for n in (3, 5, 8))
    small = recall(query, past, 130)
    assert small is not None
    assert text_size(str(small.text)) <= 130


def test_of_a_short_past_little_is_recalled() -> None:
    past = closed(chat(20))
    found = recall("What about my passport, PostgreSQL for billing, and hotels above 180 euros?", past)
    assert found is not None
    assert text_size(str(found.text)) <= sum(digest.block.size for digest in past) / 8 + 5


class Meanings(TableEmbeddings):
    """Knows that a passport is a travel document."""

    def embed_query(self, text: str) -> list[float]:
        about = "passport" in text or "travel document" in text
        return [1.0, 0.0] if about else [0.0, 1.0]


def test_with_embeddings_what_is_said_in_other_words_is_recalled_too() -> None:
    question = "Where did I write down the travel document?"
    assert recall(question, closed()) is None
    found = recall(question, closed(), embeddings=MemoEmbeddings(Meanings()))
    assert found is not None
    assert FACTS[3] in found.text


def test_no_tokens_recall_nothing() -> None:
    assert recall("What was my passport number?", closed(), 0) is None
    with pytest.raises(ConfigurationError, match="tokens"):
        recall("What was my passport number?", closed(), -1)


def test_a_tools_result_is_recalled_in_passages() -> None:
    lines = "\n".join(f"Flight TP-{number} costs {number} EUR and leaves from gate B{number}." for number in range(200))
    thread = [HumanMessage("Hello"), AIMessage("Hi"), *with_tool("a", lines), *chat(30)[2:]]
    found = recall("Which gate is TP-117 at?", closed(thread))
    assert found is not None
    assert "[result] find_flights:" in found.text
    assert "Flight TP-117 costs" in found.text
    assert "Flight TP-10 costs" not in found.text


def test_of_a_huge_result_the_beginning_and_the_end_are_recalled() -> None:
    lines = "\n".join(f"Flight TP-{number} costs {number} EUR." for number in range(5_000))
    thread = [HumanMessage("Hello"), AIMessage("Hi"), *with_tool("a", lines), *chat(30)[2:]]
    digests_ = closed(thread)
    for number in (17, 4_990):
        found = recall(f"What does TP-{number} cost?", digests_)
        assert found is not None
        assert f"Flight TP-{number} costs {number} EUR." in found.text


def test_a_recollection_that_is_extended_is_as_one_made_at_once() -> None:
    blocks = closed()
    grown = Recollection(blocks[:1])
    grown.extend(blocks[1:])
    query = Query("Which hotels may be booked, and what is my passport number?")
    assert grown.recall(query) == Recollection(blocks).recall(query)


def test_what_is_recalled_stands_right_before_the_newest_human_message() -> None:
    recalled = HumanMessage("[From earlier]", additional_kwargs={MARK: "recall"})
    thread = with_tool("a", "one")
    assert place(thread, recalled) == [recalled, *thread]
    assert place([*thread, HumanMessage("b")], recalled)[-2] is recalled
    assert place(thread, None) == thread
    assert place([AIMessage("Hi")], recalled) == [AIMessage("Hi")]


@pytest.mark.parametrize(
    "text",
    ["What is it?", "Tell me more", "book it again", "\u8aad\u3093\u3067\uff1f", "As we agreed, the red one"],
)
def test_questions_and_requests_ask(text: str) -> None:
    assert asks(text)


@pytest.mark.parametrize("text", ["That is nice.", "I had soup", "", "Thanks, bye!"])
def test_statements_do_not_ask(text: str) -> None:
    assert not asks(text)


def test_search_words_and_languages_that_are_not_known_ask() -> None:
    for text in ("hotel Lisbon budget", "Buche Hotel Lissabon"):
        query = query_of([HumanMessage(text)])
        assert query is not None
        assert query.asks


def test_only_what_asks_is_the_query() -> None:
    query = query_of([HumanMessage("I had soup for dinner. Which hotel did we choose?")])
    assert query is not None
    assert query.text == "Which hotel did we choose?"
    assert "soup" in query.near


def test_a_question_that_points_back_takes_the_answer_before_it_along() -> None:
    query = query_of([HumanMessage("Hotels?"), AIMessage("The Avenida or the Belem."), HumanMessage("And the other?")])
    assert query is not None
    assert query.text == "And the other? The Avenida or the Belem."
    assert query.near == frozenset()


def test_without_a_human_text_there_is_no_query() -> None:
    assert query_of([]) is None
    assert query_of([AIMessage("Hi")]) is None
    assert query_of([HumanMessage(" ")]) is None
