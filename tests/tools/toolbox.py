"""Tools for tests: forty-eight that differ by a verb and a noun, so that which of them fit a question is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.tools import BaseTool, StructuredTool

from langchain_tokopt.pricing import Rates
from tests.fakes import ScriptedModel

VERBS = ("create", "delete", "list", "export")
NOUNS = (
    "invoice",
    "ticket",
    "customer",
    "calendar",
    "contract",
    "payment",
    "shipment",
    "warehouse",
    "employee",
    "report",
    "campaign",
    "server",
)


# Prices of a provider that caches nothing, and of one whose cache is cheap to read and dear to write.
PLAIN = Rates(input=Decimal(2), output=Decimal(8))
CACHED = Rates(
    input=Decimal(2), output=Decimal(8), cache_read=Decimal("0.2"), cache_write=Decimal("2.5"), caching="automatic"
)


def tool(name: str, description: str | None = None) -> BaseTool:
    """A tool that answers with its name and argument."""

    def run(item: str) -> str:
        return f"{name}:{item}"

    about = name.replace("_", " ") if description is None else description
    return StructuredTool.from_function(run, name=name, description=about or " ")


def toolbox(*extra: BaseTool) -> list[BaseTool]:
    """`create_invoice`, `create_ticket` ... `export_server`, always the same objects, then `extra`."""
    return [*_box(), *extra]


@cache
def _box() -> tuple[BaseTool, ...]:
    return tuple(tool(f"{verb}_{noun}") for verb in VERBS for noun in NOUNS)


def openai_dict(name: str, description: str = "") -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def anthropic_dict(name: str, description: str = "") -> dict[str, Any]:
    return {"name": name, "description": description, "input_schema": {"type": "object", "properties": {}}}


def request(
    tools: list[Any], *messages: AnyMessage, model: BaseChatModel | None = None, **more: Any
) -> ModelRequest[Any]:
    """A model request as an agent makes it."""
    thread = list(messages)
    more.setdefault("state", {"messages": thread})
    return ModelRequest(model=model or ScriptedModel(), messages=thread, tools=tools, **more)


def names(tools: list[Any]) -> list[str]:
    """The names of tools of any shape."""
    return [
        one.name if isinstance(one, BaseTool) else one.get("function", one).get("name", one.get("type"))
        for one in tools
    ]


def priced(tools: list[Any], *messages: AnyMessage, **more: Any) -> ModelRequest[Any]:
    """A request to a model named "priced", whose rates a test sets."""
    return request(tools, *messages, model=ScriptedModel(model_name="priced", provider="nobody"), **more)


def wire(messages: Sequence[BaseMessage]) -> list[str]:
    """What a provider is sent of each message: equal texts are equal bytes on the wire."""
    hidden = {"id", "response_metadata", "usage_metadata", "artifact"}
    return [json.dumps(message.model_dump(exclude=hidden), default=repr) for message in messages]
