"""What the tools part keeps, on every database: for other processes, after a restart, and as long as it is used."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.tools.store import NO_EMBEDDER, ToolStore
from langchain_tokopt.tools.usage import LearnedUsage
from langchain_tokopt.tools.usage_sums import MAX_PAIRS, MEMORY, UsageSums, lessons_of
from tests.fakes import FakeClock
from tests.unit_vectors import random_units

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
A, B, C = (name.encode() * 16 for name in "abc")
EAST, NORTH = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
MODEL = "model/2"


@pytest.fixture
def store(database: Database, clock: FakeClock) -> ToolStore:
    return ToolStore(database, clock=clock)


def change(database: Database, statement: str, **values: Any) -> None:
    with database.write() as connection:
        assert connection.execute(text(statement), values).rowcount > 0


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def together(*work: Callable[[], object]) -> None:
    """Run everything at once; an error in one of them is raised here."""
    errors: list[BaseException] = []
    begin = threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> None:
        try:
            begin.wait()
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def same(one: UsageSums, other: UsageSums) -> None:
    """Equal to the last bit, but for the revision."""
    assert (one.examples, one.weight) == (other.examples, other.weight)
    assert (one.vector is None) == (other.vector is None)
    if one.vector is not None and other.vector is not None:
        assert one.vector.tobytes() == other.vector.tobytes()
    assert one.terms.tolist() == other.terms.tolist()
    assert one.counts.tolist() == other.counts.tolist()
    assert (dict(one.together), dict(one.following)) == (dict(other.together), dict(other.following))


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_vectors_come_back_as_they_were(store: ToolStore) -> None:
    count = 1_200  # more than one query reads, and more than one transaction writes
    digests = [n.to_bytes(16, "big") for n in range(count)]
    vectors = dict(zip(digests, random_units(count, 8), strict=True))
    assert store.vectors("model/8", digests) == {}
    store.keep_vectors("model/8", vectors)
    found = store.vectors("model/8", [A, *digests])
    assert set(found) == set(digests)
    assert all(found[digest].tobytes() == vectors[digest].tobytes() for digest in digests)
    assert {vector.dtype for vector in found.values()} == {np.dtype(np.float32)}
    assert store.vectors("model/8", []) == {}


def test_vectors_of_different_embedders_are_never_mixed(store: ToolStore) -> None:
    store.keep_vectors(MODEL, {A: EAST})
    store.keep_vectors("other/2", {A: NORTH, B: NORTH})
    assert store.vectors(MODEL, [A, B])[A].tolist() == [1, 0]
    assert set(store.vectors(MODEL, [A, B])) == {A}
    assert store.vectors("other/2", [A])[A].tolist() == [0, 1]
    assert store.vectors("unknown/2", [A]) == {}


def test_a_vector_that_is_kept_again_replaces_the_first(store: ToolStore) -> None:
    store.keep_vectors(MODEL, {A: EAST})
    store.keep_vectors(MODEL, {A: NORTH})
    assert store.vectors(MODEL, [A])[A].tolist() == [0, 1]


@pytest.mark.parametrize("broken", [b"", b"12345", b"\0" * 12, np.array([np.nan, 1], dtype="<f4").tobytes()])
def test_vectors_that_cannot_be_read_are_missing_and_it_is_said_once(
    database: Database, store: ToolStore, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep_vectors(MODEL, {A: EAST, B: NORTH})
    change(database, "UPDATE tokopt_tool_vectors SET vector = :broken WHERE digest = :digest", broken=broken, digest=A)
    assert set(store.vectors(MODEL, [A, B])) == set(store.vectors(MODEL, [A, B])) == {B}
    assert said(caplog) == ["tools: 1 rows of tokopt_tool_vectors are of no use and count as missing"]
    store.keep_vectors(MODEL, {A: EAST})
    assert store.vectors(MODEL, [A])[A].tolist() == [1, 0]


def test_vectors_of_another_length_are_not_kept(store: ToolStore, caplog: pytest.LogCaptureFixture) -> None:
    store.keep_vectors(MODEL, {A: EAST, B: np.ones(3, dtype=np.float32)})
    assert set(store.vectors(MODEL, [A, B])) == {A}
    assert len(said(caplog)) == 1


def test_an_embedder_without_a_dimension_in_its_name_is_refused(store: ToolStore) -> None:
    with pytest.raises(ConfigurationError, match=r"embedder='model' cannot be used: use MemoEmbeddings\.name"):
        store.keep_vectors("model", {A: EAST})


# --- what was learned ------------------------------------------------------------------------------------------------

COUNTS = st.floats(0, 1e6, width=32)
PAIRS = st.dictionaries(st.binary(min_size=16, max_size=16), st.floats(0, 1e6), max_size=MAX_PAIRS)
TERMS = st.dictionaries(st.integers(0, 2**64 - 1), COUNTS, max_size=20)
VECTORS = st.none() | st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2)


@st.composite
def any_sums(draw: st.DrawFn) -> UsageSums:
    words, vector = draw(TERMS), draw(VECTORS)
    return UsageSums(
        examples=draw(st.integers(0, 2**40)),
        weight=draw(st.floats(0, MEMORY)),
        vector=None if vector is None else np.array(vector, dtype=np.float32),
        terms=np.array(list(words), dtype=np.uint64),
        counts=np.array(list(words.values()), dtype=np.float32),
        together=draw(PAIRS),
        following=draw(PAIRS),
    )


@settings(deadline=None, max_examples=30)
@given(any_sums(), any_sums())
def test_sums_come_back_as_they_were_and_new_ones_are_put_on_top(first: UsageSums, second: UsageSums) -> None:
    database = Database()
    store = ToolStore(database)
    same(store.add_usage(MODEL, {A: first})[A], first)
    same(store.usage(MODEL, [A])[A], first)
    added = store.add_usage(MODEL, {A: second})[A]
    same(added, first.then(second))
    found = store.usage(MODEL, [A, B])
    same(found[A], added)
    assert set(found) == {A}
    assert found[A].revision == added.revision == 2
    database.close()


def test_sums_come_back_from_every_database(store: ToolStore) -> None:
    lessons = lessons_of("a refund\0 \ud800 of the ticket", EAST, [A, B], [C])
    assert set(store.add_usage(MODEL, lessons)) == {A, B, C}
    found = store.usage(MODEL, [C, B, A])
    for digest, sums in lessons.items():
        same(found[digest], sums)
    more = store.add_usage(MODEL, {A: lessons[A]})
    same(store.usage(MODEL, [A])[A], lessons[A].then(lessons[A]))
    assert more[A].revision == 2


def test_what_changed_is_told_by_revision(store: ToolStore) -> None:
    assert store.revision(MODEL) == 0
    assert store.changed_since(MODEL, 0) == (0, {})
    store.add_usage(MODEL, lessons_of("one", EAST, [A, B], []))
    store.add_usage("other/2", lessons_of("one", EAST, [C], []))
    assert store.revision(MODEL) == 1
    mark, rows = store.changed_since(MODEL, 0)
    assert (mark, set(rows)) == (1, {A, B})
    assert store.changed_since(MODEL, mark) == (1, {})
    store.add_usage(MODEL, lessons_of("two", EAST, [B, C], []))
    mark, rows = store.changed_since(MODEL, mark)
    assert (mark, set(rows)) == (2, {B, C})
    assert rows[B].examples == 2


def test_another_process_and_the_next_one_know_what_was_learned(url: str | None, database: Database) -> None:
    store, usage = ToolStore(database), LearnedUsage()
    for n in range(5):
        usage.observe("refund of a ticket", EAST if n % 2 else NORTH, [A, B], [C])
    usage.flush(lambda new: store.add_usage(MODEL, new))
    with_file = Database(url) if url is not None else database
    other = LearnedUsage()
    other.merge(ToolStore(with_file).usage(MODEL, [A, B, C]))
    base = random_units(3, 2)
    one, two = (learned.for_tools([A, B, C]) for learned in (usage, other))
    for query in ("refund", "a ticket please"):
        assert one.word_scores(query).tolist() == two.word_scores(query).tolist()
    assert one.centroids(base).tolist() == two.centroids(base).tolist()
    assert one.neighbours([0]).tolist() == two.neighbours([0]).tolist()
    assert one.after([2]).tolist() == two.after([2]).tolist()
    # Another schema, or another embedder: nothing is known.
    assert ToolStore(with_file).usage(MODEL, [b"changed"]) == {}
    assert ToolStore(with_file).usage("other/2", [A, B, C]) == {}
    if with_file is not database:
        with_file.close()


def test_without_an_embedder_words_are_kept(store: ToolStore) -> None:
    lessons = lessons_of("refund", None, [A], [])
    store.add_usage(NO_EMBEDDER, lessons)
    same(store.usage(NO_EMBEDDER, [A])[A], lessons[A])


def test_vectors_of_another_embedder_are_not_learned(store: ToolStore) -> None:
    lessons = lessons_of("refund", random_units(1, 3)[0], [A], [])
    assert store.add_usage(MODEL, lessons)[A].vector is None
    found = store.usage(MODEL, [A])[A]
    assert found.vector is None
    assert (found.examples, found.terms.tolist()) == (1, lessons[A].terms.tolist())


@pytest.mark.parametrize(
    ("column", "broken"),
    [
        ("vector", b"1234"),
        ("vector", np.array([np.inf, 1], dtype="<f4").tobytes()),
        ("terms", b"1234567"),
        ("counts", b""),
        ("counts", np.array([np.nan, 1], dtype="<f4").tobytes()),
        ("together", "{"),
        ("together", "[]"),
        ("following", '{"zz": 1}'),
        ("following", '{"aa": "x"}'),
        ("following", '{"aa": NaN}'),
        ("examples", -1),
    ],
)
def test_sums_that_cannot_be_read_start_anew_and_it_is_said_once(
    database: Database, store: ToolStore, column: str, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lessons = lessons_of("refund ticket", EAST, [A, B], [])
    store.add_usage(MODEL, lessons)
    change(database, f"UPDATE tokopt_tool_usage SET {column} = :broken WHERE digest = :digest", broken=broken, digest=A)
    assert set(store.usage(MODEL, [A, B])) == {B}
    assert set(store.changed_since(MODEL, 0)[1]) == {B}
    assert said(caplog) == ["tools: 1 rows of tokopt_tool_usage are of no use and count as missing"]
    kept = store.add_usage(MODEL, lessons)
    assert (kept[A].examples, kept[B].examples) == (1, 2)
    same(store.usage(MODEL, [A])[A], lessons[A])


def test_many_tools_are_written_at_once(store: ToolStore) -> None:
    digests = [n.to_bytes(16, "big") for n in range(1_200)]
    lesson = lessons_of("refund", EAST, [A], [])[A]
    store.add_usage(MODEL, dict.fromkeys(digests, lesson))
    kept = store.add_usage(MODEL, dict.fromkeys(digests, lesson))
    assert {sums.examples for sums in kept.values()} == {2}
    assert len(store.usage(MODEL, digests)) == len(store.changed_since(MODEL, 1)[1]) == 1_200


def test_writers_at_the_same_time_lose_nothing_and_never_wait_in_a_circle(url: str | None, database: Database) -> None:
    ToolStore(database)
    rounds = 6
    writers = [LearnedUsage() for _ in range(4)]
    databases = [Database(url) if url is not None else database for _ in writers]

    def write(n: int) -> Callable[[], None]:
        store, usage, mark = ToolStore(databases[n]), writers[n], 0

        def run() -> None:
            nonlocal mark
            for _ in range(rounds):
                usage.observe("refund", EAST, [A, B, C] if n % 2 else [C, B, A])
                usage.flush(lambda new: store.add_usage(MODEL, new))
                store.keep_vectors(MODEL, {A: EAST, B: NORTH} if n % 2 else {B: NORTH, A: EAST})
                store.cleanup()
                mark, rows = store.changed_since(MODEL, mark)
                usage.merge(rows)

        return run

    together(*(write(n) for n in range(len(writers))))
    store = ToolStore(database)
    found = store.usage(MODEL, [A, B, C])
    assert {sums.examples for sums in found.values()} == {rounds * len(writers)}
    assert store.revision(MODEL) == rounds * len(writers)
    for usage, each in zip(writers, databases, strict=True):
        usage.merge(store.changed_since(MODEL, 0)[1])
        assert usage.for_tools([A, B, C]).weights.tolist() == pytest.approx([MEMORY * (1 - (1 - 1 / MEMORY) ** 24)] * 3)
        if each is not database:
            each.close()


def learn_and_pick(url: str, name: str) -> str:
    """Add 25 examples, with everything that a process does, and pick; what was picked."""
    database = Database(url)
    store, usage = ToolStore(database), LearnedUsage()
    for _ in range(25):
        usage.observe("refund", EAST, [A, B])
        usage.flush(lambda new: store.add_usage(MODEL, new))
        usage.merge(store.changed_since(MODEL, 0)[1])
    (picked,) = store.keep_picks(b"key", [name])
    database.close()
    return picked


CHILD = """
import sys
from tests.tools.test_tool_store import learn_and_pick

print("ready", flush=True)
print(learn_and_pick(sys.argv[1], "child"))
"""


def test_two_processes_add_to_the_same_sums_and_agree_on_a_pick(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tokopt.db'}"
    command = [sys.executable, "-W", "error", "-c", CHILD, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        mine = learn_and_pick(url, "parent")
        assert child.communicate(timeout=120)[0].split() == [mine]
    database = Database(url)
    store = ToolStore(database)
    assert {sums.examples for sums in store.usage(MODEL, [A, B]).values()} == {50}
    assert store.picks(b"key") == (mine,)
    database.close()


# --- picks -----------------------------------------------------------------------------------------------------------


def test_the_first_pick_is_kept(store: ToolStore) -> None:
    assert store.picks(b"key") is None
    assert store.keep_picks(b"key", ["send_mail", "read_mail"]) == ("send_mail", "read_mail")
    assert store.keep_picks(b"key", ["other"]) == ("send_mail", "read_mail")
    assert store.picks(b"key") == ("send_mail", "read_mail")
    assert store.keep_picks(b"none", []) == ()
    assert store.picks(b"none") == ()


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=20), st.lists(st.text(st.characters(codec=None)), max_size=4))
def test_any_names_come_back(key: bytes, names: list[str]) -> None:
    database = Database()
    store = ToolStore(database)
    assert store.keep_picks(key, names) == store.picks(key) == tuple(names)
    database.close()


def test_names_with_odd_characters_come_back_from_every_database(store: ToolStore) -> None:
    assert store.keep_picks(b"\0\xff", ["a\0b", "\ud800", "\u6f22"]) == ("a\0b", "\ud800", "\u6f22")
    assert store.picks(b"\0\xff") == ("a\0b", "\ud800", "\u6f22")


def test_all_who_pick_at_the_same_time_get_the_same(url: str | None, database: Database) -> None:
    ToolStore(database)
    databases = [Database(url) if url is not None else database for _ in range(4)]
    got: list[tuple[str, ...]] = []

    def pick(n: int) -> Callable[[], None]:
        return lambda: got.append(ToolStore(databases[n]).keep_picks(b"key", [f"tool{n}"]))

    together(*(pick(n) for n in range(4)))
    assert got == [got[0]] * 4
    assert ToolStore(database).picks(b"key") == got[0]
    for each in databases:
        if each is not database:
            each.close()


@pytest.mark.parametrize("broken", ["", "{", "{}", "[1]", '"name"'])
def test_a_pick_that_cannot_be_read_is_made_again(
    database: Database, store: ToolStore, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep_picks(b"key", ["a"])
    change(database, "UPDATE tokopt_tool_picks SET names = :broken", broken=broken)
    assert store.picks(b"key") is None
    assert said(caplog) == ["tools: 1 rows of tokopt_tool_picks are of no use and count as missing"]
    assert store.keep_picks(b"key", ["b"]) == ("b",)
    assert store.picks(b"key") == ("b",)


# --- small state -----------------------------------------------------------------------------------------------------


def test_bytes_are_kept_by_name(store: ToolStore) -> None:
    assert store.blob("intent") is None
    store.keep_blob("intent", b"\0\xffstate")
    store.keep_blob("other", b"")
    assert (store.blob("intent"), store.blob("other")) == (b"\0\xffstate", b"")
    store.keep_blob("intent", b"newer")
    assert store.blob("intent") == b"newer"


# --- age -------------------------------------------------------------------------------------------------------------


def test_what_is_not_used_goes(store: ToolStore, clock: FakeClock) -> None:
    store.keep_vectors(MODEL, {A: EAST, B: NORTH})
    store.add_usage(MODEL, lessons_of("refund", EAST, [A, B], []))
    store.keep_picks(b"key", ["a"])
    store.keep_blob("intent", b"state")
    clock.advance(7 * DAY)
    assert store.cleanup() == 0
    clock.advance(DAY)
    assert store.cleanup() == 1
    assert store.picks(b"key") is None
    clock.advance(82 * DAY)
    assert store.cleanup() == 0
    clock.advance(DAY)
    assert store.cleanup() == 4
    assert store.vectors(MODEL, [A, B]) == store.usage(MODEL, [A, B]) == {}
    assert store.blob("intent") == b"state"


def test_what_is_used_stays(store: ToolStore, clock: FakeClock) -> None:
    store.keep_vectors(MODEL, {A: EAST, B: NORTH})
    store.add_usage(MODEL, lessons_of("refund", EAST, [A, B, C], []))
    store.keep_picks(b"key", ["a"])
    store.keep_picks(b"again", ["a"])
    for day in range(1, 120):
        clock.advance(DAY)
        if day % 5 == 0:
            assert store.picks(b"key") == ("a",)
            assert store.keep_picks(b"again", ["b"]) == ("a",)
        if day % 60 == 0:
            store.vectors(MODEL, [A])
            store.usage(MODEL, [B])
            store.add_usage(MODEL, lessons_of("refund", EAST, [C], []))
        if day % 7 == 0:
            store.cleanup()
    assert set(store.vectors(MODEL, [A, B])) == {A}
    assert set(store.usage(MODEL, [A, B, C])) == {B, C}


def test_a_use_is_written_seldom(database: Database, store: ToolStore, clock: FakeClock) -> None:
    store.keep_vectors(MODEL, {A: EAST})
    store.keep_picks(b"key", ["a"])
    written: list[bool] = []
    write = database.write
    database.write = lambda: written.append(True) or write()  # type: ignore[method-assign,func-returns-value]
    for _ in range(3):
        store.vectors(MODEL, [A])
        store.picks(b"key")
    assert written == []
    clock.advance(7 * DAY)
    for _ in range(3):
        store.vectors(MODEL, [A])
        store.picks(b"key")
    assert written == [True, True]


def test_a_database_that_takes_no_writes_can_still_be_read(
    database: Database, store: ToolStore, clock: FakeClock
) -> None:
    store.keep_vectors(MODEL, {A: EAST})
    store.keep_picks(b"key", ["a"])
    clock.advance(30 * DAY)
    with database.read():  # a write inside of it is refused
        assert set(store.vectors(MODEL, [A])) == {A}
        assert store.picks(b"key") == ("a",)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_a_database_that_cannot_be_used_is_a_store_error(database: Database, store: ToolStore) -> None:
    database.close()
    for ask in (
        lambda: store.vectors(MODEL, [A]),
        lambda: store.keep_vectors(MODEL, {A: EAST}),
        lambda: store.usage(MODEL, [A]),
        lambda: store.add_usage(MODEL, lessons_of("a", EAST, [A], [])),
        lambda: store.revision(MODEL),
        lambda: store.changed_since(MODEL, 0),
        lambda: store.picks(b"key"),
        lambda: store.keep_picks(b"key", ["a"]),
        lambda: store.blob("intent"),
        lambda: store.keep_blob("intent", b""),
        store.cleanup,
        lambda: ToolStore(database),
    ):
        with pytest.raises(StoreError):
            ask()
