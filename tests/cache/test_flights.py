"""Equal questions at the same time: one goes ahead, the others wait, nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from langchain_tokopt.cache.flights import Flights


def test_others_wait_until_the_first_is_done() -> None:
    flights = Flights(30)
    inside, go, log = threading.Event(), threading.Event(), []

    def first() -> None:
        with flights.turn("a"):
            inside.set()
            assert go.wait(10)
            log.append("first")

    def other() -> None:
        with flights.turn("a"):
            log.append("other")

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(10)
    threads += [threading.Thread(target=other) for _ in range(4)]
    for thread in threads[1:]:
        thread.start()
    with flights.turn("b"):
        log.append("b")
    go.set()
    for thread in threads:
        thread.join(10)
    assert log == ["b", "first", "other", "other", "other", "other"]
    assert flights._flights == {}


def test_waiting_is_bounded() -> None:
    flights = Flights(0.01)
    inside, go = threading.Event(), threading.Event()

    def first() -> None:
        with flights.turn("a"):
            inside.set()
            assert go.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with flights.turn("a"):
        assert thread.is_alive()
    go.set()
    thread.join(10)


@pytest.mark.parametrize(("timeout", "key"), [(30, None), (0, "a")])
def test_without_a_key_or_a_time_nobody_waits(timeout: float, key: Any) -> None:
    flights = Flights(timeout)
    with flights.turn(key), flights.turn(key):
        assert flights._flights == {}


def test_nobody_waits_for_himself() -> None:
    flights = Flights(30)
    with flights.turn("a"), flights.turn("a"):
        assert list(flights._flights) == ["a"]
    assert flights._flights == {}


def test_an_error_of_the_first_lets_the_others_go() -> None:
    flights = Flights(30)
    with pytest.raises(ValueError, match="x"), flights.turn("a"):
        raise ValueError("x")
    assert flights._flights == {}


async def test_many_async_callers_wait_without_a_thread() -> None:
    flights = Flights(30)
    go, log = asyncio.Event(), []

    async def first() -> None:
        async with flights.aturn("a"):
            await go.wait()
            log.append("first")

    async def other() -> None:
        async with flights.aturn("a"):
            log.append("other")

    tasks = [asyncio.create_task(first())]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(other()) for _ in range(100)]
    await asyncio.sleep(0)
    before = threading.active_count()
    go.set()
    await asyncio.gather(*tasks)
    assert log == ["first"] + ["other"] * 100
    assert threading.active_count() == before


async def test_a_cancelled_first_lets_the_others_go_and_a_cancelled_other_harms_nobody() -> None:
    flights = Flights(30)
    entered = asyncio.Event()

    async def first() -> None:
        async with flights.aturn("a"):
            entered.set()
            await asyncio.sleep(60)

    async def other() -> str:
        async with flights.aturn("a"):
            return "done"

    task = asyncio.create_task(first())
    await entered.wait()
    impatient, patient = asyncio.create_task(other()), asyncio.create_task(other())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    assert await asyncio.wait_for(patient, 10) == "done"
    assert impatient.cancelled()
    assert flights._flights == {}
