"""Does the cache know what is asked next, and does it leave prediction alone where there is nothing to predict?

    python -m benchmarks.cache_prediction [--requests N] [--seed N] [--usd-per-day USD] [--worth N] [--json OUT]

Users ask in sessions whose structure is known: each question has a few likely successors (`order1`), the last two
decide (`order2`), every user has a routine of their own (`personal`), the structure is another one from the middle on
(`changing`), the order is random with popular questions (`popular`), or the questions of `order1` come in random order
(`shuffled`). Answers expire, and likely next ones are made ahead from a daily budget. Time is simulated.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata

from benchmarks.overhead import AtOnce, percentile
from benchmarks.rows import Measure, publish
from langchain_tokopt.cache.precompute import Known, Precompute
from langchain_tokopt.cache.prefetch import Prefetch
from langchain_tokopt.database import Database
from langchain_tokopt.flow import drive
from langchain_tokopt.later import AbandonedError, Later
from langchain_tokopt.pricing import Pricing, Rates

QUESTIONS, USERS, LENGTH = 300, 60, 6
STEP_SECONDS, TTL_SECONDS = 20.0, 3_600.0
USAGE = UsageMetadata(input_tokens=1_000, output_tokens=200, total_tokens=1_200)
PRICES = Pricing(overrides={"gpt-5-mini": Rates(input=Decimal("0.25"), output=Decimal(2))})
KINDS = ("order1", "order2", "personal", "changing", "popular", "shuffled")


def stream(kind: str, requests: int, seed: int) -> Iterator[tuple[str, str]]:
    """`(user, question)`, the sessions of all users interleaved."""
    if kind == "shuffled":
        asked = list(stream("order1", requests, seed))
        questions = [question for _, question in asked]
        random.Random(seed).shuffle(questions)
        yield from ((user, question) for (user, _), question in zip(asked, questions, strict=True))
        return
    rng = random.Random(f"{kind} {seed}")
    follow = follower(kind, rng)
    sessions: dict[int, list[int]] = {user: [] for user in range(USERS)}
    for number in range(requests):
        if kind == "changing" and number == requests // 2:
            follow = follower(kind, rng)
        user = rng.randrange(USERS)
        recent = sessions[user]
        if len(recent) >= LENGTH:
            recent.clear()
        recent.append(follow(user, recent))
        yield f"user {user}", f"question {recent[-1]}"


def follower(kind: str, rng: random.Random) -> Callable[[int, list[int]], int]:
    """What is asked next, given the user and the session so far."""
    graph = {question: rng.sample(range(QUESTIONS), 3) for question in range(QUESTIONS)}
    pairs: dict[tuple[int, int], int] = {}
    routines = {user: rng.sample(range(QUESTIONS), LENGTH) for user in range(USERS)}
    popular = [1.0 / (rank + 1) for rank in range(QUESTIONS)]

    def follow(user: int, recent: list[int]) -> int:
        if kind == "popular":
            return rng.choices(range(QUESTIONS), popular)[0]
        if kind == "personal":
            return routines[user][len(recent)] if rng.random() < 0.85 else rng.randrange(QUESTIONS)
        if not recent:
            return rng.randrange(QUESTIONS // 10)
        if kind == "order2":
            if len(recent) > 1 and rng.random() < 0.9:
                key = (recent[-2], recent[-1])
                return pairs.setdefault(key, rng.choice(graph[key[1]]))
            return rng.choice(graph[recent[-1]])
        return rng.choices(graph[recent[-1]], (0.7, 0.2, 0.1))[0]

    return follow


@dataclass
class World:
    """A cache whose answers expire, in simulated time."""

    now: float = 1_800_000_000.0
    fresh_until: dict[str, float] = field(default_factory=dict)
    hits: int = 0
    calls: int = 0

    def clock(self) -> float:
        return self.now

    def request(self, question: str) -> ModelRequest[Any]:
        return ModelRequest(model=AtOnce(), messages=[HumanMessage(question)])

    def answer(self, _: ModelRequest[Any]) -> ModelResponse[Any]:
        self.calls += 1
        return ModelResponse(result=[AIMessage("ok", usage_metadata=USAGE)])

    def store(self, request: ModelRequest[Any], _: ModelResponse[Any]) -> bool:
        self.fresh_until[request.messages[-1].text] = self.now + TTL_SECONDS
        return True

    def known(self, question: str) -> Known:
        until = self.fresh_until.get(question, -math.inf)
        return Known(text=question, fresh_until=until if until > self.now else None, usage=USAGE)

    def ask(self, question: str) -> bool:
        """Whether the cache answered."""
        hit = self.fresh_until.get(question, -math.inf) > self.now
        if not hit:
            self.store(self.request(question), self.answer(self.request(question)))
        self.hits += hit
        return hit

    def make(self, later: Later) -> None:
        """The call in the background, here and now: a simulation has no other time."""
        assert later.through is not None
        try:
            outcome = drive(later.through, later.request, self.answer)
        except AbandonedError as error:
            later.otherwise(error)
        else:
            later.then(outcome)  # type: ignore[arg-type]


@dataclass
class Run:
    """One stream through one cache."""

    guessed: Counter[str] = field(default_factory=Counter)
    popular: Counter[str] = field(default_factory=Counter)
    followed: int = 0
    times: list[float] = field(default_factory=list)


def simulate(kind: str, requests: int, seed: int, precompute: Precompute | None) -> tuple[Run, World, Prefetch]:
    """The stream of a kind, with answers made ahead if `precompute` says so."""
    world, run = World(), Run()
    prefetch = Prefetch(database=Database, precompute=precompute, pricing=PRICES, clock=world.clock)
    expected: dict[str, list[str]] = {}
    sessions: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for user, question in stream(kind, requests, seed):
        world.now += STEP_SECONDS
        if sessions[user] % LENGTH:
            run.followed += 1
            guesses = expected.get(user, [])
            run.guessed["top1"] += question in guesses[:1]
            run.guessed["top3"] += question in guesses
            best = [known for known, _ in asked.most_common(3)]
            run.popular["top1"] += question in best[:1]
            run.popular["top3"] += question in best
        sessions[user] += 1
        asked[question] += 1
        hit = world.ask(question)
        started = time.perf_counter()
        likely = prefetch.asked(user, kind, question, hit=hit)
        laters = prefetch.ahead(kind, likely, known=world.known, request_for=world.request, store=world.store)
        waiting = list(laters)
        run.times.append((time.perf_counter() - started) * 1e6)
        expected[user] = [one.id for one in likely]
        for later in waiting:
            world.make(later)
    prefetch.close()
    return run, world, prefetch


def measure(kind: str, args: argparse.Namespace) -> list[Measure]:
    """The figures of one kind of stream."""
    settings = Precompute(usd_per_day=Decimal(args.usd_per_day), worth=args.worth)
    _, without, _ = simulate(kind, args.requests, args.seed, None)
    run, world, prefetch = simulate(kind, args.requests, args.seed, settings)
    told = prefetch.report()
    rows = []
    for method, guessed in (("ours", run.guessed), ("most asked", run.popular)):
        rows += [
            Measure(method, f"next_in_{top}", kind, guessed[top] / max(1, run.followed)) for top in ("top1", "top3")
        ]
    figures = {
        "hit_rate": world.hits / args.requests,
        "precomputed": told.precomputed,
        "precomputed_used": told.precomputed_used,
        "spent_usd": float(told.spent_usd),
        "net_usd": float(told.net_usd),
        "asked_p50_us": statistics.median(run.times),
        "asked_p95_us": percentile(run.times, 0.95),
    }
    rows += [Measure("ours", name, kind, value) for name, value in figures.items()]
    return [*rows, Measure("most asked", "hit_rate", kind, without.hits / args.requests)]


def main(argv: list[str] | None = None) -> int:
    """Simulate every kind and publish the figures. The hit rate beside ours is that without answers made ahead."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_prediction", description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="not used: this benchmark makes its own data")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--usd-per-day", default="1.00")
    parser.add_argument("--worth", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    rows: list[Measure] = []
    for kind in args.kinds:
        rows.extend(measure(kind, args))
    publish("cache_prediction", "made here", rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
