"""Whatever is seen, by however many processes and clocks: one open alert at most, and raises and clears take turns."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.database import Database
from langchain_tokopt.telemetry.alerts import AlertRule, Notice
from langchain_tokopt.telemetry.store import EventStore
from tests.fakes import FakeClock
from tests.telemetry.alerts.watched import SUBJECT, Budget, Ear, look_often, watching

RULES = (
    AlertRule(name="use", metric="budget.use", above=0.8, clear_at=0.6),
    AlertRule(name="long", metric="budget.use", above=0.7, for_seconds=50, repeat_seconds=30),
    AlertRule(name="idle", metric="budget.use", below=0.2, clear_at=0.3, for_seconds=10),
)
SHARES = st.sampled_from([None, 0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.81, 0.9, 1.0, 1.5])
LOOKS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["global", "user=ann"]), SHARES, st.integers(0, 60), st.booleans()),
    max_size=60,
)


@settings(max_examples=60)
@given(looks=LOOKS, skews=st.lists(st.integers(-20, 20), min_size=3, max_size=3))
def test_raises_and_clears_take_turns(looks: list[tuple[int, str, float | None, int, bool]], skews: list[int]) -> None:
    database, ear, now = Database(), Ear(), FakeClock()
    store = EventStore(database)
    budgets = [Budget() for _ in skews]
    clocks = [FakeClock(now.now + skew) for skew in skews]
    processes = [
        watching(store, budget, clock, *RULES, channels=[ear]) for budget, clock in zip(budgets, clocks, strict=True)
    ]
    last_raised: dict[tuple[str, str], float] = {}
    for process, node, share, seconds, take_up in looks:
        budgets[process].set(share, node)
        for clock in clocks:
            clock.advance(seconds)
        heard = len(ear.notices)
        processes[process].check()
        standing = processes[process].active()
        counted = Counter((alert.rule, alert.subject) for alert in standing)
        assert not [place for place, count in counted.items() if count > 1]
        for notice in ear.notices[heard:]:
            _in_turn(last_raised, notice)
        assert set(counted) == set(last_raised)
        if take_up and standing:
            processes[process].acknowledge(standing[0].id, "ann")
    history = processes[0].history(limit=10_000)
    assert len(history) == ear.changes.count("raised")
    for alert in history:
        assert alert.since <= alert.raised_at
    database.close()


@settings(max_examples=40)
@given(looks=LOOKS)
def test_they_take_turns_also_where_some_have_nobody_to_tell(
    looks: list[tuple[int, str, float | None, int, bool]],
) -> None:
    database, clock, ears = Database(), FakeClock(), [Ear(), Ear()]
    store, budget = EventStore(database), Budget()
    processes = [watching(store, budget, clock, *RULES, channels=[ear]) for ear in ears]
    processes.append(watching(store, budget, clock, *RULES))
    standing: dict[tuple[str, str], float] = {}
    heard = [0, 0]
    for process, node, share, seconds, _ in [*looks, (0, "global", 0.5, 1, False)]:
        budget.set(share, node)
        clock.advance(seconds)
        processes[process].check()
        for n, ear in enumerate(ears):
            for notice in ear.notices[heard[n] :]:
                _in_turn(standing, notice)
            heard[n] = len(ear.notices)
    assert standing.keys() == {(alert.rule, alert.subject) for alert in processes[0].active()}
    database.close()


def _in_turn(standing: dict[tuple[str, str], float], notice: Notice) -> None:
    place = (notice.alert.rule, notice.alert.subject)
    if notice.change == "raised":
        assert place not in standing
        standing[place] = notice.alert.raised_at
    else:
        assert place in standing
        if notice.change == "cleared":
            del standing[place]
        else:
            assert notice.alert.state == "open"


def test_of_several_processes_one_tells(url: str | None) -> None:
    if url is None:
        pytest.skip("a database in memory is of one process")
    count, turns = 3, 20
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(count), context.Queue()
    processes = [context.Process(target=look_often, args=(url, start, told, turns)) for _ in range(count)]
    for process in processes:
        process.start()
    heard = [line for _ in processes for line in told.get(timeout=120)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert Counter(heard) == {(change, SUBJECT): turns // 2 for change in ("raised", "cleared")}


def test_of_many_that_look_at_once_one_tells(database: Database, url: str | None, clock: FakeClock) -> None:
    """Each round all look at the same moment, over connections of their own where there can be any."""
    own = [database] if url is None else [database, *(Database(url) for _ in range(3))]
    ear, budget, count = Ear(), Budget(), 8
    budget.set(0.0, "user=ann")
    alerts = [watching(EventStore(own[n % len(own)]), budget, clock, channels=[ear]) for n in range(count)]
    start = threading.Barrier(count)

    def look(check: Callable[[], object]) -> None:
        start.wait()
        check()

    with ThreadPoolExecutor(count) as pool:
        for turn in range(10):
            budget.set(0.1 if turn % 2 else 0.9)
            budget.set(0.1 if turn % 2 else 0.95, "user=ann")
            clock.advance(10)
            list(pool.map(look, [each.check for each in alerts]))
    places = Counter((notice.alert.subject, notice.change) for notice in ear.notices)
    assert places == {
        (f"default: {node} per day", change): 5 for node in ("global", "user=ann") for change in ("raised", "cleared")
    }
    assert len(alerts[0].history()) == 10
    for each in own[1:]:
        each.close()
