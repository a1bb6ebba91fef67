"""The history part in an agent: what the model is sent, what the thread keeps, what is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, message_to_dict
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokopt.context import ChatMemory, HistoryCompression, HistoryCompressionMiddleware, problem
from langchain_tokopt.events import Decision
from langchain_tokopt.flow import internal_call
from langchain_tokopt.prefix import segments, split
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter
from tests.fakes import ListSink, ScriptedModel, ai

FILE = "\n".join(f"{n}: the file has a line like this one, and {n * 7919} is its number" for n in range(60))
USERS = [{"id": n, "name": f"user {n}", "mail": f"user{n}@example.org"} for n in range(20)]
UNCACHED = Rates(input=Decimal(1), output=Decimal(4))
CACHED = replace(
    UNCACHED, cache_read=Decimal("0.1"), cache_write=Decimal("1.25"), caching="automatic", min_cache_tokens=1024
)


@tool
def read_file(path: str) -> str:
    """Read a file."""
    if path == "missing":
        msg = f"no such file\n\n\n\n{FILE}"
        raise ToolException(msg)
    return json.dumps(USERS, indent=4) if path == "users" else f"{path}\n{FILE}"


read_file.handle_tool_error = True


def asks(*paths: str, first: int = 0) -> AIMessage:
    calls = [{"name": "read_file", "args": {"path": path}, "id": f"c{first + n}"} for n, path in enumerate(paths)]
    return ai("", tool_calls=calls, id=f"a{first}")


def history(rates: Rates | None = UNCACHED, **options: Any) -> HistoryCompression:
    overrides = {"scripted": rates} if rates else {}
    options = {"max_result_tokens": None, "old_result_tokens": None, **options}  # without loss, but where it is said
    return HistoryCompression(**options).attach(counter=TokenCounter(), pricing=Pricing(overrides=overrides))


def scripted(*responses: Any) -> ScriptedModel:
    return ScriptedModel(responses=list(responses), model_name="scripted", provider="test")


async def run(agent: Any, is_async: bool, config: Any = None) -> list[BaseMessage]:
    state = {"messages": [HumanMessage("Read it.", id="h0")]}
    result = await agent.ainvoke(state, config) if is_async else agent.invoke(state, config)
    messages: list[BaseMessage] = result["messages"]
    return messages


def contents(messages: list[BaseMessage]) -> list[Any]:
    return [message.content for message in messages if isinstance(message, ToolMessage)]


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


# --- in an agent -----------------------------------------------------------------------------------------------------


@both
async def test_the_model_is_sent_less_and_the_thread_keeps_everything(is_async: bool) -> None:
    script = [asks("a"), asks("a", "users", first=1), asks("a", first=3), "done"]
    bare_model, model, sink = scripted(*script), scripted(*script), ListSink()
    bare = await run(create_agent(bare_model, [read_file], checkpointer=InMemorySaver()), is_async, _thread())
    agent = create_agent(
        model,
        [read_file],
        middleware=[HistoryCompressionMiddleware(history(), sink=sink)],
        checkpointer=InMemorySaver(),
    )
    messages = await run(agent, is_async, _thread())
    kept = agent.get_state(_thread()).values["messages"]
    assert [_kept(message) for message in messages] == [_kept(message) for message in bare]
    assert [_kept(message) for message in kept] == [_kept(message) for message in bare]

    sent = model.calls[-1].messages
    assert problem(sent) is None
    assert [message.id for message in sent] == [message.id for message in messages[:-1]]
    shown = contents(sent)
    assert shown[0] == f"a\n{FILE}"
    assert shown[1] == shown[3] == "[same as tool result 1 (read_file)]"
    assert shown[2] == (
        "[20]{id,name,mail}:\n" + "\n".join(f"  {u['id']},{u['name']},{u['mail']}" for u in USERS)
    ) or shown[2].startswith('{"columns":["id","name","mail"],"rows":[')
    assert [decision.action for decision in sink.of(Decision)] == ["skipped", "skipped", "applied", "applied"]


@both
async def test_what_was_sent_never_changes_over_ten_steps(is_async: bool) -> None:
    script: list[Any] = [asks("a" if n % 3 else "b", first=n) for n in range(10)]
    model = scripted(*script, "done")
    agent = create_agent(model, [read_file], middleware=[HistoryCompressionMiddleware(history())])
    await run(agent, is_async)
    assert len(model.calls) == 11
    for earlier, later in pairwise(model.calls):
        before, after = ([message_to_dict(message) for message in call.messages] for call in (earlier, later))
        assert after[: len(before)] == before
    assert sum(len(str(content)) for content in contents(model.calls[-1].messages)) < 2 * len(FILE) + 1000


@both
async def test_errors_are_sent_word_for_word(is_async: bool) -> None:
    model = scripted(asks("a"), asks("missing", first=1), asks("missing", first=2), "done")
    agent = create_agent(model, [read_file], middleware=[HistoryCompressionMiddleware(history())])
    messages = await run(agent, is_async)
    sent = contents(model.calls[-1].messages)
    assert sent == contents(messages)
    assert sent[1] == sent[2] == f"no such file\n\n\n\n{FILE}"


@both
async def test_streams_and_structured_answers_are_as_without_it(is_async: bool) -> None:
    class Answer(BaseModel):
        """The answer."""

        text: str

    script = [asks("a"), asks("a", first=1), ai("", tool_calls=[{"name": "Answer", "args": {"text": "42"}, "id": "x"}])]
    results = []
    for middleware in ([], [HistoryCompressionMiddleware(history())]):
        agent: Any = create_agent(scripted(*script), [read_file], middleware=middleware, response_format=Answer)
        state = {"messages": [HumanMessage("Read it.", id="h0")]}
        if is_async:
            chunks = [chunk async for chunk in agent.astream(state, stream_mode="values")]
        else:
            chunks = list(agent.stream(state, stream_mode="values"))
        results.append((len(chunks), chunks[-1]["structured_response"].text, contents(chunks[-1]["messages"])))
    assert results[0] == results[1]
    assert results[0][1] == "42"


async def test_in_shadow_mode_nothing_changes_and_everything_is_recorded() -> None:
    model, sink = scripted(asks("a"), asks("a", first=1), "done"), ListSink()
    middleware = HistoryCompressionMiddleware(history(), sink=sink, mode="shadow")
    messages = await run(create_agent(model, [read_file], middleware=[middleware]), False)
    assert contents(model.calls[-1].messages) == contents(messages) == [f"a\n{FILE}"] * 2
    (decision,) = [decision for decision in sink.of(Decision) if decision.action == "applied"]
    assert decision.mode == "shadow"
    assert decision.saved_usd is not None
    assert decision.saved_usd > 0


def _thread() -> RunnableConfig:
    return {"configurable": {"thread_id": "t1"}}


def _kept(message: BaseMessage) -> dict[str, Any]:
    fields: dict[str, Any] = message_to_dict(message)["data"]
    if isinstance(message, ToolMessage) or message.id is None or message.id.startswith("lc_run"):
        fields["id"] = None  # made anew in every run
    return fields


# --- one request -----------------------------------------------------------------------------------------------------


def request(*results: Any, **fields: Any) -> ModelRequest[Any]:
    messages: list[Any] = [HumanMessage("go")]
    for content in results:
        call = {"name": "bash", "args": {}, "id": "c0", "type": "tool_call"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage(content, tool_call_id="c0")]
    return ModelRequest(model=fields.pop("model", scripted()), messages=messages, **fields)


def sent_for(
    asked: ModelRequest[Any], compression: HistoryCompression | None = None
) -> tuple[ModelRequest[Any], Decision]:
    """The request that goes in, and the one decision about it."""
    sink, sent = ListSink(), []

    def handler(inner: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(inner)
        return ModelResponse(result=[AIMessage("ok")])

    HistoryCompressionMiddleware(compression or history(), sink=sink).wrap_model_call(asked, handler)
    (decision,) = sink.of(Decision)
    assert len(sent) == 1
    return sent[0], decision


def test_the_decision_says_what_was_done_and_what_it_saves() -> None:
    compression = history()
    asked = request(FILE, json.dumps(USERS, indent=4), FILE)
    sent, decision = sent_for(asked, compression)
    assert decision.part == "history"
    assert decision.action == "applied"
    assert decision.reason == "2 of 3 tool results are sent in fewer tokens"
    assert decision.detail["results"] == 3
    assert decision.detail["changed"] == 2
    assert set(decision.detail) == {"results", "changed", "in_part", "rewrites", "json", "repeats"}
    assert decision.tokens_before == sum(s.tokens for s in segments(asked, compression.counter))
    assert decision.tokens_after == sum(s.tokens for s in segments(sent, compression.counter))
    assert decision.tokens_after < decision.tokens_before
    assert decision.saved_usd == Decimal(decision.tokens_before - decision.tokens_after) / 1_000_000
    assert decision.seconds is not None
    assert decision.seconds > 0
    assert asked.messages[-1].content == FILE


def test_the_saving_counts_the_providers_cache() -> None:
    compression = history(CACHED)
    system = SystemMessage("You are careful. " * 800)
    asked = request(FILE, FILE, "new", system_message=system)
    sent, decision = sent_for(asked, compression)
    costs = []
    for one in (asked, sent):
        now = segments(one, compression.counter)
        # The last answer asked for the newest result: all before it was sent with the call that gave it.
        costs.append(split(now[:-2], now, CACHED).cost(CACHED))
    assert decision.saved_usd == costs[0] - costs[1]
    assert decision.tokens_before is not None
    assert decision.tokens_after is not None
    # What is saved now was already in the cache: it is worth a tenth.
    saved_tokens = decision.tokens_before - decision.tokens_after
    assert decision.saved_usd == saved_tokens * CACHED.cache_read / 1_000_000


def test_a_prompt_below_the_size_that_is_cached_is_left_alone() -> None:
    asked = request(*["\n".join(FILE.split("\n")[:9])] * 2)
    sent, decision = sent_for(asked, history(CACHED))
    assert sent is asked
    assert decision.reason == "the tool results are within the first 1024 tokens, below which nothing is cached"
    assert decision.action == "skipped"
    assert sent_for(asked, history(UNCACHED))[1].action == "applied"


def test_results_before_that_size_stay_for_good() -> None:
    small = "\n".join(FILE.split("\n")[:9])
    compression = history(CACHED)
    earlier: list[Any] = []
    for count in range(2, 30):
        sent, _ = sent_for(request(*[small] * count), compression)
        now = contents(list(sent.messages))
        assert now[: len(earlier)] == earlier
        earlier = now
    assert earlier[1] == small
    assert earlier[-1] == "[same as tool result 1 (bash)]"


def test_a_large_first_result_is_shown_in_part_and_the_prompt_stays_large_enough_to_be_cached() -> None:
    large = "\n".join(f"{n}: {n * 7919} is a number of its own" for n in range(4_000))
    least = CACHED.min_cache_tokens
    asked = request(large, tools=[read_file])
    sent, decision = sent_for(asked, history(CACHED, max_result_tokens=100))
    assert decision.action == "applied"
    assert least <= TokenCounter().messages(sent.messages) < TokenCounter().messages(asked.messages) / 2
    assert decision.saved_usd is not None
    assert decision.saved_usd > 0


def test_the_reason_says_what_was_done_to_the_conversation() -> None:
    said = [
        HumanMessage(f"Note {n}: {FILE}"[:2_000]) if n % 2 else ai(f"Noted {n}: {FILE}"[:2_000]) for n in range(1, 40)
    ]
    asked = request(FILE).override(messages=[*said, HumanMessage("Which number has line 7?")])
    _, decision = sent_for(asked, history(UNCACHED, chat=ChatMemory(block_tokens=1_000, keep_tokens=500)))
    assert "parts of the conversation are shown in short" in decision.reason
    _, decision = sent_for(asked, history(UNCACHED, lossless=False, max_tokens=2_000))
    assert decision.action == "applied"
    assert decision.reason == "the history is cut to fit into the tokens that there are"


def test_without_a_price_tokens_are_saved_and_no_dollars_are_claimed() -> None:
    sent, decision = sent_for(request(FILE, FILE), history(None))
    assert decision.action == "applied"
    assert decision.saved_usd is None
    assert sent.messages[-1].content == "[same as tool result 1 (bash)]"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(), "no tool results"),
        (request("short", "other"), "no tool result would get shorter"),
        (
            ModelRequest(
                model=scripted(), messages=[*request(FILE, FILE).messages, ToolMessage("x", tool_call_id="z")]
            ),
            "the history is sent as it is, because a tool result stands without its call, or a call has two results",
        ),
        (
            request(FILE, FILE, model_settings={"previous_response_id": "resp_1"}),
            "the provider keeps or edits the history (previous_response_id)",
        ),
        (
            request(FILE, FILE, model_settings={"use_previous_response_id": True}),
            "the provider keeps or edits the history (use_previous_response_id)",
        ),
        (
            request(FILE, FILE, model_settings={"conversation": "conv_1"}),
            "the provider keeps or edits the history (conversation)",
        ),
        (
            request(FILE, FILE, model_settings={"context_management": {"edits": [{"type": "clear_tool_uses"}]}}),
            "the provider keeps or edits the history (context_management)",
        ),
    ],
)
def test_what_is_left_alone(asked: ModelRequest[Any], reason: str) -> None:
    sent, decision = sent_for(asked)
    assert sent is asked
    assert decision.action == "skipped"
    assert decision.reason == reason
    assert decision.saved_usd is None


def test_openai_models_that_keep_the_history_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-5", api_key="none", use_previous_response_id=True)  # type: ignore[arg-type]
    asked = request(FILE, FILE, model=model)
    assert sent_for(asked)[0] is asked
    named = ChatOpenAI(model="gpt-5", api_key="none", model_kwargs={"previous_response_id": "resp_1"})  # type: ignore[arg-type]
    asked = request(FILE, FILE, model=named)
    assert sent_for(asked)[0] is asked


def test_switched_off_it_passes_requests_on() -> None:
    asked = request(FILE, FILE)
    sent, decision = sent_for(asked, history(lossless=False))
    assert sent is asked
    assert decision.reason == "switched off"


def test_calls_of_the_optimisers_own_pass_unseen() -> None:
    sink, asked = ListSink(), internal_call(request(FILE, FILE))
    seen: list[ModelRequest[Any]] = []

    def handler(inner: ModelRequest[Any]) -> ModelResponse[Any]:
        seen.append(inner)
        return ModelResponse(result=[AIMessage("ok")])

    HistoryCompressionMiddleware(history(), sink=sink).wrap_model_call(asked, handler)
    assert seen == [asked]
    assert sink.events == []


def test_two_in_one_agent_have_names_of_their_own() -> None:
    first, second = HistoryCompressionMiddleware(), HistoryCompressionMiddleware(name="second")
    assert [first.name, second.name] == ["HistoryCompressionMiddleware", "second"]
    create_agent(scripted("ok"), [read_file], middleware=[first, second])
