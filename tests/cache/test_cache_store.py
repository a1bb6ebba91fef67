"""Finding and keeping answers, on every database: exact, similar, expiry, eviction, two processes, odd texts."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from sqlalchemy import text

from langchain_tokopt.cache.cleanup import Cleaned, Cleanup
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.expiry import expires_at
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore, Found
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from tests.fakes import FakeClock, TableEmbeddings

TABLE = {
    "how do I pay": [1.0, 0.0],
    "how can I pay": [1.0, 0.1],
    "paying, how": [1.0, 0.2],
    "pay 50 now": [0.0, 1.0],
    "pay 60 now": [0.0, 1.0],
}


def open_store(
    database: Database,
    clock: FakeClock,
    embeddings: Embeddings | None = None,
    *,
    threshold: float = 0.97,
    **settings: Any,
) -> AnswerStore:
    given = {
        "kind": "agent",
        "decider": Threshold(threshold),
        "max_entries": 100,
        "max_scopes": 10,
        "ttl_jitter": 0.0,
        **settings,
    }
    return AnswerStore(database, MemoEmbeddings(embeddings or TableEmbeddings(TABLE)), clock=clock, **given)


@pytest.fixture
def store(database: Database, clock: FakeClock) -> AnswerStore:
    return open_store(database, clock)


def keep(store: AnswerStore, question: str, scope: str = "s", **fields: Any) -> None:
    given = {"owner": "o", "payload": f"to {question}", "semantic": True, **fields}
    store.keep(scope=scope, exact=text_digest(question), question=question, **given)


def find(store: AnswerStore, question: str, scope: str = "s", exact_only: str | None = None) -> Found:
    return store.find(scope, text_digest(question), question, exact_only=exact_only)


def told(found: Found) -> tuple[str, str | None]:
    return found.how, found.entry.payload if found.entry else None


def test_nothing_is_found_in_an_empty_store(store: AnswerStore) -> None:
    assert find(store, "how do I pay") == Found(reason="nothing stored")


def test_exact_before_similar_before_nothing(store: AnswerStore) -> None:
    keep(store, "how do I pay")
    keep(store, "how can I pay")
    assert told(find(store, "how do I pay")) == ("exact", "to how do I pay")
    near = find(store, "paying, how")
    assert told(near) == ("semantic", "to how can I pay")
    assert near.similarity == pytest.approx(0.99529, abs=1e-4)
    far = find(store, "pay 50 now")
    assert (told(far), far.reason) == (("miss", None), "nothing similar")
    assert far.similarity == pytest.approx(0.0995, abs=1e-4)


def test_the_threshold_is_a_similarity_and_counts_from_itself(database: Database, clock: FakeClock) -> None:
    strict = open_store(database, clock, threshold=0.996)
    keep(strict, "how can I pay")
    assert find(strict, "paying, how").how == "miss"
    assert find(strict, "how do I pay").how == "miss"
    assert find(open_store(database, clock, threshold=0.995), "how do I pay").how == "semantic"


def test_questions_that_differ_in_numbers_are_not_served(store: AnswerStore) -> None:
    keep(store, "pay 50 now")
    found = find(store, "pay 60 now")
    assert (told(found), found.reason) == (("miss", None), "the nearest question differs in numbers")
    assert found.similarity == pytest.approx(1.0)


def test_exact_only_questions_are_neither_compared_nor_found_by_meaning(store: AnswerStore) -> None:
    keep(store, "how do I pay", semantic=False)
    assert find(store, "how can I pay").reason == "nothing stored"
    keep(store, "how can I pay")
    found = find(store, "paying, how", exact_only="why not")
    assert (found.how, found.reason) == ("miss", "why not")
    assert find(store, "how do I pay", exact_only="why not").how == "exact"


def test_a_look_for_the_very_question_decides_nothing(database: Database, clock: FakeClock) -> None:
    table = TableEmbeddings(TABLE)
    store = open_store(database, clock, table)
    keep(store, "how do I pay")
    look = lambda question: store.find("s", text_digest(question), question, exact_only=None, decide=False)  # noqa: E731
    assert told(look("how do I pay")) == ("exact", "to how do I pay")
    assert look("how can I pay") == Found(reason="not stored")
    assert table.asked == ["how do I pay"]


@pytest.mark.parametrize("semantic", [True, False])
def test_the_text_of_every_question_is_kept(store: AnswerStore, database: Database, semantic: bool) -> None:
    keep(store, "nul \x00 and \ud800 \U0001f600", semantic=semantic, payload="{}")
    with database.read() as connection:
        rows = connection.execute(text("SELECT question, vector IS NULL, embedder IS NULL FROM tokopt_cache_entries"))
        assert [tuple(row) for row in rows] == [("nul   and ? \U0001f600", not semantic, not semantic)]


def test_a_long_question_that_is_not_compared_is_shown_as_it_begins(store: AnswerStore, database: Database) -> None:
    for semantic in (True, False):
        keep(store, f"{semantic} {3_000 * 'x'}", semantic=semantic, payload="{}")
        assert find(store, f"{semantic} {3_000 * 'x'}").how == "exact"
        assert find(store, f"{semantic} {3_000 * 'x'}y", exact_only="long").how == "miss"
    with database.read() as connection:
        lengths = connection.execute(text("SELECT LENGTH(question) FROM tokopt_cache_entries ORDER BY id")).scalars()
        assert list(lengths) == [3_005, 2_000]


def test_scopes_never_see_each_other(store: AnswerStore) -> None:
    keep(store, "how do I pay", scope="a")
    for question in ("how do I pay", "how can I pay"):
        assert find(store, question, scope="b") == Found(reason="nothing stored")
    keep(store, "how can I pay", scope="b", payload="b's")
    assert told(find(store, "paying, how", scope="b")) == ("semantic", "b's")
    assert told(find(store, "paying, how", scope="a")) == ("semantic", "to how do I pay")


def test_kinds_never_see_each_other(database: Database, clock: FakeClock) -> None:
    agent, llm = open_store(database, clock), open_store(database, clock, kind="llm", max_entries=1)
    keep(agent, "how do I pay", scope="a")
    keep(llm, "x", scope="l")
    keep(llm, "y", scope="l")
    assert (agent.entries.count(), llm.entries.count()) == (1, 1)
    assert llm.clear() == 1
    assert told(find(agent, "how do I pay", scope="a")) == ("exact", "to how do I pay")


def test_a_question_asked_again_has_its_new_answer(store: AnswerStore) -> None:
    keep(store, "how do I pay", payload="old")
    assert told(find(store, "how can I pay")) == ("semantic", "old")
    keep(store, "how do I pay", payload="new")
    assert told(find(store, "how can I pay")) == ("semantic", "new")
    assert told(find(store, "how do I pay")) == ("exact", "new")
    assert store.entries.count() == 1


# --- time and room ---------------------------------------------------------------------------------------------------


def test_an_answer_expires_exactly_and_by_meaning(store: AnswerStore, clock: FakeClock) -> None:
    keep(store, "how do I pay", ttl_seconds=10)
    clock.advance(9.9)
    assert find(store, "how do I pay").how == "exact"
    assert find(store, "how can I pay").how == "semantic"
    clock.advance(0.1)
    assert find(store, "how do I pay").how == "miss"
    assert find(store, "how can I pay").how == "miss"
    assert store.clean() == Cleaned(expired=1)
    assert store.entries.count() == 0


def test_answers_expire_one_after_the_other_and_none_too_late(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock, ttl_jitter=0.5)
    keep(store, "how do I pay", ttl_seconds=10)
    keep(store, "pay 50 now", ttl_seconds=10)
    with database.read() as connection:
        ends = connection.execute(text("SELECT expires_at FROM tokopt_cache_entries ORDER BY id")).scalars().all()
    assert ends == [
        expires_at(clock(), 10, key=text_digest(question), jitter=0.5) for question in ("how do I pay", "pay 50 now")
    ]
    assert ends[0] != ends[1]


def test_what_has_expired_goes_before_anything_else(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock, max_entries=4, eviction="lru")
    keep(store, "a")
    clock.advance(1)
    for question in "bcd":
        keep(store, question, ttl_seconds=10)
    clock.advance(10)
    keep(store, "e")
    assert [find(store, q, exact_only="x").how for q in "ae"] == ["exact", "exact"]
    assert store.counts()["evicted"] == 0


@pytest.mark.parametrize("eviction", ["lru", "lfu", "ttl", "cost", "adaptive"])
def test_the_limit_in_bytes_holds_at_once_by_every_policy(database: Database, clock: FakeClock, eviction: str) -> None:
    store = open_store(database, clock, max_entries=None, max_bytes=1_000, eviction=eviction)
    store._upkeep._charge.wake = lambda: None  # type: ignore[method-assign]  # or room may be under way in this moment
    for n in range(30):
        question = f"question {n:02}"
        payload = "x" * ((990 if n == 20 else 30 + n) - len(question))
        keep(store, question, payload=payload, semantic=False)
        assert store.entries.size()[1] <= 1_000
        clock.advance(1)
    told = store.counts()
    assert (told["policy"], told["max_entries"], told["max_bytes"], told["too_big"]) == (eviction, None, 1_000, 0)
    assert 0 < told["entries"] == 30 - told["evicted"]


def test_an_entry_bigger_than_all_the_room_is_not_stored(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock, max_bytes=100)
    keep(store, "a", payload="x" * 99, semantic=False)
    keep(store, "b", payload="x" * 100, semantic=False)
    assert [find(store, q, exact_only="x").how for q in "ab"] == ["exact", "miss"]
    assert store.counts()["too_big"] == 1


def test_when_little_room_is_left_it_is_made_in_the_background(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock, max_entries=256)
    woken: list[int] = []
    store._upkeep._charge.wake = lambda: woken.append(store.entries.count())  # type: ignore[method-assign]
    counts = []
    for n in range(258):
        keep(store, f"question {n}", semantic=False)
        counts.append(store.entries.count())
    # The last two places are for what is stored while room is made; as it is not, the 257th makes it.
    assert woken == [255]
    assert counts[-3:] == [256, 253, 254]
    assert store.counts()["max_entries"] == 256


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eviction": "fifo"}, r'eviction=\'fifo\'.* use one of "lru", "lfu", "ttl", "cost", "adaptive"'),
        ({"max_entries": 0}, "max_entries=0"),
        ({"max_bytes": -1}, "max_bytes=-1"),
        ({"ttl_jitter": 1.0}, "jitter=1.0"),
    ],
)
def test_limits_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    database = Database()
    with pytest.raises(ConfigurationError, match=said):
        open_store(database, FakeClock(), **settings)
    database.close()


def test_closing_ends_the_background_and_saves_what_eviction_has_learnt(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock)
    keep(store, "how do I pay")
    store.clean()
    find(store, "how do I pay")
    thread = Cleanup.of(database)._thread
    assert thread is not None
    store.close()
    assert not thread.is_alive()
    with database.read() as connection:
        kept = connection.execute(text("SELECT kind, policy FROM tokopt_cache_eviction")).all()
        hits = connection.execute(text("SELECT hits FROM tokopt_cache_entries")).scalars().all()
    assert ([tuple(row) for row in kept], hits) == ([("agent", "adaptive")], [1])


def test_the_least_recently_used_answer_goes_first(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock, max_entries=3, eviction="lru")
    for question in ("a", "b", "c"):
        keep(store, question)
        clock.advance(1)
    assert find(store, "a").how == "exact"
    keep(store, "d")
    assert store.entries.count() == 3
    assert [find(store, q, exact_only="x").how for q in "abcd"] == ["exact", "miss", "exact", "exact"]


def test_room_is_bounded_whoever_stores(database: Database, clock: FakeClock) -> None:
    stores = [open_store(database, clock, max_entries=5) for _ in "ab"]
    for n in range(20):
        keep(stores[n % 2], f"question {n}", scope=f"s{n % 4}")
        clock.advance(1)
    stores[0].clean()
    assert stores[1].entries.count() == 5


def test_dead_rows_and_empty_scopes_are_purged_and_a_replica_that_slept_catches_up(
    database: Database, clock: FakeClock
) -> None:
    store, sleeper = open_store(database, clock, max_entries=1), open_store(database, clock)
    keep(store, "how do I pay")
    assert find(sleeper, "how can I pay").how == "semantic"
    keep(store, "pay 50 now")
    keep(store, "x", scope="other")
    assert store.entries.count() == 1
    clock.advance(601)
    store.clean()
    with database.read() as connection:
        counts = [
            connection.execute(text(f"SELECT COUNT(*) FROM tokopt_cache_{name}")).scalar_one()
            for name in ("entries", "scopes")
        ]
    assert counts == [1, 1]
    assert find(sleeper, "how can I pay") == Found(reason="nothing stored")
    keep(store, "pay 50 now")
    assert find(sleeper, "how can I pay").how == "miss"
    assert told(find(sleeper, "pay 50 now")) == ("exact", "to pay 50 now")


def test_only_so_many_scopes_are_in_memory(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock, max_scopes=2)
    for scope in "abc":
        keep(store, "how do I pay", scope=scope)
        assert find(store, "how can I pay", scope=scope).how == "semantic"
    assert len(store._follower) == 2
    assert find(store, "how can I pay", scope="a").how == "semantic"


def test_what_was_loaded_ahead_needs_no_query_for_its_answer(store: AnswerStore) -> None:
    keep(store, "how do I pay")
    first = store.entries.find("s", text_digest("how do I pay"), 0.0)[1]
    assert first is not None
    keep(store, "paying, how", answer=first.id)
    keep(store, "pay 50 now")
    keep(store, "elsewhere", scope="t")
    assert store.preload("s", [first.id, 99]) == {first.id}
    assert store.preload("nowhere", [first.id]) == set()
    assert sorted(store.questions("s").values()) == ["how do I pay", "pay 50 now", "paying, how"]
    reads: list[int] = []
    store.entries.read = lambda key, revision: reads.append(key)  # type: ignore[method-assign,assignment,return-value]
    assert told(find(store, "how can I pay")) == ("semantic", "to paying, how")
    assert reads == []


# --- several processes -----------------------------------------------------------------------------------------------


def test_another_process_sees_what_is_stored_replaced_and_removed(
    url: str | None, database: Database, clock: FakeClock
) -> None:
    # A database in memory has one object; the second store has a replica of its own all the same.
    other = Database(url) if url else database
    mine, theirs = open_store(database, clock), open_store(other, clock)
    keep(mine, "how do I pay", payload="first")
    assert told(find(theirs, "how can I pay")) == ("semantic", "first")
    keep(mine, "how do I pay", payload="second")
    assert told(find(theirs, "how can I pay")) == ("semantic", "second")
    found = find(mine, "how do I pay")
    assert found.entry is not None
    mine.drop(found.entry)
    assert find(theirs, "how can I pay").reason == "nothing stored"
    keep(theirs, "how do I pay", payload="third")
    assert told(find(mine, "how can I pay")) == ("semantic", "third")
    assert mine.clear() == 1
    assert find(theirs, "how can I pay") == Found(reason="nothing stored")
    if other is not database:
        other.close()


def test_answers_outlive_the_process(tmp_path: Path, clock: FakeClock) -> None:
    first = Database(tmp_path / "cache.db")
    keep(open_store(first, clock), "how do I pay")
    first.close()
    second = Database(tmp_path / "cache.db")
    assert told(find(open_store(second, clock), "how can I pay")) == ("semantic", "to how do I pay")
    second.close()


def test_threads_that_store_find_and_remove_at_once(database: Database, clock: FakeClock) -> None:
    stores = [open_store(database, clock, max_entries=30) for _ in "ab"]
    wrong: list[Any] = []

    def work(seed: int) -> None:
        store = stores[seed % 2]
        try:
            for n in range(25):
                scope = f"s{(seed + n) % 3}"
                question = f"question {chr(97 + (seed * 7 + n) % 20)}"
                keep(store, question, scope=scope, payload=f"{scope}:{question}")
                found = find(store, question, scope=scope)
                if found.entry is not None and not found.entry.payload.startswith(f"{scope}:"):
                    wrong.append(found)
                if n % 10 == 9:
                    store.clear()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- removal ---------------------------------------------------------------------------------------------------------


def test_removal_by_owner_and_by_tag(store: AnswerStore) -> None:
    keep(store, "a", scope="1", owner="x", tags=("tool:look", "tool:find"))
    keep(store, "b", scope="1", owner="x")
    keep(store, "c", scope="2", owner="y", tags=("tool:look",))
    keep(store, "d", scope="2", owner="y", tags=("tool:l%k_",))
    assert store.remove_tagged("tool:look", owner="x") == 1
    assert store.remove_tagged("tool:l%k_") == 1
    assert store.remove_tagged("tool:look") == 1
    assert store.remove_tagged("tool:look") == 0
    assert store.clear(owner="y") == 0
    assert store.clear(owner="x") == 1
    assert store.entries.count() == 0


# --- embedder --------------------------------------------------------------------------------------------------------


def test_without_an_embedder_exact_repetitions_are_still_found(
    database: Database, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Missing(Embeddings):
        def embed_query(self, text: str) -> list[float]:
            raise MissingDependencyError("install this")

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise MissingDependencyError("install this")

    store = open_store(database, clock, Missing())
    keep(store, "how do I pay")
    assert find(store, "how do I pay").how == "exact"
    assert find(store, "how can I pay").reason == "no embedder"
    assert [record.message for record in caplog.records] == ["the cache finds exact repetitions only: install this"]


def test_nothing_is_embedded_for_a_scope_that_holds_nothing(database: Database, clock: FakeClock) -> None:
    table = TableEmbeddings(TABLE)
    store = open_store(database, clock, table)
    find(store, "how do I pay")
    assert table.asked == []
    keep(store, "how do I pay")
    find(store, "how do I pay")
    assert table.asked == ["how do I pay"]


@pytest.mark.parametrize("question", ["\ud800 odd", "nul \x00 inside", "quote ' and \" and %", "\U0001f600 smile"])
def test_odd_questions_are_found_again(store: AnswerStore, question: str) -> None:
    keep(store, question, payload="{}")
    assert find(store, question).how == "exact"
    assert find(store, question + " ").how == "miss"


def test_uses_are_noted_in_batches(database: Database, clock: FakeClock) -> None:
    store = open_store(database, clock)
    keep(store, "how do I pay")
    clock.advance(5)
    for _ in range(3):
        find(store, "how do I pay")
    store.flush()
    with database.read() as connection:
        row = connection.execute(text("SELECT hits, used_at - created_at FROM tokopt_cache_entries")).one()
    assert tuple(row) == (3, 5.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_goes_on_whatever_its_parent_was_doing(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(tmp_path / "cache.db")
    store = open_store(database, clock)
    keep(store, "how do I pay")
    assert find(store, "how can I pay").how == "semantic"
    holding, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with store._lock, store._follower._replicas.get("s").following:  # type: ignore[union-attr]
            holding.set()
            may_end.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    child = os.fork()
    if child == 0:
        fine = find(store, "how can I pay").how == "semantic"
        keep(store, "from the child")
        os._exit(0 if fine and find(store, "how do I pay").how == "exact" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    may_end.set()
    holder.join()
    assert find(store, "from the child").how == "exact"
    store.close()
    database.close()
