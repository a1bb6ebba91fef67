"""What follows what, how often predictions came true and what was spent on them: kept in the database.

Observations are written in batches. Each is added to what the database holds at that time, so that processes which
share it learn from each other and nobody's counts are lost.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from langchain_tokopt.cache.prediction import EVERYBODY, Followers, Place, Seen, Successions
from langchain_tokopt.cache.track_record import Band, Came, Record, TrackRecord
from langchain_tokopt.rates import from_nano, to_nano

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_LOADED_PLACES: Final = 2_000  # of one user, or of all users of one scope, the latest
_KEPT_PLACES: Final = 200_000
_HALF_LIVES_KEPT: Final = 8.0  # what is left by then is less than half a per cent
_TIDY_EVERY: Final = 64  # writes


def _create_tables(connection: Connection) -> None:
    for statement in (
        """CREATE TABLE tokopt_cache_followers (
            scope VARCHAR(64) NOT NULL, owner VARCHAR(255) NOT NULL, after VARCHAR(255) NOT NULL,
            at DOUBLE PRECISION NOT NULL, total DOUBLE PRECISION NOT NULL, counts TEXT NOT NULL,
            PRIMARY KEY (scope, owner, after))""",
        "CREATE INDEX tokopt_cache_followers_at ON tokopt_cache_followers (at)",
        """CREATE TABLE tokopt_cache_predictions (
            scope VARCHAR(64) NOT NULL, band INTEGER NOT NULL, made DOUBLE PRECISION NOT NULL,
            used DOUBLE PRECISION NOT NULL, PRIMARY KEY (scope, band))""",
        """CREATE TABLE tokopt_cache_ahead (
            day VARCHAR(10) PRIMARY KEY, held BIGINT NOT NULL, spent BIGINT NOT NULL)""",
    ):
        connection.execute(text(statement))


_STEPS: Final[Sequence[Callable[[Connection], None]]] = (_create_tables,)

_OPEN_PLACE = text(
    """INSERT INTO tokopt_cache_followers (scope, owner, after, at, total, counts)
    VALUES (:scope, :owner, :after, :at, 0, '{}') ON CONFLICT (scope, owner, after) DO NOTHING"""
)
_KEEP_PLACE = text(
    """UPDATE tokopt_cache_followers SET at = :at, total = :total, counts = :counts
    WHERE scope = :scope AND owner = :owner AND after = :after"""
)
_OPEN_BAND = text(
    """INSERT INTO tokopt_cache_predictions (scope, band, made, used) VALUES (:scope, :band, 0, 0)
    ON CONFLICT (scope, band) DO NOTHING"""
)
_KEEP_BAND = text(
    "UPDATE tokopt_cache_predictions SET made = :made, used = :used WHERE scope = :scope AND band = :band"
)
_LOAD = text(
    """SELECT after, at, total, counts FROM tokopt_cache_followers WHERE scope = :scope AND owner = :owner
    ORDER BY at DESC LIMIT :limit"""
)
_OPEN_DAY = text("INSERT INTO tokopt_cache_ahead (day, held, spent) VALUES (:day, 0, 0) ON CONFLICT (day) DO NOTHING")
_HOLD = text("UPDATE tokopt_cache_ahead SET held = held + :nano WHERE day = :day AND held + spent + :nano <= :limit")


class SuccessionStore:
    """Keeps a `Successions` and a `TrackRecord` in the database, and the money spent on answers made ahead."""

    def __init__(self, database: Database) -> None:
        database.migrate("cache_prediction", _STEPS)
        self._database = database
        self._lock = " FOR UPDATE" if database.dialect == "postgresql" else ""
        self._writes = 0

    # --- what follows what -------------------------------------------------------------------------------------------

    def load(self, user: str, scope: str) -> tuple[dict[Place, Followers], dict[Band, Record]]:
        """What is known of a user in a scope; for `EVERYBODY` also how predictions did there."""
        records: dict[Band, Record] = {}
        with self._database.read() as connection:
            rows = connection.execute(_LOAD, {"scope": scope, "owner": user, "limit": _LOADED_PLACES}).all()
            if user == EVERYBODY:
                query = text("SELECT band, made, used FROM tokopt_cache_predictions WHERE scope = :scope")
                for band, made, used in connection.execute(query, {"scope": scope}):
                    records[Band(scope, int(band))] = Record(float(made), float(used))
        # The oldest first, so that it is the first to be forgotten.
        places = {Place(scope, user, _ids(row[0])): _followers(*row[1:]) for row in reversed(rows)}
        return places, records

    def write(self, successions: Successions, record: TrackRecord) -> None:
        """Add what is new to the database, and take over what others have added.

        Raises:
            StoreError: The database cannot be used; what is new is kept for the next time.
        """
        seen, came = successions.take_unwritten(), record.take_unwritten()
        if not seen and not came:
            return
        try:
            with self._database.write() as connection:
                places = self._add_seen(connection, seen, successions)
                bands = self._add_came(connection, came)
                self._tidy(connection, seen, successions.half_life_seconds)
        except BaseException:
            successions.put_back(seen)
            record.put_back(came)
            raise
        successions.take_over(places)
        record.take_over(bands)

    def _add_seen(
        self, connection: Connection, seen: Iterable[Seen], successions: Successions
    ) -> dict[Place, Followers]:
        news: defaultdict[Place, list[Seen]] = defaultdict(list)
        for one in seen:
            news[one.place].append(one)
        kept: dict[Place, Followers] = {}
        query = text(
            "SELECT at, total, counts FROM tokopt_cache_followers "  # noqa: S608
            f"WHERE scope = :scope AND owner = :owner AND after = :after{self._lock}"
        )
        for place in sorted(news):  # in one order for all writers, so that they do not wait in a circle
            where = {"scope": place.scope, "owner": place.user, "after": json.dumps(place.after)}
            connection.execute(_OPEN_PLACE, {**where, "at": news[place][0].at})
            known = _followers(*connection.execute(query, where).one())
            for one in news[place]:
                known.aged(one.at, successions.half_life_seconds)
                known.add(one.then, successions.max_followers)
            values = {"at": known.at, "total": known.total, "counts": json.dumps(known.counts)}
            connection.execute(_KEEP_PLACE, {**where, **values})
            kept[place] = known
        return kept

    def _add_came(self, connection: Connection, came: Iterable[Came]) -> dict[Band, Record]:
        news: defaultdict[Band, list[bool]] = defaultdict(list)
        for one in came:
            news[one.band].append(one.used)
        kept: dict[Band, Record] = {}
        query = text(
            f"SELECT made, used FROM tokopt_cache_predictions WHERE scope = :scope AND band = :band{self._lock}"  # noqa: S608
        )
        for band in sorted(news):
            where = {"scope": band.scope, "band": band.number}
            connection.execute(_OPEN_BAND, where)
            record = Record(*(float(value) for value in connection.execute(query, where).one()))
            for used in news[band]:
                record.add(used)
            connection.execute(_KEEP_BAND, {**where, "made": record.made, "used": record.used})
            kept[band] = record
        return kept

    def _tidy(self, connection: Connection, seen: Sequence[Seen], half_life: float) -> None:
        self._writes += 1
        if self._writes % _TIDY_EVERY or not seen:
            return
        old = {"before": seen[-1].at - _HALF_LIVES_KEPT * half_life}
        connection.execute(text("DELETE FROM tokopt_cache_followers WHERE at < :before"), old)
        last = text("SELECT at FROM tokopt_cache_followers ORDER BY at DESC LIMIT 1 OFFSET :kept")
        before = connection.execute(last, {"kept": _KEPT_PLACES}).scalar()
        if before is not None:
            connection.execute(text("DELETE FROM tokopt_cache_followers WHERE at <= :before"), {"before": before})

    def forget(self, *, scope: str | None = None, user: str | None = None) -> None:
        """Forget a scope (also those whose names begin like it), a user, a user in a scope, or all but the money."""
        named = {name: value for name, value in (("scope", scope), ("owner", user)) if value is not None}
        tests = {"scope": "SUBSTR(scope, 1, LENGTH(:scope)) = :scope", "owner": "owner = :owner"}
        where = " AND ".join(tests[name] for name in named) or "1 = 1"
        with self._database.write() as connection:
            connection.execute(text(f"DELETE FROM tokopt_cache_followers WHERE {where}"), named)  # noqa: S608
            if user is None:
                connection.execute(text(f"DELETE FROM tokopt_cache_predictions WHERE {where}"), named)  # noqa: S608

    # --- money -------------------------------------------------------------------------------------------------------

    def hold(self, day: str, usd: Decimal, limit: Decimal) -> bool:
        """Whether `usd` could be set aside for one call, within the limit of the day, whoever else spends from it."""
        nano = to_nano(usd)
        with self._database.write() as connection:
            connection.execute(_OPEN_DAY, {"day": day})
            held = connection.execute(_HOLD, {"day": day, "nano": nano, "limit": to_nano(limit)})
            return bool(held.rowcount)

    def settle(self, day: str, held: Decimal, spent: Decimal) -> None:
        """Book what the call cost in place of what was set aside."""
        values = {"day": day, "held": to_nano(held), "spent": to_nano(spent)}
        query = text("UPDATE tokopt_cache_ahead SET held = held - :held, spent = spent + :spent WHERE day = :day")
        with self._database.write() as connection:
            connection.execute(query, values)

    def spent(self, day: str) -> tuple[Decimal, Decimal]:
        """USD spent on a day, and USD that calls under way may still cost."""
        query = text("SELECT spent, held FROM tokopt_cache_ahead WHERE day = :day")
        with self._database.read() as connection:
            row = connection.execute(query, {"day": day}).first()
        return (from_nano(int(row[0])), from_nano(int(row[1]))) if row is not None else (from_nano(0), from_nano(0))


def _followers(at: float, total: float, counts: str) -> Followers:
    told: Mapping[str, Any] = json.loads(counts)
    return Followers(float(at), float(total), {then: float(count) for then, count in told.items()})


def _ids(after: str) -> tuple[str, ...]:
    return tuple(json.loads(after))
