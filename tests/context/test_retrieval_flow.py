"""Calls for what is shown in part, answered where the model is called: in agents, bare models, beside other parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from langchain_tokopt.context import problem
from langchain_tokopt.context.handles import handle
from langchain_tokopt.events import Decision, Failure
from langchain_tokopt.flow import FlowMiddleware, compose
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tools import ToolSelection, ToolSelectionMiddleware
from tests.context.partly import Partly, marked
from tests.fakes import ListSink, ScriptedModel, ai
from tests.tools.toolbox import toolbox, wire

FILE = "the first line\n" + "\n".join(f"line {n} of the file" for n in range(2, 100))
ID = handle(FILE)
OURS = "retrieve_original"
ASKED = HumanMessage("Read it.", id="h0")
both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@tool
def read_file(path: str) -> str:
    """Read a file."""
    return FILE


@tool
def write_file(path: str) -> str:
    """Write a file."""
    return f"wrote {path}"


def call(name: str, call_id: str, /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


def reads(call_id: str = "c1") -> AIMessage:
    return ai(tool_calls=[call("read_file", call_id, path="a")])


def retrieves(call_id: str = "r1", **args: Any) -> AIMessage:
    return ai(tool_calls=[call(OURS, call_id, **{"id": ID, **args})])


def agent_of(*responses: Any, sink: ListSink | None = None, **more: Any) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(responses=list(responses), model_name="priced", provider="nobody")
    ours = Partly(sink=sink, mode=more.pop("mode", "optimize"), pricing=more.pop("pricing", None))
    middleware = [*more.pop("outside", ()), ours, *more.pop("inside", ())]
    return create_agent(model, more.pop("tools", [read_file, write_file]), middleware=middleware, **more), model


async def run(agent: Any, is_async: bool = False, config: Any = None) -> list[BaseMessage]:
    state = {"messages": [ASKED]}
    ended = await agent.ainvoke(state, config) if is_async else agent.invoke(state, config)
    messages: list[BaseMessage] = ended["messages"]
    assert problem(messages) is None
    return messages


def kinds(messages: list[BaseMessage]) -> list[str]:
    """Each message by who said it, and which tools it calls or is the result of."""
    return [" ".join([kind(message), *names(message)]) for message in messages]


def sent(messages: Sequence[BaseMessage]) -> list[str]:
    """What a provider is sent of each message, which is nothing of what an answer carries."""
    plain = [message_chunk_to_message(one) if isinstance(one, AIMessageChunk) else one for one in messages]
    return wire([message.model_copy(update={"additional_kwargs": {}}) for message in plain])


def kind(message: BaseMessage) -> str:
    return message.type.replace("AIMessageChunk", "ai")


def names(message: BaseMessage) -> list[str]:
    if isinstance(message, ToolMessage):
        return [str(message.name)]
    return [one["name"] for one in getattr(message, "tool_calls", [])]


# --- in an agent -----------------------------------------------------------------------------------------------------


@both
async def test_what_is_shown_in_part_is_given_back_and_becomes_part_of_the_thread(is_async: bool) -> None:
    agent, model = agent_of(reads(), retrieves(), "done")
    messages = await run(agent, is_async)
    assert kinds(messages) == ["human", "ai read_file", "tool read_file", f"ai {OURS}", f"tool {OURS}", "ai"]
    assert [message.content for message in messages if message.type == "tool"] == [FILE, FILE]
    assert [one.tool_names for one in model.calls] == [
        ["read_file", "write_file"],
        *[["read_file", "write_file", OURS]] * 2,
    ]
    sent = model.calls[2].messages
    assert [message.content for message in sent if message.type == "tool"] == [marked(FILE), FILE]


@both
async def test_what_was_given_back_is_shown_whole_in_every_later_request(is_async: bool) -> None:
    agent, model = agent_of(reads(), retrieves(), "done", "and done", checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await run(agent, is_async, config)
    more = {"messages": [HumanMessage("Again.")]}
    await agent.ainvoke(more, config) if is_async else agent.invoke(more, config)
    before, after = model.calls[2:]
    assert wire(after.messages[: len(before.messages)]) == wire(before.messages)
    assert after.tool_names == before.tool_names


async def test_several_calls_of_one_message_are_answered_in_their_order() -> None:
    several = ai(
        tool_calls=[call(OURS, "r1", id=ID), call(OURS, "r2", id="ffffffff"), call(OURS, "r3", id=ID, start=98)]
    )
    agent, model = agent_of(reads(), several, "done")
    messages = await run(agent)
    results = [message for message in messages if message.type == "tool"]
    assert [one.content for one in results[1:]] == [
        FILE,
        results[2].content,
        "line 98 of the file\nline 99 of the file",
    ]
    assert [getattr(one, "status", None) for one in results] == ["success", "success", "error", "success"]
    assert len(model.calls) == 3


@both
async def test_beside_a_call_of_another_tool_both_are_answered(is_async: bool) -> None:
    """The other one by the agent."""
    beside = ai(tool_calls=[call("write_file", "c2", path="b"), call(OURS, "r1", id=ID)])
    agent, model = agent_of(reads(), beside, "done")
    messages = await run(agent, is_async)
    assert kinds(messages[3:]) == [f"ai write_file {OURS}", f"tool {OURS}", "tool write_file", "ai"]
    assert len(model.calls) == 3


async def test_a_model_that_retrieves_for_ever_comes_to_an_end() -> None:
    def again(messages: list[BaseMessage]) -> AIMessage:
        return retrieves(f"r{len(messages)}")

    agent, model = agent_of(reads(), *[again] * 8, "done")
    messages = await run(agent)
    assert messages[-1].text == "done"
    results = [message.text for message in messages if message.type == "tool"]
    assert results == [FILE] * 7 + ["That is enough for one step. Go on with what you have."] * 2
    assert [OURS in one.tool_names for one in model.calls] == [False, *[True] * 8, False]


async def test_an_agent_that_has_a_tool_of_that_name_keeps_it() -> None:
    @tool
    def retrieve_original(id: str) -> str:  # noqa: A002
        """Another tool."""
        return f"own {id}"

    asks = ai(tool_calls=[call(OURS, "c2", id="x"), call(f"{OURS}_2", "r1", id=ID)])
    agent, model = agent_of(reads(), asks, "done", tools=[read_file, retrieve_original])
    messages = await run(agent)
    assert [message.text for message in messages if message.type == "tool"] == [FILE, FILE, "own x"]
    assert model.calls[1].tool_names == ["read_file", OURS, f"{OURS}_2"]


async def test_arguments_that_are_no_json_are_told() -> None:
    broken = AIMessage("", invalid_tool_calls=[{"name": OURS, "args": '{"id', "id": "r1", "error": "?"}])
    agent, _ = agent_of(reads(), broken, "done")
    messages = await run(agent)
    assert messages[-1].text == "done"
    assert messages[-2].text == 'The call is not valid JSON. It looks like {"id": "..."}.'


# --- errors ----------------------------------------------------------------------------------------------------------


@both
async def test_an_error_after_a_call_was_answered_is_the_models_own(is_async: bool) -> None:
    sink = ListSink()
    agent, model = agent_of(reads(), retrieves(), ValueError("overloaded"), "done", sink=sink)
    with pytest.raises(ValueError, match="overloaded"):
        await run(agent, is_async)
    assert len(model.calls) == 3
    assert sink.of(Failure) == []
    assert len(sink.of(Decision)) == 2


async def test_a_call_that_is_made_again_after_an_error_retrieves_again() -> None:
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0)
    agent, model = agent_of(reads(), retrieves(), ValueError("overloaded"), retrieves("r2"), "done", outside=[retry])
    messages = await run(agent)
    assert kinds(messages)[3:] == [f"ai {OURS}", f"tool {OURS}", "ai"]
    assert len(model.calls) == 5


# --- what is booked --------------------------------------------------------------------------------------------------


async def test_a_call_that_only_retrieves_is_booked_as_a_loss() -> None:
    sink = ListSink()
    rates = Rates(input=Decimal(2), output=Decimal(8))
    asks = ai(tool_calls=[call(OURS, "r1", id=ID)], input_tokens=1_000_000, output_tokens=1_000_000)
    agent, _ = agent_of(reads(), asks, "done", sink=sink, pricing=Pricing(overrides={"priced": rates}))
    await run(agent)
    alone, last = sink.of(Decision)
    assert (alone.saved_usd, alone.tokens_after, alone.reason) == (
        Decimal(-10),
        2_000_000,
        "shown in part; only retrieved",
    )
    assert (last.saved_usd, last.reason) == (None, "shown in part")


async def test_shadow_makes_no_further_call() -> None:
    sink = ListSink()
    agent, model = agent_of(reads(), "done", sink=sink, mode="shadow")
    messages = await run(agent)
    assert kinds(messages) == ["human", "ai read_file", "tool read_file", "ai"]
    assert [one.tool_names for one in model.calls] == [["read_file", "write_file"]] * 2
    assert [message.content for message in model.calls[1].messages if message.type == "tool"] == [FILE]
    assert len(sink.of(Decision)) == 1


# --- what else is in an agent ----------------------------------------------------------------------------------------


class Answer(BaseModel):
    """The answer."""

    said: str


@both
async def test_structured_output_after_a_retrieval(is_async: bool) -> None:
    said = ai(tool_calls=[call("Answer", "s1", said="it")])
    agent, _ = agent_of(reads(), retrieves(), said, response_format=ToolStrategy(Answer))
    ended = await agent.ainvoke({"messages": [ASKED]}) if is_async else agent.invoke({"messages": [ASKED]})
    assert ended["structured_response"] == Answer(said="it")
    assert problem(ended["messages"]) is None


async def test_structured_output_beside_a_retrieval_leaves_no_open_call() -> None:
    said = ai(tool_calls=[call(OURS, "r1", id=ID), call("Answer", "s1", said="it")])
    agent, model = agent_of(reads(), said, response_format=ToolStrategy(Answer))
    ended = agent.invoke({"messages": [ASKED]})
    assert ended["structured_response"] == Answer(said="it")
    assert problem(ended["messages"]) is None
    assert kinds(ended["messages"])[3:] == ["ai Answer", "tool Answer"]
    assert len(model.calls) == 2


async def test_a_structured_answer_that_does_not_fit_is_tried_again() -> None:
    wrong = ai(tool_calls=[call(OURS, "r1", id=ID), call("Answer", "s1", thing="it")])
    right = ai(tool_calls=[call("Answer", "s2", said="it")])
    agent, model = agent_of(reads(), wrong, right, response_format=ToolStrategy(Answer))
    ended = agent.invoke({"messages": [ASKED]})
    assert ended["structured_response"] == Answer(said="it")
    assert problem(ended["messages"]) is None
    assert len(model.calls) == 3


DECISIONS: list[tuple[dict[str, Any], str]] = [
    ({"type": "approve"}, "wrote b"),
    ({"type": "edit", "edited_action": {"name": "write_file", "args": {"path": "c"}}}, "wrote c"),
    ({"type": "reject", "message": "Not today."}, "Not today."),
]


@pytest.mark.parametrize(("decision", "result"), DECISIONS)
async def test_a_human_is_asked_about_the_agents_own_tools_only(decision: dict[str, Any], result: str) -> None:
    review = HumanInTheLoopMiddleware({"write_file": True})
    beside = ai(tool_calls=[call(OURS, "r1", id=ID), call("write_file", "c2", path="b")])
    agent, _ = agent_of(reads(), beside, "done", outside=[review], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    (stop,) = agent.invoke({"messages": [ASKED]}, config)["__interrupt__"]
    assert [one["name"] for one in stop.value["action_requests"]] == ["write_file"]
    messages = agent.invoke(Command(resume={"decisions": [decision]}), config)["messages"]
    assert problem(messages) is None
    texts = {message.tool_call_id: message.text for message in messages if isinstance(message, ToolMessage)}
    assert texts["r1"] == FILE
    assert result in texts["c2"]
    assert messages[-1].text == "done"


async def test_an_agent_that_stops_before_its_tools_goes_on() -> None:
    beside = ai(tool_calls=[call(OURS, "r1", id=ID), call("write_file", "c2", path="b")])
    agent, model = agent_of(reads(), beside, "done", checkpointer=InMemorySaver(), interrupt_before=["tools"])
    config: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke({"messages": [ASKED]}, config)
    agent.invoke(None, config)
    messages = agent.invoke(None, config)["messages"]
    assert problem(messages) is None
    assert messages[-1].text == "done"
    assert len(model.calls) == 3


# --- a bare model ----------------------------------------------------------------------------------------------------

Ask = Callable[..., Any]
READ = [ASKED, reads(), ToolMessage(FILE, name="read_file", tool_call_id="c1")]


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream"])
def ask(request: pytest.FixtureRequest) -> Ask:
    async def run(bound: Any, *messages: BaseMessage) -> AIMessage:
        given = list(messages)
        if request.param == "invoke":
            return bound.invoke(given)  # type: ignore[no-any-return]
        if request.param == "ainvoke":
            return await bound.ainvoke(given)  # type: ignore[no-any-return]
        chunks = list(bound.stream(given)) if request.param == "stream" else [one async for one in bound.astream(given)]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert isinstance(whole, AIMessageChunk)
        return whole

    return run


def bare(
    *responses: Any, outside: Sequence[FlowMiddleware] = (), tools: Any = None, nested: bool = False
) -> tuple[Any, ScriptedModel]:
    """A wrapped model; `nested`: wrapped once more for what is outside."""
    model = ScriptedModel(responses=list(responses))
    inside, further = Partly(keeps=False).run_flow, [one.run_flow for one in outside]
    wrapped = OptimizedChatModel.around(model, inside if nested else compose(*further, inside))
    if nested:
        wrapped = OptimizedChatModel.around(wrapped, compose(*further))
    return wrapped.bind_tools(tools or [read_file, write_file]), model


async def test_a_bare_model_has_one_answer_and_shows_the_retrieval_again(ask: Ask) -> None:
    bound, model = bare(retrieves(), "done", "and done")
    answer = await ask(bound, *READ)
    assert (answer.text, answer.tool_calls) == ("done", [])
    assert (await ask(bound, *READ, answer, HumanMessage("Again."))).text == "and done"
    before, after = model.calls[1:]
    assert sent(after.messages[: len(before.messages)]) == sent(before.messages)
    assert kinds(after.messages)[3:] == [f"ai {OURS}", f"tool {OURS}", "ai", "human"]


async def test_text_before_the_call_is_streamed_and_the_answer_keeps_its_own(ask: Ask) -> None:
    said = ai("Let me see.", tool_calls=[call(OURS, "r1", id=ID)])
    bound, model = bare(said, "done", "and done")
    answer = await ask(bound, *READ)
    assert answer.text.endswith("done")
    await ask(bound, *READ, answer, HumanMessage("Again."))
    assert [message.text for message in model.calls[2].messages[3:6]] == ["Let me see.", FILE, "done"]


async def test_beside_a_real_call_a_retrieval_of_a_bare_model_is_dropped(ask: Ask) -> None:
    bound, model = bare(ai(tool_calls=[call(OURS, "r1", id=ID), call("write_file", "c2", path="b")]))
    assert (await ask(bound, *READ)).tool_calls == [call("write_file", "c2", path="b")]
    assert len(model.calls) == 1


async def test_a_model_without_tools_of_its_own_retrieves_as_well(ask: Ask) -> None:
    model = ScriptedModel(responses=[retrieves(), "done"])
    wrapped = OptimizedChatModel.around(model, Partly(keeps=False).run_flow)
    assert (await ask(wrapped, *READ)).text == "done"
    assert [one.tool_names for one in model.calls] == [[OURS]] * 2


async def test_where_it_is_the_only_tool_a_call_too_many_is_dropped(ask: Ask) -> None:
    """Some providers take no history with calls in it when there are no tools."""

    def again(messages: list[BaseMessage]) -> AIMessage:
        return ai("Once more.", tool_calls=[call(OURS, f"r{len(messages)}", id=ID)])

    model = ScriptedModel(responses=[again])
    answer = await ask(OptimizedChatModel.around(model, Partly(keeps=False).run_flow), *READ)
    assert (answer.text.endswith("Once more."), answer.tool_calls) == (True, [])
    assert [one.tool_names for one in model.calls] == [[OURS]] * 9


# --- beside the selection of tools -----------------------------------------------------------------------------------


def selecting(mode: Any = "rebind", **more: Any) -> ToolSelectionMiddleware:
    return ToolSelectionMiddleware(ToolSelection(mode=mode, max_tools=2), **more)


SEARCH = call("search_tools", "s1", query="export_server", k=1)
EXPORT = call("export_server", "c9", item="x")
ORDERS = {
    "retrieves, then searches": [[call(OURS, "r1", id=ID)], [SEARCH]],
    "searches, then retrieves": [[SEARCH], [call(OURS, "r1", id=ID)]],
    "retrieves, searches, retrieves": [[call(OURS, "r1", id=ID)], [SEARCH], [call(OURS, "r2", id=ID, start=98)]],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("mode", ["rebind", "proxy"])
async def test_an_agent_searches_and_retrieves_in_one_step(order: list[Any], mode: Any) -> None:
    export = EXPORT if mode == "rebind" else call("call_tool", "c9", name="export_server", arguments={"item": "x"})
    steps = [ai(tool_calls=calls) for calls in order]
    tools = toolbox(read_file)
    agent, model = agent_of(reads(), *steps, ai(tool_calls=[export]), "done", outside=[selecting(mode)], tools=tools)
    messages = await run(agent)
    asides = [one["name"] for calls in order for one in calls]
    expected = [shown for name in asides for shown in (f"ai {name}", f"tool {name}")]
    assert kinds(messages)[3:] == [*expected, "ai export_server", "tool export_server", "ai"]
    for before, after in zip(model.calls[2:], model.calls[3:], strict=False):
        assert sent(after.messages[: len(before.messages)]) == sent(before.messages)


async def test_an_agent_searches_and_retrieves_at_once() -> None:
    at_once = ai(tool_calls=[call(OURS, "r1", id=ID), SEARCH])
    tools = toolbox(read_file)
    agent, _ = agent_of(reads(), at_once, ai(tool_calls=[EXPORT]), "done", outside=[selecting()], tools=tools)
    messages = await run(agent)
    assert kinds(messages)[3:] == [
        *(f"ai {OURS} search_tools", f"tool {OURS}", "tool search_tools"),
        *("ai export_server", "tool export_server", "ai"),
    ]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("mode", ["rebind", "proxy"])
@pytest.mark.parametrize("nested", [False, True], ids=["one model", "nested"])
async def test_what_a_bare_model_searches_and_retrieves_comes_again_in_its_order(
    ask: Ask, order: list[Any], mode: Any, nested: bool
) -> None:
    export = EXPORT if mode == "rebind" else call("call_tool", "c9", name="export_server", arguments={"item": "x"})
    steps = [ai(f"step {n}", tool_calls=calls) for n, calls in enumerate(order)]
    bound, model = bare(
        *steps,
        ai("at last", tool_calls=[export]),
        "done",
        outside=[selecting(mode, keeps_searches=False)],
        tools=toolbox(read_file),
        nested=nested,
    )
    answer = await ask(bound, *READ)
    assert [(one["name"], one["args"]) for one in answer.tool_calls] == [("export_server", {"item": "x"})]
    await ask(bound, *READ, answer, ToolMessage("ok", name="export_server", tool_call_id="c9"))
    asides = [one["name"] for calls in order for one in calls]
    after = model.calls[-1].messages
    expected = [shown for name in asides for shown in (f"ai {name}", f"tool {name}")]
    assert kinds(after)[3:-2] == expected
    for before in model.calls[:-1]:
        assert sent(after[: len(before.messages)]) == sent(before.messages)
    assert [message.text for message in after if kind(message) == "ai"][1:] == [
        *(f"step {n}" for n in range(len(order))),
        "at last",
    ]
    assert problem(after) is None


async def test_what_one_flow_kept_the_other_puts_back(ask: Ask) -> None:
    """The selection of tools is switched off between two calls, or was in another process."""
    bound, _ = bare(
        *(retrieves(), ai(tool_calls=[SEARCH]), ai(tool_calls=[EXPORT])),
        outside=[selecting(keeps_searches=False)],
        tools=toolbox(read_file),
    )
    answer = await ask(bound, *READ)
    result = ToolMessage("ok", name="export_server", tool_call_id="c9")
    seen: list[list[BaseMessage]] = []
    for flow in (Partly(keeps=False).run_flow, selecting(keeps_searches=False).run_flow):
        other = ScriptedModel(responses=["done"])
        await ask(OptimizedChatModel.around(other, flow).bind_tools(toolbox(read_file)), *READ, answer, result)
        seen.append(other.calls[0].messages)
    for messages in seen:
        assert kinds(messages)[3:] == [
            *(f"ai {OURS}", f"tool {OURS}", "ai search_tools", "tool search_tools"),
            *("ai export_server", "tool export_server"),
        ]
