"""Tools that a model is told of among the messages: which models can be, what they are told, and where it stands."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import Tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.tokens import PER_MESSAGE, TokenCounter
from langchain_tokopt.tools.additions import Form, carried_form, definition, form_of, with_additions
from langchain_tokopt.wire import message_digest
from tests.fakes import ScriptedModel
from tests.tools.toolbox import anthropic_dict, openai_dict, tool, toolbox

KEY = SecretStr("test")
forms = pytest.mark.parametrize("form", ["anthropic", "openai"])


def claude(name: str = "claude-opus-5-5", kind: type[ChatAnthropic] = ChatAnthropic, **more: Any) -> ChatAnthropic:
    return kind(model_name=name, api_key=KEY, **more)


def gpt(name: str = "gpt-5.5", kind: type[ChatOpenAI] = ChatOpenAI, **more: Any) -> ChatOpenAI:
    return kind(model=name, api_key=KEY, **more)


class ClaudeElsewhere(ChatAnthropic):
    """The client of another service, as the one for Bedrock."""

    @property
    def _llm_type(self) -> str:
        return "anthropic-elsewhere-chat"


class HouseClaude(ChatAnthropic):
    """A subclass with additions of a user's own."""


class HouseGPT(ChatOpenAI):
    """A subclass with additions of a user's own."""


def azure(**more: Any) -> AzureChatOpenAI:
    return AzureChatOpenAI(
        azure_endpoint="https://x.openai.azure.com",
        api_version="2026-01-01",
        azure_deployment="gpt-5.5",
        api_key=KEY,
        **more,
    )


def wrapped(model: Any) -> OptimizedChatModel:
    return OptimizedChatModel.around(model, lambda request: iter(()))  # type: ignore[arg-type, return-value]


# --- which models can be told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "form", "carried"),
    [
        (claude(), "anthropic", "anthropic"),
        (claude(kind=HouseClaude), "anthropic", "anthropic"),
        (wrapped(claude()), "anthropic", "anthropic"),
        (wrapped(wrapped(claude())), "anthropic", "anthropic"),
        (claude("claude-sonnet-4-5"), None, None),
        (claude("claude-new-9"), None, None),
        (claude("claude-new-9", profile={"mid_conversation_system_messages": True}), None, "anthropic"),
        (claude("claude-new-9", profile={"mid_conversation_tools": True}), None, None),
        (
            claude(profile={"mid_conversation_system_messages": True, "mid_conversation_tools": False}),
            None,
            "anthropic",
        ),
        (claude(base_url="https://gateway.example.com/anthropic"), None, "anthropic"),
        (claude(kind=ClaudeElsewhere), None, None),
        (gpt(use_responses_api=True), "openai", "openai"),
        (gpt(kind=HouseGPT, use_responses_api=True), "openai", "openai"),
        (wrapped(gpt(use_responses_api=True)), "openai", "openai"),
        (gpt(reasoning={"effort": "low"}), "openai", "openai"),
        (gpt(), None, None),
        (gpt(use_responses_api=False), None, None),
        (gpt("gpt-6-sol"), "openai", "openai"),  # Responses where there are tools
        (gpt("gpt-6-sol", use_responses_api=False), None, None),
        (gpt("gpt-6-sol", profile={"mid_conversation_tools": False, "tool_calling": True}), None, "openai"),
        (gpt("gpt-4o", use_responses_api=True), None, "openai"),
        (gpt("gpt-new-9", use_responses_api=True), None, "openai"),
        (gpt("gpt-new-9", use_responses_api=True, profile={"mid_conversation_tools": True}), "openai", "openai"),
        (gpt(use_responses_api=True, use_previous_response_id=True), None, None),
        (gpt(use_responses_api=True, model_kwargs={"conversation": "conv_1"}), None, None),
        (gpt(use_responses_api=True, base_url="https://eu.api.openai.com/v1"), "openai", "openai"),
        (gpt(use_responses_api=True, base_url="https://gateway.example.com/v1"), None, "openai"),
        (gpt(use_responses_api=True, base_url="https://api.openai.com.example.com/v1"), None, "openai"),
        (azure(use_responses_api=True), None, None),
        (ScriptedModel(profile={"mid_conversation_tools": True}), None, None),
        (None, None, None),
    ],
)
def test_form_is_known_by_client_profile_and_address(model: Any, form: Form | None, carried: Form | None) -> None:
    assert (form_of(model), carried_form(model)) == (form, carried)


@pytest.mark.parametrize(
    ("model", "sent", "form"),
    [
        (gpt(), {"reasoning": {"effort": "low"}}, "openai"),
        (gpt(use_responses_api=True), {"temperature": 0}, "openai"),
        (gpt(use_responses_api=True), {"model": "gpt-5.5"}, "openai"),
        (gpt(use_responses_api=True), {"model": "gpt-4o"}, None),
        (gpt(use_responses_api=True), {"previous_response_id": "resp_1"}, None),
        (gpt(use_responses_api=True), {"conversation": "conv_1"}, None),
        (claude(), {"cache_control": {"type": "ephemeral"}}, "anthropic"),
        (claude(), {"model": "claude-sonnet-4-5"}, None),
    ],
)
def test_settings_of_the_request_count(model: Any, sent: dict[str, Any], form: Form | None) -> None:
    assert form_of(model, sent) == form


# --- what a model is told --------------------------------------------------------------------------------------------


def bound_by(form: Form, one: Any, **options: Any) -> dict[str, Any]:
    """What the provider's own client sends of a tool that it binds."""
    model: Any = claude() if form == "anthropic" else gpt(use_responses_api=True)
    binding: Any = model.bind_tools([one], **options)
    return model._get_request_payload([HumanMessage("Hi")], **binding.kwargs)["tools"][0]


class House(Tool):
    """A tool of a class of its own."""


WITH_EXTRAS = tool("look").model_copy(
    update={"extras": {"allowed_callers": ["direct"], "input_examples": [{"item": "x"}], "async": True, "other": 1}}
)
RESPONSES = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}


@forms
@pytest.mark.parametrize(
    "one",
    [tool("look"), tool("look", ""), WITH_EXTRAS, House("look", print, "Looks."), openai_dict("look")],
    ids=["tool", "without a description", "extras", "one text", "dict"],
)
@pytest.mark.parametrize("strict", [None, True, False])
def test_definition_is_what_the_client_would_bind(form: Form, one: Any, strict: bool | None) -> None:
    made = definition(one, form, strict=strict)
    assert made == bound_by(form, one, **({} if strict is None else {"strict": strict}))
    assert definition(made, form) == made


@forms
def test_dict_of_anthropics_form_is_understood(form: Form) -> None:
    assert definition(anthropic_dict("look", "Looks."), form) == bound_by(form, anthropic_dict("look", "Looks."))


def test_dict_of_the_responses_form_is_taken_as_it_is() -> None:
    assert definition(RESPONSES, "openai") == bound_by("openai", RESPONSES) == RESPONSES


@forms
def test_breakpoints_and_deferral_are_left_out(form: Form) -> None:
    extras = {"cache_control": {"type": "ephemeral"}, "defer_loading": True}
    plain = tool("look")
    assert definition(plain.model_copy(update={"extras": extras}), form) == definition(plain, form)
    assert definition({**anthropic_dict("look"), **extras}, "anthropic") == anthropic_dict("look")
    assert plain.extras is None


ONE_OF = {"name": "look", "description": "", "input_schema": {"type": "object", "oneOf": [{"required": ["a"]}]}}


@pytest.mark.parametrize(
    ("one", "form"),
    [
        ({"type": "web_search"}, "openai"),
        ({"type": "web_search_20250305", "name": "web_search"}, "anthropic"),
        ({"type": "mcp", "server_label": "x"}, "openai"),
        (tool("look").model_copy(update={"extras": {"provider_tool_definition": {"type": "bash_2"}}}), "anthropic"),
        (ONE_OF, "anthropic"),
        (House("look", print, "Looks.", metadata={"type": "custom_tool"}), "openai"),
        ("look", "openai"),
        (RESPONSES, "anthropic"),  # its client cannot bind it either
    ],
)
def test_tools_that_have_to_be_bound_have_no_definition(one: Any, form: Form) -> None:
    assert definition(one, form) is None
    assert with_additions([HumanMessage("Hi")], [(0, [one])], form) == [HumanMessage("Hi")]


# --- where it stands -------------------------------------------------------------------------------------------------

A, B, C = tool("a"), tool("b"), tool("c")
CALLS = [{"name": "a", "args": {}, "id": "1"}, {"name": "a", "args": {}, "id": "2"}]
THOUGHT = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}]


def told(message: BaseMessage) -> list[str]:
    """Names of the tools that a message tells of."""
    if not isinstance(message, SystemMessage) or isinstance(message.content, str):
        return []
    blocks: list[Any] = message.content
    names = [block["tool"]["definition"]["name"] for block in blocks if block["type"] == "tool_addition"]
    return names + [one["name"] for block in blocks if block["type"] == "additional_tools" for one in block["tools"]]


def shape(messages: Sequence[BaseMessage]) -> list[str]:
    """Each message as its text, or as `+` and the tools that it tells of."""
    return [f"+{','.join(names)}" if (names := told(message)) else str(message.text) for message in messages]


H1, H2, H3 = HumanMessage("h1"), HumanMessage("h2"), HumanMessage("h3")
A1, A2, EMPTY = AIMessage("a1"), AIMessage("a2"), AIMessage("")
CALL = AIMessage("call", tool_calls=CALLS)
R1, R2 = ToolMessage("r1", tool_call_id="1"), ToolMessage("r2", tool_call_id="2")
S = SystemMessage("s")


@forms
@pytest.mark.parametrize(
    ("messages", "additions", "expected"),
    [
        ([H1], [(0, [A, B])], "h1 +a,b"),
        ([H1, A1, H2], [(0, [A]), (2, [B])], "h1 +a a1 h2 +b"),
        ([H1, H2, A1], [(0, [A]), (1, [B])], "h1 h2 +a,b a1"),
        ([H1, CALL, R1, R2, A2], [(2, [A]), (3, [B])], "h1 call r1 r2 +a,b a2"),
        ([H1, CALL, R1, R2, H2], [(0, [A]), (2, [B]), (4, [C])], "h1 +a call r1 r2 h2 +b,c"),
        ([H1, A1, H2], [(0, [A, B]), (2, [A, C])], "h1 +a,b a1 h2 +c"),
        ([H1, A1, H2, A2], [(1, [A]), (3, [B])], "h1 a1 h2 +a,b a2"),
        ([H1], [(-1, [A]), (7, [B])], "h1 +a,b"),
        ([H1, S, A1], [(0, [A]), (1, [B])], "h1 +a,b s a1"),
        ([S, H1, A1, S, H2], [(0, [A]), (3, [B])], "s h1 +a a1 s h2 +b"),
        ([H1, S, H2], [(0, [A])], "h1 s h2 +a"),
        ([A1, H1], [(0, [A])], "a1 h1 +a"),
        ([H1, A1, A2, H2], [(2, [A])], "h1 a1 a2 h2 +a"),
        ([S, A1], [(0, [A])], "s a1"),
        ([], [(0, [A])], ""),
        ([H1, A1], [(0, [])], "h1 a1"),
    ],
)
def test_additions_stand_at_the_end_of_the_users_turn(
    form: Form, messages: list[Any], additions: list[Any], expected: str
) -> None:
    assert " ".join(shape(with_additions(messages, additions, form))) == expected


@pytest.mark.parametrize(
    "unsent",
    [
        EMPTY,
        AIMessage([]),
        AIMessage([{"type": "text", "text": " "}]),
        AIMessage([{"type": "reasoning", "summary": []}], response_metadata={"model_provider": "openai"}),
        AIMessage(
            "", invalid_tool_calls=[{"name": "a", "args": "{", "id": None, "error": "", "type": "invalid_tool_call"}]
        ),
    ],
)
def test_answer_that_anthropics_client_leaves_out_ends_no_turn(unsent: AIMessage) -> None:
    messages = [H1, unsent, H2, A2]
    found = with_additions(messages, [(0, [A])], "anthropic")
    assert [bool(told(message)) for message in found] == [False, False, False, True, False]
    assert shape(with_additions([H1, unsent], [(0, [A])], "anthropic"))[1] == "+a"
    assert [m["role"] for m in claude()._get_request_payload(found)["messages"]] == [
        "user",
        "user",
        "system",
        "assistant",
    ]
    assert shape(with_additions([H1, EMPTY, H2], [(0, [A])], "openai"))[1] == "+a"


@pytest.mark.parametrize(
    "sent",
    [
        AIMessage(["a"]),
        AIMessage(THOUGHT),
        AIMessage("", tool_calls=CALLS),
        AIMessage(
            "", invalid_tool_calls=[{"name": "a", "args": "{", "id": "1", "error": "", "type": "invalid_tool_call"}]
        ),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}], response_metadata={"model_provider": "anthropic"}),
    ],
)
def test_answer_of_anything_else_ends_the_turn(sent: AIMessage) -> None:
    found = with_additions([H1, sent, H2], [(0, [A])], "anthropic")
    assert [bool(told(message)) for message in found] == [False, True, False, False]


PIECES: dict[str, list[Any]] = {
    "question": [H1],
    "blocks": [HumanMessage([{"type": "text", "text": "h"}])],
    "answer": [A1],
    "calls": [CALL, R1, R2],
    "thought": [AIMessage(THOUGHT, tool_calls=CALLS[:1]), R1],
    "empty": [EMPTY],
    "system": [S],
}
ANSWERS = [PIECES[kind][0] for kind in ("answer", "calls", "thought")]
DEFINITIONS: dict[str, dict[str, Any]] = {
    "anthropic": {name: anthropic_dict(name) for name in "abcdefgh"},
    "openai": {name: openai_dict(name) for name in "abcdefgh"},
}
CLAUDE = claude()
plans = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=4), max_size=12)


def threads(*, leaving_out: str = "") -> st.SearchStrategy[list[Any]]:
    kinds = st.sampled_from([kind for kind in PIECES if kind != leaving_out])
    return st.lists(kinds, max_size=12).map(lambda found: [message for kind in found for message in PIECES[kind]])


def plan(messages: Sequence[BaseMessage], wanted: list[list[str]], form: str) -> list[tuple[int, list[Any]]]:
    """What each message of the user's or of a tool makes known."""
    turns = [at for at, message in enumerate(messages) if isinstance(message, (HumanMessage, ToolMessage))]
    return [(at, [DEFINITIONS[form][name] for name in names]) for at, names in zip(turns, wanted, strict=False)]


@forms
@settings(deadline=None)
@given(messages=threads(), wanted=plans)
def test_what_stands_before_an_answer_stays_whatever_is_appended(
    form: Form, messages: list[Any], wanted: list[list[str]]
) -> None:
    whole = with_additions(messages, plan(messages, wanted, form), form)
    for at in [at for at, message in enumerate(messages) if message in ANSWERS]:
        before = with_additions(messages[:at], plan(messages[:at], wanted, form), form)
        assert before == whole[: len(before)]
        assert [message_digest(m) for m in before] == [message_digest(m) for m in whole[: len(before)]]


@forms
@settings(deadline=None)
@given(messages=threads(), wanted=plans)
def test_every_tool_is_told_of_once_and_nothing_else_changes(
    form: Form, messages: list[Any], wanted: list[list[str]]
) -> None:
    kept = copy.deepcopy(messages)
    additions = plan(messages, wanted, form)
    found = with_additions(messages, additions, form)
    assert messages == kept
    others = [message for message in found if not told(message)]
    assert all(one is given for one, given in zip(others, messages, strict=True))
    names = [name for message in found for name in told(message)]
    assert sorted(names) == sorted({name for per_turn in wanted[: len(additions)] for name in per_turn})
    assert [message.id for message in found if told(message)] == [None] * (len(found) - len(messages))


@settings(deadline=None)
@given(messages=threads(leaving_out="system"), wanted=plans)
def test_anthropics_client_sends_every_addition_where_it_stands(messages: list[Any], wanted: list[list[str]]) -> None:
    found = with_additions(messages, plan(messages, wanted, "anthropic"), "anthropic")
    sent = CLAUDE._get_request_payload(found)["messages"]
    roles = [message["role"] for message in sent]
    assert [message["content"] for message in sent if message["role"] == "system"] == [
        message.content for message in found if told(message)
    ]
    assert all(roles[at - 1] == "user" for at, role in enumerate(roles) if role == "system")
    assert all(roles[at + 1 : at + 2] in ([], ["assistant"]) for at, role in enumerate(roles) if role == "system")


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "model"), [("anthropic", "claude-opus-5-5"), ("openai", "gpt-5.5")])
def test_addition_counts_as_its_tools_would_when_bound(form: Form, model: str) -> None:
    counter = TokenCounter()
    _, message = with_additions([H1], [(0, toolbox()[:5])], form)
    size = sum(counter.tool(one, model) for one in toolbox()[:5])
    assert counter.message(message, model) == size + PER_MESSAGE


@forms
def test_digest_is_that_of_the_definitions(form: Form) -> None:
    def digest(*tools: Any) -> bytes:
        return message_digest(with_additions([H1], [(0, tools)], form)[1])

    made: Callable[..., Any] = tool
    assert (
        digest(made("a"), made("b")) == digest(made("a"), made("b")) == digest(definition(made("a"), form), made("b"))
    )
    assert digest(made("a")) != digest(made("a", "Another description"))
