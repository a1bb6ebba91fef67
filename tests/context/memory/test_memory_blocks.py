"""Where a thread is cut: turns, blocks, what is pinned and what stays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.memory.blocks import Block, Turn, cut, pinned, turns_of
from langchain_tokopt.context.memory.render import MARK
from langchain_tokopt.context.memory.worth import worth_closing
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.rates import Rates
from tests.context.memory.threads import chat, with_tool
from tests.strategies import message_lists


def words(text: str) -> int:
    return len(text.split())


def texts(block: Block) -> list[str]:
    return [str(message.text) for message in block.messages]


def test_a_turn_is_a_human_message_with_all_that_follows_until_the_next() -> None:
    messages = [*with_tool("a", "one"), *with_tool("b", "two"), HumanMessage("Thanks")]
    assert [(turn.start, turn.end) for turn in turns_of(messages)] == [(0, 4), (4, 8), (8, 9)]


def test_system_messages_and_the_first_task_are_pinned() -> None:
    messages = [SystemMessage("s"), SystemMessage("t"), HumanMessage("task"), AIMessage("ok")]
    assert pinned(messages) == 3
    assert pinned(messages[:2]) == 2
    assert pinned([]) == 0


def test_a_greeting_before_the_first_task_is_pinned_with_it() -> None:
    assert pinned([SystemMessage("s"), AIMessage("How can I help?"), HumanMessage("task"), AIMessage("ok")]) == 3


def test_no_call_is_pinned_without_its_result() -> None:
    assert pinned(with_tool("a", "one")[1:]) == 0


def test_a_short_thread_has_no_block() -> None:
    messages = chat(5)
    where = cut(messages)
    assert where.blocks == ()
    assert where.recent == where.head == 2


def test_blocks_have_whole_turns_and_leave_no_gap() -> None:
    messages = chat(30)
    where = cut(messages, block_tokens=300, keep_tokens=200, size=words)
    assert len(where.blocks) > 3
    ends = [where.head, *(block.end for block in where.blocks)]
    assert [block.start for block in where.blocks] == ends[:-1]
    assert where.recent == ends[-1]
    assert all(block.size >= 300 for block in where.blocks)
    assert all(isinstance(messages[block.start], HumanMessage) for block in where.blocks[1:])
    rest = sum(words(str(message.text)) + 4 for message in messages[where.recent :])
    assert rest >= 200


def test_the_newest_turn_is_never_in_a_block() -> None:
    messages = [HumanMessage("task"), AIMessage("a " * 50), HumanMessage("long " * 50), AIMessage("b " * 50)]
    where = cut(messages, block_tokens=10, keep_tokens=0, size=words)
    assert [(block.start, block.end) for block in where.blocks] == [(1, 2)]
    assert where.recent == 2


def test_the_handle_names_the_text_of_the_whole_block() -> None:
    messages = [HumanMessage("task"), *with_tool("a", "TP-1180 for 212 EUR"), HumanMessage("Thanks")]
    block = cut(messages, block_tokens=1, keep_tokens=0).blocks[0]
    assert block.original == (
        "User: Find me a flight.\n"
        '[call] find_flights({"to": "LIS", "max_price": 240})\n'
        "[result] find_flights: TP-1180 for 212 EUR\n"
        "Assistant: I found one."
    )
    assert block.handle == handle(block.original)


def test_names_and_days_are_told() -> None:
    turn = Turn(
        0,
        (
            HumanMessage("Hi", name="Ana", additional_kwargs={"timestamp": "2024-05-02T10:00:00Z"}),
            AIMessage("Hello", name="Bot", response_metadata={"created_at": "2024-05-02T10:00:09Z"}),
            HumanMessage("Bye", name="Ana", additional_kwargs={"timestamp": "2024-05-03T10:00:00Z"}),
        ),
        10,
    )
    assert Block(0, (turn,)).original == "[2024-05-02]\nAna: Hi\nBot: Hello\n[2024-05-03]\nAna: Bye"


def test_instructions_pictures_and_what_is_ours_stay() -> None:
    picture = HumanMessage([{"type": "text", "text": "Look"}, {"type": "image", "url": "https://example.com/a.png"}])
    order = SystemMessage("From now on answer in French.")
    ours = HumanMessage("[Earlier conversation]", additional_kwargs={MARK: "digest"})
    turn = Turn(0, (HumanMessage("Hi"), order, picture, ours, AIMessage("Bonjour")), 20)
    block = Block(0, (turn,))
    assert block.kept == (order, picture, ours)
    assert block.original == "User: Hi\nAssistant: Bonjour"


def test_what_is_ours_begins_no_turn() -> None:
    ours = HumanMessage("[From earlier]", additional_kwargs={MARK: "recall"})
    assert [turn.start for turn in turns_of([HumanMessage("a"), AIMessage("b"), ours, HumanMessage("c")])] == [0, 3]


def test_thoughts_and_the_calls_of_a_content_list_are_no_text() -> None:
    content: list[str | dict[str, str]] = [
        {"type": "thinking", "thinking": "hmm", "signature": "s"},
        {"type": "text", "text": "Yes."},
        {"type": "tool_use", "id": "a", "name": "f"},
        "And so on.",
    ]
    assert Block(0, (Turn(0, (AIMessage(content),), 5),)).original == "Assistant: Yes.\nAnd so on."


def test_blocks_wait_until_closing_them_pays_and_are_then_closed_together() -> None:
    messages, asked = chat(40), list[tuple[int, int, int]]()

    def pays(closing: int, after: int, calls: int) -> bool:
        asked.append((closing, after, calls))
        return calls >= 25

    where = cut(messages, block_tokens=300, keep_tokens=200, pays=pays, size=words)
    assert len({block.closed_at for block in where.blocks[:3]}) == 1
    closing, after, calls = next(one for one in asked if one[2] >= 25)
    first = [block for block in where.blocks if block.closed_at == where.blocks[0].closed_at]
    assert closing == sum(block.size for block in first)
    between = messages[first[-1].end : first[-1].closed_at + 1]
    assert after == sum(words(str(message.text)) + 4 for message in between)
    assert calls == sum(isinstance(message, AIMessage) for message in messages[: first[-1].closed_at])


@pytest.mark.parametrize(("caching", "calls"), [("none", 0), ("automatic", 46), ("explicit", 67)])
def test_a_thread_must_have_gone_on_for_a_while_before_closing_pays_at_a_providers_prices(
    caching: Any, calls: int
) -> None:
    write = Decimal("12.5") if caching == "explicit" else Decimal(10)
    rates = Rates(input=Decimal(10), output=Decimal(10), cache_read=Decimal(1), cache_write=write, caching=caching)
    pays = worth_closing(rates, ratio=0.2, recall_tokens=500)
    # Each call expected saves 3,200 tokens at the price of reading, and recalls 100 at that of writing; 2,800 are
    # written instead of read. One call in four is expected.
    assert pays(4_000, 2_000, calls)
    assert calls == 0 or not pays(4_000, 2_000, calls - 1)


def test_the_calls_that_are_expected_must_be_above_none() -> None:
    with pytest.raises(ConfigurationError, match="calls_for_one_more"):
        worth_closing(Rates(input=Decimal(1), output=Decimal(1)), calls_for_one_more=0)


@pytest.mark.parametrize(("argument", "settings"), [("block_tokens", (0, 5)), ("keep_tokens", (5, -1))])
def test_sizes_that_make_no_sense_are_refused(argument: str, settings: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        cut([], block_tokens=settings[0], keep_tokens=settings[1])


@examples(deadline=None)
@given(message_lists(), st.integers(1, 60), st.integers(0, 60), st.integers(0, 6), st.data())
def test_appending_never_changes_a_closed_block(
    messages: list[BaseMessage], block_tokens: int, keep_tokens: int, least_calls: int, data: st.DataObject
) -> None:
    def pays(closing: int, after: int, calls: int) -> bool:
        return calls >= least_calls and closing >= after // 2

    settings: Any = {"block_tokens": block_tokens, "keep_tokens": keep_tokens, "pays": pays if least_calls else None}
    earlier = messages[: data.draw(st.integers(0, len(messages)))]
    before, after = cut(earlier, **settings), cut(messages, **settings)
    assert after.blocks[: len(before.blocks)] == before.blocks
    assert cut(messages, known=before.blocks, **settings) == after
    assert cut(earlier, known=after.blocks, **settings) == before


@examples(deadline=None)
@given(message_lists(), st.integers(1, 60), st.integers(0, 60))
def test_calls_and_their_results_are_on_the_same_side_of_every_cut(
    messages: list[BaseMessage], block_tokens: int, keep_tokens: int
) -> None:
    where = cut(messages, block_tokens=block_tokens, keep_tokens=keep_tokens)
    for at in (where.head, where.recent, *(block.end for block in where.blocks)):
        assert at == len(messages) or not isinstance(messages[at], ToolMessage)
