"""`ChatAnthropic`, bare, against the server: thinking, prompt caching, tools, structured output, streaming."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import BadRequestError, InternalServerError, RateLimitError
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from tests.providers.agents import RUNS, Run, chat_model, run
from tests.providers.replies import Asked, Failure, Reply, ToolCall
from tests.providers.server import ProviderServer
from tests.providers.weather import Answer, weather

THINK = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def look_up(asked: Asked) -> Reply:
    """Thinks, calls twice, thinks again, calls once, and answers with all results."""
    if not asked.turn_results:
        calls = (ToolCall(name="weather", args={"city": "Rome"}), ToolCall(name="weather", args={"city": "Oslo"}))
        return Reply(thinking="Two cities.", text="One moment.", tool_calls=calls)
    if len(asked.turn_results) == 2:
        return Reply(thinking="One more.", tool_calls=(ToolCall(name="weather", args={"city": "Bonn"}),))
    return Reply(thinking="Done.", text=f"It is {' and '.join(asked.turn_results)}.")


@pytest.mark.parametrize("thinking", [THINK, {}], ids=["thinking", "plain"])
@pytest.mark.parametrize("kind", RUNS)
def test_agent_with_parallel_tool_calls(provider: ProviderServer, kind: Run, thinking: dict[str, Any]) -> None:
    provider.policy = look_up
    agent = create_agent(chat_model("anthropic", provider, **thinking), [weather], system_prompt="Be brief.")
    ran = run(kind, agent, [HumanMessage("How warm is it in Rome, Oslo and Bonn?")])
    assert ran.answer == "It is Rome: 21 c and Oslo: 21 c and Bonn: 21 c."
    turns = [message for message in ran.messages if isinstance(message, AIMessage)]
    kinds = [[block["type"] for block in turn.content if isinstance(block, dict)] for turn in turns]
    assert [("thinking" in found) for found in kinds] == [bool(thinking)] * 3
    assert [turn.usage_metadata["total_tokens"] for turn in turns if turn.usage_metadata] == [
        record.bill.total for record in provider.answered if record.bill
    ]
    if kind not in ("invoke", "ainvoke"):
        assert ran.streamed_text == "One moment.It is Rome: 21 c and Oslo: 21 c and Bonn: 21 c."


def test_redacted_thinking_goes_round(provider: ProviderServer) -> None:
    call = ToolCall(name="weather", args={"city": "Rome"})
    provider.script = [Reply(thinking="Secret.", redacted=True, tool_calls=(call,)), "Fine."]
    agent = create_agent(chat_model("anthropic", provider, **THINK), [weather])
    assert run("invoke", agent, [HumanMessage("Rome?")]).answer == "Fine."


@pytest.mark.parametrize("kind", ["invoke", "stream"])
def test_prompt_cache_is_written_once_and_read_afterwards(provider: ProviderServer, kind: Run) -> None:
    provider.policy = look_up
    agent = create_agent(
        chat_model("anthropic", provider),
        [weather],
        system_prompt="Be brief. " * 600,
        middleware=[AnthropicPromptCachingMiddleware()],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}
    for question in ("Rome, Oslo and Bonn?", "And now?"):
        last = run(kind, agent, [HumanMessage(question)], config)
    bills = [record.bill for record in provider.answered if record.bill]
    assert bills[0].cache_read == 0
    assert bills[0].cache_write > 1500
    assert all(bill.cache_read > 1500 and bill.cache_write < 300 for bill in bills[1:])
    details = last.messages[-1].usage_metadata["input_token_details"]
    assert details["cache_read"] == bills[-1].cache_read
    assert last.messages[-1].usage_metadata["input_tokens"] == bills[-1].input


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
@pytest.mark.parametrize("kind", ["invoke", "astream", "astream_events"])
def test_structured_output(provider: ProviderServer, strategy: Any, kind: Run) -> None:
    def policy(asked: Asked) -> Reply:
        if not asked.turn_results:
            return Reply(tool_calls=(ToolCall(name="weather", args={"city": "Rome"}),))
        if strategy is ToolStrategy:
            assert asked.body["tool_choice"]["type"] == "any"
            return Reply(tool_calls=(ToolCall(name="Answer", args={"city": "Rome", "degrees": 21}),))
        assert asked.body["output_config"]["format"]["type"] == "json_schema"
        return Reply(text='{"city": "Rome", "degrees": 21}')

    provider.policy = policy
    agent = create_agent(chat_model("anthropic", provider), [weather], response_format=strategy(Answer))
    assert run(kind, agent, [HumanMessage("Rome?")]).state["structured_response"] == Answer(city="Rome", degrees=21)


def test_tool_added_in_mid_conversation_is_accepted(provider: ProviderServer) -> None:
    provider.script = [lambda asked: Reply(text=",".join(asked.offered))]
    schema = {"type": "object", "properties": {}}
    definition = {"name": "clock", "description": "The time.", "input_schema": schema}
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}
    model = chat_model("anthropic", provider, model_name="claude-opus-5-5")
    answer = model.bind_tools([weather]).invoke([HumanMessage("Time?"), SystemMessage([added])])
    assert answer.text == "weather,clock"


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (529, InternalServerError)])
def test_errors_arrive_as_the_clients_own(provider: ProviderServer, status: int, error: type[Exception]) -> None:
    provider.script = [Failure(status=status, retry_after="0"), "fine"]
    model = chat_model("anthropic", provider)
    with pytest.raises(error):
        model.invoke("Hello?")
    assert model.invoke("Hello?").text == "fine"


def test_broken_stream_is_an_error(provider: ProviderServer) -> None:
    provider.script = [Reply(text="one two three", break_after=1)]
    with pytest.raises(Exception, match="Overloaded"):
        list(chat_model("anthropic", provider).stream("Hello?"))


def test_cut_answer_says_so(provider: ProviderServer) -> None:
    provider.script = ["x" * 100]
    message = chat_model("anthropic", provider, max_tokens=5).invoke("Hello?")
    assert (message.text, message.response_metadata["stop_reason"]) == ("x" * 20, "max_tokens")


def test_dangling_call_and_orphan_result_are_refused(provider: ProviderServer) -> None:
    model = chat_model("anthropic", provider).bind_tools([weather])
    dangling = AIMessage("", tool_calls=[{"name": "weather", "args": {}, "id": "toolu_1"}])
    orphan = ToolMessage("x", tool_call_id="toolu_9")
    with pytest.raises(BadRequestError, match="`tool_use` ids were found without `tool_result` blocks"):
        model.invoke([HumanMessage("a"), dangling, HumanMessage("b")])
    with pytest.raises(BadRequestError, match="unexpected `tool_use_id` found in `tool_result` blocks"):
        model.invoke([HumanMessage("a"), AIMessage("b"), orphan])
    provider.records.clear()


def test_changed_thinking_is_refused(provider: ProviderServer) -> None:
    provider.policy = look_up
    model = chat_model("anthropic", provider, **THINK).bind_tools([weather])
    question = HumanMessage("Rome?")
    turn = model.invoke([question])
    results = [ToolMessage("x", tool_call_id=call["id"]) for call in turn.tool_calls]
    assert model.invoke([question, turn, *results]).tool_calls
    changed = [{**turn.content[0], "thinking": "Other."}, *turn.content[1:]]
    with pytest.raises(BadRequestError, match="Invalid `signature` in `thinking` block"):
        model.invoke([question, turn.model_copy(update={"content": changed}), *results])
    with pytest.raises(BadRequestError, match="Expected `thinking` or `redacted_thinking`, but found `text`"):
        model.invoke([question, turn.model_copy(update={"content": turn.content[1:]}), *results])
    provider.records.clear()
