"""An event as a row of the database, and a row as an event. What is unknown stays `None` (NULL), never 0."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.pricing import from_nano, to_nano, usage_parts

_TEXT, _INTEGER, _NUMBER = "TEXT", "BIGINT", "DOUBLE PRECISION"

# What a column takes, in characters. Longer names end in a hash, so that two of them stay two; longer texts are cut.
LONGEST_NAME: Final = 256
LONGEST_TEXT: Final = 4_000
LONGEST_DETAIL: Final = 32_000
_HASH: Final = 16

# No call has more tokens or costs more nano-USD. What is beyond is no figure, and would be the end of every sum.
_MOST: Final = 10**15
_LATEST: Final = 253_402_300_799.0  # the end of the year 9999, the last that dates can show

# Money is in whole nano-USD. `saved_tokens` is there for whoever asks in SQL: it follows from other columns.
COLUMNS: Final[dict[str, str]] = {
    "id": _TEXT,
    "at": _NUMBER,
    "kind": _TEXT,
    "mode": _TEXT,
    "request": _TEXT,
    "tenant": _TEXT,
    "project": _TEXT,
    "task": _TEXT,
    "agent": _TEXT,
    "user_id": _TEXT,
    "thread": _TEXT,
    "run": _TEXT,
    "node": _TEXT,
    "part": _TEXT,
    "action": _TEXT,
    "model": _TEXT,
    "provider": _TEXT,
    "input_tokens": _INTEGER,
    "output_tokens": _INTEGER,
    "cache_read_tokens": _INTEGER,
    "cache_write_tokens": _INTEGER,
    "reasoning_tokens": _INTEGER,
    "usage_source": _TEXT,
    "cost_nano": _INTEGER,
    "repeated_prefix_tokens": _INTEGER,
    "internal": _INTEGER,
    "saved_tokens": _INTEGER,
    "saved_input_tokens": _INTEGER,
    "saved_output_tokens": _INTEGER,
    "saved_nano": _INTEGER,
    "tokens_before": _INTEGER,
    "tokens_after": _INTEGER,
    "similarity": _NUMBER,
    "threshold": _NUMBER,
    "reservation": _TEXT,
    "path": _TEXT,
    "amount_tokens": _INTEGER,
    "amount_nano": _INTEGER,
    "latency_seconds": _NUMBER,
    "seconds": _NUMBER,
    "stage": _TEXT,
    "reason": _TEXT,
    "error": _TEXT,
    "detail": _TEXT,
}

_KINDS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind for kind in (ModelCall, CacheLookup, Decision, Reservation, LimitAlert, Failure)
}


_ALERT_DETAIL: Final = ("budget", "per", "unit", "limit", "spent", "hard", "resets_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """An event of a kind that this module does not know, as it was stored.

    Attributes:
        kind: The name of its class.
        fields: What the class has beside `Event`'s own fields, as far as JSON can hold it.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def to_row(event: Event) -> dict[str, Any]:
    """The event as a value for each of `COLUMNS`."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    kind = next((known for known in _KINDS.values() if isinstance(event, known)), Event)
    name = (type(event) if kind is Event else kind).__name__
    detail: dict[str, Any] = {}
    row.update(id=event.id, at=event.at, kind=name, mode=event.mode, request=event.request)
    for part in fields(Who):
        row["user_id" if part.name == "user" else part.name] = getattr(event.who, part.name)
    if isinstance(event, ModelCall):
        _put_call(row, detail, event)
    elif isinstance(event, CacheLookup):
        saved = event.saved_input_tokens, event.saved_output_tokens
        row.update(part="cache", action=event.outcome, similarity=event.similarity, threshold=event.threshold)
        row.update(saved_input_tokens=saved[0], saved_output_tokens=saved[1], saved_nano=_nano(event.saved_usd))
        row.update(saved_tokens=None if saved == (None, None) else sum(n or 0 for n in saved))
        row.update(reason=event.reason, seconds=event.seconds)
    elif isinstance(event, Decision):
        before, after = event.tokens_before, event.tokens_after
        row.update(part=event.part, action=event.action, tokens_before=before, tokens_after=after)
        row.update(saved_tokens=None if before is None or after is None else before - after)
        row.update(saved_nano=_nano(event.saved_usd), reason=event.reason, seconds=event.seconds)
        detail.update(event.detail)
    elif isinstance(event, Reservation):
        row.update(part="budget", action=event.action, reservation=event.reservation, path=event.path)
        row.update(amount_tokens=event.tokens, amount_nano=_nano(event.usd))
        row.update(reason=event.reason, seconds=event.seconds)
        if event.budget != "default":
            detail["budget"] = name_of(event.budget)
    elif isinstance(event, LimitAlert):
        row.update(part="budget", action="alert", path=event.path, threshold=event.share)
        said = {name: getattr(event, name) for name in _ALERT_DETAIL}
        detail.update({name: name_of(value) if isinstance(value, str) else value for name, value in said.items()})
    elif isinstance(event, Failure):
        row.update(part=event.part, error=event.error, stage=event.stage)
    if type(event) is not kind:
        more = {each.name for each in fields(event)} - {each.name for each in fields(kind)}
        detail["event"] = {"kind": type(event).__name__, "fields": {name: getattr(event, name) for name in more}}
    if detail:
        row["detail"] = _detail(detail)
    return {name: None if value is None else _FITTED[name](value) for name, value in row.items()}


def _put_call(row: dict[str, Any], detail: dict[str, Any], call: ModelCall) -> None:
    row.update(model=call.model, provider=call.provider, usage_source=call.usage_source, internal=int(call.internal))
    row.update(cost_nano=_nano(call.cost_usd), repeated_prefix_tokens=call.repeated_prefix_tokens)
    row.update(latency_seconds=call.latency_seconds, error=call.error)
    usage = call.usage
    if usage is None:
        return
    read_details = usage.get("input_token_details") or {}
    written_details = usage.get("output_token_details") or {}
    parts = usage_parts(usage)
    row.update(input_tokens=usage.get("input_tokens"), output_tokens=usage.get("output_tokens"))
    if any("cache_read" in name for name in read_details):
        row["cache_read_tokens"] = parts.read
    if any("cache_creation" in name or name.startswith("ephemeral") for name in read_details):
        row["cache_write_tokens"] = parts.write + parts.write_1h
    row["reasoning_tokens"] = written_details.get("reasoning")
    detail["usage"] = dict(usage)


def to_event(row: Mapping[str, Any]) -> Event:
    """The event that a row was made of. Of a subclass: its nearest kind, or a `StoredEvent`; money to the nano-USD."""
    who = Who(**{each.name: row["user_id" if each.name == "user" else each.name] for each in fields(Who)})
    base: dict[str, Any] = {name: row[name] for name in ("id", "at", "request", "mode")}
    base["who"] = who
    detail = json.loads(row["detail"]) if row["detail"] else {}
    own = detail.pop("event", {"kind": row["kind"], "fields": {}})
    kind = _KINDS.get(row["kind"])
    if kind is ModelCall:
        return ModelCall(
            **base,
            model=row["model"],
            provider=row["provider"],
            usage=detail.get("usage"),
            usage_source=row["usage_source"],
            cost_usd=_usd(row["cost_nano"]),
            repeated_prefix_tokens=row["repeated_prefix_tokens"],
            latency_seconds=row["latency_seconds"],
            error=row["error"],
            internal=bool(row["internal"]),
        )
    if kind is CacheLookup:
        rest = _some(row, "similarity", "threshold", "saved_input_tokens", "saved_output_tokens", "reason", "seconds")
        return CacheLookup(**base, **rest, outcome=row["action"], saved_usd=_usd(row["saved_nano"]))
    if kind is Decision:
        rest = _some(row, "part", "action", "tokens_before", "tokens_after", "reason", "seconds")
        return Decision(**base, **rest, saved_usd=_usd(row["saved_nano"]), detail=detail)
    if kind is Reservation:
        rest = _some(row, "action", "reservation", "path", "reason", "seconds")
        budget = detail.get("budget", "default")
        return Reservation(**base, **rest, budget=budget, tokens=row["amount_tokens"], usd=_usd(row["amount_nano"]))
    if kind is LimitAlert:
        known = {name: detail[name] for name in _ALERT_DETAIL}
        return LimitAlert(**base, path=row["path"], share=row["threshold"], **known)
    if kind is Failure:
        return Failure(**base, part=row["part"], error=row["error"], stage=row["stage"])
    return StoredEvent(**base, kind=own["kind"], fields=own["fields"])


def _some(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else to_nano(usd)


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else from_nano(nano)


def clean(value: object) -> str:
    """Text that every database takes: PostgreSQL refuses NUL, and no database stores half a surrogate pair."""
    text = str(value)
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def name_of(value: object) -> str:
    """A name, an id or a path as it is stored: one of more than 256 characters ends in a hash of the whole."""
    text = clean(value)
    if len(text) <= LONGEST_NAME:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    return f"{text[: LONGEST_NAME - _HASH - 1]}~{mark}"


def moment(at: float) -> float:
    """A time that dates can show, from 1970 to 9999.

    Raises:
        ValueError: It is no time at all.
    """
    if math.isnan(at):
        msg = f"at={at!r} is no time"
        raise ValueError(msg)
    return min(max(float(at), 0.0), _LATEST)


def _text_of(value: object) -> str:
    text = clean(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _detail(detail: Mapping[str, Any]) -> str:
    """As JSON; of what is too long, the smallest entries that fit together, and the names of the others as "cut"."""
    whole = _json(detail)
    if len(whole) <= LONGEST_DETAIL:
        return whole
    sizes = {name: len(_json({name: value})) for name, value in detail.items()}
    room = LONGEST_DETAIL // 2  # the other half: for what is between them, and the names that are cut
    kept: dict[Any, Any] = {}
    for name in sorted(sizes, key=sizes.__getitem__):
        room -= sizes[name] + 2
        if room < 0:
            break
        kept[name] = detail[name]
    cut = [str(name)[:LONGEST_NAME] for name in detail if name not in kept][:20]
    return _json({**kept, "cut": cut})


def _json(value: Mapping[Any, Any]) -> str:
    return json.dumps(value, default=str, skipkeys=True, ensure_ascii=False)


def _whole(value: Any) -> int | None:
    found = int(value)
    return found if abs(found) <= _MOST else None


def _number(value: Any) -> float | None:
    found = float(value)
    return found if math.isfinite(found) else None


# NumPy's numbers are not known to the drivers: SQLite would store them as bytes.
_BY_TYPE: Final[dict[str, Callable[[Any], Any]]] = {_TEXT: name_of, _INTEGER: _whole, _NUMBER: _number}
_FITTED: Final[dict[str, Callable[[Any], Any]]] = {
    **{name: _BY_TYPE[kind] for name, kind in COLUMNS.items()},
    "at": moment,
    "reason": _text_of,
    "error": _text_of,
    "detail": clean,
}
