"""The processes of the budget benchmark: started together, waited for or killed, and what they came to."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.budget_load import Done, Load

ROOT = Path(__file__).resolve().parents[1]
_LONGEST_START_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """What the processes run.

    Attributes:
        method: One of `budget_load.METHODS`.
        settings: What its class is made with.
        python: The interpreter.
    """

    method: str
    settings: Mapping[str, Any]
    python: str = sys.executable


@dataclass
class Outcome:
    """What all processes together came to. Money in nano-USD, by path."""

    done: list[Done] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)

    @property
    def spent(self) -> Counter[str]:
        """What the provider billed."""
        return sum((done.spent for done in self.done), Counter[str]())

    @property
    def over(self) -> Counter[str]:
        """What was billed beyond the worst case of the calls."""
        return sum((done.over for done in self.done), Counter[str]())

    @property
    def errors(self) -> list[str]:
        """What went wrong in the method."""
        return [*self.crashed, *(error for done in self.done for error in done.errors)]


def run(program: Program, loads: Sequence[Load]) -> Outcome:
    """A process for each load, all of them begin together and go on to their end."""
    outcome = Outcome()
    with _started(program, loads, outcome) as processes:
        for process, noise in processes:
            told, _ = process.communicate()
            if process.returncode:
                outcome.crashed.append(_last_line(noise))
                continue
            done = Done(**json.loads(told))
            done.spent, done.over = Counter(done.spent), Counter(done.over)
            outcome.done.append(done)
    return outcome


def run_and_kill(
    program: Program, loads: Sequence[Load], *, begun: Callable[[], bool], after_seconds: float
) -> Outcome:
    """The same, but all of them are killed, so long after `begun` says that they are at work."""
    outcome = Outcome()
    with _started(program, loads, outcome) as processes:
        until = time.monotonic() + _LONGEST_START_SECONDS
        while not begun() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(after_seconds)
        for process, noise in processes:
            if process.poll() is not None:
                outcome.crashed.append(_last_line(noise))
            process.kill()
        for process, _ in processes:
            process.communicate()
    return outcome


@contextmanager
def _started(
    program: Program, loads: Sequence[Load], outcome: Outcome
) -> Iterator[list[tuple[subprocess.Popen[str], IO[str]]]]:
    """Processes that were ready, and have been told to begin. Whatever happens, none is left behind."""
    noises: list[IO[str]] = []
    processes: list[subprocess.Popen[str]] = []
    try:
        for load in loads:
            told = json.dumps({"method": program.method, "load": asdict(load), "settings": dict(program.settings)})
            # Into a file: a pipe that nobody reads would stop a process that has much to say.
            noises.append(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115 - closed below
            processes.append(
                subprocess.Popen(
                    [program.python, "-m", "benchmarks.budget_load", told],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=noises[-1],
                    text=True,
                )
            )
        ready = []
        for process, noise in zip(processes, noises, strict=True):
            if process.stdout is not None and process.stdout.readline() == "ready\n":
                ready.append((process, noise))
            else:
                process.wait()
                outcome.crashed.append(_last_line(noise))
        for process, _ in ready:
            if process.stdin is not None:
                process.stdin.write("go\n")
                process.stdin.flush()
        yield ready
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        for noise in noises:
            noise.close()


def _last_line(noise: IO[str]) -> str:
    noise.seek(0)
    lines = noise.read().strip().splitlines()
    return lines[-1] if lines else "it ended without a word"
