"""The lines of an exported cache: one JSON object each, the first of which says what the file is."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_tokopt.cache.catalog import answer_text, split_tags
from langchain_tokopt.cache.entries import NewEntry
from langchain_tokopt.errors import ConfigurationError

FORMAT = "langchain-tokopt cache"
VERSION = 1
# Stands for the embedder of a question that has no vector yet: the cache embeds what another embedder has embedded.
UNEMBEDDED = "none yet"

_DIGEST = frozenset("0123456789abcdef")

# The columns of an entry in the order in which `told` takes them; `e` are the entries and `s` their scopes.
COLUMNS = """e.id, e.kind, s.scope, s.owner, e.exact, e.question, e.payload, e.spent, e.tags, e.created_at, e.used_at,
    e.expires_at, e.hits, e.value, e.source, e.embedder, e.vector, COALESCE(e.answer, e.id)"""


def header(now: float) -> dict[str, Any]:
    """The first line of a file."""
    return {"format": FORMAT, "version": VERSION, "exported_at": now}


def told(row: Sequence[Any], *, vectors: bool) -> dict[str, Any]:
    """A line of a file, for an entry's `COLUMNS`."""
    line = {
        "kind": row[1],
        "scope": row[2],
        "owner": row[3],
        "exact": row[4],
        "question": row[5],
        "answer": answer_text(row[6]),  # for people; `payload` is what counts
        "payload": row[6],
        "spent": row[7],
        "tags": list(split_tags(row[8])),
        "created_at": row[9],
        "used_at": row[10],
        "expires_at": row[11],
        "hits": int(row[12]),
        "value_nano_usd": row[13],
        "source": row[14],
        "semantic": row[16] is not None or row[15] is not None,
        "group": int(row[17]),
    }
    if vectors and row[16] is not None:
        line["embedder"] = row[15]
        line["vector"] = base64.b64encode(bytes(row[16])).decode("ascii")
    return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a file that can be stored."""

    line: int
    kind: str
    new: NewEntry
    group: int | None
    created_at: float
    used_at: float
    hits: int


class BadRowError(ValueError):
    """Why a row cannot be imported."""


def check_header(line: str | bytes) -> None:
    """Raises `ConfigurationError` if this is not the first line of an export that can be read."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        shown = _shortened(line)
        raise ConfigurationError("source", shown, "it is no export of a cache: the first line must say so")
    version = found.get("version")
    if version != VERSION:
        remedy = f"it is an export of version {version!r}, and this package reads version {VERSION}: upgrade it"
        raise ConfigurationError("source", version, remedy)


def _shortened(line: str | bytes) -> str:
    shown = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    return shown.strip()[:60]


def read_row(number: int, line: str | bytes) -> Row:
    """An entry that can be stored. Raises `BadRowError`."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        msg = f"it is not JSON ({error.msg} at character {error.pos + 1})"
        raise BadRowError(msg) from None
    except UnicodeDecodeError:
        msg = "it is not JSON in UTF-8"
        raise BadRowError(msg) from None
    except RecursionError:
        msg = "it is nested too deeply"
        raise BadRowError(msg) from None
    if not isinstance(row, dict):
        msg = "it is not a JSON object"
        raise BadRowError(msg)
    kind = _text(row, "kind")
    if kind not in ("agent", "llm"):
        msg = f"kind={kind!r}: use 'agent' or 'llm'"
        raise BadRowError(msg)
    payload = _text(row, "payload")
    if answer_text(payload) is None:
        msg = "the payload is no stored answer"
        raise BadRowError(msg)
    created_at = _number(row, "created_at")
    vector = _vector(row)
    semantic = row.get("semantic")
    if not isinstance(semantic, bool):
        msg = "semantic must be true or false"
        raise BadRowError(msg)
    question = _text(row, "question")
    if semantic and not question:
        msg = "a question that is compared by meaning must have a text"
        raise BadRowError(msg)
    embedder = _text(row, "embedder") if vector is not None else UNEMBEDDED
    new = NewEntry(
        scope=_digest(row, "scope"),
        owner=_digest(row, "owner"),
        exact=_digest(row, "exact"),
        question=question,
        payload=payload,
        vector=vector if semantic else None,
        embedder=embedder if semantic else None,
        spent=None if row.get("spent") is None else _text(row, "spent"),
        tags=_tags(row),
        expires_at=None if row.get("expires_at") is None else _number(row, "expires_at"),
        value_nano_usd=None if row.get("value_nano_usd") is None else _whole(row, "value_nano_usd"),
        source="import",
    )
    return Row(
        line=number,
        kind=kind,
        new=new,
        group=None if row.get("group") is None else _whole(row, "group"),
        created_at=created_at,
        used_at=_number(row, "used_at") if row.get("used_at") is not None else created_at,
        hits=_whole(row, "hits") if row.get("hits") is not None else 0,
    )


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        msg = f"{name} is missing" if value is None else f"{name} must be a text"
        raise BadRowError(msg)
    if "\x00" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        msg = f"{name} holds a character that no database takes"
        raise BadRowError(msg)
    return value


def _digest(row: dict[str, Any], name: str) -> str:
    value = _text(row, name)
    if len(value) != 64 or not _DIGEST.issuperset(value):
        msg = f"{name} must be 64 hexadecimal digits"
        raise BadRowError(msg)
    return value


def _number(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        msg = f"{name} must be a time in seconds"
        raise BadRowError(msg)
    return float(value)


def _whole(row: dict[str, Any], name: str) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        msg = f"{name} must be a whole number of at least 0"
        raise BadRowError(msg)
    return value


def _tags(row: dict[str, Any]) -> tuple[str, ...]:
    tags = row.get("tags", [])
    if not isinstance(tags, list) or any(not isinstance(tag, str) or "|" in tag or "\x00" in tag for tag in tags):
        msg = "tags must be a list of texts without bars"
        raise BadRowError(msg)
    return tuple(tags)


def _vector(row: dict[str, Any]) -> bytes | None:
    if row.get("vector") is None:
        return None
    try:
        found = base64.b64decode(_text(row, "vector"), validate=True)
        numbers = np.frombuffer(found, dtype="<f4")
    except ValueError:
        msg = "the vector is not base64 of float32 numbers"
        raise BadRowError(msg) from None
    if not len(numbers) or not np.isclose(np.linalg.norm(numbers), 1.0, atol=1e-3):
        msg = "the vector must have length 1"
        raise BadRowError(msg)
    return found
