"""What threads with many tools are billed, by the server's count, its prompt cache and the model's prices."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt import Pricing
from langchain_tokopt.rates import MILLION
from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import chat_model, run
from tests.providers.billing import Bill
from tests.providers.compared import Narrowed, narrowed, narrowing
from tests.providers.replies import Asked, Provider, Reply
from tests.providers.server import ProviderServer
from tests.providers.wanting import MODELS, VERBS, numbered, wants

pytestmark = pytest.mark.usefixtures("own_hosts")
# What a thread asks for, and what each message needs. The third also needs a tool that it does not speak of.
NEEDS = {
    "Please list the invoice of Ada.": ["list_invoice"],
    "Now create a ticket for it.": ["create_ticket"],
    "Archive the contract, then tell me.": ["archive_contract", "export_server"],
    "Anything in the calendar?": ["list_calendar"],
}
NEEDED = [name for names in NEEDS.values() for name in names]
NOUNS = """
    invoice ticket contract calendar server customer payment parcel photo recipe holiday vendor budget lease badge
    printer vehicle meeting survey license desk phone visitor training payroll audit warranty order refund coupon
    claim policy grant permit sample device sensor backup cluster domain mailbox webhook token schema branch release
    incident alert metric forecast
"""


@lru_cache(maxsize=8)
def office(count: int) -> list[BaseTool]:
    """The tools that are needed, and others."""
    names = dict.fromkeys([*NEEDED, *(f"{verb}_{noun}" for noun in NOUNS.split() for verb in VERBS)])
    return [numbered(name) for name in list(names)[:count]]


def policy(asked: Asked) -> Reply:
    return wants(*next(names for question, names in NEEDS.items() if question in asked.last_user))(asked)


def agent_with(name: Provider, server: ProviderServer, count: int, ours: list[Any]) -> Any:
    """An agent whose prompts the provider caches."""
    caching = [AnthropicPromptCachingMiddleware()] if name == "anthropic" else []
    model = chat_model(name, server, **MODELS[name])
    return create_agent(model, office(count), middleware=[*caching, *ours], checkpointer=InMemorySaver())


def paid(name: Provider, bill: Bill) -> Decimal:
    """USD for the input."""
    rates = Pricing().rates(next(iter(MODELS[name].values())), name.replace("responses", "openai"))
    assert rates is not None
    plain = bill.input - bill.cache_read - bill.cache_write
    return (plain * rates.input + bill.cache_read * rates.cache_read + bill.cache_write * rates.cache_write) / MILLION


def threads(server: ProviderServer, name: Provider, count: int, mode: SelectionMode) -> tuple[Narrowed, list[Decimal]]:
    """How tools were told of, and USD for the input of two threads: of the first, and of one that finds it cached."""
    spent = []
    with narrowing(mode, max_tools=10, min_tools=None) as tokopt:
        agent = agent_with(name, server.renewed(policy), count, tokopt.middleware)
        for thread in ("first", "second"):
            server.records.clear()
            for question in NEEDS:
                config: Any = {"configurable": {"thread_id": thread}}
                assert run("invoke", agent, [HumanMessage(f"{question} ({thread})")], config).answer.startswith("Done")
            assert (server.rejected, server.broken) == ([], [])
            spent.append(paid(name, server.billed))
        return narrowed(server.answered, count), spent


@lru_cache(maxsize=16)
def bare(server: ProviderServer, name: Provider, count: int) -> list[Decimal]:
    """The same with all tools bound as they are."""
    way, spent = threads(server, name, count, "off")
    assert way == "all"
    return spent


@pytest.mark.parametrize(
    ("name", "count", "way"),
    [
        ("anthropic", 5, "all"),
        ("anthropic", 60, "all"),
        ("anthropic", 250, "inline"),
        ("openai", 5, "all"),
        ("openai", 30, "proxy"),
        ("openai", 120, "proxy"),
        ("responses", 120, "inline"),
    ],
)
def test_auto_is_never_billed_more_than_binding_everything(
    provider: ProviderServer, name: Provider, count: int, way: Narrowed
) -> None:
    told, ours = threads(provider, name, count, "auto")
    assert told == way
    # Where all tools are bound, the prompts differ in a few bytes, and what is cached is counted in steps.
    most = Decimal("1.02") if way == "all" else Decimal("0.85")
    assert all(spent <= most * full for spent, full in zip(ours, bare(provider, name, count), strict=True))


@pytest.mark.parametrize(
    ("mode", "name", "cold", "warm"),
    [
        ("inline", "anthropic", "0.25", "0.85"),
        ("proxy", "anthropic", "0.15", "0.50"),
        ("proxy", "openai", "0.15", "0.15"),
    ],
)
def test_prompts_that_are_only_added_to_cost_less_than_all_tools(
    provider: ProviderServer, mode: SelectionMode, name: Provider, cold: str, warm: str
) -> None:
    told, (first, second) = threads(provider, name, 120, mode)
    assert told == mode
    assert first < Decimal(cold) * bare(provider, name, 120)[0]
    assert second < Decimal(warm) * bare(provider, name, 120)[1]


def test_more_tools_than_the_provider_takes_are_no_hindrance(provider: ProviderServer) -> None:
    with pytest.raises(Exception, match="array with maximum length 128"):
        threads(provider, "openai", 250, "off")
    told, _ = threads(provider, "openai", 250, "auto")
    assert told == "proxy"
