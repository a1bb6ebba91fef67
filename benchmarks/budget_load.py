"""One process of the budget benchmark: threads that ask a budget, call a model that only waits, and pay.

    python -m benchmarks.budget_load '{"method": ..., "load": {...}, "settings": {...}}'

It says "ready" when everything is imported and open, begins at a line on its input, and prints what came of it as JSON.
Beside the method that it measures it imports the standard library only, so that a peer can have an interpreter of its
own.
"""

from __future__ import annotations

import importlib
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

# A call at gpt-4o's prices, so that every method knows them: at most 0.0125 USD.
MODEL = "gpt-4o"
WORST_INPUT, WORST_OUTPUT = 1_000, 1_000
NANO_PER_INPUT, NANO_PER_OUTPUT = 2_500, 10_000
WORST_NANO = WORST_INPUT * NANO_PER_INPUT + WORST_OUTPUT * NANO_PER_OUTPUT
_INPUT, _SHORTEST_OUTPUT = 950, 100
PROJECTS, AGENTS = 3, 5

METHODS = {
    "ours": ("benchmarks.budget_methods", "Ours"),
    "check-then-spend": ("benchmarks.budget_methods", "CheckThenSpend"),
    "litellm": ("benchmarks.budget_litellm", "LiteLLM"),
}


@dataclass(frozen=True)
class Call:
    """One call: whose it is, and what it really takes."""

    path: str
    input_tokens: int
    output_tokens: int

    @property
    def nano(self) -> int:
        """What the provider bills for it, in nano-USD."""
        return self.input_tokens * NANO_PER_INPUT + self.output_tokens * NANO_PER_OUTPUT


class Method(Protocol):
    """A way to keep to a limit."""

    def reserve(self, call: Call) -> Any | None:
        """Something to settle with, or `None` when the call may not be made."""
        ...

    def settle(self, held: Any, call: Call) -> None:
        """The call was made and took what it says."""
        ...

    def release(self, held: Any) -> None:
        """The call failed and was not billed."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


@dataclass(frozen=True)
class Load:
    """What the threads of a process do.

    Attributes:
        process: The number of the process.
        threads: How many threads it has.
        calls: How many calls each of them tries; 0 for as many as it can.
        seconds: When it stops in any case.
        model_ms: How long a call takes.
        underestimated: The share of calls that take more input than was reserved for them.
        failing: The share of calls that fail, and as many more are cancelled when their input is paid.
        levels: Nodes on the path of a call, the root included.
        warm_up: Calls that each thread makes before the start, which count nowhere.
        seed: Of what each call takes.
    """

    process: int
    threads: int
    calls: int = 0
    seconds: float = 60.0
    model_ms: float = 0.0
    underestimated: float = 0.0
    failing: float = 0.0
    levels: int = 4
    warm_up: int = 0
    seed: int = 0


@dataclass
class Done:
    """What came of it. Money in nano-USD, times in milliseconds."""

    seconds: float = 0.0
    denied: int = 0
    spent: Counter[str] = field(default_factory=Counter)
    over: Counter[str] = field(default_factory=Counter)
    reserve_ms: list[float] = field(default_factory=list)
    settle_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def mean_nano() -> int:
    """What a call takes on average, in nano-USD, but for those that were underestimated."""
    return _INPUT * NANO_PER_INPUT + (_SHORTEST_OUTPUT + WORST_OUTPUT) // 2 * NANO_PER_OUTPUT


def calls_of(load: Load, thread: int) -> Iterator[tuple[Call, float]]:
    """The calls of a thread, and a number from 0 to 1 for each that says what becomes of it."""
    rng = random.Random(f"{load.seed} {load.process} {thread}")
    count = 0
    while not load.calls or count < load.calls:
        names = (f"project=p{count % PROJECTS}", f"agent=a{count % AGENTS}", f"user=u{thread}")
        tokens, output = _INPUT, rng.randint(_SHORTEST_OUTPUT, WORST_OUTPUT)
        if rng.random() < load.underestimated:
            tokens, output = rng.randint(WORST_INPUT + 1, WORST_INPUT * 11 // 10), WORST_OUTPUT
        yield Call("/".join(names[: load.levels - 1]), tokens, output), rng.random()
        count += 1


def run(method: Method, load: Load) -> Done:
    """All threads, from their common start to their end."""
    together = threading.Barrier(load.threads + 1)
    each = [Done() for _ in range(load.threads)]
    workers = [
        threading.Thread(target=_work, args=(method, load, number, together, done)) for number, done in enumerate(each)
    ]
    for worker in workers:
        worker.start()
    together.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    total = Done(seconds=time.perf_counter() - began)
    for done in each:
        total.denied += done.denied
        total.spent += done.spent
        total.over += done.over
        total.reserve_ms += done.reserve_ms
        total.settle_ms += done.settle_ms
        total.errors += done.errors
    return total


def _work(method: Method, load: Load, number: int, together: threading.Barrier, done: Done) -> None:
    for call, _ in itertools.islice(calls_of(load, number), load.warm_up):
        if (held := method.reserve(call)) is not None:
            method.settle(held, call)
    together.wait()
    until = time.perf_counter() + load.seconds
    for call, fate in calls_of(load, number):
        if time.perf_counter() > until:
            return
        try:
            _one(method, load, call, fate, done)
        except Exception as error:
            done.errors.append(f"{type(error).__name__}: {error}"[:500])


def _one(method: Method, load: Load, call: Call, fate: float, done: Done) -> None:
    began = time.perf_counter()
    held = method.reserve(call)
    done.reserve_ms.append((time.perf_counter() - began) * 1000)
    if held is None:
        done.denied += 1
        return
    if load.model_ms:
        time.sleep(load.model_ms / 1000)
    if fate < load.failing:
        method.release(held)
        return
    taken = Call(call.path, call.input_tokens, 0) if fate < 2 * load.failing else call
    # It is billed from here on, whatever the method makes of it.
    done.spent[call.path] += taken.nano
    done.over[call.path] += max(0, taken.nano - WORST_NANO)
    began = time.perf_counter()
    method.settle(held, taken)
    done.settle_ms.append((time.perf_counter() - began) * 1000)


def main(told: str) -> None:
    """Open the method, wait for the start, work, and print what came of it."""
    asked = json.loads(told)
    module, name = METHODS[asked["method"]]
    method: Method = getattr(importlib.import_module(module), name)(**asked["settings"])
    print("ready", flush=True)
    sys.stdin.readline()
    done = run(method, Load(**asked["load"]))
    method.close()
    done.reserve_ms, done.settle_ms = _rounded(done.reserve_ms), _rounded(done.settle_ms)
    print(json.dumps(vars(done)), flush=True)


def _rounded(times: list[float]) -> list[float]:
    return [round(ms, 4) for ms in times]


if __name__ == "__main__":
    main(sys.argv[1])
