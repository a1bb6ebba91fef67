import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tokopt.estimate import estimate
from langchain_tokopt.tokens import PER_MESSAGE, PER_TOOL_CALL, PER_TOOL_RESULT, TokenCounter
from langchain_tokopt.wire import message_digest
from tests.fakes import ScriptedModel

CLAUDE = "claude-sonnet-4-5"


@pytest.fixture(autouse=True)
def no_tiktoken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.fixture
def counter() -> TokenCounter:
    return TokenCounter()


@pytest.fixture
def per_byte(monkeypatch: pytest.MonkeyPatch) -> TokenCounter:
    """A counter over a tiktoken encoding that makes every byte a token."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding(
        "bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 256}
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", encoding)
    return TokenCounter(download=True)


@tool
def look(at: int) -> str:
    """Look at it."""
    return str(at)


def request(**fields: Any) -> ModelRequest[Any]:
    defaults: dict[str, Any] = {"model": ScriptedModel(model_name="gpt-4o"), "messages": [HumanMessage("Hello there")]}
    return ModelRequest(**{**defaults, **fields})


# --- texts -----------------------------------------------------------------------------------------------------------


def test_without_tiktokens_file_texts_are_estimated(counter: TokenCounter) -> None:
    assert counter.source() == counter.source("gpt-4o") == "estimate"
    assert counter.text("Hello there, how are you?") == estimate("Hello there, how are you?")
    assert counter.text("Как дела?", "gpt-4o") == estimate("Как дела?", "o200k_base")
    assert counter.text("") == 0


def test_with_it_they_are_counted(per_byte: TokenCounter) -> None:
    assert per_byte.source("claude-opus-4-1") == "tiktoken"
    assert per_byte.text("Hello") == 5
    assert per_byte.text("é") == 2


@pytest.mark.parametrize(
    ("text", "tokens"), [("<|endoftext|>", 13), ("a" * 50_001, 50_001), ("a\x00b", 3), ("\ud800", 3)]
)
def test_odd_texts_are_counted_as_text(per_byte: TokenCounter, text: str, tokens: int) -> None:
    assert per_byte.text(text) == tokens


def test_tokenizer_that_fails_is_replaced_by_the_estimate(
    per_byte: TokenCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> list[int]:
        raise RuntimeError("no")

    monkeypatch.setattr(tiktoken.Encoding, "encode_ordinary", fail)
    assert per_byte.text("Hello there") == estimate("Hello there")


def test_text_is_counted_once(per_byte: TokenCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a" * 1000
    assert (per_byte.text("short"), per_byte.text(long)) == (5, 1000)
    monkeypatch.setattr(tiktoken.Encoding, "encode_ordinary", None)  # calling it now would fail
    assert (per_byte.text("short"), per_byte.text("".join(["a"] * 1000))) == (5, 1000)


@given(st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_be_counted_in_any_way(text: str) -> None:
    counter = TokenCounter()
    assert counter.message(HumanMessage(text)) == counter.text(text) + PER_MESSAGE
    assert counter.message(ToolMessage(text, tool_call_id="1")) == counter.text(text) + PER_MESSAGE + PER_TOOL_RESULT
    assert counter.message(HumanMessage([{"type": "text", "text": text}])) == counter.text(text) + PER_MESSAGE


# --- messages --------------------------------------------------------------------------------------------------------


def test_name_counts(per_byte: TokenCounter) -> None:
    assert per_byte.message(HumanMessage("abc", name="anna")) == 3 + PER_MESSAGE + 5


def test_tool_calls_count_their_name_and_arguments(per_byte: TokenCounter) -> None:
    call = {"type": "tool_call", "name": "look", "args": {"at": 1}, "id": "a very long id that is not shown"}
    expected = PER_MESSAGE + PER_TOOL_CALL + len("look") + len('{"at":1}')
    assert per_byte.message(AIMessage("", tool_calls=[call])) == expected
    assert per_byte.message(AIMessage("ok", tool_calls=[call, call])) == 2 * expected - PER_MESSAGE + 2


def test_tool_calls_that_the_content_repeats_count_once(counter: TokenCounter) -> None:
    call = {"type": "tool_call", "name": "look", "args": {"at": 1}, "id": "1"}
    block = {"type": "tool_use", "name": "look", "input": {"at": 1}, "id": "1"}
    plain = AIMessage("On it.", tool_calls=[call])
    anthropic = AIMessage([{"type": "text", "text": "On it."}, block], tool_calls=[call])
    assert counter.message(anthropic) == counter.message(plain)
    assert counter.message(HumanMessage([block])) == counter.message(AIMessage("", tool_calls=[call]))


def test_broken_tool_calls_count(per_byte: TokenCounter) -> None:
    broken = {"type": "invalid_tool_call", "name": "look", "args": '{"at', "id": "1", "error": "cut off"}
    assert per_byte.message(AIMessage("", invalid_tool_calls=[broken])) == PER_MESSAGE + PER_TOOL_CALL + 4 + 4


def test_thinking_counts_without_its_signature(per_byte: TokenCounter) -> None:
    block = {"type": "thinking", "thinking": "Let me see.", "signature": "x" * 2000}
    assert per_byte.message(AIMessage([block])) == len("Let me see.") + PER_MESSAGE


PDF = base64.b64encode(bytes(300_000)).decode()


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        ({"type": "file", "base64": PDF, "mime_type": "application/pdf"}, 12_000),
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PDF}"}}, 765),
        ({"type": "acme_scan", "payload": {"raw": PDF}}, 75_000 + len('{"type":"acme_scan","payload":{"raw":""}}')),
        ({"type": "acme_scan", "pages": [b"123456"]}, 1 + len('{"type":"acme_scan","pages":[""]}')),
        ({"type": "document", "source": {"type": "text", "data": "Hello"}}, 5),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Hello"}]}}, 5),
        ({"type": "document", "source": {"type": "content", "content": "Hello"}}, 5),
        ({"type": "search_result", "title": "T"}, len('{"type":"search_result","title":"T"}')),
        ({"cachePoint": {"type": "default"}}, 0),
    ],
)
def test_blocks_of_any_kind(per_byte: TokenCounter, block: dict[str, Any], tokens: int) -> None:
    assert per_byte.message(HumanMessage([block])) == tokens + PER_MESSAGE
    assert per_byte.message(HumanMessage(["abc", block])) == tokens + 3 + PER_MESSAGE


@given(
    st.lists(
        st.text()
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "image_url", "data", "input", "name", "content", "thinking"]),
            st.none()
            | st.text()
            | st.integers()
            | st.binary()
            | st.lists(st.text())
            | st.dictionaries(st.text(), st.text()),
        )
        | st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    [
                        *("image", "image_url", "document", "file", "audio", "video", "tool_use", "media"),
                        *("tool_addition", "additional_tools", "non_standard"),
                    ]
                )
            },
            optional={
                "image_url": st.none() | st.text() | st.dictionaries(st.text(), st.text()),
                "source": st.text(),
                "tool": st.text() | st.dictionaries(st.just("definition"), st.text() | st.just({}), max_size=1),
                "tools": st.text() | st.lists(st.text() | st.dictionaries(st.text(), st.text())),
                "value": st.text() | st.just({"type": "additional_tools", "tools": [{"name": 1}]}),
            },
        )
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_can_be_counted(content: list[Any]) -> None:
    counter = TokenCounter()
    count = counter.message(HumanMessage(content))
    assert count >= PER_MESSAGE
    assert counter.message(HumanMessage(content)) == count


def test_message_without_content_is_counted(counter: TokenCounter) -> None:
    assert counter.message(AIMessage("")) == counter.message(HumanMessage([])) == PER_MESSAGE
    assert counter.message(AIMessage.model_construct(content=None, tool_calls=[], invalid_tool_calls=[])) == PER_MESSAGE
    assert counter.text(cast("str", None)) == 0


def test_messages_are_the_sum_of_each(counter: TokenCounter) -> None:
    history: list[BaseMessage] = [SystemMessage("Be kind."), HumanMessage("Hi"), AIMessage("Hello!")]
    assert counter.messages(history) == sum(counter.message(message) for message in history)
    assert counter.messages([]) == 0


def test_message_that_was_changed_in_place_is_counted_anew(per_byte: TokenCounter) -> None:
    message = AIMessage([{"type": "text", "text": "abc"}])
    before = per_byte.message(message)
    message.content[0]["text"] = "abcdef"  # type: ignore[index]
    assert per_byte.message(message) == before + 3


# --- tools -----------------------------------------------------------------------------------------------------------


SCHEMA: dict[str, Any] = {"properties": {"at": {"type": "integer"}}, "required": ["at"], "type": "object"}
INLINE = {"name": "look", "description": "Look at it.", "input_schema": SCHEMA}
ITEM = {"type": "function", "name": "look", "description": "Look at it.", "parameters": SCHEMA}


@pytest.mark.parametrize(
    ("block", "model", "tools"),
    [
        ({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": INLINE}}, CLAUDE, 1),
        ({"type": "additional_tools", "role": "developer", "tools": [ITEM]}, "gpt-5", 1),
        ({"type": "additional_tools", "role": "developer", "tools": [ITEM, {**ITEM, "name": "seek"}]}, "gpt-5", 2),
    ],
)
def test_tools_added_in_a_message_count_as_the_schemas_that_they_are(
    counter: TokenCounter, block: dict[str, Any], model: str, tools: int
) -> None:
    text = counter.message(SystemMessage(["Be kind."]), model)
    size = tools * counter.tool(look, model)
    assert counter.message(SystemMessage([block]), model) == size + PER_MESSAGE
    assert counter.message(SystemMessage(["Be kind.", block]), model) == size + text
    assert counter.message(SystemMessage([{"type": "non_standard", "value": block}]), model) == size + PER_MESSAGE
    marked = {**block, "cache_control": {"type": "ephemeral"}}
    assert counter.message(SystemMessage([marked]), model) == size + PER_MESSAGE


def test_tool_that_is_added_by_name_counts_as_what_is_sent(per_byte: TokenCounter) -> None:
    named = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}}
    sent = '{"type":"tool_addition","tool":{"type":"tool_reference","name":"look"}}'
    assert per_byte.message(SystemMessage([named]), CLAUDE) == len(sent) + PER_MESSAGE


def test_no_tools_cost_nothing(counter: TokenCounter) -> None:
    assert counter.tools([]) == counter.tools([], "gpt-4o") == counter.tools([], CLAUDE) == 0


def test_each_provider_renders_tools_in_its_way(per_byte: TokenCounter) -> None:
    typescript = "// Look at it.\ntype look = (_: {\nat: number,\n}) => any;\n\n"
    parameters = '{"properties":{"at":{"type":"integer"}},"required":["at"],"type":"object"}'
    json = f'{{"name":"look","description":"Look at it.","parameters":{parameters}}}'
    assert per_byte.tool(look, "gpt-4") == len(typescript)
    assert per_byte.tool(look, CLAUDE) == per_byte.tool(look) == len(json)


@pytest.mark.parametrize(
    ("model", "tool_choice", "added"),
    [
        (CLAUDE, None, 346),
        (CLAUDE, "auto", 346),
        (CLAUDE, {"type": "auto"}, 346),
        (CLAUDE, "any", 313),
        (CLAUDE, {"type": "tool", "name": "look"}, 313),
        ("claude-3-opus-20240229", None, 530),
        ("anthropic.claude-3-haiku-20240307-v1:0", None, 264),
        ("claude-3-5-haiku-latest", "any", 340),
        ("mistral-large", None, 0),
        (None, None, 0),
    ],
)
def test_hidden_tool_prompt_is_added_once(
    counter: TokenCounter, model: str | None, tool_choice: Any, added: int
) -> None:
    two: list[Any] = [look, {"name": "see", "description": "See it.", "input_schema": {"type": "object"}}]
    alone = sum(counter.tool(one, model) for one in two)
    assert counter.tools(two, model, tool_choice=tool_choice) == alone + added


def test_counts_are_near_to_those_that_anthropic_documents(counter: TokenCounter) -> None:
    weather = {
        "name": "get_weather",
        "description": "Get the current weather in a given location",
        "input_schema": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            },
            "required": ["location"],
        },
    }
    question = HumanMessage("What's the weather like in San Francisco?")
    assert counter.tools([weather], CLAUDE) + counter.message(question, CLAUDE) == pytest.approx(403, rel=0.05)
    hello = [SystemMessage("You are a scientist"), HumanMessage("Hello, Claude")]
    assert counter.messages(hello, CLAUDE) == pytest.approx(14, abs=2)


def test_tools_of_anthropics_own_have_their_documented_size(counter: TokenCounter) -> None:
    assert counter.tool({"type": "bash_20250124", "name": "bash"}, CLAUDE) == 245
    assert counter.tool({"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}, CLAUDE) == 700


# --- requests --------------------------------------------------------------------------------------------------------


def test_request_is_counted_by_part(counter: TokenCounter) -> None:
    messages = [HumanMessage("Hello there"), AIMessage("Hi!")]
    counted = counter.request(request(messages=messages, system_prompt="Be kind.", tools=[look]))
    assert counted.system == counter.message(SystemMessage("Be kind."), "gpt-4o")
    assert counted.tools == counter.tools([look], "gpt-4o")
    assert counted.messages == tuple(counter.message(message, "gpt-4o") for message in messages)
    assert counted.total == counted.system + counted.tools + sum(counted.messages) + 3


def test_request_without_anything_but_a_message(counter: TokenCounter) -> None:
    counted = counter.request(request())
    assert (counted.system, counted.tools) == (0, 0)


def test_model_in_the_settings_decides_how_tools_are_counted(counter: TokenCounter) -> None:
    counted = counter.request(request(tools=[look], model_settings={"model": CLAUDE}))
    assert counted.tools == counter.tools([look], CLAUDE)


def test_forced_tool_choice_is_seen(counter: TokenCounter) -> None:
    model = ScriptedModel(model_name=CLAUDE)
    free, forced = (counter.request(request(model=model, tools=[look], tool_choice=c)).tools for c in (None, "any"))
    assert free - forced == 346 - 313


class Answer(BaseModel):
    """The answer."""

    text: str


@pytest.mark.parametrize("wanted", [Answer, ToolStrategy(Answer), ProviderStrategy(Answer)])
def test_response_format_counts_like_a_tool(counter: TokenCounter, wanted: Any) -> None:
    counted = counter.request(request(tools=[look], response_format=wanted))
    assert counted.tools == counter.tools([look, Answer], "gpt-4o")


# --- corrections -----------------------------------------------------------------------------------------------------


def test_corrections_are_used_only_where_they_are_asked_for(counter: TokenCounter) -> None:
    plain = counter.request(request(tools=[look], system_prompt="Be kind."))
    for _ in range(60):
        counter.observe("gpt-4o", 1000, 1500)
    assert counter.correction("gpt-4o") == pytest.approx(1.5, abs=0.001)
    assert counter.request(request(tools=[look], system_prompt="Be kind.")) == plain
    corrected = counter.request(request(tools=[look], system_prompt="Be kind."), corrected=True)
    assert corrected.messages[0] == pytest.approx(1.5 * plain.messages[0], abs=1)
    assert corrected.total == pytest.approx(1.5 * plain.total, abs=4)
    hello = [HumanMessage("Hello there")]
    assert counter.messages(hello, "gpt-4o", corrected=True) > counter.messages(hello, "gpt-4o")
    assert counter.tools([look], "gpt-4o", corrected=True) > counter.tools([look], "gpt-4o")


def test_correction_belongs_to_its_model(counter: TokenCounter) -> None:
    counter.observe("gpt-4o", 1000, 1500)
    assert counter.correction("gpt-4.1") == counter.correction() == 1.0
    assert counter.correction(CLAUDE) == 1.2  # documented, before anything is reported


# --- threads ---------------------------------------------------------------------------------------------------------


def test_threads_agree(counter: TokenCounter) -> None:
    history = [HumanMessage(f"Question number {n}") for n in range(50)]
    alone = [TokenCounter().request(request(messages=history[:n], tools=[look])) for n in range(1, 50)]

    def count(n: int) -> Any:
        return counter.request(request(messages=history[:n], tools=[look]))

    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            assert list(pool.map(count, range(1, 50))) == alone


def test_tool_made_anew_for_each_call_counts_the_same(counter: TokenCounter) -> None:
    copies: list[Any] = [look.model_copy() for _ in range(5)]
    shapes: list[Any] = [{"name": "a", "input_schema": {"type": "object"}} for _ in range(5)]
    assert len({counter.tool(copy, CLAUDE) for copy in copies}) == 1
    assert len({counter.tool(shape, CLAUDE) for shape in shapes}) == 1


def test_what_is_remembered_with_a_message_is_forgotten_when_the_message_changes() -> None:
    counter = TokenCounter()
    message = ToolMessage("one", tool_call_id="a", name="n")
    first = counter.weighed(message)
    assert counter.weighed(message) == first == counter.weighed(message.model_copy())
    for name, value in (("content", "one two three"), ("name", "m"), ("tool_call_id", "b"), ("status", "error")):
        before = counter.weighed(message)
        setattr(message, name, value)
        after = counter.weighed(message)
        assert after[0] != before[0], name
        assert after == (message_digest(message), counter.message(message))


def test_a_message_with_tool_calls_is_weighed_anew_each_time() -> None:
    counter = TokenCounter()
    message = AIMessage("", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c"}])
    before = counter.weighed(message)
    message.tool_calls[0]["args"]["x"] = "something much longer"
    after = counter.weighed(message)
    assert after[0] != before[0]
    assert after[1] > before[1]
