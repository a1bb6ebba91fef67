"""Calls in the background against the providers' rules: valid, billed, counted once, and out of the user's stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import HumanMessage

from langchain_tokopt import TokenOptimizer
from langchain_tokopt.flow import Flow, FlowMiddleware, compose
from langchain_tokopt.later import Later
from langchain_tokopt.model import OptimizedChatModel
from tests.providers.agents import APIS, OURS, Run, Way, chat_model, make_agent, measured, optimizer, run
from tests.providers.billing import Bill
from tests.providers.replies import Asked, Provider
from tests.providers.server import ProviderServer
from tests.providers.weather import weather


class Checking(FlowMiddleware):
    """Asks the same question again beside the answer."""

    part = "checking"

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[Any] = []

    def flow(self, request: ModelRequest[Any]) -> Flow:
        yield Later(request, lambda response: self.ended.append(response.result[0].text), self.ended.append)
        return (yield request)


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("way", OURS)
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_the_second_call_is_as_valid_as_the_first_and_on_the_bill(
    provider: ProviderServer, name: Provider, way: Way, kind: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(asked: Asked) -> str:
        return "Titan, I think."

    provider.policy = answer
    tokopt: TokenOptimizer = optimizer(cache=None)
    checking = Checking()
    model = chat_model(name, provider)
    if way == "wrap":
        inside = tokopt.wrap(model)
        assert isinstance(inside, OptimizedChatModel)
        wrapped = OptimizedChatModel.around(model, compose(checking.run_flow, inside.flow))
        monkeypatch.setattr(tokopt, "wrap", lambda _: wrapped)
        agent = make_agent(way, model, [weather], tokopt)
    else:
        monkeypatch.setattr(tokopt, "middleware", [checking, *tokopt.middleware])
        agent = make_agent(way, model, [weather], tokopt)
    question = [HumanMessage("Which is the largest moon of Saturn?")]
    with tokopt:
        if kind == "astream":

            async def streamed() -> tuple[str, bool]:
                parts = [m.text async for m, _ in agent.astream({"messages": question}, stream_mode="messages")]
                return "".join(parts), await checking.background.adrain(20)

            assert asyncio.run(streamed()) == ("Titan, I think.", True)
        else:
            assert run(kind, agent, question).answer == "Titan, I think."
            assert checking.background.drain(20)
        assert checking.ended == ["Titan, I think."]
        first, second = provider.answered
        for body in (first.body, second.body):
            for key in ("stream", "stream_options"):
                body.pop(key, None)
        assert first.body == second.body
        assert measured(tokopt) == Bill(**{**vars(provider.billed), "cache_write_1h": 0})
        assert tokopt.report().failures == ()
