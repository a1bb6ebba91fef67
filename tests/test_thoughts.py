"""Models that refuse their own thoughts when the tools before them change."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage

from langchain_tokopt.thoughts import binds_history, binds_thoughts
from tests.fakes import ScriptedModel
from tests.tools.toolbox import request

THOUGHT = AIMessage([{"type": "thinking", "thinking": "Hm.", "signature": "abc"}, {"type": "text", "text": "Hi"}])


def claude(name: str, **settings: Any) -> ChatAnthropic:
    return ChatAnthropic(model_name=name, api_key="test", **settings)


@pytest.mark.parametrize(
    ("name", "binds"),
    [
        ("claude-fable-5-1", True),
        ("claude-opus-5-5", True),
        ("claude-opus-5.5", True),
        ("claude-haiku-5-5-20261001", True),
        ("claude-sonnet-6", True),
        ("claude-opus-5", False),
        ("claude-opus-5-20260901", False),
        ("claude-opus-4-8", False),
        ("claude-3-5-sonnet-20241022", False),
    ],
)
def test_newer_models_think_unless_they_are_told_not_to(name: str, binds: bool) -> None:
    assert binds_thoughts(request([], HumanMessage("hi"), model=claude(name))) is binds
    told_not_to = request([], HumanMessage("hi"), model=claude(name, thinking={"type": "disabled"}))
    assert binds_thoughts(told_not_to) is False


def test_what_a_request_says_counts_more_than_what_its_model_was_built_with() -> None:
    model = claude("claude-opus-5-5")
    assert binds_thoughts(request([], model=model, model_settings={"model": "claude-opus-4-8"})) is False
    assert binds_thoughts(request([], model=model, model_settings={"thinking": {"type": "disabled"}})) is False
    older = claude("claude-opus-4-8")
    assert binds_thoughts(request([], model=older, model_settings={"thinking": {"type": "adaptive"}})) is True


def test_thoughts_in_the_thread_tell_too() -> None:
    model = claude("claude-opus-4-8")
    assert binds_thoughts(request([], HumanMessage("hi"), THOUGHT, HumanMessage("and?"), model=model)) is True
    assert binds_thoughts(request([], THOUGHT, model=ScriptedModel(model_name="claude-opus-5-5"))) is False


@pytest.mark.parametrize(
    ("name", "binds"),
    [("claude-opus-5-5", True), ("claude-sonnet-4-6", False), ("claude-opus-5", False), ("my-claude", True)],
)
def test_thoughts_of_an_older_claude_hold_after_any_history(name: str, binds: bool) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked = request([], HumanMessage("hi"), model=claude(name, thinking=thinking, max_tokens=2000))
    assert binds_thoughts(asked)
    assert binds_history(asked) is binds
    assert not binds_history(request([], HumanMessage("hi"), model=claude(name, thinking={"type": "disabled"})))


def test_other_providers_bind_no_history() -> None:
    assert not binds_history(request([], HumanMessage("hi"), THOUGHT, model=ScriptedModel()))
