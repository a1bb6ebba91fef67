"""Which answers are kept, and that they come back as new messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelResponse
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from pydantic import BaseModel

from langchain_tokopt.cache import CacheKey
from langchain_tokopt.cache.answers import UnreadableError, pack, unpack, usage_of, why_not
from tests.fakes import ai

PLAIN = CacheKey(scope="s", owner="o", text="t", exact="e", agent="bob")


class Verdict(BaseModel):
    good: bool


@dataclass
class Place:
    name: str


class Uncomparable(BaseModel):
    good: bool

    def __eq__(self, other: object) -> bool:
        return False


def keyed(response_format: Any) -> CacheKey:
    return CacheKey(scope="s", owner="o", text="t", exact="e", response_format=response_format)


def answer(message: AIMessage | None = None, **fields: Any) -> ModelResponse[Any]:
    return ModelResponse(result=[message if message is not None else AIMessage(**{"content": "yes", **fields})])


def again(response: ModelResponse[Any], key: CacheKey = PLAIN) -> ModelResponse[Any]:
    payload = pack(response, key)
    assert payload is not None, why_not(response, key)
    return unpack(payload, key, {"cache": "exact"})


def test_a_hit_is_a_new_message_that_cost_nothing() -> None:
    given_before = ai("yes", input_tokens=100, output_tokens=7, id="run-1")
    given_before.name = "alice"
    given_before.response_metadata = {
        "id": "resp_1",
        "model_name": "gpt-4o",
        "finish_reason": "stop",
        "token_usage": {"total_tokens": 107},
        "headers": {"x": "y"},
    }
    first, second = again(answer(given_before)).result[0], again(answer(given_before)).result[0]
    assert isinstance(first, AIMessage)
    assert first.content == "yes"
    assert first.name == "bob"
    assert len({first.id, second.id, "run-1", None}) == 4
    assert first.usage_metadata == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    assert first.response_metadata == {
        "model_name": "gpt-4o",
        "finish_reason": "stop",
        "tokopt": {"cache": "exact"},
    }
    assert given_before.id == "run-1"
    assert usage_of(answer(given_before)) == given_before.usage_metadata


def test_an_answer_without_a_name_stays_without() -> None:
    assert again(answer()).result[0].name is None


def test_blocks_lose_their_ids_and_reasoning_is_dropped() -> None:
    blocks: list[Any] = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"},
        {"type": "text", "text": "yes", "id": "msg_1", "index": 1, "annotations": [{"type": "url", "url": "u"}]},
        "plain",
    ]
    restored = again(answer(content=blocks)).result[0]
    assert restored.content == [
        {"type": "text", "text": "yes", "annotations": [{"type": "url", "url": "u"}]},
        "plain",
    ]
    assert "id" in blocks[1]


def test_two_hits_share_nothing() -> None:
    payload = pack(answer(content=[{"type": "text", "text": "yes"}]), PLAIN)
    assert payload is not None
    one: Any = unpack(payload, PLAIN, {}).result[0]
    two: Any = unpack(payload, PLAIN, {}).result[0]
    one.content[0]["text"] = "changed"
    one.response_metadata["x"] = 1
    assert two.content == [{"type": "text", "text": "yes"}]
    assert "x" not in two.response_metadata


def test_a_streamed_answer_comes_back_whole() -> None:
    chunk = AIMessageChunk(content="yes", chunk_position="last")
    assert type(again(answer(chunk)).result[0]) is AIMessage


@pytest.mark.parametrize("ending", ["stop", "STOP", "end_turn", "stop_sequence", "completed", "FinishReason.STOP"])
def test_complete_answers_are_kept(ending: str) -> None:
    assert why_not(answer(response_metadata={"finish_reason": ending}), PLAIN) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"content": ""}, "empty"),
        ({"content": " \n"}, "empty"),
        ({"content": [{"type": "reasoning", "text": "hm"}]}, "empty"),
        ({"response_metadata": {"finish_reason": "length"}}, "finish_reason=length"),
        ({"response_metadata": {"finish_reason": "content_filter"}}, "finish_reason=content_filter"),
        ({"response_metadata": {"stop_reason": "max_tokens"}}, "stop_reason=max_tokens"),
        ({"response_metadata": {"stop_reason": "refusal"}}, "stop_reason=refusal"),
        ({"response_metadata": {"stop_reason": "pause_turn"}}, "stop_reason=pause_turn"),
        ({"response_metadata": {"stopReason": "guardrail_intervened"}}, "stopReason=guardrail_intervened"),
        ({"response_metadata": {"finish_reason": "SAFETY"}}, "finish_reason=SAFETY"),
        ({"response_metadata": {"done_reason": "length"}}, "done_reason=length"),
        ({"response_metadata": {"status": "incomplete"}}, "status=incomplete"),
        ({"response_metadata": {"incomplete_details": {"reason": "x"}}}, "incomplete"),
        ({"response_metadata": {"error": {"code": 5}}}, "incomplete"),
        ({"response_metadata": {"logprobs": {"content": []}}}, "log probabilities were asked for"),
        ({"additional_kwargs": {"refusal": "I cannot"}}, "refused"),
        ({"additional_kwargs": {"audio": {"id": "a"}}}, "content that cannot be repeated"),
        ({"additional_kwargs": {"parsed": Verdict(good=True)}}, "content that cannot be repeated"),
        ({"additional_kwargs": {"x": object()}}, "content that cannot be written down"),
        ({"content": [{"type": "text", "text": "x", "y": b"z"}]}, "content that cannot be written down"),
        ({"content": [{"type": "image", "base64": "aa", "mime_type": "image/png"}]}, "content that is not text"),
        ({"content": [{"type": "server_tool_call", "name": "web_search"}, "yes"]}, "content that is not text"),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "content that is not text"),
        ({"tool_calls": [{"name": "look", "args": {}, "id": "c", "type": "tool_call"}]}, "tool calls"),
        (
            {"invalid_tool_calls": [{"name": "a", "args": "{", "id": "c", "error": "", "type": "invalid_tool_call"}]},
            "tool calls",
        ),
    ],
)
def test_what_is_no_final_answer_is_not_kept(fields: dict[str, Any], why: str) -> None:
    assert why_not(answer(**fields), PLAIN) == why
    assert pack(answer(**fields), PLAIN) is None


def test_no_message_and_extra_messages_are_not_kept() -> None:
    assert why_not(ModelResponse(result=[]), PLAIN) == "no answer"
    assert why_not(ModelResponse(result=[HumanMessage("x")]), PLAIN) == "no answer"
    two = ModelResponse(result=[AIMessage("a"), ToolMessage("b", tool_call_id="c")])
    assert why_not(two, PLAIN) == "an unexpected form"


@given(st.text(st.characters(), min_size=1).filter(lambda text: bool(text.strip())))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert again(answer(content=text)).result[0].content == text


def test_answers_that_earlier_versions_have_stored_are_still_given() -> None:
    stored = dumps([AIMessage("yes", name="alice", response_metadata={"model_name": "gpt-4o"})])
    (message,) = unpack(stored, PLAIN, {"cache": "exact"}).result
    assert (message.content, message.name) == ("yes", "bob")
    assert message.response_metadata == {"model_name": "gpt-4o", "tokopt": {"cache": "exact"}}


def test_metadata_that_cannot_be_written_down_is_left_out() -> None:
    (message,) = again(answer(response_metadata={"model_name": "gpt-4o", "model_id": object()})).result
    assert message.response_metadata == {"model_name": "gpt-4o", "tokopt": {"cache": "exact"}}


def test_what_looks_like_a_serialised_object_stays_data() -> None:
    secret = {"lc": 1, "type": "secret", "id": ["PATH"]}
    model = {"lc": 1, "type": "constructor", "id": ["langchain", "chat_models", "openai", "ChatOpenAI"], "kwargs": {}}
    restored = again(answer(content=[{"type": "text", "text": "x", "a": secret}], additional_kwargs={"b": model}))
    message = restored.result[0]
    assert message.content == [{"type": "text", "text": "x", "a": secret}]
    assert message.additional_kwargs == {"b": model}


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "[]",
        "[1]",
        dumps([HumanMessage("x")]),
        dumps(AIMessage("x")),
        json.dumps([{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}}]),
        json.dumps([{"lc": 1, "type": "secret", "id": ["PATH"]}]),
    ],
)
def test_a_damaged_or_foreign_row_is_refused(payload: str) -> None:
    with pytest.raises(UnreadableError):
        unpack(payload, PLAIN, {})


# --- structured responses --------------------------------------------------------------------------------------------


def by_tool(name: str, args: dict[str, Any], structured: Any) -> ModelResponse[Any]:
    call = {"name": name, "args": args, "id": "call_1"}
    return ModelResponse(
        result=[ai(tool_calls=[call]), ToolMessage("Returning", tool_call_id="call_1", name=name)],
        structured_response=structured,
    )


@pytest.mark.parametrize("strategy", [ToolStrategy, AutoStrategy, lambda schema: schema])
@pytest.mark.parametrize(
    ("schema", "args", "structured"),
    [
        (Verdict, {"good": True}, Verdict(good=True)),
        (Place, {"name": "Rome"}, Place("Rome")),
        ({"title": "place", "type": "object", "properties": {}}, {"name": "Rome"}, {"name": "Rome"}),
    ],
)
def test_a_response_by_tool_comes_back_whole(strategy: Any, schema: Any, args: Any, structured: Any) -> None:
    name = schema["title"] if isinstance(schema, dict) else schema.__name__
    restored = again(by_tool(name, args, structured), keyed(strategy(schema)))
    message, result = restored.result
    assert isinstance(message, AIMessage)
    assert isinstance(result, ToolMessage)
    assert restored.structured_response == structured
    assert restored.structured_response is not structured
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [(name, args)]
    assert message.tool_calls[0]["id"] == result.tool_call_id != "call_1"
    assert (result.content, result.name) == ("Returning", name)


def test_a_tool_use_block_gets_the_new_id_of_its_call() -> None:
    response = by_tool("Verdict", {"good": True}, Verdict(good=True))
    response.result[0].content = [{"type": "tool_use", "id": "call_1", "name": "Verdict", "input": {"good": True}}]
    message = again(response, keyed(ToolStrategy(Verdict))).result[0]
    assert isinstance(message, AIMessage)
    assert message.content[0]["id"] == message.tool_calls[0]["id"]  # type: ignore[index]


@pytest.mark.parametrize("strategy", [ProviderStrategy, AutoStrategy])
def test_a_response_by_the_provider_comes_back_whole(strategy: Any) -> None:
    response = ModelResponse(result=[AIMessage('{"good": true}')], structured_response=Verdict(good=True))
    restored = again(response, keyed(strategy(Verdict)))
    assert restored.structured_response == Verdict(good=True)
    assert [message.content for message in restored.result] == ['{"good": true}']


@pytest.mark.parametrize(
    ("response", "response_format", "why"),
    [
        (ModelResponse(result=[AIMessage("hi")]), Verdict, "no structured response"),
        (by_tool("Other", {"good": True}, Verdict(good=True)), Verdict, "a structured response that cannot be rebuilt"),
        (
            by_tool("Uncomparable", {"good": True}, Uncomparable(good=True)),
            Uncomparable,
            "a structured response that cannot be rebuilt",
        ),
        (
            by_tool("Verdict", {"good": False}, Verdict(good=True)),
            Verdict,
            "a structured response that cannot be rebuilt",
        ),
        (
            ModelResponse(result=[ai(tool_calls=[{"name": "Verdict", "args": {}}])], structured_response=1),
            Verdict,
            "tool calls",
        ),
    ],
)
def test_what_cannot_be_rebuilt_exactly_is_not_kept(response: Any, response_format: Any, why: str) -> None:
    problem = why_not(response, keyed(ToolStrategy(response_format)))
    assert problem is not None
    assert problem.startswith(why)


def test_a_second_tool_call_beside_the_response_is_not_kept() -> None:
    response = by_tool("Verdict", {"good": True}, Verdict(good=True))
    message = response.result[0]
    assert isinstance(message, AIMessage)
    message.tool_calls.append({"name": "look", "args": {}, "id": "call_2", "type": "tool_call"})
    assert why_not(response, keyed(ToolStrategy(Verdict))) == "tool calls"


def test_a_stored_response_under_another_schema_is_refused() -> None:
    payload = pack(by_tool("Verdict", {"good": True}, Verdict(good=True)), keyed(ToolStrategy(Verdict)))
    assert payload is not None
    with pytest.raises(UnreadableError, match="does not fit the response format"):
        unpack(payload, keyed(ToolStrategy(Place)), {})
