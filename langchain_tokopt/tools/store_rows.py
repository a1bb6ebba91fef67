"""The tables of the tools part, and its rows as values. What is broken in a row is `None`, and nothing raises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from langchain_tokopt.tools.usage_sums import MAX_TERMS, UsageSums

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Connection

_TYPES: Final = {
    "sqlite": {"key": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB"},
    "postgresql": {"key": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytes": "BYTEA"},
}


def _create_tables(connection: Connection) -> None:
    """Version 1. `used` is a day: whole days since the epoch.

    An embedder's `revision` grows with every write of what was learned, and each row has that of its last write.
    """
    from sqlalchemy import text

    types = _TYPES[connection.dialect.name]
    data = types["bytes"]
    of_embedder = f"embedder_id BIGINT NOT NULL REFERENCES tokopt_tool_embedders (id), digest {data} NOT NULL"
    for statement in (
        f"CREATE TABLE tokopt_tool_embedders (id {types['key']}, name TEXT NOT NULL UNIQUE, revision BIGINT NOT NULL)",
        f"""CREATE TABLE tokopt_tool_vectors ({of_embedder}, vector {data} NOT NULL, used BIGINT NOT NULL,
            PRIMARY KEY (embedder_id, digest))""",
        "CREATE INDEX tokopt_tool_vectors_used ON tokopt_tool_vectors (used)",
        f"""CREATE TABLE tokopt_tool_usage ({of_embedder}, revision BIGINT NOT NULL, examples BIGINT NOT NULL,
            weight DOUBLE PRECISION NOT NULL, vector {data}, terms {data} NOT NULL, counts {data} NOT NULL,
            together TEXT NOT NULL, following TEXT NOT NULL, used BIGINT NOT NULL,
            PRIMARY KEY (embedder_id, digest))""",
        "CREATE INDEX tokopt_tool_usage_changes ON tokopt_tool_usage (embedder_id, revision)",
        "CREATE INDEX tokopt_tool_usage_used ON tokopt_tool_usage (used)",
        f"CREATE TABLE tokopt_tool_picks (pick {data} PRIMARY KEY, names TEXT NOT NULL, used BIGINT NOT NULL)",
        "CREATE INDEX tokopt_tool_picks_used ON tokopt_tool_picks (used)",
        f"CREATE TABLE tokopt_tool_blobs (name VARCHAR(255) PRIMARY KEY, data {data} NOT NULL)",
    ):
        connection.execute(text(statement))


STEPS: Final[Sequence[Callable[[Connection], None]]] = (_create_tables,)

USAGE_COLUMNS: Final = (
    "digest",
    "revision",
    "examples",
    "weight",
    "vector",
    "terms",
    "counts",
    "together",
    "following",
)


def to_vectors(data: Mapping[bytes, bytes], dim: int) -> dict[bytes, NDArray[np.float32]]:
    """Those that hold `dim` finite numbers: float32 `[dim]`, read-only."""
    right = {digest: one for digest, one in data.items() if isinstance(one, bytes) and len(one) == 4 * dim}
    if not right or not dim:
        return {}
    block = np.frombuffer(b"".join(right.values()), dtype="<f4").astype(np.float32, copy=False).reshape(-1, dim)
    return {digest: row for digest, row in zip(right, block, strict=True) if np.isfinite(row).all()}


def to_bytes(vector: NDArray[np.float32]) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def usage_row(digest: bytes, sums: UsageSums) -> dict[str, Any]:
    """The columns `USAGE_COLUMNS`."""
    return {
        "digest": digest,
        "revision": sums.revision,
        "examples": sums.examples,
        "weight": sums.weight,
        "vector": None if sums.vector is None else to_bytes(sums.vector),
        "terms": sums.terms.astype("<u8", copy=False).tobytes(),
        "counts": sums.counts.astype("<f4", copy=False).tobytes(),
        "together": _pairs_text(sums.together),
        "following": _pairs_text(sums.following),
    }


def usage_sums(row: Sequence[Any], dim: int) -> UsageSums | None:
    """The columns `USAGE_COLUMNS` as a value. A vector of another length than `dim` makes a row a broken one."""
    digest, revision, examples, weight, vector, terms, counts, together, following = row
    try:
        sums = UsageSums(
            revision=int(revision),
            examples=int(examples),
            weight=float(weight),
            vector=None if vector is None else to_vectors({digest: vector}, dim)[digest],
            terms=np.frombuffer(terms, dtype="<u8").astype(np.uint64, copy=False),
            counts=np.frombuffer(counts, dtype="<f4").astype(np.float32, copy=False),
            together=_pairs(together),
            following=_pairs(following),
        )
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError):
        return None
    whole = sums.examples >= 0 and len(sums.terms) == len(sums.counts) <= MAX_TERMS
    numbers = (sums.weight, *sums.together.values(), *sums.following.values())
    return sums if whole and all(map(math.isfinite, numbers)) and np.isfinite(sums.counts).all() else None


def _pairs_text(pairs: Mapping[bytes, float]) -> str:
    return json.dumps({digest.hex(): count for digest, count in pairs.items()})


def _pairs(text: str) -> Mapping[bytes, float]:
    return {bytes.fromhex(digest): float(count) for digest, count in json.loads(text).items()}


def to_names(text: str) -> tuple[str, ...] | None:
    """The names of a pick."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def names_text(names: Sequence[str]) -> str:
    return json.dumps(list(names))  # ASCII: PostgreSQL takes neither NUL nor lone surrogates in a text
