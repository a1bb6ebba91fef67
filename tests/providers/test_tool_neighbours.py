"""Middleware of LangChain's before and after the optimiser's: no tool is lost, and what lasts is marked as such."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware, SummarizationMiddleware
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.tools.ways import SelectionMode
from tests.fakes import ScriptedModel
from tests.providers.agents import chat_model
from tests.providers.compared import THREAD, modes, narrowed, narrowing, tool_arrays
from tests.providers.long_threads import RULES, ask_all, check_appends_only, policy
from tests.providers.replies import Provider
from tests.providers.server import ProviderServer
from tests.providers.wanting import MODELS, TOOLS

orders = pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "ours last"])


def ask_beside(
    server: ProviderServer, mode: SelectionMode, name: Provider, other: Any, ours_first: bool, *, exactly: bool = True
) -> dict[str, Any]:
    """The final state of a thread of an agent that has another middleware, too. No request may be rejected."""
    model = chat_model(name, server.renewed(policy), **MODELS[name])
    with narrowing(mode) as tokopt:
        both = [*tokopt.middleware, other] if ours_first else [other, *tokopt.middleware]
        agent = create_agent(model, TOOLS, middleware=both, system_prompt=RULES, checkpointer=InMemorySaver())
        state = ask_all(agent, THREAD, exactly=exactly)
    assert (server.rejected, server.broken) == ([], [])
    assert narrowed(server.answered) == mode
    assert mode == "rebind" or len(tool_arrays(server.answered)) == 1
    return state


@orders
@pytest.mark.parametrize("mode", ["inline", "proxy"])
def test_anthropics_caching_middleware_marks_what_lasts(
    provider: ProviderServer, mode: SelectionMode, ours_first: bool
) -> None:
    ask_beside(provider, mode, "anthropic", AnthropicPromptCachingMiddleware(), ours_first)
    check_appends_only(provider.answered)
    reads = [record.bill.cache_read for record in provider.answered if record.bill]
    assert reads == sorted(set(reads))


@orders
@modes
def test_summaries_take_no_tool_away(
    provider: ProviderServer, mode: SelectionMode, name: Provider, ours_first: bool
) -> None:
    def summarised(messages: list[Any]) -> str:
        return next(message.text for message in reversed(messages) if isinstance(message, HumanMessage))

    summary = SummarizationMiddleware(
        summarizer=summarised, model=ScriptedModel(), trigger=("messages", 9), keep=("messages", 4)
    )
    state = ask_beside(provider, mode, name, summary, ours_first)
    assert state["messages"][0].additional_kwargs["lc_source"] == "summarization"


@orders
@modes
def test_results_that_are_cleared_take_no_tool_away(
    provider: ProviderServer, mode: SelectionMode, name: Provider, ours_first: bool
) -> None:
    edit = ClearToolUsesEdit(trigger=1, keep=1, clear_tool_inputs=True)
    ask_beside(provider, mode, name, ContextEditingMiddleware(edits=[edit]), ours_first, exactly=False)
    assert "[cleared]" in provider.answered[-1].raw.decode()
