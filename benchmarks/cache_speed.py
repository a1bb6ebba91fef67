"""How long does a look into the cache take, hit or miss, and what does an entry weigh in memory?

    python -m benchmarks.cache_speed [--entries 1000 10000 100000] [--calls N] [--json OUT]

Ours beside GPTCache (SQLite and FAISS) and LangChain's in-memory cache, in the same process, one after the other.
Vectors are made beforehand, so that no embedder's time is in the figures. With `--embedder` each question is embedded
as well, by every peer with the same model, in rows at "10000+embedder" and so on: `--embedder onnx` is the int8 export
that needs no torch (the user's, or one that is made in a temporary folder), `--embedder torch` the model as it is. A
question has 13 words, under a system prompt of 200.

* `exact_*`: a question that is stored, asked a second time; `hit_*`: another wording of a stored one, cosine 0.97;
  `miss_*`: something new. The latter two are asked once each.
* `decision_p50_ms`: ours alone, from ten neighbours that were found to the verdict, for a question never seen before;
  at "unread" the neighbours were not seen before either, so that each must be read first.
* `bytes_per_entry`: what the resident memory of the process grew by, vector and text included, while it was filled.
* `import_s`: a fresh interpreter, to the point where a first look could be made; at "beside langchain" without the time
  of what an agent has loaded anyway.

What a peer does in the background after it was filled (rewriting its index, saving it) is waited for.

The databases lie in memory (/dev/shm) where the system has such a folder, or in `--folder`: GPTCache writes at each
hit, and how long a disk takes for that is not what is asked here.

Peers come with `pip install -e .[bench]`. One that is missing is said to be missing, and has no rows.
"""

from __future__ import annotations

import argparse
import gc
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from langchain_core.embeddings import Embeddings

from benchmarks.overhead import percentile, words
from benchmarks.peers import PEERS, Peer
from benchmarks.rows import Measure, publish
from langchain_tokopt.cache.decision import Neighbour
from langchain_tokopt.cache.decision.learned import Learned
from langchain_tokopt.model_choice import named_model

ENTRIES = (1_000, 10_000, 100_000)
DIM = 384
WARM_UP = 20
_CLUSTERS = 200
_REMEMBERED = 100
_SYSTEM = words(random.Random(1), 200)
_BESIDE = "import langchain.agents, langchain_core.messages, numpy"
_REST_SECONDS = 300.0
_WORKERS = ("tokopt-vectors", "tokopt-cache")
# What questions are made of: each is one token or two for an embedder, as those of a letter soup are not.
_COMMON = (
    "account address agent answer apply attach balance bank bill branch bring browser building call cancel card change "
    "charge check choose city code collect compare computer confirm contact contract cost country customer data deal "
    "delivery deposit details device discount document email employee error example explain family file find flight "
    "folder form friend garden happen help hotel house idea image insurance invoice item keep kitchen language letter "
    "list loan machine mail meeting member message mobile money music name network notice number office offer order "
    "page paper parcel park password pay payment person phone picture plan please point policy price print problem "
    "product profile project question reason receipt record refund register reply report request reset road room rule "
    "save school screen search service setting share shop show sign software store street subject support system team "
    "ticket tool travel update user verify video visit wallet water website window work my the of for with can how do i"
)


class Questions:
    """Questions with vectors that lie as those of real ones do: in clusters, with other wordings close by.

    Args:
        count: How many there are.
        calls: How many of each kind are asked.
        seed: Of everything that is random here.
    """

    def __init__(self, count: int, calls: int, seed: int) -> None:
        rng, floats = random.Random(seed), np.random.default_rng(seed)
        centres = _unit(floats.normal(size=(_CLUSTERS, DIM)))
        self.stored = [f"{_spoken(rng)} {_letters(number)}" for number in range(count)]
        rows = _unit(
            0.6 * centres[floats.integers(0, _CLUSTERS, count)] + 0.8 * _unit(floats.normal(size=(count, DIM)))
        )
        self.vectors = dict(zip(self.stored, rows, strict=True))
        self.answers = [words(rng, 40) for _ in range(count)]
        self._rng, self._floats, self._centres = rng, floats, centres
        self._calls = calls

    def exact(self, count: int) -> list[str]:
        """Stored questions, of the first `count`."""
        return self._rng.sample(self.stored[:count], min(self._calls + WARM_UP, count))

    def reworded(self, count: int) -> list[str]:
        """Other wordings of stored questions, of the first `count`; never the same one twice."""
        chosen = self._rng.choices(self.stored[:count], k=self._calls + WARM_UP)
        asked = [f"{_letters(number)} {question}" for number, question in enumerate(chosen, len(self.vectors))]
        noise = _unit(self._floats.normal(size=(len(chosen), DIM)))
        near = _unit(np.stack([self.vectors[question] for question in chosen]) + 0.25 * noise)
        self.vectors.update(zip(asked, near, strict=True))
        return asked

    def new(self) -> list[str]:
        """Questions like none that is stored."""
        count = self._calls + WARM_UP
        asked = [f"{_spoken(self._rng)} {_letters(len(self.vectors) + number)}" for number in range(count)]
        centres = self._centres[self._floats.integers(0, _CLUSTERS, count)]
        self.vectors.update(
            zip(asked, _unit(0.6 * centres + 0.8 * _unit(self._floats.normal(size=(count, DIM)))), strict=True)
        )
        return asked


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def _spoken(rng: random.Random) -> str:
    return " ".join(rng.choices(_COMMON.split(), k=12))


def _letters(number: int) -> str:
    """A number as a word without digits, which the guard would compare."""
    return "q" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


# --- times -----------------------------------------------------------------------------------------------------------


def milliseconds(run: Callable[[str], object], asked: Sequence[str]) -> list[float]:
    """Time of each call after the warm-up."""
    times = []
    for question in asked:
        started = time.perf_counter()
        run(question)
        times.append((time.perf_counter() - started) * 1000)
    return times[WARM_UP:]


def timed(peer: Peer, name: str, questions: Questions, count: int, at: float | str | None = None) -> list[Measure]:
    """Times of one peer that holds `count` entries, as rows at `at`."""
    at = count if at is None else at
    exact, reworded, new = questions.exact(count), questions.reworded(count), questions.new()
    _check(name, "exact", [peer.ask(question) is not None for question in exact[:WARM_UP]], wanted=True)
    _check(name, "new", [peer.ask(question) is not None for question in new[:WARM_UP]], wanted=False)
    milliseconds(peer.ask, exact)
    rows = [Measure(name, "exact_p50_ms", at, statistics.median(milliseconds(peer.ask, exact)))]
    if peer.semantic:
        _check(name, "reworded", [peer.ask(question) is not None for question in reworded[:WARM_UP]], wanted=True)
        times = milliseconds(peer.ask, reworded)
        rows.append(Measure(name, "hit_p50_ms", at, statistics.median(times)))
        rows.append(Measure(name, "hit_p95_ms", at, percentile(times, 0.95)))
    rows.append(Measure(name, "miss_p50_ms", at, statistics.median(milliseconds(peer.ask, new))))
    return rows


def _check(name: str, kind: str, hits: Sequence[bool], *, wanted: bool) -> None:
    """A time is worth nothing if it is that of something else."""
    if not all(hit is wanted for hit in hits):
        msg = f"{name}: {sum(hits)} of {len(hits)} {kind} questions were hits"
        raise RuntimeError(msg)


def decisions(
    decide: Callable[[str, np.ndarray, Sequence[Neighbour], np.ndarray], object], calls: int, seed: int
) -> tuple[float, float]:
    """Median time of a decision about a new question, over ten neighbours all of which must be read.

    First with neighbours that were neighbours before, as most are in a cache that is in use; then with new ones.
    `decide` gets the question, its vector, the neighbours and theirs: float32 `[10, d]`.
    """
    rng, floats = random.Random(seed), np.random.default_rng(seed)

    def case(number: int) -> tuple[str, np.ndarray, list[Neighbour], np.ndarray]:
        asked = _spoken(rng)
        rows = _unit(floats.normal(size=(11, DIM)))
        rows[1:] = _unit(rows[:1] + 0.3 * rows[1:])
        # All with one answer, each with another number: none is taken before all are read.
        near = [
            Neighbour(id=n, revision=1, text=f"{asked} {n + 2}", similarity=float(rows[0] @ rows[n + 1]), answer=0)
            for n in range(10)
        ]
        return f"{asked} {_letters(number)}", rows[0], near, rows[1:]

    # Few enough that what is read of them is still remembered when they come again.
    cases = [case(number) for number in range(min(calls, _REMEMBERED) + WARM_UP)]
    again = [(f"{asked} again", *rest) for asked, *rest in cases]
    first, second = [], []
    for times, asked_of in ((first, cases), (second, again)):
        for one in asked_of:
            started = time.perf_counter()
            decide(*one)
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(second[WARM_UP:]), statistics.median(first[WARM_UP:])


def import_seconds(first_steps: str, *, beside: str = "", runs: int = 5) -> float:
    """Median time that a fresh interpreter needs for `first_steps`, after `beside`."""
    code = f"import time\n{beside}\ns = time.perf_counter()\n{first_steps}\nprint(time.perf_counter() - s)"
    times = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        times.append(float(done.stdout.split()[-1]))
    return statistics.median(times)


def rest(seconds: float = _REST_SECONDS) -> None:
    """Wait until our indexes are rewritten and saved. The other peers have no threads that come to an end."""
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name in _WORKERS:
            thread.join(max(0.0, until - time.monotonic()))


def chosen_embedder(name: str, folder: Path) -> Embeddings:
    """The default model: as a `torch` model, or as an `onnx` export, made in `folder` unless the user has one."""
    if name == "torch":
        from langchain_tokopt.local_model import DEFAULT_MODEL, from_sources, load

        return from_sources(DEFAULT_MODEL, lambda place: load(place, DEFAULT_MODEL))
    found = named_model(None).exported(folder)
    if found is None:
        # In a process of its own: torch is not to be in the figures of this one.
        steps = "import sys; from langchain_tokopt.onnx_export import export_model; export_model(data_dir=sys.argv[1])"
        subprocess.run([sys.executable, "-c", steps, str(folder)], check=True)
        found = named_model(None).exported(folder)
    if found is None:
        msg = f"the export in {folder} cannot be used: see the warning above"
        raise RuntimeError(msg)
    return found


def resident_bytes() -> int | None:
    """Resident memory of this process, `None` where the system does not tell it this way (it does on Linux)."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return None
    import resource

    gc.collect()
    return int(status.read_text().split()[1]) * resource.getpagesize()


@contextmanager
def offline() -> Iterator[None]:
    """No connection leaves this process; some peers look for models and packages on the net."""

    def refuse(self: socket.socket, address: Any) -> None:
        msg = f"a benchmark connects to nothing ({address!r})"
        raise OSError(msg)

    with patch.object(socket.socket, "connect", refuse):
        yield


# --- the whole -------------------------------------------------------------------------------------------------------


def compare(
    name: str, sizes: Sequence[int], calls: int, seed: int, *, embedder: Embeddings | None, folder: Path | None
) -> list[Measure]:
    """All figures of one peer; with an `embedder` each question is embedded, too.

    Raises:
        ImportError: The peer is not installed.
    """
    questions = Questions(max(sizes), calls, seed)
    asking = False

    def embed(text: str) -> np.ndarray:
        if embedder is not None and asking:
            embedder.embed_query(text)  # for its time only: where the question lies is known
        return questions.vectors[text]

    rows: list[Measure] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True, dir=folder) as mine, offline():
        first, second = (Path(mine, part) for part in ("first", "second"))
        first.mkdir()
        peer = PEERS[name](embed=embed, folder=first, limit=WARM_UP, system=_SYSTEM)
        peer.fill(questions.stored[:10], questions.answers[:10])
        peer.ask(questions.new()[0])  # what a first look loads once is no entry's weight
        peer.close()
        second.mkdir()
        peer = PEERS[name](embed=embed, folder=second, limit=2 * max(sizes), system=_SYSTEM)
        before, filled = resident_bytes(), 0
        for count in sorted(sizes):
            asking = False
            peer.fill(questions.stored[filled:count], questions.answers[filled:count])
            peer.ask(questions.reworded(count)[0])  # brings its index up to date
            rest()
            asking, filled = True, count
            after = resident_bytes()
            rows += timed(peer, name, questions, count, None if embedder is None else f"{count}+embedder")
            if embedder is None and before is not None and after is not None:
                rows.append(Measure(name, "bytes_per_entry", count, (after - before) / count))
        peer.close()
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure every peer at every size and publish the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="not used: this benchmark makes its own data")
    parser.add_argument("--entries", nargs="+", type=int, default=list(ENTRIES), metavar="N")
    parser.add_argument("--methods", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--calls", type=int, default=300, help="calls measured of each kind")
    parser.add_argument("--imports", type=int, default=5, metavar="N", help="fresh interpreters for each import")
    memory = Path("/dev/shm")
    parser.add_argument("--folder", type=Path, default=memory if memory.is_dir() else None, help="of the databases")
    parser.add_argument("--embedder", choices=["onnx", "torch"], help="once more, with the time of this embedder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    rows: list[Measure] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as exports:
        embedder = chosen_embedder(args.embedder, Path(exports)) if args.embedder else None
        if embedder is not None:
            embedder.embed_query("a first text, which loads the model")
    for name in args.methods:
        try:
            rows += compare(name, args.entries, args.calls, args.seed, embedder=None, folder=args.folder)
        except ImportError as error:
            missing.append(f"{name} is missing ({error}): pip install -e .[bench]")
            continue
        if embedder is not None and PEERS[name].semantic:
            rows += compare(name, args.entries, args.calls, args.seed, embedder=embedder, folder=args.folder)
        if args.imports:
            steps = PEERS[name].first_steps
            rows.append(Measure(name, "import_s", None, import_seconds(steps, runs=args.imports)))
            beside = import_seconds(steps, beside=_BESIDE, runs=args.imports)
            rows.append(Measure(name, "import_s", "beside langchain", beside))
    if "ours" in args.methods:
        learned = Learned(0.01)
        known, unread = decisions(
            lambda q, v, near, rows: learned.decide(q, v, near, lambda: rows), args.calls, args.seed
        )
        rows += [Measure("ours", "decision_p50_ms", None, known), Measure("ours", "decision_p50_ms", "unread", unread)]
    publish("cache_speed", "made here", rows, args.json)
    for told in missing:
        print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
