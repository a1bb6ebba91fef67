"""Runs of agents as they are played again: what the user says, what the model answers, what the tools give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain.agents.middleware.types import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool

from benchmarks.agent_runs import Run
from tests.providers.replies import Answer, Asked, Reply, ToolCall


@dataclass
class Script:
    """A run as it is played: what the user says, what the model answers, what the tools give.

    Each call of a tool has a new id, and its result is known by it.
    """

    asks: list[HumanMessage] = field(default_factory=list)
    answers: list[Reply] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Script:
        """The script of a run."""
        script = cls()
        renamed: dict[str, str] = {}
        for message in run.messages:
            if isinstance(message, HumanMessage):
                script.asks.append(HumanMessage(str(message.text)))
            elif isinstance(message, AIMessage):
                calls = []
                for call in message.tool_calls:
                    name = renamed[str(call["id"])] = f"call_{len(script.results)}"
                    script.results[name] = ""
                    calls.append(ToolCall(name=call["name"], args=call["args"], id=name))
                text = str(message.text) or ("" if calls else "Yes.")
                script.answers.append(Reply(text=text, tool_calls=tuple(calls)))
            elif isinstance(message, ToolMessage) and message.tool_call_id in renamed:
                script.results[renamed[message.tool_call_id]] = str(message.text)
        return script


class Player:
    """A policy: the answers of a run one after the other, whatever is asked."""

    def __init__(self, script: Script) -> None:
        self._answers = iter(script.answers)

    def __call__(self, asked: Asked) -> Answer:
        return next(self._answers, Reply(text="That is all."))


class Results(AgentMiddleware[Any, Any]):
    """Gives the results of a run in place of its tools."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._results = script.results

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> ToolMessage:
        """The recorded result."""
        call = request.tool_call
        return ToolMessage(self._results[call["id"]], tool_call_id=call["id"], name=call["name"])


def read_tools(path: Path, count: int) -> list[StructuredTool]:
    """The first tools of a registry."""
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    return [
        StructuredTool(
            name=row["name"],
            description=row["description"],
            args_schema=dict(row["parameters"]),
            func=lambda **_: None,
        )
        for row in rows
    ]
