"""The benchmark of what is reserved, at a small size, and how it counts for the providers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from benchmarks import budget_counts, budget_reserved
from benchmarks.agent_runs import SAMPLE, Run, read_runs
from benchmarks.budget_counts import claude_family, provider_count
from benchmarks.budget_reserved import MODELS, main
from benchmarks.budget_runs import Player, Script, read_tools
from tests.providers.replies import Asked, Provider, Reply, ToolCall

TOOL = {
    "name": "look",
    "description": "Look at a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string", "enum": ["here", "there"]}}},
}


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizers that count words."""
    monkeypatch.setattr(budget_counts, "openai_tokens", lambda encoding: words)
    monkeypatch.setattr(budget_counts, "claude_tokens", lambda family: words)


@pytest.mark.usefixtures("by_words")
@pytest.mark.parametrize("client", MODELS)
def test_the_sample_is_played_reserved_and_billed(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(budget_reserved, "_count", lambda clients: provider_count)
    out = tmp_path / "out.json"
    assert main(["--only", client, "--counters", "estimate", "--tools", "3", "--json", str(out)]) == 0
    rows: dict[str, dict[str, float]] = {}
    for row in json.loads(out.read_text())["rows"]:
        rows.setdefault(row["at"], {})[row["metric"]] = row["value"]
    assert list(rows) == ["estimate/invoke", "estimate/stream"]
    for found in rows.values():
        # A word has more than one token, so that an estimate of tokens covers words.
        assert (found["calls"], found["misbooked"]) == (3, 0)
        assert (found["covered_tokens"], found["covered_usd"], found["covered_input"]) == (1, 1, 1)
        assert 1 < found["input_ratio_p01"] <= found["input_ratio"]
    assert rows["estimate/invoke"] == rows["estimate/stream"]


def test_without_tokenizers_the_server_goes_by_its_own_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    budget_counts.openai_tokens.cache_clear()
    budget_counts.claude_tokens.cache_clear()
    assert budget_reserved._count(["openai"]) is None
    assert "the server takes 4 characters for a token" in capsys.readouterr().err


# --- runs ------------------------------------------------------------------------------------------------------------


def run_of(*messages: Any) -> Run:
    return Run("r", None, list(messages), [], {})


def test_a_script_gives_each_result_to_its_call() -> None:
    call: Any = {"name": "look", "args": {"place": "here"}, "id": "same", "type": "tool_call"}
    script = Script.of(
        run_of(
            HumanMessage("Look."),
            AIMessage("", tool_calls=[call]),
            ToolMessage("first", tool_call_id="same"),
            AIMessage("Again.", tool_calls=[call]),
            ToolMessage("second", tool_call_id="same"),
            AIMessage(""),
            HumanMessage("Thanks."),
        )
    )
    assert [ask.text for ask in script.asks] == ["Look.", "Thanks."]
    assert script.results == {"call_0": "first", "call_1": "second"}
    assert script.answers == [
        Reply(tool_calls=(ToolCall(name="look", args={"place": "here"}, id="call_0"),)),
        Reply(text="Again.", tool_calls=(ToolCall(name="look", args={"place": "here"}, id="call_1"),)),
        Reply(text="Yes."),
    ]
    play = Player(script)
    asked = Asked("openai", {})
    assert [play(asked) for _ in range(4)] == [*script.answers, Reply(text="That is all.")]


def test_the_sample_has_a_script() -> None:
    script = Script.of(read_runs(SAMPLE)[0])
    assert (len(script.asks), len(script.answers), len(script.results)) == (1, 3, 2)
    assert all(script.results.values())


def test_tools_of_a_registry_can_be_bound() -> None:
    tools = read_tools(budget_reserved.REGISTRY, 2)
    assert [tool.name for tool in tools] == ["get_weather", "get_air_quality"]


# --- counting --------------------------------------------------------------------------------------------------------


def counted(provider: Provider, **body: Any) -> int:
    return provider_count(Asked(provider, {"model": "claude-opus-4-8" if provider == "anthropic" else "gpt-5", **body}))


@pytest.mark.usefixtures("by_words")
def test_all_that_openai_is_sent_is_counted() -> None:
    user = {"role": "user", "content": "one two three"}
    bare = counted("openai", messages=[user])
    assert bare == (1 + 2) + (3 + 1 + 3)
    parts = {"role": "user", "content": [{"type": "text", "text": "one two three"}]}
    assert counted("openai", messages=[parts]) == bare
    assert counted("openai", messages=[{**user, "name": "ann"}]) == bare + 2
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": '{"a": 1}'}}]}
    assert counted("openai", messages=[user, call]) == bare + 4 + 2 + 2 + 2
    result = {"role": "tool", "content": "four five"}
    assert counted("openai", messages=[user, call, result]) == bare + 10 + 4 + 2 + 1 + 2
    tools = [{"type": "function", "function": TOOL}]
    assert counted("openai", messages=[user], tools=tools) == bare + 12 + 7 + 4 + 3 + 3 + 1 + 2 * 4


@pytest.mark.usefixtures("by_words")
def test_both_apis_of_openai_count_alike() -> None:
    call = {"name": "look", "arguments": '{"a": 1}'}
    chat = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one two three"},
        {"role": "assistant", "tool_calls": [{"function": call}]},
        {"role": "tool", "content": "four five"},
    ]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "one two three"}]},
        {"type": "function_call", **call},
        {"type": "function_call_output", "output": "four five"},
    ]
    by_chat = counted("openai", messages=chat, tools=[{"type": "function", "function": TOOL}])
    by_items = counted("responses", input=items, instructions="be brief", tools=[{"type": "function", **TOOL}])
    assert by_chat == by_items


@pytest.mark.usefixtures("by_words")
def test_all_that_anthropic_is_sent_is_counted() -> None:
    user = {"role": "user", "content": "one two three"}
    bare = counted("anthropic", messages=[user])
    assert bare == 8 + 4 + 3
    assert counted("anthropic", messages=[user], system=[{"type": "text", "text": "be brief"}]) == bare + 2
    calling = [{"type": "text", "text": "so"}, {"type": "tool_use", "name": "look", "input": {"place": "over there"}}]
    call = {"role": "assistant", "content": calling}
    # <function_calls> <invoke name="look"> <parameter name="place">over there</parameter> </invoke> </function_calls>
    assert counted("anthropic", messages=[user, call]) == bare + 4 + 1 + 8
    result = {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "four five"}]}]}
    with_result = counted("anthropic", messages=[user, call, result])
    assert with_result == counted("anthropic", messages=[user, call]) + 4 + 2 + 5
    tool = {"name": "look", "description": "Look.", "input_schema": {}}
    assert counted("anthropic", messages=[user], tools=[tool]) == bare + 346 + 6


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-3-5-haiku-latest", "3.0"),
        ("claude-sonnet-4-6", "3.0"),
        ("claude-opus-4-6", "3.0"),
        ("claude-opus-4-8", "4.8"),
        ("claude-sonnet-5", "4.8"),
    ],
)
def test_the_tokenizer_of_a_claude_is_known_by_its_name(model: str, family: str) -> None:
    assert claude_family(model) == family
