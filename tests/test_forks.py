"""Who is told about a fork, when, and in which order."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

CODE = """
import os, threading
from langchain_tokopt.forks import follow_forks

class Aware:
    def __init__(self, name, level):
        self.name = name
        follow_forks(self, level=level)
    def before_fork(self):
        told.append(f"{self.name} before")
    def after_fork_in_parent(self):
        told.append(f"{self.name} in parent")
    def after_fork_in_child(self):
        told.append(f"{self.name} in child")

class Fails(Aware):
    def before_fork(self):
        raise ValueError("not me")

told = []
kept = [Aware("high", 1), Aware("low", 0), Fails("fails", 2)]
gone = Aware("gone", 0)
del gone
child = os.fork()
if child == 0:
    kept.append(Aware("new", 0))
    print(told, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(told)
"""


def test_all_who_are_held_are_told_those_on_top_first_and_errors_stop_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "['high before', 'low before', 'low in child', 'high in child', 'fails in child']",
        "['high before', 'low before', 'low in parent', 'high in parent', 'fails in parent']",
    ]
    assert "could not follow a fork" in done.stderr


def test_what_is_gone_is_not_kept_alive() -> None:
    from langchain_tokopt import forks

    class Aware:
        def before_fork(self) -> None: ...
        def after_fork_in_parent(self) -> None: ...
        def after_fork_in_child(self) -> None: ...

    aware = Aware()
    forks.follow_forks(aware)
    assert aware in forks._aware
    before = len(forks._aware)
    del aware
    gc.collect()
    assert len(forks._aware) < before
