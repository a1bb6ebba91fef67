"""Chores: done one after the other, beside the calls, and never in anybody's way."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref

import pytest

from langchain_tokopt.cache.chores import Chores


def test_chores_are_done_in_their_order_by_a_thread_that_ends() -> None:
    chores, done = Chores(), list[str]()
    may_begin = threading.Event()
    chores.ask("wait", may_begin.wait)
    for name in "abc":
        chores.ask(name, lambda name=name: done.append(name))
    may_begin.set()
    assert chores.settle()
    assert done == ["a", "b", "c"]
    chores.ask("d", lambda: done.append("d"))
    assert chores.settle()
    assert done[-1] == "d"
    assert chores._thread is None


def test_what_is_asked_for_twice_before_it_has_begun_is_done_once() -> None:
    chores, done = Chores(), list[int]()
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        may_end.wait()
        done.append(0)

    chores.ask("slow", slow)
    begun.wait()
    for n in (1, 2):
        chores.ask("quick", lambda n=n: done.append(n))
    chores.ask("slow", lambda: done.append(3))  # the first one has begun: this is another
    assert not chores.settle(timeout_seconds=0)
    may_end.set()
    assert chores.settle()
    assert done == [0, 1, 3]


def test_a_chore_that_fails_is_logged_once_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    chores, done = Chores(), list[str]()

    def fail() -> None:
        raise ValueError("no room")

    for _ in range(2):
        chores.ask("fail", fail)
        chores.ask("next", lambda: done.append("next"))
        assert chores.settle()
    assert done == ["next", "next"]
    assert chores.failures == 2
    assert [record.message for record in caplog.records] == [
        "the cache could not do a chore (fail): ValueError: no room"
    ]


def test_closing_lets_the_current_one_finish_and_forgets_the_rest() -> None:
    chores, done = Chores(), list[str]()
    begun = threading.Event()

    def until_unwanted() -> None:
        begun.set()
        while chores.wanted:
            pass
        done.append("stopped")

    chores.ask("long", until_unwanted)
    chores.ask("never", lambda: done.append("never"))
    begun.wait()
    chores.close()
    chores.ask("late", lambda: done.append("late"))
    assert chores.settle()
    assert done == ["stopped"]


def test_nobody_is_kept_alive_by_an_idle_thread() -> None:
    chores = Chores()
    chores.ask("a", lambda: None)
    chores.settle()
    gone = weakref.ref(chores)
    del chores
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_waits_for_the_chore_and_the_child_starts_with_none() -> None:
    chores, done = Chores(), list[str]()
    begun = threading.Event()

    def until_resting() -> None:
        begun.set()
        while chores.wanted:
            pass
        done.append("parent's")

    chores.ask("long", until_resting)
    begun.wait()
    child = os.fork()
    if child == 0:
        chores.ask("child", lambda: done.append("child's"))
        os._exit(0 if chores.settle(10) and done == ["parent's", "child's"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    chores.ask("after", lambda: done.append("after"))
    assert chores.settle()
    assert done == ["parent's", "after"]
