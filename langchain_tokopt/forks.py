"""What has to be put aside before the process forks, and set up again in the child."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("langchain_tokopt")


class ForkAware(Protocol):
    """An object with threads, locks or connections, none of which survive a fork by themselves."""

    def before_fork(self) -> None:
        """Called in the parent, in the thread that forks."""

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """Called in the child, where no other thread runs and every lock may be held for ever."""


_aware: weakref.WeakKeyDictionary[ForkAware, int] = weakref.WeakKeyDictionary()
_hooked: list[bool] = []
_one_at_a_time = threading.RLock()


def follow_forks(aware: ForkAware, *, level: int = 0) -> None:
    """Tell `aware` about every fork (`os.fork`, `multiprocessing` by fork) for as long as somebody holds it.

    What rests on others has a higher `level` than they: it comes to rest before them, and is woken after them.
    """
    with _one_at_a_time:
        _aware[aware] = level
        if not _hooked and hasattr(os, "register_at_fork"):
            _hooked.append(True)
            os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _before() -> None:
    _one_at_a_time.acquire()  # until the fork is done, so that the child does not find it held by another thread
    _each(lambda one: one.before_fork, highest_first=True)


def _after_in_parent() -> None:
    _each(lambda one: one.after_fork_in_parent)
    _one_at_a_time.release()


def _after_in_child() -> None:
    _each(lambda one: one.after_fork_in_child)
    _one_at_a_time.release()


def _each(method: Callable[[ForkAware], Callable[[], None]], *, highest_first: bool = False) -> None:
    for one, _ in sorted(_aware.items(), key=lambda item: item[1], reverse=highest_first):
        try:
            method(one)()
        except Exception:
            log.exception("%r could not follow a fork", one)
