"""What users say of answers: by the hit, its id or the message; and what becomes of an answer that was wrong."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, HumanMessage

from langchain_tokopt.cache import Hit, SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from tests.cache.questions import Knowing, TopicEmbeddings, audit, stream, teach, unasked
from tests.fakes import FakeClock, ScriptedModel, TableEmbeddings

TABLE = {"How do I pay?": [1.0, 0.0], "How can I pay?": [1.0, 0.1], "How may I pay?": [1.0, 0.05]}


def new_cache(**settings: Any) -> SemanticCache:
    return SemanticCache(**{"embeddings": TableEmbeddings(TABLE), **settings})


def ask(cache: SemanticCache, question: str) -> Hit | None:
    """The hit; on a miss the model's answer is stored."""
    request = ModelRequest(model=ScriptedModel(), messages=[HumanMessage(question)])
    key = cache.key(request)
    assert key is not None
    look = cache.look(key)
    if look.hit is None:
        cache.store(key, ModelResponse[Any](result=[AIMessage(f"to {question}")]), look)
    return look.hit


def known(cache: SemanticCache, question: str) -> Hit:
    hit = ask(cache, question)
    assert hit is not None
    return hit


def named(hit: Hit, by: str) -> Any:
    return {"hit": hit, "id": hit.id, "message": hit.response.result[0]}[by]


@pytest.mark.parametrize("by", ["hit", "id", "message"])
def test_a_wrong_answer_by_meaning_is_not_given_to_that_question_again(by: str) -> None:
    cache = new_cache()
    ask(cache, "How do I pay?")
    hit = known(cache, "How can I pay?")
    assert (hit.how, hit.response.result[0].text) == ("semantic", "to How do I pay?")
    assert cache.feedback(named(hit, by), correct=False) is True
    assert ask(cache, "How can I pay?") is None  # the model is asked, and its answer stored
    again = known(cache, "How can I pay?")
    assert (again.how, again.response.result[0].text) == ("exact", "to How can I pay?")
    assert known(cache, "How do I pay?").how == "exact"  # the other question keeps its answer


@pytest.mark.parametrize("by", ["hit", "id", "message"])
def test_a_wrong_answer_to_the_very_question_is_removed(by: str) -> None:
    cache = new_cache()
    ask(cache, "How do I pay?")
    hit = known(cache, "How do I pay?")
    assert hit.how == "exact"
    assert cache.feedback(named(hit, by), correct=False) is True
    assert cache.stats()["entries"] == 0
    assert ask(cache, "How can I pay?") is None


@pytest.mark.parametrize("question", ["How do I pay?", "How can I pay?"])
def test_a_right_answer_goes_on_being_given(question: str) -> None:
    cache = new_cache()
    ask(cache, "How do I pay?")
    assert cache.feedback(known(cache, question), correct=True) is True
    assert known(cache, question).how == ("exact" if question == "How do I pay?" else "semantic")


def test_the_message_that_an_agent_gave_will_do() -> None:
    cache = new_cache()
    model = ScriptedModel(responses=["By card.", "In cash."])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    for question, text in (
        ("How do I pay?", "By card."),
        ("How can I pay?", "By card."),
        ("How can I pay?", "In cash."),
        ("How can I pay?", "In cash."),
    ):
        message = agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1]
        assert message.text == text
        if message.response_metadata.get("tokopt", {}).get("cache") == "semantic":
            assert cache.feedback(message, correct=False) is True


@pytest.mark.parametrize("hit", ["", "no such hit", AIMessage("By card."), AIMessage("x", response_metadata={})])
def test_of_an_answer_that_it_did_not_give_the_cache_knows_nothing(hit: Any) -> None:
    cache = new_cache()
    assert cache.feedback(hit, correct=False) is False
    message = AIMessage("x", response_metadata={"tokopt": "?"})
    assert cache.feedback(message, correct=True) is False


def test_another_cache_gave_it() -> None:
    database = Database()
    one, other = new_cache(database=database), new_cache(database=database)
    ask(one, "How do I pay?")
    assert other.feedback(known(one, "How can I pay?"), correct=False) is False
    assert known(one, "How can I pay?").how == "semantic"


@pytest.mark.parametrize("hit", [None, 3, b"id", HumanMessage("x")])
def test_what_is_no_hit_is_refused(hit: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass a Hit, its id, or the message"):
        new_cache().feedback(hit, correct=True)


@pytest.mark.parametrize("correct", [None, 1, "no"])
def test_what_is_no_bool_is_refused(correct: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        new_cache().feedback("x", correct=correct)
    assert raised.value.argument == "correct"


def test_other_caches_on_the_database_know_within_seconds() -> None:
    clock, database = FakeClock(), Database()
    one, other = (new_cache(database=database, clock=clock) for _ in "ab")
    ask(one, "How do I pay?")
    hit = known(one, "How can I pay?")
    assert known(other, "How can I pay?").how == "semantic"
    assert one.feedback(hit, correct=False) is True
    clock.advance(4.9)
    assert known(other, "How can I pay?").how == "semantic"  # it has looked at the list a moment ago
    clock.advance(0.2)
    assert ask(other, "How can I pay?") is None
    assert known(one, "How can I pay?").response.result[0].text == "to How can I pay?"
    assert known(other, "How may I pay?").how == "semantic"  # nobody has complained about that one


def test_it_is_a_label_and_no_audit_and_counts_once() -> None:
    cache = SemanticCache(max_error=0.02, embeddings=TopicEmbeddings(), seed=1, warm_up_requests=100)
    teach(cache, stream(250))
    audit(cache, 0.0)
    questions = unasked(cache)
    learned = cache.desk.learned
    assert learned is not None
    before, wrong_before = cache.stats()["decision"], learned.sums.known_wrong

    def served() -> str:
        key = cache.key(ModelRequest(model=Knowing(), messages=[HumanMessage(next(questions))]))
        assert key is not None
        hit = cache.lookup(key)
        assert hit is not None
        assert hit.how == "semantic"
        assert hit.risk is not None
        return hit.id

    wrong = served()
    assert [cache.feedback(wrong, correct=False) for _ in range(3)] == [True] * 3
    assert cache.feedback(served(), correct=True) is True
    assert cache.settle()
    after = cache.stats()["decision"]
    assert after["labels"] == before["labels"] + 2
    assert after["audits"] == before["audits"]
    assert after["estimated_error"] > before["estimated_error"]
    assert learned.sums.known_wrong == wrong_before + 1
    cache.close()
