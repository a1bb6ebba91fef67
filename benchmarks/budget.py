"""Whether limits hold when many processes and threads spend at once, and what that costs.

    python -m benchmarks.budget [--shapes 1x1 1x50 8x1 8x50] [--postgres URL] [--redis URL] [--only METHOD ...]
        [--calls 20] [--seconds 5] [--levels 4] [--litellm-python PATH] [--json OUT]

A shape such as 8x50 is 8 processes of 50 threads. Each method is asked three things in each shape:

* Does the limit hold? Every thread tries `--calls` calls of `--model-ms` each, about twice as many as fit. What they
  really take differs; a share of `--underestimated` takes more input than was reserved for it. `overspend`: USD that
  the provider billed beyond a limit (of the node where it was most), without `estimation_error`: USD that calls took
  beyond what was reserved for them. `unbooked`: USD by which what was billed differs from what the method has on its
  books. `denied` and `errors`: calls that were refused, and calls that ended in an error of the method.
* What is left of the dead? Calls succeed, fail and are cancelled, until all processes are killed (SIGKILL) in the
  middle of it. `held_at_kill`: USD that they held then. `held_after_kill`: USD still held when their leases have run
  out, by a clock that is put forward.
* How fast is it? No limit is near, and the model takes no time. `ops_per_s`: calls that were reserved and settled.
  `p50_ms`, `p99_ms`: of one reservation; `settle_p50_ms`, `settle_p99_ms`: of one settlement. Where there are more
  threads than cores, both are mostly waiting for one's turn.

* `sqlite`, `postgres`, `redis`: budgets of this project, with limits on the root, on each project and on each user.
* `check-then-spend`: a counter in a SQLite file that is read before a call and added to after it.
* `litellm`: LiteLLM's BudgetManager, used as its documentation says. `--litellm-python`: where it is installed, if not
  here.

The last two reserve nothing and know one limit, that of the root. The exit code says whether this project's limits
held, and whether its books were right.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.budget_load import WORST_NANO, Load, mean_nano
from benchmarks.budget_methods import LEASE_SECONDS, booked, opened, spent_in_file
from benchmarks.budget_processes import Outcome, Program, run, run_and_kill
from benchmarks.rows import Measure, publish
from langchain_tokopt.pricing import from_nano

OURS = ("sqlite", "postgres", "redis")
METHODS = (*OURS, "check-then-spend", "litellm")
PLENTY = 10**15  # nano-USD: no limit is near
KILLED_AFTER_SECONDS = 0.5
RUN = f"benchmark-{uuid.uuid4().hex[:8]}"  # what its budgets are called begins so


@dataclass(frozen=True)
class Place:
    """Where a method keeps what is spent: a folder of its own, a server, and the interpreter that it needs."""

    method: str
    folder: Path
    url: str = ""
    python: str = sys.executable

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.method in OURS

    def program(self, name: str, limits: dict[str, int]) -> Program:
        """What a process has to run. `name` tells the parts of one run apart."""
        if self.ours:
            return Program("ours", {"store": self.url, "name": name, "limits": limits})
        if self.method == "litellm":
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            usd = f"{from_nano(limits['global']):f}"
            return Program("litellm", {"folder": str(folder), "usd": usd}, self.python)
        return Program(self.method, {"path": str(self.folder / f"{name}.db"), "limit": limits["global"]})

    def booked(self, name: str, limits: dict[str, int]) -> int | None:
        """Nano-USD that the method says were spent; `None` when its books cannot be read."""
        if self.ours:
            with closing(opened(self.url, name, limits)) as budget:
                return booked(budget)[0]
        if self.method != "litellm":
            return spent_in_file(str(self.folder / f"{name}.db"))
        try:
            users = json.loads((self.folder / name / "user_cost.json").read_text(encoding="utf-8"))
            return round(sum(user.get("current_cost", 0) for user in users.values()) * 10**9)
        except (OSError, ValueError):
            return None


# --- the three questions ---------------------------------------------------------------------------------------------


def limits_hold(place: Place, shape: tuple[int, int], args: argparse.Namespace) -> Iterator[Measure]:
    """Does the limit hold?"""
    processes, threads = shape
    most = max(2 * WORST_NANO, mean_nano() * processes * threads * args.calls // 2)
    limits = {"global": most, "project=*": most * 2 // 5, "user=*": max(2 * WORST_NANO, most * 3 // 2 // threads)}
    if not place.ours or args.levels < 4:
        limits = {"global": most}
    load = partial(
        Load,
        threads=threads,
        calls=args.calls,
        seconds=600.0,
        model_ms=args.model_ms,
        underestimated=args.underestimated,
        levels=args.levels,
        seed=args.seed,
    )
    name = f"{RUN}-holds-{processes}x{threads}"
    outcome = run(place.program(name, limits), [load(process) for process in range(processes)])
    yield from _judged(place, outcome, limits, place.booked(name, limits), f"{processes}x{threads}")


def _judged(place: Place, outcome: Outcome, limits: dict[str, int], on_books: int | None, at: str) -> Iterator[Measure]:
    spent, over = _by_node(outcome.spent), _by_node(outcome.over)
    beyond = [
        spent[node] - over[node] - limit
        for node in spent
        if (limit := limits.get(node) or limits.get(f"{node.partition('=')[0]}=*"))
    ]
    measure = partial(Measure, place.method)
    yield measure("overspend", at, _usd(max([0, *beyond])))
    yield measure("estimation_error", at, _usd(over["global"]))
    if on_books is not None:
        yield measure("unbooked", at, _usd(abs(spent["global"] - on_books)))
    yield measure("spent_of_limit", at, spent["global"] / limits["global"])
    yield measure("denied", at, sum(done.denied for done in outcome.done))
    yield measure("errors", at, len(outcome.errors))
    for error in sorted(set(outcome.errors))[:3]:
        print(f"{place.method} {at}: {error}", file=sys.stderr)


def _by_node(by_path: Counter[str]) -> Counter[str]:
    """What is true of paths, for the root and for each segment."""
    nodes: Counter[str] = Counter()
    for path, nano in by_path.items():
        for node in ("global", *path.split("/")):
            nodes[node] += nano
    return nodes


def nothing_stays_held(place: Place, shape: tuple[int, int], args: argparse.Namespace) -> Iterator[Measure]:
    """What is left of the dead?"""
    processes, threads = shape
    limits = {"global": PLENTY}
    name = f"{RUN}-killed-{processes}x{threads}"
    load = partial(Load, threads=threads, model_ms=20.0, failing=0.3, levels=args.levels, seed=args.seed)
    program, loads = place.program(name, limits), [load(n) for n in range(processes)]
    with closing(opened(place.url, name, limits)) as budget:
        outcome = run_and_kill(program, loads, begun=lambda: booked(budget)[1] > 0, after_seconds=KILLED_AFTER_SECONDS)
    for error in outcome.errors[:3]:
        print(f"{place.method}: {error}", file=sys.stderr)
    now = time.time()
    later = now + LEASE_SECONDS + 1
    measure = partial(Measure, place.method, at=f"{processes}x{threads}")
    with closing(opened(place.url, name, limits, clock=lambda: now)) as budget:
        yield measure("held_at_kill", value=_usd(booked(budget)[1]))
    with closing(opened(place.url, name, limits, clock=lambda: later)) as budget:
        budget.sweep()
        yield measure("held_after_kill", value=_usd(booked(budget)[1]))
        yield measure("wrong_counters", value=len(budget.reconcile()))


def speed(place: Place, shape: tuple[int, int], args: argparse.Namespace) -> Iterator[Measure]:
    """How fast is it?"""
    processes, threads = shape
    limits = {"global": PLENTY, "project=*": PLENTY, "user=*": PLENTY} if place.ours else {"global": PLENTY}
    name = f"{RUN}-speed-{processes}x{threads}"
    load = partial(Load, threads=threads, seconds=args.seconds, levels=args.levels, seed=args.seed, warm_up=2)
    outcome = run(place.program(name, limits), [load(process) for process in range(processes)])
    reserve = [ms for done in outcome.done for ms in done.reserve_ms]
    settle = [ms for done in outcome.done for ms in done.settle_ms]
    measure = partial(Measure, place.method, at=f"{processes}x{threads}")
    if not settle:
        print(f"{place.method}: {'; '.join(outcome.errors[:3])}", file=sys.stderr)
        return
    yield measure("ops_per_s", value=len(settle) / max(done.seconds for done in outcome.done))
    for before, times in (("", reserve), ("settle_", settle)):
        yield measure(f"{before}p50_ms", value=statistics.median(times))
        yield measure(f"{before}p99_ms", value=sorted(times)[int(0.99 * len(times))])


def _usd(nano: int) -> float:
    return float(from_nano(nano))


# --- where -----------------------------------------------------------------------------------------------------------


@contextmanager
def place_of(method: str, args: argparse.Namespace) -> Iterator[Place | str]:
    """Where the method works, as good as new and gone afterwards; or why it cannot."""
    with tempfile.TemporaryDirectory(prefix="tokopt-budget-") as folder:
        if method == "postgres":
            with _schema(args.postgres) as url:
                yield Place(method, Path(folder), url) if url else "give --postgres URL, and install psycopg"
        elif method == "redis":
            with _names(args.redis) as url:
                yield Place(method, Path(folder), url) if url else "give --redis URL, and install redis"
        elif method == "litellm":
            found = subprocess.run(
                [args.litellm_python, "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('litellm'))"],
                check=False,
            )
            missing = "litellm is not installed; name an interpreter that has it with --litellm-python"
            yield missing if found.returncode else Place(method, Path(folder), python=args.litellm_python)
        else:
            yield Place(method, Path(folder), f"sqlite:///{Path(folder) / 'budget.db'}")


@contextmanager
def _schema(url: str | None) -> Iterator[str | None]:
    """A schema of its own on a PostgreSQL server."""
    if url is None or not importlib.util.find_spec("psycopg"):
        yield None
        return
    import psycopg

    name = f"tokopt_benchmark_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


@contextmanager
def _names(url: str | None) -> Iterator[str | None]:
    """A Redis server where what the benchmark's budgets kept is deleted afterwards."""
    if url is None or not importlib.util.find_spec("redis"):
        yield None
        return
    import redis

    try:
        yield url
    finally:
        with closing(redis.Redis.from_url(url)) as client:
            for key in client.scan_iter(match=f"{{*:budget:{RUN}-*", count=1000):
                client.delete(key)
            for registry in client.scan_iter(match="*:budgets", _type="set"):
                gone = [name for name in client.smembers(registry) if name.startswith(RUN.encode())]
                if gone:
                    client.srem(registry, *gone)


def _shape(text: str) -> tuple[int, int]:
    processes, _, threads = text.partition("x")
    return int(processes), int(threads)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask all methods, publish what came of it, and say whether this project's limits held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=_shape, nargs="+", metavar="PxT", default=[(1, 1), (1, 50), (8, 1), (8, 50)])
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--postgres", metavar="URL", help="a server where a schema may be made")
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--litellm-python", metavar="PATH", default=sys.executable)
    parser.add_argument("--calls", type=int, default=20, help="that a thread tries under limits")
    parser.add_argument("--model-ms", type=float, default=5.0, help="that such a call takes")
    parser.add_argument("--underestimated", type=float, default=0.02, help="share of such calls")
    parser.add_argument("--seconds", type=float, default=5.0, help="for speed")
    parser.add_argument("--levels", type=int, choices=(1, 2, 3, 4), default=4, help="nodes on a path, with the root")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    rows: list[Measure] = []
    for method in args.only:
        for shape in args.shapes:
            with place_of(method, args) as place:
                if isinstance(place, str):
                    print(f"{method} is left out: {place}", file=sys.stderr)
                    break
                questions = (limits_hold, nothing_stays_held, speed) if place.ours else (limits_hold, speed)
                for question in questions:
                    rows += question(place, shape, args)
    publish("budget", f"{args.levels} levels", rows, args.json)
    must_be_zero = ("overspend", "unbooked", "errors", "held_after_kill", "wrong_counters")
    broken = [row for row in rows if row.method in OURS and row.metric in must_be_zero and row.value]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
