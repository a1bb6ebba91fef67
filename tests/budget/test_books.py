"""How a budget opens its ledger when many threads want it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from langchain_tokopt.budget import books
from langchain_tokopt.budget.books import Books
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.rules import Rules
from langchain_tokopt.errors import MissingDependencyError, StoreError

THREADS = 8


class Queue:
    """A lock that says when all threads have come to it."""

    def __init__(self) -> None:
        self.all_here = threading.Event()
        self._lock = threading.Lock()
        self._count = threading.Semaphore(THREADS - 1)

    def __enter__(self) -> None:
        if not self._count.acquire(blocking=False):
            self.all_here.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def opened_at_once(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[], Any]) -> tuple[list[Any], int]:
    """What each of many threads was given that wanted the ledger at once, and how often it was opened."""
    one = Books("b", rules=Rules({"global": Limit(usd="1")}), store="x.db", lease_seconds=60, clock=time.time)
    queue = Queue()
    monkeypatch.setattr(one, "_opening", queue)
    tries: list[int] = []

    def open_it(store: Any, *, budget: str) -> Any:
        tries.append(1)
        assert queue.all_here.wait(20)
        return outcome(), None

    monkeypatch.setattr(books, "open_ledger", open_it)
    found: list[Any] = []

    def want() -> None:
        try:
            found.append(one._open())
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=want) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, len(tries)


def test_one_thread_opens_the_ledger_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found, tries = opened_at_once(monkeypatch, object)
    assert tries == 1
    assert len(found) == THREADS
    assert len(set(found)) == 1


def test_a_failure_is_shared_by_all_that_waited_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise StoreError("no server")

    found, tries = opened_at_once(monkeypatch, fail)
    assert tries == 1
    assert [(type(error), str(error)) for error in found] == [(StoreError, "no server")] * THREADS


def test_what_is_no_failure_of_the_store_is_found_by_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MissingDependencyError("no driver")

    found, tries = opened_at_once(monkeypatch, fail)
    assert tries == THREADS
    assert {type(error) for error in found} == {MissingDependencyError}


def test_after_a_failure_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Books("b", rules=Rules({"global": Limit(usd="1")}), store="x.db", lease_seconds=60, clock=time.time)
    outcomes: list[Any] = [StoreError("no server"), StoreError("no server"), "ledger"]

    def open_it(store: Any, *, budget: str) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, None

    monkeypatch.setattr(books, "open_ledger", open_it)
    for _ in range(2):
        with pytest.raises(StoreError, match="no server"):
            one._open()
    assert [one._open(), one._open()] == ["ledger"] * 2
    assert outcomes == []
