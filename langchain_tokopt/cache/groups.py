"""Groups of entries that hold the same answer: found to be one group, or to have one entry more.

Entries never change their answer, but what is known of it may: that another entry says the same. The number of a group
is the id of one of its entries, dead or alive, so that no number is ever given to two groups. Every process learns of
a change by the revision of the scope, as of anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import text

from langchain_tokopt.cache.scopes import REVISION_OF_THE_SCOPE, batches, with_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_NAMED = text("SELECT scope_id FROM tokopt_cache_entries WHERE id = :id AND kind = :kind")
_USED = text(
    """SELECT e.scope_id FROM tokopt_cache_scopes s JOIN tokopt_cache_entries e ON e.scope_id = s.id
    AND e.answer = :id WHERE s.kind = :kind AND e.alive = 1 LIMIT 1"""
)
_LOCK = text("UPDATE tokopt_cache_scopes SET revision = revision + 1 WHERE id = :scope_id RETURNING id")
# Two searches, each by an index: in one condition with OR the whole scope would be read.
_MEMBERS = text(
    """SELECT id, COALESCE(answer, id) FROM tokopt_cache_entries
    WHERE scope_id = :scope_id AND answer = :answer AND alive = 1
    UNION SELECT id, COALESCE(answer, id) FROM tokopt_cache_entries
    WHERE id = :answer AND scope_id = :scope_id AND alive = 1"""
)
_REGROUP = with_ids(
    f"UPDATE tokopt_cache_entries SET answer = :into, {REVISION_OF_THE_SCOPE} WHERE id IN :ids"  # noqa: S608
)
_ASSIGN = text(
    f"""UPDATE tokopt_cache_entries SET answer = :into, {REVISION_OF_THE_SCOPE}
    WHERE id = :id AND alive = 1 AND COALESCE(answer, id) <> :into"""  # noqa: S608
)
_PAYLOADS = with_ids("SELECT id, payload FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1 AND id IN :ids")


class Groups:
    """The groups of one `kind` of cache, whose tables exist. Stateless apart from the database."""

    def __init__(self, database: Database, *, kind: str) -> None:
        self.database = database
        self.kind = kind

    def merge(self, answer: int, into: int) -> int:
        """How many entries of the group `answer` belong to the group `into` from now on.

        None if either group has no entry any more, if they are of different scopes, or are one already. A group that
        was merged into another meanwhile stands for that one.
        """
        with self.database.write() as connection:
            scope_id = self._locked(connection, answer)
            if scope_id is None:
                return 0
            old, new = _now(connection, scope_id, answer), _now(connection, scope_id, into)
            if old is None or new is None or old == new:
                return 0
            members = [key for key, group in _members(connection, scope_id, old).items() if group == old]
            for some in batches(members):
                connection.execute(_REGROUP, {"ids": some, "into": new})
            return len(members)

    def assign(self, entry_id: int, into: int) -> bool:
        """Whether the entry came into the group `into`: not if it is in it, or one of the two is not there any more."""
        with self.database.write() as connection:
            scope_id = self._locked(connection, entry_id)
            new = None if scope_id is None else _now(connection, scope_id, into)
            if new is None:
                return False
            return bool(connection.execute(_ASSIGN, {"id": entry_id, "into": new}).rowcount)

    def payloads(self, ids: Iterable[int]) -> dict[int, str]:
        """The stored answers of these entries, by id; of those that are there."""
        with self.database.read() as connection:
            rows = [
                row
                for some in batches(sorted(set(ids)))
                for row in connection.execute(_PAYLOADS, {"kind": self.kind, "ids": some})
            ]
        return {int(key): payload for key, payload in rows}

    def _locked(self, connection: Connection, number: int) -> int | None:
        """The scope of the entry or group of this number, under a new revision and locked; `None` if it is gone."""
        named = {"id": number, "kind": self.kind}
        # The entry that a group is named after may be gone for good, and others of it still there.
        scope_id = connection.execute(_NAMED, named).scalar() or connection.execute(_USED, named).scalar()
        if scope_id is None:
            return None
        locked: int | None = connection.execute(_LOCK, {"scope_id": scope_id}).scalar()
        return locked


def _members(connection: Connection, scope_id: int, answer: int) -> dict[int, int]:
    """The living entries of a group, and the one that it is named after; each with the group that it is in by now."""
    rows = connection.execute(_MEMBERS, {"scope_id": scope_id, "answer": answer})
    return {int(key): int(group) for key, group in rows}


def _now(connection: Connection, scope_id: int, answer: int) -> int | None:
    """The number that the group has by now, `None` if it has no entry. Within one scope: nothing else is looked at."""
    groups = set(_members(connection, scope_id, answer).values())
    # Where the number is in use it counts; else the entry that it is from tells where it went.
    return answer if answer in groups else min(groups, default=None)
