from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from langchain_tokopt.context.lossless.ingest import ShownResult
from langchain_tokopt.context.shown_copies import ShownCopies

SHOWN = ShownResult(texts=((None, "short"),))


def result(content: Any = "a long text", **fields: Any) -> ToolMessage:
    return ToolMessage(content, tool_call_id="c", id="m", name="read", **fields)


def test_the_same_message_is_shown_as_the_same_object() -> None:
    copies, message = ShownCopies(limit=10), result()
    first = copies.of(message, SHOWN)
    assert first.content == "short"
    assert (first.id, first.name, first.tool_call_id) == ("m", "read", "c")
    assert copies.of(message, SHOWN) is first
    assert message.content == "a long text"


@pytest.mark.parametrize(
    ("field", "value"),
    [("content", "another text"), ("name", "write"), ("artifact", {"a": 1}), ("additional_kwargs", {"a": 1})],
)
def test_a_message_that_was_changed_is_shown_anew(field: str, value: Any) -> None:
    copies, message = ShownCopies(limit=10), result()
    first = copies.of(message, SHOWN)
    setattr(message, field, value)
    second = copies.of(message, SHOWN)
    assert second is not first
    assert getattr(second, field) == ("short" if field == "content" else value)


def test_a_copy_that_somebody_changed_is_made_anew() -> None:
    copies, message = ShownCopies(limit=10), result()
    copies.of(message, SHOWN).content = "spoiled"
    assert copies.of(message, SHOWN).content == "short"
    copies.of(message, SHOWN).additional_kwargs["cache_control"] = {}
    assert copies.of(message, SHOWN).additional_kwargs == {}
    assert message.additional_kwargs == {}


def test_what_is_shown_in_another_way_is_another_copy() -> None:
    copies, message = ShownCopies(limit=10), result()
    copies.of(message, SHOWN)
    assert copies.of(message, ShownResult(texts=((None, "shorter"),))).content == "shorter"


def test_blocks_are_never_remembered_and_not_shared() -> None:
    copies, message = ShownCopies(limit=10), result([{"type": "text", "text": "a long text"}])
    shown = ShownResult(texts=((0, "short"),))
    assert copies.of(message, shown) is not copies.of(message, shown)


def test_no_more_than_the_limit_are_remembered() -> None:
    copies = ShownCopies(limit=2)
    messages = [result(f"text {n}") for n in range(5)]
    for message in messages:
        copies.of(message, SHOWN)
    assert len(copies._made) <= 2
    nothing = ShownCopies(limit=0)
    assert nothing.of(messages[0], SHOWN) is not nothing.of(messages[0], SHOWN)
