"""The tool that gives back what is shown in part: its schema, the texts that it finds, its answers to any call."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_tokopt import TokenOptimizer
from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.retrieval import (
    NAME,
    Originals,
    answer,
    is_retrieved,
    refusal,
    retrieval_name,
    retrieval_schema,
    unreadable,
)
from langchain_tokopt.estimate import estimate
from tests.fakes import TableEmbeddings

FILE = "\n".join(f"{n}: the order of customer {n * 7919 % 1000} was sent" for n in range(1, 3001))
PAGE = "a page\nof some lines"
THREAD = [
    HumanMessage("Read them."),
    AIMessage("", tool_calls=[{"name": "read", "args": {}, "id": "c1"}, {"name": "read", "args": {}, "id": "c2"}]),
    ToolMessage(FILE, name="read", tool_call_id="c1"),
    ToolMessage(
        [{"type": "text", "text": PAGE}, {"type": "image", "url": "x"}, "more"], name="read", tool_call_id="c2"
    ),
]
ORIGINALS = Originals(THREAD, {"0badcafe": "a block of messages"})


def asked(originals: Originals = ORIGINALS, /, **args: Any) -> ToolMessage:
    return answer({"name": NAME, "args": args, "id": "r1", "type": "tool_call"}, originals)


# --- the tool --------------------------------------------------------------------------------------------------------


def test_it_has_its_name_where_that_is_free() -> None:
    assert retrieval_name([]) == retrieval_name({"read"}) == NAME
    assert retrieval_name({NAME}) == "retrieve_original_2"
    assert retrieval_name({NAME, "retrieve_original_2"}) == "retrieve_original_3"


def test_its_schema_is_small() -> None:
    schema = retrieval_schema(NAME)
    assert schema["function"]["parameters"]["required"] == ["id"]
    assert set(schema["function"]["parameters"]["properties"]) == {"id", "query", "start"}
    assert estimate(json.dumps(schema)) < 120


def test_a_strict_schema_asks_for_everything_and_allows_nothing_else() -> None:
    function = retrieval_schema("get_it", strict=True)["function"]
    assert (function["name"], function["strict"]) == ("get_it", True)
    parameters = function["parameters"]
    assert parameters["additionalProperties"] is False
    assert parameters["required"] == list(parameters["properties"])
    assert retrieval_schema(NAME) == retrieval_schema(NAME)


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [FILE, PAGE, "more", PAGE + "more", "Read them."])
def test_each_text_of_the_thread_is_found_by_its_id(text: str) -> None:
    assert ORIGINALS.find(handle(text)) == text
    assert ORIGINALS.find(handle(text).upper()) == text


def test_further_texts_are_found_by_theirs() -> None:
    assert ORIGINALS.find("0badcafe") == "a block of messages"
    assert ORIGINALS.find("00000000") is None


@given(st.text(st.characters(), min_size=1, max_size=300))
def test_any_text_comes_back_whole(text: str) -> None:
    originals = Originals([ToolMessage("", tool_call_id="c").model_copy(update={"content": text})])
    assert originals.find(handle(text)) == text
    assert asked(originals, id=handle(text)).content == text


def test_a_lone_surrogate_is_written_out_so_that_it_can_be_sent() -> None:
    text = "before \udc80 after \x00"
    originals = Originals([ToolMessage("", tool_call_id="c").model_copy(update={"content": text})])
    assert originals.find(handle(text)) == text
    assert asked(originals, id=handle(text)).content == "before \\udc80 after \x00"


def test_five_megabytes_come_back_in_parts() -> None:
    text = "\n".join(f"{n} some words that say little" for n in range(150_000))
    originals = Originals([ToolMessage(text, tool_call_id="c")])
    first = asked(originals, id=handle(text)).text
    assert text.startswith(first.rpartition("[")[0])
    last = asked(originals, id=handle(text), start=149_990).text
    assert last == text[-len(last) :]
    assert "\n140001: 140000 some words that say little\n" in asked(originals, id=handle(text), query="140000").text


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_result_belongs_to_its_call_and_is_known_by_what_it_has_with_it() -> None:
    result = asked(id=handle(PAGE))
    assert (result.content, result.name, result.tool_call_id, result.status) == (PAGE, NAME, "r1", "success")
    assert is_retrieved(result)
    assert json.loads(json.dumps(result.artifact)) == result.artifact


@pytest.mark.parametrize("name", [NAME, "retrieve_original_2"])
def test_it_is_known_by_its_name_where_artifacts_are_not_kept(name: str) -> None:
    result = answer({"name": name, "args": {"id": "x"}, "id": "r1"}, ORIGINALS)
    assert is_retrieved(result.model_copy(update={"artifact": None}))


def test_other_results_are_not_taken_for_one() -> None:
    assert not any(is_retrieved(message) for message in THREAD if isinstance(message, ToolMessage))
    assert not is_retrieved(ToolMessage("x", tool_call_id="c", name="retrieve_original_text"))
    assert not is_retrieved(ToolMessage("x", tool_call_id="c", name=NAME, artifact={"own": 1}))


@pytest.mark.parametrize("form", ["{}", " {} ", '"{}"', "[{}]", "`{}`", "<{}>", "(#{})"])
def test_an_id_may_be_written_as_models_do(form: str) -> None:
    assert asked(id=form.format(handle(PAGE))).content == PAGE


@pytest.mark.parametrize("start", [2990, "2990", 2990.0])
def test_a_line_may_be_written_as_models_do(start: Any) -> None:
    assert asked(id=handle(FILE), start=start).text.startswith("2990: ")


@pytest.mark.parametrize("more", [{"query": None, "start": None}, {"query": "", "start": 0}, {"start": -3}, {"k": 7}])
def test_what_says_nothing_is_taken_for_nothing(more: dict[str, Any]) -> None:
    assert asked(id=handle(FILE), **more).content == asked(id=handle(FILE)).content


def test_words_to_look_for_give_lines() -> None:
    assert "1500: 1500: the order of customer 500 was sent" in asked(id=handle(FILE), query="customer 500").text


def test_where_a_line_was_cut_the_text_goes_on() -> None:
    text = "word " * 20_000
    originals = Originals([ToolMessage(text, tool_call_id="c")])
    first = asked(originals, id=handle(text)).text
    found = re.search(r'go on with id="(\w+\+\d+)"\]$', first)
    assert found is not None
    second = asked(originals, id=found[1]).text
    assert text.startswith(first.rpartition("\n")[0] + second.rpartition("\n")[0])
    assert second != first


BAD = [
    ({}, "Give the text's `id` as a string."),
    ({"id": None}, "Give the text's `id` as a string."),
    ({"id": 7}, "Give the text's `id` as a string."),
    ({"id": "  "}, "Give the text's `id` as a string."),
    ({"id": "the one above"}, "'the one above' is no id. Give only the id, as it was shown."),
    ({"id": handle(PAGE), "query": ["a"]}, "`query` must be a string: some words to look for."),
    ({"id": handle(PAGE), "start": True}, "`start` must be a whole number: the first line that you want."),
    ({"id": handle(PAGE), "start": "first"}, "`start` must be a whole number: the first line that you want."),
    ({"id": handle(PAGE), "start": 1.5}, "`start` must be a whole number: the first line that you want."),
    ({"id": handle(PAGE), "start": float("nan")}, "`start` must be a whole number: the first line that you want."),
    ({"id": handle(PAGE), "start": 3}, "The text has only 2 lines and 20 characters."),
]


@pytest.mark.parametrize(("args", "error"), BAD)
def test_bad_arguments_are_told(args: dict[str, Any], error: str) -> None:
    result = asked(**args)
    assert (result.content, result.status) == (error, "error")
    assert is_retrieved(result)


def test_an_id_that_is_nearly_right_is_told_the_right_one_first() -> None:
    real = handle(FILE)
    wrong = real[:-1] + ("0" if real[-1] != "0" else "1")
    result = asked(id=wrong)
    assert result.status == "error"
    assert result.text.startswith(f"There is no text with the id '{wrong}'. The ids that come nearest are: {real}, ")


def test_only_ids_that_the_model_was_told_of_are_named() -> None:
    originals = Originals(THREAD, marked=[handle(PAGE)])
    assert asked(originals, id="ffffffff").text.endswith(f"The ids that come nearest are: {handle(PAGE)}.")
    assert asked(Originals([]), id="ffffffff").text == "There is no text with the id 'ffffffff'. No text here has one."


def test_what_was_given_back_is_no_text_of_its_own() -> None:
    again = asked(id=handle(FILE), start=2990)
    assert Originals([*THREAD, again]).find(handle(again.text)) is None


@given(
    st.dictionaries(
        st.sampled_from(["id", "query", "start", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(handle(FILE)),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=3,
        ),
    )
)
def test_any_call_has_an_answer_that_can_be_sent(args: dict[str, Any]) -> None:
    result = answer({"name": NAME, "args": args, "id": "r1"}, ORIGINALS)
    assert result.text.encode()


def test_calls_that_cannot_be_read_and_calls_too_many_are_answered() -> None:
    assert unreadable({"name": NAME, "id": "r1", "args": '{"id'}).status == "error"
    assert refusal({"name": NAME, "id": "r1", "args": {}}).status == "success"
    assert is_retrieved(unreadable({"name": NAME, "id": None, "args": ""}))


def test_the_cache_takes_what_was_given_back_for_no_news_from_outside() -> None:
    with TokenOptimizer(embeddings=TableEmbeddings(dim=8)) as tokopt:
        assert tokopt.cache is not None
        ours = tokopt.cache.rules.own_result
        assert ours is not None
        assert ours(asked(id=handle(PAGE)))
        assert not any(ours(message) for message in THREAD if isinstance(message, ToolMessage))
