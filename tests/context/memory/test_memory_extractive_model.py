"""The extractive digest as a chat model, alone and inside LangChain's SummarizationMiddleware."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain.agents.middleware.summarization import DEFAULT_SUMMARY_PROMPT
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, get_buffer_string
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import ValidationError

from langchain_tokopt.context.memory import ExtractiveSummarizer
from tests.context.memory.threads import FACTS, chat, with_tool
from tests.fakes import ScriptedModel


class TestStandard(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ExtractiveSummarizer]:
        return ExtractiveSummarizer

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False


def middleware(kind: str) -> SummarizationMiddleware[Any, Any]:
    settings: dict[str, Any] = {
        "trigger": ("messages", 30),
        "keep": ("messages", 4),
        "trim_tokens_to_summarize": None,
    }
    if kind == "model":
        return SummarizationMiddleware(ExtractiveSummarizer(), **settings)
    if kind == "summarizer":
        return SummarizationMiddleware(ScriptedModel(), summarizer=ExtractiveSummarizer(), **settings)
    return SummarizationMiddleware(ScriptedModel(), summarizer=ExtractiveSummarizer().summarize, **settings)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("kind", ["model", "summarizer", "function"])
def test_an_agent_is_shown_the_digest_of_its_thread(kind: str, way: str) -> None:
    model = ScriptedModel(responses=["Done."])
    agent = create_agent(model, middleware=[middleware(kind)])
    given: dict[str, list[BaseMessage | dict[str, Any]]] = {"messages": [*chat(30)[1:], HumanMessage("And now?")]}
    if way == "sync":
        agent.invoke(given)  # type: ignore[arg-type]
    else:
        asyncio.run(agent.ainvoke(given))  # type: ignore[arg-type]
    summary, *rest = model.calls[-1].messages
    assert summary.text.startswith("Here is a summary of the conversation to date:\n\nUser: ")
    assert [fact for fact in FACTS.values() if fact not in summary.text] == []
    assert len(summary.text) < 0.4 * len(get_buffer_string(chat(30)))
    assert len(rest) == 4


def test_the_messages_are_read_back_from_the_prompt() -> None:
    thread: list[AnyMessage] = [  # type: ignore[assignment]
        SystemMessage("Answer in <French> & be kind."),
        *with_tool("call_1", "TP-1180 costs 212 EUR, seats < 5"),
    ]
    prompt = DEFAULT_SUMMARY_PROMPT.format(messages=get_buffer_string(thread, format="xml"))
    answer = ExtractiveSummarizer(ratio=1).invoke(prompt)
    assert answer.text == (
        "System: Answer in <French> & be kind.\n"
        "User: Find me a flight.\n"
        '[tool] find_flights(to="LIS", max_price=240)\n'
        "[tool] tool() -> TP-1180 costs 212 EUR, seats < 5\n"
        "Assistant: I found one."
    )
    assert answer.usage_metadata == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_other_requests_are_taken_as_the_conversation() -> None:
    answer = ExtractiveSummarizer().invoke([SystemMessage("Summarize."), HumanMessage("I moved to Oslo in 2021.")])
    assert answer.text == "User: I moved to Oslo in 2021."


@pytest.mark.parametrize("prompt", ["", '<message type="human">', '<message type="', "</message>" * 50])
def test_broken_prompts_are_answered(prompt: str) -> None:
    assert ExtractiveSummarizer().invoke(prompt).text


def test_an_earlier_summary_is_shortened_like_anything_else() -> None:
    assert "X4471293" in ExtractiveSummarizer().summarize(
        [HumanMessage(f"Here is a summary: {FACTS[3]}"), AIMessage("Ok")]
    )


@pytest.mark.parametrize("ratio", [0, 1.5])
def test_a_ratio_that_makes_no_sense_is_refused(ratio: float) -> None:
    with pytest.raises(ValidationError, match="ratio"):
        ExtractiveSummarizer(ratio=ratio)
