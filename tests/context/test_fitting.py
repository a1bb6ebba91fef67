"""Views of a history that fit into a number of tokens."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, message_to_dict
from langchain_core.tools import tool

from langchain_tokopt.context import HistoryCompression, HistoryCompressionMiddleware
from langchain_tokopt.context.fitting import Fitted, fit, fitted
from langchain_tokopt.context.fitting.forms import READ_HEAD, READ_TAIL, _sentences_of, names_line, texts_of
from langchain_tokopt.context.fitting.notes import least_note
from langchain_tokopt.context.fitting.units import units_of
from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.memory.render import made_here
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.context.retrieval import Originals
from langchain_tokopt.context.validate import problem
from langchain_tokopt.errors import ConfigurationError, ContextTooLargeError
from langchain_tokopt.tokens import TokenCounter
from tests.fakes import ScriptedModel, ai
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


# --- what is left out ------------------------------------------------------------------------------------------------

TOOL = "retrieve_original"
HANDLE = re.compile(rf'{TOOL}\("([0-9a-f]{{8}})"\)')


def behind(messages: list[BaseMessage], shown: Fitted) -> str:
    """The texts whose handles the model is shown."""
    originals = Originals(messages, shown.blocks)
    found = [originals.find(one) for message in shown.messages for one in HANDLE.findall(str(message.text))]
    assert None not in found
    return "\n".join(text or "" for text in found)


def test_where_messages_are_left_out_a_note_says_how_many_and_gives_them_back() -> None:
    messages = run(40)
    shown = fitted(messages, 3_000, tool=TOOL)
    kept = {message.id for message in own(shown.messages)}
    gone = [message for message in messages if message.id not in kept]
    assert gone
    assert size(shown.messages) <= 3_000
    assert sum(int(str(note.content)[1:].split()[0]) for note in notes(shown.messages)) == len(gone)
    assert all(isinstance(note, HumanMessage) and note.id is None for note in notes(shown.messages))
    texts = behind(messages, shown)
    assert all(str(message.content) in texts for message in gone)
    assert '[call] read({"path": "src/orders/module_' in texts


def test_a_note_names_what_was_in_the_messages_and_is_not_shown() -> None:
    messages = chat(60)
    messages[31] = HumanMessage("The invoice INV_20931 went to shop_17/archive.", id="fact")
    shown = fitted(messages, 400, query="Which bird?", tool=TOOL)
    said = "\n".join(str(note.content) for note in notes(shown.messages))
    assert all(message.id != "fact" for message in shown.messages)
    assert "INV_20931 shop_17/archive" in said


def test_without_the_tool_a_note_only_says_that_there_was_more() -> None:
    messages = chat(200)
    shown = fitted(messages, 1_000)
    assert not shown.blocks
    said = [str(note.content) for note in notes(shown.messages)]
    assert said
    assert all(re.match(r"\[\d+ (earlier|of the next \d+) messages left out", one) for one in said)
    assert TOOL not in str(shown.messages)


def test_notes_stand_where_the_messages_were() -> None:
    messages = run(40)
    for at in (60, 40, 20):
        messages.insert(at, HumanMessage(f"From now on always add a test, number {at}.", id=f"rule{at}"))
    shown = fitted(messages, 3_000, tool=TOOL).messages
    assert len(notes(shown)) > 1
    ids = [message.id for message in messages]
    for before, note in pairwise(shown):
        if made_here(note):
            numbers = [int(number) for number in re.findall(r"\d+", str(note.content).split(" message")[0])]
            start = ids.index(before.id) + 1
            gone = [one for one in ids[start : start + numbers[-1]] if one not in {message.id for message in shown}]
            assert len(gone) == numbers[0]
            assert gone[0] == ids[start]
            assert gone[-1] == ids[start + numbers[-1] - 1]


def test_a_note_is_no_message_of_the_users() -> None:
    messages = [*chat(40)[:-1], AIMessage("Noted.", id="end")]
    shown = fitted(messages, 500, tool=TOOL).messages
    again = units_of(shown)
    pinned = {unit.pinned: shown[unit.start].id for unit in again if unit.pinned}
    assert pinned == {"system message": "s", "first task": "u0", "newest user message": "u39"}
    smaller = fit(shown, size(shown) - 100)
    assert {"s", "u0", "u39"} <= {message.id for message in smaller}


def test_no_note_comes_between_the_first_thought_of_an_answer_and_the_rest_of_it() -> None:
    thought = [{"type": "thinking", "thinking": "hm " * 40, "signature": "x"}]
    messages = run(60)
    messages[2] = AIMessage(thought, tool_calls=messages[2].tool_calls, id="a0")  # type: ignore[attr-defined]
    shown = fitted(messages, 4_000, tool=TOOL)
    names = [message.id for message in shown.messages]
    assert len(shown.messages) < len(messages)
    assert notes(shown.messages)
    assert all(made_here(message) for message in shown.messages[names.index("h") + 1 : names.index("a0")])
    assert not notes(shown.messages[names.index("a0") :])
    assert all(str(message.content) in behind(messages, shown) for message in messages[4:] if message.id not in names)


@pytest.mark.parametrize("tool", [None, TOOL])
def test_a_cut_text_of_anybody_can_be_had_whole_where_there_is_the_tool(tool: str | None) -> None:
    story = " ".join(f"Sentence {n} tells of the {n}th bird in the garden." for n in range(200))
    messages = [HumanMessage("hello", id="h"), AIMessage(story, id="long"), HumanMessage("Which bird?", id="q")]
    shown = fitted(messages, 400, tool=tool)
    end = f'[...; {TOOL}("{handle(story)}") has all of it]' if tool else "[...]"
    assert str(shown.messages[1].content).endswith(end)
    assert (story in behind(messages, shown)) == (tool is not None)


def test_a_result_that_is_cut_again_leads_to_all_of_it() -> None:
    messages = run(6)
    shown = fitted(messages, size(messages) // 3, tool=TOOL)
    cut = [message for message in shown.messages if isinstance(message, ToolMessage) and TOOL in str(message.content)]
    assert cut
    assert all(shown.blocks[handle(str(message.content))].endswith(LISTING) for message in cut)


@examples(deadline=None, max_examples=80)
@given(message_lists(max_turns=12), st.floats(0.02, 1.0), st.integers(0, 6))
def test_of_any_history_nothing_is_out_of_reach(messages: list[BaseMessage], share: float, keep_last: int) -> None:
    messages = [message.model_copy(update={"id": f"m{n}"}) for n, message in enumerate(messages)]
    limit = max(1, int(size(messages) * share))
    try:
        fit(messages, 1, tool=TOOL)
        needed = 0
    except ContextTooLargeError as error:
        needed = error.needed
    if limit < needed + least_note(TOOL, COUNTER.message):
        return
    shown = fitted(messages, limit, keep_last=keep_last, tool=TOOL)
    assert size(shown.messages) <= limit
    assert problem(shown.messages) is None
    whole = {id(message) for message in shown.messages}
    texts = "\n".join([behind(messages, shown), *(text for m in shown.messages for _, text in texts_of(m))])
    assert all(text in texts for m in messages if id(m) not in whole for _, text in texts_of(m) if text.strip())
    assert everything(shown.messages) == everything(
        fit(messages, limit, keep_last=keep_last, tool=TOOL, counter=TokenCounter())
    )


# --- the room --------------------------------------------------------------------------------------------------------

PROSE = " ".join(f"Sentence {n} tells of the {n}th bird in the garden." for n in range(200))
CODE = "\n".join(
    f"    def total_{n}(self, order):\n        return self.price * order.count_{n} + {n}\n" for n in range(80)
)


@pytest.mark.parametrize("tool", [None, TOOL])
@pytest.mark.parametrize("limit", [300, 500, 800, 1_200])
@pytest.mark.parametrize(
    "parts",
    [
        [call(1), result(1, LISTING), AIMessage("fine"), HumanMessage("q")],
        [call(1), result(1, CODE), AIMessage("fine"), HumanMessage("q")],
        [call(1), result(1, CODE)],
        [AIMessage(PROSE), HumanMessage("q")],
        [AIMessage("word and other words go on without an end " * 400), HumanMessage("q")],
        [call(1), result(1, CODE), AIMessage(PROSE), HumanMessage("q")],
        [HumanMessage("go"), HumanMessage(CODE), AIMessage("fine"), HumanMessage("q")],
    ],
    ids=["listing", "code", "newest", "prose", "one sentence", "two", "user"],
)
def test_the_room_is_used(parts: list[BaseMessage], limit: int, tool: str | None) -> None:
    messages = [HumanMessage("a task"), *parts]
    view = fit(messages, limit, tool=tool)
    assert 0.85 * limit < size(view) <= limit


# --- in an agent -----------------------------------------------------------------------------------------------------


def test_an_agent_gets_back_what_was_left_out() -> None:
    asked: list[str] = []

    @tool
    def read(path: str) -> str:
        """Read a file."""
        return f"{path}\n{LISTING}"

    def ask_back(messages: list[BaseMessage]) -> AIMessage:
        (note, *_) = notes(messages)
        asked.extend(HANDLE.findall(str(note.content)))
        call = {"name": TOOL, "args": {"id": asked[0]}, "id": "back", "type": "tool_call"}
        return ai("", tool_calls=[call])

    reads = [ai("", tool_calls=[{"name": "read", "args": {"path": f"file_{n}.py"}, "id": f"c{n}"}]) for n in range(30)]
    model = ScriptedModel(responses=[*reads, ask_back, "done"], model_name="scripted", provider="test")
    ours = HistoryCompressionMiddleware(HistoryCompression(max_tokens=2_500, lossless=False, max_result_tokens=None))
    messages = create_agent(model, [read], middleware=[ours]).invoke({"messages": [HumanMessage("Go.")]})["messages"]
    back = next(message for message in messages if isinstance(message, ToolMessage) and message.tool_call_id == "back")
    assert asked
    assert back.status == "success"
    assert '[call] read({"path": "file_' in str(back.content)
    assert not notes(messages)
    assert all(problem(one.messages) is None for one in model.calls)
