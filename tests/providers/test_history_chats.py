"""Long conversations in short through the providers' own clients: valid, cheaper, with what a question needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt import Budget, ChatMemory, HistoryCompression, TokenOptimizer
from langchain_tokopt.events import ModelCall
from langchain_tokopt.steps import INTERNAL_TAG
from tests.budget.figures import root
from tests.fakes import ScriptedModel, ai
from tests.providers.agents import chat_model, make_agent, optimizer
from tests.providers.long_chats import CITIES, Listener, all_text, question, talk, user_texts, word
from tests.providers.long_runs import THINKS, TOOLS, How, agent_of, ask, changes, conversation, decisions, paid
from tests.providers.replies import Provider
from tests.providers.server import ProviderServer, Record

SHORT, RECALL = "[Earlier conversation, shortened", "[From earlier in this conversation"
ASKED = CITIES[1:7]  # the first is the task, which is never shortened


def remembering(summarizer: Any = None, **more: Any) -> TokenOptimizer:
    chat = ChatMemory(block_tokens=2_000, keep_tokens=1_000, recall_tokens=400)
    history = HistoryCompression(chat=chat, summarizer=summarizer)
    return optimizer(cache=None, tools=None, history=history, **more)


def answers(agent: Any, name: str) -> list[str]:
    """Tell of all offices, then ask for some; what it answers."""
    talk(agent, name)
    return [ask(agent, name, question(city))["messages"][-1].text for city in ASKED]


def bare(server: ProviderServer, name: Provider, tools: Sequence[Any]) -> list[Record]:
    server.renewed(Listener())
    with optimizer(mode="off") as tokopt:
        agent = agent_of("bare", name, server, tokopt, tools=tools, checkpointer=InMemorySaver())
        assert answers(agent, "1") == [f"It is {word(city)}." for city in ASKED]
    return server.answered


@pytest.mark.parametrize(
    ("how", "name", "tools"),
    [
        ("middleware", "openai", []),
        ("graph", "anthropic", []),
        ("middleware", "anthropic", TOOLS),
        ("graph", "responses", TOOLS),
    ],
)
def test_a_long_conversation_is_sent_in_short(
    provider: ProviderServer, how: How, name: Provider, tools: Sequence[Any]
) -> None:
    plain = bare(provider, name, tools)
    provider.renewed(Listener())
    with remembering() as tokopt:
        agent = agent_of(how, name, provider, tokopt, tools=tools, checkpointer=InMemorySaver())
        assert answers(agent, "1") == [f"It is {word(city)}." for city in ASKED]
        records = list(provider.answered)
        assert len(records) == len(plain) == len(CITIES) + len(ASKED)
        state = agent.get_state({"configurable": {"thread_id": "1"}}).values["messages"]
        assert len(state) == 2 * len(records)
        assert not any(text in str(message.content) for message in state for text in (SHORT, RECALL))
        if tools:
            provider.policy = Listener(looks=CITIES[1])
            assert ask(agent, "1", question(CITIES[1]))["messages"][-1].text.endswith(f"It is {word(CITIES[1])}.")
            assert len(provider.answered) == len(records) + 2
        assert tokopt.report().failures == ()
    # Folded now and then; what one question needs is gone when the next one is asked.
    assert changes(records[: len(CITIES)]) <= 8
    for record, city in zip(records[-len(ASKED) :], ASKED, strict=True):
        recalled, asked = user_texts(record)[-2:]
        assert recalled.startswith(RECALL)
        assert word(city) in recalled
        assert asked == question(city)
    assert SHORT in all_text(records[-1].asked)
    assert paid(records) <= paid(plain)
    assert float(paid(records[-8:])) < 0.7 * float(paid(plain[-8:]))


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["no tools", "tools"])
def test_conversations_that_always_end_soon_are_left_alone(provider: ProviderServer, tools: Sequence[Any]) -> None:
    """The first thread is folded shortly before its end, for it might have gone on; later ones are not."""
    provider.renewed(Listener())
    with remembering() as tokopt:
        agent = agent_of("middleware", "anthropic", provider, tokopt, tools=tools, checkpointer=InMemorySaver())
        changed = []
        for name in ("1", "2", "3"):
            before = len(provider.answered)
            talk(agent, name, 30 if tools else 26)
            changed.append(changes(provider.answered[before:]))
    assert changed[0] > 0
    assert changed[-1] == 0


@pytest.mark.parametrize(("settings", "folds"), [(THINKS[0], False), (THINKS[1], True)], ids=["bound", "unbound"])
def test_a_conversation_with_signed_thoughts_stays_as_it_is(
    provider: ProviderServer, settings: dict[str, Any], *, folds: bool
) -> None:
    """Where they hold only after what came before them. Without a cache, it would pay at once otherwise."""
    says = Listener()
    provider.renewed(lambda asked: replace(says(asked), thinking="Hm."))
    summarizer = ScriptedModel(responses=[notes])
    with remembering(summarizer) as tokopt:
        client = chat_model("anthropic", provider, **settings)
        agent = make_agent("middleware", client, [], tokopt, checkpointer=InMemorySaver())
        talk(agent, "1", 16)
        assert ask(agent, "1", question(CITIES[1]))["messages"][-1].text == f"It is {word(CITIES[1])}."
        assert tokopt.middleware[0].background.drain(20)
        assert tokopt.report().failures == ()
    assert (changes(provider.answered) > 0) is folds
    assert (len(summarizer.calls) > 0) is folds


# --- summaries -------------------------------------------------------------------------------------------------------


class Tags(BaseCallbackHandler):
    """How the calls of a model were tagged."""

    sees_background_calls = True

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, tags: list[str] | None = None, **kwargs: Any
    ) -> None:
        self.seen.append(set(tags or ()))


def notes(messages: list[BaseMessage]) -> Any:
    """A summary of a block: what was said of passwords."""
    said = re.findall(r"password of the (\w+) office is ([\w-]+)", str(messages[-1].content))
    return ai(f"Notes: {'; '.join(f'{city} {code}' for city, code in said)}.", input_tokens=100, output_tokens=50)


@pytest.mark.parametrize(("how", "name"), [("middleware", "openai"), ("graph", "anthropic")])
def test_a_block_is_summarized_once_beside_the_answers(provider: ProviderServer, how: How, name: Provider) -> None:
    tags = Tags()
    summarizer = ScriptedModel(responses=[notes], callbacks=[tags])
    provider.renewed(Listener())
    budget = Budget(tokens=10**9)
    with remembering(summarizer, budget=budget) as tokopt:
        agent = agent_of(how, name, provider, tokopt, tools=[], checkpointer=InMemorySaver())
        talk(agent, "1")
        assert tokopt.middleware[0].background.drain(20)
        assert ask(agent, "1", question(CITIES[2]))["messages"][-1].text == f"It is {word(CITIES[2])}."
        assert tokopt.middleware[0].background.drain(20)
        asked = [str(call.messages[-1].content) for call in summarizer.calls]
        assert len(asked) == len(set(asked)) >= 3
        assert len(tags.seen) == len(asked)
        assert all({INTERNAL_TAG, "nostream"} <= seen for seen in tags.seen)
        calls = list(tokopt.telemetry.events(ModelCall))
        internal = [call for call in calls if isinstance(call, ModelCall) and call.internal]
        assert (len(internal), len(calls)) == (len(asked), len(asked) + len(provider.answered))
        status = root(budget)["tokens"]
        assert status["spent"] == provider.billed.total + 150 * len(asked)
        assert tokopt.report().failures == ()
    assert f"Notes: {CITIES[1]} {word(CITIES[1])}" in all_text(provider.answered[-1].asked)


def test_a_summarizer_that_raises_changes_nothing(provider: ProviderServer) -> None:
    sent = []
    for summarizer in (None, ScriptedModel(responses=[RuntimeError("no")])):
        provider.renewed(Listener())
        with remembering(summarizer) as tokopt:
            agent = agent_of("middleware", "openai", provider, tokopt, tools=[], checkpointer=InMemorySaver())
            assert answers(agent, "1") == [f"It is {word(city)}." for city in ASKED]
            assert tokopt.middleware[0].background.drain(20)
        sent.append([conversation(record) for record in provider.answered])
    assert sent[0] == sent[1]
    assert summarizer is not None
    asked = [str(call.messages[-1].content) for call in summarizer.calls]
    assert max(asked.count(each) for each in asked) <= 2


def test_in_shadow_a_conversation_is_sent_as_it_is_and_nothing_is_summarized(provider: ProviderServer) -> None:
    plain = bare(provider, "openai", [])
    provider.renewed(Listener())
    summarizer = ScriptedModel(responses=[notes])
    with remembering(summarizer, mode="shadow") as tokopt:
        agent = agent_of("middleware", "openai", provider, tokopt, tools=[], checkpointer=InMemorySaver())
        answers(agent, "1")
        assert tokopt.middleware[0].background.drain(20)
        assert any("in short" in (one.reason or "") for one in decisions(tokopt))
    assert [record.body for record in provider.answered] == [record.body for record in plain]
    assert summarizer.calls == []
