"""A long run of an agent that reads files: the files, a model that notes what it finds, and what was sent and paid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from langchain.agents import create_agent
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from langchain_tokopt import Pricing, TokenOptimizer
from langchain_tokopt.events import Decision
from langchain_tokopt.rates import MILLION
from tests.providers.agents import chat_model
from tests.providers.billing import Bill
from tests.providers.replies import Asked, Provider, Reply, ToolCall, compact
from tests.providers.server import ProviderServer, Record
from tests.providers.wanting import made_calls

How = Literal["bare", "middleware", "graph"]
OURS = "retrieve_original"
RULES = "You look after a warehouse. Read what you need, note what you find, and then answer. " * 60
TASK = "Which gates have trouble?"
# The lines of each file. Lines have about 20 tokens.
SIZES = (120, 15, 200, 4, 160, 60, 12, 240, 30, 140)
# 24 files one after the other, some of them again; two of them at once.
STEPS: tuple[tuple[int, ...], ...] = tuple((n,) for n in (0, 1, 2, 3, 4, 2, 5, 6, 7, 1, 8, 9))
STEPS += ((10, 11), *((n,) for n in (12, 4, 13, 14, 15, 7, 16, 17, 18, 19)))
# Thoughts that hold only after what came before them, and others.
THINKS: list[dict[str, Any]] = [
    {"model_name": "claude-opus-5-5", "thinking": {"type": "adaptive"}},
    {"model_name": "claude-sonnet-4-6", "thinking": {"type": "enabled", "budget_tokens": 1024}},
]
VERBS = ("took", "moved", "scanned", "weighed", "labelled")


# --- the files -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def file(number: int) -> str:
    """A log in which one line matters."""
    count = SIZES[number % len(SIZES)]
    lines = [
        f"10:{at % 60:02d}:{at * 13 % 60:02d} worker {at * 7 % 9} {VERBS[at * number % 5]} parcel "
        f"{(at * 7919 + number * 104729) % 90001} at belt {at * 31 % 17} in {at * at * 37 % 89} s"
        for at in range(count)
    ]
    lines[count * 2 // 3] = f"10:59 worker 3 ERROR gate {gate(number)} is jammed"
    return "\n".join(lines)


def gate(number: int) -> str:
    return f"G-{1000 + number * 37}"


@tool
def read_file(number: int) -> str:
    """Read a file."""
    return file(number)


@tool
def open_gate(name: str) -> str:
    """Open a gate."""
    return f"gate {name} is open"


TOOLS = [read_file, open_gate]


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A policy: reads the files of each step at once, and notes the gate that each names before it reads on.

    What it was not shown it asks for; it never knows more than what it was sent.
    """

    steps: Sequence[Sequence[int]] = STEPS
    thinking: str = ""
    asks_for: int = -1  # the file that it wants to see all of

    def __call__(self, asked: Asked) -> Reply:
        read = self.read_in(asked)
        asks = sum(name == OURS for name, _ in made_calls(asked))
        done = next(n for n in range(len(self.steps) + 1) if sum(map(len, self.steps[:n])) >= len(read))
        newest = self.steps[done - 1] if done else ()
        results = asked.turn_results
        wanted = [n for n in newest if f"gate {gate(n)} is jammed" not in "\n".join(results)]
        if wanted or (self.asks_for in newest and not asks):
            return self._asks(results)
        if done == len(self.steps):
            return Reply(text=f"In trouble: {', '.join(gate(n) for n in sorted(set(read)))}.", thinking=self.thinking)
        noted = f"Noted: {', '.join(gate(n) for n in newest)}. " if newest else ""
        files = tuple(ToolCall(name="read_file", args={"number": n}) for n in self.steps[done])
        return Reply(text=f"{noted}I read on.", tool_calls=files, thinking=self.thinking)

    @staticmethod
    def read_in(asked: Asked) -> list[int]:
        """The files that were read in this turn."""
        return [args["number"] for name, args in made_calls(asked) if name == "read_file"]

    def _asks(self, results: Sequence[str]) -> Reply:
        marks = re.findall(rf'{OURS}\("(\w+)"\)', results[-1])
        assert marks, "what is missing cannot be asked for"
        ask = ToolCall(name=OURS, args={"id": marks[-1], "query": "ERROR gate jammed"})
        return Reply(text="Let me see.", tool_calls=(ask,), thinking=self.thinking)


# --- agents ----------------------------------------------------------------------------------------------------------


def agent_of(
    how: How,
    name: Provider,
    server: ProviderServer,
    tokopt: TokenOptimizer,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    tools: Sequence[Any] = tuple(TOOLS),
    outside: Sequence[Any] = (),
    **more: Any,
) -> Any:
    """An agent whose prompts the provider caches; the graph is one that a user wrote, around a wrapped model."""
    model = chat_model(name, server, **settings)
    if how == "graph":
        return graph_of(tokopt.wrap(cached(model)), tools, **more)
    caching = [AnthropicPromptCachingMiddleware()] if name == "anthropic" else []
    ours = tokopt.middleware if how == "middleware" else []
    return create_agent(model, list(tools), middleware=[*outside, *caching, *ours], system_prompt=RULES, **more)


def cached(model: BaseChatModel) -> BaseChatModel:
    """The model, with prompts that Anthropic caches up to their end."""
    if "anthropic" in model._llm_type:
        return model.model_copy(update={"model_kwargs": {"cache_control": {"type": "ephemeral"}}})
    return model


def graph_of(model: Any, tools: Sequence[Any], **more: Any) -> Any:
    """A graph that is written by hand."""
    bound = model.bind_tools(tools) if tools else model
    ask = RunnableLambda(lambda state: {"messages": [bound.invoke([("system", RULES), *state["messages"]])]})
    graph = StateGraph(MessagesState).add_node("model", ask).add_edge(START, "model")
    if tools:
        graph.add_node("tools", ToolNode(tools))
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
    return graph.compile(**more)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}, "recursion_limit": 200}


def ask(agent: Any, name: str, question: str = TASK) -> dict[str, Any]:
    """The state at the end of a turn."""
    state: dict[str, Any] = agent.invoke({"messages": [HumanMessage(question)]}, thread(name))
    return state


# --- what was sent and paid ------------------------------------------------------------------------------------------


def paid(records: Sequence[Record]) -> Decimal:
    """USD for the input of these requests, by the server's count and its prompt cache."""
    rates = Pricing().rates(records[0].body["model"], records[0].provider.replace("responses", "openai"))
    assert rates is not None
    bill = sum((record.bill for record in records if record.bill), Bill())
    plain = bill.input - bill.cache_read - bill.cache_write
    return (plain * rates.input + bill.cache_read * rates.cache_read + bill.cache_write * rates.cache_write) / MILLION


def conversation(record: Record) -> list[str]:
    """The items of a request in their order."""
    return [compact(unmarked(item)) for item in record.body.get("messages") or record.body["input"]]


def unmarked(value: Any) -> Any:
    """Without cache breakpoints, which move with the end."""
    if isinstance(value, dict):
        return {key: unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [unmarked(inner) for inner in value] if isinstance(value, list) else value


def goes_on(before: Record, after: Record) -> bool:
    """Whether a request begins with the whole of another one, tools included."""
    old, new = conversation(before), conversation(after)
    return new[: len(old)] == old and compact(unmarked(before.body.get("tools"))) == compact(
        unmarked(after.body.get("tools"))
    )


def changes(records: Sequence[Record]) -> int:
    """How often a request did not begin with the one before it."""
    return sum(not goes_on(before, after) for before, after in pairwise(records))


def decisions(tokopt: TokenOptimizer) -> list[Decision]:
    """What the history part decided, oldest first."""
    events = tokopt.telemetry.events(Decision)
    return [event for event in events if isinstance(event, Decision) and event.part == "history"]


def files_in(state: dict[str, Any]) -> list[str]:
    """The results that the thread holds."""
    return [str(message.text) for message in state["messages"] if message.name == "read_file"]
