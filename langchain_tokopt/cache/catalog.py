"""The stored answers for those who look after them: found, shown, counted, removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation
from sqlalchemy import text

from langchain_tokopt.cache.answers import UnreadableError, read
from langchain_tokopt.cache.entries import Entries
from langchain_tokopt.cache.fingerprint import digest
from langchain_tokopt.cache.key import owner_of
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.cache.scopes import batches
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

Order: TypeAlias = Literal["used", "created", "hits", "saved", "size", "expires"]

_NANO = Decimal(10) ** -9
_COLUMNS = """e.id, e.kind, s.scope, s.owner, e.question, e.payload, e.spent, e.tags, e.created_at, e.used_at,
    e.expires_at, e.hits, e.bytes, e.value, e.source, e.embedder, COALESCE(e.answer, e.id)"""
_FROM = """FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s ON s.id = e.scope_id
    WHERE e.alive = 1 AND (e.expires_at IS NULL OR e.expires_at > :now)"""
_ORDERS: dict[str, str] = {
    "used": "e.used_at DESC",
    "created": "e.created_at DESC",
    "hits": "e.hits DESC",
    "saved": "e.hits * COALESCE(e.value, 0) DESC",
    "size": "e.bytes DESC",
    "expires": "CASE WHEN e.expires_at IS NULL THEN 1 ELSE 0 END, e.expires_at",
}
_TOTALS = """SELECT e.kind, COUNT(*), COALESCE(SUM(e.bytes), 0), COALESCE(SUM(e.hits), 0),
    COALESCE(SUM(e.hits * e.value), 0), SUM(CASE WHEN e.hits > 0 THEN 1 ELSE 0 END), COUNT(DISTINCT e.scope_id),
    MIN(e.created_at), MAX(e.used_at) FROM tokopt_cache_entries e
    WHERE e.alive = 1 AND (e.expires_at IS NULL OR e.expires_at > :now) GROUP BY e.kind ORDER BY e.kind"""
_WAITING = """SELECT kind, SUM(CASE WHEN alive = 1 THEN 1 ELSE 0 END), SUM(CASE WHEN alive = 0 THEN 1 ELSE 0 END)
    FROM tokopt_cache_entries WHERE alive = 0 OR expires_at <= :now GROUP BY kind"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An entry as people look at it.

    Attributes:
        id: Names the entry in `Catalog.get` and `delete`.
        kind: "agent", or "llm" for those of LangChain's cache hook.
        scope: Digest of all that must be equal for a hit.
        owner: Digest of the tenant or user.
        question: Its text; the first 2,000 characters where only the exact question counts.
        answer: What was answered; `None` if it cannot be read.
        model: Whose answer it is, `None` if that was not noted.
        provider: The model's provider.
        source: Who gave it: "model", "import", "audit" or "prefetch".
        tags: What it can be invalidated by.
        created_at: When it was stored, Unix time in seconds, like the other times.
        used_at: When it was last served or stored.
        expires_at: When it expires, `None` for never.
        hits: How often it was served.
        bytes: Its size.
        value_usd: What one hit saves, `None` if that is not known.
        saved_usd: What all hits have saved, `None` if that is not known.
        embedder: Which model the question's vector is from, `None` where there is none.
        group: The id of the first of the entries with this answer.
    """

    id: int
    kind: str
    scope: str
    owner: str
    question: str
    answer: str | None
    model: str | None
    provider: str | None
    source: str
    tags: tuple[str, ...]
    created_at: float
    used_at: float
    expires_at: float | None
    hits: int
    bytes: int
    value_usd: Decimal | None
    saved_usd: Decimal | None
    embedder: str | None
    group: int

    def as_json(self) -> dict[str, Any]:
        """The same for `json.dumps`; amounts as strings, so that none is rounded."""
        told = asdict(self)
        told["tags"] = list(self.tags)
        for name in ("value_usd", "saved_usd"):
            told[name] = None if told[name] is None else str(told[name])
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """One kind of entries as a whole. `used`: how many were served at all; `waiting`: expired or dead rows."""

    kind: str
    entries: int
    scopes: int
    bytes: int
    hits: int
    used: int
    saved_usd: Decimal
    oldest: float | None
    last_used: float | None
    expired: int
    tombstones: int

    def as_json(self) -> dict[str, Any]:
        """The same for `json.dumps`; the amount as a string."""
        return {**asdict(self), "saved_usd": str(self.saved_usd)}


class Catalog:
    """What a database holds of answers, of every kind of cache. It needs no embedder.

    Removals are seen by every process at its next look into the cache.

    Args:
        database: Holds the answers.
        clock: Unix time in seconds.

    Raises:
        StoreError: The database cannot be used.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        Entries(database, kind="agent")  # makes the tables
        self._database = database
        self._clock = clock

    def find(
        self,
        *,
        query: str | None = None,
        tag: str | None = None,
        scope: str | None = None,
        tenant: str | None = None,
        user: str | None = None,
        kind: str | None = None,
        order: Order = "used",
        limit: int | None = 50,
    ) -> list[StoredAnswer]:
        """The answers that all of this is true of, in an order: most used, newest, biggest ... first.

        Args:
            query: Part of the question, in whatever case.
            tag: One of its tags.
            scope: The scope's digest, or how it begins.
            tenant: Whose it is.
            user: Whose it is, where no tenant is named.
            kind: "agent" or "llm".
            order: "used", "created", "hits", "saved", "size" (each the greatest first) or "expires" (the next first).
            limit: The most that are given; `None` for all.
        """
        if order not in get_args(Order):
            raise ConfigurationError("order", order, f"use one of {', '.join(get_args(Order))}")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ConfigurationError("limit", limit, "use a whole number of at least 1, or None for all")
        where, values = self._where(query=query, tag=tag, scope=scope, tenant=tenant, user=user, kind=kind)
        statement = f"SELECT {_COLUMNS} {_FROM}{where} ORDER BY {_ORDERS[order]}, e.id"
        if limit is not None:
            statement += " LIMIT :limit"
            values["limit"] = limit
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(text(statement), values)]

    def get(self, entry_id: int) -> StoredAnswer | None:
        """One answer, `None` if it is not there (any more)."""
        statement = text(f"SELECT {_COLUMNS} {_FROM} AND e.id = :id")
        with self._database.read() as connection:
            row = connection.execute(statement, {"id": entry_id, "now": self._clock()}).first()
        return None if row is None else _stored(row)

    def delete(self, ids: Collection[int]) -> int:
        """How many of these answers were removed."""
        removal = Removal(self._database, kind="agent")
        return sum(removal.remove(some, self._clock()) for some in batches(sorted(set(ids))))

    def invalidate(
        self,
        *,
        tag: str | None = None,
        scope: str | None = None,
        tenant: str | None = None,
        user: str | None = None,
        older_than: float | timedelta | None = None,
        query: str | None = None,
        kind: str | None = None,
    ) -> int:
        """How many answers were removed: those that all of this is true of.

        Args:
            tag: One of its tags, such as "tool:weather".
            scope: The scope's digest, or how it begins.
            tenant: Whose it is.
            user: Whose it is, where no tenant is named.
            older_than: Stored longer ago than this, in seconds or as a `timedelta`.
            query: Part of the question.
            kind: "agent" or "llm".

        Raises:
            ConfigurationError: Nothing is given: that would be everything, see `SemanticCache.clear`.
        """
        seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
        if seconds is not None and not seconds >= 0:
            raise ConfigurationError("older_than", older_than, "use a number of seconds, or a timedelta")
        where, values = self._where(query=query, tag=tag, scope=scope, tenant=tenant, user=user, kind=kind)
        if seconds is not None:
            where += " AND e.created_at < :before"
            values["before"] = values["now"] - seconds
        if not where:
            remedy = "say which answers: tag, scope, tenant, user, older_than, query or kind; clear() removes all"
            raise ConfigurationError("tag", None, remedy)
        with self._database.read() as connection:
            ids = connection.execute(text(f"SELECT e.id {_FROM}{where}"), values).scalars().all()
        return self.delete(ids)

    def totals(self) -> list[Totals]:
        """How many answers there are of each kind, how big they are and what they have saved."""
        now = {"now": self._clock()}
        with self._database.read() as connection:
            rows = connection.execute(text(_TOTALS), now).all()
            waiting = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(text(_WAITING), now)}
        found = {row[0]: row for row in rows}
        return [_totals(kind, found.get(kind), *waiting.get(kind, (0, 0))) for kind in sorted({*found, *waiting})]

    def _where(
        self,
        *,
        query: str | None,
        tag: str | None,
        scope: str | None,
        tenant: str | None,
        user: str | None,
        kind: str | None,
    ) -> tuple[str, dict[str, Any]]:
        """The conditions that are given, each after an AND, and their values with the time."""
        conditions = []
        values: dict[str, Any] = {"now": self._clock()}
        if query is not None:
            conditions.append("LOWER(e.question) LIKE :query ESCAPE '!'")
            values["query"] = f"%{_literally(query.lower())}%"
        if tag is not None:
            conditions.append("e.tags LIKE :tag ESCAPE '!'")
            values["tag"] = f"%|{_literally(tag)}|%"
        if scope is not None:
            conditions.append("s.scope LIKE :scope ESCAPE '!'")
            values["scope"] = f"{_literally(scope)}%"
        if tenant is not None or user is not None:
            conditions.append("s.owner = :owner")
            values["owner"] = digest(owner_of(tenant=tenant, user=user))
        if kind is not None:
            conditions.append("e.kind = :kind")
            values["kind"] = kind
        return "".join(f" AND {condition}" for condition in conditions), values


def _literally(pattern: str) -> str:
    """A text that LIKE takes as it is, with ESCAPE '!'. A NUL, which PostgreSQL does not take, is in no question."""
    plain = pattern.replace("\x00", " ").encode("utf-8", "replace").decode()
    return plain.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _stored(row: Sequence[Any]) -> StoredAnswer:
    (key, kind, scope, owner, question, payload, spent, tags, created, used, expires, hits, size, value, *rest) = row
    source, embedder, group = rest
    model, provider = _model(spent)
    value_usd = None if value is None else int(value) * _NANO
    return StoredAnswer(
        id=int(key),
        kind=kind,
        scope=scope,
        owner=owner,
        question=question,
        answer=answer_text(payload),
        model=model,
        provider=provider,
        source=source,
        tags=split_tags(tags),
        created_at=created,
        used_at=used,
        expires_at=expires,
        hits=int(hits),
        bytes=int(size),
        value_usd=value_usd,
        saved_usd=None if value_usd is None else value_usd * int(hits),
        embedder=embedder,
        group=int(group),
    )


def _totals(kind: str, row: Sequence[Any] | None, expired: int, tombstones: int) -> Totals:
    count, size, hits, nano, used, scopes, oldest, last = (0, 0, 0, 0, 0, 0, None, None) if row is None else row[1:]
    return Totals(
        kind=kind,
        entries=int(count),
        scopes=int(scopes),
        bytes=int(size),
        hits=int(hits),
        used=int(used),
        saved_usd=int(nano) * _NANO,
        oldest=oldest,
        last_used=last,
        expired=expired,
        tombstones=tombstones,
    )


def split_tags(tags: str) -> tuple[str, ...]:
    """The tags of an entry as it stores them, one after the other between bars."""
    return tuple(tag for tag in tags[1:-1].split("||") if tag)


def answer_text(payload: str) -> str | None:
    """What a stored answer says; a structured one as JSON; `None` if it cannot be read."""
    try:
        found = read(payload, [Generation, ChatGeneration, AIMessage, ToolMessage])
    except UnreadableError:
        return None
    said = [_said(part) for part in found if not isinstance(part, ToolMessage)] if isinstance(found, list) else []
    return "\n".join(said) if said else None


def _said(part: Any) -> str:
    message = part.message if isinstance(part, ChatGeneration) else part
    calls = getattr(message, "tool_calls", None)
    if calls:
        return json.dumps(calls[0]["args"], ensure_ascii=False)
    return str(message.text)


def _model(spent: str | None) -> tuple[str | None, str | None]:
    """Name and provider of the model, as the cache notes them beside what an answer had used."""
    try:
        told = json.loads(spent) if spent else {}
    except ValueError:
        return None, None
    return (told.get("name"), told.get("provider")) if isinstance(told, dict) else (None, None)
