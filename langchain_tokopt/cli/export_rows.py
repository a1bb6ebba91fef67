"""Events as lines of JSON or CSV: money as exact decimal text, what is unknown as nothing."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.rows import StoredEvent

KINDS: Final[tuple[type[Event], ...]] = (ModelCall, CacheLookup, Decision, Reservation, LimitAlert, Failure)
_WHO: Final = tuple(each.name for each in fields(Who))
_OF_ALL: Final = ("kind", "time", *(each.name for each in fields(Event) if each.name != "who"))
_OWN: Final = tuple(
    dict.fromkeys(
        each.name for kind in (*KINDS, StoredEvent) for each in fields(kind) if each.name not in (*_OF_ALL, "who")
    )
)

# What a spreadsheet takes for a formula when a cell begins with it, also in full width.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_SKIPPED: Final = ("\t", "\r", "\n")


def as_mapping(event: Event) -> dict[str, Any]:
    """The event as JSON has it, with its kind, and its time in UTC beside `at`."""
    told: dict[str, Any] = {
        "kind": event.kind if isinstance(event, StoredEvent) else type(event).__name__,
        "time": _time(event.at),
    }
    for each in fields(event):
        value = getattr(event, each.name)
        if each.name == "who":
            told["who"] = {name: getattr(value, name) for name in _WHO}
        elif each.name != "kind":
            told[each.name] = _plain(value)
    return told


def as_json_lines(events: Iterable[Event]) -> Iterator[str]:
    """A JSON object a line. ASCII, so that no terminal obeys what is in it."""
    for event in events:
        yield f"{json.dumps(as_mapping(event))}\n"


def as_csv(events: Iterable[Event]) -> Iterator[str]:
    """Comma-separated values with a line of names: the same columns whatever there is, what has parts as JSON.

    A text that a spreadsheet would compute is made a text by an apostrophe before it.
    """
    yield _line((*_OF_ALL, *_WHO, *_OWN))
    for event in events:
        told = as_mapping(event)
        given = {**told, **told["who"]}
        yield _line([_cell(given.get(name), getattr(event, name, None)) for name in (*_OF_ALL, *_WHO, *_OWN)])


FORMATS: Final[Mapping[str, Callable[[Iterable[Event]], Iterator[str]]]] = {"jsonl": as_json_lines, "csv": as_csv}


def _cell(value: Any, original: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # An amount below 0 is no formula.
        return value if isinstance(original, Decimal) else _no_formula(value)
    return json.dumps(value)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(_SKIPPED) or text.lstrip().startswith(_FORMULA) else text


def _line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    # Older Pythons quote only those line breaks that end a line.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return f"{line.getvalue()[:-2]}\n"


def _plain(value: Any) -> Any:
    """What JSON can hold without losing anything; it has no number for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _time(at: float) -> str | None:
    try:
        return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds")
    except (OverflowError, ValueError, OSError):
        return None  # no calendar has it
