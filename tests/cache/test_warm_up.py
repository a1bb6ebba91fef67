"""Answers from logs are found by those who ask later: agents, wrapped models, with tools, tenants and prompts."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tokopt import TokenOptimizer
from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.cache.warm_up import Refused, WarmUp, warm_up
from langchain_tokopt.errors import ConfigurationError
from tests.fakes import ScriptedModel, TableEmbeddings

TABLE = {"How do I pay?": [1.0, 0.0], "How can I pay?": [1.0, 0.1]}
ROW = {"question": "How do I pay?", "answer": "By card."}


@tool
def weather(place: str) -> str:
    """The weather at a place."""
    return f"sun in {place}"


class Verdict(BaseModel):
    good: bool


def new_cache(**settings: Any) -> SemanticCache:
    return SemanticCache(embeddings=TableEmbeddings(TABLE), **settings)


def like(model: Any, **fields: Any) -> ModelRequest[Any]:
    return ModelRequest(model=model, messages=[], **fields)


def said(agent: Any, question: str, **options: Any) -> str:
    state = agent.invoke({"messages": [HumanMessage(question)]}, **options)
    return str(state["messages"][-1].content)


def test_an_agent_finds_them_exactly_and_by_meaning() -> None:
    model, cache = ScriptedModel(responses=["asked"]), new_cache()
    agent = create_agent(
        model, [weather], system_prompt="Be short.", middleware=[SemanticCacheMiddleware(cache)], name="clerk"
    )
    template = like(model, tools=[weather], system_message=SystemMessage("Be short."))
    assert warm_up(cache, [ROW], like=template) == WarmUp(stored=1)
    assert [said(agent, question) for question in TABLE] == ["By card."] * 2
    assert model.calls == []
    assert said(agent, "Something else") == "asked"


def test_what_stands_around_the_question_must_be_equal() -> None:
    model, cache = ScriptedModel(responses=["asked"]), new_cache()
    for template in (
        like(model),
        like(model, tools=[weather]),
        like(model, system_message=SystemMessage("Be long."), tools=[weather]),
        like(ScriptedModel(model_name="other"), system_message=SystemMessage("Be short."), tools=[weather]),
    ):
        assert warm_up(cache, [ROW], like=template).stored == 1
    agent = create_agent(model, [weather], system_prompt="Be short.", middleware=[SemanticCacheMiddleware(cache)])
    assert said(agent, "How do I pay?") == "asked"


def test_a_row_may_bring_its_system_prompt() -> None:
    model, cache = ScriptedModel(responses=["asked"]), new_cache()
    rows = [{**ROW, "system": "Be short."}, {**ROW, "answer": "With your card.", "system": "Be long."}]
    assert warm_up(cache, rows, like=like(model)) == WarmUp(stored=2)
    for prompt, answer in (("Be short.", "By card."), ("Be long.", "With your card.")):
        agent = create_agent(model, system_prompt=prompt, middleware=[SemanticCacheMiddleware(cache)])
        assert said(agent, "How do I pay?") == answer
    assert said(create_agent(model, middleware=[SemanticCacheMiddleware(cache)]), "How do I pay?") == "asked"


def test_each_tenant_and_user_finds_its_own() -> None:
    model, cache = ScriptedModel(responses=["asked"]), new_cache()
    rows = [{**ROW, "tenant": "a", "answer": "a's"}, {**ROW, "user": "u", "answer": "u's"}, {**ROW, "answer": "all's"}]
    assert warm_up(cache, rows, like=like(model)) == WarmUp(stored=3)
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)])
    for whose, answer in (
        ({"tenant": "a"}, "a's"),
        ({"user_id": "u"}, "u's"),
        ({}, "all's"),
        ({"tenant": "b"}, "asked"),
    ):
        assert said(agent, "How do I pay?", config={"configurable": whose}) == answer


def test_a_tenant_function_is_asked_with_the_context_that_it_reads() -> None:
    class Context(BaseModel):
        company: str

    class Runtime:
        context = Context(company="acme")
        execution_info = None

    model = ScriptedModel(responses=["asked"])
    cache = new_cache(tenant=lambda request: request.runtime.context.company if request.runtime else None)
    assert warm_up(cache, [ROW], like=like(model)).refused == [Refused(0, "the tenant function named no tenant")]
    template = like(model, runtime=Runtime())
    assert warm_up(cache, [{**ROW, "tenant": "acme"}], like=template).refused == [
        Refused(
            0, "the cache's tenant function reads requests: give like= the context that it reads, one call a tenant"
        )
    ]
    assert warm_up(cache, [ROW], like=template) == WarmUp(stored=1)
    agent = create_agent(model, middleware=[SemanticCacheMiddleware(cache)], context_schema=Context)
    assert said(agent, "How do I pay?", context=Context(company="acme")) == "By card."
    assert said(agent, "How do I pay?", context=Context(company="other")) == "asked"


@pytest.mark.parametrize("kind", ["plain", "bound", "bound to tools", "bound around"])
def test_a_wrapped_model_finds_them(kind: str) -> None:
    inner = ScriptedModel(responses=["asked"])
    with TokenOptimizer(embeddings=TableEmbeddings(TABLE), tools=None, history=None) as optimizer:
        assert optimizer.cache is not None
        wrapped = optimizer.wrap(inner)
        made: dict[str, Any] = {
            "plain": wrapped,
            "bound": wrapped.bind(stop=["END"], seed=3),
            "bound to tools": wrapped.bind_tools([weather]),
            "bound around": wrapped.bind_tools([weather]).bind(seed=3),
        }
        rows = [ROW, {**ROW, "system": "Be short.", "answer": "Card."}]
        assert warm_up(optimizer.cache, rows, like=made[kind]) == WarmUp(stored=2)
        assert made[kind].invoke("How can I pay?").content == "By card."
        assert made[kind].invoke([SystemMessage("Be short."), HumanMessage("How can I pay?")]).content == "Card."
        assert inner.calls == []
        assert wrapped.bind(seed=4).invoke("How can I pay?").content == "asked"


def test_a_hit_is_worth_what_the_log_says() -> None:
    model, cache = ScriptedModel(), new_cache()
    rows = [
        {**ROW, "input_tokens": 100, "output_tokens": 20, "model": "gpt-4o-mini"},
        {
            "question": "What?",
            "answer": "That.",
            "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        },
    ]
    assert warm_up(cache, rows, like=like(model)) == WarmUp(stored=2)
    for question, expected in (("How do I pay?", (100, 20)), ("What?", (1, 2))):
        key = cache.key(like(model).override(messages=[HumanMessage(question)]))
        assert key is not None
        hit = cache.lookup(key)
        assert hit is not None
        assert hit.usage is not None
        assert (hit.usage["input_tokens"], hit.usage["output_tokens"]) == expected
        assert (hit.identity.provider, hit.identity.name) == ("openai", "gpt-4o-mini")


def test_rows_that_cannot_be_stored_are_refused_and_the_others_stored() -> None:
    rows: list[Any] = [
        "no mapping",
        {"question": "a"},
        {"question": " ", "answer": "b"},
        {**ROW, "model": "gpt-5"},
        {**ROW, "scope": "x"},
        {**ROW, "tenant": 3},
        {**ROW, "input_tokens": -1},
        ROW,
    ]
    done = warm_up(new_cache(), rows, like=like(ScriptedModel()))
    assert done == WarmUp(
        stored=1,
        refused=[
            Refused(0, "it is a str, not a mapping"),
            Refused(1, "answer must be a text"),
            Refused(2, "question must be a text"),
            Refused(3, "it was answered by 'gpt-5', and like= is 'gpt-4o-mini'"),
            Refused(4, "unknown: scope"),
            Refused(5, "tenant must be a text"),
            Refused(6, "input_tokens must be a whole number"),
        ],
    )


def test_what_the_cache_leaves_alone_is_refused() -> None:
    model = ScriptedModel()
    sampled = like(model, model_settings={"temperature": 0.7})
    assert warm_up(new_cache(), [ROW], like=sampled).refused == [
        Refused(0, "temperature=0.7: sampled answers are cached with cache_sampled=True only")
    ]
    structured = like(model, response_format=ToolStrategy(Verdict))
    assert warm_up(new_cache(), [ROW], like=structured).refused == [Refused(0, "no structured response")]


@pytest.mark.parametrize("given", [None, "gpt-4o-mini", RunnableLambda(lambda x: x)])
def test_like_must_be_something_that_asks(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass a chat model"):
        warm_up(new_cache(), [ROW], like=given)


def test_the_messages_of_like_do_not_count() -> None:
    model, cache = ScriptedModel(responses=["asked"]), new_cache()
    earlier = like(model).override(messages=[HumanMessage("Hello"), AIMessage("Hello!"), HumanMessage("What?")])
    assert warm_up(cache, [ROW], like=earlier) == WarmUp(stored=1)
    assert said(create_agent(model, middleware=[SemanticCacheMiddleware(cache)]), "How do I pay?") == "By card."
