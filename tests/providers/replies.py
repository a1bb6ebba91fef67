"""What a test tells the provider server to answer, and the provider-neutral view of what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Provider = Literal["openai", "responses", "anthropic"]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A tool call in a reply. Without an `id` the server gives it one that it never gave before."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One assistant turn.

    `thinking` is a signed thinking block on Anthropic (only when the request enables thinking) and reasoning tokens on
    OpenAI; `redacted` hides it in a `redacted_thinking` block. `gate`: when streaming, the server sends
    `pieces_before_gate` pieces and then waits until the event is set. `break_after`: when streaming, that many pieces
    are sent, then an error event in the provider's form.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    thinking: str = ""
    redacted: bool = False
    gate: threading.Event | None = None
    pieces_before_gate: int = 1
    break_after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error in the provider's own form: 429, 500, 503, 529 ..."""

    status: int
    message: str = ""
    retry_after: str | None = None


# What the APIs call a block of text.
TEXTS = ("text", "input_text", "output_text")

Answer: TypeAlias = "Reply | Failure | str"


@dataclass(frozen=True)
class Asked:
    """A request as a policy reads it, whatever the provider."""

    provider: Provider
    body: Mapping[str, Any]

    @property
    def offered(self) -> list[str]:
        """Names of the tools that the model may call, in the order sent, those added in mid-conversation included."""
        names = [tool_name(tool) for tool in self.body.get("tools") or []]
        for item in self.body.get("input") or []:
            if item.get("type") == "additional_tools":
                names += [tool_name(tool) for tool in item["tools"]]
        for block in self._blocks("system"):
            if block.get("type") == "tool_addition":
                tool = block["tool"]
                names.append(tool["definition"]["name"] if tool["type"] == "tool_definition" else tool.get("name", ""))
        return names

    @property
    def system(self) -> str:
        """All system text."""
        top = text_of(self.body.get("system") or self.body.get("instructions"))
        inline = [text_of(m["content"]) for m in self._messages if m["role"] in ("system", "developer")]
        return "\n".join(part for part in [top, *inline] if part)

    @property
    def last_user(self) -> str:
        """The newest text that a user wrote."""
        for message in reversed(self._messages):
            if message["role"] == "user" and (text := text_of(message["content"])):
                return text
        return ""

    @property
    def results(self) -> list[str]:
        """Texts of all tool results, oldest first."""
        found: list[str] = []
        for message in self._messages:
            if message["role"] == "tool":
                found.append(text_of(message["content"]))
            elif isinstance(message["content"], list):
                found += [text_of(b.get("content")) for b in message["content"] if b.get("type") == "tool_result"]
        return found

    @property
    def turn_results(self) -> list[str]:
        """Texts of the tool results that came after the newest user text."""
        found: list[str] = []
        for message in self._messages:
            content = message["content"]
            if message["role"] == "tool":
                found.append(text_of(content))
                continue
            if message["role"] != "user":
                continue
            for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if block.get("type") in TEXTS:
                    found = []
                elif block.get("type") == "tool_result":
                    found.append(text_of(block.get("content")))
        return found

    @property
    def _messages(self) -> list[dict[str, Any]]:
        if self.provider != "responses":
            return list(self.body["messages"])
        shown: list[dict[str, Any]] = []
        for item in self.body["input"]:
            if item.get("type") == "function_call_output":
                shown.append({"role": "tool", "content": item["output"]})
            elif item.get("type", "message") == "message":
                shown.append({"role": item["role"], "content": item["content"]})
        return shown

    def _blocks(self, role: str) -> Iterator[dict[str, Any]]:
        for message in self._messages:
            if message["role"] == role and isinstance(message["content"], list):
                yield from message["content"]


Step: TypeAlias = "Answer | Callable[[Asked], Answer]"


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a tool as it stands in a request of either provider."""
    return str(tool["function"]["name"] if "function" in tool else tool.get("name", tool.get("type", "")))


def text_of(content: Any) -> str:
    """The text in a message's content; other blocks are left out."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content or [] if block.get("type") in TEXTS)


def compact(value: Any) -> str:
    """JSON without spaces, keys sorted: equal requests give equal strings."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def words(text: str) -> list[str]:
    """Pieces of a text as a provider streams it; joined they are the text."""
    pieces = text.split(" ")
    return [piece + " " for piece in pieces[:-1]] + pieces[-1:] if text else []
