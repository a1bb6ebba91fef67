"""Agents with more tools than the model is told of: each still reaches every tool, and ends as the bare agent does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import APIS, RUNS, Run, chat_model, measured, run
from tests.providers.billing import Bill
from tests.providers.compared import How, Narrowed, agent_of, narrowed, narrowing, shown, tool_arrays
from tests.providers.replies import Provider
from tests.providers.server import ProviderServer
from tests.providers.wanting import MODELS, QUESTION, SEARCH, wants

HOWS: list[How] = ["middleware", "wrap", "graph"]
hows = pytest.mark.parametrize("how", HOWS)
CACHED = {"model_kwargs": {"cache_control": {"type": "ephemeral"}}}
OLDER = {"model_name": "claude-sonnet-4-6"}  # newer ones refuse their own thoughts when the request's tools change


@dataclass(frozen=True)
class Case:
    """A mode with a provider, and the way that it comes to. `own_host`: as if the provider itself were asked."""

    mode: SelectionMode
    api: Provider
    way: Narrowed
    settings: dict[str, Any] = field(default_factory=dict)
    own_host: bool = False

    def model(self, server: ProviderServer) -> BaseChatModel:
        return chat_model(self.api, server, **{**MODELS[self.api], **self.settings})

    def __str__(self) -> str:
        return f"{self.api}-{self.mode}-{self.way}"


ASKED_FOR = [
    Case("rebind", "anthropic", "rebind", OLDER),
    Case("rebind", "responses", "rebind"),
    Case("rebind", "openai", "rebind"),
    *(Case("proxy", api, "proxy") for api in APIS),
    Case("inline", "anthropic", "inline"),
    Case("inline", "responses", "inline"),
]
# What "auto" chooses: other tools in each request where nothing is cached; where the request's tools must not change,
# definitions in the conversation if the provider itself is asked and takes them, else calls through another tool.
BY_PRICE = [
    Case("auto", "anthropic", "rebind", OLDER),
    Case("auto", "anthropic", "inline", CACHED, own_host=True),
    Case("auto", "anthropic", "proxy", {**CACHED, **OLDER}, own_host=True),
    Case("auto", "responses", "rebind", {"model": "gpt-4-turbo"}),
    Case("auto", "responses", "inline", own_host=True),
    Case("auto", "responses", "proxy"),
    Case("auto", "openai", "rebind", {"model": "gpt-4-turbo"}),
    Case("auto", "openai", "proxy"),
]
EXPORTS = wants("export_server")


@lru_cache(maxsize=64)
def bare_state(server: ProviderServer, api: Provider, kind: Run) -> str:
    """What the bare agent ends with."""
    with narrowing("off") as unused:
        agent = agent_of("bare", chat_model(api, server.renewed(EXPORTS), **MODELS[api]), unused)
        ran = run(kind, agent, [HumanMessage(QUESTION)])
        assert narrowed(server.answered) == "all"
        return shown(ran.state)


@pytest.fixture
def asked_itself(request: pytest.FixtureRequest, case: Case) -> None:
    """The server counts as the provider itself where the case says so."""
    if case.own_host:
        request.getfixturevalue("own_hosts")


def check(case: Case, how: How, kinds: Sequence[Run], server: ProviderServer) -> None:
    with narrowing(case.mode, learn=False) as tokopt:
        agent = agent_of(how, case.model(server), tokopt, checkpointer=InMemorySaver())
        spent = Bill()
        for kind in kinds:
            bare = bare_state(server, case.api, kind)
            server.renewed(EXPORTS)
            ran = run(kind, agent, [HumanMessage(QUESTION)], {"configurable": {"thread_id": kind}})
            assert (server.rejected, server.broken) == ([], [])
            assert ran.answer == "Done: export_server:x"
            assert shown(ran.state) == bare
            assert len({message.id for message in ran.messages}) == len(ran.messages)
            if kind not in ("invoke", "ainvoke"):
                assert ran.streamed_text == "Done: export_server:x"
            assert narrowed(server.answered) == case.way
            assert SEARCH in server.answered[0].asked.offered
            assert "export_server" not in server.answered[0].asked.offered
            assert len(server.answered) == 3
            spent += server.billed
            if case.way != "rebind":
                assert len(tool_arrays(server.answered)) == 1
        if how != "graph":  # there only the decisions are reported
            assert measured(tokopt) == Bill(**{**vars(spent), "cache_write_1h": 0})
        assert tokopt.report().failures == ()


@pytest.mark.parametrize("case", ASKED_FOR, ids=str)
@hows
def test_a_tool_that_was_not_selected_is_found_and_called(provider: ProviderServer, case: Case, how: How) -> None:
    """In all five ways to run an agent; elsewhere two of them a case, so that each of the five is met there, too."""
    at = ASKED_FOR.index(case) + HOWS.index(how)
    check(case, how, RUNS if how == "middleware" else [RUNS[at % 5], RUNS[(at + 2) % 5]], provider)


@pytest.mark.parametrize("case", BY_PRICE, ids=str)
@hows
@pytest.mark.usefixtures("asked_itself")
def test_the_cheapest_way_finds_it_too(provider: ProviderServer, case: Case, how: How) -> None:
    check(case, how, ["invoke", "astream"] if how == "middleware" else ["astream"], provider)
