"""The user is asked before a limit is passed: what the question says, what each answer does, and where nobody can."""

from __future__ import annotations

import contextvars
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langchain_tokopt.budget import Budget, BudgetMiddleware, Limit
from langchain_tokopt.budget.steps import asking
from langchain_tokopt.errors import BudgetExceededError
from langchain_tokopt.events import Decision, Reservation
from langchain_tokopt.flow import internal_call
from langchain_tokopt.model import OptimizedChatModel
from tests.budget.figures import PRICING, WordCounter
from tests.budget.steps.memory_ledger import MemoryLedger
from tests.fakes import ListSink, ScriptedModel, ai

HI: Any = {"messages": [HumanMessage("hi")]}
THREAD: Any = {"configurable": {"thread_id": "t"}}
# 100 tokens in and 50 out: 0.0006 USD. Reserved are 0.001137.
ANSWER = ai("done", input_tokens=100, output_tokens=50)
NOON = datetime(2026, 5, 4, 12, tzinfo=timezone.utc).timestamp()

HINT = "" if sys.version_info >= (3, 11) else "; before Python 3.11 LangGraph hands no config to async nodes"

BOTH = pytest.mark.parametrize(
    "is_async",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="LangGraph hands no config to async nodes"),
        ),
    ],
)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def make(ledger: MemoryLedger) -> Iterator[Callable[..., Budget]]:
    made: list[Budget] = []

    def budget(**settings: Any) -> Budget:
        given = {"pricing": PRICING, "counter": WordCounter(), "max_output_tokens": 100, "store": ledger}
        made.append(Budget(**{**given, "on_exceeded": "ask", **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def agent_with(*middleware: AgentMiddleware[Any, Any, Any], model: Any = None, **settings: Any) -> Any:
    settings = {"checkpointer": InMemorySaver(), **settings}
    return create_agent(model or ScriptedModel(responses=[ANSWER]), middleware=middleware, **settings)


async def run(agent: Any, given: Any, is_async: bool, config: Any = THREAD) -> Any:
    return await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)


def asked(result: Any) -> list[dict[str, Any]]:
    return [one.value for one in result.get("__interrupt__", ())]


def actions(sink: ListSink) -> list[str]:
    return [event.action for event in sink.of(Reservation)]


# --- the question ---


@BOTH
async def test_the_question_has_the_figures_and_says_what_may_be_answered(
    make: Callable[..., Budget], sink: ListSink, ledger: MemoryLedger, is_async: bool
) -> None:
    budget = make(usd="0.001", per="day", clock=lambda: NOON)
    model = ScriptedModel(responses=[ANSWER])
    agent = agent_with(BudgetMiddleware(budget, sink=sink), model=model)
    result = await run(agent, HI, is_async)
    [question] = asked(result)
    figures = {
        "budget": "default",
        "node": "global",
        "per": "day",
        "path": "",
        "unit": "usd",
        "limit": "0.001",
        "spent": "0",
        "needed": "0.001137",
        "missing": {"usd": "0.000137"},
        "resets_at": "2026-05-05T00:00:00+00:00",
        "model": "gpt-4o-mini",
    }
    assert {key: question[key] for key in figures} == figures
    assert question["type"] == "budget_exceeded"
    assert question["question"] == (
        "0 USD of the 0.001 USD of budget 'default' are spent or held, and the next call of gpt-4o-mini "
        "may take up to 0.001137 USD. It starts afresh at 2026-05-05 00:00 UTC. Shall it be made?"
    )
    assert question["answers"].startswith('answer "approve" for this one call')
    assert question["action_requests"] == [{"name": "spend", "args": figures, "description": question["question"]}]
    assert question["review_configs"] == [{"action_name": "spend", "allowed_decisions": ["approve", "reject"]}]
    assert json.loads(json.dumps(question)) == question
    assert result["__interrupt__"][0].response_schema["title"] == "BudgetAnswer"
    assert model.calls == []
    assert not ledger.in_use
    assert actions(sink) == []


@BOTH
async def test_a_short_answer_that_fits_is_not_asked_about(make: Callable[..., Budget], is_async: bool) -> None:
    budget = make(usd="0.001", min_output_tokens=50)
    model = ScriptedModel(responses=[ANSWER])
    result = await run(agent_with(BudgetMiddleware(budget), model=model), HI, is_async)
    assert result["messages"][-1].text == "done"
    assert model.calls[0].kwargs == {"max_completion_tokens": 86}


# --- the answers ---


@BOTH
@pytest.mark.parametrize("answer", ["approve", {"type": "approve"}, {"decisions": [{"type": "approve"}]}])
async def test_an_approved_call_is_made_beyond_the_limit_and_says_so(
    make: Callable[..., Budget], sink: ListSink, ledger: MemoryLedger, is_async: bool, answer: Any
) -> None:
    budget = make(usd="0.001")
    agent = agent_with(BudgetMiddleware(budget, sink=sink))
    await run(agent, HI, is_async)
    result = await run(agent, Command(resume=answer), is_async)
    assert [message.text for message in result["messages"]] == ["hi", "done"]
    assert ledger.spent.usd == Decimal("0.0006")
    assert not ledger.in_use
    reserved, settled = sink.of(Reservation)
    assert (reserved.action, reserved.usd) == ("reserved", Decimal("0.001137"))
    assert reserved.reason == settled.reason == "approved by the user, beyond the limit"
    assert ledger.reasons == ["approved by the user, beyond the limit"]
    assert sink.of(Decision)[-1].reason == "ask: approved by the user, beyond the limit"


@BOTH
async def test_an_approval_is_for_one_call_only(make: Callable[..., Budget], is_async: bool) -> None:
    budget = make(usd="0.001")
    call = ai(tool_calls=[{"name": "look", "args": {}}], input_tokens=100, output_tokens=50)
    agent = agent_with(BudgetMiddleware(budget), model=ScriptedModel(responses=[call, ANSWER]), tools=[look])
    first = asked(await run(agent, HI, is_async))
    second = asked(await run(agent, Command(resume="approve"), is_async))
    assert [one["spent"] for one in (*first, *second)] == ["0", "0.0006"]
    result = await run(agent, Command(resume="approve"), is_async)
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai"]


@BOTH
async def test_a_raised_limit_holds_for_the_rest_of_the_period(
    make: Callable[..., Budget], ledger: MemoryLedger, is_async: bool
) -> None:
    now = [NOON]
    budget = make(usd="0.001", per="day", clock=lambda: now[0])
    agent = agent_with(BudgetMiddleware(budget))
    await run(agent, HI, is_async)
    result = await run(agent, Command(resume={"type": "raise", "usd": "0.002"}), is_async)
    assert result["messages"][-1].text == "done"
    [granted] = ledger.granted
    assert (granted.nano, granted.until) == (2_000_000, NOON + 12 * 3600)
    assert "raised by $0.002 until its period ends: raised by the user, who was asked" in ledger.reasons
    # 0.0006 of 0.003 are spent, so three more fit.
    for _ in range(3):
        assert asked(await run(agent, HI, is_async)) == []
    assert len(asked(await run(agent, HI, is_async))) == 1
    now[0] += 24 * 3600
    [tomorrow] = asked(await run(agent, HI, is_async))
    assert (tomorrow["limit"], tomorrow["spent"]) == ("0.001", "0")


def test_what_was_approved_and_what_was_raised_is_in_the_journal(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.001", store=None)
    agent = agent_with(BudgetMiddleware(budget))
    for answer in ("approve", {"type": "raise", "usd": "0.01"}):
        assert len(asked(agent.invoke(HI, THREAD))) == 1
        agent.invoke(Command(resume=answer), THREAD)
    told = [(entry.action, entry.reason) for entry in reversed(budget.journal()) if entry.action != "reserved"]
    assert told[-3:] == [
        ("settled", "approved by the user, beyond the limit"),
        ("set", "raised by $0.01 until its period ends: raised by the user, who was asked"),
        ("settled", None),
    ]
    assert budget.reconcile() == []


def test_every_limit_that_is_short_is_raised_by_one_answer(make: Callable[..., Budget], ledger: MemoryLedger) -> None:
    limits = {"global": Limit(usd="0.001"), "user=*": [Limit(usd="0.0005"), Limit(calls=5, per="day")]}
    agent = agent_with(BudgetMiddleware(make(limits=limits)))
    config: Any = {"configurable": {"thread_id": "t", "user_id": "eve"}}
    [question] = asked(agent.invoke(HI, config))
    assert question["missing"] == {"usd": "0.000637"}
    result = agent.invoke(Command(resume={"type": "raise", "usd": "0.001"}), config)
    assert result["messages"][-1].text == "done"
    assert {(one.node, one.nano) for one in ledger.granted} == {("", 1_000_000), ("user=eve", 1_000_000)}


@BOTH
@pytest.mark.parametrize("answer", [False, "reject", {"type": "reject", "message": "no more today"}])
async def test_after_a_refusal_the_next_step_is_taken(
    make: Callable[..., Budget], sink: ListSink, ledger: MemoryLedger, is_async: bool, answer: Any
) -> None:
    said = ": no more today." if isinstance(answer, dict) else "."
    raising = agent_with(BudgetMiddleware(make(usd="0.001"), sink=sink))
    await run(raising, HI, is_async)
    with pytest.raises(BudgetExceededError) as caught:
        await run(raising, Command(resume=answer), is_async)
    assert str(caught.value).endswith(f"The user was asked, and did not want more to be spent{said}")
    assert actions(sink) == ["refused"]
    ending = agent_with(BudgetMiddleware(make(usd="0.001", on_exceeded=("ask", "end"))))
    await run(ending, HI, is_async)
    last = (await run(ending, Command(resume=answer), is_async))["messages"][-1]
    assert last.response_metadata == {"finish_reason": "budget_exceeded"}
    assert last.text.endswith(f"The user was asked, and did not want more to be spent{said}")
    assert not ledger.in_use
    assert not ledger.spent


def test_a_step_after_the_question_is_taken_when_it_is_refused(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.001", min_output_tokens=50, on_exceeded=("ask", "clamp"))
    model = ScriptedModel(responses=[ANSWER])
    agent = agent_with(BudgetMiddleware(budget), model=model)
    assert len(asked(agent.invoke(HI, THREAD))) == 1
    assert agent.invoke(Command(resume="reject"), THREAD)["messages"][-1].text == "done"
    assert model.calls[0].kwargs == {"max_completion_tokens": 86}


@BOTH
async def test_what_is_not_understood_is_asked_again_with_what_was_wrong(
    make: Callable[..., Budget], ledger: MemoryLedger, is_async: bool
) -> None:
    agent = agent_with(BudgetMiddleware(make(usd="0.001")))
    await run(agent, HI, is_async)
    [again] = asked(await run(agent, Command(resume="maybe"), is_async))
    assert again["problem"].startswith('"maybe" is not understood: answer "approve"')
    assert again["action_requests"][0]["description"].startswith(again["problem"])
    [more] = asked(await run(agent, Command(resume={"type": "raise", "usd": "0.0001"}), is_async))
    assert more["problem"] == "that is not enough for this call: raise the limit by at least 0.000137 USD"
    assert ledger.granted == []
    result = await run(agent, Command(resume={"type": "raise", "usd": "0.001"}), is_async)
    assert result["messages"][-1].text == "done"
    assert [one.nano for one in ledger.granted] == [1_000_000]


# --- replays ---


def test_an_answer_that_came_too_late_to_matter_is_not_taken_for_another_s(make: Callable[..., Budget]) -> None:
    @tool
    def delete(name: str) -> str:
        """Delete a file."""
        return f"deleting {name}: {interrupt(f'delete {name}?')}"

    now = [NOON]
    budget = make(usd="0.0015", per="day", clock=lambda: now[0])
    agent_with(BudgetMiddleware(budget)).invoke(HI, THREAD)
    call = ai(tool_calls=[{"name": "delete", "args": {"name": "x"}}], input_tokens=100, output_tokens=10)
    sub = create_agent(ScriptedModel(responses=[call, "done"]), [delete], middleware=[BudgetMiddleware(budget)])

    @tool
    def delegate() -> str:
        """Have somebody else do it."""
        return str(sub.invoke(HI)["messages"][-1].text)

    model = ScriptedModel(responses=[ai(tool_calls=[{"name": "delegate", "args": {}}]), "thanks"])
    agent = create_agent(model, [delegate], checkpointer=InMemorySaver())
    assert [one["type"] for one in asked(agent.invoke(HI, THREAD))] == ["budget_exceeded"]
    now[0] += 24 * 3600  # a new day has its own money
    assert asked(agent.invoke(Command(resume={"type": "approve"}), THREAD)) == ["delete x?"]


def test_a_node_that_asks_twice_is_answered_in_order(make: Callable[..., Budget], ledger: MemoryLedger) -> None:
    class Ask(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            answers.append(interrupt("how?"))
            return handler(request)

    answers: list[Any] = []
    outer, inner = Ask(), BudgetMiddleware(make(usd="0.001"))
    agent = agent_with(outer, inner)
    assert asked(agent.invoke(HI, THREAD)) == ["how?"]
    [question] = asked(agent.invoke(Command(resume="so"), THREAD))
    assert question["type"] == "budget_exceeded"
    assert agent.invoke(Command(resume="approve"), THREAD)["messages"][-1].text == "done"
    assert answers == ["so", "so"]
    assert not ledger.in_use


def test_an_interrupt_further_in_does_not_take_the_answer_and_holds_nothing(
    make: Callable[..., Budget], ledger: MemoryLedger, sink: ListSink
) -> None:
    class Ask(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            answers.append(interrupt("sure?"))
            return handler(request)

    answers: list[Any] = []
    agent = agent_with(BudgetMiddleware(make(usd="0.001"), sink=sink), Ask())
    agent.invoke(HI, THREAD)
    assert asked(agent.invoke(Command(resume="approve"), THREAD)) == ["sure?"]
    assert not ledger.in_use
    assert agent.invoke(Command(resume="yes"), THREAD)["messages"][-1].text == "done"
    assert answers == ["yes"]
    assert actions(sink) == ["reserved", "released", "reserved", "settled"]
    assert ledger.spent.usd == Decimal("0.0006")


def test_a_retry_around_the_budget_lets_the_question_through(make: Callable[..., Budget], ledger: MemoryLedger) -> None:
    model = ScriptedModel(responses=[ConnectionError("down"), ANSWER])
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)
    agent = agent_with(retry, BudgetMiddleware(make(usd="0.001")), model=model)
    assert len(asked(agent.invoke(HI, THREAD))) == 1
    # The approved call fails; the one that is tried in its place is another.
    assert len(asked(agent.invoke(Command(resume="approve"), THREAD))) == 1
    assert not ledger.in_use


@BOTH
async def test_agents_at_work_at_once_are_each_answered_for_themselves(
    make: Callable[..., Budget], ledger: MemoryLedger, is_async: bool
) -> None:
    budget = make(usd="0.001", on_exceeded=("ask", "end"))
    sub = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget)])

    @tool
    def delegate(what: str) -> str:
        """Have somebody else do it."""
        return f"{what}: {sub.invoke({'messages': [HumanMessage(what)]})['messages'][-1].text}"

    @tool("delegate")
    async def adelegate(what: str) -> str:
        """Have somebody else do it."""
        result = await sub.ainvoke({"messages": [HumanMessage(what)]})
        return f"{what}: {result['messages'][-1].text}"

    calls = ai(tool_calls=[{"name": "delegate", "args": {"what": what}} for what in "abc"])
    model = ScriptedModel(responses=[calls, "thanks"])
    agent = create_agent(model, [adelegate if is_async else delegate], checkpointer=InMemorySaver())
    first = await run(agent, HI, is_async)
    assert [one["type"] for one in asked(first)] == ["budget_exceeded"] * 3
    ids = [one.id for one in first["__interrupt__"]]
    second = await run(agent, Command(resume={ids[0]: "approve"}), is_async)
    assert {one.id for one in second["__interrupt__"]} == set(ids[1:])
    result = await run(agent, Command(resume={ids[1]: "reject", ids[2]: "approve"}), is_async)
    said = [message.text[3:].partition(":")[0] for message in result["messages"] if message.type == "tool"]
    assert sorted(said) == ["I have to stop here", "done", "done"]
    assert ledger.spent.usd == Decimal("0.0012")
    assert not ledger.in_use


@BOTH
async def test_a_question_in_a_stream_is_one_of_its_updates(make: Callable[..., Budget], is_async: bool) -> None:
    agent = agent_with(BudgetMiddleware(make(usd="0.001")))
    if is_async:
        updates = [update async for update in agent.astream(HI, THREAD, stream_mode="updates")]
        parts = [part async for part in agent.astream(Command(resume="approve"), THREAD, stream_mode="messages")]
    else:
        updates = list(agent.stream(HI, THREAD, stream_mode="updates"))
        parts = list(agent.stream(Command(resume="approve"), THREAD, stream_mode="messages"))
    assert [list(update) for update in updates] == [["__interrupt__"]]
    assert "".join(message.text for message, _ in parts) == "done"


def test_questions_about_tools_and_about_money_do_not_get_in_each_other_s_way(
    make: Callable[..., Budget], ledger: MemoryLedger
) -> None:
    call = ai(tool_calls=[{"name": "look", "args": {}}], input_tokens=100, output_tokens=50)
    model = ScriptedModel(responses=[call, ANSWER])
    review = HumanInTheLoopMiddleware({"look": True})
    agent = agent_with(
        review, BudgetMiddleware(make(usd="0.001", on_exceeded=("ask", "end"))), model=model, tools=[look]
    )
    approve = Command(resume={"decisions": [{"type": "approve"}]})
    assert [one.get("type") for one in asked(agent.invoke(HI, THREAD))] == ["budget_exceeded"]
    assert [one["action_requests"][0]["name"] for one in asked(agent.invoke(approve, THREAD))] == ["look"]
    assert [one.get("type") for one in asked(agent.invoke(approve, THREAD))] == ["budget_exceeded"]
    result = agent.invoke(Command(resume="reject"), THREAD)
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].response_metadata == {"finish_reason": "budget_exceeded"}
    assert ledger.spent.usd == Decimal("0.0006")


# --- bare models ---


@BOTH
async def test_a_wrapped_model_in_a_node_asks_as_well(
    make: Callable[..., Budget], ledger: MemoryLedger, is_async: bool
) -> None:
    model = OptimizedChatModel.around(ScriptedModel(responses=[ANSWER]), BudgetMiddleware(make(usd="0.001")).run_flow)

    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def anode(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("call", anode if is_async else node)
    builder.add_edge(START, "call")
    graph = builder.compile(checkpointer=InMemorySaver())
    [question] = asked(await run(graph, HI, is_async))
    assert question["type"] == "budget_exceeded"
    assert (await run(graph, Command(resume=True), is_async))["messages"][-1].text == "done"
    assert ledger.spent.usd == Decimal("0.0006")


@BOTH
async def test_a_stream_of_a_wrapped_model_asks_as_well(make: Callable[..., Budget], is_async: bool) -> None:
    middleware = BudgetMiddleware(make(usd="0.001"))
    model = OptimizedChatModel.around(ScriptedModel(responses=["one two"]), middleware.run_flow)

    @entrypoint(checkpointer=InMemorySaver())
    def work(text: str) -> str:
        return "".join(chunk.text for chunk in model.stream(text))

    @entrypoint(checkpointer=InMemorySaver())
    async def awork(text: str) -> str:
        return "".join([chunk.text async for chunk in model.astream(text)])

    graph = awork if is_async else work
    assert len(asked(await run(graph, "hi", is_async))) == 1
    assert await run(graph, Command(resume="approve"), is_async) == "one two"


def test_a_chain_in_a_node_asks_as_well(make: Callable[..., Budget]) -> None:
    model = OptimizedChatModel.around(ScriptedModel(responses=[ANSWER]), BudgetMiddleware(make(usd="0.001")).run_flow)
    chain = RunnableLambda(lambda state: state["messages"]) | model | RunnableLambda(lambda said: {"messages": [said]})
    builder = StateGraph(MessagesState)
    builder.add_node("call", chain)
    builder.add_edge(START, "call")
    graph: Any = builder.compile(checkpointer=InMemorySaver())
    assert len(asked(graph.invoke(HI, THREAD))) == 1
    assert graph.invoke(Command(resume=True), THREAD)["messages"][-1].text == "done"


# --- where nobody can be asked ---


def reason(sink: ListSink) -> str | None:
    return next(event.reason for event in sink.of(Decision) if event.detail["step"] == "ask")


@BOTH
async def test_without_a_checkpointer_the_next_step_is_taken(
    make: Callable[..., Budget], sink: ListSink, is_async: bool
) -> None:
    agent = agent_with(BudgetMiddleware(make(usd="0.001"), sink=sink), checkpointer=None)
    with pytest.raises(BudgetExceededError):
        await run(agent, HI, is_async)
    assert reason(sink) == "ask: the graph has no checkpointer that could keep the question"


@pytest.mark.parametrize("is_async", [False, True])
async def test_outside_of_a_graph_the_next_step_is_taken(
    make: Callable[..., Budget], sink: ListSink, is_async: bool
) -> None:
    middleware = BudgetMiddleware(make(usd="0.001"), sink=sink)
    model = OptimizedChatModel.around(ScriptedModel(responses=[ANSWER]), middleware.run_flow)
    chain = RunnableLambda(lambda text: text) | model
    for one in (model, chain):
        with pytest.raises(BudgetExceededError):
            await one.ainvoke("hi") if is_async else one.invoke("hi")
        assert reason(sink) == f"ask: there is no graph that could wait for an answer{HINT}"


def test_a_config_of_another_node_is_not_used(make: Callable[..., Budget], sink: ListSink) -> None:
    """As in async nodes before Python 3.11, where what is found belongs to a graph further out, or to nobody."""

    class Lost(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            return contextvars.Context().run(handler, request)

    agent = agent_with(Lost(), BudgetMiddleware(make(usd="0.001"), sink=sink))
    with pytest.raises(BudgetExceededError):
        agent.invoke(HI, THREAD)
    assert reason(sink) == f"ask: the call is made beside the node that it belongs to{HINT}"


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="LangGraph hands the config to async nodes")
async def test_before_python_3_11_async_nodes_take_the_next_step(make: Callable[..., Budget], sink: ListSink) -> None:
    agent = agent_with(BudgetMiddleware(make(usd="0.001"), sink=sink))
    with pytest.raises(BudgetExceededError):
        await agent.ainvoke(HI, THREAD)
    assert reason(sink) == f"ask: the call is made beside the node that it belongs to{HINT}"


def test_a_call_of_the_optimiser_s_own_asks_nobody(make: Callable[..., Budget], sink: ListSink) -> None:
    class Inside(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            try:
                handler(internal_call(request))
            except BudgetExceededError:
                refused.append(True)
            return AIMessage("without it")

    refused: list[bool] = []
    budget = make(usd="0.001", on_exceeded=("ask", "end"))
    agent = agent_with(Inside(), BudgetMiddleware(budget, sink=sink))
    assert agent.invoke(HI, THREAD)["messages"][-1].text == "without it"
    assert refused == [True]
    assert [event.reason for event in sink.of(Decision)] == [
        "ask: the call is made beside the user's",
        "end: it would be taken for an answer to a call beside the run",
    ]


def test_in_shadow_nobody_is_asked(make: Callable[..., Budget], sink: ListSink) -> None:
    agent = agent_with(BudgetMiddleware(make(usd="0.001"), sink=sink, mode="shadow"))
    assert agent.invoke(HI, THREAD)["messages"][-1].text == "done"
    assert actions(sink) == ["refused", "reserved", "settled"]


def test_a_question_that_cannot_be_put_is_a_step_that_does_not_help(
    make: Callable[..., Budget], sink: ListSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(question: object) -> None:
        raise AssertionError((0, 1))

    monkeypatch.setattr(asking, "ask", broken)
    with pytest.raises(BudgetExceededError):
        agent_with(BudgetMiddleware(make(usd="0.001"), sink=sink)).invoke(HI, THREAD)
    assert reason(sink) == "ask: the question could not be put"
    assert caplog.messages == ["the budget's question could not be put: AssertionError: (0, 1)"]


def test_an_interrupt_is_no_error_to_whoever_watches_the_flow(make: Callable[..., Budget]) -> None:
    """A retry, a cache or a fallback further out must see the interrupt itself."""

    class See(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            with pytest.raises(GraphInterrupt) as caught:
                handler(request)
            seen.append(caught.value)
            raise caught.value

    seen: list[BaseException] = []
    agent_with(See(), BudgetMiddleware(make(usd="0.001"))).invoke(HI, THREAD)
    assert [type(one) for one in seen] == [GraphInterrupt]


@tool
def look() -> str:
    """Look around."""
    return "nothing"
