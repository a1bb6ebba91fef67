"""A history that outgrows its room."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.context.history import HistoryCompression
from langchain_tokopt.context.validate import problem
from langchain_tokopt.errors import ContextTooLargeError
from langchain_tokopt.tokens import TokenCounter
from tests.context.in_part import agent_threads, an_agent, log
from tests.context.memory.threads import chat
from tests.context.test_history_properties import everything

COUNTER = TokenCounter()


def within(messages: list[BaseMessage], max_tokens: int, *, query: str | None = None) -> list[BaseMessage]:
    """The view in at most so many tokens, with nothing else done to it."""
    history = HistoryCompression(
        lossless=False, max_result_tokens=None, old_result_tokens=None, counter=COUNTER, remember=False
    )
    return history.examine(messages, max_tokens=max_tokens, query=query).messages


def test_what_fits_stays() -> None:
    messages = chat(10)
    shown = within(messages, COUNTER.messages(messages))
    assert all(new is old for new, old in zip(shown, messages, strict=True))


def test_nothing_fits_anywhere() -> None:
    assert within([], 1) == []


def test_what_does_not_fit_is_fitted() -> None:
    messages = chat(60)
    before = everything(messages)
    shown = within(messages, 1_500)
    assert COUNTER.messages(shown) <= 1_500
    assert shown[-1] is messages[-1]
    assert everything(messages) == before


def test_what_must_stay_and_does_not_fit_is_an_error() -> None:
    with pytest.raises(ContextTooLargeError):
        within([HumanMessage(log(1, 500))], 100)


def test_a_question_decides_what_stays() -> None:
    messages = chat(60)
    shown = within(messages, 1_200, query="Which passport number was it?")
    assert "X4471293" in "".join(str(message.text) for message in shown)


@pytest.mark.parametrize("messages", [chat(80), an_agent([log(n, 20) for n in range(40)])], ids=["chat", "agent"])
def test_a_history_that_grows_is_fitted_now_and_then(messages: list[BaseMessage]) -> None:
    views = [within(messages[:end], 3_000) for end, message in enumerate(messages) if isinstance(message, AIMessage)]
    assert all(COUNTER.messages(view) <= 3_000 for view in views)
    breaks = sum(everything(new[: len(old)]) != everything(old) for old, new in pairwise(views))
    outgrown = sum(len(view) < end for view, end in zip(views, range(1, len(messages), 2), strict=False))
    assert outgrown > 20
    assert 0 < breaks < outgrown / 3


@examples(max_examples=25)
@given(agent_threads(), st.integers(300, 3_000))
def test_any_history_fits_and_is_valid(messages: list[BaseMessage], max_tokens: int) -> None:
    before = everything(messages)
    if problem(messages) is not None:
        return
    try:
        shown = within(messages, max_tokens)
    except ContextTooLargeError:
        return
    assert COUNTER.messages(shown) <= max_tokens
    assert problem(shown) is None
    assert everything(shown) == everything(within(messages, max_tokens))
    assert everything(messages) == before
