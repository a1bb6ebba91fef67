"""Long runs through the providers' own clients: valid, answered as ever, cheaper, and going on as they were sent."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    SummarizationMiddleware,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_tokopt import ExtractiveSummarizer, HistoryCompression, TokenOptimizer
from langchain_tokopt.events import Failure as FailureEvent
from tests.providers.agents import optimizer
from tests.providers.compared import shown
from tests.providers.long_chats import strings
from tests.providers.long_runs import (
    OURS,
    STEPS,
    TASK,
    THINKS,
    How,
    Reader,
    agent_of,
    ask,
    changes,
    conversation,
    decisions,
    file,
    files_in,
    gate,
    goes_on,
    paid,
    read_file,
    thread,
)
from tests.providers.replies import Asked, Failure, Provider, Reply, ToolCall, tool_name
from tests.providers.server import ProviderServer, Record
from tests.providers.wanting import made_calls

READ = [file(number) for step in STEPS for number in step]
FOUND = f"In trouble: {', '.join(gate(n) for n in sorted({n for step in STEPS for n in step}))}."
SHORT = STEPS[:9]
# Each way with an API of its own, so that the cases stay few.
ways = pytest.mark.parametrize(("how", "name"), [("middleware", "openai"), ("graph", "anthropic")])
more_ways = pytest.mark.parametrize(
    ("how", "name"), [("middleware", "openai"), ("middleware", "anthropic"), ("graph", "responses")]
)


def only_history(history: HistoryCompression | None = None, **more: Any) -> TokenOptimizer:
    """An optimiser that does nothing else."""
    return optimizer(cache=None, tools=None, history=history or HistoryCompression(), **more)


def bare(server: ProviderServer, name: Provider, policy: Any, **more: Any) -> tuple[dict[str, Any], list[Record]]:
    """The final state of the bare agent, and its requests."""
    server.renewed(policy)
    with only_history() as tokopt:
        agent = agent_of("bare", name, server, tokopt, checkpointer=InMemorySaver(), **more)
        return ask(agent, "1"), server.answered


def binds(records: list[Record]) -> list[bool]:
    """Whether each request has the tool that gives back what is shown in part."""
    return [OURS in [tool_name(tool) for tool in record.body["tools"]] for record in records]


# --- long runs -------------------------------------------------------------------------------------------------------


@more_ways
def test_a_long_run_answers_the_same_for_less(provider: ProviderServer, how: How, name: Provider) -> None:
    """The first thread is never dearer, and later ones know what to expect."""
    plain, plain_records = bare(provider, name, Reader())
    provider.renewed(Reader())
    with only_history() as tokopt:
        agent = agent_of(how, name, provider, tokopt, checkpointer=InMemorySaver())
        for number, most in (("1", "1"), ("2", "0.6")):
            before = len(provider.answered)
            state = ask(agent, number)
            records = provider.answered[before:]
            assert shown(state) == shown(plain)
            assert state["messages"][-1].text == FOUND
            assert files_in(state) == READ
            assert len(records) == len(plain_records) == 24
            # The second thread finds cached what the first one was sent: the bare one's is counted alike.
            assert float(paid(records)) <= float(most) * float(paid(plain_records))
            rewrites = int(decisions(tokopt)[-1].detail.get("rewrites", 0))
            late = sum(before != now for before, now in pairwise(binds(records)))
            assert rewrites <= changes(records) <= rewrites + late
            assert changes(records) <= 5
        assert binds(records) == [True] * len(records)
        assert tokopt.report().failures == ()


def test_a_short_run_is_sent_as_it_is(provider: ProviderServer) -> None:
    steps = ((1,), (3,), (6,))
    _, plain = bare(provider, "openai", Reader(steps))
    provider.renewed(Reader(steps))
    with only_history() as tokopt:
        ask(agent_of("middleware", "openai", provider, tokopt), "1")
    assert [record.body for record in provider.answered] == [record.body for record in plain]


# --- a thread goes on as it was sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "name", "at"), [("middleware", "anthropic", 6), ("graph", "openai", 11), ("graph", "anthropic", 6)]
)
def test_a_run_goes_on_in_another_process_as_it_was_sent(
    provider: ProviderServer, tmp_path: Path, how: How, name: Provider, at: int
) -> None:
    """The first process dies in the midst of it, and another thread has taught the agent since."""
    memory, steps = InMemorySaver(), STEPS[:13]

    def dies(asked: Asked) -> Any:
        return Failure(status=500, message="gone") if len(Reader.read_in(asked)) == at else Reader(steps)(asked)

    provider.renewed(dies)
    first, second = (only_history(data_dir=tmp_path) for _ in range(2))
    with first, second:
        agent = agent_of(how, name, provider, first, checkpointer=memory)
        with pytest.raises(Exception, match="gone"):
            ask(agent, "1")
        begun = list(provider.records)
        provider.policy = Reader(steps)
        ask(agent, "other", "Something else?")
        now = len(provider.records)
        agent_of(how, name, provider, second, checkpointer=memory).invoke(None, thread("1"))
        after = provider.records[now:]
    assert conversation(begun[-1]) == conversation(after[0])
    # What the run is like that nobody interrupts.
    provider.renewed(Reader(steps))
    with only_history() as tokopt:
        ask(agent_of(how, name, provider, tokopt, checkpointer=InMemorySaver()), "1")
    sent = [*begun[:-1], *after]
    assert [numbered(record) for record in sent] == [numbered(record) for record in provider.answered]
    assert binds(sent) == binds(provider.answered)


def numbered(record: Record) -> str:
    """What was sent, with numbers in the place of the calls' ids."""
    numbers: dict[str, str] = {}
    told = "\n".join(conversation(record))
    return re.sub(r"\b(?:call|toolu|fc|msg)_\w+", lambda found: numbers.setdefault(found[0], f"<{len(numbers)}>"), told)


@ways
def test_forks_of_a_thread_begin_as_it_was_sent(provider: ProviderServer, how: How, name: Provider) -> None:
    provider.renewed(Reader(SHORT))
    with only_history() as tokopt:
        agent = agent_of(how, name, provider, tokopt, checkpointer=InMemorySaver())
        ask(agent, "1")
        end = agent.get_state(thread("1")).config
        first = provider.answered
        for steps in (((10, 11), (12,), (13,)), ((14,), (15,), (16,))):
            before = len(provider.answered)
            provider.policy = Reader(steps)
            agent.invoke({"messages": [HumanMessage(f"And now {steps[0]}?")]}, {**end, "recursion_limit": 200})
            fork = provider.answered[before:]
            assert goes_on(first[-1], fork[0])
            assert changes(fork) <= 2
    assert len(provider.answered) == len(first) + 8


def approves(asked: Asked) -> Reply:
    """Reads, then opens a gate, then reads on."""
    read = Reader.read_in(asked)
    opened = any(text.endswith("is open") for text in asked.turn_results)
    if len(read) == 6 and not opened and f"gate {gate(read[-1])} is jammed" in "\n".join(asked.turn_results):
        return Reply(text="Shall I?", tool_calls=(ToolCall(name="open_gate", args={"name": gate(0)}),))
    return Reader(SHORT)(asked)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_an_approved_run_goes_on_as_it_was_sent(provider: ProviderServer, tmp_path: Path, name: Provider) -> None:
    memory, review = InMemorySaver(), HumanInTheLoopMiddleware({"open_gate": True})
    provider.renewed(approves)
    for number in ("1", "2"):
        before = len(provider.answered)
        with only_history(data_dir=tmp_path) as tokopt:
            agent = agent_of("middleware", name, provider, tokopt, outside=[review], checkpointer=memory)
            state = ask(agent, number)
            assert [each.value["action_requests"][0]["name"] for each in state["__interrupt__"]] == ["open_gate"]
        asked = provider.answered[before:]
        with only_history(data_dir=tmp_path) as tokopt:
            agent = agent_of("middleware", name, provider, tokopt, outside=[review], checkpointer=memory)
            state = agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), thread(number))
            assert tokopt.report().failures == ()
        records = provider.answered[before:]
        assert len(records) == len(SHORT) + 2
        assert goes_on(asked[-1], records[len(asked)])
        assert changes(records) <= 2
        assert state["messages"][-1].text.startswith("In trouble: G-1000")


# --- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "settings"), [("middleware", THINKS[0]), ("graph", THINKS[1])], ids=["bound", "unbound"]
)
def test_nothing_before_a_signed_thought_is_rewritten(
    provider: ProviderServer, how: How, settings: dict[str, Any]
) -> None:
    """The provider would refuse it. What is new is shown in part all the same, once the agent is known."""
    plain, plain_records = bare(provider, "anthropic", Reader(thinking="Hm."), settings=settings)
    provider.renewed(Reader(thinking="Hm."))
    if how == "graph":  # the model keeps its own settings
        settings = {**settings, "model_kwargs": {"cache_control": {"type": "ephemeral"}}}
    with only_history() as tokopt:
        agent = agent_of(how, "anthropic", provider, tokopt, settings=settings, checkpointer=InMemorySaver())
        for number, bound, most in (("1", False, 1.0), ("2", True, 0.7)):
            before = len(provider.answered)
            state = ask(agent, number)
            records = provider.answered[before:]
            # Signatures are those of what was sent.
            assert [message.text for message in state["messages"]] == [message.text for message in plain["messages"]]
            assert changes(records) == 0
            assert binds(records) == [bound] * len(records)
            assert float(paid(records)) <= most * float(paid(plain_records))
        before = len(provider.answered)
        provider.policy = Reader(thinking="Hm.", asks_for=7)
        assert ask(agent, "3")["messages"][-1].text.endswith(FOUND)
        assert changes(provider.answered[before:]) == 0
        assert tokopt.report().failures == ()
    kinds = {
        block.get("type")
        for message in provider.answered[-1].body["messages"]
        for block in message["content"]
        if isinstance(block, dict)
    }
    assert "thinking" in kinds


def test_a_thread_that_ran_without_us_is_left_alone_where_its_thoughts_hold_only_so(provider: ProviderServer) -> None:
    """Results that come again were sent whole, and the thoughts after them are signed with that."""
    provider.renewed(Reader(steps=[(1, 2), (1, 2), (3,)], thinking="Hm."))
    saver = InMemorySaver()
    with only_history() as tokopt:
        ask(agent_of("bare", "anthropic", provider, tokopt, settings=THINKS[0], checkpointer=saver), "1")
        before = len(provider.answered)
        ours = agent_of("middleware", "anthropic", provider, tokopt, settings=THINKS[0], checkpointer=saver)
        ask(ours, "1")
        assert changes(provider.answered) == 0
        assert not any("same as" in text for record in provider.answered[before:] for text in strings(record.body))
        ask(ours, "2")  # one of its own
        assert any("same as" in text for text in strings(provider.answered[-1].body))
        assert tokopt.report().failures == ()


def test_a_thread_that_was_only_watched_did_not_begin_with_us(provider: ProviderServer, tmp_path: Path) -> None:
    """In shadow it was sent as it is, and so it goes on when the optimiser is switched on."""
    provider.renewed(Reader(steps=[(1, 2), (1, 2), (3,)], thinking="Hm."))
    saver = InMemorySaver()
    for mode in ("shadow", "optimize"):
        with only_history(mode=mode, data_dir=tmp_path) as tokopt:
            agent = agent_of("middleware", "anthropic", provider, tokopt, settings=THINKS[0], checkpointer=saver)
            ask(agent, "1")
            assert tokopt.report().failures == ()
    assert changes(provider.answered) == 0


# --- room ------------------------------------------------------------------------------------------------------------


def reads_all() -> Any:
    """A model that remembers itself what it has read, since not all of it stays in sight."""
    step = count()

    def policy(asked: Asked) -> Reply:
        done = next(step)
        if done == len(STEPS):
            return Reply(text="Done.")
        files = tuple(ToolCall(name="read_file", args={"number": n}) for n in STEPS[done])
        return Reply(text=f"I read on, for {done} are done.", tool_calls=files)

    return policy


@pytest.mark.parametrize(
    ("how", "name", "by"), [("middleware", "openai", "profile"), ("graph", "anthropic", "setting")]
)
def test_no_more_is_sent_than_fits(provider: ProviderServer, how: How, name: Provider, by: str) -> None:
    """The provider refuses larger prompts."""
    settings: dict[str, Any] = {"profile": {"max_input_tokens": 14_000}} if by == "profile" else {}
    whole: dict[str, Any] = {"max_result_tokens": None, "old_result_tokens": None}
    history = HistoryCompression(**whole, max_tokens=12_000 if by == "setting" else None)
    provider.renewed(reads_all(), context_window=14_000)
    with only_history(history) as tokopt:
        agent = agent_of(how, name, provider, tokopt, settings=settings, checkpointer=InMemorySaver())
        state = ask(agent, "1")
        assert state["messages"][-1].text == "Done."
        assert files_in(state) == READ
        assert tokopt.report().failures == ()
    assert all(TASK in conversation(record)[1 if name == "openai" else 0] for record in provider.answered)
    # Fitted now and then, and left alone in between.
    assert 0 < changes(provider.answered) <= 10


def test_what_cannot_be_made_to_fit_is_sent_as_it_is(provider: ProviderServer) -> None:
    steps, task = STEPS[:3], "Some words that come first. " * 1_500 + TASK
    provider.renewed(Reader(steps))
    with only_history(HistoryCompression(max_tokens=2_000)) as tokopt:
        agent = agent_of("middleware", "openai", provider, tokopt)
        assert ask(agent, "1", task)["messages"][-1].text.startswith("In trouble")
        failures = list(tokopt.telemetry.events(FailureEvent))
        (told,) = tokopt.report().failures
    assert len(failures) == len(provider.answered) == 4
    assert "max_tokens=2000 is too small" in str(told)
    assert all(record.asked.last_user == task for record in provider.answered)


def test_nothing_is_cut_before_signed_thoughts(provider: ProviderServer) -> None:
    """The provider would refuse it. The agent goes on with all of it, and that is on record."""
    reads = reads_all()
    provider.renewed(lambda asked: replace(reads(asked), thinking="Hm."))
    history = HistoryCompression(max_tokens=8_000, max_result_tokens=None, old_result_tokens=None)
    with only_history(history) as tokopt:
        agent = agent_of("middleware", "anthropic", provider, tokopt, settings=THINKS[0])
        assert ask(agent, "1")["messages"][-1].text == "Done."
        (told,) = tokopt.report().failures
    assert "messages before signed thoughts" in str(told)
    assert changes(provider.answered) == 0


# --- shadow ----------------------------------------------------------------------------------------------------------


@ways
def test_in_shadow_the_requests_are_those_of_the_bare_agent(provider: ProviderServer, how: How, name: Provider) -> None:
    provider.renewed(Reader(SHORT))
    with only_history(mode="shadow") as tokopt:
        agent = agent_of(how, name, provider, tokopt, checkpointer=InMemorySaver())
        for number in ("1", "2"):
            assert files_in(ask(agent, number)) == [file(n) for step in SHORT for n in step]
        decided = decisions(tokopt)
        assert {one.mode for one in decided} == {"shadow"}
        assert sum((one.tokens_before or 0) - (one.tokens_after or 0) for one in decided) > 10_000
    ours = provider.answered
    provider.renewed(Reader(SHORT))
    with only_history(mode="off") as tokopt:
        agent = agent_of(how, name, provider, tokopt, checkpointer=InMemorySaver())
        for number in ("1", "2"):
            ask(agent, number)
    assert len(ours) == 2 * len(SHORT) + 2
    assert [record.body for record in ours] == [record.body for record in provider.answered]


# --- what else may be in a thread, or around it ----------------------------------------------------------------------

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}


@tool
def look(number: int) -> list[Any]:
    """Take a picture of a file."""
    return [{"type": "text", "text": file(number)}, IMAGE]


@tool
def check_file(number: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
    """Check a file."""
    return ToolMessage(file(number), tool_call_id=tool_call_id, status="error")


@pytest.mark.parametrize("how", ["middleware", "graph"])
def test_images_errors_and_calls_that_cannot_be_read(provider: ProviderServer, how: How) -> None:
    """Images and errors stay as they are, for as long as the thread goes on; texts beside an image get shorter."""
    calls = {"read_file": 7, "look": 2, "check_file": 0}

    def policy(asked: Asked) -> Reply:
        if "look" not in [name for name, _ in made_calls(asked)]:
            return Reply(tool_calls=tuple(ToolCall(name=name, args={"number": n}) for name, n in calls.items()))
        return Reader(((7,), *SHORT, (10, 11), (12,), (13,)))(asked)

    provider.renewed(policy)
    bad = {"type": "invalid_tool_call", "name": "look", "args": '{"number": 1', "id": "toolu_bad", "error": None}
    asked = AIMessage("I look.", invalid_tool_calls=[bad])
    unread = ToolMessage("The call cannot be read.", tool_call_id="toolu_bad", name="look", status="error")
    before = [HumanMessage("Look at it."), asked, unread, HumanMessage(TASK)]
    with only_history() as tokopt:
        agent = agent_of(how, "anthropic", provider, tokopt, tools=[read_file, look, check_file])
        for _ in range(2):
            state = agent.invoke({"messages": before}, thread("1"))
            assert state["messages"][-1].text.startswith("In trouble")
            looked = [one.content for one in state["messages"] if one.name == "look"]
            assert looked[-1] == [{"type": "text", "text": file(2)}, IMAGE]
        assert tokopt.report().failures == ()
    results = [block for block in _blocks(provider.answered[-1]) if block["type"] == "tool_result"][1:]
    assert len(str(results[0]["content"])) < len(file(7)) / 2
    words, image = results[1]["content"]
    assert len(words["text"]) < len(file(2)) / 2
    assert image == IMAGE
    assert results[2]["is_error"]
    assert file(0) in strings(results[2]["content"])


def _blocks(record: Record) -> list[dict[str, Any]]:
    return [block for message in record.body["messages"] for block in message["content"] if isinstance(block, dict)]


def summarizes() -> Any:
    summarizer = ExtractiveSummarizer(ratio=0.2)
    return SummarizationMiddleware(
        model=summarizer, trigger=("tokens", 8_000), keep=("messages", 6), trim_tokens_to_summarize=None
    )


def clears() -> Any:
    return ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=8_000, keep=3)])


@pytest.mark.parametrize(("name", "other"), [("openai", summarizes), ("anthropic", clears)])
def test_beside_a_middleware_that_takes_messages_out(provider: ProviderServer, name: Provider, other: Any) -> None:
    spent = []
    hows: list[How] = ["bare", "middleware"]
    for how in hows:
        provider.renewed(reads_all())
        with only_history() as tokopt:
            agent = agent_of(how, name, provider, tokopt, outside=[other()], checkpointer=InMemorySaver())
            assert ask(agent, "1")["messages"][-1].text == "Done."
            assert tokopt.report().failures == ()
        assert len(provider.answered) == len(STEPS) + 1
        spent.append(paid(provider.answered))
    assert float(spent[1]) < 0.8 * float(spent[0])
