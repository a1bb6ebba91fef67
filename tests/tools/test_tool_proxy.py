"""Tools that are called through another one: there, and back to the byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai import ChatOpenAI

from langchain_tokopt.tools.proxy import caller_name, caller_tool, proxied, unwrapped
from langchain_tokopt.tools.schema import ToolSpec
from tests.strategies import message_lists, odd_texts

PARAMETERS = {"type": "object", "properties": {"id": {"type": "integer"}, "deep": {"type": "object"}}}
KNOWN = {name: ToolSpec(name, "A tool.", PARAMETERS) for name in ("get_user", "get_users", "send_mail", "fetch_user")}

OPENAI = ChatOpenAI(model="gpt-4.1-mini", api_key="test")  # type: ignore[arg-type]
RESPONSES = ChatOpenAI(model="gpt-4.1-mini", api_key="test", use_responses_api=True)  # type: ignore[arg-type]
ANTHROPIC = ChatAnthropic(model_name="claude-sonnet-4-6", api_key="test")  # type: ignore[arg-type,call-arg]
CLIENTS: list[Any] = [OPENAI, RESPONSES, ANTHROPIC]


def wire(client: Any, messages: Sequence[BaseMessage]) -> str:
    """What a client sends, byte for byte."""
    return json.dumps(client._get_request_payload(list(messages)))


def say(*calls: Any, **fields: Any) -> AIMessage:
    """A message with calls, each an args dict of `call_tool`, or a name and args."""
    made = [
        {"name": "call_tool", "args": one} if isinstance(one, dict) else {"name": one[0], "args": one[1]}
        for one in calls
    ]
    return AIMessage(
        "", tool_calls=[{**one, "id": f"c{n}", "type": "tool_call"} for n, one in enumerate(made)], **fields
    )


def real(message: BaseMessage) -> AIMessage:
    (changed,), errors = unwrapped([message], "call_tool", KNOWN)
    assert errors == []
    assert isinstance(changed, AIMessage)
    return changed


def error(args: Any, **more: Any) -> str:
    message = say(args)
    (same,), (answer,) = unwrapped([message], "call_tool", KNOWN, **more)
    assert same is message
    assert (answer.name, answer.tool_call_id, answer.status) == ("call_tool", "c0", "error")
    return answer.text


def made(message: AIMessage) -> list[tuple[str, Any]]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


# --- the tool --------------------------------------------------------------------------------------------------------


def test_the_tool_has_a_name_of_its_own() -> None:
    assert caller_name(()) == "call_tool"
    assert caller_name({"call_tool"}) == "run_tool"
    taken = {"call_tool", "run_tool", "use_tool"}
    assert caller_name(taken) == "call_tool_2"
    assert caller_name({*taken, "call_tool_2", "call_tool_3"}) == "call_tool_4"


def test_the_tool_takes_a_name_and_any_object() -> None:
    function = convert_to_openai_tool(caller_tool("call_tool"))["function"]
    assert function["name"] == "call_tool"
    schema = function["parameters"]
    assert schema["required"] == ["name", "arguments"]
    assert [schema["properties"][name]["type"] for name in ("name", "arguments")] == ["string", "object"]
    assert schema["properties"]["arguments"]["additionalProperties"] is True


def test_in_a_strict_schema_the_arguments_are_text() -> None:
    function = convert_to_openai_tool(caller_tool("call_tool", as_text=True), strict=True)["function"]
    assert function["strict"] is True
    assert {one["type"] for one in function["parameters"]["properties"].values()} == {"string"}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("strict", [None, False])
def test_the_clients_take_the_tool(client: Any, strict: bool | None) -> None:
    for tool in (caller_tool("call_tool"), convert_to_openai_tool(caller_tool("call_tool"))):
        bound = client.bind_tools([tool], strict=strict)
        assert "call_tool" in wire(bound.bound, [HumanMessage("hi")]) + json.dumps(bound.kwargs["tools"])


def test_the_tool_itself_never_runs() -> None:
    with pytest.raises(ToolException, match="does not run by itself"):
        caller_tool("call_tool").invoke({"name": "get_user", "arguments": {}})


# --- calls become real -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "arguments"),
    [
        ({"name": "get_user", "arguments": {"id": 7}}, {"id": 7}),
        ({"name": "get_user", "arguments": '{"id": 7}'}, {"id": 7}),
        ({"name": "get_user", "arguments": '```json\n{"id": 7}\n```'}, {"id": 7}),
        ({"name": "get_user", "arguments": '{"id": 7}}'}, {"id": 7}),
        ({"name": "get_user", "arguments": '{"text": "two\nlines"}'}, {"text": "two\nlines"}),
        ({"arguments": {}, "name": " get_user "}, {}),
        ({"name": "get_user", "arguments": None}, {}),
        ({"name": "get_user", "arguments": ""}, {}),
        ({"name": "get_user"}, {}),
        ({"name": "get_user", "id": 7}, {"id": 7}),
    ],
)
def test_a_call_becomes_one_of_the_tool_itself(args: dict[str, Any], arguments: dict[str, Any]) -> None:
    message = say(args, usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}, id="m")
    changed = real(message)
    assert changed.tool_calls == [{"name": "get_user", "args": arguments, "id": "c0", "type": "tool_call"}]
    assert (changed.id, changed.usage_metadata) == ("m", message.usage_metadata)
    assert made(message) == [("call_tool", args)]
    assert proxied([changed], {"get_user"}, "call_tool") == [message]


def test_other_messages_are_the_same_objects() -> None:
    others = [say(("get_user", {"id": 1})), AIMessage("no"), HumanMessage("hi"), ToolMessage("x", tool_call_id="c0")]
    messages, errors = unwrapped(others, "call_tool", KNOWN)
    assert errors == []
    assert all(one is other for one, other in zip(messages, others, strict=True))


def test_parallel_calls_keep_their_order_beside_others() -> None:
    message = say(
        ("search_tools", {"query": "x"}),
        {"name": "send_mail", "arguments": {"to": "a"}},
        ("get_user", {"id": 1}),
        {"name": "get_users", "arguments": {}},
    )
    changed = real(message)
    assert made(changed) == [
        ("search_tools", {"query": "x"}),
        ("send_mail", {"to": "a"}),
        ("get_user", {"id": 1}),
        ("get_users", {}),
    ]
    assert [call["id"] for call in changed.tool_calls] == ["c0", "c1", "c2", "c3"]


def test_a_call_that_could_not_be_read_is_repaired_if_that_is_simple() -> None:
    def broken(args: str) -> AIMessage:
        call = {"name": "call_tool", "args": args, "id": "c0", "error": "bad", "type": "invalid_tool_call"}
        return AIMessage("", invalid_tool_calls=[call])

    for args in (
        '{"name": "get_user", "arguments": {"id": 7}}}',
        '```\n{"name": "get_user", "arguments": {"id": 7}}```',
        '{"name": "get_user", "arguments": {"id": 7}}\n',
    ):
        message = broken(args)
        changed = real(message)
        assert (made(changed), changed.invalid_tool_calls) == ([("get_user", {"id": 7})], [])
        assert proxied([changed], {"get_user"}, "call_tool") == [message]
    cut = broken('{"name": "get_user", "arguments": {"id": 7')  # what is missing may matter: it is not run
    (same,), (answer,) = unwrapped([cut], "call_tool", KNOWN)
    assert same is cut
    assert answer.text == "The call could not be read: it is not valid JSON. Nothing was run."


def test_a_chunk_that_was_put_together_becomes_a_message() -> None:
    chunk = AIMessageChunk("", tool_calls=say({"name": "get_user", "arguments": {"id": 7}}).tool_calls, id="m")
    changed = real(chunk)
    assert (type(changed), made(changed), changed.id) == (AIMessage, [("get_user", {"id": 7})], "m")


# --- calls that stand for nothing ------------------------------------------------------------------------------------


def test_an_unknown_tool_is_answered_with_the_nearest_ones() -> None:
    assert error({"name": "get_usr", "arguments": {}}) == (
        "There is no tool named 'get_usr'. The nearest ones are:\n"
        "- get_user(id?: integer, deep?: object)\n"
        "- get_users(id?: integer, deep?: object)\n"
        "- fetch_user(id?: integer, deep?: object)"
    )
    assert error({"name": "§" * 200, "arguments": {}}) == f"There is no tool named '{'§' * 100}'."


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ([1], "an array"),
        ("no", "text that is no JSON object"),
        ("[1]", "an array"),
        (7, "a number"),
        (True, "a truth value"),
    ],
)
def test_arguments_that_are_no_object_are_answered_with_the_signature(arguments: Any, kind: str) -> None:
    assert error({"name": "get_user", "arguments": arguments}) == (
        f"`arguments` must be an object that holds the tool's arguments by name, not {kind}: "
        "get_user(id?: integer, deep?: object)"
    )


def test_calls_of_the_tools_that_are_called_directly_are_answered() -> None:
    inner = {"name": "get_user", "arguments": {}}
    assert error({"name": "call_tool", "arguments": inner}) == (
        "call_tool calls other tools. Say in `name` which of them to call."
    )
    assert error({"name": "search_tools", "arguments": {}}, searcher="search_tools") == (
        "Call search_tools directly, not with call_tool."
    )


@pytest.mark.parametrize("args", [{}, {"arguments": {"id": 1}}, {"name": None}, {"name": ["get_user"]}, {"name": " "}])
def test_a_call_that_names_no_tool_is_answered(args: dict[str, Any]) -> None:
    assert error(args) == "Say in `name` which tool to call, as in call_tool(name='...', arguments={...})."


def test_what_can_be_called_is_called_beside_what_cannot() -> None:
    message = say({"name": "nothing"}, {"name": "get_user", "arguments": {"id": 1}})
    (changed,), (answer,) = unwrapped([message], "call_tool", KNOWN)
    assert isinstance(changed, AIMessage)
    assert made(changed) == [("call_tool", {"name": "nothing"}), ("get_user", {"id": 1})]
    assert answer.tool_call_id == "c0"
    shown = proxied([changed, answer, ToolMessage("Ann", name="get_user", tool_call_id="c1")], KNOWN, "call_tool")
    assert shown[0] == message
    assert shown[1] is answer
    assert shown[2] == ToolMessage("Ann", name="call_tool", tool_call_id="c1")


# --- and back --------------------------------------------------------------------------------------------------------


def test_a_hidden_tool_that_was_called_directly_is_shown_as_called_through_the_other() -> None:
    thread = [
        HumanMessage("hi"),
        say(("get_user", {"id": 1}), ("bound", {})),
        ToolMessage("Ann", name="get_user", tool_call_id="c0", artifact=1, id="r"),
        ToolMessage("ok", name="bound", tool_call_id="c1"),
        say(("bound", {})),
        ToolMessage("ok", name="bound", tool_call_id="c0"),
    ]
    shown = proxied(thread, {"get_user"}, "call_tool")
    assert shown[1] == say({"name": "get_user", "arguments": {"id": 1}}, ("bound", {}))
    assert shown[2] == thread[2].model_copy(update={"name": "call_tool"})
    assert all(shown[n] is thread[n] for n in (0, 3, 4, 5))
    assert made(thread[1]) == [("get_user", {"id": 1}), ("bound", {})]  # type: ignore[arg-type]


def test_a_call_that_a_human_has_changed_is_shown_as_it_is_now() -> None:
    changed = real(say({"name": "get_user", "arguments": '{"id": 7}'}))
    edited = changed.model_copy(update={"tool_calls": [{**changed.tool_calls[0], "args": {"id": 8}}]})
    assert proxied([edited], KNOWN, "call_tool") == [say({"name": "get_user", "arguments": {"id": 8}})]


def test_a_call_that_was_never_valid_is_left_alone() -> None:
    call = {"name": "get_user", "args": "{", "id": "c0", "error": "bad", "type": "invalid_tool_call"}
    message = AIMessage("", invalid_tool_calls=[call])
    assert proxied([message], KNOWN, "call_tool")[0] is message


# --- in every form of content, and over the wire ---------------------------------------------------------------------

STYLES: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"indent": 1}]
ARGUMENTS = st.dictionaries(
    st.one_of(st.sampled_from(["id", "name", "arguments"]), odd_texts(5)),
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), odd_texts(8)
        ),
        lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(odd_texts(4), inner, max_size=2)),
        max_leaves=5,
    ),
    max_size=3,
)


@st.composite
def call_args(draw: st.DrawFn) -> dict[str, Any]:
    """What a model gives to the tool, in all the ways in which it may."""
    arguments = draw(ARGUMENTS)
    style = draw(st.sampled_from(STYLES))
    given: Any = draw(st.sampled_from([arguments, arguments, arguments, json.dumps(arguments, **style), None]))
    items = [("name", draw(st.sampled_from(sorted(KNOWN)))), ("arguments", given)]
    return dict(reversed(items) if draw(st.integers(0, 4)) == 0 else items)


Form = tuple[str, AIMessage]


@st.composite
def said(draw: st.DrawFn) -> Form:
    """A model's message with proxied calls and others, in one of the forms in which clients hold them."""
    form = draw(st.sampled_from(["chat", "raw", "anthropic", "anthropic streamed", "responses", "v1"]))
    style = draw(st.sampled_from(STYLES))
    calls: list[dict[str, Any]] = []
    for n in range(draw(st.integers(1, 3))):
        proxy = draw(st.booleans())
        name, args = ("call_tool", draw(call_args())) if proxy else ("bound", draw(ARGUMENTS))
        calls.append({"name": name, "args": args, "id": f"call_{n}", "type": "tool_call"})
    kwargs: dict[str, Any] = {"refusal": None}
    metadata: dict[str, Any] = {"model_provider": "anthropic" if form.startswith("anthropic") else "openai"}
    content: Any = draw(st.sampled_from(["", "I look."]))
    texts = {call["id"]: json.dumps(call["args"], **style) for call in calls}
    if form == "raw":
        kwargs["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": texts[call["id"]]}}
            for call in calls
        ]
    elif form.startswith("anthropic"):
        content = [{"type": "thinking", "thinking": "hm", "signature": "sig", "index": 0}]
        for n, call in enumerate(calls):
            block = {"type": "tool_use", "id": call["id"], "name": call["name"]}
            if form == "anthropic":
                content.append({**block, "input": call["args"]})
            else:
                content.append({**block, "input": {}, "partial_json": texts[call["id"]], "index": n + 1})
    elif form == "responses":
        content = [{"type": "reasoning", "id": "rs_1", "summary": []}, {"type": "text", "text": "so", "id": "msg_1"}]
        content += [
            {
                "type": "function_call",
                "name": call["name"],
                "arguments": texts[call["id"]],
                "call_id": call["id"],
                "id": "fc",
            }
            for call in calls
        ]
    elif form == "v1":
        metadata["output_version"] = "v1"
        content = [{"type": "text", "text": "so"}]
        content += [
            {**call, "extras": {"item_id": "fc", "arguments": texts[call["id"]]}} if draw(st.booleans()) else dict(call)
            for call in calls
        ]
    usage = {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}
    return form, AIMessage(
        content, tool_calls=calls, additional_kwargs=kwargs, response_metadata=metadata, usage_metadata=usage, id="m"
    )


def client_for(form: str) -> list[Any]:
    if form.startswith("anthropic"):
        return [ANTHROPIC]
    return {"chat": CLIENTS, "raw": [OPENAI], "responses": [RESPONSES], "v1": CLIENTS}[form]


@settings(deadline=None)
@given(said())
def test_the_way_back_gives_the_message_again(case: Form) -> None:
    form, message = case
    before = json.dumps(message.model_dump())
    (changed,), errors = unwrapped([message], "call_tool", KNOWN)
    assert isinstance(changed, AIMessage)
    assert errors == []
    assert json.dumps(message.model_dump()) == before
    assert "call_tool" not in [call["name"] for call in changed.tool_calls]
    if isinstance(changed.content, list):
        assert not [block for block in changed.content if block.get("name") == "call_tool"]  # type: ignore[union-attr]
    for field in ("id", "usage_metadata", "response_metadata"):
        assert getattr(changed, field) == getattr(message, field)
    (shown,) = proxied([changed], KNOWN, "call_tool")
    assert json.dumps(shown.model_dump()) == before
    thread = [HumanMessage("hi"), *(ToolMessage("ok", tool_call_id=call["id"]) for call in message.tool_calls)]
    for client in client_for(form):
        sent = wire(client, [thread[0], message, *thread[1:]])
        assert wire(client, proxied([thread[0], changed, *thread[1:]], KNOWN, "call_tool")) == sent
        assert wire(client, [thread[0], changed, *thread[1:]]).count("call_tool") == 0


@settings(deadline=None)
@given(message_lists(), st.sets(st.sampled_from(["read_file", "bash", "search", "get_user"])))
def test_any_thread_looks_the_same_however_long_it_becomes(messages: list[BaseMessage], hidden: set[str]) -> None:
    shown = proxied(messages, hidden, "call_tool")
    assert len(shown) == len(messages)
    for one, other in zip(shown, messages, strict=True):
        assert (type(one), one.id, one.content) == (type(other), other.id, other.content)
        if isinstance(one, AIMessage):
            assert not {call["name"] for call in one.tool_calls} & hidden
            assert [call["id"] for call in one.tool_calls] == [call["id"] for call in other.tool_calls]  # type: ignore[attr-defined]
    for end in range(len(messages)):
        assert proxied(messages[:end], hidden, "call_tool") == shown[:end]
