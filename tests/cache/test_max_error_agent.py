"""A bounded error in a real agent: what is served, what is audited beside the answer, and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage

from langchain_tokopt import Budget, TokenOptimizer
from langchain_tokopt.background import Background
from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Failure, request_scope
from langchain_tokopt.flow import BACKGROUND_TAG, INTERNAL_TAG, Pause
from langchain_tokopt.pricing import Pricing
from tests.budget.figures import root_of
from tests.cache.questions import WAIT, Knowing, TopicEmbeddings, answer_to, audit, right, stream, teach, unasked
from tests.databases import database_url
from tests.fakes import ListSink, ScriptedModel


class FixedPricing(Pricing):
    """A cent for each token, whatever the model."""

    def cost(self, usage: Any, model: Any, provider: str | None = None) -> Decimal | None:
        return Decimal("0.01") * usage["total_tokens"]


def new_cache(**settings: Any) -> SemanticCache:
    given = {"max_error": 0.02, "embeddings": TopicEmbeddings(), "seed": 1, "warm_up_requests": 100}
    return SemanticCache(**{**given, **settings})


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a cache that has learned enough to serve; copy it before you open it."""
    folder = tmp_path_factory.mktemp("lessons")
    cache = new_cache(database=folder / "cache.db")
    teach(cache, stream(250))
    cache.close()
    return folder


@pytest.fixture
def taught(lessons: Path, tmp_path: Path) -> Iterator[SemanticCache]:
    """A cache that has learned enough to serve, and audits all that it serves."""
    cache = new_cache(database=copytree(lessons, tmp_path / "taught") / "cache.db")
    teach(cache, [next(unasked(cache, "violin"))])  # the first question by which the embedder, and the record, is known
    audit(cache, 1.0)
    yield cache
    cache.close()


def say(agent: Any, question: str) -> AIMessage:
    message = agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1]
    assert isinstance(message, AIMessage)
    return message


# --- an audit beside the answer --------------------------------------------------------------------------------------

Way = Callable[[Any, str, Any], Awaitable[list[BaseMessage]]]


async def invoke(agent: Any, question: str, config: Any) -> list[BaseMessage]:
    return list(agent.invoke({"messages": [HumanMessage(question)]}, config)["messages"][1:])


async def ainvoke(agent: Any, question: str, config: Any) -> list[BaseMessage]:
    return list((await agent.ainvoke({"messages": [HumanMessage(question)]}, config))["messages"][1:])


async def stream_(agent: Any, question: str, config: Any) -> list[BaseMessage]:
    given = {"messages": [HumanMessage(question)]}
    return [chunk for chunk, _ in agent.stream(given, config, stream_mode="messages")]


async def astream(agent: Any, question: str, config: Any) -> list[BaseMessage]:
    given = {"messages": [HumanMessage(question)]}
    return [chunk async for chunk, _ in agent.astream(given, config, stream_mode="messages")]


async def model_invoke(model: Any, question: str, config: Any) -> list[BaseMessage]:
    return [model.invoke(question, config)]


async def model_ainvoke(model: Any, question: str, config: Any) -> list[BaseMessage]:
    return [await model.ainvoke(question, config)]


async def model_stream(model: Any, question: str, config: Any) -> list[BaseMessage]:
    return list(model.stream(question, config))


async def model_astream(model: Any, question: str, config: Any) -> list[BaseMessage]:
    return [chunk async for chunk in model.astream(question, config)]


AGENT_WAYS = [invoke, ainvoke, stream_, astream]
MODEL_WAYS = [model_invoke, model_ainvoke, model_stream, model_astream]


def built(cache: SemanticCache, model: ScriptedModel, way: Way, sink: ListSink) -> tuple[Any, Background]:
    """An agent, or a wrapped model, with the cache; and where its calls in the background are made."""
    if way in MODEL_WAYS:
        tokopt = TokenOptimizer(cache=cache, tools=None, history=None, pricing=FixedPricing())
        return tokopt.wrap(model), tokopt._background
    middleware = SemanticCacheMiddleware(cache, sink=sink)
    return create_agent(model, middleware=[middleware]), middleware.background


@pytest.mark.parametrize("way", [*AGENT_WAYS, *MODEL_WAYS])
async def test_the_answer_comes_at_once_and_the_model_is_asked_once_beside_it(taught: SemanticCache, way: Way) -> None:
    sink, spent = ListSink(), UsageMetadataCallbackHandler()
    model = Knowing().to_say("THIS is all about the harbour!")
    model._held = threading.Event()
    agent, background = built(taught, model, way, sink)
    before = taught.stats()
    question = next(unasked(taught))
    seen = await way(agent, question, {"callbacks": [spent]})
    # The model is still being held up: nobody has waited for it.
    assert "".join(message.text for message in seen) == "This is all about the harbour."
    note = next(message for message in seen if message.response_metadata.get("tokopt"))
    assert note.response_metadata["tokopt"]["cache"] == "semantic"
    assert background.stats().under_way == 1
    assert taught.stats()["audits_begun"] == before["audits_begun"]
    model._held.set()
    assert await background.adrain(WAIT)
    assert taught.settle(WAIT)
    after = taught.stats()
    assert [call.messages[-1].text for call in model.calls] == [question]
    assert {INTERNAL_TAG, BACKGROUND_TAG, "nostream"} <= set(model._tags[0])
    assert after["audits_begun"] == before["audits_begun"] + 1
    assert after["decision"]["audits"] == before["decision"]["audits"] + 1
    assert after["semantic_hits"] == before["semantic_hits"] + 1
    assert after["stored"] == before["stored"]
    assert spent.usage_metadata == {}  # a hit costs nothing, and the audit is none of the run's calls
    assert sum(isinstance(message, (AIMessage, AIMessageChunk)) for message in seen) == len(seen)
    assert not sink.of(Failure)


def test_an_audit_leaves_no_trace_in_the_state(taught: SemanticCache) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    middleware = SemanticCacheMiddleware(taught)
    agent = create_agent(Knowing(), middleware=[middleware], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    question = next(unasked(taught))
    agent.invoke({"messages": [HumanMessage(question)]}, config)
    checkpoints = len(list(agent.get_state_history(config)))
    assert middleware.background.drain(WAIT)
    assert middleware.background.stats().answered == 1
    assert [message.text for message in agent.get_state(config).values["messages"]] == [question, answer_to(question)]
    assert len(list(agent.get_state_history(config))) == checkpoints


@pytest.mark.parametrize("way", [invoke, ainvoke, model_invoke, model_ainvoke])
async def test_a_wrong_answer_that_an_audit_finds_is_put_right(taught: SemanticCache, way: Way) -> None:
    model = Knowing().to_say("The harbour was closed.")
    agent, background = built(taught, model, way, ListSink())
    question, other = list(unasked(taught))[:2]
    for asked, text, how in (
        (question, "This is all about the harbour.", "semantic"),
        (question, "The harbour was closed.", "exact"),
    ):
        (answer,) = await way(agent, asked, {})
        assert answer.text == text
        assert answer.response_metadata["tokopt"]["cache"] == how
        assert await background.adrain(WAIT)
        assert taught.settle(WAIT)
    told = taught.stats()["decision"]
    assert 0 < told["audited_error_low"] < told["audited_error"] < told["audited_error_high"] < 1
    (entry,) = [entry for entry in taught.catalog.find(limit=1_000) if entry.question == question]
    assert (entry.source, entry.answer) == ("audit", "The harbour was closed.")
    assert other not in {entry.question for entry in taught.catalog.find(limit=1_000)}


def test_what_the_cache_would_not_store_is_no_answer_to_compare_with(taught: SemanticCache) -> None:
    cut = AIMessage("This is", response_metadata={"finish_reason": "length"})
    middleware = SemanticCacheMiddleware(taught)
    before = taught.stats()
    say(create_agent(Knowing().to_say(lambda _: cut), middleware=[middleware]), next(unasked(taught)))
    assert middleware.background.drain(WAIT)
    assert taught.settle(WAIT)
    after = taught.stats()
    assert after["audits_begun"] == before["audits_begun"] + 1
    assert after["decision"]["audits"] == before["decision"]["audits"]
    assert after["entries"] == before["entries"]


def test_an_audit_that_fails_is_on_record_and_nobody_notices(taught: SemanticCache) -> None:
    def down(question: str) -> AIMessage:
        raise ConnectionError(question)

    sink = ListSink()
    middleware = SemanticCacheMiddleware(taught, sink=sink)
    agent = create_agent(Knowing().to_say(down), middleware=[middleware])
    assert say(agent, next(unasked(taught))).text == "This is all about the harbour."
    assert middleware.background.drain(WAIT)
    assert [(failure.part, failure.stage) for failure in sink.of(Failure)] == [("cache", "background")]


def test_the_budget_counts_an_audit_and_may_refuse_it(taught: SemanticCache) -> None:
    # 120 tokens are spent by one audit; then there is nothing left for the next.
    budget = Budget(tokens=400)
    with TokenOptimizer(cache=taught, tools=None, history=None, budget=budget) as tokopt:
        model = tokopt.wrap(Knowing())
        questions = unasked(taught)
        spent = []
        for _ in range(8):
            assert model.invoke(next(questions)).text == "This is all about the harbour."
            assert tokopt._background.drain(WAIT)
            spent.append(root_of(tokopt.status()["budget"])["tokens"]["spent"])
        background = tokopt._background.stats()
    assert spent[0] == 120
    assert spent[-1] == 120 * background.answered <= 400
    assert background.answered + background.failed == 8
    assert background.failed > 0


# --- a stream --------------------------------------------------------------------------------------------------------


def test_a_stream_is_served_within_the_bound_and_every_cent_is_accounted_for() -> None:
    sink, pricing, requests = ListSink(), FixedPricing(), 600
    cache = new_cache(pricing=pricing)
    model = Knowing()
    middleware = SemanticCacheMiddleware(cache, sink=sink, pricing=pricing)
    agent = create_agent(model, middleware=[middleware])
    wrong, expected_audits = 0, 0.0
    for number, question in enumerate(stream(requests), 1):
        answer = say(agent, question)
        wrong += answer.text != answer_to(question)
        if answer.response_metadata.get("tokopt", {}).get("cache") == "semantic":
            expected_audits += 0.03 + 0.37 * 2 ** (-number / 1_000)
        assert middleware.background.drain(WAIT)
        assert cache.settle(WAIT)
        if number == 99:
            assert cache.stats()["semantic_hits"] == 0  # the warm-up
    told, decision = cache.stats(), cache.stats()["decision"]
    assert told["semantic_hits"] > requests / 3
    assert told["hits"] + told["misses"] == requests
    assert wrong <= 0.02 * requests
    assert len(model.calls) == told["misses"] + told["audits_begun"]
    assert decision["requests"] == requests
    low, high = decision["audited_error_low"], decision["audited_error_high"]
    assert low - 1e-12 <= decision["audited_error"] <= high < 0.1
    assert low - 1e-12 <= wrong / requests <= high
    assert 0.7 * expected_audits < decision["audits"] < 1.3 * expected_audits
    assert decision["labels"] > 100
    cent = Decimal("0.01")
    assert told["saved_usd"] == told["hits"] * 120 * cent
    assert told["audit_usd"] == told["audits_begun"] * 120 * cent
    assert told["net_usd"] == told["saved_usd"] - told["audit_usd"]
    outcomes = [event.outcome for event in sink.of(CacheLookup)]
    assert (outcomes.count("exact"), outcomes.count("semantic")) == (told["exact_hits"], told["semantic_hits"])
    assert not sink.of(Failure)
    cache.close()


def test_in_shadow_it_learns_from_every_request_and_serves_nothing() -> None:
    cache, sink, model = new_cache(pricing=FixedPricing()), ListSink(), Knowing()
    shadow = SemanticCacheMiddleware(cache, sink=sink, mode="shadow")
    agent = create_agent(model, middleware=[shadow])
    for question in stream(250):
        answer = say(agent, question)
        assert answer.text == answer_to(question)
        assert "tokopt" not in answer.response_metadata
        assert cache.settle(WAIT)
    assert len(model.calls) == 250
    outcomes = [event.outcome for event in sink.of(CacheLookup)]
    told = cache.stats()
    assert outcomes.count("semantic") == told["decision"]["audits"] > 50  # all that would have been served
    assert told["decision"]["labels"] > told["decision"]["audits"]
    assert told["audits_begun"] == 0  # the model was asked anyway
    assert told["audit_usd"] == 0
    serving = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    assert say(serving, next(unasked(cache))).response_metadata["tokopt"]["cache"] == "semantic"
    cache.close()


def test_in_shadow_a_plain_threshold_audits_nothing() -> None:
    cache = new_cache(max_error=None, threshold=0.8, pricing=FixedPricing())
    agent = create_agent(Knowing(), middleware=[SemanticCacheMiddleware(cache, mode="shadow")])
    for question in stream(30):
        say(agent, question)
    told = cache.stats()
    assert told["semantic_hits"] > 0
    assert (told["audits_begun"], told["audit_usd"]) == (0, 0)
    assert "decision" not in told


# --- near-equal questions at the same time ---------------------------------------------------------------------------


def test_near_equal_questions_wait_for_each_other_only_once_answers_are_given_by_meaning() -> None:
    one, other = "please tell me about the harbour in my town", "please tell me about the harbour in our town"

    class Nearer(TopicEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            return super().embed_query(one if text == other else text)

    cache = new_cache(embeddings=Nearer())
    middleware = SemanticCacheMiddleware(cache)

    def begin(question: str) -> tuple[Any, Any]:
        flow = middleware.flow(ModelRequest(model=Knowing(), messages=[HumanMessage(question)]))
        with request_scope():
            return flow, next(flow)

    def end(flow: Any, response: Any) -> Any:
        with pytest.raises(StopIteration) as ended:
            flow.send(response)
        return ended.value.value.result[0]

    first, asked = begin(one)
    second, asked_too = begin(other)
    assert isinstance(asked, ModelRequest)
    assert isinstance(asked_too, ModelRequest)  # nothing is known yet: it would wait for nothing
    first.close()
    second.close()
    teach(cache, stream(250))
    audit(cache, 0.0)
    assert cache.serves_from() == 0.95
    removed = [entry.id for entry in cache.catalog.find(limit=1_000) if "harbour" in (entry.answer or "")]
    cache.desk.store.remove(removed)
    first, asked = begin(one)
    second, waits = begin(other)
    assert isinstance(asked, ModelRequest)
    assert isinstance(waits, Pause)
    answer = ModelResponse[Any](result=[right(one)])
    assert end(first, answer).text == "This is all about the harbour."
    assert waits.until.done()
    assert end(second, None).response_metadata["tokopt"]["cache"] == "semantic"
    cache.close()


# --- what was learned stays ------------------------------------------------------------------------------------------


def test_a_restart_on_a_file_keeps_what_was_learned(tmp_path: Path) -> None:
    cache = new_cache(database=tmp_path / "cache.db")
    teach(cache, stream(250))
    questions = unasked(cache)
    before = cache.stats()["decision"]
    cache.close()
    cache = new_cache(database=tmp_path / "cache.db")
    middleware = SemanticCacheMiddleware(cache)
    agent = create_agent(Knowing(), middleware=[middleware])
    say(agent, next(questions))  # the first question by which the embedder, and so the record, is known
    assert cache.settle(WAIT)
    assert cache.stats()["decision"]["requests"] == before["requests"] + 1
    assert cache.stats()["decision"]["labels"] >= before["labels"]
    assert cache.stats()["decision"]["audits"] >= before["audits"] > 0
    assert say(agent, next(questions)).response_metadata["tokopt"]["cache"] == "semantic"
    middleware.background.drain(WAIT)
    cache.close()


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_two_caches_on_one_database_share_what_they_learn(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        databases = [Database(url) for _ in "ab"]
        one, other = (new_cache(database=database) for database in databases)
        teach(one, stream(200))
        (question, *_) = unasked(one)
        assert one.desk.learned is not None
        one.desk.learned.flush()
        learned = one.stats()["decision"]
        teach(other, [question])
        assert other.stats()["decision"]["requests"] == learned["requests"] + 1
        assert other.stats()["decision"]["labels"] >= learned["labels"] > 50
        teach(other, stream(60, seed=5))
        assert other.stats()["semantic_hits"] > 0  # long before its own 100 requests
        assert other.desk.learned is not None
        other.desk.learned.flush()
        one.desk.learned.learn()
        assert one.stats()["decision"]["requests"] == 261
        for cache, database in zip((one, other), databases, strict=True):
            cache.close()
            database.close()


def test_tenants_have_answers_of_their_own_and_one_record_of_what_serves() -> None:
    cache, model = new_cache(), Knowing()
    middleware = SemanticCacheMiddleware(cache)
    agent = create_agent(model, middleware=[middleware])

    def ask(question: str, tenant: str) -> AIMessage:
        state = agent.invoke({"messages": [HumanMessage(question)]}, {"configurable": {"tenant": tenant}})
        assert middleware.background.drain(WAIT)
        assert cache.settle(WAIT)
        message = state["messages"][-1]
        assert isinstance(message, AIMessage)
        return message

    for question in stream(250):
        ask(question, "a")
    assert cache.stats()["semantic_hits"] > 0
    model.to_say("b's harbour")
    questions = unasked(cache)
    first = ask(next(questions), "b")
    assert (first.text, "tokopt" in first.response_metadata) == ("b's harbour", False)
    for _ in range(3):
        assert ask(next(questions), "b").text == "b's harbour"
    assert ask(next(questions), "a").text == "This is all about the harbour."
    cache.close()


# --- judges that fail ------------------------------------------------------------------------------------------------


def test_a_hung_judge_holds_up_neither_answers_nor_the_end() -> None:
    go, asked = threading.Event(), threading.Semaphore(0)

    def judge(question: str, stored: str, new: str) -> bool:
        asked.release()
        assert go.wait(WAIT)
        return True

    cache, model = new_cache(judge=judge, judge_timeout_seconds=1_000.0), Knowing()
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    questions = list(stream(20))
    for question in questions:
        assert say(agent, question).text == answer_to(question)
    assert asked.acquire(timeout=WAIT)
    assert not cache.settle(0.0)
    closed = threading.Thread(target=cache.close)
    closed.start()
    closed.join(WAIT)
    assert not closed.is_alive()
    assert cache.desk.bench is not None
    assert cache.desk.bench.failures == 0
    go.set()


def test_a_judge_that_raises_teaches_nothing_and_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    def judge(question: str, stored: str, new: str) -> bool:
        raise KeyError("mine")

    cache = new_cache(judge=judge)
    teach(cache, stream(60))
    told = cache.stats()
    assert told["judge_failures"] > 10
    assert (told["decision"]["labels"], told["semantic_hits"]) == (0, 0)
    assert told["exact_hits"] > 0
    assert [record.message for record in caplog.records] == [
        "the cache's judge gave no opinion, and nothing was learned from it: KeyError: 'mine'"
    ]
    cache.close()
