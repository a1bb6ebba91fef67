"""`ChatOpenAI`, bare, with both of its APIs: what the server gives, the client understands, and the other way round."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from openai import BadRequestError, InternalServerError, RateLimitError

from tests.providers.agents import RUNS, Run, chat_model, run
from tests.providers.replies import Asked, Failure, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer
from tests.providers.weather import Answer, look_up


@tool
def weather(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Today's weather in a city."""
    return f"{city}: 21 {unit}"


@pytest.mark.parametrize("name", ["openai", "responses"])
@pytest.mark.parametrize("kind", RUNS)
def test_agent_with_parallel_tool_calls(provider: ProviderServer, name: Provider, kind: Run) -> None:
    provider.policy = look_up
    agent = create_agent(chat_model(name, provider), [weather], system_prompt="Be brief.")
    ran = run(kind, agent, [HumanMessage("How warm is it in Rome and Oslo?")])
    assert ran.answer == "It is Rome: 21 c and Oslo: 21 c."
    assert [type(message).__name__ for message in ran.messages] == [
        "HumanMessage",
        "AIMessage",
        "ToolMessage",
        "ToolMessage",
        "AIMessage",
    ]
    assert len(provider.answered) == 2
    reported = [message.usage_metadata for message in ran.messages if isinstance(message, AIMessage)]
    billed = [record.bill for record in provider.answered]
    assert [usage["total_tokens"] for usage in reported if usage] == [bill.total for bill in billed if bill]
    if kind not in ("invoke", "ainvoke"):
        assert ran.streamed_text == "One moment.It is Rome: 21 c and Oslo: 21 c."


def test_two_turns_of_one_thread_stay_valid_and_read_the_cache(provider: ProviderServer) -> None:
    provider.policy = look_up
    prompt = "Be brief. " * 600
    agent = create_agent(chat_model("openai", provider), [weather], system_prompt=prompt, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for question in ("Rome and Oslo?", "And now?"):
        last = run("invoke", agent, [HumanMessage(question)], config)
    assert len(provider.answered) == 4
    usage = last.messages[-1].usage_metadata
    bill = provider.answered[-1].bill
    assert bill is not None
    assert usage["input_token_details"]["cache_read"] == bill.cache_read >= 1408


@pytest.mark.parametrize("previous", [True, False])
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_conversation_that_the_provider_keeps(provider: ProviderServer, kind: Run, previous: bool) -> None:
    provider.policy = look_up
    model = chat_model("responses", provider, use_previous_response_id=previous)
    agent = create_agent(model, [weather], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for question in ("Rome and Oslo?", "And now?"):
        assert run(kind, agent, [HumanMessage(question)], config).answer == "It is Rome: 21 c and Oslo: 21 c."
    sent = [len(record.body["input"]) for record in provider.answered]
    assert (sent[-1] < 4) == previous
    assert len(provider.answered[-1].read["input"]) > 9


@pytest.mark.parametrize("name", ["openai", "responses"])
@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
@pytest.mark.parametrize("kind", ["invoke", "astream", "astream_events"])
def test_structured_output(provider: ProviderServer, name: Provider, strategy: Any, kind: Run) -> None:
    def policy(asked: Asked) -> Reply:
        if not asked.turn_results:
            return Reply(tool_calls=(ToolCall(name="weather", args={"city": "Rome"}),))
        if strategy is ToolStrategy:
            assert asked.body["tool_choice"] == "required"
            return Reply(tool_calls=(ToolCall(name="Answer", args={"city": "Rome", "degrees": 21}),))
        wanted = asked.body["response_format"] if name == "openai" else asked.body["text"]["format"]
        assert wanted["type"] == "json_schema"
        return Reply(text='{"city": "Rome", "degrees": 21}')

    provider.policy = policy
    agent = create_agent(chat_model(name, provider), [weather], response_format=strategy(Answer))
    assert run(kind, agent, [HumanMessage("Rome?")]).state["structured_response"] == Answer(city="Rome", degrees=21)


def test_streams_without_usage_when_it_is_not_asked_for(provider: ProviderServer) -> None:
    provider.script = ["one two three"]
    model = chat_model("openai", provider, stream_usage=False)
    chunks = list(model.stream("Hello?"))
    assert "".join(chunk.text for chunk in chunks) == "one two three"
    assert [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata] == []
    assert provider.billed.total > 0


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (500, InternalServerError)])
def test_errors_arrive_as_the_clients_own(provider: ProviderServer, status: int, error: type[Exception]) -> None:
    provider.script = [Failure(status=status, retry_after="0"), "fine"]
    model = chat_model("openai", provider)
    with pytest.raises(error):
        model.invoke("Hello?")
    assert model.invoke("Hello?").text == "fine"


def test_client_retries_when_the_server_says_so(provider: ProviderServer) -> None:
    provider.script = [Failure(status=429, retry_after="0.01"), "fine"]
    assert chat_model("openai", provider, max_retries=1).invoke("Hello?").text == "fine"
    assert [record.status for record in provider.records] == [429, 200]


def test_broken_stream_is_an_error(provider: ProviderServer) -> None:
    provider.script = [Reply(text="one two three", break_after=1)]
    with pytest.raises(Exception, match="The server had an error"):
        list(chat_model("openai", provider).stream("Hello?"))


def test_cut_answer_says_so(provider: ProviderServer) -> None:
    provider.script = ["x" * 100]
    message = chat_model("openai", provider, max_tokens=5).invoke("Hello?")
    assert (message.text, message.response_metadata["finish_reason"]) == ("x" * 20, "length")


def test_dangling_call_is_refused(provider: ProviderServer) -> None:
    dangling = AIMessage("", tool_calls=[{"name": "weather", "args": {}, "id": "call_1"}])
    orphan = ToolMessage("x", tool_call_id="call_9")
    for messages in ([HumanMessage("a"), dangling, HumanMessage("b")], [HumanMessage("a"), orphan]):
        with pytest.raises(BadRequestError, match="tool_calls"):
            chat_model("openai", provider).invoke(messages)
    assert len(provider.rejected) == 2
    provider.records.clear()
