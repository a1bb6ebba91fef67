"""Leases are renewed by a daemon thread for as long as calls are under way."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import pytest

from langchain_tokopt.budget.leases import Leases
from langchain_tokopt.errors import StoreError


def eventually(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it did not happen within ten seconds")


def test_what_is_under_way_is_renewed_until_it_ends() -> None:
    renewed: list[Sequence[str]] = []
    leases = Leases(renewed.append, every_seconds=0.01)
    leases.add("a")
    leases.add("b")
    eventually(lambda: ["a", "b"] in renewed)
    leases.discard("a")
    eventually(lambda: renewed[-1] == ["b"])
    leases.discard("b")
    eventually(lambda: leases._thread is None)
    leases.add("c")
    eventually(lambda: renewed[-1] == ["c"])
    leases.close()


def test_close_stops_the_thread() -> None:
    leases = Leases(lambda _: None, every_seconds=1000.0)
    leases.add("a")
    thread = leases._thread
    assert thread is not None
    assert thread.daemon
    leases.close()
    assert not thread.is_alive()


def test_a_store_that_fails_is_tried_again_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[Sequence[str]] = []

    def fail(reservations: Sequence[str]) -> None:
        tried.append(reservations)
        raise StoreError("the server is away")

    with caplog.at_level(logging.WARNING):
        leases = Leases(fail, every_seconds=0.01)
        leases.add("a")
        eventually(lambda: len(tried) >= 3)
        leases.close()
    assert len(caplog.records) == 1


def test_leases_that_nobody_holds_are_collected_with_their_thread() -> None:
    leases = Leases(lambda _: None, every_seconds=1000.0)
    leases.add("a")
    thread, gone = leases._thread, weakref.ref(leases)
    del leases
    gc.collect()
    assert gone() is None
    assert thread is not None
    eventually(lambda: not thread.is_alive())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_renews_nothing_of_its_parent() -> None:
    leases = Leases(lambda _: None, every_seconds=1000.0)
    leases.add("a")
    child = os.fork()
    if child == 0:
        alone = threading.active_count() == 1 and not leases.renew_all()
        os._exit(0 if alone else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert leases.renew_all()
    leases.close()
