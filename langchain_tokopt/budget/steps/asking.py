"""Asking the user: a LangGraph interrupt, where there is a graph that can wait for the answer."""

from __future__ import annotations

import contextvars
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Interrupt, interrupt

from langchain_tokopt.budget.steps.answers import SCHEMA
from langchain_tokopt.caller import active_config

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

log = logging.getLogger("langchain_tokopt")

KIND: Final = "budget_exceeded"

# What LangGraph keeps in a node's config, by the names that it is known by there.
_SCRATCHPAD = "__pregel_scratchpad"
_CHECKPOINTER = "__pregel_checkpointer"
_TASK = "__pregel_task_id"
_INTERRUPT = "__interrupt__"


def why_not(request: ModelRequest[Any]) -> str | None:
    """Why nobody can be asked here; `None` where an interrupt would be kept and could be answered.

    Outside of a graph `interrupt` raises `RuntimeError`, in a chain beside one `KeyError`; in a graph without a
    checkpointer it stops the run for good, and before Python 3.11 async nodes are handed no config, or have one of a
    graph further out, whose node would be interrupted.
    """
    node = _node()
    task = getattr(getattr(request.runtime, "execution_info", None), "task_id", None)
    hint = "; before Python 3.11 LangGraph hands no config to async nodes" if sys.version_info < (3, 11) else ""
    if task is not None and node.get(_TASK) != task:
        return f"the call is made beside the node that it belongs to{hint}"
    if _SCRATCHPAD not in node:
        return f"there is no graph that could wait for an answer{hint}"
    if not isinstance(node.get(_CHECKPOINTER), BaseCheckpointSaver):
        return "the graph has no checkpointer that could keep the question"
    return None


def ask(question: Mapping[str, Any]) -> Any:
    """The user's answer. The first time it raises `GraphInterrupt`, and the node runs again from its beginning."""
    # A chain that is a node hands its config on as an argument, where `interrupt` does not look.
    return contextvars.copy_context().run(_interrupt, question, active_config())


def _interrupt(question: Mapping[str, Any], config: Any) -> Any:
    var_child_runnable_config.set(config)
    return interrupt(dict(question), response_schema=SCHEMA)


def waiting(budget: str) -> Mapping[str, Any] | None:
    """The question of this budget, asked when the node ran before, to which there is an answer now; or `None`.

    An answer that nobody takes could be taken for one to the next question in a subgraph. So one whose question has
    become moot, for the call fits by now, has to be taken as well.
    """
    node = _node()
    notes = node.get(_SCRATCHPAD)
    if notes is None:
        return None
    try:
        if not notes.resume and notes.get_null_resume() is None:
            return None
        return next((asked.value for asked in _pending(node) if _is_ours(asked, budget)), None)
    except Exception as error:
        log.debug("what was asked before cannot be read: %s: %s", type(error).__name__, error)
        return None


def _node() -> Mapping[str, Any]:
    """The config of the node that is running; empty outside of a graph."""
    return (active_config() or {}).get("configurable") or {}


def _pending(node: Mapping[str, Any]) -> Iterator[Any]:
    """What the running task has asked and has not been told yet, when it ran before."""
    saver = node.get(_CHECKPOINTER)
    if not isinstance(saver, BaseCheckpointSaver):
        return
    graph = str(node.get("checkpoint_ns", "")).rpartition("|")[0]
    place = {"thread_id": node.get("thread_id"), "checkpoint_ns": graph}
    at = (node.get("checkpoint_map") or {}).get(graph)
    found = saver.get_tuple({"configurable": place if at is None else {**place, "checkpoint_id": at}})
    for task, channel, value in (found.pending_writes or ()) if found is not None else ():
        if task == node.get(_TASK) and channel == _INTERRUPT:
            yield from value if isinstance(value, Sequence) else (value,)


def _is_ours(asked: Any, budget: str) -> bool:
    value = asked.value if isinstance(asked, Interrupt) else None
    return isinstance(value, Mapping) and value.get("type") == KIND and value.get("budget") == budget
