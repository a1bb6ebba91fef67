"""One tool result as it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import ToolMessage

from langchain_tokopt.context.lossless.ingest import Ingest, ToolResult
from langchain_tokopt.context.lossless.repeats import ShownLines
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.showing import Room, show, take_in
from langchain_tokopt.context.trimming import Wanted
from tests.context.in_part import LOSSLESS, TOOL, handles, large_texts, log

UNDEDUPED = Ingest(dedupe=False, json=True, whitespace=True, min_tokens=8)


def result(content: Any, number: int = 1, *, verbatim: bool = False) -> ToolResult:
    return ToolResult(ToolMessage(content, tool_call_id="c"), number, "read", verbatim)


def room(tokens: int, tool: str | None = TOOL) -> Room:
    return Room(tokens, Wanted(), frozenset(), tool)


def test_what_was_shown_before_becomes_a_reference() -> None:
    lines = ShownLines()
    show(result(log(1)), lines, LOSSLESS, None)
    shown, tokens = show(result(log(1), 2), lines, LOSSLESS, None)
    assert shown.texts == ((None, "[same as tool result 1 (read)]"),)
    assert tokens == text_size("[same as tool result 1 (read)]")


def test_what_is_too_large_is_shown_in_part_and_can_be_referred_to() -> None:
    lines = ShownLines()
    shown, tokens = show(result(log(1)), lines, LOSSLESS, room(100))
    (_, text), (mark,) = *shown.texts, shown.parts
    assert handles(text) == [mark]
    assert tokens == text_size(text)
    assert dict(shown.saved) == {"parts": text_size(log(1)) - tokens}
    again, _ = show(result(log(1), 2), lines, LOSSLESS, None)
    assert again.texts == ((None, "[same as tool result 1 (read)]"),)


def test_lines_that_are_not_shown_are_not_referred_to() -> None:
    lines = ShownLines()
    shown, _ = show(result(log(1)), lines, LOSSLESS, room(60))
    hidden = [line for line in log(1).split("\n") if line not in shown.texts[0][1].split("\n")]
    other, _ = show(result("\n".join(hidden), 2), lines, LOSSLESS, None)
    assert other.texts == ()


def test_a_reference_to_all_of_it_is_better_than_a_part() -> None:
    lines = ShownLines()
    show(result(log(1)), lines, LOSSLESS, None)
    shown, _ = show(result(log(1), 2), lines, LOSSLESS, room(100))
    assert shown.parts == ()
    assert shown.texts == ((None, "[same as tool result 1 (read)]"),)


def test_without_lossless_changes_only_the_room_counts() -> None:
    assert show(result('{ "a":   1 }   '), ShownLines(), None, room(1_000)) == show(
        result('{ "a":   1 }   ', verbatim=True), ShownLines(), None, None
    )
    shown, _ = show(result(log(1)), ShownLines(), None, room(100))
    assert len(shown.parts) == 1


def test_verbatim_results_stay_but_can_be_referred_to() -> None:
    lines = ShownLines()
    shown, tokens = show(result(log(1), verbatim=True), lines, LOSSLESS, room(10))
    assert (shown.texts, tokens) == ((), text_size(log(1)))
    assert show(result(log(1), 2), lines, LOSSLESS, None)[0].texts == ((None, "[same as tool result 1 (read)]"),)


def test_texts_share_the_room_by_their_sizes() -> None:
    blocks = [log(1, 80), {"type": "text", "text": log(2, 20)}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    shown, _ = show(result(blocks), ShownLines(), UNDEDUPED, room(400))
    assert [index for index, _ in shown.texts] == [0, 1]
    large, small = (text_size(text) for _, text in shown.texts)
    assert large > 2 * small
    content = shown.content(ToolMessage(blocks, tool_call_id="c"))
    assert content[2] == blocks[2]


def test_a_text_with_a_reference_of_its_own_is_not_touched() -> None:
    text = f"[same as lines 1-3 of tool result 1]\n{log(1)}"
    shown, tokens = show(result(text), ShownLines(), LOSSLESS, room(50))
    assert (shown.texts, tokens) == ((), text_size(text))


@pytest.mark.parametrize("content", ["", [], [""], [{"type": "text", "text": ""}], [{"type": "image", "base64": ""}]])
def test_what_says_nothing_stays(content: Any) -> None:
    shown, tokens = show(result(content), ShownLines(), LOSSLESS, room(0))
    assert (shown.texts, shown.parts, tokens) == ((), (), 0)


@given(st.lists(st.tuples(large_texts(), st.sampled_from([None, 30, 200])), min_size=1, max_size=5))
def test_what_is_taken_in_is_what_was_shown(given_texts: list[tuple[str, int | None]]) -> None:
    """The index of lines is the same whether a result is shown or taken in as it was shown."""
    one, other = ShownLines(), ShownLines()
    for number, (text, tokens) in enumerate(given_texts, 1):
        before, own = one.mark(), result(text, number)
        shown, size = show(own, one, LOSSLESS, None if tokens is None else room(tokens))
        take_in(own, shown, other, LOSSLESS)
        assert one.mark() == other.mark()
        assert size == sum(map(text_size, shown.shown_texts(own))) <= text_size(text)
        one.undo(before)
        assert show(own, one, LOSSLESS, None if tokens is None else room(tokens)) == (shown, size)
    for number, (text, _) in enumerate(given_texts, len(given_texts) + 1):
        own = result(text, number)
        assert show(own, one, LOSSLESS, None) == show(own, other, LOSSLESS, None)
