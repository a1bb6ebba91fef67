"""Threads and processes that hammer one semantic cache, and whether anything was lost, mixed up or wrong afterwards.

    python -m benchmarks.cache_hammer [--seconds 60] [--threads 8] [--processes 4] [--database URL] [--json OUT]

Every thread stores, asks, removes by tag, evicts and clears whole tenants, as fast as it can. What must hold: nobody
gets an error or an answer of another tenant; whatever was acknowledged and not removed is there at the end; and what
each process holds in memory by then is what is in the database. The exit code says whether it held.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from benchmarks.rows import Measure, publish
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings

DIM = 64
STEADY, CLEARED = [f"steady{n}" for n in range(4)], [f"cleared{n}" for n in range(2)]
ROOM = 300  # entries of the store that is evicted from
ASKED_AGAIN = 500  # of the entries that a process has stored
LONGEST_SETTLING_SECONDS = 120.0


class WordEmbeddings(Embeddings):
    """A direction for each text, and one that is near to it for the same text with "please" behind it."""

    def embed_query(self, text: str) -> list[float]:
        plain = text.removesuffix(" please")
        vector = _direction(plain)
        if plain != text:
            vector = vector + 0.1 * _direction(text)
        return [float(x) for x in vector]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def _direction(text: str) -> Any:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=DIM)
    return vector / np.linalg.norm(vector)


def name_of(number: int) -> str:
    """A word for a number, without digits: questions that differ in numbers are never compared."""
    letters = "abcdefghijklmnop"
    return "".join(letters[(number >> shift) & 15] for shift in range(0, 32, 4))


class Hammer:
    """What one process does: some threads on two stores, one that keeps everything and one with little room."""

    def __init__(self, database: Database, number: int, seed: int) -> None:
        embeddings = MemoEmbeddings(WordEmbeddings(), name="words")
        self.stores = {
            kind: AnswerStore(
                database,
                embeddings,
                kind=kind,
                decider=Threshold(0.95),
                max_entries=room,
                max_scopes=64,
                clock=time.time,
            )
            for kind, room in (("hammer", 10**9), ("evicted", ROOM))
        }
        self.number = number
        self.seed = seed
        self.kept: dict[int, tuple[str, str]] = {}  # id -> (scope, question), acknowledged and never removed
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.seconds: dict[str, list[float]] = {"find": [], "keep": []}
        self._lock = threading.Lock()

    def run(self, threads: int, seconds: float) -> None:
        """Hammer for so long."""
        until = time.monotonic() + seconds
        workers = [threading.Thread(target=self._work, args=(n, until)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, thread: int, until: float) -> None:
        rng = random.Random(f"{self.seed} {self.number} {thread}")
        mine: list[tuple[str, str, str]] = []
        count = 0
        while time.monotonic() < until:
            count += 1
            try:
                self._step(rng, f"{name_of(self.number)} {name_of(thread)} {name_of(count)}", mine)
            except Exception:
                self._note("error", traceback.format_exc(limit=6))

    def _step(self, rng: random.Random, question: str, mine: list[tuple[str, str, str]]) -> None:
        kind, dice = rng.choice(["hammer", "hammer", "evicted"]), rng.random()
        store = self.stores[kind]
        if dice < 0.4 or not mine:
            owner = rng.choice([*STEADY, *CLEARED])
            gone = rng.random() < 0.3
            entry_id = self._timed("keep", lambda: _keep(store, kind, owner, question, ("gone",) if gone else ()))
            mine.append((kind, owner, question))
            del mine[:-ASKED_AGAIN]
            if kind == "hammer" and owner in STEADY and not gone:
                with self._lock:
                    self.kept[entry_id] = (f"{kind}:{owner}", question)
        elif dice < 0.97:
            kind, owner, question = rng.choice(mine)
            asked = question + rng.choice(["", " please"])
            owner = rng.choice([owner, owner, owner, rng.choice(STEADY)])
            scope = f"{kind}:{owner}"
            find = self.stores[kind].find
            found = self._timed("find", lambda: find(scope, text_digest(asked), asked, exact_only=None))
            self._note(found.how)
            if found.entry is not None and found.entry.payload != f"{scope} to {question}":
                self._note("foreign", f"{scope} asked {asked!r} and was told {found.entry.payload!r}")
        elif dice < 0.985:
            store.remove_tagged("gone", rng.choice([None, rng.choice(STEADY)]))
            self._note("remove_tagged")
        elif dice < 0.995:
            self.stores["evicted"].clean()
            self._note("evict")
        else:
            self.stores["hammer"].clear(rng.choice(CLEARED))
            self._note("clear")

    def _timed(self, what: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        spent = time.perf_counter() - started
        with self._lock:
            self.seconds[what].append(spent)
        return result

    def _note(self, name: str, message: str | None = None) -> None:
        with self._lock:
            self.counts[name] += 1
            if message is not None:
                self.errors.append(message)

    # --- afterwards --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nobody writes any more: is everything there, and does this process know exactly what is there?"""
        for store in self.stores.values():
            store.flush()
        database = self.stores["hammer"].entries.database
        for entry_id, (scope, question) in self.kept.items():
            entry = self.stores["hammer"].entries.find(scope, text_digest(question), time.time())[1]
            if entry is None or (entry.id, entry.payload) != (entry_id, f"{scope} to {question}"):
                self._note("lost", f"{scope} has lost {question!r}")
        for kind, store in self.stores.items():
            for owner in (*STEADY, *CLEARED):
                scope = f"{kind}:{owner}"
                store.find(scope, text_digest("nothing"), "nothing like it", exact_only=None)
                held = store.questions(scope)
                rows = database.fetch(
                    """SELECT e.id, e.question FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s
                    ON s.id = e.scope_id WHERE s.scope = ? AND e.alive = 1""",
                    (scope,),
                )
                if held != dict(rows):
                    self._note("unequal", f"{scope}: {len(held)} in memory, {len(rows)} in the database")


def _keep(store: AnswerStore, kind: str, owner: str, question: str, tags: tuple[str, ...]) -> int:
    scope = f"{kind}:{owner}"
    entry_id = store.keep(
        scope=scope,
        owner=owner,
        exact=text_digest(question),
        question=question,
        payload=f"{scope} to {question}",
        semantic=True,
        tags=tags,
    )
    assert entry_id is not None
    return entry_id


def hammer(url: str, number: int, threads: int, seconds: float, seed: int, together: Any, told: Any) -> None:
    """One process: hammer together with the others, wait for all to be done, check."""
    database = Database(url)
    work = Hammer(database, number, seed)
    try:
        together.wait(LONGEST_SETTLING_SECONDS)
        work.run(threads, seconds)
        together.wait(seconds + LONGEST_SETTLING_SECONDS)
        work.check()
        together.wait(LONGEST_SETTLING_SECONDS)
    except Exception:
        work._note("error", traceback.format_exc())  # noqa: SLF001 - of its own process
    told.put((dict(work.counts), work.errors[:5], work.seconds, len(work.kept)))
    for store in work.stores.values():
        store.close()
    database.close()


def run(url: str, *, threads: int, processes: int, seconds: float, seed: int) -> tuple[list[Measure], list[str]]:
    """The figures, and the first errors of each process."""
    context = multiprocessing.get_context("spawn")
    together, told = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=hammer, args=(url, number, threads, seconds, seed, together, told))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    results = [told.get() for _ in workers]
    for worker in workers:
        worker.join()
    counts = sum((Counter(result[0]) for result in results), Counter[str]())
    errors = [error for result in results for error in result[1]]
    times = {what: sorted(t for result in results for t in result[2][what]) for what in ("find", "keep")}
    done = sum(map(len, times.values())) + counts["remove_tagged"] + counts["evict"] + counts["clear"]
    at = f"{processes}x{threads}"
    rows = [Measure("ours", name, at, counts[name]) for name in ("error", "foreign", "lost", "unequal")]
    rows.append(Measure("ours", "kept", at, sum(result[3] for result in results)))
    names = ("exact", "semantic", "miss", "remove_tagged", "evict", "clear")
    rows.extend(Measure("ours", name, at, counts[name]) for name in names)
    rows.append(Measure("ours", "ops_per_s", at, done / seconds))
    for what, spent in times.items():
        if spent:
            rows.append(Measure("ours", f"{what}_p50_ms", at, 1000 * statistics.median(spent)))
            rows.append(Measure("ours", f"{what}_p99_ms", at, 1000 * spent[int(0.99 * len(spent))]))
    return rows, errors


def main(argv: list[str] | None = None) -> int:
    """Hammer, publish what came of it, and fail if anything did."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_hammer", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=8, help="in each process")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--database", metavar="URL", help="an empty one; by default a SQLite file for the occasion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    with ExitStack() as stack:
        url = args.database
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tokopt-hammer-"))
            url = str(Path(folder) / "cache.db")
        rows, errors = run(url, threads=args.threads, processes=args.processes, seconds=args.seconds, seed=args.seed)
    kind = "postgresql" if "postgres" in url.partition(":")[0] else "sqlite"
    publish("cache_hammer", kind, rows, args.json)
    for error in errors[:10]:
        print(error, file=sys.stderr)
    broken = sum(row.value for row in rows if row.metric in ("error", "foreign", "lost", "unequal"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
