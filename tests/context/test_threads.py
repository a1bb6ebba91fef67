"""Threads that are read message by message, from the beginning, and where they go on in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.context import HistoryCompression, expand, problem
from langchain_tokopt.context.history import View
from langchain_tokopt.context.lossless.references import has_reference
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.policy import Policy
from langchain_tokopt.context.retrieval import Originals
from tests.context.in_part import UNCACHED, agent_threads, an_agent, handles, log, policies, policy, rewriting_early
from tests.context.test_history_properties import everything, without_text
from tests.strategies import message_lists


@pytest.fixture(scope="module", autouse=True)
def _rewriting_early() -> Iterator[None]:
    with rewriting_early():
        yield


def fresh(messages: list[BaseMessage], policy: Policy, **settings: object) -> View:
    return HistoryCompression(remember=False, **settings).examine(messages, policy=policy)  # type: ignore[arg-type]


def any_thread() -> st.SearchStrategy[list[BaseMessage]]:
    return st.one_of(agent_threads(), agent_threads(), message_lists())


def calls(messages: list[BaseMessage]) -> list[int]:
    """How many messages each call that was answered was sent."""
    return [at for at, message in enumerate(messages) if isinstance(message, AIMessage) and at]


def texts(message: BaseMessage) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    blocks = [block if isinstance(block, str) else block.get("text", "") for block in message.content]
    return [text for text in blocks if isinstance(text, str)]


# --- what any view keeps ---------------------------------------------------------------------------------------------


@examples(max_examples=40)
@given(any_thread(), policies())
def test_only_the_text_of_tool_results_changes(messages: list[BaseMessage], policy: Policy) -> None:
    before = everything(messages)
    view = fresh(messages, policy).messages
    assert everything(messages) == before
    assert problem(view) is None
    assert [without_text(message) for message in view] == [without_text(message) for message in messages]
    for old, new in zip(messages, view, strict=True):
        assert new is old or (isinstance(old, ToolMessage) and old.status != "error")
        for was, now in zip(texts(old), texts(new), strict=True):
            assert now == was or (now and text_size(now) < text_size(was))


@examples(max_examples=40)
@given(agent_threads(), policies())
def test_results_of_tools_in_never_stay(messages: list[BaseMessage], policy: Policy) -> None:
    view = fresh(messages, policy, never={"read"}).messages
    names = {call["id"]: call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    for old, new in zip(messages, view, strict=True):
        if isinstance(old, ToolMessage) and names[old.tool_call_id] == "read":
            assert new is old


@examples(max_examples=40)
@given(any_thread(), policies())
def test_every_handle_that_is_shown_gives_the_original(messages: list[BaseMessage], policy: Policy) -> None:
    assume(not any(handles(text) for message in messages for text in texts(message)))
    view, originals = fresh(messages, policy), Originals(messages)
    marks = set(view.reading.marks) if view.reading else set()
    assert all(originals.find(mark) is not None for mark in marks)
    for old, new in zip(messages, view.messages, strict=True):
        for was, now in zip(texts(old), texts(new), strict=True):
            for mark in handles(now):
                assert originals.find(mark) == was
                assert mark in marks
            assert policy.tool is not None or not handles(now)


@examples(max_examples=40)
@given(any_thread(), policies())
def test_every_reference_resolves(messages: list[BaseMessage], policy: Policy) -> None:
    assume(not any(has_reference(text) for message in messages for text in texts(message)))
    view = fresh(messages, policy).messages
    expanded = expand(view)
    assert not any(has_reference(text) for message in expanded for text in texts(message))


# --- the same in every process ---------------------------------------------------------------------------------------


@examples(max_examples=40)
@given(any_thread(), policies())
def test_read_message_by_message_it_is_as_read_at_once(messages: list[BaseMessage], policy: Policy) -> None:
    growing = HistoryCompression()
    for end in range(1, len(messages) + 1):
        if problem(messages[:end]) is None:
            one, other = growing.examine(messages[:end], policy=policy), fresh(messages[:end], policy)
            assert everything(one.messages) == everything(other.messages)
            assert one.reading == other.reading


@examples(max_examples=40)
@given(st.lists(any_thread(), min_size=1, max_size=2), st.lists(policies(), min_size=1, max_size=2), st.data())
def test_retries_and_forks_are_as_read_at_once(
    threads: list[list[BaseMessage]], some: list[Policy], data: st.DataObject
) -> None:
    forks = [*threads]
    for one in threads:
        at = data.draw(st.sampled_from([0, *calls(one)]))
        forks.append([*one[:at], AIMessage("Something else.", id="else"), HumanMessage("Go on.", id="more"), *one[at:]])
        forks.append([*one[:at], HumanMessage("No, wait.", id="wait"), *one[at:]])
    remembering = HistoryCompression()
    for _ in range(data.draw(st.integers(2, 8))):
        thread, policy = data.draw(st.sampled_from(forks)), data.draw(st.sampled_from(some))
        messages = thread[: data.draw(st.sampled_from([len(thread), *calls(thread)]))]
        one, other = remembering.examine(messages, policy=policy), fresh(messages, policy)
        assert everything(one.messages) == everything(other.messages)
        assert one.reading == other.reading


@examples(max_examples=40)
@given(any_thread(), policies())
def test_what_was_sent_changes_at_rewrites_only(messages: list[BaseMessage], policy: Policy) -> None:
    growing = HistoryCompression()
    last: View | None = None
    for end in [*calls(messages), len(messages)]:
        if problem(messages[:end]) is not None:
            continue
        view = growing.examine(messages[:end], policy=policy)
        if last is not None and last.reading is not None and view.reading is not None:
            old, new = last.reading, view.reading
            assert new.rewrites[: len(old.rewrites)] == old.rewrites
            first = min((one.first for one in new.rewrites[len(old.rewrites) :]), default=end)
            shared = min(first, len(last.messages))
            assert everything(view.messages[:shared]) == everything(last.messages[:shared])
            assert new.bound >= old.bound
        last = view


@examples(max_examples=40)
@given(any_thread(), policies())
def test_the_tool_is_bound_where_something_can_be_asked_for(messages: list[BaseMessage], policy: Policy) -> None:
    reading = fresh(messages, policy).reading
    assert reading is None or reading.bound or not reading.marks


@examples(max_examples=40)
@given(any_thread(), policies())
def test_the_sizes_are_those_of_what_is_shown(messages: list[BaseMessage], policy: Policy) -> None:
    view = fresh(messages, policy)
    assume(view.reading is not None)
    assert view.reading is not None
    for message, tokens in zip(view.messages, view.reading.tokens, strict=True):
        if isinstance(message, ToolMessage):
            own = [
                t
                for b in ([message.content] if isinstance(message.content, str) else message.content)
                if isinstance(t := b if isinstance(b, str) else b.get("text") if b["type"] == "text" else None, str)
            ]
            assert tokens == sum(map(text_size, own)) + 4


# --- examples --------------------------------------------------------------------------------------------------------


def test_what_has_been_seen_is_rewritten_where_it_pays() -> None:
    messages = an_agent([log(n) for n in range(6)])
    view = HistoryCompression().examine(messages, policy=policy(prices=UNCACHED, new=None))
    assert view.reading is not None
    assert view.reading.rewrites
    first = view.messages[2]
    assert handles(str(first.content)) == [
        handle for handle in handles(str(first.content)) if handle in view.reading.marks
    ]
    assert view.messages[-1] is messages[-1]


def test_a_message_that_is_given_other_calls_is_read_anew() -> None:
    """LangChain's human in the loop edits the calls of the message that stands in the state."""
    messages, history = an_agent([log(1), log(2)]), HistoryCompression()
    history.examine(messages, policy=policy())
    call = messages[3]
    assert isinstance(call, AIMessage)
    call.tool_calls = [{**call.tool_calls[0], "args": {"path": "why did job/000001 fail"}}]
    assert everything(history.examine(messages, policy=policy()).messages) == everything(
        fresh(messages, policy()).messages
    )


def test_threads_of_execution_read_forks_at_once() -> None:
    shared, history, used = an_agent([log(n) for n in range(6)]), HistoryCompression(), policy(prices=UNCACHED)
    forks = [[*shared, AIMessage(f"Way {n}."), HumanMessage("Go on.")] for n in range(4)]
    asked = [fork[:end] for end in (len(shared), len(shared) + 2) for fork in forks] * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda messages: history.examine(messages, policy=used), asked))
    for messages, view in zip(asked, found, strict=True):
        other = fresh(messages, used)
        assert everything(view.messages) == everything(other.messages)
        assert view.reading == other.reading


def test_lists_of_texts_are_told_apart() -> None:
    history = HistoryCompression()
    whole = log(1)
    first, rest = whole[: len(whole) // 2], whole[len(whole) // 2 :]
    contents: list[object] = [
        whole,
        [whole],
        [{"type": "text", "text": whole}],
        [{"type": "other", "text": whole}],
        [first, rest],
        [f"{first}|1:{len(rest)}:{rest}"],
    ]
    for content in contents:
        messages = an_agent(["", "all is well"])
        messages[2] = messages[2].model_copy(update={"content": content})
        one, other = history.examine(messages, policy=policy(new=100)), fresh(messages, policy(new=100))
        assert everything(one.messages) == everything(other.messages)
        assert one.reading == other.reading


def test_a_message_that_is_given_other_content_is_read_anew() -> None:
    messages, history = an_agent([log(1)]), HistoryCompression()
    history.examine(messages, policy=policy())
    messages[2].content = log(2)
    assert everything(history.examine(messages, policy=policy()).messages) == everything(
        fresh(messages, policy()).messages
    )


@pytest.mark.parametrize(
    "text",
    ["x" * 5_000_000, "line\n" * 200_000, "漢字かな交じりの文章です。" * 20_000, "\ud800\0\r\n" * 20_000],
    ids=["one line", "many lines", "Japanese", "odd"],
)
def test_huge_results_are_read(text: str) -> None:
    messages = an_agent([text, text, f"{text}!"])
    view = HistoryCompression().examine(messages, policy=policy(prices=UNCACHED))
    assert problem(view.messages) is None
    assert sum(len(str(message.content)) for message in view.messages) < 2 * len(text)
    assert all(Originals(messages).find(mark) for mark in view.reading.marks) if view.reading else True
