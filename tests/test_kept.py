"""What was asked before an answer and the answer carries: shown to the model before it, each once, as it was."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from langchain_tokopt.kept import carrying, restored
from tests.tools.toolbox import request

ASKED = HumanMessage("Export the server", id="h1")
SEARCH = AIMessage(
    [
        {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
        {"type": "tool_use", "id": "s1", "name": "find", "input": {}},
    ],
    id="a1",
    tool_calls=[{"name": "find", "args": {}, "id": "s1"}],
    response_metadata={"model_provider": "anthropic", "model_name": "m", "id": "msg_1"},
    usage_metadata={"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
)
FOUND = ToolMessage("- export_server", name="find", tool_call_id="s1", artifact={"names": ["export_server"]})
REFUSED = ToolMessage("No.", name="find", tool_call_id="s1", status="error")
ANSWER = AIMessage("", id="a2", tool_calls=[{"name": "export_server", "args": {}, "id": "c1"}])


def carried(*before: AnyMessage, answer: AIMessage = ANSWER) -> Any:
    return carrying([answer], before)[0]


def shown(*messages: AnyMessage) -> list[AnyMessage]:
    return restored(request([], *messages)).messages


def test_an_answer_after_no_search_is_the_same_object() -> None:
    assert carrying([ANSWER], [])[0] is ANSWER
    plain = request([], ASKED, ANSWER)
    assert restored(plain) is plain


def test_an_answer_that_carries_a_search_is_otherwise_the_same_and_is_not_changed_in_place() -> None:
    answer = carried(SEARCH, FOUND)
    assert ANSWER.additional_kwargs == {}
    assert answer.model_copy(update={"additional_kwargs": {}}) == ANSWER
    assert json.loads(json.dumps(answer.additional_kwargs)) == answer.additional_kwargs


def test_the_search_stands_before_the_answer_as_it_was_but_for_what_it_was_billed() -> None:
    answer = carried(SEARCH, FOUND)
    stored = AIMessage.model_validate_json(answer.model_dump_json())
    messages = shown(ASKED, stored)
    assert messages[0] is ASKED
    assert messages[3] is stored
    assert messages[1] == SEARCH.model_copy(
        update={"usage_metadata": None, "response_metadata": {"model_provider": "anthropic"}}
    )
    assert messages[2] == FOUND


def test_an_id_that_all_answers_of_a_step_have_is_not_kept() -> None:
    search = SEARCH.model_copy(update={"id": "lc_run--1"})
    ids = [message.id for message in shown(ASKED, carried(search, FOUND, answer=AIMessage("Done.", id="lc_run--1")))]
    assert ids == ["h1", None, None, "lc_run--1"]


def test_a_result_keeps_its_status() -> None:
    assert shown(ASKED, carried(SEARCH, REFUSED))[2] == REFUSED


def test_the_thread_holds_the_same_objects_as_the_messages_that_are_shown_of_it() -> None:
    answer = carried(SEARCH, FOUND)
    part = request([], ASKED, answer, state={"messages": [HumanMessage("before"), ASKED, answer], "kept": 1})
    seen = restored(part)
    assert [id(one) for one in seen.messages] == [id(one) for one in seen.state["messages"][1:]]
    assert seen.state["kept"] == 1
    assert part.state["messages"] == [HumanMessage("before"), ASKED, answer]
    assert part.messages == [ASKED, answer]


def test_a_thread_without_messages_stays_without() -> None:
    seen = restored(request([], ASKED, carried(SEARCH, FOUND), state={}))
    assert len(seen.messages) == 4
    assert "messages" not in seen.state


def test_an_answer_that_is_given_twice_shows_its_search_once() -> None:
    answer = carried(SEARCH, FOUND, answer=AIMessage("Exported.", id="a2"))
    again = answer.model_copy(update={"id": "a3"})
    messages = shown(ASKED, answer, ASKED, again)
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai", "human", "ai"]


def test_an_answer_that_a_cache_gave_shows_no_search_of_another_thread() -> None:
    answer = carried(SEARCH, FOUND, answer=AIMessage("Exported.", response_metadata={"tokopt": {"entry": 1}}))
    assert shown(ASKED, answer) == [ASKED, answer]


# --- several flows around each other ---------------------------------------------------------------------------------

READ = AIMessage("Hm.", id="a0", tool_calls=[{"name": "retrieve", "args": {}, "id": "r1"}])
TEXT = ToolMessage("all of it", name="retrieve", tool_call_id="r1", artifact={"ours": True})


def plainly(messages: list[AnyMessage]) -> list[AnyMessage]:
    """The messages without what they carry."""
    return [message.model_copy(update={"additional_kwargs": {}, "response_metadata": {}}) for message in messages]


def test_what_a_flow_further_out_asked_came_before_what_the_answer_carries() -> None:
    inner = carried(READ, TEXT)
    outer = carried(REFUSED, answer=inner)
    assert plainly(shown(ASKED, outer)) == [ASKED, REFUSED, READ, TEXT, ANSWER]
    assert carrying([inner], [])[0] is inner


def test_what_an_asked_message_carries_came_before_it() -> None:
    searching = AIMessage("Hm. Let me see.", id="a1", tool_calls=SEARCH.tool_calls)
    inner = carried(READ, TEXT, answer=searching)
    answer = carried(inner, FOUND, answer=AIMessage("Done.", id="a2"))
    messages = shown(ASKED, answer)
    assert plainly(messages) == [ASKED, READ, TEXT, searching, FOUND, AIMessage("Done.", id="a2")]
    assert not any(message.additional_kwargs for message in messages[:-1])


def test_an_answer_that_was_changed_further_out_is_kept_as_it_is_then() -> None:
    inner = carried(READ, TEXT, answer=AIMessage("Done.", id="a2"))
    changed = inner.model_copy(update={"content": "Done!"})
    streamed = carrying([changed], [])[0].model_copy(update={"content": "Hm.Done!"})
    assert [message.text for message in shown(ASKED, streamed)] == [ASKED.text, "Hm.", "all of it", "Done!"]


def test_it_is_put_back_once_by_whichever_flow_comes_first() -> None:
    answer = carried(REFUSED, answer=carried(READ, TEXT))
    stored = AIMessage.model_validate_json(answer.model_dump_json())
    once = restored(request([], ASKED, stored, ASKED))
    assert restored(once).messages == once.messages
    assert len(once.messages) == 6


def test_calls_that_are_counted_from_zero_in_each_turn_are_put_back_in_each() -> None:
    again = carried(READ, TEXT, answer=AIMessage("Again.", id="a3"))
    other = AIMessage("", tool_calls=[{"name": "read", "args": {}, "id": "r1"}])
    messages = shown(ASKED, other, ToolMessage("x", tool_call_id="r1"), ASKED, again)
    assert len(messages) == 7
