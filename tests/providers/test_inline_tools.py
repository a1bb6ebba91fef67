"""Tools told of in mid-conversation, with the real clients: valid requests, and a prefix that lasts."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt import Budget
from langchain_tokopt.tools.additions import Form, carried_form, with_additions
from tests.providers.agents import RUNS, Run, chat_model, measured, optimizer, run
from tests.providers.billing import STEP, Bill
from tests.providers.replies import Asked, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer, Record

APIS: list[Provider] = ["anthropic", "responses"]
apis = pytest.mark.parametrize("name", APIS)
FORMS: dict[str, Form] = {"anthropic": "anthropic", "responses": "openai"}
MODELS = {"anthropic": {"model_name": "claude-opus-5-5"}, "responses": {"model": "gpt-5.5"}}
THREAD = {"configurable": {"thread_id": "1"}}
RULES = "Be brief. " * 600  # enough for the providers to cache


def numbered(name: str) -> BaseTool:
    """A tool whose answer says which one it is."""

    def work(item: str) -> str:
        return f"{name} of {item}"

    return StructuredTool.from_function(work, name=name, description=f"The {name} of an item. " * 8)


def find(names: str) -> str:
    """Find tools by their names."""
    return f"Now there: {names}"


FIND = StructuredTool.from_function(find, name="find")
CORE = [FIND, numbered("size")]
HIDDEN = [numbered(name) for name in ("age", "cost", "depth", "height", "mass", "width")]


class Telling(AgentMiddleware):
    """Binds the core. A question makes the tools known that it names, and so does what `find` found."""

    def __init__(self, form: Form, hidden: Sequence[BaseTool] = HIDDEN) -> None:
        super().__init__()
        self.form: Form = form
        self.known = {tool.name: tool for tool in hidden}

    def narrowed(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        additions = []
        for at, message in enumerate(request.messages):
            if isinstance(message, HumanMessage) or (isinstance(message, ToolMessage) and message.name == "find"):
                names = re.findall(r"\w+", message.text.partition("?")[0])
                additions.append((at, [self.known[name] for name in names if name in self.known]))
        messages = with_additions(request.messages, additions, self.form)
        return request.override(tools=[tool for tool in request.tools if tool in CORE], messages=messages)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        return handler(self.narrowed(request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        return await handler(self.narrowed(request))


def look_up(asked: Asked) -> Reply:
    """Searches for what the question wants found, calls at once all that it names, and answers with the results."""
    wanted = re.findall(r"\w+", asked.last_user.partition("?")[0])
    to_find = re.findall(r"\w+", asked.last_user.partition("?")[2])
    if to_find and not asked.turn_results:
        return Reply(thinking="I must look.", tool_calls=(ToolCall(name="find", args={"names": " ".join(to_find)}),))
    left = [name for name in [*wanted, *to_find] if name in asked.offered]
    if len(asked.turn_results) <= bool(to_find):
        calls = tuple(ToolCall(name=name, args={"item": f"box {n}"}) for n, name in enumerate(left))
        return Reply(thinking="Now I know them.", text="One moment.", tool_calls=calls)
    return Reply(thinking="Good.", text="; ".join(asked.turn_results))


def client(name: Provider, server: ProviderServer, **settings: Any) -> BaseChatModel:
    return chat_model(name, server, **{**MODELS[name], **settings})


def agent_of(name: Provider, server: ProviderServer, *ours: AgentMiddleware, **more: Any) -> Any:
    thinking = {"thinking": {"type": "adaptive"}} if name == "anthropic" else {}
    tools, telling = more.pop("tools", [*CORE, *HIDDEN]), more.pop("telling", Telling(FORMS[name]))
    caching = [AnthropicPromptCachingMiddleware()] if name == "anthropic" else []
    return create_agent(
        client(name, server, **thinking),
        tools,
        system_prompt=RULES,
        middleware=[*caching, telling, *ours],
        **{"checkpointer": InMemorySaver(), **more},
    )


QUESTIONS = ("size and age?", "cost and depth? height", "mass and age?", "size?")
ANSWERS = (
    "size of box 0; age of box 1",
    "Now there: height; cost of box 0; depth of box 1; height of box 2",
    "mass of box 0; age of box 1",
    "size of box 0",
)


def check_prefix(records: list[Record]) -> None:
    """Every request reads from the cache all that the request before it was made of."""
    bills = [record.bill or Bill() for record in records]
    for record, before, now in zip(records[1:], bills, bills[1:], strict=False):
        if record.provider == "anthropic":
            assert now.cache_read == before.cache_read + before.cache_write == before.input
        else:
            assert now.cache_read == before.input // STEP * STEP


@apis
@pytest.mark.parametrize("kind", RUNS)
def test_tools_are_called_that_were_told_of_and_the_prefix_lasts(
    provider: ProviderServer, name: Provider, kind: Run
) -> None:
    provider.policy = look_up
    agent = agent_of(name, provider)
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        assert run(kind, agent, [HumanMessage(question)], THREAD).answer == answer
    records = provider.answered
    assert [record.asked.offered[2:] for record in records] == [
        *[["age"]] * 2,
        *[["age", "cost", "depth"]],
        *[["age", "cost", "depth", "height"]] * 2,
        *[["age", "cost", "depth", "height", "mass"]] * 4,
    ]
    assert len({json.dumps(record.body["tools"]) for record in records}) == 1
    assert [tool["name"] for tool in records[0].body["tools"]] == ["find", "size"]
    check_prefix(records)
    assert all((record.bill or Bill()).cache_read > 1000 for record in records[1:])


@apis
def test_binding_more_tools_instead_loses_the_prefix_and_the_newest_models_refuse_it(
    provider: ProviderServer, name: Provider
) -> None:
    """The check above would notice: the same thread with tools that are added to those of the request."""

    class Binding(Telling):
        def narrowed(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
            told = super().narrowed(request)
            text = " ".join(message.text for message in request.messages if isinstance(message, HumanMessage))
            more = [tool for tool in HIDDEN if tool.name in text]
            return told.override(tools=[*told.tools, *more], messages=request.messages)

    provider.policy = look_up
    agent = agent_of(name, provider, telling=Binding(FORMS[name]))
    run("invoke", agent, [HumanMessage("age?")], THREAD)
    if name == "anthropic":
        with pytest.raises(Exception, match="The block is bound to a different conversation"):
            run("invoke", agent, [HumanMessage("cost?")], THREAD)
        provider.records.clear()
        return
    run("invoke", agent, [HumanMessage("cost?")], THREAD)
    assert [(record.bill or Bill()).cache_read for record in provider.answered][1:3] != [0, 0]
    with pytest.raises(AssertionError):
        check_prefix(provider.answered)


@apis
def test_several_messages_of_the_users_are_one_turn(provider: ProviderServer, name: Provider) -> None:
    provider.policy = look_up
    agent = agent_of(name, provider)
    run("invoke", agent, [HumanMessage("age;"), HumanMessage("cost;"), HumanMessage("depth?")], THREAD)
    run("invoke", agent, [HumanMessage("mass;"), HumanMessage("depth?")], THREAD)
    records = provider.answered
    assert records[0].asked.offered == ["find", "size", "age", "cost", "depth"]
    assert records[-1].asked.offered == ["find", "size", "age", "cost", "depth", "mass"]
    check_prefix(records)


@apis
def test_a_dozen_tools_at_once_leave_the_prefix_within_reach(provider: ProviderServer, name: Provider) -> None:
    """Anthropic's cache looks 20 blocks back from its breakpoint, and each tool is one."""
    dozen = [numbered(f"tool{n}") for n in range(12)]
    names = [tool.name for tool in dozen]
    search = ToolCall(name="find", args={"names": " ".join(names)})
    found = Reply(thinking="I must look.", text="One moment.", tool_calls=(search,))
    provider.script = ["Hello.", found, Reply(tool_calls=(ToolCall(name="tool7", args={"item": "x"}),)), "Done."]
    agent = agent_of(name, provider, tools=[*CORE, *dozen], telling=Telling(FORMS[name], dozen))
    run("invoke", agent, [HumanMessage("Hello")], THREAD)
    assert run("invoke", agent, [HumanMessage("Go on")], THREAD).answer == "Done."
    assert provider.answered[-1].asked.offered == ["find", "size", *names]
    check_prefix(provider.answered)


@apis
def test_system_messages_of_the_users_own_stay_where_they_are(provider: ProviderServer, name: Provider) -> None:
    provider.policy = lambda asked: Reply(text=",".join(asked.offered))
    form = FORMS[name]
    model = client(name, provider).bind_tools(CORE)
    thread: list[Any] = [HumanMessage("age?"), SystemMessage("Be kind.")]
    additions = [(0, [HIDDEN[0]])]
    first = model.invoke(with_additions(thread, additions, form))
    thread += [first, HumanMessage("cost?"), SystemMessage("Be brief.")]
    additions += [(3, [HIDDEN[1]])]
    assert model.invoke(with_additions(thread, additions, form)).text == "find,size,age,cost"
    assert provider.answered[-1].asked.system == "Be kind.\nBe brief."


@apis
@pytest.mark.parametrize("gone", [["age"], ["age", "cost"]], ids=["one of a turn", "all of a turn"])
def test_tool_that_is_gone_is_told_of_no_more(provider: ProviderServer, name: Provider, gone: list[str]) -> None:
    provider.policy = look_up
    memory = InMemorySaver()
    plain = {"thinking": {"type": "disabled"}} if name == "anthropic" else {}
    left = [tool for tool in HIDDEN if tool.name not in gone]
    for hidden in (HIDDEN, left):
        telling = Telling(FORMS[name], hidden)
        agent = create_agent(
            client(name, provider, **plain), [*CORE, *hidden], middleware=[telling], checkpointer=memory
        )
        ran = run("invoke", agent, [HumanMessage("age and cost?" if hidden is HIDDEN else "mass?")], THREAD)
    assert ran.answer == "mass of box 0"
    assert provider.answered[-1].asked.offered == ["find", "size", *([] if "cost" in gone else ["cost"]), "mass"]


@apis
@pytest.mark.parametrize("way", ["middleware", "wrap"])
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_optimised_agent_answers_the_same_and_is_billed_to_the_token(
    provider: ProviderServer, name: Provider, way: str, kind: Run
) -> None:
    provider.policy = look_up
    with optimizer(budget=Budget(usd=10)) as tokopt:
        model = client(name, provider)
        agent = create_agent(
            tokopt.wrap(model) if way == "wrap" else model,
            [*CORE, *HIDDEN],
            system_prompt=RULES,
            middleware=[Telling(FORMS[name]), *(tokopt.middleware if way == "middleware" else [])],
            checkpointer=InMemorySaver(),
        )
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
            assert run(kind, agent, [HumanMessage(question)], THREAD).answer == answer
        assert tokopt.report().failures == ()
        assert measured(tokopt) == Bill(**{**vars(provider.billed), "cache_write_1h": 0})


@apis
def test_client_carries_what_it_is_said_to_carry(provider: ProviderServer, name: Provider) -> None:
    assert carried_form(client(name, provider)) == FORMS[name]
