"""What was sent stays sent: a longer thread begins with the bytes of a shorter one, so the provider's cache lasts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from langchain_tokopt.database import Database
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import ToolSelection
from tests.fakes import ScriptedModel, TableEmbeddings, ai
from tests.tools.toolbox import VERBS, names, openai_dict, request, wire

KEY = SecretStr("test")
BOX = [openai_dict(f"{verb}_{noun}") for verb in VERBS for noun in ("invoice", "contract", "employee", "server")]
COUNTER = TokenCounter()
MODELS: dict[str, Any] = {
    "anthropic": ChatAnthropic(model_name="claude-opus-5-5", api_key=KEY),  # type: ignore[call-arg]
    "openai": ChatOpenAI(model="gpt-5.5", api_key=KEY, use_responses_api=True),
    "chat": ScriptedModel(),
}
WAYS = [("inline", "anthropic"), ("inline", "openai"), ("proxy", "chat"), ("rebind", "chat")]

TEXTS = st.sampled_from(
    [
        "delete the invoice",
        "sort out the paperwork",
        "and the paperwork of Ada, then export_server",
        "list the employees and create a server",
        "yes, go ahead",
        "hello there!",
        "",
    ]
)
NAMES = st.sampled_from(["delete_invoice", "export_contract", "list_server", "create_employee", "gone"])


@st.composite
def threads(draw: st.DrawFn) -> list[AnyMessage]:
    """Turns of a user, each answered after some steps of calls (hidden tools among them) and searches."""
    thread: list[AnyMessage] = []
    named = draw(st.booleans())
    for turn in range(draw(st.integers(1, 4))):
        for said in draw(st.lists(TEXTS, min_size=1, max_size=2)):
            text = said if thread or said not in ("", "yes, go ahead") else "delete the invoice"
            thread.append(HumanMessage(text, id=f"h{len(thread)}" if named else None))
        for step in range(draw(st.integers(0, 3))):
            called = draw(st.lists(NAMES, max_size=2))
            found = draw(st.lists(st.sampled_from(names(BOX)), max_size=3))
            searched = ["search_tools"] if draw(st.booleans()) or not called else []
            ids = [f"{turn}.{step}.{n}" for n in range(len(called) + len(searched))]
            all_called = [*called, *searched]
            thread.append(
                ai(
                    tool_calls=[
                        {"name": name, "args": {"item": "x"}, "id": call_id}
                        for name, call_id in zip(all_called, ids, strict=True)
                    ]
                )
            )
            for name, call_id in zip(all_called, ids, strict=True):
                artifact = {"tokopt_found_tools": found} if name == "search_tools" else None
                status: Any = draw(st.sampled_from(["success", "success", "error"])) if artifact is None else "success"
                thread.append(ToolMessage("ok", name=name, tool_call_id=call_id, artifact=artifact, status=status))
        thread.append(AIMessage(f"answer {turn}"))
    return thread


def calls(thread: Sequence[AnyMessage]) -> list[int]:
    """How many messages there are whenever the model is called."""
    return [at for at, message in enumerate(thread) if at and isinstance(message, AIMessage)]


def sent(selection: ToolSelection, model: Any, thread: Sequence[AnyMessage]) -> tuple[list[str], list[str]]:
    """The tools and the messages of the request that a selection makes, as they go to the provider."""
    given = request(BOX, *thread, model=model)
    selection.learn_from(given)
    made = selection.select(given)
    assert made.plan is not None
    assert made.problems == ()
    request_made = made.sent(given)
    return [json.dumps(one) for one in request_made.tools], wire(request_made.messages)


def check(way: str, model: Any, thread: list[AnyMessage], selection_for: Callable[[int], ToolSelection]) -> None:
    """Each request begins with all of the one before: with its messages, and with its tools."""
    tools: list[str] = []
    messages: list[str] = []
    for number, at in enumerate(calls(thread)):
        now_tools, now_messages = sent(selection_for(number), model, thread[:at])
        if way == "rebind":
            assert now_tools[: len(tools)] == tools
        elif tools:
            assert now_tools == tools
        assert now_messages[: len(messages)] == messages
        tools, messages = now_tools, now_messages


def teach(selection: ToolSelection, call: int) -> None:
    """What other threads teach between two calls of this one."""
    name = names(BOX)[call % len(BOX)]
    for text in ("sort out the paperwork", "delete the invoice"):
        other = [
            HumanMessage(text),
            ai(tool_calls=[{"name": name, "args": {}, "id": f"other {call} {text}"}]),
            ToolMessage("ok", name=name, tool_call_id=f"other {call} {text}"),
        ]
        selection.learn_from(request(BOX, *other))


@pytest.mark.parametrize(("way", "model"), WAYS)
@given(thread=threads(), embedded=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_longer_thread_begins_as_a_shorter_one_whatever_is_learned_meanwhile(
    way: Any, model: str, thread: list[AnyMessage], embedded: bool
) -> None:
    if way == "rebind":  # only there everything is bound for an image
        thread = [message for message in thread if not isinstance(message, HumanMessage) or message.text]
    selection = ToolSelection(
        mode=way, max_tools=3, counter=COUNTER, embeddings=TableEmbeddings() if embedded else None
    )

    def taught(call: int) -> ToolSelection:
        teach(selection, call)
        return selection

    before = wire(thread)
    check(way, MODELS[model], thread, taught)
    assert wire(thread) == before


@pytest.mark.parametrize(("way", "model"), WAYS[1:])
@given(thread=threads())
@settings(max_examples=8, deadline=None)
def test_it_does_so_in_another_process_for_each_call(way: Any, model: str, thread: list[AnyMessage]) -> None:
    thread = [
        message.model_copy(update={"id": f"h{at}"}) if isinstance(message, HumanMessage) else message
        for at, message in enumerate(thread)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Database(f"sqlite:///{Path(folder) / 'tokopt.db'}")) as database,
    ):

        def fresh(call: int) -> ToolSelection:
            selection = ToolSelection(mode=way, max_tools=3, counter=COUNTER, database=database)
            teach(selection, call)
            selection.memory.flush()
            return selection

        check(way, MODELS[model], thread, fresh)


@given(thread=threads())
@settings(max_examples=10, deadline=None)
def test_without_learning_a_request_is_a_pure_function_of_the_thread(thread: list[AnyMessage]) -> None:
    for way, model in WAYS:
        mode: Any = way
        for at in calls(thread)[-2:]:
            one, other = (ToolSelection(mode=mode, max_tools=3, counter=COUNTER, learn=False) for _ in range(2))
            assert sent(one, MODELS[model], thread[:at]) == sent(other, MODELS[model], thread[:at])
