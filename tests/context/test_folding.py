"""A conversation whose closed blocks are shown in short where that pays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.context.folding import Folded, fold
from langchain_tokopt.context.history import HistoryCompression
from langchain_tokopt.context.memory import ChatMemory
from langchain_tokopt.context.policy import Policy, Prices
from langchain_tokopt.context.validate import problem
from tests.context.in_part import CACHED, UNCACHED, policy
from tests.context.memory.threads import chat, with_tool
from tests.context.test_history_properties import everything
from tests.strategies import message_lists


def memory(**settings: object) -> ChatMemory:
    return ChatMemory(**{"block_tokens": 600, "keep_tokens": 300, "recall_tokens": 200, **settings})  # type: ignore[arg-type]


LONG = replace(policy(prices=UNCACHED).expected, calls=(500,) * 50)
PAYS = replace(policy(prices=UNCACHED), expected=LONG)


def view(folded: Folded) -> list[BaseMessage]:
    return folded.with_recalled(folded.messages)


def test_a_short_conversation_stays() -> None:
    messages = chat(5)
    folded = fold(memory(), messages, PAYS)
    assert folded.messages == messages
    assert folded.origin == list(range(len(messages)))
    assert not folded.blocks


def test_a_long_conversation_is_shown_in_short() -> None:
    messages = chat(60)
    folded = fold(memory(), messages, PAYS)
    assert len(folded.messages) < len(messages) / 2
    assert folded.messages[:2] == messages[:2]
    assert folded.messages[-1] is messages[-1]
    said = "".join(str(message.text) for message in folded.messages)
    for handle, original in folded.blocks.items():
        assert f'retrieve_original("{handle}")' in said
        assert len(original) > 1_000


def test_without_a_tool_nothing_speaks_of_it() -> None:
    folded = fold(memory(), chat(60), replace(PAYS, tool=None))
    assert folded.blocks
    assert "retrieve_original" not in "".join(str(message.text) for message in folded.messages)


@pytest.mark.parametrize(
    "dear",
    [
        replace(PAYS, prices=Prices(read=0.0, write=1.0)),
        replace(PAYS, prices=Prices(read=0.1, write=25.0)),
    ],
    ids=["reading is free", "writing is dear"],
)
def test_where_it_does_not_pay_nothing_is_folded(dear: Policy) -> None:
    assert not fold(memory(), chat(60), dear).blocks


def test_what_is_shown_as_it_was_says_where_it_stood() -> None:
    messages = [*chat(30), *with_tool("c1", "LIS 09:40, 212 euros"), *chat(30)[2:]]
    folded = fold(memory(), messages, PAYS)
    assert folded.blocks
    for at, message in zip(folded.origin, folded.messages, strict=True):
        assert at is None or message is messages[at]
    places = [at for at in folded.origin if at is not None]
    assert places == sorted(places)
    assert places[-1] == len(messages) - 1


def test_a_thread_that_says_the_same_is_shown_its_own_images() -> None:
    def thread(image: str) -> list[BaseMessage]:
        talk = chat(40)
        shown = HumanMessage([{"type": "image_url", "image_url": {"url": image}}])
        return [*talk[:4], AIMessage("Yes?"), shown, *talk[4:]]

    one, other, sharing = thread("data:,one"), thread("data:,other"), memory()
    for messages in (one, other):
        folded = fold(sharing, messages, PAYS)
        assert folded.blocks
        assert [message for message in folded.messages if isinstance(message.content, list)] == [messages[5]]
        assert folded.origin[folded.messages.index(messages[5])] == 5


def test_what_a_question_needs_is_recalled_before_it() -> None:
    messages = [*chat(60), AIMessage("Yes?"), HumanMessage("What was my passport number for the trip to Lisbon?")]
    folded = fold(memory(ratio=0.0), messages, PAYS)
    shown = view(folded)
    assert shown[-1] is messages[-1]
    assert "X4471293" in str(shown[-2].text)
    assert len(shown) == len(folded.messages) + len(folded.recalled)


def test_nothing_is_folded_within_a_turn() -> None:
    messages = [*chat(60), *with_tool("c1", "LIS 09:40, 212 euros")[1:]]
    first = view(fold(memory(), messages[:-3], PAYS))
    for end in range(len(messages) - 2, len(messages) + 1):
        assert everything(view(fold(memory(), messages[:end], PAYS)))[: len(first)] == everything(first)


def test_what_was_sent_changes_seldom_where_there_is_a_cache() -> None:
    messages, chat_memory = chat(120), memory(recall_tokens=0)
    cached = replace(policy(prices=CACHED), expected=LONG)
    views = [view(fold(chat_memory, messages[:end], cached)) for end in range(2, len(messages) + 1, 2)]
    breaks = sum(everything(new[: len(old)]) != everything(old) for old, new in pairwise(views))
    assert 0 < breaks < len(views) / 3


@examples(max_examples=25)
@given(message_lists(), st.integers(2, 40), st.sampled_from([UNCACHED, CACHED, Prices(0.5, 1.0)]))
def test_any_conversation_stays_valid_and_is_the_same_in_every_process(
    more: list[BaseMessage], turns: int, prices: Prices
) -> None:
    messages = [
        message.model_copy(update={"id": f"m{at}"})
        for at, message in enumerate([*chat(turns), AIMessage("So."), HumanMessage("Now this."), *more])
    ]
    used = replace(PAYS, prices=prices)
    remembering = HistoryCompression(chat=memory())
    before = everything(messages)
    for end in sorted({len(messages) // 3, len(messages) // 2, len(messages)}):
        own = messages[:end]
        if problem(own) is not None:
            continue
        fresh = HistoryCompression(chat=memory(remember=False), remember=False).examine(own, policy=used)
        known = remembering.examine(own, policy=used)
        assert problem(fresh.messages) is None
        assert everything(known.messages) == everything(fresh.messages)
        assert known.blocks == fresh.blocks
        assert fresh.messages[-1] is own[-1] or fresh.messages[-1].id == own[-1].id
    assert everything(messages) == before
