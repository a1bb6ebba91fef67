"""Requests of which OpenAI's client takes strict tools only."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_tokopt.flow import straight
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.strictness import needs_strict

OPENAI = ChatOpenAI(model="gpt-4.1-mini", api_key="test")
ANTHROPIC = ChatAnthropic(model_name="claude-sonnet-4-6", api_key="test")


class Answer(BaseModel):
    said: str


def request_to(model: Any, **more: Any) -> ModelRequest[Any]:
    return ModelRequest(model=model, messages=[HumanMessage("hi")], **more)


@pytest.mark.parametrize("model", [OPENAI, OptimizedChatModel.around(OPENAI, straight)])
@pytest.mark.parametrize(
    "more",
    [
        {"response_format": ProviderStrategy(Answer)},
        {"response_format": AutoStrategy(Answer)},
        {"model_settings": {"response_format": {"type": "json_schema"}}},
    ],
)
def test_an_answer_that_has_a_schema_needs_strict_tools(model: Any, more: dict[str, Any]) -> None:
    assert needs_strict(request_to(model, **more))


@pytest.mark.parametrize(
    "more", [{}, {"response_format": ToolStrategy(Answer)}, {"model_settings": {"temperature": 0}}]
)
def test_other_answers_do_not(more: dict[str, Any]) -> None:
    assert not needs_strict(request_to(OPENAI, **more))


def test_other_clients_do_not() -> None:
    assert not needs_strict(request_to(ANTHROPIC, response_format=ProviderStrategy(Answer)))
