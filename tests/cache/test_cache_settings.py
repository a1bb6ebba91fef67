"""Settings that cannot work are refused when the cache is built: the message names the argument, value and remedy."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import HumanMessage

from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware, SemanticLLMCache
from langchain_tokopt.cache.settings import CacheSettings
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from tests.cache.questions import Knowing, TopicEmbeddings, answer_to, right, stream, teach, unasked
from tests.fakes import ScriptedModel, TableEmbeddings


async def async_judge(question: str, stored: str, new: str) -> bool:
    return stored == new


@pytest.mark.parametrize(
    ("argument", "value", "remedy"),
    [
        ("max_error", 0, "in (0, 1), such as 0.01"),
        ("max_error", 1, "in (0, 1), such as 0.01"),
        ("max_error", -0.1, "in (0, 1), such as 0.01"),
        ("max_error", float("nan"), "in (0, 1), such as 0.01"),
        ("max_error", "1 %", "in (0, 1), such as 0.01"),
        ("max_error", True, "in (0, 1), such as 0.01"),
        ("threshold", 0, "in (0, 1], such as 0.93"),
        ("threshold", 93, "in (0, 1], such as 0.93"),
        ("audit_rate", 0, "in (0, 1], such as 0.03"),
        ("audit_rate", 3, "in (0, 1], such as 0.03"),
        ("audit_rate", float("nan"), "in (0, 1], such as 0.03"),
        ("warm_up_requests", -1, "0 or more"),
        ("warm_up_requests", 1.5, "0 or more"),
        ("judge", "llm", 'use "similarity", "text", or a function'),
        ("judge", None, 'use "similarity", "text", or a function'),
        ("judge", async_judge, "not async"),
        ("judge_candidates", 0, "a whole number of at least 1"),
        ("judge_timeout_seconds", 0, "above 0"),
        ("judge_timeout_seconds", float("nan"), "above 0"),
        ("history", "fuzzy", 'use "exact", "ignore" or "semantic"'),
        ("eviction", "fifo", "lru, lfu, ttl, cost, adaptive"),
        ("eviction", None, "lru, lfu, ttl, cost, adaptive"),
        ("eviction", ["lru"], "lru, lfu, ttl, cost, adaptive"),
        ("max_entries", 0, ""),
        ("max_bytes", 0, ""),
        ("max_bytes", "1 GB", ""),
        ("max_entry_bytes", 0, "a whole number of at least 1"),
        ("ttl_seconds", -1, "above 0"),
        ("ttl_jitter", 1, ""),
        ("ttl_jitter", -0.1, ""),
        ("on_embedder_change", "mix", 'use "reembed" or "refuse"'),
        ("index_folder", 3, "the path of a folder"),
        ("semantic_max_tokens", -1, "0 for exact matches only"),
        ("semantic_max_tokens", "256", "0 for exact matches only"),
        ("neighbours", 0, "a whole number of at least 1"),
        ("max_scopes", True, "a whole number of at least 1"),
        ("seed", "x", "a whole number of at least 0"),
        ("seed", -1, "a whole number of at least 0"),
        ("cacheable_tools", 3, "a list of tool names"),
        ("cacheable_tools", [3], "a list of tool names"),
        ("wait_seconds", float("nan"), "0 for not waiting"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(argument: str, value: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        SemanticCache(**{argument: value})
    error = raised.value
    assert (error.argument, repr(error.value)) == (argument, repr(value))
    assert str(error) == f"{argument}={value!r} cannot be used: {error.remedy}"
    assert remedy in error.remedy


def test_a_bound_and_a_threshold_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="give either max_error, for a bounded error, or threshold") as raised:
        SemanticCache(max_error=0.01, threshold=0.9)
    assert (raised.value.argument, raised.value.value) == ("threshold", 0.9)


def test_without_either_there_is_a_plain_threshold() -> None:
    cache = SemanticCache(embeddings=TableEmbeddings())
    assert cache.threshold == cache.serves_from() == 0.93
    assert "decision" not in cache.stats()
    assert SemanticCache(threshold=0.8).threshold == 0.8


def test_with_a_bound_there_is_none() -> None:
    cache = SemanticCache(max_error=0.01, embeddings=TableEmbeddings())
    assert cache.threshold is None
    assert cache.serves_from() is None
    assert cache.stats()["decision"]["max_error"] == 0.01


def test_a_judge_that_costs_something_compares_few() -> None:
    assert CacheSettings().candidates == CacheSettings(judge="text").candidates == 8
    assert CacheSettings(judge=lambda *_: True).candidates == 2
    assert CacheSettings(judge=lambda *_: True, judge_candidates=5).candidates == 5
    assert CacheSettings(judge_candidates=1).candidates == 1


# --- a database that is damaged, gone or only read -------------------------------------------------------------------


def learning(**settings: Any) -> SemanticCache:
    return SemanticCache(max_error=0.02, embeddings=TopicEmbeddings(), seed=1, warm_up_requests=100, **settings)


def test_closing_after_the_database_is_gone_says_so_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    database = Database()
    cache = learning(database=database)
    teach(cache, stream(40))
    database.close()
    cache.close()
    told = [record.message for record in caplog.records if "could not write down its latest" in record.message]
    assert told
    assert all("StoreError" in message for message in told)


def test_from_a_database_that_is_only_read_the_very_same_questions_are_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache.db"
    cache = learning(database=path)
    teach(cache, stream(150))
    cache.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    cache, model = learning(database=f"sqlite:///file:{path}?mode=ro&uri=true"), Knowing()
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    stored = {entry.question for entry in cache.catalog.find(limit=None)}
    for question in stream(150, seed=3):
        answer = agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1]
        assert answer.text == answer_to(question)
        if question in stored:
            assert answer.response_metadata["tokopt"]["cache"] == "exact"
        else:
            assert "tokopt" not in answer.response_metadata
    assert cache.settle()
    assert 0 < len(model.calls) < 150
    cache.close()
    kinds = Counter(record.message.partition(":")[0] for record in caplog.records)
    assert set(kinds.values()) == {1}  # each kind of failure is logged once
    assert "cache stepped aside (response)" in kinds


def test_an_unreadable_record_of_what_was_learned_costs_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache.db"
    cache = learning(database=path)
    teach(cache, stream(40))
    cache.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE tokopt_cache_labels")
    connection.close()
    cache = learning(database=path)
    question, *_ = unasked(cache)
    key = cache.key(ModelRequest(model=Knowing(), messages=[HumanMessage(question)]))
    assert key is not None
    look = cache.look(key)
    assert look.hit is None
    assert cache.store(key, ModelResponse[Any](result=[right(question)]), look)
    assert cache.settle()
    assert cache.lookup(key) is not None
    cache.close()
    assert any("learning what may be served" in record.message for record in caplog.records)


def test_the_llm_cache_closes_what_its_cache_opened(tmp_path: Path) -> None:
    cache = SemanticLLMCache(learning(database=tmp_path / "cache.db"))
    model = ScriptedModel(responses=["x"], cache=cache)
    model.invoke("say something about the harbour")
    assert cache.stats()["entries"] == 1
    cache.close()
    assert cache.lookup("x", "y") is None  # it has stepped aside
