"""Does telemetry keep every event that processes emit at once, what does it cost them, and how soon can it be read?

    python -m benchmarks.telemetry [--postgres URL] [--json OUT]

Three questions on each kind of database. `load`: several processes emit into one database at an even pace; how many
events are missing afterwards, and how long does `emit` take beside one that writes nothing meanwhile? `kill`: a process
is killed while it emits; how old was the oldest event that is lost? `read`: how long do figures take of many events?
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from benchmarks.rows import Measure, publish
from benchmarks.telemetry_load import emitted, events
from langchain_tokopt.database import Database
from langchain_tokopt.telemetry import Telemetry
from langchain_tokopt.telemetry.readings import Readings, Span
from langchain_tokopt.telemetry.rollups_tables import ROLLUPS
from langchain_tokopt.telemetry.store import TABLE, EventStore

ROOT: Final = Path(__file__).resolve().parents[1]
METHODS: Final = ("sqlite", "postgres")
QUESTIONS: Final = ("load", "kill", "read")
_PAGE: Final = 5000
_EVENTS_OF_A_REQUEST: Final = 6


def load(method: str, url: str, args: argparse.Namespace) -> Iterator[Measure]:
    """Processes that emit together: what is missing, and what `emit` takes."""
    at = f"{args.processes}x{args.rate / args.processes:g}/s"
    alone = Telemetry(flush_seconds=3600)  # writes nothing while it is measured
    idle = emitted(alone, process=99, rate=args.rate / args.processes, seconds=min(args.seconds, 10.0))
    alone.close()
    yield from _percentiles(method, "emit_idle", at, [1e6 * seconds for seconds in idle])
    told = _run(url, args)
    expected = args.processes * int(args.rate / args.processes * args.seconds)
    yield Measure(method, "emitted", at, float(expected))
    yield Measure(method, "events_per_s", at, expected / max(each["seconds"] for each in told))
    yield Measure(method, "lost", at, float(expected - _stored(url)))
    yield Measure(method, "dropped", at, float(sum(each["dropped"] for each in told)))
    yield from _percentiles(method, "emit", at, [us for each in told for us in each["us"]])


def _percentiles(method: str, name: str, at: str, us: Sequence[float]) -> Iterator[Measure]:
    ordered = sorted(us)
    for share, metric in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        yield Measure(method, f"{name}_{metric}_us", at, ordered[math.ceil(share * len(ordered)) - 1])


def kill(method: str, url: str, args: argparse.Namespace) -> Iterator[Measure]:
    """A process that is killed while it emits: how old the oldest event is that is not there afterwards."""
    at = f"flush {args.flush_seconds:g} s"
    process = _start({**_asked(url, args, 0), "seconds": 3600, "tell": True})
    told: dict[int, float] = {}
    try:
        _go(process)
        until = time.monotonic() + args.kill_after
        while time.monotonic() < until:
            number, moment = _line(process).split()
            told[int(number)] = float(moment)
    finally:
        process.kill()
        killed = time.time()
        # What it said before it was killed, it has emitted.
        rest, _ = process.communicate()
        for line in rest.splitlines():
            words = line.split()
            if len(words) == 2:
                told[int(words[0])] = float(words[1])
    stored = _stored(url)
    lost = [moment for number, moment in told.items() if number >= stored]
    yield Measure(method, "emitted_before_kill", at, float(len(told)))
    yield Measure(method, "lost_at_kill", at, float(len(lost)))
    yield Measure(method, "lost_at_kill_s", at, max(0.0, killed - min(lost, default=killed)))


def read(method: str, url: str, args: argparse.Namespace) -> Iterator[Measure]:
    """The figures of many events, in milliseconds: of single ones, and of the same rolled up."""
    database = Database(url)
    store = EventStore(database)
    begin = 1_800_000_000
    # A week of events, however many these are.
    step = 7 * 86400 / args.events
    sources = [events(process) for process in range(8)]
    begun = time.perf_counter()
    for first in range(0, args.events, _PAGE):
        batch = []
        for number in range(first, min(first + _PAGE, args.events)):
            request = number // _EVENTS_OF_A_REQUEST
            event = next(sources[request % len(sources)])
            object.__setattr__(event, "at", begin + step * number)
            batch.append(event)
        store.write(batch)
    yield Measure(method, "write_us_per_event", args.events, 1e6 * (time.perf_counter() - begun) / args.events)
    if database.dialect == "postgresql":
        with database.write() as connection:
            connection.execute(text(f"ANALYZE {TABLE}"))
    end = begin + 7 * 86400
    some = next(itertools.islice(events(3), 0, 1)).request or ""
    yield from _times(method, "", args.events, store, end, some)
    for name, hourly_days in (("hourly", 1000.0), ("daily", 1 / 24)):
        keeping = Telemetry(
            database=database, keep_days=1 / 24, hourly_days=hourly_days, clock=lambda: end + 86400.0 + 7200
        )
        begun = time.perf_counter()
        rolled = keeping.roll_up()
        if rolled:
            yield Measure(method, "roll_up_us_per_event", args.events, 1e6 * (time.perf_counter() - begun) / rolled)
        keeping.close()
        with database.read() as connection:
            sums = connection.execute(text(f"SELECT COUNT(*) FROM {ROLLUPS}")).scalar()
        yield Measure(method, f"{name}_sums_per_event", args.events, float(sums or 0) / args.events)
        yield from _times(method, f"{name}_", args.events, store, end, None)
    database.close()


def _times(method: str, prefix: str, at: int, store: EventStore, end: float, some: str | None) -> Iterator[Measure]:
    readings = Readings(store)
    week, day = Span(end - 7 * 86400, end), Span(end - 86400, end)
    questions: dict[str, Callable[[], object]] = {
        "calls_week": lambda: readings.calls(week),
        "calls_by_model_week": lambda: readings.calls(week, by=("provider", "model")),
        "calls_hourly_week": lambda: readings.calls(week, every=3600),
        "parts_week": lambda: readings.parts(week, by=("part",)),
        "times_week": lambda: readings.times(week),
        "calls_day": lambda: readings.calls(day),
        "times_day": lambda: readings.times(day),
    }
    if some is not None:
        questions |= {
            "request": lambda: readings.request(some),
            "requests_newest": lambda: readings.requests(week, limit=50),
            "requests_dearest_day": lambda: readings.requests(day, limit=50, order="dearest"),
            "requests_dearest_week": lambda: readings.requests(week, limit=50, order="dearest"),
            "reasons_day": lambda: readings.reasons(day),
        }
    for name, question in questions.items():
        question()
        took = []
        for _ in range(3):
            begun = time.perf_counter()
            question()
            took.append(time.perf_counter() - begun)
        yield Measure(method, f"{prefix}{name}_ms", at, 1000 * sorted(took)[1])


# --- processes -------------------------------------------------------------------------------------------------------


def _asked(url: str, args: argparse.Namespace, process: int) -> dict[str, Any]:
    rate = args.rate / args.processes
    return {"url": url, "process": process, "rate": rate, "seconds": args.seconds, "flush_seconds": args.flush_seconds}


def _start(asked: Mapping[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.telemetry_load", json.dumps(asked)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if _line(process) != "ready":
        process.kill()
        process.communicate()
        msg = "a process of the benchmark did not start; see above"
        raise RuntimeError(msg)
    return process


def _line(process: subprocess.Popen[str]) -> str:
    return (process.stdout.readline() if process.stdout is not None else "").rstrip("\n")


def _go(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.write("go\n")
        process.stdin.flush()


def _run(url: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    processes = [_start(_asked(url, args, number)) for number in range(args.processes)]
    told = []
    try:
        for process in processes:
            _go(process)
        for process in processes:
            said, _ = process.communicate()
            told.append(json.loads(said))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return told


def _stored(url: str) -> int:
    database = Database(url)
    with database.read() as connection:
        count = int(connection.execute(text(f"SELECT COUNT(*) FROM {TABLE}")).scalar() or 0)
    database.close()
    return count


@contextmanager
def _place(method: str, args: argparse.Namespace) -> Iterator[str | None]:
    """The URL of an empty database, gone afterwards; `None` if there is no server."""
    if method == "sqlite":
        with tempfile.TemporaryDirectory(prefix="tokopt-telemetry-") as folder:
            yield f"sqlite:///{Path(folder) / 'telemetry.db'}"
        return
    if args.postgres is None or not importlib.util.find_spec("psycopg"):
        yield None
        return
    import psycopg

    name = f"tokopt_benchmark_{uuid.uuid4().hex}"
    with psycopg.connect(args.postgres, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{args.postgres}{'&' if '?' in args.postgres else '?'}options=-csearch_path%3D{name}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def main(argv: Sequence[str] | None = None) -> int:
    """Ask all questions, publish what came of them, and say whether an event was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--postgres", metavar="URL", help="a server where a schema may be made")
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second, of all processes together")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="that the processes emit")
    parser.add_argument("--flush-seconds", type=float, default=1.0)
    parser.add_argument("--kill-after", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--events", type=int, default=1_000_000, help="to be read")
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    asked = {"load": load, "kill": kill, "read": read}
    rows: list[Measure] = []
    for method in args.only:
        for name in args.questions:
            with _place(method, args) as url:
                if url is None:
                    print(f"{method} is left out: give --postgres URL, and install psycopg", file=sys.stderr)
                    break
                rows += asked[name](method, url, args)
    publish("telemetry", f"{args.processes} processes", rows, args.json)
    return 1 if any(row.value for row in rows if row.metric in ("lost", "dropped")) else 0


if __name__ == "__main__":
    sys.exit(main())
