"""Views of a history that fit into a number of tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, message_to_dict

from langchain_tokopt.context.fitting import fit
from langchain_tokopt.context.fitting.forms import READ_HEAD, READ_TAIL, _sentences_of, names_line
from langchain_tokopt.context.fitting.units import units_of
from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.memory.render import made_here
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.context.validate import problem
from langchain_tokopt.errors import ConfigurationError, ContextTooLargeError
from langchain_tokopt.tokens import TokenCounter
from tests.strategies import message_lists

COUNTER = TokenCounter()
LISTING = "\n".join(f"src/orders/module_{n}.py has {n * 37} lines and was changed by somebody" for n in range(200))


def size(messages: list[BaseMessage]) -> int:
    return COUNTER.messages(messages)


def everything(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    return [message_to_dict(message) for message in messages]


def own(view: list[BaseMessage]) -> list[BaseMessage]:
    """What is shown of the history itself."""
    return [message for message in view if not made_here(message)]


def notes(view: list[BaseMessage]) -> list[BaseMessage]:
    return [message for message in view if made_here(message)]


def call(number: int, name: str = "read", text: str = "", **args: Any) -> AIMessage:
    calls = [{"name": name, "args": args, "id": f"c{number}", "type": "tool_call"}]
    return AIMessage(text, tool_calls=calls, id=f"a{number}")


def result(number: int, text: str, **fields: Any) -> ToolMessage:
    return ToolMessage(text, tool_call_id=f"c{number}", id=f"r{number}", **fields)


def run(steps: int, text: str = LISTING) -> list[BaseMessage]:
    messages: list[BaseMessage] = [SystemMessage("You fix bugs.", id="s"), HumanMessage("Fix the total.", id="h")]
    for n in range(steps):
        messages += [call(n, path=f"src/orders/module_{n}.py"), result(n, f"{n}\n{text}")]
    return messages


def chat(turns: int) -> list[BaseMessage]:
    messages: list[BaseMessage] = [SystemMessage("Be kind.", id="s")]
    for n in range(turns):
        messages += [
            HumanMessage(f"On day {n} I saw a film about number {n * 7919} and a bird.", id=f"u{n}"),
            AIMessage(f"What did you think of the film of day {n}?", id=f"b{n}"),
        ]
    return messages


# --- what fits, and what cannot be judged ----------------------------------------------------------------------------


def test_what_fits_stays_as_it_is() -> None:
    messages = chat(3)
    view = fit(messages, size(messages))
    assert view is not messages
    assert all(new is old for new, old in zip(view, messages, strict=True))
    assert fit([], 1) == []


def test_a_list_that_no_provider_takes_comes_back() -> None:
    messages = [HumanMessage("x " * 500), result(1, "stray")]
    assert fit(messages, 10) == messages


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, "many", True, None])
def test_limits_that_cannot_be_are_refused(max_tokens: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens"):
        fit(chat(1), max_tokens)


def test_a_negative_number_of_messages_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="keep_last"):
        fit(chat(1), 100, keep_last=-1)


# --- what stays ------------------------------------------------------------------------------------------------------


def test_system_task_and_newest_exchange_stay_word_for_word() -> None:
    messages = [*chat(60), HumanMessage("And which bird was it?", id="q"), call(1), result(1, "a heron")]
    view = fit(messages, size(messages) // 5)
    assert size(view) <= size(messages) // 5
    assert view[0] is messages[0]
    assert view[1] is messages[1]
    assert all(new is old for new, old in zip(view[-3:], messages[-3:], strict=True))


def test_the_last_messages_stay_whole() -> None:
    messages = chat(60)
    view = fit(messages, size(messages) // 4, keep_last=8)
    assert all(new is old for new, old in zip(view[-8:], messages[-8:], strict=True))


def test_what_the_user_asked_for_once_and_for_all_stays() -> None:
    messages = chat(60)
    messages[21] = HumanMessage("From now on always answer in German.", id="rule")
    view = fit(messages, size(messages) // 5)
    assert any(message is messages[21] for message in view)


def test_what_the_question_needs_stays() -> None:
    messages = chat(60)
    messages[31] = HumanMessage("My sister Ines restores old tiles for a museum in Porto.", id="fact")
    for budget in (0.1, 0.2, 0.4):
        view = fit(messages, int(size(messages) * budget), query="Where does Ines restore tiles?")
        assert any(message is messages[31] for message in view)


def test_the_newest_text_of_the_user_is_the_question_by_default() -> None:
    messages = chat(60)
    messages[31] = HumanMessage("My sister Ines restores old tiles for a museum in Porto.", id="fact")
    messages.append(HumanMessage("Where does Ines restore tiles?", id="q"))
    assert any(message is messages[31] for message in fit(messages, size(messages) // 10))


def test_the_first_thought_of_an_answer_stays() -> None:
    thought = [{"type": "thinking", "thinking": "hm " * 40, "signature": "x"}]
    messages = run(12)
    messages[2] = AIMessage(thought, tool_calls=messages[2].tool_calls, id="a0")  # type: ignore[attr-defined]
    view = fit(messages, size(messages) // 6)
    kept = next(message for message in view if message.id == "a0")
    assert kept is messages[2]


def test_text_beside_thoughts_is_never_cut() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "This is a sentence about nothing in particular. " * 100},
    ]
    messages = [*chat(2), AIMessage(content, id="long"), *chat(0)[1:], HumanMessage("go on", id="q")]
    view = fit(messages, size(messages) // 2)
    assert all(message.content == content for message in view if message.id == "long")


# --- what may go -----------------------------------------------------------------------------------------------------


def test_a_run_is_shortened_to_lines_that_name_what_was_in_them() -> None:
    messages = run(20)
    view = fit(messages, size(messages) // 4)
    assert problem(view) is None
    assert size(view) <= size(messages) // 4
    shortened = [m for m in view if isinstance(m, ToolMessage) and m.content != f"{m.tool_call_id[1:]}\n{LISTING}"]
    assert shortened
    assert all("src/orders/module_" in str(message.content) for message in shortened)


def test_calls_and_results_go_together() -> None:
    messages = run(40)
    view = fit(messages, size(messages) // 20)
    assert problem(view) is None
    assert len(view) < len(messages)
    names = [message.id for message in view]
    assert all((f"a{n}" in names) == (f"r{n}" in names) for n in range(40))


def test_the_last_result_is_shortened_before_anything_fails() -> None:
    messages = [HumanMessage("read it", id="h"), call(1), result(1, LISTING * 20)]
    view = fit(messages, 3000)
    assert [message.id for message in view] == ["h", "a1", "r1"]
    assert 1000 < size(view) <= 3000


def test_a_long_text_keeps_whole_sentences() -> None:
    story = " ".join(f"Sentence {n} tells of the {n}th bird in the garden." for n in range(200))
    story += " The heron came from Porto."
    messages = [HumanMessage("hello", id="h"), AIMessage(story, id="long"), HumanMessage("Where was the heron from?")]
    view = fit(messages, 400)
    text = str(view[1].content)
    assert "The heron came from Porto." in text
    whole = {sentence.strip() for sentence in sentences(story)}
    assert {part.strip() for gap in text.split("[...]") for part in sentences(gap) if part.strip()} <= whole


def test_everything_but_the_text_survives() -> None:
    messages = run(10)
    messages[5] = result(1, LISTING, name="read", artifact={"rows": [1]}, status="error", additional_kwargs={"k": 1})
    view = fit(messages, size(messages) // 3)
    kept = next(message for message in view if message.id == "r1")
    assert isinstance(kept, ToolMessage)
    assert kept.content != LISTING
    assert (kept.name, kept.artifact, kept.status, kept.additional_kwargs, kept.tool_call_id) == (
        "read",
        {"rows": [1]},
        "error",
        {"k": 1},
        "c1",
    )


def test_pictures_in_a_result_stay_where_they_are() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [HumanMessage("h"), call(1), result(1, ""), HumanMessage("q")]
    messages[2] = ToolMessage([{"type": "text", "text": LISTING}, image, "short"], tool_call_id="c1", id="r1")
    view = fit(messages, 2000)
    assert view[2].content[1:] == [image, "short"]
    assert len(view[2].content[0]["text"]) < len(LISTING)  # type: ignore[index]


def test_the_tool_for_originals_is_named_only_where_there_is_one() -> None:
    messages = [HumanMessage("read it", id="h"), call(1), result(1, LISTING)]
    assert "retrieve_original" not in str(fit(messages, 1500)[2].content)
    name = f'retrieve_original("{handle(LISTING)}") has all of it'
    for limit in (150, 400, 1500):
        assert name in str(fit(messages, limit, tool="retrieve_original")[2].content)


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_what_has_to_stay_and_does_not_fit_is_named() -> None:
    messages = [
        SystemMessage("rule " * 300),
        HumanMessage("task " * 600),
        AIMessage("ok"),
        HumanMessage("more " * 100),
        call(1, q="x " * 200),
        result(1, "y"),
    ]
    with pytest.raises(ContextTooLargeError) as error:
        fit(messages, 500)
    assert error.value.limit == 500
    assert error.value.needed > 1200
    assert [name for name, _ in error.value.parts] == [
        "first task (message 2)",
        "system message (message 1)",
        "last call with its results (message 5)",
    ]
    assert [tokens for _, tokens in error.value.parts] == sorted((t for _, t in error.value.parts), reverse=True)
    assert "max_tokens=500" in str(error.value)
    assert "first task" in str(error.value)
    assert isinstance(error.value, ValueError)


def test_what_is_needed_is_enough() -> None:
    messages = run(10)
    with pytest.raises(ContextTooLargeError) as error:
        fit(messages, 10)
    needed = error.value.needed
    assert size(fit(messages, needed)) <= needed
    with pytest.raises(ContextTooLargeError):
        fit(messages, needed - 1)


# --- any history -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "\x00" * 3000, "\ud800" * 3000, "漢字かな。" * 2000, "x" * 400_000, "\n" * 50_000]
)
def test_odd_texts_fit(text: str) -> None:
    messages = [HumanMessage("a"), AIMessage(text), call(1, q="q"), result(1, text), HumanMessage("b")]
    view = fit(messages, 200)
    assert size(view) <= 200
    assert problem(view) is None


def without_text(message: BaseMessage) -> dict[str, Any]:
    fields = message_to_dict(message)
    content = fields["data"].pop("content")
    fields["data"]["content"] = [
        {**b, "text": ""} if isinstance(b, dict) and b.get("type") == "text" else b if isinstance(b, dict) else ""
        for b in (content if isinstance(content, list) else [])
    ]
    return fields


@examples(deadline=None, max_examples=80)
@given(message_lists(max_turns=12), st.floats(0.02, 1.1), st.integers(0, 6))
def test_any_history_fits_or_says_why_not(messages: list[BaseMessage], share: float, keep_last: int) -> None:
    messages = [message.model_copy(update={"id": f"m{n}"}) for n, message in enumerate(messages)]
    before = everything(messages)
    limit = max(1, int(size(messages) * share))
    needed = 0
    try:
        view = fit(messages, limit, keep_last=keep_last)
    except ContextTooLargeError as error:
        needed, view = error.needed, []
    assert everything(messages) == before
    if needed:
        assert needed > limit
        return
    assert size(view) <= limit
    assert problem(view) is None
    # In order, and nothing changed but texts.
    rest = iter(messages)
    for new in own(view):
        old = next(old for old in rest if without_text(old) == without_text(new))
        assert type(old) is type(new)
        assert old.content == new.content or (bool(new.content) and size([new]) < size([old]))
    units = units_of(messages)
    kept = {id(message) for message in view}
    assert all(id(messages[unit.start]) in kept for unit in units if unit.pinned)
    # The same again, and nothing more to do.
    assert everything(fit(messages, limit, keep_last=keep_last, counter=TokenCounter())) == everything(view)
    assert all(a is b for a, b in zip(fit(view, limit, keep_last=keep_last), view, strict=True))


@examples(deadline=None, max_examples=40)
@given(message_lists(max_turns=12), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_more_room_never_shows_less_of_the_newest_messages(
    messages: list[BaseMessage], one: float, other: float
) -> None:
    def whole_at_the_end(share: float) -> int:
        try:
            view = fit(messages, max(1, int(size(messages) * share)))
        except ContextTooLargeError:
            return -1
        count = 0
        for old, new in zip(reversed(messages), reversed(view), strict=False):
            if old is not new or count == 4:
                break
            count += 1
        return count

    low, high = sorted((one, other))
    assert whole_at_the_end(low) <= whole_at_the_end(high)


def test_a_line_of_names_begins_as_the_text_does_and_says_how_long_it_was() -> None:
    text = "3 files found\n" + "\n".join(["src/app/main.py", "src/app/util.py", "src/app/main.py"] * 5)
    assert names_line(text) == "3 files found\n[16 lines: src/app/main.py src/app/util.py]"
    assert names_line("word " * 100) == "[500 characters]"


def test_of_a_huge_result_something_is_shown_wherever_it_stands() -> None:
    log = "\n".join(f"INFO worker_{n % 97} finished job {n} in src/mod_{n % 13}.py" for n in range(20_000))
    messages = [HumanMessage("go"), call(1, q="job"), result(1, log), AIMessage("done"), HumanMessage("and job 7?")]
    view = fit(messages, 4000)
    shown = str(view[2].content)
    assert 500 < size(view) <= 4000
    lines = [line for line in shown.split("\n") if not line.startswith("[")]
    assert len(lines) > 10
    assert set(lines) <= set(log.split("\n"))


def test_of_one_long_line_parts_are_shown() -> None:
    messages = [HumanMessage("go"), call(1), result(1, '{"order_id": 12345, "name": "abc_def"}, ' * 20_000)]
    view = fit(messages, 2000)
    assert 1000 < size(view) <= 2000
    assert '{"order_id": 12345' in str(view[2].content)


def test_a_very_long_text_is_cut_between_sentences() -> None:
    text = "".join(f"This is sentence number {n} of the story. " for n in range(10_000))
    found = _sentences_of(text)
    assert "".join(found) == text
    assert max(map(len, found)) > len(text) - READ_HEAD - READ_TAIL
    assert all(one.startswith("This is") and one.endswith("story. ") for one in found)
