"""Compressing harder, for a call that would otherwise not be made."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from langchain_tokopt.context.harder import compress_harder
from langchain_tokopt.tokens import TokenCounter
from tests.fakes import ScriptedModel

COUNTER = TokenCounter()
LOG = "\n".join(f"2027-01-{day:02} job {day} finished with code {day * 7} in {day * 13} ms" for day in range(1, 29))


def request(*messages: AnyMessage) -> ModelRequest[Any]:
    return ModelRequest(model=ScriptedModel(), messages=list(messages))


def thread() -> list[AnyMessage]:
    messages: list[AnyMessage] = []
    for number in range(6):
        call = {"name": "log", "args": {"day": number}, "id": f"c{number}"}
        messages += [
            HumanMessage(f"What happened on day {number}?"),
            AIMessage("", tool_calls=[call]),
            ToolMessage(f"run {number}\n{LOG}", tool_call_id=f"c{number}", name="log"),
            AIMessage(f"All jobs of day {number} finished."),
        ]
    return [*messages, HumanMessage("And what was the code of job 9?")]


def test_each_time_a_third_less_is_left_until_nothing_can_go() -> None:
    given = request(*thread())
    before = list(given.messages)
    sizes = [COUNTER.messages(given.messages)]
    for _ in range(20):
        smaller = compress_harder(given, counter=COUNTER)
        if smaller is given:
            break
        given = smaller
        sizes.append(COUNTER.messages(given.messages))
    assert len(sizes) > 3
    assert all(after <= size * 2 / 3 + 1 for size, after in pairwise(sizes[:3]))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 4
    assert given.messages[-1].text == "And what was the code of job 9?"
    assert before == thread()


def test_a_conversation_that_the_provider_keeps_is_left_alone() -> None:
    given = request(*thread()).override(model_settings={"previous_response_id": "resp_1"})
    assert compress_harder(given, counter=COUNTER) is given


def test_what_must_stay_stays() -> None:
    only = request(HumanMessage("Hello, who are you?"))
    assert compress_harder(only, counter=COUNTER) is only
