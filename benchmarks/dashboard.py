"""How soon is the dashboard there: reading what it shows, making the page, and opening it in a browser?

    python -m benchmarks.dashboard [--events N ...] [--json OUT]

Events of a week, six for each request, in a SQLite file. `data` reads what the page shows (three spans of time and the
newest 2,000 requests in full), `page` makes the HTML of it, `open` is from the navigation to the page's own mark that
all is drawn, in headless Chromium. Milliseconds; the median of a few runs, between the least and the most.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.rows import Measure, publish
from benchmarks.telemetry_load import events
from langchain_tokopt.database import Database
from langchain_tokopt.telemetry.dashboard import dashboard_data, page
from langchain_tokopt.telemetry.store import EventStore
from tests.browser import Browser

WEEK = 7 * 86_400
NOW = 1_800_000_000.0
_PAGE = 5000
_OF_A_REQUEST = 6

T = TypeVar("T")


def filled(file: Path, count: int) -> EventStore:
    """A store with so many events, spread evenly over the week before `NOW`."""
    store = EventStore(Database(f"sqlite:///{file}"))
    made = enumerate(itertools.islice(events(0, at=NOW), count))
    requests = max(1, -(-count // _OF_A_REQUEST))
    aged = (
        replace(event, at=NOW - WEEK * (1 - (n // _OF_A_REQUEST) / requests) + n % _OF_A_REQUEST * 0.1)
        for n, event in made
    )
    while batch := list(itertools.islice(aged, _PAGE)):
        store.write(batch)
    return store


def times(count: int, runs: int, folder: Path, browser: Browser) -> Iterator[Measure]:
    """The figures for so many events."""
    store = filled(folder / f"{count}.db", count)
    took, data = _timed(lambda: dashboard_data(store, now=NOW, hours=168), runs)
    yield _measure("data_ms", count, took)
    took, html = _timed(lambda: page(data), runs)
    yield _measure("page_ms", count, took)
    file = folder / f"{count}.html"
    file.write_text(html, encoding="utf-8")
    yield Measure("sqlite", "page_mb", count, len(html.encode()) / 1e6)
    ready = []
    for _ in range(runs):
        with browser.page() as shown:
            shown.open(file.as_uri())
            ready.append(float(shown.run("performance.getEntriesByName('ready')[0].startTime")))
            if problems := shown.problems():
                raise RuntimeError(f"the page has problems: {problems}")
    yield _measure("open_ms", count, ready)


def _timed(made: Callable[[], T], runs: int) -> tuple[list[float], T]:
    took: list[float] = []
    while True:
        started = time.perf_counter()
        value = made()
        took.append(1000 * (time.perf_counter() - started))
        if len(took) == runs:
            return took, value


def _measure(metric: str, count: int, took: Sequence[float]) -> Measure:
    return Measure("sqlite", metric, count, statistics.median(took), min(took), max(took))


def main(argv: list[str] | None = None) -> int:
    """Measure every size and publish the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[0, 1_000, 10_000, 100_000], metavar="N")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            browser = Browser(folder / "chromium")
        except pytest.skip.Exception as missing:  # what tests make of it, too
            print(missing.msg)
            return 0
        try:
            rows = [row for count in args.events for row in times(count, args.runs, folder, browser)]
        finally:
            browser.close()
    publish("dashboard", "made here", rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
