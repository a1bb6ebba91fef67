"""Single requests in full: what came in, what each part did and why, what went out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.events import Event
from langchain_tokopt.pricing import from_nano
from langchain_tokopt.telemetry.readings_requests import PAGE, RequestLine, line_of, rows_of
from langchain_tokopt.telemetry.rows import name_of, to_event

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FIGURES: Final = (
    "tokens_before",
    "tokens_after",
    "saved_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "repeated_prefix_tokens",
    "saved_input_tokens",
    "saved_output_tokens",
    "amount_tokens",
    "similarity",
    "threshold",
    "seconds",
    "latency_seconds",
)
_MONEY: Final[Mapping[str, str]] = {"cost_nano": "cost_usd", "saved_nano": "saved_usd", "amount_nano": "amount_usd"}
_SAID_ELSEWHERE: Final = ("usage", "event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened in a request.

    Attributes:
        at: Unix time in seconds.
        after: Seconds since the first event of the request.
        kind: The class of the event.
        part: Who did it: "model", "cache", "tools", "budget" ...
        action: What was done: "applied", "skipped", "miss", "reserved", "failed" ...
        mode: "optimize", or "shadow" for what was only computed.
        reason: Why, in the part's words; for what failed, the error.
        figures: What is known of tokens, money (USD, exact decimal text), seconds, similarity; nothing that is not.
        detail: What else the part says.
        event: The event itself.
    """

    at: float
    after: float
    kind: str
    part: str | None
    action: str | None
    mode: str
    reason: str | None
    figures: Mapping[str, int | float | str]
    detail: Mapping[str, Any]
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One request in full: its `line`, and its `steps` in order.

    Attributes:
        came_in: Input tokens before any part changed them, by our estimate; `None` if no part counted.
        went_out: Input tokens that the last call was made with: as the provider reported if `went_out_measured`, else
            by our estimate; `None` if there was no call, or nobody counted.
        went_out_measured: Whether the provider reported `went_out`.
    """

    line: RequestLine
    steps: tuple[Step, ...]
    came_in: int | None = None
    went_out: int | None = None
    went_out_measured: bool = False


def stories_of(connection: Connection, keys: Sequence[str]) -> tuple[Story, ...]:
    """All of each of the requests, in the order of the ids; ids of none are passed by."""
    keys = [name_of(key) for key in keys]
    found: list[Story] = []
    for first in range(0, len(keys), PAGE):
        page = keys[first : first + PAGE]
        rows = rows_of(connection, page)
        found += [_story(key, rows[key]) for key in page if key in rows]
    return tuple(found)


def _story(key: str, rows: Sequence[Mapping[str, Any]]) -> Story:
    calls = [row for row in rows if row["kind"] == "ModelCall" and not row["internal"]]
    changes = [row for row in rows if row["kind"] == "Decision" and row["mode"] != "shadow"]
    counted = next((row["tokens_before"] for row in changes if row["tokens_before"] is not None), None)
    sent = calls[-1]["input_tokens"] if calls else None
    return Story(
        line=line_of(key, rows),
        steps=tuple(_step(row, rows[0]["at"]) for row in rows),
        came_in=counted,
        went_out=sent,
        went_out_measured=sent is not None and calls[-1]["usage_source"] == "provider",
    )


def _step(row: Mapping[str, Any], first: float) -> Step:
    figures: dict[str, int | float | str] = {name: row[name] for name in _FIGURES if row[name] is not None}
    figures |= {shown: str(from_nano(row[name])) for name, shown in _MONEY.items() if row[name] is not None}
    detail = json.loads(row["detail"]) if row["detail"] else {}
    call = row["kind"] == "ModelCall"
    action = ("failed" if row["error"] is not None else "answered") if call else row["action"]
    return Step(
        at=row["at"],
        after=row["at"] - first,
        kind=row["kind"],
        part="model" if call else row["part"],
        action="failed" if row["kind"] == "Failure" else action,
        mode=row["mode"],
        reason=row["reason"] if row["error"] is None else row["error"],
        figures=figures,
        detail={name: value for name, value in detail.items() if name not in _SAID_ELSEWHERE},
        event=to_event(dict(row)),
    )
