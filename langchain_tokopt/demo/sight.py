"""What a model sees: the newest question, the tool results that came after it, the tools it may call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

# How a history may refer to lines that the prompt already has: "[same as lines 212-252 of tool result 4 (read_file)]".
# A model looks them up in the earlier message; so does the policy, in the messages that it was sent.
_SAME = re.compile(
    r"\[(?:\d+ lines?: )?same as (?:lines? (\d+)(?:-(\d+))? of )?"
    r"(?:tool result (\d+)(?:, part \d+)?(?: \(.*\))?|this result)\]"
)
_AGAIN = re.compile(r"\[line above repeats (\d+) more times\]")
_REFUSED = re.compile(r"Error: |no (?:file|line|match|sentence|heading|class|Python file)\b")


@dataclass(frozen=True)
class Result:
    """What a tool call gave. `ok` is false for a refusal, an error, and for nothing at all."""

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    ok: bool = True


NOTHING = Result("", ok=False)


@dataclass(frozen=True)
class Sight:
    """The prompt of one model call, as far as it matters for the next step. `steps`: the model's own messages since
    the newest question."""

    question: str
    results: tuple[Result, ...]
    steps: int
    tools: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]]) -> Sight:
        """Read a prompt. `tools` are schemas in OpenAI's form; what is in another form cannot be called."""
        start = max((n for n, message in enumerate(messages) if isinstance(message, HumanMessage)), default=0)
        since = messages[start:]
        calls = [call for message in since if isinstance(message, AIMessage) for call in message.tool_calls]
        texts = looked_up([message for message in messages if isinstance(message, ToolMessage)])
        return cls(
            question=messages[start].text if messages else "",
            results=tuple(
                _result(call["name"], call["args"], *texts[call["id"] or ""])
                for call in calls
                if (call["id"] or "") in texts
            ),
            steps=sum(isinstance(message, AIMessage) for message in since),
            tools={
                tool["function"]["name"]: tool["function"].get("parameters") or {}
                for tool in tools
                if isinstance(tool.get("function"), Mapping)
            },
        )


def looked_up(results: Sequence[ToolMessage]) -> dict[str, tuple[str, bool]]:
    """The text of each tool result by the id of its call, and whether the tool succeeded.

    References to lines that the prompt already has are followed. One that leads nowhere stays as it is written, so
    that what it hides is missing from what is known.
    """
    shown = [message.text.split("\n") for message in results]
    found: dict[str, tuple[str, bool]] = {}
    for number, message in enumerate(results):
        lines: list[str] = []
        for line in shown[number]:
            lines += _meant(line, shown, number, lines[-1:])
        found[message.tool_call_id] = ("\n".join(lines), message.status != "error")
    return found


def _meant(line: str, shown: Sequence[Sequence[str]], number: int, above: list[str]) -> list[str]:
    """The lines that one shown line of result `number` stands for."""
    if match := _SAME.fullmatch(line):
        place = int(match[3]) - 1 if match[3] else number
        there = shown[place] if 0 <= place <= number else []
        first, last = int(match[1] or 1) - 1, int(match[2] or match[1] or len(there))
        return list(there[first:last]) or [line]
    if match := _AGAIN.fullmatch(line):
        return above * int(match[1])
    return [line]


def _result(name: str, args: Mapping[str, Any], text: str, succeeded: bool) -> Result:
    return Result(name, args, text, ok=succeeded and bool(text.strip()) and _REFUSED.match(text) is None)
