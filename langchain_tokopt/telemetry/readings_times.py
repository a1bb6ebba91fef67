"""How long things took: percentiles by nearest rank, which need nothing that one of the databases lacks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokopt.telemetry.readings_words import Place, TimeFigures, Times


def times_of(
    added: Mapping[Place, Sequence[float]], latency: Mapping[Place, Sequence[float]]
) -> dict[Place, TimeFigures]:
    """Figures by place, of the seconds at each, in any order."""
    places = dict.fromkeys([*added, *latency])
    return {place: TimeFigures(_times(added.get(place)), _times(latency.get(place))) for place in places}


def seconds_by_place(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> dict[Place, list[float]]:
    """The `s` of each row, by its place."""
    found: dict[Place, list[float]] = defaultdict(list)
    for row in rows:
        start = None if row["start"] is None else int(row["start"])
        found[Place(tuple(row[f"key_{n}"] for n in range(len(by))), start)].append(float(row["s"]))
    return found


def _times(seconds: Sequence[float] | None) -> Times | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p95 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
    return Times(len(ordered), p50, p95)
