"""Prediction in a real agent and a wrapped model: it learns, acts where that pays, and is in nobody's way."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import text

from langchain_tokopt import Precompute, SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import CacheLookup, ModelCall
from langchain_tokopt.optimizer import TokenOptimizer
from langchain_tokopt.pricing import Pricing, Rates
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock, ListSink, ScriptedModel, TableEmbeddings, ai, awaited

WAIT = 20.0
CENT = Decimal("0.01")
PRICES = Pricing(overrides={"gpt-4o-mini": Rates(input=Decimal(1), output=Decimal(1))})  # 10,000 tokens are a cent
ROUTINE = ("Which orders are open?", "Which of these are late?", "Who are the customers?")
REWORDED = "Which orders are still open?"
TABLE = {ROUTINE[0]: [1.0, 0.0], REWORDED: [1.0, 0.1]}


def answer(messages: list[Any]) -> AIMessage:
    return ai(f"About: {messages[-1].text}", input_tokens=10_000)


class Desk:
    """An agent, or a wrapped model, behind a cache that predicts; asked by users in sessions."""

    def __init__(self, way: str = "sync agent", *, database: Database | str | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.way = way
        self.sink = ListSink()
        self.tenant = "acme"
        self.tools: list[Any] = settings.pop("tools", [])
        self.model = ScriptedModel(responses=settings.pop("responses", [answer]))
        self.pricing = settings.pop("pricing", PRICES)
        self.saver = settings.pop("checkpointer", None)
        self.cache = SemanticCache(
            **{
                "embeddings": TableEmbeddings(TABLE),
                "database": database,
                "clock": self.clock,
                "predict": True,
                "pricing": self.pricing,
                **settings,
            }
        )
        self.optimizer = TokenOptimizer(
            cache=self.cache, tools=None, history=None, pricing=self.pricing, database=self.cache_database()
        )
        self.middleware = next(flow for flow in self.optimizer.middleware if flow.part == "cache")
        self.target = self.build()

    def cache_database(self) -> Database | None:
        given = self.cache._resources.given_database
        return given if isinstance(given, Database) else None

    def build(self) -> Any:
        if self.way.endswith("model"):
            return self.optimizer.wrap(self.model)
        return create_agent(
            self.model,
            tools=self.tools,
            middleware=self.optimizer.middleware,
            system_prompt="You know orders.",
            checkpointer=self.saver,
        )

    def ask(self, question: str, user: str | None = "ada", *, thread: str | None = None) -> AIMessage:
        """The answer, once all that is done beside it is done, too."""
        named = {"tenant": self.tenant, "user_id": user, "thread_id": thread}
        config = {"configurable": {name: value for name, value in named.items() if value is not None}}
        given: Any = [HumanMessage(question)]
        if self.way.endswith("agent"):
            given = {"messages": given}
        if self.way.startswith("async"):
            found = awaited(self.aask(given, config))
        else:
            found = self.target.invoke(given, config)
            assert self.middleware.background.drain(WAIT)
        assert self.cache.settle(WAIT)
        message = found["messages"][-1] if self.way.endswith("agent") else found
        assert isinstance(message, AIMessage)
        return message

    async def aask(self, given: Any, config: Any) -> Any:
        found = await self.target.ainvoke(given, config)
        # Its calls in the background are tasks of this event loop.
        assert await self.middleware.background.adrain(WAIT)
        return found

    def session(self, *questions: str, user: str | None = "ada", times: int = 1) -> None:
        for _ in range(times):
            for question in questions or ROUTINE:
                self.ask(question, user)
            self.clock.advance(7_200)

    def told(self, *names: str) -> list[Any]:
        prediction = self.cache.stats()["prediction"]
        return [prediction[name] for name in names]

    def close(self) -> None:
        self.optimizer.close()


@pytest.fixture
def desk() -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*args: Any, **settings: Any) -> Desk:
        made.append(Desk(*args, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


WAYS = ("sync agent", "async agent", "sync model", "async model")


# --- learning and loading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_follows_is_learned_and_loaded_ahead(desk: Callable[..., Desk], way: str) -> None:
    one = desk(way)
    one.session(times=24)
    # Two predictions a session come true; the first session teaches them.
    assert one.told("made", "used", "share") == [46, 46, 1.0]
    loaded, used = one.told("preloaded", "preloaded_used")
    assert loaded == used > 0
    assert one.told("precomputed", "spent_usd", "net_usd") == [0, 0, 0]
    assert len(one.model.calls) == 3


def test_what_is_loaded_is_found_without_a_query(desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**TABLE, ROUTINE[1]: [0.0, 1.0], "Which of these orders are late?": [0.1, 1.0]}
    one = desk(embeddings=TableEmbeddings(table))
    one.session(times=24)
    store = one.cache.desk.store
    store._choosing.forget()
    one.ask(ROUTINE[0])
    reads: list[int] = []
    monkeypatch.setattr(store.entries, "read", lambda entry, _: reads.append(entry))
    assert one.ask("Which of these orders are late?").text == f"About: {ROUTINE[1]}"
    assert reads == []


def test_another_wording_that_is_served_the_same_answer_is_the_same_question(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.session()
    one.session(REWORDED, *ROUTINE[1:], times=10)
    assert len(one.model.calls) == 3
    assert one.told("made", "used") == [20, 20]


def test_users_learn_from_each_other_within_a_tenant_only(desk: Callable[..., Desk]) -> None:
    one = desk()
    for number in range(10):
        one.session(user=f"user {number}")
    assert one.told("made") == [18]
    one.tenant = "other"
    one.session(user="user 1")
    assert one.told("made") == [18]


@pytest.mark.parametrize("way", ["sync agent", "sync model"])
def test_who_is_not_known_teaches_nothing_and_a_thread_is_as_good_as_a_user(
    desk: Callable[..., Desk], way: str
) -> None:
    one = desk(way)
    one.session(user=None, times=3)
    assert one.told("made") == [0]
    for number in range(3):
        for question in ROUTINE:
            one.ask(question, None, thread=f"t{number}")
    assert one.told("made") == [4]


def test_it_is_off_by_default_and_then_nothing_is_written() -> None:
    database = Database()
    cache = SemanticCache(embeddings=TableEmbeddings(), database=database)
    agent: Any = create_agent(ScriptedModel(), middleware=[SemanticCacheMiddleware(cache)])
    for question in ROUTINE * 2:
        agent.invoke({"messages": [HumanMessage(question)]}, {"configurable": {"user_id": "ada"}})
    assert "prediction" not in cache.stats()
    with database.read() as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master WHERE name LIKE '%follow%'")).all()
    assert tables == []
    cache.close()
    database.close()


def test_in_shadow_it_learns_and_asks_for_nothing() -> None:
    clock = FakeClock()
    cache = SemanticCache(
        embeddings=TableEmbeddings(), clock=clock, ttl_seconds=60, precompute=Precompute(usd_per_day=1), pricing=PRICES
    )
    middleware = SemanticCacheMiddleware(cache, mode="shadow")
    model = ScriptedModel(responses=[answer])
    agent: Any = create_agent(model, middleware=[middleware])
    for _ in range(30):
        for question in ROUTINE:
            agent.invoke({"messages": [HumanMessage(question)]}, {"configurable": {"user_id": "ada"}})
        clock.advance(7_200)
    told = cache.stats()["prediction"]
    assert (told["made"], told["used"], told["precomputed"]) == (58, 58, 0)
    assert told["refused"]["in shadow no further call is made"] > 0
    assert len(model.calls) == 90
    cache.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_there_after_a_restart_and_clear_forgets_it(
    desk: Callable[..., Desk], tmp_path: Path, kind: str
) -> None:
    with database_url(kind, tmp_path) as url:
        database = Database(url)
        first = desk(database=database)
        first.session(times=5)
        first.tenant = "other"
        first.session(times=5)
        first.cache.close()

        def foretold() -> int:
            """How many predictions a new process makes for a new user's first questions, and how many come true."""
            again = desk(database=database)
            again.session(user="eve")
            again.cache.close()
            made, used = again.told("made", "used")
            assert made == used
            return int(used)

        def rows(table: str = "followers") -> int:
            with database.read() as connection:
                return int(connection.execute(text(f"SELECT COUNT(*) FROM tokopt_cache_{table}")).scalar_one())

        assert foretold() == 1  # with the first question it begins to read what is known
        everything, records = rows(), rows("predictions")
        again = desk(database=database)
        again.cache.clear(tenant="acme")
        assert 0 < rows() < everything
        assert 0 < rows("predictions") < records
        again.cache.clear(user="ada")
        left = rows()
        again.cache.clear()
        assert (left > 0, rows(), rows("predictions")) == (True, 0, 0)
        again.cache.close()
        assert foretold() == 0
        database.close()


# --- answers ahead ---------------------------------------------------------------------------------------------------


def ahead(**settings: Any) -> dict[str, Any]:
    """Answers expire between sessions; those that come next are made ahead."""
    return {"ttl_seconds": 3_600, "ttl_jitter": 0.0, "precompute": Precompute(usd_per_day=settings.pop("usd", "10"))}


@pytest.mark.parametrize("way", WAYS)
def test_an_expired_likely_answer_is_there_when_it_is_asked_for(desk: Callable[..., Desk], way: str) -> None:
    one = desk(way, **ahead())
    one.session(times=30)
    assert one.told("precomputed")[0] > 0
    before = len(one.model.calls)
    one.cache.desk.store.clean()  # what has expired is gone, and only remembered
    one.ask(ROUTINE[0])
    assert [call.messages[-1].text for call in one.model.calls[before:]] == [ROUTINE[0], ROUTINE[1]]
    sent = one.model.calls[-1].messages
    assert [message.type for message in sent] == (["human"] if way.endswith("model") else ["system", "human"])
    given = one.ask(ROUTINE[1])
    assert given.text == f"About: {ROUTINE[1]}"
    assert given.response_metadata["tokopt"]["cache"] == "exact"
    stored = one.cache.catalog.get(given.response_metadata["tokopt"]["entry"])
    assert stored is not None
    assert stored.source == "prefetch"
    # Every one was used: what was spent is what it would have cost, and all that was won is time.
    made, used, spent, saved, net = one.told("precomputed", "precomputed_used", "spent_usd", "saved_usd", "net_usd")
    assert made == used + 1  # the third question's answer waits
    assert (spent, saved, net) == (made * CENT, used * CENT, -CENT)
    stats = one.cache.stats()
    assert stats["net_usd"] == stats["saved_usd"] - spent
    # The user's calls and those ahead are on record, the latter as the optimiser's own.
    calls = events(one.optimizer, ModelCall)
    assert sum(call.internal for call in calls) == made
    assert len(calls) == len(one.model.calls)


def test_the_days_budget_ends_it_and_the_next_day_goes_on(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead(usd="0.03"))
    one.clock.now -= one.clock.now % 86_400
    for _ in range(36):  # a session every two hours is twelve a day, with two answers each that could be made ahead
        one.session()
    by_day = one.told("spent_usd")[0] / CENT
    assert by_day in (3, 6)  # the first day goes to learning that it pays
    assert one.told("refused")[0]["today's budget for answers made ahead is used up"] > 0


@pytest.mark.parametrize("why", ["the price", "the usage"])
def test_without_a_known_cost_nothing_is_made_ahead(desk: Callable[..., Desk], why: str) -> None:
    if why == "the price":
        one = desk(**ahead())
        one.model.model_name = "home-made"
        one.target = one.build()
    else:
        one = desk(**ahead(), responses=[lambda messages: f"About: {messages[-1].text}"])
    one.session(times=30)
    assert one.told("precomputed", "spent_usd") == [0, 0]
    assert one.told("refused")[0]["what it costs is not known"] > 0
    assert len(one.model.calls) == 90


def test_where_nothing_follows_from_anything_it_stays_off(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead())
    rng = random.Random(7)
    words = ("stock", "price", "size", "colour", "weight", "origin", "maker", "shipping")
    questions = [f"What about {word}?" for word in words]
    for _ in range(40):
        rng.shuffle(questions)
        one.session(*questions[:5])
    made, used = one.told("made", "used")
    assert made > 100
    assert used < made / 2
    assert one.told("precomputed", "spent_usd") == [0, 0]
    assert one.told("refused") == [{"too seldom used": one.told("refused")[0]["too seldom used"]}]


def test_answers_in_the_middle_of_conversations_are_never_made_ahead(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead(), checkpointer=InMemorySaver())
    for number in range(30):
        for question in ROUTINE:
            one.ask(question, thread=f"t{number}")
        one.clock.advance(7_200)
    assert one.told("made", "used") == [58, 58]
    assert one.told("precomputed", "preloaded") == [0, 0]
    assert len(one.model.calls) == 90


def test_questions_that_stand_for_themselves_are_answered_ahead_in_conversations_too(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead(), checkpointer=InMemorySaver(), history="ignore")
    questions = ("What are the opening hours?", "What does shipping cost?", "What is the return policy?")
    for number in range(30):
        for question in questions:
            one.ask(question, thread=f"t{number}")
        one.clock.advance(7_200)
    made, used = one.told("precomputed", "precomputed_used")
    assert made == used > 0
    # The user's own questions come with what was said before, those ahead without.
    fresh = [call.messages[-1].text for call in one.model.calls if len(call.messages) == 2]
    assert len([question for question in fresh if question != questions[0]]) == made


@pytest.mark.parametrize("way", ["sync model", "async model"])
def test_a_stream_has_answers_made_ahead_when_it_has_ended(desk: Callable[..., Desk], way: str) -> None:
    one = desk(way, **ahead())
    one.session(times=30)
    config: Any = {"configurable": {"tenant": one.tenant, "user_id": "ada"}}

    async def streamed() -> str:
        said = [chunk.text async for chunk in one.target.astream(ROUTINE[0], config)]
        assert await one.middleware.background.adrain(WAIT)
        return "".join(said)

    if way == "async model":
        assert asyncio.run(streamed()) == f"About: {ROUTINE[0]}"
    else:
        assert "".join(chunk.text for chunk in one.target.stream(ROUTINE[0], config)) == f"About: {ROUTINE[0]}"
        assert one.middleware.background.drain(WAIT)
    assert one.cache.settle(WAIT)
    assert one.ask(ROUTINE[1]).response_metadata["tokopt"]["cache"] == "exact"


@tool
def orders() -> str:
    """Open orders."""
    return "none"


def test_answers_from_tools_are_not_made_ahead(desk: Callable[..., Desk]) -> None:
    def step(messages: list[Any]) -> AIMessage:
        if messages[-1].type == "tool":
            return ai("None.", input_tokens=10_000)
        return ai(tool_calls=[{"name": "orders", "args": {}}], input_tokens=10_000)

    one = desk(**ahead(), tools=[orders], cacheable_tools=["orders"], responses=[step])
    one.session(times=30)
    assert one.cache.stats()["entries"] > 0
    assert one.told("precomputed", "spent_usd") == [0, 0]
    assert len(one.model.calls) == 180


def test_one_question_at_a_time_is_answered_ahead_once(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead())
    one.session(times=30)
    before = one.told("precomputed")[0]
    for user in ("ada", "bob", "eve"):
        one.ask(ROUTINE[0], user)
    assert one.told("precomputed")[0] == before + 1


# --- in nobody's way -------------------------------------------------------------------------------------------------


class Broken(Database):
    """A database that has no room for predictions."""

    def migrate(self, component: str, steps: Any) -> int:
        if component == "cache_prediction":
            msg = "the disk is full"
            raise StoreError(msg)
        return super().migrate(component, steps)


@pytest.mark.parametrize("way", WAYS)
def test_a_database_that_fails_is_not_noticed_by_anyone_who_asks(
    desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture, way: str
) -> None:
    one = desk(way, database=Broken(), precompute=Precompute(usd_per_day=1), ttl_seconds=3_600)
    one.session(times=30)
    assert one.told("made", "used") == [58, 58]  # in memory it goes on
    assert one.told("precomputed", "spent_usd") == [0, 0]  # what was spent cannot be kept account of
    assert one.cache.stats()["errors"] == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message for message in warnings if "predicting" in message] == [
        "predicting goes on in memory only: StoreError: the disk is full"
    ]


@pytest.mark.parametrize("way", WAYS)
def test_an_error_in_predicting_costs_no_hit(
    desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    one = desk(way)
    one.ask(ROUTINE[0])
    assert one.cache._foresight is not None

    def fail(*_: Any, **__: Any) -> Any:
        msg = "out of luck"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(one.cache._foresight.prefetch, "asked", fail)
    for _ in range(2):
        assert one.ask(ROUTINE[0]).response_metadata["tokopt"]["cache"] == "exact"
    assert len(one.model.calls) == 1
    assert [r.getMessage() for r in caplog.records if "stepped aside" in r.getMessage()] == [
        "predicting stepped aside: ZeroDivisionError: out of luck"
    ]


def test_a_model_that_fails_ahead_is_on_record_and_asked_again_by_the_user(desk: Callable[..., Desk]) -> None:
    failing = False

    def step(messages: list[Any]) -> AIMessage:
        if failing and messages[-1].text == ROUTINE[1]:
            msg = "overloaded"
            raise RuntimeError(msg)
        return answer(messages)

    one = desk(**ahead(), responses=[step])
    one.session(times=30)
    failing = True
    one.ask(ROUTINE[0])
    failing = False
    assert one.told("refused")[0]["the call failed"] == 1
    assert one.ask(ROUTINE[1]).text == f"About: {ROUTINE[1]}"


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"predict": 1}, "predict"),
        ({"predict": "yes"}, "predict"),
        ({"precompute": "1.00"}, "precompute"),
        ({"precompute": Decimal(1)}, "precompute"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        SemanticCache(**settings)


# --- what the events say ---------------------------------------------------------------------------------------------


def _one_of_three() -> int:
    """A seed with which one of the first three equal answers is audited: the lot of `AnswerDesk`."""
    return next(seed for seed in itertools.count() if sum(np.random.default_rng(seed).random(3) < 0.05) == 1)


ONE_OF_THREE = _one_of_three()


def events(one: TokenOptimizer, kind: type[Any]) -> list[Any]:
    one.telemetry.flush()
    return [event for event in one.telemetry.events() if isinstance(event, kind)]


def test_there_is_one_lookup_for_each_question_of_a_user(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead())
    one.session(times=30)
    looks = events(one.optimizer, CacheLookup)
    assert len(looks) == 90
    assert len({look.request for look in looks}) == 90
    assert len(one.model.calls) > len([look for look in looks if look.outcome == "miss"])


def test_who_has_waited_for_another_is_one_lookup_all_the_same() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(_: Any) -> str:
        asked.set()
        assert go_on.wait(WAIT)
        return "By card."

    with TokenOptimizer(cache=SemanticCache(embeddings=TableEmbeddings()), tools=None, history=None) as tokopt:
        model = tokopt.wrap(ScriptedModel(responses=[slow]))
        flights = tokopt.cache.flights if tokopt.cache else None
        assert flights is not None
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(model.invoke, "How do I pay?")
            assert asked.wait(WAIT)
            boarded = threading.Event()
            waits = flights.approach

            def approach(*args: Any) -> Any:
                found = waits(*args)
                boarded.set()
                return found

            flights.approach = approach  # type: ignore[method-assign]
            second = pool.submit(model.invoke, "How do I pay?")
            assert boarded.wait(WAIT)
            go_on.set()
            assert [one.result(WAIT).text for one in (first, second)] == ["By card."] * 2
        assert [look.outcome for look in events(tokopt, CacheLookup)] == ["miss", "exact"]
        assert len(events(tokopt, ModelCall)) == 1


def test_a_step_that_asks_again_is_told_as_that_and_teaches_nothing() -> None:
    class Again(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            handler(request)
            return handler(request)

    sink = ListSink()
    cache = SemanticCache(embeddings=TableEmbeddings(), predict=True)
    agent: Any = create_agent(
        ScriptedModel(responses=["no", "yes"]), middleware=[Again(), SemanticCacheMiddleware(cache, sink=sink)]
    )
    config = {"configurable": {"user_id": "ada"}}
    assert agent.invoke({"messages": [HumanMessage("How do I pay?")]}, config)["messages"][-1].text == "yes"
    assert [(look.outcome, look.reason) for look in sink.of(CacheLookup)] == [
        ("miss", "nothing stored"),
        ("bypass", "the same step asks again"),
    ]
    assert cache._foresight is not None
    assert cache._foresight.prefetch._successions.unwritten() == 0
    cache.close()


def test_a_call_of_another_optimisers_own_is_no_lookup() -> None:
    outer = TokenOptimizer(
        name="outer", cache=SemanticCache(max_error=0.01, embeddings=TableEmbeddings(), seed=ONE_OF_THREE), tools=None
    )
    inner = TokenOptimizer(name="inner", cache=SemanticCache(embeddings=TableEmbeddings()), tools=None)
    model = ScriptedModel()
    agent: Any = create_agent(model, middleware=[*outer.middleware, *inner.middleware])
    for _ in range(4):
        agent.invoke({"messages": [HumanMessage("How do I pay?")]})
        assert outer.middleware[0].background.drain(WAIT)
    assert len(model.calls) == 2  # the first one, and the audit
    assert [look.outcome for look in events(inner, CacheLookup)] == ["miss"]
    for one in (outer, inner):
        one.close()


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_was_saved_is_told_beside_what_audits_cost_and_net_of_it(is_async: bool) -> None:
    cache = SemanticCache(max_error=0.01, embeddings=TableEmbeddings(), seed=ONE_OF_THREE)
    with TokenOptimizer(cache=cache, tools=None, history=None, pricing=PRICES) as tokopt:
        model = ScriptedModel(responses=[ai("By card.", input_tokens=30_000), ai("By card.", input_tokens=20_000)])
        agent: Any = create_agent(model, middleware=tokopt.middleware)
        for _ in range(4):
            given = {"messages": [HumanMessage("How do I pay?")]}
            await agent.ainvoke(given) if is_async else agent.invoke(given)
            assert await tokopt.middleware[0].background.adrain(WAIT)
        assert cache.settle(WAIT)
        tokopt.telemetry.flush()
        report, stats = tokopt.report(), cache.stats()
    assert len(model.calls) == 2
    assert (report.cache.exact, report.cache.misses, report.cache.bypassed) == (3, 1, 0)
    # What the three hits would have cost; what the audit cost; and the difference.
    assert report.saved.usd == 9 * CENT
    assert (report.overhead.calls, report.overhead.cost_usd) == (1, 2 * CENT)
    assert report.net_saved_usd == 7 * CENT
    # The bill holds all that was paid: the first call and the audit.
    assert (report.measured.calls, report.measured.cost_usd) == (2, 5 * CENT)
    assert (stats["audits_begun"], stats["saved_usd"], stats["audit_usd"]) == (1, 9 * CENT, 2 * CENT)
    assert stats["net_usd"] == report.net_saved_usd


def test_the_report_is_net_of_answers_made_ahead(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead())
    one.session(times=30)
    one.optimizer.telemetry.flush()
    report, stats = one.optimizer.report(), one.cache.stats()
    spent = stats["prediction"]["spent_usd"]
    assert spent > 0
    assert (report.overhead.calls, report.overhead.cost_usd) == (stats["prediction"]["precomputed"], spent)
    assert (report.saved.usd, report.net_saved_usd) == (stats["saved_usd"], stats["net_usd"])
    assert report.measured.cost_usd == len(one.model.calls) * CENT


def test_status_and_stats_can_be_written_as_json(desk: Callable[..., Desk]) -> None:
    one = desk(**ahead(), max_error=0.01)
    for _ in range(2):  # before the first question, too
        for told in (one.optimizer.status(), one.cache.stats()):
            written = json.loads(json.dumps(told, default=_as_text, allow_nan=False))
            assert written.keys() == told.keys()
        one.session(times=3)


def _as_text(value: Any) -> str:
    assert isinstance(value, Decimal), value
    return str(value)


@pytest.mark.parametrize(
    ("preset", "threshold", "max_error"),
    [("standard", 0.93, None), ("aggressive", None, 0.02), ("adaptive", None, 0.01)],
)
def test_what_presets_decide_by(preset: Any, threshold: float | None, max_error: float | None) -> None:
    with TokenOptimizer.preset(preset) as tokopt:
        assert tokopt.cache is not None
        assert (tokopt.cache.threshold, tokopt.cache.settings.max_error) == (threshold, max_error)
        assert tokopt.cache.predicts is False
