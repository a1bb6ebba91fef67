"""Answers that are removed, carried elsewhere, or put in from logs, through the cache itself; and whose they are."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware, SemanticLLMCache
from langchain_tokopt.cache.warm_up import Refused, WarmUp
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from tests.cache.questions import Knowing, TopicEmbeddings, audit, stream, teach, unasked
from tests.databases import database_url
from tests.fakes import FakeClock, ScriptedModel, TableEmbeddings, ai

TABLE = {"How do I pay?": [1.0, 0.0], "How can I pay?": [1.0, 0.1], "When do you open?": [0.0, 1.0]}


@tool
def weather(place: str) -> str:
    """The weather at a place."""
    return f"sun in {place}"


class Desk:
    """An agent with a cache whose answers are numbered, so that one that is given again is known."""

    def __init__(self, *, tools: bool = False, **settings: Any) -> None:
        self.clock = FakeClock()
        self.cache = SemanticCache(**{"embeddings": TableEmbeddings(TABLE), "clock": self.clock, **settings})
        self.model = ScriptedModel(responses=[str(number) for number in range(50)])
        self.agent = create_agent(
            self.model, [weather] if tools else [], middleware=[SemanticCacheMiddleware(self.cache)]
        )

    def says(self, question: str, **whose: str) -> str:
        state = self.agent.invoke({"messages": [HumanMessage(question)]}, {"configurable": whose})
        return str(state["messages"][-1].text)


# --- invalidate and clear --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "removed"),
    [
        ({"tenant": "a"}, {"a"}),
        ({"tenant": "c"}, set()),
        ({"user": "u"}, {"u"}),
        ({"user": "a"}, set()),
        ({"older_than": timedelta(minutes=2)}, {"a", "b"}),
        ({"older_than": timedelta(minutes=2), "tenant": "b"}, {"b"}),
        ({"older_than": timedelta(0)}, {"a", "b", "u"}),
        ({"tag": "tool:weather"}, set()),
        ({"scope": "nowhere"}, set()),
    ],
)
def test_answers_that_fit_all_that_is_given_are_removed(what: dict[str, Any], removed: set[str]) -> None:
    desk = Desk()
    whose: dict[str, dict[str, str]] = {"a": {"tenant": "a"}, "b": {"tenant": "b"}, "u": {"user_id": "u"}}
    first = {}
    for name, caller in whose.items():
        first[name] = desk.says("How do I pay?", **caller)
        desk.clock.advance(61)
    assert desk.cache.invalidate(**what) == len(removed)
    again = {name: desk.says("How can I pay?", **caller) for name, caller in whose.items()}
    assert {name for name in whose if again[name] != first[name]} == removed


def test_a_scope_is_named_by_its_digest() -> None:
    desk = Desk()
    desk.says("How do I pay?")
    (entry,) = desk.cache.catalog.find()
    key = desk.cache.key(ModelRequest(model=desk.model, messages=[HumanMessage("How do I pay?")]))
    assert key is not None
    assert entry.scope == key.scope
    assert desk.cache.invalidate(scope=key.scope[:12]) == 1
    assert desk.cache.stats()["entries"] == 0


@pytest.mark.parametrize("by", ["tag", "tool"])
def test_answers_that_came_from_a_tool_are_removed_by_its_name(by: str) -> None:
    desk = Desk(tools=True, cacheable_tools=["weather"], ttl_seconds=3_600)
    call = ai(tool_calls=[{"name": "weather", "args": {"place": "Rome"}}])
    desk.model.responses = [call, "sunny", "by card", call, "rainy"]
    assert [desk.says("When do you open?"), desk.says("How do I pay?")] == ["sunny", "by card"]
    assert desk.says("When do you open?") == "sunny"
    assert (desk.cache.invalidate(tag="tool:weather") if by == "tag" else desk.cache.clear(tool="weather")) == 1
    assert [desk.says("When do you open?"), desk.says("How do I pay?")] == ["rainy", "by card"]


def test_nothing_given_is_an_error_and_removes_nothing() -> None:
    desk = Desk()
    desk.says("How do I pay?")
    with pytest.raises(ConfigurationError, match=r"clear\(\) removes all"):
        desk.cache.invalidate()
    assert desk.cache.stats()["entries"] == 1
    assert desk.cache.clear() == 1


def test_answers_of_langchains_cache_hook_are_left_alone() -> None:
    desk = Desk()
    hook = SemanticLLMCache(desk.cache)
    model = ScriptedModel(responses=["hooked"], cache=hook)
    model.invoke("How do I pay?")
    desk.says("How do I pay?")
    assert desk.cache.invalidate(older_than=timedelta(0)) == 0  # stored in this very moment
    desk.clock.advance(1)
    assert desk.cache.invalidate(older_than=timedelta(0)) == 1
    assert hook.stats()["entries"] == 1
    desk.says("How do I pay?")
    hook.clear()
    assert (hook.stats()["entries"], desk.cache.stats()["entries"]) == (0, 1)


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_other_processes_see_a_removal_at_once(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        databases = [Database(url) for _ in "ab"]
        one, other = (Desk(database=database) for database in databases)
        other.model.responses = ["other's"]
        assert one.says("How do I pay?") == other.says("How can I pay?") == "0"
        assert one.cache.invalidate(older_than=timedelta(seconds=-0.0)) == 0
        one.clock.advance(5)
        assert one.cache.invalidate(older_than=timedelta(seconds=1)) == 1
        assert other.says("How can I pay?") == "other's"
        for database in databases:
            database.close()


def test_one_tenants_clearing_leaves_the_others() -> None:
    desk = Desk()
    for tenant in "ab":
        desk.says("How do I pay?", tenant=tenant)
    assert desk.cache.clear(tenant="a") == 1
    assert [desk.says("How do I pay?", tenant=tenant) for tenant in "ab"] == ["2", "1"]


# --- while it learns -------------------------------------------------------------------------------------------------


def test_what_was_learned_outlives_the_answers() -> None:
    cache = SemanticCache(max_error=0.02, embeddings=TopicEmbeddings(), seed=1, warm_up_requests=100)
    teach(cache, stream(250))
    audit(cache, 0.0)
    learned = cache.stats()["decision"]["labels"]
    first, *others = unasked(cache)
    assert cache.clear() > 50
    model = Knowing()
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])

    def how(question: str) -> str | None:
        message = agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1]
        assert cache.settle()
        note = message.response_metadata.get("tokopt")
        return None if note is None else str(note["cache"])

    assert how(first) is None
    assert "semantic" in {how(question) for question in others[:5]}
    assert cache.stats()["decision"]["labels"] >= learned
    cache.close()


# --- carried elsewhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [False, True])
def test_an_export_is_imported_with_tenants_and_meanings(vectors: bool, tmp_path: Path) -> None:
    desk, other = Desk(), Desk()
    other.model.responses = ["asked"]
    first = desk.says("How do I pay?", tenant="a")
    desk.says("When do you open?", tenant="b")
    path = tmp_path / "answers.jsonl"
    assert desk.cache.export(path, vectors=vectors) == 2
    done = other.cache.import_(path)
    assert done.stored == 2
    assert other.says("How can I pay?", tenant="a") == first
    assert other.says("How can I pay?", tenant="b") == "asked"


def test_bad_rows_are_named_by_line_and_the_others_imported() -> None:
    desk, other, file = Desk(), Desk(), io.StringIO()
    desk.says("How do I pay?")
    desk.says("When do you open?")
    assert desk.cache.export(file) == 2
    lines = file.getvalue().splitlines()
    broken = io.StringIO("\n".join([*lines[:-1], "{", json.dumps({"a": 1}), lines[-1]]))
    done = other.cache.import_(broken)
    assert done.stored == 2
    assert [row.line for row in done.failed] == [len(lines), len(lines) + 1]
    assert other.says("How can I pay?") == "0"


# --- from logs -------------------------------------------------------------------------------------------------------


def test_a_warm_up_serves_tenants_their_own() -> None:
    desk = Desk()
    rows = [
        {"question": "How do I pay?", "answer": "a's", "tenant": "a"},
        {"question": "How do I pay?", "answer": "b's", "tenant": "b"},
        {"question": "", "answer": "nothing"},
    ]
    like = ModelRequest(model=desk.model, messages=[])
    assert desk.cache.warm_up(rows, like=like) == WarmUp(2, [Refused(2, "question must be a text")])
    assert [desk.says("How can I pay?", tenant=tenant) for tenant in "abc"] == ["a's", "b's", "0"]
    with pytest.raises(ConfigurationError) as raised:
        desk.cache.warm_up(rows, like="gpt-4o")  # type: ignore[arg-type]
    assert raised.value.argument == "like"


def test_a_cache_that_learns_serves_a_warm_up_exactly_at_first() -> None:
    cache = SemanticCache(max_error=0.02, embeddings=TopicEmbeddings(), seed=1)
    rows = [{"question": question, "answer": "from the log"} for question in dict.fromkeys(stream(30))]
    assert cache.warm_up(rows, like=Knowing()).stored == len(rows)
    agent = create_agent(Knowing(), middleware=[SemanticCacheMiddleware(cache)])
    asked = (rows[0]["question"], next(unasked(cache)))
    say = [agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text for question in asked]
    assert say == ["from the log", "This is all about the harbour."]
    cache.close()
