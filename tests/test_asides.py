"""Calls that a flow answers itself: how long it goes on, what becomes of other calls, what it leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.asides import Heard, as_loss, has_open_calls, with_asides, with_asked, without
from langchain_tokopt.events import Decision
from langchain_tokopt.flow import Flow, drive
from langchain_tokopt.kept import restored
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter
from tests.fakes import ScriptedModel, ai

ASKED = HumanMessage("hi", id="h0")


def call(name: str, call_id: str) -> dict[str, Any]:
    return {"name": name, "args": {}, "id": call_id, "type": "tool_call"}


def own(call_id: str) -> AIMessage:
    return ai(tool_calls=[call("own", call_id)])


def request_of(*messages: Any, **more: Any) -> ModelRequest[Any]:
    thread = list(messages) or [ASKED]
    more.setdefault("state", {"messages": thread})
    return ModelRequest(model=ScriptedModel(model_name="priced", provider="nobody"), messages=thread, **more)


class Script:
    """Gives its responses one after the other, and keeps the messages of the requests."""

    def __init__(self, *responses: Any) -> None:
        self.responses = [one if isinstance(one, ModelResponse) else ModelResponse(result=[one]) for one in responses]
        self.sent: list[list[BaseMessage]] = []
        self.left: list[int] = []

    def run(self, *, most: int = 3, keeps: bool = True) -> list[BaseMessage]:
        def flow(request: ModelRequest[Any]) -> Flow:
            def one_round(asked: list[BaseMessage], left: int) -> Any:
                self.left.append(left)
                response = yield with_asked(request, asked)
                calls = [one for said in response.result for one in getattr(said, "tool_calls", [])]
                mine = [one["id"] for one in calls if one["name"] == "own"]
                answers = [ToolMessage(f"to {each}", name="own", tool_call_id=each) for each in mine]
                return Heard(response, response.result, answers)

            return (yield from with_asides(one_round, most=most, keeps=keeps))

        def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
            self.sent.append(list(request.messages))
            assert request.state["messages"] == request.messages
            return self.responses[len(self.sent) - 1]

        self.response: Any = drive(flow, request_of(), handler)
        result: list[BaseMessage] = self.response.result
        return result


def ids(messages: Sequence[BaseMessage]) -> list[Any]:
    return [
        message.tool_call_id if isinstance(message, ToolMessage) else [one["id"] for one in message.tool_calls]  # type: ignore[attr-defined]
        for message in messages
    ]


# --- the loop --------------------------------------------------------------------------------------------------------


def test_a_response_that_asks_nothing_is_the_same_object() -> None:
    script = Script("done")
    script.responses = [ModelResponse(result=[ai("done")])]
    assert script.run() is script.responses[0].result
    assert script.response is script.responses[0]


def test_each_call_is_answered_before_the_next_request() -> None:
    script = Script(own("a"), own("b"), ai("done"))
    assert ids(script.run()) == [["a"], "a", ["b"], "b", []]
    assert [ids(sent[1:]) for sent in script.sent] == [[], [["a"], "a"], [["a"], "a", ["b"], "b"]]
    assert script.left == [3, 2, 1]


def test_a_call_too_many_is_taken_out() -> None:
    script = Script(own("a"), own("b"), ai("enough", tool_calls=[call("own", "c"), call("real", "d")]))
    assert ids(script.run(most=2)) == [["a"], "a", ["b"], "b", ["d"]]
    assert script.left == [2, 1, 0]


def test_calls_of_other_tools_are_left_open_beside_the_answers() -> None:
    script = Script(own("a"), ai(tool_calls=[call("real", "b"), call("own", "c")]))
    assert ids(script.run()) == [["a"], "a", ["b", "c"], "c"]
    assert len(script.sent) == 2


def test_ids_that_are_counted_from_zero_in_each_answer_hide_no_open_call() -> None:
    first = ai(tool_calls=[call("own", "0"), call("own", "1")])
    script = Script(first, ai(tool_calls=[call("own", "0"), call("real", "1")]), ai("done"))
    assert ids(script.run()) == [["0", "1"], "0", "1", ["0", "1"], "0"]


def test_where_nothing_is_kept_the_answer_carries_it() -> None:
    script = Script(own("a"), own("b"), ai("done", id="z"))
    (answer,) = script.run(keeps=False)
    assert answer.text == "done"
    assert ids(restored(request_of(ASKED, answer)).messages[1:]) == [["a"], "a", ["b"], "b", []]


def test_where_nothing_is_kept_calls_beside_those_of_other_tools_are_taken_out() -> None:
    script = Script(own("a"), ai(tool_calls=[call("real", "b"), call("own", "c")]))
    (answer,) = script.run(keeps=False)
    assert ids([answer]) == [["b"]]
    assert ids(restored(request_of(ASKED, answer)).messages[1:]) == [["a"], "a", ["b"]]


@pytest.mark.parametrize("keeps", [True, False])
def test_beside_a_structured_answer_calls_are_taken_out(keeps: bool) -> None:
    said = ai(tool_calls=[call("own", "a"), call("Answer", "b")])
    done = ToolMessage("structured", name="Answer", tool_call_id="b")
    script = Script(ModelResponse(result=[said, done], structured_response={"said": 1}))
    assert ids(script.run(keeps=keeps)) == [["b"], "b"]
    assert script.response.structured_response == {"said": 1}


@given(
    st.lists(st.lists(st.sampled_from(["own", "real"]), max_size=3), min_size=6, max_size=6),
    st.integers(0, 4),
    st.booleans(),
)
def test_no_own_call_is_ever_left_open(turns: list[list[str]], most: int, keeps: bool) -> None:
    said = [ai(tool_calls=[call(name, f"{n}.{m}") for m, name in enumerate(turn)]) for n, turn in enumerate(turns)]
    script = Script(*said)
    result = script.run(most=most, keeps=keeps)
    assert len(script.sent) <= most + 1
    answered = {message.tool_call_id for message in result if isinstance(message, ToolMessage)}
    calls = [one for message in result for one in getattr(message, "tool_calls", [])]
    assert all((one["name"] == "own") == (one["id"] in answered) for one in calls)
    assert keeps or len(result) == 1


# --- its pieces ------------------------------------------------------------------------------------------------------


def test_a_request_with_what_was_asked_leaves_the_given_one_as_it_is() -> None:
    given = request_of(ASKED, state={"messages": [HumanMessage("before"), ASKED], "more": 1})
    seen = with_asked(given, [own("a")])
    assert (len(seen.messages), len(seen.state["messages"]), seen.state["more"]) == (2, 3, 1)  # type: ignore[typeddict-item]
    assert (len(given.messages), len(given.state["messages"])) == (1, 2)
    assert with_asked(given, []) is given


def test_calls_are_taken_out_in_all_their_forms() -> None:
    said = AIMessage(
        [
            {"type": "text", "text": "both"},
            {"type": "tool_use", "id": "a", "name": "own", "input": {}},
            {"type": "tool_use", "id": "b", "name": "real", "input": {}},
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "own", "arguments": "{}"},
        ],
        tool_calls=[call("own", "a"), call("real", "b"), call("own", "c")],
        invalid_tool_calls=[{"name": "own", "args": "{", "id": "d", "error": None}],
        additional_kwargs={"tool_calls": [{"id": "a"}, {"id": "b"}], "kept": 1},
    )
    before = said.model_copy(deep=True)
    answers = [ToolMessage("", tool_call_id=each) for each in ("a", "c", "d")]
    (real,) = without([said], answers)
    assert isinstance(real, AIMessage)
    assert [block.get("id") for block in real.content] == [None, "b"]  # type: ignore[union-attr]
    assert (ids([real]), real.invalid_tool_calls) == ([["b"]], [])
    assert real.additional_kwargs == {"tool_calls": [{"id": "b"}], "kept": 1}
    assert said == before


def test_a_thought_that_nothing_follows_is_taken_out_with_its_call() -> None:
    thought = {"type": "reasoning", "id": "rs"}
    said = AIMessage([thought, {"type": "function_call", "call_id": "a"}], tool_calls=[call("own", "a")])
    (left,) = without([said], [ToolMessage("", tool_call_id="a")])
    assert left.content == []


def test_open_calls_are_those_without_a_result() -> None:
    assert not has_open_calls([own("a"), ToolMessage("", tool_call_id="a")])
    assert has_open_calls([own("a"), own("b"), ToolMessage("", tool_call_id="a")])
    assert not has_open_calls([ai("done")])


# --- what a call cost that brought nothing else ----------------------------------------------------------------------

PRICING = Pricing(overrides={"priced": Rates(input=Decimal(2), output=Decimal(8))})
DECIDED = Decision(part="history", action="applied", tokens_before=100, tokens_after=40, reason="shorter")


def booked(said: AIMessage, *answers: str) -> Decision:
    heard = Heard(ModelResponse(result=[said]), [said], [ToolMessage("", tool_call_id=each) for each in answers])
    return as_loss(DECIDED, request_of(), heard, counter=TokenCounter(), pricing=PRICING, remark="only asked")


def test_a_call_that_brought_something_else_is_no_loss() -> None:
    assert booked(ai("done")) is DECIDED
    assert booked(ai(tool_calls=[call("own", "a"), call("real", "b")]), "a") is DECIDED


def test_a_call_that_brought_nothing_else_is_a_loss_of_what_it_was_billed() -> None:
    said = ai(tool_calls=[call("own", "a")], input_tokens=1_000_000, output_tokens=500_000)
    expected = replace(DECIDED, tokens_after=1_500_100, saved_usd=Decimal(-6), reason="shorter; only asked")
    assert booked(said, "a") == expected


def test_without_a_bill_its_prompt_is_counted() -> None:
    loss = booked(own("a"), "a")
    counted = TokenCounter().request(request_of()).total
    assert loss.tokens_after == 100 + counted
    assert loss.saved_usd == Decimal(-2) * counted / 1_000_000
