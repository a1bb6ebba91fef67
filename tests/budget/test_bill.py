"""What is booked for a call, from what was seen of it."""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelResponse
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult

from langchain_tokopt.budget import Hold
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.bill import Bill, Biller
from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.budget.rules import Terms
from langchain_tokopt.budget.watch import Attempt, Watch, active_watch, watching
from langchain_tokopt.events import Who
from langchain_tokopt.pricing import Rates
from tests.budget.figures import RATES, WordCounter, case, usage
from tests.fakes import ai

DEAR = Rates(input=Decimal(10), output=Decimal(100))
ANSWER = ai("done", input_tokens=100, output_tokens=50)


def biller(rates: Rates | None = RATES) -> Biller:
    hold = Hold("id", Path(), Terms((), ()), case(), Amount(), rates, Who())
    return Biller(hold, WordCounter(), lambda model, provider: DEAR if model == "dear" else None)


def answered(answer: AIMessage = ANSWER, model: str | None = "gpt-4o-mini") -> Attempt:
    return Attempt(model, "openai", answer)


def test_attempts_are_added_up_each_at_its_own_price() -> None:
    attempts = [answered(), Attempt("gpt-4o-mini"), answered(model="dear"), answered(model="mystery-9")]
    bill = biller().for_response(ModelResponse(result=[ANSWER]), attempts)
    assert bill.usage is not None
    assert bill.usage["total_tokens"] == 450
    assert bill.usd == Decimal("0.0006") + Decimal("0.006") + Decimal("0.0006")
    assert bill.reason is None


def test_without_attempts_the_response_is_billed() -> None:
    bill = biller().for_response(ModelResponse(result=[ANSWER]), [])
    assert (bill.usd, bill.reason) == (Decimal("0.0006"), None)


def test_without_a_price_there_is_usage_and_no_cost() -> None:
    bill = biller(None).for_response(ModelResponse(result=[ANSWER]), [answered()])
    assert bill.usage is not None
    assert bill.usd is None


@pytest.mark.parametrize("answer", [ai("two words"), ai("two words", input_tokens=0)])
def test_usage_that_is_missing_or_all_zero_is_estimated(answer: AIMessage) -> None:
    bill = biller().for_response(ModelResponse(result=[answer]), [answered(answer)])
    assert bill.usage == usage(100, 2)
    assert bill.reason == "the provider reported no usage: estimated"


def test_a_response_without_an_answer_costs_nothing() -> None:
    assert biller().for_response(ModelResponse(result=[]), []) == Bill(None)


def test_an_error_in_the_middle_of_an_answer_has_the_input_and_what_was_seen_on_the_bill() -> None:
    attempts = [Attempt("gpt-4o-mini", streamed=["one ", "two"])]
    bill = biller().for_error(ConnectionError("cut"), attempts)
    assert bill == Bill(usage(100, 2), Decimal("0.00012"), "ConnectionError in the middle of the answer")


def test_an_error_before_any_answer_costs_nothing() -> None:
    assert biller().for_error(ConnectionError("cut"), [Attempt("gpt-4o-mini")]) == Bill(None, None, "ConnectionError")


def test_an_attempt_that_broke_off_before_a_good_one_is_on_the_bill() -> None:
    attempts = [Attempt("gpt-4o-mini", streamed=["one ", "two"]), answered()]
    bill = biller().for_response(ModelResponse(result=[ANSWER]), attempts)
    assert bill.usage is not None
    assert (bill.usage["input_tokens"], bill.usage["output_tokens"], bill.calls) == (200, 52, 2)


def test_an_answer_that_an_error_carries_is_billed_where_nobody_watched() -> None:
    error = ValueError("not what was asked for")
    error.ai_message = ANSWER  # type: ignore[attr-defined]
    assert biller().for_error(error, None) == Bill(
        ANSWER.usage_metadata, Decimal("0.0006"), "ValueError after the answer"
    )


def test_what_a_provider_reported_before_a_cancellation_counts() -> None:
    reported = usage(90, 1)
    reported["input_token_details"] = {"cache_read": 80}
    attempts = [answered(), Attempt("gpt-4o-mini", streamed=["one two three"], streamed_usage=reported)]
    bill = biller().for_error(asyncio.CancelledError(), attempts)
    assert bill.usage is not None
    assert (bill.usage["input_tokens"], bill.usage["output_tokens"]) == (190, 53)
    assert bill.usage["input_token_details"]["cache_read"] == 80
    assert bill.usd == Decimal("0.0006") + Decimal("0.00012")


def test_a_cancelled_call_that_nobody_watched_has_its_input_on_the_bill() -> None:
    assert biller().for_error(KeyboardInterrupt(), None).usage == usage(100, 0)


def test_a_call_that_was_cancelled_before_the_model_was_called_is_free() -> None:
    assert biller().for_error(asyncio.CancelledError(), []).usage is None


# --- the watch ---


def start(watch: Watch, model: str = "gpt-4o-mini") -> uuid.UUID:
    run = uuid.uuid4()
    watch.on_chat_model_start({}, [[]], run_id=run, metadata={"ls_model_name": model, "ls_provider": "openai"})
    return run


def chunk(**fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(**fields))


def test_what_is_streamed_is_kept_with_its_usage() -> None:
    watch = Watch()
    run = start(watch)
    calls = [{"name": "look", "args": '{"a": 1}', "id": "1", "index": 0, "type": "tool_call_chunk"}]
    blocks = [{"type": "text", "text": "b"}, {"type": "thinking", "thinking": "c"}, "d", {"type": "image"}]
    watch.on_llm_new_token("a", run_id=run, chunk=chunk(content="a", usage_metadata=usage(90, 1)))
    watch.on_llm_new_token("", run_id=run, chunk=chunk(content=blocks, usage_metadata=usage(0, 4)))
    watch.on_llm_new_token("", run_id=run, chunk=chunk(content="", tool_call_chunks=calls))
    watch.on_llm_new_token("e", run_id=run)
    watch.on_llm_new_token("lost", run_id=uuid.uuid4())
    [attempt] = watch.attempts()
    assert "".join(attempt.streamed) == 'abcd{"a": 1}e'
    assert attempt.streamed_usage is not None
    assert attempt.streamed_usage["total_tokens"] == 95
    assert (attempt.model, attempt.provider, attempt.answer) == ("gpt-4o-mini", "openai", None)


def test_the_events_of_the_newer_stream_are_kept_too() -> None:
    watch = Watch()
    run = start(watch)
    deltas: list[dict[str, Any]] = [
        {"type": "text-delta", "text": "a"},
        {"type": "reasoning-delta", "reasoning": "b"},
        {"type": "block-delta", "fields": {"type": "tool_call_chunk", "args": "c"}},
        {"type": "data-delta", "data": "AAAA"},
    ]
    for delta in deltas:
        watch.on_stream_event({"event": "content-block-delta", "index": 0, "delta": delta}, run_id=run)
    watch.on_stream_event({"event": "message-finish"}, run_id=run)
    assert "".join(watch.attempts()[0].streamed) == "abc"


def test_answers_are_kept_in_the_order_in_which_the_attempts_began() -> None:
    watch = Watch()
    first, second = start(watch), start(watch, "dear")
    watch.on_llm_end(LLMResult(generations=[[ChatGeneration(message=ANSWER)]]), run_id=second)
    watch.on_llm_end(LLMResult(generations=[]), run_id=first)
    assert len(watch) == 2
    assert [attempt.answer for attempt in watch.attempts()] == [None, ANSWER]
    assert [attempt.model for attempt in watch.attempts(1)] == ["dear"]


def test_a_watch_is_shared_by_those_who_asked_for_it() -> None:
    one, two, stranger = object(), object(), object()
    with watching(one):
        watch = active_watch(one)
        assert watch is not None
        with watching(two):
            assert active_watch(two) is watch
            assert active_watch(stranger) is None
        assert active_watch(two) is None
    assert active_watch(one) is None
