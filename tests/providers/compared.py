"""Agents with many tools, bare and narrowed, in all ways that users build them, and what they have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from langchain_tokopt import TokenOptimizer, ToolBinder, ToolSelection
from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import Ran, Run, chat_model, make_agent, run
from tests.providers.replies import Answer, Asked, Provider, tool_name
from tests.providers.server import ProviderServer, Record
from tests.providers.wanting import CALL, MODELS, QUESTION, SEARCH, TOOLS

How = Literal["bare", "middleware", "wrap", "graph"]
Narrowed = Literal["all", "rebind", "inline", "proxy"]
THREAD: Any = {"configurable": {"thread_id": "1"}}
# Each mode with an API of its own, so that the cases stay few; what differs by API is tested with all of them.
MODES: list[tuple[SelectionMode, Provider]] = [("rebind", "openai"), ("inline", "responses"), ("proxy", "anthropic")]
modes = pytest.mark.parametrize(("mode", "name"), MODES)


# --- agents ----------------------------------------------------------------------------------------------------------


class Alike(Embeddings):
    """All texts mean the same, so that words alone decide."""

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]


def narrowing(
    mode: SelectionMode, *, max_tools: int = 3, min_tools: int | None = 5, data_dir: Path | None = None, **settings: Any
) -> TokenOptimizer:
    """An optimiser that only selects tools, by words alone: three for each message."""
    tools = ToolSelection(mode=mode, max_tools=max_tools, min_tools=min_tools, **settings)
    return TokenOptimizer(cache=None, history=None, tools=tools, embeddings=Alike(), data_dir=data_dir)


def agent_of(
    how: How, model: BaseChatModel, tokopt: TokenOptimizer, tools: Sequence[BaseTool] = TOOLS, **more: Any
) -> Any:
    """An agent in one of the ways that users build them; a graph written by hand takes a `checkpointer` only."""
    if how != "graph":
        return make_agent(how, model, tools, tokopt, **more)
    assert tokopt.tools is not None
    binder = ToolBinder(tools, selection=tokopt.tools, sink=tokopt.telemetry)

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [binder.bind(model, state["messages"]).invoke(state["messages"])]}

    async def aanswer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await binder.bind(model, state["messages"]).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", RunnableLambda(answer, afunc=aanswer))
    graph.add_node("tools", binder.node())
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(**more)


@dataclass(frozen=True)
class Both:
    """What the bare agent and the narrowed one end with, and the requests of the latter."""

    bare: Ran
    ours: Ran
    records: Sequence[Record]

    @property
    def answer(self) -> str:
        return self.ours.answer

    def check_same(self) -> None:
        """The two end in the same state."""
        assert shown(self.ours.state) == shown(self.bare.state)


def both(
    server: ProviderServer,
    mode: SelectionMode,
    name: Provider,
    policy: Callable[[Asked], Answer],
    tools: Sequence[BaseTool] = TOOLS,
    *,
    how: How = "middleware",
    kind: Run = "invoke",
    settings: Mapping[str, Any] = MappingProxyType({}),
    pinned: Sequence[str] = (),
    more: Callable[[], dict[str, Any]] = dict,
) -> Both:
    """Run the agent bare and narrowed, with arguments that `more` makes anew. No request may be rejected."""
    model = chat_model(name, server, **{**MODELS[name], **settings})
    ran: list[Ran] = []
    hows: list[How] = ["bare", how]
    for each in hows:
        server.renewed(policy)
        with narrowing(mode, pinned=pinned) as tokopt:
            agent = agent_of(each, model, tokopt, tools, **more())
            ran.append(run(kind, agent, [HumanMessage(QUESTION)], THREAD))
            assert (server.rejected, server.broken) == ([], [])
            assert tokopt.report().failures == ()
    assert narrowed(server.answered, len(tools)) == mode
    return Both(*ran, server.answered)


# --- what came of it -------------------------------------------------------------------------------------------------


def narrowed(records: Sequence[Record], everything: int = len(TOOLS)) -> Narrowed:
    """How the model was told of tools in these requests of one thread."""
    names = [[tool_name(tool) for tool in record.body["tools"]] for record in records]
    if any(CALL in each for each in names):
        return "proxy"
    if any(len(record.asked.offered) > len(each) for record, each in zip(records, names, strict=True)):
        return "inline"
    return "all" if all(len(each) == everything for each in names) else "rebind"


def tool_arrays(records: Sequence[Record]) -> set[str]:
    """The different lists of tools that requests begin with."""
    return {json.dumps(record.body["tools"]) for record in records}


def shown(state: dict[str, Any]) -> str:
    """A final state without what differs between two runs of the same agent, and without searches for tools.

    Ids are replaced by their numbers; what was billed, and what the provider says of its answer, is left out.
    """
    messages = [_alone(message) for message in state["messages"] if not _is_search(message)]
    numbers: dict[str, str] = {}
    for message in messages:
        for each in getattr(message, "tool_calls", []):
            numbers.setdefault(each["id"], f"call {len(numbers)}")
    plain = [_scrubbed(message.model_dump(exclude=_DIFFERENT), numbers) for message in messages]
    return json.dumps({**state, "messages": plain}, default=repr, sort_keys=True)


_DIFFERENT = {"id", "usage_metadata", "response_metadata"}


def _is_search(message: BaseMessage) -> bool:
    if isinstance(message, ToolMessage):
        return message.name == SEARCH
    calls = [each["name"] for each in getattr(message, "tool_calls", [])]
    return bool(calls) and set(calls) == {SEARCH}


def _alone(message: BaseMessage) -> BaseMessage:
    """The message without the searches that it carries."""
    kept = {key: value for key, value in message.additional_kwargs.items() if key != "tokopt_before"}
    return message.model_copy(update={"additional_kwargs": kept})


def _scrubbed(value: Any, numbers: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _scrubbed(inner, numbers) for key, inner in value.items() if key != "index"}
    if isinstance(value, list):
        return [_scrubbed(inner, numbers) for inner in value]
    return numbers.get(value, re.sub(r"^(fc|msg|rs)_\w+$", r"\1", value)) if isinstance(value, str) else value
