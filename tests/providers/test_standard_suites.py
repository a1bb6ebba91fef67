"""LangChain's standard suites for chat models, with a wrapped `ChatOpenAI` and a wrapped `ChatAnthropic`.

Behind them is the strict server with a policy that does what the suites ask of a model: call the tool that is forced or
asked for, fill in a schema, else say hello.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_tokopt import TokenOptimizer
from langchain_tokopt.model import OptimizedChatModel
from tests.fakes import TableEmbeddings
from tests.providers.replies import Answer, Asked, Reply, ToolCall, tool_name
from tests.providers.server import ProviderServer

# LangChain's own, with a bare model as well.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema"),
    pytest.mark.filterwarnings("ignore:Unrecognized structured output method"),
]

OPEN: list[TokenOptimizer] = []


class Wrapped(OptimizedChatModel):
    """Built like the model inside, as the suites do; each has an optimiser of its own."""

    kind: ClassVar[type[BaseChatModel]]

    def __init__(self, **kwargs: Any) -> None:
        if "inner" not in kwargs:
            optimizer = TokenOptimizer.preset("standard", embeddings=TableEmbeddings())
            OPEN.append(optimizer)
            made = optimizer.wrap(self.kind(**kwargs))
            shared = {name: getattr(made, name) for name in self._SHARED}
            kwargs = {"inner": made.inner, "flow": made.flow, "name": made.name, **shared}
        super().__init__(**kwargs)


class WrappedOpenAI(Wrapped):
    kind = ChatOpenAI


class WrappedAnthropic(Wrapped):
    kind = ChatAnthropic


def filled(schema: Mapping[str, Any], words: str) -> Any:
    """A value that fits a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], words)
    kind = schema.get("type")
    if kind == "object":
        return {name: filled(part, words) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [filled(schema.get("items") or {"type": "string"}, words)]
    return {"integer": 3, "number": 3.5, "boolean": True}.get(str(kind), words)


def obliging(asked: Asked) -> Answer:
    tools = {tool_name(tool): tool for tool in asked.body.get("tools") or []}
    choice = asked.body.get("tool_choice")
    forced = choice in ("required", "any") or (isinstance(choice, dict) and choice.get("type") != "auto")
    named = (choice.get("function") or choice).get("name") if isinstance(choice, dict) else None
    wants = any(word in asked.last_user.lower() for word in ("tool", "magic", "weather", "joke"))
    if tools and not asked.turn_results and (forced or wants):
        name = named or next(iter(tools))
        tool = tools[name]
        schema = (tool.get("function") or {}).get("parameters") or tool.get("input_schema") or {}
        return Reply(tool_calls=(ToolCall(name=name, args=filled(schema, "你好, こんにちは Pirate")),))
    form = (asked.body.get("response_format") or {}).get("json_schema") or (
        (asked.body.get("output_config") or {}).get("format") or {}
    )
    if form.get("schema"):
        return Reply(text=json.dumps(filled(form["schema"], "why?")))
    return Reply(text="Hello there, nice to see you.")


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest, running: ProviderServer) -> Iterator[ProviderServer]:
    request.cls.server = running.renewed(obliging)
    yield running
    while OPEN:
        OPEN.pop().close()


class OpenAISettings:
    server: ClassVar[ProviderServer]

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return WrappedOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "gpt-4o-mini",
            "base_url": self.server.openai_url,
            "api_key": "test",
            "max_retries": 0,
            "stream_usage": True,
        }


class AnthropicSettings:
    server: ClassVar[ProviderServer]

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return WrappedAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "claude-sonnet-5",
            "base_url": self.server.root,
            "api_key": "test",
            "max_retries": 0,
        }


class TestOpenAIUnit(OpenAISettings, ChatModelUnitTests):
    pass


class TestOpenAI(OpenAISettings, ChatModelIntegrationTests):
    @property
    def supports_model_override(self) -> bool:
        return False


class TestAnthropicUnit(AnthropicSettings, ChatModelUnitTests):
    pass


class TestAnthropic(AnthropicSettings, ChatModelIntegrationTests):
    @property
    def supports_model_override(self) -> bool:
        return False
