"""Tools for tests: forty-eight that differ by a verb and a noun, so that which of them fit a question is known."""

from __future__ import annotations

from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from langchain_core.tools import BaseTool, StructuredTool

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


def tool(name: str, description: str | None = None) -> BaseTool:
    """A tool that answers with its name and argument."""

    def run(item: str) -> str:
        return f"{name}:{item}"

    about = name.replace("_", " ") if description is None else description
    return StructuredTool.from_function(run, name=name, description=about or " ")


def toolbox(*extra: BaseTool) -> list[BaseTool]:
    """`create_invoice`, `create_ticket` ... `export_server`, then `extra`."""
    return [*(tool(f"{verb}_{noun}") for verb in VERBS for noun in NOUNS), *extra]


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
