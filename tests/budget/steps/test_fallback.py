"""What another model is sent: the same conversation, without what only the first model or its provider knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_tokopt.budget.steps.fallback import Unfit, asked_for, for_model
from tests.fakes import ScriptedModel

FIRST = ScriptedModel(model_name="big", provider="one")
KIN = ScriptedModel(model_name="small", provider="one")
OTHER = ScriptedModel(model_name="small", provider="two")


class Weather(BaseModel):
    """Weather."""

    city: str


@tool
def look(place: str) -> str:
    """Look at a place."""
    return place


def request(*messages: AnyMessage, model: Any = FIRST, **settings: Any) -> ModelRequest[Any]:
    return ModelRequest(model=model, messages=list(messages) or [HumanMessage("hi")], **settings)


def with_profile(model: ScriptedModel, **profile: Any) -> ScriptedModel:
    return model.model_copy(update={"profile": profile})


# --- settings ---


def test_settings_stay_with_the_model_or_the_provider_that_knows_them() -> None:
    given = {
        "model": "big",
        "temperature": 0.5,
        "cache_control": {"type": "ephemeral"},
        "reasoning_effort": "high",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop": ["\n"],
        "max_tokens": 500,
    }
    asked = request(model_settings=given)
    assert for_model(asked, OTHER).model_settings == {"stop": ["\n"]}
    assert for_model(asked, KIN).model_settings == {
        "temperature": 0.5,
        "cache_control": {"type": "ephemeral"},
        "stop": ["\n"],
    }
    assert "temperature" not in for_model(asked, with_profile(KIN, temperature=False)).model_settings
    assert asked.model_settings == given


@pytest.mark.parametrize("setting", ["response_format", "output_format", "response_schema", "format"])
def test_the_form_of_an_answer_cannot_be_said_in_another_provider_s_words(setting: str) -> None:
    asked = request(model_settings={setting: {"type": "json"}})
    with pytest.raises(Unfit, match=f"{setting} says in the words of one what form the answer must have"):
        for_model(asked, OTHER)
    assert for_model(asked, KIN).model_settings == {setting: {"type": "json"}}


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [({}, None), ({"max_tokens": 5}, 5), ({"max_completion_tokens": 7}, 7), ({"max_tokens": None}, None)],
)
def test_how_long_the_answer_may_be_is_read_in_any_words(settings: Mapping[str, Any], tokens: int | None) -> None:
    assert asked_for(request(model_settings=dict(settings))) == tokens


# --- what a model cannot do ---


def test_the_model_that_is_called_already_is_no_other() -> None:
    with pytest.raises(Unfit, match="it is the model that is called already"):
        for_model(request(), FIRST.model_copy())
    # A request may name another model of the same class.
    assert for_model(request(model_settings={"model": "bigger"}), FIRST.model_copy()).model_settings == {}


def test_tools_need_a_model_that_calls_them() -> None:
    mute = with_profile(OTHER, tool_calling=False)
    assert for_model(request(), mute).model is mute
    for settings in ({"tools": [look]}, {"response_format": ToolStrategy(Weather)}):
        with pytest.raises(Unfit, match="it cannot call tools"):
            for_model(request(**settings), mute)


def test_a_provider_s_structured_answer_needs_a_model_that_gives_it() -> None:
    plain = with_profile(OTHER, structured_output=False)
    with pytest.raises(Unfit, match="it cannot answer in the form that is asked for"):
        for_model(request(response_format=ProviderStrategy(Weather)), plain)
    assert for_model(request(response_format=ProviderStrategy(Weather)), OTHER).model is OTHER
    # With these LangChain finds a way that the model knows.
    for strategy in (AutoStrategy(Weather), ToolStrategy(Weather)):
        assert for_model(request(response_format=strategy), plain).model is plain


IMAGE = {"type": "image", "source_type": "base64", "data": "aGk=", "mime_type": "image/png"}


def test_media_need_a_model_that_takes_them() -> None:
    asked = request(HumanMessage([{"type": "text", "text": "what is it?"}, IMAGE]))
    assert for_model(asked, OTHER).messages == asked.messages
    with pytest.raises(Unfit, match="it takes no image input"):
        for_model(asked, with_profile(OTHER, image_inputs=False))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source_type": "id", "id": "file-1"},
        {"type": "file", "file_id": "file-1"},
    ],
)
def test_what_was_uploaded_to_one_provider_is_not_at_another(block: dict[str, Any]) -> None:
    asked = request(HumanMessage([block]))
    with pytest.raises(Unfit, match="was uploaded to the provider of the first model"):
        for_model(asked, OTHER)
    assert for_model(asked, KIN).messages == asked.messages


def test_a_block_that_only_one_provider_knows_stays_there() -> None:
    asked = request(HumanMessage([{"type": "search_result", "title": "x"}]))
    with pytest.raises(Unfit, match="a block of type 'search_result', which only its provider takes"):
        for_model(asked, OTHER)
    said = request(HumanMessage("hi"), AIMessage([{"type": "web_search_call", "id": "ws_1"}]))
    with pytest.raises(Unfit, match="a block of type 'web_search_call', which only its provider takes back"):
        for_model(said, OTHER)
    assert for_model(said, KIN).messages == said.messages


# --- tools ---


def test_tools_of_a_provider_stay_there() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(Unfit, match="the tool 'web_search' is described in the words of one"):
        for_model(request(tools=[look, search]), OTHER)
    assert for_model(request(tools=[look, search]), KIN).tools == [look, search]


def test_cache_marks_do_not_go_along() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    marked = look.model_copy(update={"extras": mark})
    function = {"type": "function", "function": {"name": "f", "parameters": {}}}
    asked = request(
        HumanMessage([{"type": "text", "text": "hi", **mark}]),
        system_message=SystemMessage([{"type": "text", "text": "be brief", **mark}]),
        tools=[look, marked, {**function, **mark}],
    )
    sent = for_model(asked, OTHER)
    assert [message.content for message in sent.messages] == [[{"type": "text", "text": "hi"}]]
    assert sent.system_message is not None
    assert sent.system_message.content == [{"type": "text", "text": "be brief"}]
    assert sent.tools[0] is look
    assert sent.tools[1].extras is None  # type: ignore[union-attr]
    assert sent.tools[2] == function
    assert marked.extras == mark
    assert asked.messages[0].content == [{"type": "text", "text": "hi", **mark}]
    assert for_model(asked, KIN).messages == asked.messages


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, None),
        ("any", "any"),
        ({"type": "any"}, "any"),
        ({"type": "tool", "name": "look"}, "look"),
        ({"type": "function", "function": {"name": "look"}}, "look"),
    ],
)
def test_the_choice_of_a_tool_is_said_in_words_that_all_understand(given: Any, sent: Any) -> None:
    assert for_model(request(tools=[look], tool_choice=given), OTHER).tool_choice == sent
    assert for_model(request(tools=[look], tool_choice=given), KIN).tool_choice == given


def test_another_choice_of_tools_stays_with_its_provider() -> None:
    with pytest.raises(Unfit, match="the choice of a tool"):
        for_model(request(tools=[look], tool_choice={"type": "allowed_tools"}), OTHER)


# --- what the first model said ---

CALL: Any = {"name": "look", "args": {"place": "x"}, "id": "toolu_1", "type": "tool_call"}
CLAUDE = AIMessage(
    content=[
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"place": "x"}},
    ],
    tool_calls=[CALL],
    id="msg_1",
    response_metadata={"model_provider": "anthropic"},
)
GPT = AIMessage(
    content=[
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"},
        {"type": "text", "text": "I look.", "id": "msg_1", "annotations": []},
        {"type": "function_call", "id": "fc_1", "call_id": "toolu_1", "name": "look", "arguments": '{"place": "x"}'},
    ],
    tool_calls=[CALL],
    additional_kwargs={"reasoning": {"id": "rs_0"}},
    response_metadata={"model_provider": "openai", "id": "resp_1"},
    id="resp_1",
)


@pytest.mark.parametrize("model", [KIN, OTHER], ids=["same provider", "other provider"])
@pytest.mark.parametrize("said", [CLAUDE, GPT], ids=["claude", "gpt"])
def test_thoughts_and_ids_of_another_model_are_left_out(model: ScriptedModel, said: AIMessage) -> None:
    before = said.model_copy(deep=True)
    asked = request(HumanMessage("hi"), said, ToolMessage("x", tool_call_id="toolu_1"))
    sent = for_model(asked, model)
    assert sent.messages[1] == AIMessage("I look.", tool_calls=[CALL], id=said.id)
    assert sent.messages[0] is asked.messages[0]
    assert sent.messages[2] is asked.messages[2]
    assert said == before


def test_plain_messages_are_the_very_same() -> None:
    messages: list[AnyMessage] = [HumanMessage("hi"), AIMessage("hello"), HumanMessage("and now?")]
    assert all(a is b for a, b in zip(for_model(request(*messages), OTHER).messages, messages, strict=True))


def test_an_answer_of_thoughts_alone_is_left_out() -> None:
    asked = request(HumanMessage("a"), AIMessage([{"type": "thinking", "thinking": "hm"}]), HumanMessage("b"))
    assert [message.text for message in for_model(asked, OTHER).messages] == ["a", "b"]


def test_other_blocks_go_along_to_a_model_of_the_same_provider() -> None:
    blocks: list[Any] = [{"type": "thinking", "thinking": "hm"}, {"type": "server_tool_use", "id": "s"}, "so"]
    [said] = for_model(request(AIMessage([*blocks, {"type": "text", "text": "x", "citations": []}])), KIN).messages
    assert said.content == [{"type": "server_tool_use", "id": "s"}, "so", {"type": "text", "text": "x"}]


def claude(**settings: Any) -> ChatAnthropic:
    return ChatAnthropic(**{"model": "claude-haiku-4-5-20251001", "api_key": "none", "max_tokens": 100, **settings})


def gpt(**settings: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": "gpt-4.1-nano", "api_key": "none", **settings})


def test_what_claude_said_is_something_that_openai_takes() -> None:
    first = claude(model="claude-sonnet-4-5-20250929", thinking={"type": "enabled", "budget_tokens": 1024})
    asked = request(HumanMessage("hi"), CLAUDE, ToolMessage("x", tool_call_id="toolu_1"), model=first, tools=[look])
    for model in (gpt(), gpt(use_responses_api=True)):
        payload = model._get_request_payload(for_model(asked, model).messages)
        shown = str(payload)
        assert "signature" not in shown
        assert "thinking" not in shown
        assert "tool_use" not in shown
        assert shown.count("I look.") == 1
        assert shown.count("toolu_1") == 2


@pytest.mark.parametrize("said", [CLAUDE, GPT], ids=["of claude", "of gpt"])
def test_what_was_said_is_something_that_another_claude_takes(said: AIMessage) -> None:
    first = claude(model="claude-sonnet-4-5-20250929") if said is CLAUDE else gpt(model="gpt-5", use_responses_api=True)
    asked = request(HumanMessage("hi"), said, ToolMessage("x", tool_call_id="toolu_1"), model=first, tools=[look])
    sent = for_model(asked, claude())
    payload = claude()._get_request_payload(sent.messages)
    assert payload["messages"][1] == {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"place": "x"}},
        ],
    }


def test_what_gpt_said_is_something_that_another_gpt_takes() -> None:
    asked = request(
        HumanMessage("hi"),
        GPT,
        ToolMessage("x", tool_call_id="toolu_1"),
        model=gpt(model="gpt-5", use_responses_api=True),
    )
    model = gpt(use_responses_api=True)
    payload = model._get_request_payload(for_model(asked, model).messages)
    said = [item for item in payload["input"] if item.get("role") != "user"]
    assert [item["type"] for item in said if "type" in item] == ["message", "function_call", "function_call_output"]
    assert not any("rs_" in str(item) or "fc_1" in str(item) or "msg_1" in str(item) for item in said)
