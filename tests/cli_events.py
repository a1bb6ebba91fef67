"""Events that the commands are tested with, and what runs these commands."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from langchain_tokopt.cli import app
from langchain_tokopt.database import Database
from langchain_tokopt.events import (
    CacheLookup,
    Decision,
    Event,
    Failure,
    LimitAlert,
    ModelCall,
    Reservation,
    Who,
)
from langchain_tokopt.optimizer import DATABASE_FILE
from langchain_tokopt.telemetry.store import EventStore

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
HOUR = 3600.0
HOSTILE = "a\u202e\x9b[2J\x1b]0;t\x07[red]b[/red]\u200b=1+1|\t"
ANN = Who(project="shop", task="t1", agent="writer", user="ann", thread="th1", run="r1")
BOB = Who(project="shop", agent="search", user="bob", thread="th2")
runner = CliRunner()


def call(ago: float, who: Who, tokens: int, usd: str | None, **fields: Any) -> ModelCall:
    """A call of so many input tokens and 10 output tokens, so many seconds ago."""
    usage: Any = {"input_tokens": tokens, "output_tokens": 10, "total_tokens": tokens + 10}
    cost = None if usd is None else Decimal(usd)
    settings: Any = {"model": "gpt-5", "provider": "openai", "usage_source": "provider", **fields}
    return ModelCall(at=NOW - ago, who=who, usage=usage, cost_usd=cost, **settings)


EVENTS: list[Event] = [
    call(100, ANN, 1_000, "0.3", request="q1"),
    call(200, ANN, 500, "0.1", request="q2", model="claude", provider="anthropic"),
    call(300, ANN, 400, "0.05", request="q3", usage_source="estimate"),
    call(250, ANN, 50, "0.02", request="q2", internal=True),
    call(400, BOB, 200, "0.06", request="q4"),
    call(500, BOB, 100, None, request="q5", model="local", provider=None),
    call(600, Who(), 100, "0.04", request="q6"),
    ModelCall(at=NOW - 700, who=BOB, model="gpt-5", provider="openai", error="Timeout", request="q7"),
    CacheLookup(
        at=NOW - 90,
        who=ANN,
        outcome="exact",
        saved_input_tokens=90,
        saved_output_tokens=10,
        saved_usd=Decimal("0.5"),
        seconds=0.004,
    ),
    CacheLookup(at=NOW - 80, who=BOB, outcome="miss", seconds=0.002),
    Decision(
        at=NOW - 70,
        who=ANN,
        part="tools",
        action="applied",
        tokens_before=90,
        tokens_after=50,
        saved_usd=Decimal("0.000000012"),
    ),
    Decision(at=NOW - 60, who=BOB, part="tools", action="skipped", reason="few tools"),
    Decision(
        at=NOW - 50,
        who=ANN,
        part="history",
        action="applied",
        mode="shadow",
        tokens_before=100,
        tokens_after=40,
        saved_usd=Decimal("0.01"),
    ),
    Failure(at=NOW - 40, who=BOB, part="tools", error="RuntimeError: gone"),
    Reservation(at=NOW - 30, who=ANN, action="reserved", reservation="v1", path="project=shop", usd=Decimal("0.4")),
    LimitAlert(at=NOW - 20, budget="default", path="project=shop", per="day", unit="usd", share=0.8, limit=10, spent=8),
    call(30 * HOUR, ANN, 7_000, "7", request="q0"),
]


def keep(events: Iterable[Event], place: Path | str) -> None:
    """Write the events into a database: a data_dir, or a URL."""
    if isinstance(place, Path):
        place.mkdir(exist_ok=True)
    database = Database(place / DATABASE_FILE if isinstance(place, Path) else place)
    EventStore(database).write(list(events))
    database.close()


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `tokopt`."""
    done = runner.invoke(app, [*arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.stdout, done.stderr


def lines(out: str) -> list[str]:
    """The lines of a table, their cells apart by one space."""
    return [" ".join(line.split()) for line in out.splitlines() if line.strip() and "\u2500" not in line]


def is_harmless(text: str) -> bool:
    """Whether there is nothing in it that a terminal obeys or hides."""
    return all(sign == "\n" or sign.isprintable() for sign in text)
