"""The view of a long conversation as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, message_to_dict

from langchain_tokopt.context.memory import ChatMemory
from langchain_tokopt.context.memory.render import MARK
from langchain_tokopt.context.validate import problem
from langchain_tokopt.errors import ConfigurationError
from tests.context.memory.threads import FACTS, chat
from tests.strategies import message_lists

QUESTION = HumanMessage("Which number does my passport have?")


def small(**settings: Any) -> ChatMemory:
    return ChatMemory(**{"block_tokens": 500, "keep_tokens": 200, "ratio": 0.02, **settings})


def marks(view: list[BaseMessage]) -> list[str]:
    return [message.additional_kwargs[MARK] for message in view if MARK in message.additional_kwargs]


def everything(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    return [message_to_dict(message) for message in messages]


def test_a_long_thread_is_shown_as_head_digests_recall_and_recent_part() -> None:
    thread = [*chat(40), QUESTION]
    memory = small()
    where = memory.cut(thread)
    view = memory.view(thread)
    assert view[: where.head] == thread[: where.head]
    assert marks(view) == [*["digest"] * len(where.blocks), "recall"]
    assert view[where.head + len(where.blocks) : -2] == thread[where.recent : -1]
    assert FACTS[3] in view[-2].text
    assert view[-1] is QUESTION


def test_what_was_sent_stays_as_it_was_until_a_block_is_closed() -> None:
    thread, memory = chat(60), small()
    for end in range(4, len(thread), 2):
        before, after = memory.view(thread[:end]), memory.view(thread[: end + 2])
        if len(memory.cut(thread[:end]).blocks) == len(memory.cut(thread[: end + 2]).blocks):
            assert after[: len(before)] == before


def test_what_was_recalled_is_gone_in_the_next_turn_unless_it_is_kept() -> None:
    thread, memory = [*chat(40), QUESTION], small()
    sent = memory.view(thread)
    longer = [*thread, AIMessage("It is X4471293."), HumanMessage("Thanks a lot!")]
    assert "recall" not in marks(memory.view(longer))
    assert memory.view(longer, keep_recalled_in={len(thread) - 1})[: len(sent)] == sent


def test_nothing_is_recalled_where_that_is_switched_off() -> None:
    assert "recall" not in marks(small(recall_tokens=0).view([*chat(40), QUESTION]))


def test_a_short_thread_is_shown_as_it_is() -> None:
    thread = chat(5)
    assert all(a is b for a, b in zip(ChatMemory().view(thread), thread, strict=True))


def test_a_changed_message_is_noticed() -> None:
    thread, memory = chat(40), small(ratio=1.0)
    memory.view(thread)
    thread[3].content = "I moved to Trondheim."
    assert "I moved to Trondheim." in memory.view(thread)[2].text


def test_without_the_retrieval_tool_the_digest_does_not_name_it() -> None:
    assert "retrieve_original" in small().view(chat(40))[2].text
    assert "retrieve_original" not in small(retrievable=False).view(chat(40))[2].text


@pytest.mark.parametrize("settings", [{"block_tokens": 0}, {"keep_tokens": -1}, {"ratio": 2}, {"recall_tokens": -1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        ChatMemory(**settings)


@examples(deadline=None, max_examples=80)
@given(message_lists(), st.integers(1, 40), st.integers(0, 40))
def test_any_valid_thread_stays_valid_and_is_the_same_whoever_computes_it(
    messages: list[BaseMessage], block_tokens: int, keep_tokens: int
) -> None:
    before = everything(messages)
    settings: dict[str, Any] = {"block_tokens": block_tokens, "keep_tokens": keep_tokens, "ratio": 0.3}
    memory = ChatMemory(**settings)
    views = [memory.view(messages[: end + 1]) for end in range(len(messages))]
    assert everything(messages) == before
    if messages:
        assert problem(views[-1]) is None
        fresh = ChatMemory(**settings, remember=False).view([message.model_copy() for message in messages])
        assert everything(fresh) == everything(views[-1])
