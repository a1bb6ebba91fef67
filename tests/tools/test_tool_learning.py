"""A selection over time: what it picked stays, and what calls taught counts for what comes after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from langchain_tokopt.tools import Selection, ToolSelection
from langchain_tokopt.tools.picks import NAMELESS_SECONDS, Picks
from langchain_tokopt.tools.schema import tool_name
from tests.fakes import FakeClock, TableEmbeddings, ai
from tests.tools.toolbox import names, request, tool, toolbox

PAPERWORK = HumanMessage("sort out the paperwork", id="h1")
AGAIN = HumanMessage("sort out the paperwork", id="h2")
FIRST, LEARNED = ["create_invoice"], ["export_contract"]  # what comes first when nothing fits; what calls taught


def rebind(**settings: Any) -> ToolSelection:
    return ToolSelection(mode="rebind", **{"max_tools": 1, **settings})


def picked(selection: ToolSelection, *messages: AnyMessage, tools: list[Any] | None = None) -> list[str]:
    bound = selection.select(request(toolbox() if tools is None else tools, *messages)).tools
    return names(bound or [])[1:]


def taught(selection: ToolSelection, name: str = "export_contract", call_id: str = "c1", **more: Any) -> None:
    """One call of `name` for the paperwork, and its result."""
    called = ai(tool_calls=[{"name": name, "args": {}, "id": call_id}])
    result = ToolMessage("ok", name=name, tool_call_id=call_id, **more)
    selection.learn_from(request(toolbox(), PAPERWORK, called, result))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path / 'tokopt.db'}")) as database:
        yield database


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Database]:
    """The same database in another process."""
    with closing(Database(f"sqlite:///{tmp_path / 'tokopt.db'}")) as database:
        yield database


# --- picks stay ------------------------------------------------------------------------------------------------------


def test_a_message_keeps_its_tools_and_the_next_one_has_those_that_were_learned() -> None:
    selection = rebind()
    assert picked(selection, PAPERWORK) == FIRST
    taught(selection)
    assert picked(selection, PAPERWORK) == FIRST
    assert picked(selection, PAPERWORK, AIMessage("done"), AGAIN) == [*FIRST, *LEARNED]
    assert picked(selection, AGAIN) == LEARNED


def test_a_message_without_an_id_keeps_its_tools_as_long_as_a_provider_may_cache_it() -> None:
    clock = FakeClock()
    selection = rebind()
    selection.memory.picks = Picks(clock=clock)
    nameless = HumanMessage(PAPERWORK.text)
    assert picked(selection, nameless) == FIRST
    taught(selection)
    assert picked(selection, HumanMessage(PAPERWORK.text)) == FIRST
    assert picked(selection, nameless, AIMessage("done"), HumanMessage("sort the paperwork")) == [*FIRST, *LEARNED]
    clock.advance(NAMELESS_SECONDS)
    assert picked(selection, HumanMessage(PAPERWORK.text)) == LEARNED


def test_another_process_picks_the_same_tools_for_a_message(database: Database, elsewhere: Database) -> None:
    here, there = rebind(database=database), rebind(database=elsewhere)
    assert picked(here, PAPERWORK) == FIRST
    taught(there)
    assert picked(there, AGAIN) == LEARNED
    assert picked(there, PAPERWORK) == FIRST
    assert picked(here, AGAIN) == LEARNED


def test_a_thread_goes_on_after_a_restart_as_it_was(database: Database, elsewhere: Database) -> None:
    first = rebind(database=database)
    assert picked(first, PAPERWORK) == FIRST
    taught(first)
    first.close()
    later = rebind(database=elsewhere)
    assert picked(later, PAPERWORK, AIMessage("done"), AGAIN) == [*FIRST, *LEARNED]


def test_a_database_can_be_attached_later(database: Database, elsewhere: Database) -> None:
    early = rebind()
    assert picked(early, PAPERWORK) == FIRST
    early.attach(database=database)
    taught(early)
    early.close()
    assert picked(rebind(database=elsewhere), PAPERWORK) == LEARNED


def test_other_settings_pick_for_themselves(database: Database) -> None:
    picked(rebind(database=database), PAPERWORK)
    taught(rebind(database=database))
    other = rebind(database=database, max_tools=2)
    taught(other)
    assert picked(other, PAPERWORK) == ["create_invoice", "export_contract"]


def test_what_was_picked_is_sent_without_waking_the_embedder(database: Database, elsewhere: Database) -> None:
    first = rebind(database=database, embeddings=TableEmbeddings())
    assert first.select(request(toolbox(), PAPERWORK)).detail["embedded"] is True
    asleep = TableEmbeddings()
    resumed = rebind(database=elsewhere, embeddings=asleep).select(request(toolbox(), PAPERWORK))
    assert names(resumed.tools or []) == names(first.select(request(toolbox(), PAPERWORK)).tools or [])
    assert (resumed.detail["embedded"], asleep.asked) == (None, [])


def test_two_agents_with_the_same_messages_each_get_tools_of_their_own() -> None:
    office = [tool(f"file_{n}") for n in range(10)] + [tool("delete_invoice"), tool("ask")]
    selection = ToolSelection(mode="rebind", max_tools=4)
    thread = [HumanMessage("delete_invoice or ask", id="h9")]
    ours = picked(selection, *thread)
    theirs = picked(selection, *thread, tools=office)
    assert (len(ours), len(theirs)) == (4, 4)
    assert theirs[-2:] == ["delete_invoice", "ask"]
    assert picked(selection, *thread) == ours


# --- lessons ---------------------------------------------------------------------------------------------------------


def test_only_calls_that_succeeded_teach(database: Database) -> None:
    selection = rebind(database=database)
    taught(selection, status="error")
    assert picked(selection, AGAIN) == FIRST


def test_a_call_teaches_once_however_often_the_thread_is_sent() -> None:
    once, often = rebind(), rebind()
    taught(once)
    for _ in range(4):
        taught(often)
    assert often.memory.usage.version == once.memory.usage.version == 1


def test_an_agreement_teaches_what_was_asked_before_it() -> None:
    selection = rebind()
    called = ai(tool_calls=[{"name": "export_contract", "args": {}, "id": "c1"}])
    result = ToolMessage("ok", name="export_contract", tool_call_id="c1")
    thread = [PAPERWORK, AIMessage("Shall I?"), HumanMessage("yes, do it"), called, result]
    selection.learn_from(request(toolbox(), *thread))
    assert picked(selection, AGAIN) == LEARNED


def test_a_search_teaches_nothing_and_the_call_that_follows_does() -> None:
    selection = rebind()
    taught(selection, "search_tools")
    assert selection.memory.usage.version == 0
    taught(selection, call_id="c2")
    assert selection.memory.usage.version == 1


def test_nothing_is_learned_where_that_is_not_wanted() -> None:
    selection = rebind(learn=False)
    taught(selection)
    assert picked(selection, AGAIN) == FIRST


def test_a_tool_whose_schema_changed_starts_anew(database: Database, elsewhere: Database) -> None:
    first = rebind(database=database)
    taught(first)
    first.close()
    changed = [one for one in toolbox() if one.name != "export_contract"]
    changed.append(tool("export_contract", "Export a contract as PDF"))
    assert picked(rebind(database=elsewhere), AGAIN, tools=changed) == FIRST
    assert picked(rebind(database=elsewhere, embeddings=None, max_tools=2), AGAIN)[-1] == "export_contract"


# --- tools that come and go in a running thread ----------------------------------------------------------------------


def test_a_tool_that_is_added_changes_nothing_that_was_picked() -> None:
    selection = ToolSelection(mode="rebind", max_tools=2)
    asked = HumanMessage("delete the invoice", id="h1")
    before = picked(selection, asked)
    added = [tool("delete_invoice_of_may"), *toolbox()]
    assert picked(selection, asked, tools=added) == before
    later = HumanMessage("delete the invoice of May", id="h2")
    assert picked(selection, asked, AIMessage("done"), later, tools=added) == [*before, "delete_invoice_of_may"]


def test_a_tool_that_is_gone_is_no_longer_sent() -> None:
    selection = ToolSelection(mode="rebind", max_tools=2)
    asked = HumanMessage("delete the invoice", id="h1")
    called = ai(tool_calls=[{"name": "delete_invoice", "args": {}, "id": "1"}])
    assert picked(selection, asked, called) == ["create_invoice", "delete_invoice"]
    left = [one for one in toolbox() if one.name != "delete_invoice"]
    assert picked(selection, asked, called, tools=left) == ["create_invoice"]


def test_a_tool_that_is_changed_is_sent_as_it_is_now() -> None:
    selection = ToolSelection(mode="rebind", max_tools=2)
    asked = HumanMessage("delete the invoice", id="h1")
    picked(selection, asked)
    changed = [tool(one.name, "Now otherwise") if one.name == "delete_invoice" else one for one in toolbox()]
    bound = selection.select(request(changed, asked)).tools or []
    assert {tool_name(one): one.description for one in bound[1:]} == {
        "create_invoice": "create invoice",
        "delete_invoice": "Now otherwise",
    }


# --- what may fail ---------------------------------------------------------------------------------------------------


class Slow(TableEmbeddings):
    """Embeds nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.go_on.wait(30)
        return super().embed_documents(texts)


def test_a_slow_embedder_is_told_of_and_used_when_it_is_ready() -> None:
    slow = Slow()
    selection = ToolSelection(mode="rebind", max_tools=2, embeddings=slow, embed_timeout_seconds=0.01)

    def asked(text: str) -> Selection:
        return selection.select(request(toolbox(), HumanMessage(text)))

    first, second = asked("delete the invoice"), asked("delete the ticket")
    assert names(first.tools or []) == ["search_tools", "create_invoice", "delete_invoice"]
    assert [type(problem) for problem in first.problems] == [TimeoutError]
    assert (second.problems, second.detail["embedded"]) == ((), False)
    slow.go_on.set()
    selection.index(toolbox()).warm()
    patient = ToolSelection(mode="rebind", max_tools=2, embeddings=slow)
    assert patient.select(request(toolbox(), PAPERWORK)).detail["embedded"] is True


@pytest.mark.parametrize("mode", ["rebind", "proxy"])
def test_a_database_that_fails_is_told_of_and_changes_nothing(mode: Any, database: Database) -> None:
    def over_a_thread(selection: ToolSelection) -> list[Selection]:
        first = selection.select(request(toolbox(), PAPERWORK))
        taught(selection)
        return [first, selection.select(request(toolbox(), PAPERWORK, AIMessage("done"), AGAIN))]

    broken = ToolSelection(mode=mode, max_tools=1, database=database, embeddings=TableEmbeddings())
    database.close()
    alone = ToolSelection(mode=mode, max_tools=1, embeddings=TableEmbeddings())
    failing, working = over_a_thread(broken), over_a_thread(alone)
    assert [names(one.tools or []) for one in failing] == [names(one.tools or []) for one in working]
    assert all(one.detail["embedded"] for one in failing)
    assert {type(problem) for one in failing for problem in one.problems} == {StoreError}
    assert [one.problems for one in working] == [(), ()]
