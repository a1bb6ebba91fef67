"""What the view of a history looks like, what it leaves alone, and what is remembered."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage, message_to_dict

from langchain_tokopt.context import HistoryCompression, compress_messages, history, progress, threads
from langchain_tokopt.context.lossless.ingest import ShownResult, ToolResult
from langchain_tokopt.context.showing import show
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.tokens import TokenCounter

FILE = "\n".join(f"{n}: the file has a line like this one, and {n * 7919} is its number" for n in range(60))


def asked(*names: str, id: str | None = None) -> AIMessage:  # noqa: A002 - the message's own field
    calls = [{"name": name, "args": {}, "id": f"c{n}", "type": "tool_call"} for n, name in enumerate(names)]
    return AIMessage("", tool_calls=calls, id=id)


def thread(*contents: Any, name: str = "bash") -> list[BaseMessage]:
    """A history in which the tool gave these results, one after the other."""
    messages: list[BaseMessage] = [HumanMessage("go")]
    for content in contents:
        messages += [asked(name), ToolMessage(content, tool_call_id="c0")]
    return messages


def shown(*contents: Any, **options: Any) -> list[Any]:
    """What the model sees of these results."""
    return [m.content for m in HistoryCompression(**options).view(thread(*contents)) if isinstance(m, ToolMessage)]


def everything(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    return [message_to_dict(message) for message in messages]


# --- repeats ---------------------------------------------------------------------------------------------------------


def test_a_result_that_was_shown_before_becomes_a_reference_to_its_earliest_copy() -> None:
    assert shown(FILE, FILE, "something else", FILE) == [
        FILE,
        "[same as tool result 1 (bash)]",
        "something else",
        "[same as tool result 1 (bash)]",
    ]


def test_parallel_results_of_one_turn_refer_to_each_other() -> None:
    messages = [
        HumanMessage("go"),
        asked("cat", "cat"),
        ToolMessage(FILE, tool_call_id="c1"),
        ToolMessage(FILE, tool_call_id="c0"),
    ]
    view = HistoryCompression().view(messages)
    assert [m.content for m in view[2:]] == [FILE, "[same as tool result 1 (cat)]"]


def test_a_file_read_in_overlapping_pieces_is_shown_once() -> None:
    lines = FILE.split("\n")
    pieces = ["\n".join(lines[0:30]), "\n".join(lines[20:50]), "\n".join(lines[10:60])]
    assert shown(*pieces) == [
        pieces[0],
        "\n".join(["[same as lines 21-30 of tool result 1 (bash)]", *lines[30:50]]),
        # The first line of a long run stays, and every reference is to lines that are shown word for word.
        "\n".join(
            [
                lines[10],
                "[same as lines 12-30 of tool result 1 (bash)]",
                lines[30],
                "[same as lines 3-21 of tool result 2 (bash)]",
                *lines[50:60],
            ]
        ),
    ]


def test_a_line_that_comes_many_times_is_shown_once() -> None:
    log = "\n".join(["start", *["retrying the connection to the database"] * 40, "end"])
    assert shown(log) == ["start\nretrying the connection to the database\n[line above repeats 39 more times]\nend"]


def test_a_block_that_comes_again_in_one_result_is_shown_once() -> None:
    block = [f"step {n} of the pipeline took {n * 37} ms and used {n * 91} MB" for n in range(8)]
    (text,) = shown("\n".join([*block, "second run", *block]))
    assert text == "\n".join([*block, "second run", "[same as lines 1-8 of this result]"])


def test_an_edited_line_is_shown_and_the_rest_is_not() -> None:
    lines = FILE.split("\n")
    edited = [*lines[:30], "30: this line was edited", *lines[31:]]
    assert shown(FILE, "\n".join(edited))[1] == "\n".join(
        [
            lines[0],
            "[same as lines 2-30 of tool result 1 (bash)]",
            "30: this line was edited",
            lines[31],
            "[same as lines 33-60 of tool result 1 (bash)]",
        ]
    )


def test_short_runs_are_not_worth_a_reference() -> None:
    assert shown("a = 1\nb = 2\nc = 3", "a = 1\nb = 2\nc = 3") == ["a = 1\nb = 2\nc = 3"] * 2
    assert shown(FILE, FILE, min_tokens=10_000) == [FILE, FILE]


def test_a_text_with_a_line_like_a_reference_is_neither_changed_nor_hides_that_line() -> None:
    echo = f"{FILE}\n[same as lines 1-5 of tool result 1 (bash)]\n{FILE}"
    assert shown(FILE, echo) == [FILE, echo]
    assert shown(echo, echo) == [echo, echo]


def test_a_tool_whose_name_could_be_mistaken_is_not_named() -> None:
    view = HistoryCompression().view(thread(FILE, FILE, name="x) of tool result 9 ("))
    assert view[-1].content == "[same as tool result 1]"


# --- what is left alone ----------------------------------------------------------------------------------------------


def test_errors_stay_word_for_word_and_can_be_referred_to() -> None:
    messages = thread(FILE, FILE, FILE)
    messages[2] = ToolMessage(FILE, tool_call_id="c0", status="error")
    messages[4] = ToolMessage(FILE, tool_call_id="c0", status="error")
    view = HistoryCompression().view(messages)
    assert view[2] is messages[2]
    assert view[4] is messages[4]
    assert view[6].content == "[same as tool result 1 (bash)]"


def test_results_of_tools_that_are_never_touched_stay() -> None:
    messages = [
        HumanMessage("go"),
        asked("bash", "retrieve"),
        ToolMessage(FILE, tool_call_id="c0"),
        ToolMessage(FILE, tool_call_id="c1"),
    ]
    view = HistoryCompression(never={"retrieve"}).view(messages)
    assert view[3] is messages[3]


def test_blocks_that_are_no_text_stay_and_text_blocks_keep_their_other_keys() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": FILE, "cache_control": {"type": "ephemeral"}}
    (first, second) = shown(FILE, [image, text, FILE])
    assert first == FILE
    assert second == [
        image,
        {"type": "text", "text": "[same as tool result 1 (bash)]", "cache_control": {"type": "ephemeral"}},
        "[same as tool result 1 (bash)]",
    ]
    assert text["text"] == FILE
    other = [{"type": "text", "text": "no"}, {"type": "text", "text": FILE}]
    assert shown(other, FILE)[1] == "[same as tool result 1, part 2 (bash)]"


def test_other_blocks_of_equal_texts_are_not_mixed_up() -> None:
    compression = HistoryCompression()
    for url in ("data:one", "data:two"):
        image = {"type": "image_url", "image_url": {"url": url}}
        view = compression.view(thread(FILE, [image, {"type": "text", "text": FILE}]))
        assert view[-1].content[0] == image


def test_everything_but_the_text_of_a_result_survives() -> None:
    artifact = object()
    message = ToolMessage(
        FILE, tool_call_id="c0", id="t2", name="bash", artifact=artifact, additional_kwargs={"a": 1}, status="success"
    )
    messages = [*thread(FILE), asked("bash"), message]
    new = HistoryCompression().view(messages)[-1]
    assert isinstance(new, ToolMessage)
    assert new.content != FILE
    assert (new.id, new.name, new.tool_call_id, new.status) == ("t2", "bash", "c0", "success")
    assert new.artifact is artifact
    assert new.additional_kwargs == {"a": 1}
    assert message.content == FILE


def test_results_before_start_are_shown_as_they_are() -> None:
    messages = thread(FILE, FILE, FILE)
    view = HistoryCompression().view(messages, start=5)
    assert view[4] is messages[4]
    assert view[6].content == "[same as tool result 1 (bash)]"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ([ToolMessage("x", tool_call_id="c0")], "a tool result stands without its call"),
        ([asked("bash")], "a tool call has no result"),
        ([asked("bash"), HumanMessage("and?")], "a tool call has no result"),
        ([HumanMessage("a", id="1"), HumanMessage("b", id="1")], "a message id comes twice"),
        ([RemoveMessage(id="1")], "a RemoveMessage"),
    ],
)
def test_a_broken_history_is_passed_through_and_reported_once(
    broken: list[BaseMessage], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [*thread(FILE, FILE), *broken]
    compression = HistoryCompression()
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        for _ in range(3):
            view = compression.examine(messages)
            assert view.problem is not None
            assert view.problem.startswith(why)
            assert all(new is old for new, old in zip(view.messages, messages, strict=True))
    assert len(caplog.records) == 1
    assert why in caplog.text


def test_an_edit_that_touches_more_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "only_results_changed", lambda before, after: False)
    messages = thread(FILE, FILE)
    view = HistoryCompression().examine(messages)
    assert all(new is old for new, old in zip(view.messages, messages, strict=True))
    assert view.problem == "the edit would have touched more than the text of tool results"


@pytest.mark.parametrize("off", [{"lossless": False}, {"dedupe": False, "json": False, "whitespace": False}])
def test_switched_off_it_shows_the_messages(off: dict[str, bool]) -> None:
    messages = thread(FILE, FILE)
    assert all(a is b for a, b in zip(HistoryCompression(**off).view(messages), messages, strict=True))  # type: ignore[arg-type]


def test_each_kind_of_change_can_be_switched_off() -> None:
    pretty = json.dumps({"a": 1, "b": [1, 2, 3, 4], "c": {"d": [5, 6, 7]}}, indent=8)
    bar = "\r".join(f"{n} % of 812 files are downloaded" for n in range(101))
    log = "\n".join(["the same line of a log that goes on and on"] * 9)
    for switch, text in {"json": pretty, "whitespace": bar, "dedupe": log}.items():
        assert shown(text)[0] != text
        assert shown(text, **{switch: False})[0] == text


# --- remembering -----------------------------------------------------------------------------------------------------


def test_a_growing_history_costs_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []

    def counted(result: ToolResult, *rest: Any) -> ShownResult:
        computed.append(result.number)
        return show(result, *rest)

    monkeypatch.setattr(progress, "show", counted)
    compression = HistoryCompression()
    contents = [FILE, FILE + "\nmore", FILE, "other", FILE + "\nmore"]
    for end in range(1, 6):
        compression.view(thread(*contents[:end]))
        compression.view(thread(*contents[:end]))
    assert computed == [1, 2, 3, 4, 5]


def test_a_history_that_goes_on_in_two_ways_is_right_in_both() -> None:
    compression = HistoryCompression()
    lines = FILE.split("\n")
    left, right = "\n".join(lines[5:40]), "\n".join(["other", *lines[20:55]])
    compression.view(thread(FILE))
    for branch in (left, right, left + "\nend", right + "\nend"):
        for contents in ((FILE, branch), (FILE, branch, branch)):
            assert compression.view(thread(*contents)) == compress_messages(thread(*contents))


def test_what_is_remembered_is_bounded_and_what_was_forgotten_is_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "REMEMBERED_LINES", 1_000)
    compression = HistoryCompression()
    for turn in range(30):
        messages = thread(*[f"{n % 3} begins\n{FILE}" for n in range(turn)])
        assert compression.view(messages) == compress_messages(messages)
        assert compression._threads._read.weight <= 1_000
    assert 0 < len(compression._threads._read) < 15


def test_threads_may_share_one_object() -> None:
    compression = HistoryCompression()
    histories = [thread(*[f"{start}\n{FILE}"] * count) for start in range(3) for count in range(1, 8)]
    expected = [compress_messages(messages) for messages in histories]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for n in range(len(histories) * 3):
            index = (n * 5 + offset) % len(histories)
            if compression.view(histories[index]) != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


def test_another_process_gives_the_same_bytes() -> None:
    contents = [
        FILE,
        FILE + "\nend",
        json.dumps([{"id": n, "name": f"user {n}"} for n in range(9)]),
        "10 %\r20 %\r100 %" * 9,
    ]
    script = (
        "import json, sys\n"
        "from langchain_core.messages import messages_from_dict\n"
        "from langchain_tokopt.context import compress_messages\n"
        "view = compress_messages(messages_from_dict(json.load(sys.stdin)))\n"
        "json.dump([message.content for message in view], sys.stdout)\n"
    )
    messages = thread(*contents)
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(everything(messages)),
            capture_output=True,
            text=True,
            check=True,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "TIKTOKEN_CACHE_DIR": "",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        assert json.loads(done.stdout) == [message.content for message in compress_messages(messages)]


# --- use -------------------------------------------------------------------------------------------------------------


def test_as_a_pre_model_hook() -> None:
    state = {"messages": thread(FILE, FILE)}
    hook = HistoryCompression().pre_model_hook(state)
    assert list(hook) == ["llm_input_messages"]
    assert hook["llm_input_messages"][-1].content == "[same as tool result 1 (bash)]"
    assert state["messages"][-1].content == FILE


def test_the_view_says_what_was_changed() -> None:
    pretty = json.dumps([{"id": n, "name": f"user {n}"} for n in range(9)], indent=4)
    view = HistoryCompression().examine(thread(FILE, pretty, FILE))
    assert view.changed == (4, 6)
    assert set(view.saved) == {"json", "repeats"}
    assert all(tokens > 0 for tokens in view.saved.values())


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
def test_min_tokens_must_be_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="min_tokens"):
        HistoryCompression(min_tokens=value)


@pytest.mark.parametrize("value", ["retrieve", [1]])
def test_never_must_be_names(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="never"):
        HistoryCompression(never=value)


def test_what_is_given_wins_over_what_is_attached() -> None:
    counter, other, pricing = TokenCounter(), TokenCounter(), Pricing()
    compression = HistoryCompression(counter=counter)
    assert compression.attach(counter=other, pricing=pricing) is compression
    assert compression.counter is counter
    assert compression.pricing is pricing
