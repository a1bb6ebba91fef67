"""Which requests have a key, and what is part of it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tokopt.cache import Bypass, CacheKey, SemanticCache
from langchain_tokopt.flow import internal_call
from tests.fakes import ScriptedModel, TableEmbeddings, ai


class Verdict(BaseModel):
    good: bool


@tool
def weather(place: str) -> str:
    """The weather at a place."""
    return place


def ask(*messages: BaseMessage | str, **parts: Any) -> ModelRequest[Any]:
    conversation: Any = [HumanMessage(m) if isinstance(m, str) else m for m in messages]
    return ModelRequest(**{"model": ScriptedModel(), "messages": conversation, **parts})


def cache(**settings: Any) -> SemanticCache:
    return SemanticCache(embeddings=TableEmbeddings(), **settings)


def key(request: ModelRequest[Any], **settings: Any) -> CacheKey:
    found = cache(**settings).examine(request)
    assert isinstance(found, CacheKey), found
    return found


def reason(request: ModelRequest[Any], **settings: Any) -> str:
    found = cache(**settings).examine(request)
    assert isinstance(found, Bypass), found
    return found.reason


def test_equal_requests_have_equal_keys() -> None:
    assert key(ask("hi there")) == key(ask(HumanMessage("  hi there\n", id="other")))
    assert key(ask("hi there")).text == "hi there"
    assert cache().key(ask("hi there")) == key(ask("hi there"))


EARLIER = [HumanMessage("one"), AIMessage("two")]


CHANGES = [
    ask("hi", model=ScriptedModel(model_name="gpt-4o")),
    ask("hi", system_message=SystemMessage("Be brief.")),
    ask("hi", system_message=SystemMessage("Be long.")),
    ask("hi", tools=[weather]),
    ask("hi", tools=[{"type": "web_search"}]),
    ask("hi", tools=[weather], tool_choice="none"),
    ask("hi", response_format=Verdict),
    ask("hi", model_settings={"stop": ["."]}),
    ask("hi", model_settings={"max_tokens": 5}),
    ask("hi", model_settings={"temperature": 0}),
    ask(*EARLIER, "hi"),
    ask(*EARLIER[:1], AIMessage("three"), "hi"),
    ask(HumanMessage("hi", name="ann")),
    ask(HumanMessage([{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:a"}}])),
    ask(HumanMessage([{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:b"}}])),
]


@pytest.mark.parametrize("changed", CHANGES)
def test_whatever_the_model_sees_is_part_of_the_scope(changed: ModelRequest[Any]) -> None:
    assert key(changed).scope != key(ask("hi")).scope
    assert key(changed).exact == key(ask("hi")).exact


def test_every_change_gives_a_scope_of_its_own() -> None:
    requests = [*CHANGES, ask("hi")]
    assert len({key(request).scope for request in requests}) == len(requests)


def test_a_text_block_is_the_same_as_plain_text() -> None:
    assert key(ask(HumanMessage([{"type": "text", "text": "hi"}]))) == key(ask("hi"))


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (ask(), "no messages"),
        (ask(AIMessage("hi")), "the last message is not the user's (ai)"),
        (ask("hi", SystemMessage("more")), "the last message is not the user's (system)"),
        (ask(ToolMessage("x", tool_call_id="a")), "no user message"),
        (ask("  \n"), "the user message holds no text"),
        (ask(HumanMessage([{"type": "image_url", "image_url": {"url": "data:a"}}])), "the user message holds no text"),
        (ask("hi", model_settings={"n": 2}), "n=2: several answers were asked for"),
        (ask("hi", tool_choice="any"), "forced tool_choice"),
        (ask("hi", tool_choice="weather"), "forced tool_choice"),
        (ask("hi", tool_choice={"type": "function", "function": {"name": "weather"}}), "forced tool_choice"),
        (ask("hi", model_settings={"tool_choice": "required"}), "forced tool_choice"),
        (ask("hi", model_settings={"previous_response_id": "resp_1"}), "previous_response_id: the provider holds"),
        (ask("hi", model_settings={"extra": object()}), "a setting cannot be compared: a object has no stable form"),
        (ask("hi", model=ScriptedModel().bind(stop=["."])), "the model is chosen at run time"),
        (internal_call(ask("hi")), "internal call"),
    ],
)
def test_bypassed_with_a_reason(request_: ModelRequest[Any], why: str) -> None:
    assert reason(request_).startswith(why)
    assert cache().key(request_) is None


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}])
def test_a_free_tool_choice_is_cached(choice: Any) -> None:
    assert key(ask("hi", tools=[weather], tool_choice=choice)).serve


def test_sampled_answers_are_an_opt_in() -> None:
    sampled = ask("hi", model_settings={"temperature": 0.7})
    assert reason(sampled) == "temperature=0.7: sampled answers are cached with cache_sampled=True only"
    assert key(sampled, cache_sampled=True).serve
    assert key(ask("hi", model_settings={"temperature": 0})).serve


# --- tenants ---------------------------------------------------------------------------------------------------------


class Runtime:
    def __init__(self, context: Any) -> None:
        self.context = context


def test_tenants_and_users_have_scopes_of_their_own() -> None:
    contexts: list[Any] = [{"tenant": "a"}, {"tenant": "b"}, {"user_id": "a"}, {"user_id": "b"}]
    keys = [key(ask("hi", runtime=Runtime(context))) for context in contexts]
    assert len({found.scope for found in keys}) == len(contexts)
    assert len({found.owner for found in keys}) == len(contexts)
    both = key(ask("hi", runtime=Runtime({"tenant": "a", "user_id": "z"})))
    assert both == keys[0]
    assert key(ask("hi")).owner not in {found.owner for found in keys}


def test_where_nobody_can_be_seen_nothing_is_shared() -> None:
    assert "who is calling cannot be seen" in reason(ask("hi", runtime=Runtime(None)))
    assert key(ask("hi", runtime=Runtime(None)), tenant=lambda r: "x").serve


def test_the_tenant_function_decides() -> None:
    request = ask("hi", runtime=Runtime({"tenant": "a"}))
    assert key(request, tenant=lambda r: "x") == key(ask("hi"), tenant=lambda r: "x")
    assert key(request, tenant=lambda r: "x") != key(request, tenant=lambda r: "y")
    assert reason(request, tenant=lambda r: None) == "the tenant function named no tenant"
    with pytest.raises(TypeError, match="must return a string or None, and returned int"):
        cache(tenant=lambda r: 3).key(request)


# --- tool loops ------------------------------------------------------------------------------------------------------

CALL = ai(tool_calls=[{"name": "weather", "args": {"place": "Rome"}}], input_tokens=10, output_tokens=3)


def test_a_call_after_a_tool_result_is_bypassed() -> None:
    request = ask("how is it?", CALL, ToolMessage("sun", tool_call_id="call_0"))
    assert reason(request) == "after a tool call"
    assert reason(request, cacheable_tools=["other"], ttl_seconds=60) == "after a tool call"


def test_after_cacheable_tools_the_turns_own_key_is_stored_under() -> None:
    first = key(ask("how is it?"), cacheable_tools=["weather"], ttl_seconds=60)
    after = key(
        ask("how is it?", CALL, ToolMessage("sun", tool_call_id="call_0")), cacheable_tools=["weather"], ttl_seconds=60
    )
    assert (after.scope, after.exact, after.serve) == (first.scope, first.exact, False)
    assert after.tools == ("weather",)
    assert after.spent is not None
    assert (after.spent["input_tokens"], after.spent["output_tokens"]) == (10, 3)


@pytest.mark.parametrize(
    "result",
    [
        ToolMessage("no such place", tool_call_id="call_0", status="error"),
        ToolMessage("sun", tool_call_id="unknown"),
        ToolMessage("sun", tool_call_id="unknown", name="other"),
    ],
)
def test_a_failed_or_unknown_tool_is_not_cacheable(result: ToolMessage) -> None:
    assert reason(ask("how is it?", CALL, result), cacheable_tools=["weather"], ttl_seconds=60) == "after a tool call"


# --- exact only ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["yes", "continue", "and the second one?"])
def test_a_follow_up_matches_exactly_only_and_only_after_earlier_turns(text: str) -> None:
    assert key(ask(*EARLIER, text)).exact_only == "a follow-up that needs its context"
    assert key(ask(text)).exact_only is None
    assert key(ask(SystemMessage("s"), text)).exact_only is None


def test_a_full_question_after_earlier_turns_may_match_by_meaning() -> None:
    assert key(ask(*EARLIER, "How do I reset my PIN?")).exact_only is None


def test_a_long_question_matches_exactly_only() -> None:
    long = ask("word " * 300)
    assert key(long).exact_only == "longer than the embedder reads"
    assert key(long, semantic_max_tokens=1000).exact_only is None


def test_odd_text_has_a_key() -> None:
    assert key(ask("\ud800\x00")).exact != key(ask("\ud801\x00")).exact


def test_the_optimisers_own_results_make_no_answer_stale() -> None:
    call = {"name": "search_tools", "args": {}, "id": "s"}
    turn = [HumanMessage("hi"), AIMessage("", tool_calls=[call]), ToolMessage("found", tool_call_id="s", name="x")]
    searched = ask(*turn)
    assert reason(searched) == "after a tool call"
    knowing = cache().attach(own_result=lambda message: message.tool_call_id == "s")
    own = knowing.examine(searched)
    assert isinstance(own, CacheKey)
    assert (own.serve, own.tools, own.scope) == (False, (), key(ask("hi")).scope)
    mixed = ask(*turn, AIMessage("", tool_calls=[{**call, "id": "t"}]), ToolMessage("w", tool_call_id="t"))
    assert knowing.examine(mixed) == Bypass("after a tool call")
