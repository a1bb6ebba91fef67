"""Digests: equal for what a model cannot tell apart, different for what it can, without ids and secrets."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, SecretStr

from langchain_tokopt.cache import fingerprint
from langchain_tokopt.cache.fingerprint import (
    IncomparableError,
    content_of,
    conversation,
    digest,
    model_digest,
    response_format_of,
    setting,
    tools_digest,
)
from tests.fakes import ScriptedModel, ai


class Colour(Enum):
    RED = 1


class Person(BaseModel):
    name: str


@dataclass
class Place:
    name: str


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain)
def test_any_plain_value_has_a_digest(value: Any) -> None:
    assert digest(value) == digest(value)
    assert len(digest(value)) == 64


def test_values_of_many_kinds_are_told_apart() -> None:
    values = [b"x", "x", {"a": 1}, {1: "a"}, {1: 2, "a": 3}, {3, 1}, Decimal(1), date(2026, 1, 1), Colour.RED, Person]
    values += [Person(name="Ann"), Person(name="Bob"), len, SecretStr("x")]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({3, 1}) == digest({1, 3})
    assert digest(SecretStr("a")) == digest(SecretStr("b"))


@pytest.mark.parametrize("value", [object(), lambda: None, {"client": object()}])
def test_an_object_without_a_stable_form_is_refused(value: Any) -> None:
    with pytest.raises(IncomparableError, match="has no stable form"):
        digest(value)


def test_ids_do_not_count_but_the_tie_between_call_and_result_does() -> None:
    def history(first: str, second: str, answered: str) -> list[Any]:
        calls = [{"name": "look", "args": {"n": 1}, "id": first}, {"name": "look", "args": {"n": 2}, "id": second}]
        return conversation(
            [HumanMessage("hi", id=first), ai(tool_calls=calls, id=second), ToolMessage("x", tool_call_id=answered)]
        )

    assert history("a", "b", "a") == history("c", "d", "c")
    assert history("a", "b", "a") != history("a", "b", "b")


def test_reasoning_and_block_ids_do_not_count() -> None:
    blocks: list[Any] = [
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "yes", "id": "msg_1", "index": 0},
    ]
    assert content_of(blocks) == "yes"
    assert conversation([AIMessage(blocks)]) == conversation([AIMessage("yes")])


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_is_told_by_class_and_parameters() -> None:
    assert model_digest(ScriptedModel()) == model_digest(ScriptedModel(responses=["other"]))
    assert model_digest(ScriptedModel()) != model_digest(ScriptedModel(model_name="gpt-4o"))
    assert model_digest(ScriptedModel()) != model_digest(FakeListChatModel(responses=["a"]))


def test_a_parameter_that_is_changed_later_counts() -> None:
    model = ScriptedModel()
    before = model_digest(model)
    model.model_name = "gpt-4o"
    assert model_digest(model) != before
    model.model_name = "gpt-4o-mini"
    assert model_digest(model) == before


def test_provider_models_differ_by_parameters_and_not_by_key() -> None:
    openai = pytest.importorskip("langchain_openai")

    def chat(**given_by_user: Any) -> str:
        return model_digest(openai.ChatOpenAI(**{"model": "gpt-4o", "api_key": "sk-1", **given_by_user}))

    assert chat() == chat(api_key="sk-2", max_retries=9, timeout=3, tags=["x"])
    others: list[dict[str, Any]] = [
        {"model": "gpt-4o-mini"},
        {"temperature": 0},
        {"base_url": "http://127.0.0.1"},
        {"max_tokens": 9},
    ]
    others += [{"model_kwargs": {"user": "a"}}, {"seed": 1}, {"reasoning_effort": "low"}, {"top_p": 0.5}]
    assert len({chat(), *(chat(**other) for other in others)}) == 1 + len(others)


def test_the_digest_is_the_same_in_another_process() -> None:
    pytest.importorskip("langchain_openai")
    program = (
        "from langchain_openai import ChatOpenAI\nfrom langchain_tokopt.cache.fingerprint import model_digest\n"
        "print(model_digest(ChatOpenAI(model='gpt-4o', api_key='sk-1', model_kwargs={'user': 'a'})))"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in "ab"]
    assert len(runs[0].stdout.strip()) == 64
    assert runs[0].stdout == runs[1].stdout


def test_a_model_that_is_gone_is_forgotten() -> None:
    gc.collect()
    before = len(fingerprint._models)
    model = ScriptedModel()
    model_digest(model)
    assert len(fingerprint._models) == before + 1
    del model
    gc.collect()
    assert len(fingerprint._models) == before


def test_a_setting_counts_only_if_it_was_set_on_purpose() -> None:
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(model="gpt-4o", api_key="sk-1")
    assert setting(model, {}, "temperature") is None
    assert setting(model, {"temperature": 0.3}, "temperature") == 0.3
    assert setting(openai.ChatOpenAI(model="gpt-4o", api_key="sk-1", temperature=0.7), {}, "temperature") == 0.7
    assert setting(openai.ChatOpenAI(model="o1", api_key="sk-1"), {}, "temperature") is None


# --- tools and schemas -----------------------------------------------------------------------------------------------


def test_tools_are_told_by_name_and_schema_in_any_order() -> None:
    @tool
    def look(place: str) -> str:
        """Look there."""
        return place

    @tool
    def find(place: str) -> str:
        """Find it."""
        return place

    provider = {"type": "web_search"}
    assert tools_digest([look, find, provider]) == tools_digest([provider, find, look])
    before = tools_digest([look])
    look.description = "Look elsewhere."
    assert tools_digest([look]) != before
    assert tools_digest([]) == []


@pytest.mark.parametrize("strategy", [AutoStrategy, ToolStrategy, ProviderStrategy, lambda schema: schema])
def test_response_formats_are_told_by_strategy_and_schema(strategy: Any) -> None:
    forms = [Person, Place, {"title": "person", "type": "object", "properties": {"age": {"type": "integer"}}}]
    digests = [digest(response_format_of(strategy(form))) for form in forms]
    assert len(set(digests)) == len(forms)
    assert digest(response_format_of(strategy(Person))) == digests[0]


def test_a_tool_without_a_schema_is_refused() -> None:
    with pytest.raises(IncomparableError, match="has no schema"):
        tools_digest([3])


def test_no_response_format_and_one_without_a_schema() -> None:
    assert response_format_of(None) is None
    with pytest.raises(IncomparableError, match="no JSON schema"):
        response_format_of(object())
