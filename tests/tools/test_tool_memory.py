from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.encoder import Encoder
from langchain_tokopt.tools.memory import ToolMemory
from langchain_tokopt.tools.store import ToolStore
from tests.databases import database_url
from tests.fakes import FakeClock, TableEmbeddings, ai
from tests.tools.toolbox import tool, toolbox

PAPERWORK = HumanMessage("sort out the paperwork", id="h1")
FIRST = ["create_invoice"]  # what comes first when nothing fits


@pytest.fixture(params=["file", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as url:
        assert url is not None
        yield url


def sqlite(folder: Path, name: str = "tokopt") -> Database:
    return Database(f"sqlite:///{folder / name}.db")


def index(memory: ToolMemory, tools: list[Any] | None = None, embeddings: Any = None) -> ToolIndex:
    encoder = None if embeddings is None else Encoder(embeddings)
    box = toolbox() if tools is None else tools
    return ToolIndex(
        box,
        embeddings=encoder,
        usage=memory.usage,
        intents=memory.intents,
        keeper=memory.keeper,
        recall=memory.recall,
    )


def led_to(name: str, call_id: str = "c1", *, asked: HumanMessage = PAPERWORK, **more: Any) -> list[BaseMessage]:
    """A thread whose newest result is that of a call of `name`."""
    return [
        asked,
        ai(tool_calls=[{"name": name, "args": {}, "id": call_id}]),
        ToolMessage("ok", name=name, tool_call_id=call_id, **more),
    ]


def asked(memory: ToolMemory, **more: Any) -> list[str]:
    return index(memory, **more).top(PAPERWORK.text, 1)


# --- learning --------------------------------------------------------------------------------------------------------


def test_a_call_teaches_once_however_often_its_result_is_seen() -> None:
    memory = ToolMemory()
    tools = index(memory)
    for _ in range(3):
        memory.learn_from(led_to("export_contract"), tools)
    assert (memory.usage.version, asked(memory)) == (1, ["export_contract"])
    memory.learn_from(led_to("export_contract", "c2"), tools)
    assert memory.usage.version == 2


def test_failed_calls_and_answers_teach_nothing() -> None:
    memory = ToolMemory()
    memory.learn_from(led_to("export_contract", status="error"), index(memory))
    memory.learn_from([PAPERWORK], index(memory))
    assert memory.usage.version == 0
    # A call that failed before may succeed now.
    memory.learn_from(led_to("export_contract"), index(memory))
    assert memory.usage.version == 1


def test_whoever_does_not_learn_does_not_take_up_what_others_learned(url: str) -> None:
    with closing(Database(url)) as database:
        teacher, student = ToolMemory(database), ToolMemory(database, learn=False)
        teacher.learn_from(led_to("export_contract"), index(teacher))
        teacher.close()
        student.learn_from(led_to("list_server"), index(student))
        assert (student.usage.version, asked(student)) == (0, FIRST)


def test_many_threads_learn_at_once_and_each_call_once() -> None:
    memory = ToolMemory()
    tools = index(memory)
    threads = [
        threading.Thread(target=memory.learn_from, args=(led_to("export_contract", f"c{n % 5}"), tools))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.usage.version == 5


# --- where it is kept ------------------------------------------------------------------------------------------------


def test_what_was_learned_is_there_after_a_restart(url: str) -> None:
    with closing(Database(url)) as database:
        first = ToolMemory(database)
        first.learn_from(led_to("export_contract"), index(first))
        first.close()
        assert first.problems() == ()
        assert asked(ToolMemory(database)) == ["export_contract"]
        changed = [*toolbox()[:40], tool("export_contract", "Export a contract as PDF")]
        assert asked(ToolMemory(database), tools=changed) == FIRST


def test_what_was_learned_with_an_embedder_is_kept_for_that_one(url: str) -> None:
    table = {
        **{text: [1, 0, 0] for text in ("fly: fly Parameters: item", "fly")},
        **{text: [0, 1, 0] for text in ("cook: cook Parameters: item", "cook")},
        "hungry": [0, 0.3, 0.954],
        "starving": [0.3, 0, 0.954],
    }
    tools: list[Any] = [tool("fly"), tool("cook")]

    def starving(memory: ToolMemory, dim: int) -> list[str]:
        return index(memory, tools, TableEmbeddings(table, dim=dim)).top("starving", 1)

    with closing(Database(url)) as database:
        first = ToolMemory(database)
        mine = index(first, tools, TableEmbeddings(table, dim=3))
        first.learn_from(led_to("cook", asked=HumanMessage("hungry")), mine)
        first.close()
        assert starving(ToolMemory(database), 3) == ["cook"]
        assert starving(ToolMemory(database), 4) == ["fly"]


def test_it_is_written_after_sixteen_lessons_or_ten_seconds(url: str) -> None:
    with closing(Database(url)) as database:
        clock = FakeClock()
        memory = ToolMemory(database, clock=clock)
        tools = index(memory)

        def kept() -> int:
            found = ToolStore(database).usage("", tools.digests)
            return sum(sums.examples for sums in found.values())

        counts = []
        for n in range(17):
            memory.learn_from(led_to("export_contract", f"c{n}"), tools)
            counts.append(kept())
        assert counts == [0] * 15 + [16, 16]
        clock.advance(10)
        memory.learn_from(led_to("export_contract", "late"), tools)
        assert kept() == 18


def test_what_other_processes_learn_is_taken_up_every_half_minute(url: str) -> None:
    with closing(Database(url)) as database:
        clock = FakeClock()
        here, there = ToolMemory(database, clock=clock), ToolMemory(database)
        mine = index(here)
        assert mine.top(PAPERWORK.text, 1) == FIRST
        there.learn_from(led_to("export_contract"), index(there))
        there.close()
        clock.advance(29)
        assert mine.top(f"{PAPERWORK.text} now", 1) == FIRST
        clock.advance(1)
        assert mine.top(f"{PAPERWORK.text} today", 1) == ["export_contract"]


def test_vectors_of_tools_are_made_once_for_all_processes(url: str) -> None:
    with closing(Database(url)) as database:
        first, second = TableEmbeddings(), TableEmbeddings()
        index(ToolMemory(database), embeddings=first).warm()
        index(ToolMemory(database), toolbox(tool("late")), second).warm()
        assert len(set(first.asked) - {"dimension"}) == 96  # each tool's text, and its description, which is its name
        assert [text for text in second.asked if text != "dimension"] == ["late: late Parameters: item", "late"]


def test_picks_are_the_same_in_every_process(url: str) -> None:
    with closing(Database(url)) as database:
        assert ToolMemory(database).picks.of([PAPERWORK], 0, "", lambda: ["a"]) == ("a",)
        assert ToolMemory(database).picks.of([PAPERWORK], 0, "", lambda: ["b"]) == ("a",)


def test_it_stays_with_its_first_database_and_with_none_that_ends_with_the_process(tmp_path: Path) -> None:
    memory = ToolMemory()
    assert not memory.attach(Database())
    with closing(sqlite(tmp_path, "a")) as first, closing(sqlite(tmp_path, "b")) as second:
        assert memory.attach(first)
        assert not memory.attach(second)
        memory.learn_from(led_to("export_contract"), index(memory))
        memory.close()
        assert asked(ToolMemory(first)) == ["export_contract"]
        assert asked(ToolMemory(second)) == FIRST


# --- kinds of tools ---


def test_what_kind_of_tool_a_text_leads_to_is_kept_for_each_embedder(url: str) -> None:
    with closing(Database(url)) as database:
        first = ToolMemory(database)
        for dim in (3, 4):
            mine = index(first, embeddings=TableEmbeddings(dim=dim))
            first.learn_from(led_to("export_contract", f"c{dim}"), mine)
        first.intents("TableEmbeddings/3").learn_vector([1, 0, 0], "paperwork")
        first.close()
        later = ToolMemory(database)
        assert "paperwork" in later.intents("TableEmbeddings/3").labels
        assert "paperwork" not in later.intents("TableEmbeddings/4").labels
        assert later.intents("TableEmbeddings/4").labels
        assert later.intents("TableEmbeddings/5").labels == ()
        assert later.problems() == ()


def test_another_embedder_can_be_used_with_what_one_has_learned(url: str) -> None:
    with closing(Database(url)) as database:
        for dim in (3, 4):
            memory = ToolMemory(database)
            mine = index(memory, embeddings=TableEmbeddings(dim=dim))
            for n, name in enumerate(("export_contract", "list_server")):
                memory.learn_from(led_to(name, f"c{n}", asked=HumanMessage(f"sort {n}")), mine)
            assert len(mine.top("sort that", 3)) == 3
            memory.close()
            assert memory.problems() == ()


def test_kinds_that_cannot_be_read_are_learned_anew(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path)) as database:
        first = ToolMemory(database)
        first.intents("a/1").learn_vector([1], "paperwork")
        first.close()
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE tokopt_tool_blobs SET data = x'00'")
        later = ToolMemory(database)
        assert later.intents("a/1").labels == ()
        assert [type(problem) for problem in later.problems()] == [ConfigurationError]


# --- when it fails ---------------------------------------------------------------------------------------------------


def test_a_database_that_fails_costs_nothing_but_what_it_would_have_kept(tmp_path: Path) -> None:
    database = sqlite(tmp_path)
    memory, embeddings = ToolMemory(database), TableEmbeddings()
    tools = index(memory, embeddings=embeddings)
    database.close()
    assert memory.picks.of([PAPERWORK], 0, "", lambda: tools.top(PAPERWORK.text, 1)) == tuple(
        tools.top(PAPERWORK.text, 1)
    )
    assert tools.embedded(PAPERWORK.text)
    memory.learn_from(led_to("export_contract"), tools)
    assert asked(memory) == ["export_contract"]
    memory.flush()
    problems = memory.problems()
    assert {type(problem) for problem in problems} == {StoreError}
    assert memory.problems() == ()


def test_what_could_not_be_written_is_written_when_the_database_is_back(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path)) as database:
        memory = ToolMemory(database)
        memory.learn_from(led_to("export_contract"), index(memory))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ToolStore, "add_usage", _fails)
            memory.flush()
            assert [str(problem) for problem in memory.problems()] == ["the disk is full"]
        memory.flush()
        assert asked(ToolMemory(database)) == ["export_contract"]


def test_what_could_not_be_read_is_read_half_a_minute_later(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path)) as database:
        first = ToolMemory(database)
        first.learn_from(led_to("export_contract"), index(first))
        first.close()
        clock = FakeClock()
        later = ToolMemory(database, clock=clock)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ToolStore, "usage", _fails)
            assert asked(later) == FIRST
        assert asked(later) == FIRST
        clock.advance(30)
        assert asked(later) == ["export_contract"]


def test_what_is_old_goes_once_a_day(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path)) as database:
        clock, cleaned = FakeClock(), list[float]()
        memory = ToolMemory(database, clock=clock)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ToolStore, "cleanup", lambda _: cleaned.append(clock.now))
            for _ in range(50):
                memory.flush()
                clock.advance(3_600)
        assert [at - cleaned[0] for at in cleaned] == [0, 86_400, 172_800]


def test_lessons_that_are_lost_at_the_end_are_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = sqlite(tmp_path)
    memory = ToolMemory(database)
    memory.learn_from(led_to("export_contract"), index(memory))
    database.close()
    memory.problems()
    memory.close()
    (record,) = caplog.records
    assert record.message.startswith("what was learned of tools could not be kept (StoreError: ")


def _fails(*_: Any) -> Any:
    raise StoreError("the disk is full")
