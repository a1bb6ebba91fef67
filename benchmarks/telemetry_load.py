"""One process of the telemetry benchmark: an agent that does nothing but emit, at an even pace.

    python -m benchmarks.telemetry_load '{"url": ..., "process": 0, "rate": 250, "seconds": 60, "flush_seconds": 1}'

It says "ready" when all is open, begins at a line on its input, and prints what came of it as JSON. With `"tell": true`
it says the number of each event that it has emitted, for somebody who kills it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Decision, Event, ModelCall, Reservation, Who
from langchain_tokopt.telemetry import Telemetry

_AGENTS: Final = ("planner", "writer", "critic", "coder")
_MODELS: Final = (("gpt-4o", "openai"), ("gpt-4o-mini", "openai"), ("claude-sonnet-4-5", "anthropic"))


def events(process: int, *, seed: int = 0, at: float | None = None) -> Iterator[Event]:
    """Events of requests as the package emits them, without end: lookup, two decisions, reservation, call, settlement.

    The requests of process p have the ids "p-0", "p-1" ...; `at` is the time of all, by default that of their making.
    """
    chance = random.Random(seed * 1000 + process)
    number = 0
    while True:
        who = Who(
            project="shop", agent=chance.choice(_AGENTS), user=f"user-{chance.randrange(200)}", thread=f"t{number // 5}"
        )
        common: dict[str, Any] = {"who": who, "request": f"{process}-{number}"}

        def now(common: dict[str, Any] = common) -> dict[str, Any]:
            return {**common, "at": time.time() if at is None else at}

        tokens = chance.randrange(500, 20_000)
        model, provider = chance.choice(_MODELS)
        usage: Any = {
            "input_tokens": tokens,
            "output_tokens": 200,
            "total_tokens": tokens + 200,
            "input_token_details": {"cache_read": tokens // 2},
        }
        usd = Decimal(tokens) / 1_000_000
        reserved = f"r{process}-{number}"
        number += 1
        yield CacheLookup(**now(), outcome="miss", similarity=0.5, threshold=0.9, seconds=0.002)
        yield Decision(
            **now(), part="tools", action="applied", tokens_before=tokens + 900, tokens_after=tokens, seconds=0.001,
            saved_usd=Decimal("0.0009"), reason="8 of 40 tools",
        )  # fmt: skip
        yield Decision(**now(), part="history", action="skipped", reason="nothing to gain", seconds=0.0005)
        yield Reservation(**now(), action="reserved", reservation=reserved, path="project=shop", tokens=tokens, usd=usd)
        yield ModelCall(
            **now(), model=model, provider=provider, usage=usage, usage_source="provider", cost_usd=usd,
            latency_seconds=chance.uniform(0.3, 4.0),
        )  # fmt: skip
        yield Reservation(**now(), action="settled", reservation=reserved, path="project=shop", tokens=tokens, usd=usd)


def emitted(telemetry: Telemetry, *, process: int, rate: float, seconds: float, tell: bool = False) -> list[float]:
    """How long each `emit` took, in seconds, at so many events a second."""
    took: list[float] = []
    source = events(process)
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        event = next(source)
        ahead = begun + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        before = time.perf_counter()
        telemetry.emit(event)
        took.append(time.perf_counter() - before)
        if tell:
            print(number, time.time(), flush=True)
    return took


def main(told: str) -> None:
    """Open the database, wait for the start, emit, close, and print what came of it."""
    asked = json.loads(told)
    database = Database(asked["url"])
    telemetry = Telemetry(database=database, flush_seconds=asked["flush_seconds"])
    telemetry.open()
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    took = emitted(
        telemetry,
        process=asked["process"],
        rate=asked["rate"],
        seconds=asked["seconds"],
        tell=asked.get("tell", False),
    )
    telemetry.close()
    seconds = time.perf_counter() - begun
    status = telemetry.status()
    database.close()
    said = {
        "us": [round(1e6 * seconds, 2) for seconds in took],
        "seconds": seconds,
        "written": status["written"],
        "dropped": status["dropped"],
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
