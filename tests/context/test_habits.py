"""What is expected of a thread: learned from the agent's earlier ones, fixed when it begins, the same everywhere."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from langchain_tokopt.context import HistoryCompression
from langchain_tokopt.context import habits as habits_module
from langchain_tokopt.context.habit_rows import HabitRows, ThreadRecord
from langchain_tokopt.context.habits import FLUSH_SECONDS, FLUSH_THREADS, REFRESH_SECONDS, THREADS_COUNTED, Habits
from langchain_tokopt.context.policy import Expected, Prices
from langchain_tokopt.database import Database
from tests.fakes import FakeClock

ROOT = Path(__file__).resolve().parents[2]
CACHED = Prices(read=0.1, write=1.25)
TOOL_TOKENS = 60
DAY = 86_400
ONE = b"1" * 16


def begin(habits: Habits, thread: str, agent: str = "agent") -> Expected:
    return habits.expected(thread, agent, CACHED, TOOL_TOKENS)


def run(habits: Habits, thread: str, calls: int, trimmable: int = 0, agent: str = "agent") -> None:
    begin(habits, thread, agent)
    habits.went(thread, calls=calls, trimmable=trimmable)


@pytest.fixture
def elsewhere(url: str | None, database: Database) -> Iterator[Database]:
    """The same database as another process has it open."""
    if url is None:
        pytest.skip("a database in memory is of one process")
    other = Database(url)
    yield other
    other.close()


# --- in this process -------------------------------------------------------------------------------------------------


def test_nothing_is_expected_of_the_first_thread() -> None:
    assert begin(Habits(), "first") == Expected()


def test_a_thread_is_expected_to_go_as_earlier_ones_of_its_agent() -> None:
    habits = Habits()
    run(habits, "long", 40)
    run(habits, "short", 3)
    run(habits, "other agent's", 7, agent="other")
    assert begin(habits, "new").calls == (3, 40)
    assert begin(habits, "new of the other", "other").calls == (7,)


def test_the_tool_is_expected_to_pay_where_results_were_large() -> None:
    habits = Habits()
    run(habits, "small", 10, trimmable=50)
    assert not begin(habits, "after small").trims
    run(habits, "large", 10, trimmable=50_000)
    assert begin(habits, "after large").trims


def test_what_is_expected_of_a_thread_stays_as_it_was_when_it_began() -> None:
    habits = Habits()
    before = begin(habits, "mine")
    run(habits, "other", 30, trimmable=90_000)
    habits.went("mine", calls=20, trimmable=50_000)
    assert begin(habits, "mine") == before == Expected()


def test_counts_never_shrink_and_unknown_threads_teach_nothing() -> None:
    habits = Habits()
    run(habits, "one", 9, trimmable=4)
    habits.went("one", calls=2, trimmable=1)
    habits.went("never begun", calls=99, trimmable=99)
    assert begin(habits, "new").calls == (9,)


def test_the_newest_threads_count() -> None:
    habits = Habits()
    for calls in range(1, THREADS_COUNTED + 11):
        run(habits, f"thread {calls}", calls)
    assert begin(habits, "new").calls == tuple(range(11, THREADS_COUNTED + 11))


def test_old_threads_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(habits_module, "THREADS_REMEMBERED", 2)
    habits = Habits()
    run(habits, "a", 5, agent="gone")
    run(habits, "b", 6)
    run(habits, "c", 7)
    assert begin(habits, "d", "gone").calls == ()
    assert begin(habits, "e").calls == (7,)


@pytest.mark.parametrize("name", ["", "\0", "\ud800", "é" * 10_000])
def test_any_name_will_do(name: str, database: Database) -> None:
    habits = Habits(database)
    run(habits, name, 3, agent=name)
    assert begin(habits, "next", name).calls == (3,)
    habits.close()


# --- in the database -------------------------------------------------------------------------------------------------


def test_what_was_expected_comes_back_in_another_process(database: Database, elsewhere: Database) -> None:
    habits = Habits(database)
    run(habits, "earlier", 30, trimmable=90_000)
    expected = begin(habits, "mine")
    run(habits, "later", 5)
    habits.close()
    assert expected == Expected((30,), trims=True)
    assert begin(Habits(elsewhere), "mine") == expected


def test_another_process_learns_how_threads_went(database: Database, elsewhere: Database) -> None:
    habits = Habits(database)
    run(habits, "one", 30, trimmable=90_000)
    run(habits, "two", 4)
    run(habits, "other agent's", 9, agent="other")
    habits.close()
    assert begin(Habits(elsewhere), "new") == Expected((4, 30), trims=True)


def test_what_others_learn_is_read_now_and_then(database: Database, elsewhere: Database, clock: FakeClock) -> None:
    mine, theirs = Habits(database, clock=clock), Habits(elsewhere)
    assert begin(mine, "first").calls == ()
    run(theirs, "long", 40)
    theirs.close()
    assert begin(mine, "at once").calls == ()
    clock.now += REFRESH_SECONDS
    assert begin(mine, "later").calls == (40,)


def test_who_begins_a_thread_first_says_what_is_expected(database: Database, elsewhere: Database) -> None:
    mine, theirs = Habits(database), Habits(elsewhere)
    run(mine, "what only one knows", 12)
    expected = begin(mine, "shared")
    assert expected.calls == (12,)
    assert begin(theirs, "shared") == expected


def test_threads_of_execution_that_begin_the_same_thread_agree(database: Database) -> None:
    many = [Habits(database) if database.persistent else Habits() for _ in range(4)]
    for number, habits in enumerate(many):
        run(habits, f"known to {number} only", number + 1)
    found: list[Expected] = []
    start = threading.Barrier(len(many) * 2)

    def both(habits: Habits) -> None:
        start.wait()
        found.append(begin(habits, "shared"))

    threads = [
        threading.Thread(target=both, args=(one,)) for one in (many * 2 if database.persistent else many[:1] * 8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_progress_is_written_after_a_while_and_after_many_threads(
    database: Database, elsewhere: Database, clock: FakeClock
) -> None:
    habits, rows = Habits(database, clock=clock), HabitRows(elsewhere)

    def kept() -> int:
        return sum(record.calls for record in rows.newest(habits_module._digest("agent"), 1_000).values())

    run(habits, "one", 5)
    assert kept() == 0
    clock.now += FLUSH_SECONDS
    habits.went("one", calls=6, trimmable=0)
    assert kept() == 6
    for number in range(FLUSH_THREADS - 1):
        run(habits, f"more {number}", 1)
    assert kept() == 6
    run(habits, "the last", 1)
    assert kept() == 6 + FLUSH_THREADS


def test_nothing_is_asked_of_the_database_once_a_thread_has_begun(database: Database, elsewhere: Database) -> None:
    habits = Habits(database)
    expected = begin(habits, "mine")
    database.close()
    assert begin(habits, "mine") == expected
    habits.went("mine", calls=3, trimmable=0)


def test_a_database_that_fails_loses_lessons_only(
    database: Database, elsewhere: Database, caplog: pytest.LogCaptureFixture
) -> None:
    habits = Habits(database)
    with elsewhere.write() as connection:
        connection.execute(text("DROP TABLE tokopt_context_threads"))
    run(habits, "one", 5)
    run(habits, "two", 6)
    assert begin(habits, "three").calls == (5, 6)
    habits.close()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings
    assert all("how threads of agents go cannot be kept" in record.getMessage() for record in warnings)


def test_a_closed_database_can_not_be_attached_but_nothing_is_raised(database: Database, url: str | None) -> None:
    database.close()
    habits = Habits(database)
    assert begin(habits, "one") == Expected()
    assert habits.attach(Database()) is False


def test_an_attached_database_stays(database: Database) -> None:
    habits = Habits()
    assert habits.attach(database) is database.persistent
    assert habits.attach(Database()) is False


def test_a_row_that_can_not_be_read_counts_as_missing(database: Database) -> None:
    rows = HabitRows(database)
    rows.keep({ONE: ThreadRecord(ONE, Expected((3,)), 1.0, 3)})
    assert rows.get(ONE) == ThreadRecord(ONE, Expected((3,)), 1.0, 3)
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_context_threads SET expected = 'nonsense'"))
    assert rows.get(ONE) is None
    assert rows.newest(ONE, 10) == {}


def test_the_higher_count_is_kept(database: Database) -> None:
    rows = HabitRows(database)
    rows.keep({ONE: ThreadRecord(ONE, Expected((3,), trims=True), 1.0, 7, 10)})
    rows.keep({ONE: ThreadRecord(ONE, Expected(), 2.0, 5, 20)})
    assert rows.get(ONE) == ThreadRecord(ONE, Expected((3,), trims=True), 1.0, 7, 20)


def test_threads_that_nobody_goes_on_with_are_deleted(database: Database, clock: FakeClock) -> None:
    rows = HabitRows(database, clock=clock)
    rows.keep({ONE: ThreadRecord(ONE, Expected()), b"2" * 16: ThreadRecord(ONE, Expected())})
    clock.now += 80 * DAY
    rows.keep({ONE: ThreadRecord(ONE, Expected())})
    clock.now += 20 * DAY
    assert rows.cleanup() == 1
    assert list(rows.newest(ONE, 10)) == [ONE]


def begin_and_go(url: str, calls: int) -> str:
    """Run a thread that only this process knows, and begin one that others begin, too; what is expected of it."""
    database = Database(url)
    habits = Habits(database)
    run(habits, f"own {calls}", calls, agent=f"agent {calls}")
    found = repr(habits.expected("shared", f"agent {calls}", CACHED, TOOL_TOKENS))
    habits.close()
    database.close()
    return found


CHILD = """
import sys
from tests.context.test_habits import begin_and_go

print("ready", flush=True)
print(begin_and_go(sys.argv[1], 2))
"""


def test_two_processes_that_begin_the_same_thread_agree(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tokopt.db'}"
    command = [sys.executable, "-W", "error", "-c", CHILD, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        mine = begin_and_go(url, 1)
        assert child.communicate(timeout=120)[0].strip() == mine


# --- models that ask for what is shown in part -----------------------------------------------------------------------


def test_an_agent_that_asks_for_its_parts_is_shown_none() -> None:
    habits = Habits()
    begin(habits, "first")
    habits.went("first", calls=12, trimmable=90_000, parts=6, asked=4)
    assert begin(habits, "second") == Expected((12,), trims=False, asks=True)
    policy = HistoryCompression().policy(None, tool="retrieve_original", expected=Expected((12,), asks=True))
    assert policy.sizes is None


def test_an_agent_that_asks_now_and_then_is_shown_parts() -> None:
    habits = Habits()
    begin(habits, "first")
    habits.went("first", calls=12, trimmable=90_000, parts=20, asked=4)
    assert begin(habits, "second") == Expected((12,), trims=True, asks=False)


def test_an_agent_that_asked_long_ago_is_shown_parts_again() -> None:
    habits = Habits()
    begin(habits, "first")
    habits.went("first", calls=12, trimmable=90_000, parts=6, asked=4)
    for number in range(THREADS_COUNTED):
        assert begin(habits, f"later {number}").asks
        habits.went(f"later {number}", calls=12, trimmable=0)
    assert not begin(habits, "last").asks


def test_what_was_asked_is_kept_for_other_processes(database: Database, elsewhere: Database) -> None:
    habits = Habits(database)
    begin(habits, "first")
    habits.went("first", calls=12, trimmable=90_000, parts=6, asked=4)
    habits.close()
    assert begin(Habits(elsewhere), "second").asks
    assert begin(Habits(elsewhere), "first") == Expected()
