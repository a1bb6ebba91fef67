"""What was learned, in the database: labels and sums that all processes share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from sqlalchemy import text

from langchain_tokopt.cache.decision.steering import Sums

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

KEPT: Final = 6_000  # labels; older ones are forgotten
_MEMORY: Final = 100_000  # requests, after which all sums are halved: what is older counts less and less
_TYPES: Final = {
    "sqlite": {"key": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB"},
    "postgresql": {"key": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytes": "BYTEA"},
}


@dataclass(frozen=True, slots=True)
class Label:
    """One comparison of a proposed answer with the model's.

    Attributes:
        features: Float64 `[f]`.
        same: Whether the proposed answer was right.
        weight: 1 / the probability with which it was drawn: 1 for a miss.
        risk: What was estimated for an answer that was given, `None` for one that was not.
    """

    features: NDArray[np.float64]
    same: bool
    weight: float = 1.0
    risk: float | None = None


class Record(Protocol):
    """Where labels and sums are kept."""

    def add(self, labels: Sequence[Label], sums: Sums) -> None:
        """Write down what is new."""
        ...

    def read(self, after: int) -> tuple[int, list[Label], Sums]:
        """The newest label's number, the labels after number `after`, oldest first, and the sums."""
        ...


class MemoryRecord:
    """Keeps them in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._labels: list[Label] = []
        self._first = 0
        self._sums = Sums()

    def add(self, labels: Sequence[Label], sums: Sums) -> None:
        with self._lock:
            self._labels.extend(labels)
            over = len(self._labels) - KEPT
            if over > 0:
                del self._labels[:over]
                self._first += over
            total = self._sums + sums
            self._sums = total.halved() if total.requests >= _MEMORY else total

    def read(self, after: int) -> tuple[int, list[Label], Sums]:
        with self._lock:
            return self._first + len(self._labels), self._labels[max(0, after - self._first) :], self._sums


def _create_tables(connection: Connection) -> None:
    types = _TYPES[connection.dialect.name]
    names = ", ".join(f"{field.name} DOUBLE PRECISION NOT NULL DEFAULT 0" for field in fields(Sums))
    for statement in (
        f"""CREATE TABLE tokopt_cache_labels (
            id {types["key"]}, book VARCHAR(320) NOT NULL, features {types["bytes"]} NOT NULL, same INTEGER NOT NULL,
            weight DOUBLE PRECISION NOT NULL, risk DOUBLE PRECISION)""",
        "CREATE INDEX tokopt_cache_labels_by_book ON tokopt_cache_labels (book, id)",
        f"CREATE TABLE tokopt_cache_sums (book VARCHAR(320) PRIMARY KEY, {names})",
    ):
        connection.execute(text(statement))


_STEPS: Final[Sequence[Callable[[Connection], None]]] = (_create_tables,)
_ADD_LABEL: Final = text(
    "INSERT INTO tokopt_cache_labels (book, features, same, weight, risk) "
    "VALUES (:book, :features, :same, :weight, :risk)"
)
_TRIM: Final = text(
    """DELETE FROM tokopt_cache_labels WHERE book = :book AND id <= (SELECT id FROM tokopt_cache_labels
    WHERE book = :book ORDER BY id DESC LIMIT 1 OFFSET :kept)"""
)
_NAMES: Final = [field.name for field in fields(Sums)]
_ADD_SUMS: Final = text(
    f"INSERT INTO tokopt_cache_sums (book, {', '.join(_NAMES)}) VALUES (:book, {', '.join(f':{n}' for n in _NAMES)}) "  # noqa: S608 - the names are this module's own
    f"ON CONFLICT (book) DO UPDATE SET {', '.join(f'{n} = tokopt_cache_sums.{n} + excluded.{n}' for n in _NAMES)}"
)
_HALVE: Final = text(
    f"UPDATE tokopt_cache_sums SET {', '.join(f'{n} = {n} / 2' for n in _NAMES)} "  # noqa: S608 - likewise
    "WHERE book = :book AND requests >= :most"
)
_LABELS: Final = text(
    """SELECT id, features, same, weight, risk FROM tokopt_cache_labels WHERE book = :book AND id > :after
    ORDER BY id DESC LIMIT :kept"""
)
_SUMS: Final = text(f"SELECT {', '.join(_NAMES)} FROM tokopt_cache_sums WHERE book = :book")  # noqa: S608 - likewise


class DatabaseRecord:
    """Keeps them in a database.

    Args:
        database: Any.
        book: Tells apart what must not be mixed: kinds of caches, embedders, judges.
        width: How many features a label has; labels of another width (of another version) are left out, and so are
            those that hold something else than numbers.
    """

    def __init__(self, database: Database, *, book: str, width: int) -> None:
        database.migrate("cache_decision", _STEPS)
        self._database = database
        self._book = book
        self._width = width

    def add(self, labels: Sequence[Label], sums: Sums) -> None:
        rows = [
            {
                "book": self._book,
                "features": np.asarray(label.features, dtype="<f4").tobytes(),
                "same": int(label.same),
                "weight": label.weight,
                "risk": label.risk,
            }
            for label in labels
        ]
        with self._database.write() as connection:
            # The row of sums is locked first, also if nothing is added: so the labels of a book are numbered in the
            # order in which they are committed, and nobody who reads those after a number misses one that came late.
            connection.execute(_ADD_SUMS, {"book": self._book, **asdict(sums)})
            connection.execute(_HALVE, {"book": self._book, "most": _MEMORY})
            if rows:
                connection.execute(_ADD_LABEL, rows)
                connection.execute(_TRIM, {"book": self._book, "kept": KEPT})

    def read(self, after: int) -> tuple[int, list[Label], Sums]:
        with self._database.read() as connection:
            rows = connection.execute(_LABELS, {"book": self._book, "after": after, "kept": KEPT}).all()
            sums = connection.execute(_SUMS, {"book": self._book}).first()
        labels = [found for row in reversed(rows) if (found := self._label(row)) is not None]
        return (int(rows[0][0]) if rows else after), labels, Sums(*sums) if sums is not None else Sums()

    def _label(self, row: Any) -> Label | None:
        features = np.frombuffer(row[1], dtype="<f4").astype(np.float64)
        if len(features) != self._width or not np.isfinite(features).all():
            return None
        return Label(features, bool(row[2]), float(row[3]), None if row[4] is None else float(row[4]))
