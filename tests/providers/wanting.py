"""A model that needs certain tools, whichever it is told of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel

from tests.providers.replies import TEXTS, Asked, Provider, Reply, ToolCall

SEARCH, CALL = "search_tools", "call_tool"
# Models that can be told of tools in mid-conversation, where the API can.
MODELS: dict[Provider, dict[str, Any]] = {
    "anthropic": {"model_name": "claude-opus-5-5"},
    "responses": {"model": "gpt-5.5"},
    "openai": {"model": "gpt-4.1-mini"},
}

# --- many tools ------------------------------------------------------------------------------------------------------

VERBS = ("create", "delete", "list", "export", "archive")
NOUNS = ("invoice", "ticket", "customer", "calendar", "contract", "payment", "parcel", "server")
ABOUT = "It checks first that you may do so, and writes what it did into the log of the office. " * 8


class Item(BaseModel):
    item: str


def numbered(name: str) -> BaseTool:
    """A tool that answers with its name and its argument."""

    def work(item: str) -> str:
        return f"{name}:{item}"

    return StructuredTool(name=name, description=f"{name.replace('_', ' ')}. {ABOUT}", args_schema=Item, func=work)


# `create_invoice`, `create_ticket` ... `archive_server`: forty, of some 200 tokens each.
TOOLS = [numbered(f"{verb}_{noun}") for verb in VERBS for noun in NOUNS]
QUESTION = "Please list the invoice of Ada."  # picks `list_invoice`


def call(name: str, item: str = "x") -> ToolCall:
    return ToolCall(name=name, args={"item": item})


# --- the model -------------------------------------------------------------------------------------------------------


def made_calls(asked: Asked) -> list[tuple[str, Any]]:
    """Names and arguments of the calls since the user's last message, as the model is shown them, oldest first."""
    found: list[tuple[str, Any]] = []
    for item in _items(asked):
        if item.get("type") == "function_call":
            found.append((item["name"], json.loads(item["arguments"])))
        for raw in item.get("tool_calls") or []:
            found.append((raw["function"]["name"], json.loads(raw["function"]["arguments"])))
        content = item.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        found += [(block["name"], block["input"]) for block in blocks if block.get("type") == "tool_use"]
        if item.get("role") == "user" and any(block.get("type") in TEXTS for block in blocks):
            found = []
    return found


def told(asked: Asked) -> set[str]:
    """Names of the tools that the text of the conversation describes."""
    return set(re.findall(r"^- (\w+)", "\n".join(_texts(asked)), re.MULTILINE))


def _texts(asked: Asked) -> Iterator[str]:
    for item in _items(asked):
        content = item.get("content", item.get("output"))
        for block in [content] if isinstance(content, str) else content or []:
            text = block if isinstance(block, str) else block.get("text") or block.get("content")
            yield text if isinstance(text, str) else "".join(part.get("text", "") for part in text or [])


def _items(asked: Asked) -> list[dict[str, Any]]:
    return list(asked.body.get("messages") or asked.body["input"])


@dataclass(frozen=True)
class Wanting:
    """A policy: in each turn it makes the calls of each step at once, one step after the other, then answers.

    A tool that it was given it calls, one that it was told of it calls through another, and for others it searches; in
    a step that needs several, it searches while it calls those that it can. In this it is like a model; unlike one, it
    never gives up. Its answer quotes the results.
    """

    steps: Sequence[Sequence[ToolCall]]
    text: str = ""
    thinking: str = ""
    tries: int = 3

    def __call__(self, asked: Asked) -> Reply:
        done = [_plainly(name, args) for name, args in made_calls(asked)]
        searches = sum(name == SEARCH for name, _ in done)
        for step in self.steps:
            left = [wanted for wanted in step if (wanted.name, wanted.args) not in done]
            if not left:
                continue
            possible = [way for wanted in left if (way := _way(asked, wanted)) is not None]
            hidden = [wanted.name for wanted in left if _way(asked, wanted) is None]
            assert not hidden or SEARCH in asked.offered, f"{hidden} are not there and cannot be asked for"
            assert searches < self.tries, f"{hidden} were searched for in vain"
            search = [ToolCall(name=SEARCH, args={"query": " ".join(hidden).replace("_", " "), "names": hidden})]
            calls = (*possible, *(search if hidden else []))
            return Reply(text=self.text, thinking=self.thinking, tool_calls=calls)
        results = [text for text in asked.turn_results if not _is_about_tools(text)]
        return Reply(text=f"Done: {' '.join(results)}", thinking=self.thinking)


def wants(*steps: Sequence[ToolCall] | str, **more: Any) -> Wanting:
    """A model that makes these calls; a name stands for one call of that tool."""
    return Wanting([[call(step)] if isinstance(step, str) else step for step in steps], **more)


def _plainly(name: str, args: Any) -> tuple[str, Any]:
    return (args["name"], args["arguments"]) if name == CALL and "arguments" in args else (name, args)


def _way(asked: Asked, wanted: ToolCall) -> ToolCall | None:
    if wanted.name in asked.offered:
        return wanted
    if CALL in asked.offered and wanted.name in told(asked):
        return ToolCall(name=CALL, args={"name": wanted.name, "arguments": wanted.args})
    return None


def _is_about_tools(text: str) -> bool:
    return text.startswith(("Tools that may help", "These tools can be called", "There is no tool named"))
