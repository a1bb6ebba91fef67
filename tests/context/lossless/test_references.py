"""References: how they are written, and how they are read back."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.context import expand
from langchain_tokopt.context.lossless.references import Place, has_reference, repeated, same_lines, same_text


def results(*contents: Any) -> list[BaseMessage]:
    return [ToolMessage(content, tool_call_id=f"c{n}") for n, content in enumerate(contents)]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (same_lines(41, 212, Place(4, 0, "bash")), "[same as lines 212-252 of tool result 4 (bash)]"),
        (same_lines(1, 3, Place(4, 2, "bash")), "[same as line 3 of tool result 4, part 2 (bash)]"),
        (same_lines(2, 3, None), "[same as lines 3-4 of this result]"),
        (same_text(Place(12)), "[same as tool result 12]"),
        (same_text(Place(12, 0, "a)b\n")), "[same as tool result 12]"),
        (repeated(7), "[line above repeats 7 more times]"),
    ],
)
def test_what_is_written_is_known_again(reference: str, expected: str) -> None:
    assert reference == expected
    assert has_reference(reference)
    assert has_reference(f"one\n{reference}\ntwo")
    assert not has_reference(f"one {reference}")


def test_expand_puts_back_what_references_stand_for() -> None:
    messages = results(
        "a\nb\nc\nd",
        "[same as lines 2-3 of tool result 1 (bash)]\nx",
        "[same as tool result 1]",
        "x\ny\n[same as lines 1-2 of this result]\nz\n[line above repeats 2 more times]",
        [{"type": "text", "text": "p\nq", "id": "b"}, "[same as line 2 of tool result 5, part 1]", {"type": "image"}],
        "[same as line 2 of tool result 2]",
    )
    assert [message.content for message in expand(messages)] == [
        "a\nb\nc\nd",
        "b\nc\nx",
        "a\nb\nc\nd",
        "x\ny\nx\ny\nz\nz\nz",
        [{"type": "text", "text": "p\nq", "id": "b"}, "q", {"type": "image"}],
        "x",
    ]
    assert messages[2].content == "[same as tool result 1]"


def test_expand_leaves_other_messages_alone() -> None:
    messages = [HumanMessage("[same as tool result 1]"), AIMessage("[same as tool result 1]"), *results("a")]
    assert all(new is old for new, old in zip(expand(messages), messages, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "[same as tool result 9]",
        "[same as lines 1-3 of tool result 1]",
        "[same as line 2 of tool result 2]",
        "[same as lines 1-2 of tool result 2]",
    ],
)
def test_a_reference_to_what_is_not_shown_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="points to lines that are not shown"):
        expand(results("a\nb", "x\n[same as line 1 of tool result 1]", text))
