"""Summaries of closed blocks: made once, checked, kept, and never in the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import text

from langchain_tokopt.context.memory import ChatMemory, Digest, SummaryStore, cut, digests
from langchain_tokopt.context.memory.render import MARK
from langchain_tokopt.context.memory.summary_rows import SummaryRows
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.steps import INTERNAL_TAG, is_internal
from tests.context.memory.threads import chat
from tests.fakes import FakeClock, ScriptedModel

GOOD = (
    "The user plans the year. Passport number X4471293; flies to Lisbon on 14 March. Decided: PostgreSQL for billing, "
    "because of row locks."
)


def a_digest(ratio: float = 0.05) -> Digest:
    blocks = cut(chat(40), block_tokens=1_000, keep_tokens=500).blocks
    return next(digests(blocks, ratio=ratio))


def fold(store: SummaryStore, digest: Digest, kind: str) -> Digest:
    return store.fold(digest) if kind == "sync" else asyncio.run(store.afold(digest))


def asked(model: ScriptedModel) -> str:
    return str(model.calls[-1].messages[-1].text)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_summary_stands_for_its_block(kind: str) -> None:
    model = ScriptedModel(responses=[GOOD])
    digest = a_digest()
    found = fold(SummaryStore(model), digest, kind)
    assert found.kind == "summary"
    assert found.text == GOOD
    message = found.messages()[0]
    assert message.additional_kwargs == {MARK: "summary"}
    assert message.text.startswith(f'[Earlier conversation, summarized; retrieve_original("{digest.block.handle}")')
    assert digest.block.original in asked(model)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_block_is_summarized_once(kind: str) -> None:
    model = ScriptedModel(responses=[GOOD, "Something else."])
    store, digest = SummaryStore(model), a_digest()
    assert fold(store, digest, kind) == fold(store, digest, kind) == store.shown(digest)
    assert len(model.calls) == 1
    assert store.get(digest.block) == GOOD
    assert not store.wanted(digest.block)


async def in_time(_: str) -> str:
    return GOOD


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("summarizer", [lambda _: GOOD, in_time])
def test_a_function_may_summarize(kind: str, summarizer: Callable[[str], Any]) -> None:
    assert fold(SummaryStore(summarizer), a_digest(), kind).text == GOOD


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   ",
        "I'm sorry, I can't help with that.",
        "As an AI, I can not do this.",
        "They talked about the weather.",
        "very long " * 2_000 + GOOD,
        AIMessage(GOOD, response_metadata={"finish_reason": "length"}),
        RuntimeError("overloaded"),
    ],
)
def test_what_can_not_stand_for_the_block_is_not_shown(answer: Any, kind: str) -> None:
    store, digest = SummaryStore(ScriptedModel(responses=[answer])), a_digest()
    assert fold(store, digest, kind) == digest
    assert store.get(digest.block) is None


@pytest.mark.parametrize("answer", [None, 7, AIMessage("")])
def test_a_function_that_answers_nonsense_gives_no_summary(answer: Any) -> None:
    digest = a_digest()
    assert SummaryStore(lambda _: answer).fold(digest) == digest


def test_what_the_summary_lost_is_named_in_a_last_line() -> None:
    found = SummaryStore(lambda _: GOOD.replace("X4471293", "")).fold(a_digest())
    assert found.text.endswith("\nAlso named: X4471293")


def test_a_preamble_is_left_out_and_odd_characters_too() -> None:
    found = SummaryStore(lambda _: f"Sure, here is the summary:\n\n{GOOD}\0\ud800").fold(a_digest())
    assert found.text == f"{GOOD}?"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_summarizer_that_hangs_is_not_waited_for(kind: str) -> None:
    go = threading.Event()
    store, digest = SummaryStore(lambda _: str(go.wait(30)), timeout=0.05), a_digest()
    began = time.monotonic()
    assert fold(store, digest, kind) == digest
    assert time.monotonic() - began < 10
    go.set()


def test_a_block_is_tried_twice_at_most_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedModel(responses=[RuntimeError("overloaded")])
    store, digest = SummaryStore(model), a_digest()
    for _ in range(4):
        assert store.fold(digest) == digest
    assert len(model.calls) == 2
    assert len(caplog.records) == 1
    assert "overloaded" in caplog.text


def test_two_at_once_make_one_summary() -> None:
    began, go = threading.Event(), threading.Event()

    def slow(_: str) -> str:
        began.set()
        go.wait(30)
        return GOOD

    store, digest = SummaryStore(slow), a_digest()
    first: list[Digest] = []
    thread = threading.Thread(target=lambda: first.append(store.fold(digest)))
    thread.start()
    assert began.wait(30)
    assert store.fold(digest) == digest
    go.set()
    thread.join()
    assert [one.text for one in first] == [GOOD]


def test_the_call_is_kept_out_of_the_stream_and_marked_as_internal() -> None:
    seen: list[tuple[list[str], dict[str, Any]]] = []

    class Watched(ScriptedModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            seen.append((list(self.tags or []), dict(self.metadata or {})))
            return super()._generate(*args, **kwargs)

    SummaryStore(Watched(responses=[GOOD], tags=["mine"])).fold(a_digest())
    ((tags, metadata),) = seen
    assert tags == ["mine", "nostream", INTERNAL_TAG]
    assert metadata


def test_a_flow_may_make_the_call_itself() -> None:
    model, digest = ScriptedModel(responses=[GOOD]), a_digest()
    store = SummaryStore(model)
    request: ModelRequest[Any] = ModelRequest(
        model=ScriptedModel(), messages=[HumanMessage("Hi")], tools=[{"name": "x"}], model_settings={"stop": ["a"]}
    )
    call = store.request(digest, request)
    assert call is not None
    assert is_internal(call)
    assert (call.tools, call.model_settings, call.system_message) == ([], {}, None)
    assert digest.block.original in call.messages[-1].text
    assert store.accept(digest, GOOD).text == GOOD
    assert store.get(digest.block) == GOOD
    assert SummaryStore(lambda _: GOOD).request(digest, request) is None


def test_other_processes_show_the_same_summary(database: Database) -> None:
    digest = a_digest()
    assert SummaryStore(lambda _: GOOD, database=database, name="s").fold(digest).text == GOOD
    other = SummaryStore(lambda _: f"{GOOD} More.", database=database, name="s")
    assert other.shown(digest).text == GOOD
    assert SummaryStore(database=database, name="s").fold(digest).text == GOOD


def test_the_first_summary_that_is_kept_stays(database: Database) -> None:
    digest = a_digest()
    one, other = (SummaryStore(lambda _: GOOD, database=database, name="s") for _ in range(2))
    assert one.accept(digest, GOOD).text == GOOD
    assert other.accept(digest, f"{GOOD} More.").text == GOOD


def test_summaries_of_another_summarizer_are_not_shown(database: Database) -> None:
    digest = a_digest()
    SummaryStore(ScriptedModel(responses=[GOOD], model_name="gpt-5-mini"), database=database).fold(digest)
    other = SummaryStore(ScriptedModel(model_name="gpt-4o"), database=database)
    assert other.get(digest.block) is None


def test_a_database_that_fails_takes_nothing_away(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    store, digest = SummaryStore(lambda _: GOOD, database=database), a_digest()
    database.close()
    assert store.fold(digest).text == GOOD
    assert store.shown(digest).text == GOOD
    assert "could not be written" in caplog.text


def test_summaries_are_kept_as_long_as_they_are_used(database: Database, clock: FakeClock) -> None:
    rows = SummaryRows(database, clock=clock)
    assert rows.keep(b"a" * 16, "one") == "one"
    assert rows.keep(b"b" * 16, "two") == "two"
    clock.advance(60 * 86_400)
    assert rows.get(b"a" * 16) == "one"
    clock.advance(60 * 86_400)
    assert rows.cleanup() == 1
    assert rows.get(b"a" * 16) == "one"
    assert rows.get(b"b" * 16) is None
    with database.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM tokopt_context_summaries")).scalar_one() == 1


def test_a_view_shows_the_summaries_that_are_kept() -> None:
    thread, store = chat(40), SummaryStore(lambda _: GOOD)
    memory = ChatMemory(block_tokens=1_000, keep_tokens=500, ratio=0.05, summaries=store)
    before = memory.view(thread)
    store.fold(memory.digests(memory.cut(thread).blocks)[0])
    after = memory.view(thread)
    assert [message.additional_kwargs.get(MARK) for message in after[2:4]] == ["summary", "digest"]
    assert after[3:] == before[3:]


@pytest.mark.parametrize(
    ("argument", "settings"), [("summarizer", {"summarizer": "gpt-5"}), ("timeout", {"timeout": 0})]
)
def test_settings_that_make_no_sense_are_refused(argument: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        SummaryStore(**settings)
