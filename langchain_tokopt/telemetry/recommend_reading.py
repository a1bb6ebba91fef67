"""Reads from a store what recommendations are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.telemetry.recommend_evidence import (
    Arm,
    Evidence,
    PartSavings,
    Prompts,
    Repeats,
    Sample,
    Unpriced,
)
from langchain_tokopt.telemetry.store import TABLE, EventStore

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.readings import Span

# So many events, the newest, say enough; more would take seconds to go through.
MOST_EVENTS: Final = 50_000

# What stands in a query for each of these words in braces.
_WORDS: Final = {
    "is_call": "kind = 'ModelCall' AND internal = 0",
    "is_part": "kind IN ('Decision', 'CacheLookup') AND part <> 'budget'",
    "did": "action IN ('exact', 'semantic', 'applied')",
    # The steps of one run count together: whoever saves in one step and pays in the next has saved nothing.
    "unit": "COALESCE(run, request, id)",
    # As whole numbers the squares would soon be too large for the database.
    "nano_squares": "SUM(CAST(nano AS DOUBLE PRECISION) * CAST(nano AS DOUBLE PRECISION))",
    "saved_squares": "SUM(CAST(saved_nano AS DOUBLE PRECISION) * CAST(saved_nano AS DOUBLE PRECISION))",
}


def read_evidence(store: EventStore, span: Span, *, now: float, most: int = MOST_EVENTS) -> Evidence:
    """The evidence of a span that ends `now`; of its `most` newest events, if there are more.

    Raises:
        StoreError: The database cannot be read.
    """
    with store.reading() as connection:
        since = span.since

        def rows(query: str, /, **inner: str) -> Sequence[Mapping[str, Any]]:
            from sqlalchemy import text

            tests, given = ["1 = 1"], dict[str, float]()
            for test, name, value in (("at >= :since", "since", since), ("at < :until", "until", span.until)):
                if value is not None:
                    tests.append(test)
                    given[name] = value
            within = f"(SELECT * FROM {TABLE} WHERE {' AND '.join(tests)})"  # noqa: S608 - names of ours
            for name, word in {**inner, **_WORDS, "events": within}.items():
                query = query.replace(f"{{{name}}}", word)
            return [dict(row) for row in connection.execute(text(query), given).mappings()]

        (whole,) = rows("SELECT MIN(at) AS first, COUNT(*) AS n FROM {events} e")
        count = int(whole["n"])
        if not count:
            return Evidence()
        begins = max(float(whole["first"]), span.since or 0.0)
        if count > most:
            oldest = rows(f"SELECT at FROM {{events}} e ORDER BY at LIMIT 1 OFFSET {count - most}")  # noqa: S608
            begins = since = float(oldest[0]["at"])
        own, refused = _own(rows)
        return Evidence(
            seconds=max(0.0, now - begins),
            since=since if count > most else None,
            prompts=_prompts(rows),
            parts=_parts(rows),
            part_arms=_part_arms(rows),
            model_arms=_model_arms(rows),
            repeats=_repeats(rows),
            unpriced=_unpriced(rows),
            own_calls=own[0],
            own_nano=own[1],
            outputs=_counts(
                rows,
                "SELECT output_tokens AS size, COUNT(*) AS n FROM {events} e WHERE {is_call} "
                "AND usage_source = 'provider' AND output_tokens IS NOT NULL GROUP BY output_tokens ORDER BY 1",
            ),
            reserved_for_output=_reserved(rows),
            refused=refused,
        )


_Rows = Any  # takes a query, and what stands in it for inner queries; gives its rows


def _prompts(rows: _Rows) -> tuple[Prompts, ...]:
    found = rows(
        "SELECT provider, model, usage_source, input_tokens, repeated_prefix_tokens, cache_read_tokens, "
        "CASE WHEN cost_nano IS NULL THEN 0 ELSE 1 END AS priced, COUNT(*) AS n, SUM(output_tokens) AS output, "
        "SUM(cache_write_tokens) AS written, SUM(cost_nano) AS nano "
        "FROM {events} e WHERE {is_call} AND input_tokens IS NOT NULL AND usage_source IS NOT NULL "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7"
    )
    return tuple(
        Prompts(
            provider=row["provider"],
            model=row["model"],
            measured=row["usage_source"] == "provider",
            input_tokens=int(row["input_tokens"]),
            repeated=_whole(row["repeated_prefix_tokens"]),
            cache_read=_whole(row["cache_read_tokens"]),
            cache_write=int(row["written"] or 0),
            calls=int(row["n"]),
            output=int(row["output"] or 0),
            nano=int(row["nano"]) if row["priced"] else None,
        )
        for row in found
    )


def _parts(rows: _Rows) -> tuple[PartSavings, ...]:
    found = rows(
        "SELECT part, mode, COUNT(*) AS applied, SUM(saved_tokens) AS tokens, COUNT(saved_nano) AS n, "
        "SUM(saved_nano) AS total, {saved_squares} AS squares "
        "FROM {events} e WHERE {is_part} AND {did} GROUP BY part, mode ORDER BY part, mode"
    )
    return tuple(
        PartSavings(
            part=row["part"],
            shadow=row["mode"] == "shadow",
            applied=int(row["applied"]),
            tokens=_whole(row["tokens"]),
            priced=_sample(row),
        )
        for row in found
    )


def _part_arms(rows: _Rows) -> tuple[Arm, ...]:
    """Runs in which a part was always on, or only ever watched; a run that was answered without a call cost nothing."""
    modes = (
        "SELECT part, agent, {unit} AS unit, MIN(mode) AS variant FROM {events} d WHERE {is_part} "
        "GROUP BY part, agent, {unit} HAVING MIN(mode) = MAX(mode)"
    )
    costs = (
        "SELECT agent, {unit} AS unit, SUM(cost_nano) AS nano, "
        "COUNT(*) - COUNT(CASE WHEN usage_source = 'provider' THEN cost_nano END) AS unknown "
        "FROM {events} c WHERE kind = 'ModelCall' GROUP BY agent, {unit}"
    )
    joined = (
        "SELECT m.part AS subject, m.variant, m.agent, COALESCE(c.nano, 0) AS nano FROM ({modes}) m "
        "LEFT JOIN ({costs}) c ON c.unit = m.unit AND COALESCE(c.agent, '') = COALESCE(m.agent, '') "
        "WHERE COALESCE(c.unknown, 0) = 0"
    )
    return _arms(rows, joined, modes=modes, costs=costs)


def _model_arms(rows: _Rows) -> tuple[Arm, ...]:
    by_run = (
        "SELECT COALESCE(provider, '') || ':' || model AS variant, agent, SUM(cost_nano) AS nano FROM {events} e "
        "WHERE {is_call} AND model IS NOT NULL GROUP BY 1, agent, {unit} "
        # Only what is measured throughout: a run with an estimate in it is compared with none.
        "HAVING COUNT(*) = COUNT(CASE WHEN usage_source = 'provider' THEN cost_nano END)"
    )
    return _arms(rows, "SELECT 'model' AS subject, variant, agent, nano FROM ({by_run}) r", by_run=by_run)


def _arms(rows: _Rows, query: str, **inner: str) -> tuple[Arm, ...]:
    found = rows(
        "SELECT subject, variant, agent, COUNT(*) AS n, SUM(nano) AS total, {nano_squares} AS squares "
        "FROM ({whole}) a GROUP BY subject, variant, agent ORDER BY subject, variant, agent",
        whole=query,
        **inner,
    )
    return tuple(
        Arm(subject=row["subject"], variant=row["variant"], agent=row["agent"], cost=_sample(row)) for row in found
    )


def _repeats(rows: _Rows) -> tuple[Repeats, ...]:
    looked = (
        "SELECT request, MIN(action) AS outcome, MIN(reason) AS reason, MIN(mode) AS mode FROM {events} l "
        "WHERE kind = 'CacheLookup' AND request IS NOT NULL GROUP BY request"
    )
    found = rows(
        "SELECT l.outcome, l.reason, COUNT(*) AS n, COUNT(c.cost_nano) AS priced, SUM(c.cost_nano) AS nano "
        "FROM {events} c LEFT JOIN ({looked}) l ON l.request = c.request "
        "WHERE c.kind = 'ModelCall' AND c.internal = 0 AND c.error IS NULL AND c.input_tokens > 0 "
        "AND c.repeated_prefix_tokens = c.input_tokens "
        # What a cache in shadow mode would have answered is known to the cache itself.
        "AND (l.outcome IS NULL OR l.outcome NOT IN ('exact', 'semantic')) "
        "GROUP BY l.outcome, l.reason ORDER BY n DESC, l.outcome, l.reason",
        looked=looked,
    )
    return tuple(
        Repeats(
            outcome=row["outcome"],
            reason=row["reason"],
            calls=int(row["n"]),
            priced=int(row["priced"]),
            nano=int(row["nano"] or 0),
        )
        for row in found
    )


def _unpriced(rows: _Rows) -> tuple[Unpriced, ...]:
    found = rows(
        "SELECT provider, model, COUNT(*) AS n, SUM(input_tokens) AS input, SUM(output_tokens) AS output "
        "FROM {events} e WHERE kind = 'ModelCall' AND usage_source IS NOT NULL AND cost_nano IS NULL "
        "GROUP BY provider, model ORDER BY n DESC, provider, model"
    )
    return tuple(
        Unpriced(
            provider=row["provider"],
            model=row["model"],
            calls=int(row["n"]),
            input_tokens=int(row["input"] or 0),
            output_tokens=int(row["output"] or 0),
        )
        for row in found
    )


def _own(rows: _Rows) -> tuple[tuple[int, int | None], int]:
    (own,) = rows(
        "SELECT COUNT(*) AS n, COUNT(cost_nano) AS priced, SUM(cost_nano) AS nano FROM {events} e "
        "WHERE kind = 'ModelCall' AND internal = 1 AND usage_source IS NOT NULL"
    )
    (refused,) = rows(
        "SELECT COUNT(*) AS n FROM {events} e WHERE kind = 'Reservation' AND action = 'refused' AND mode <> 'shadow'"
    )
    count = int(own["n"])
    return (count, int(own["nano"] or 0) if own["priced"] == count else None), int(refused["n"])


def _reserved(rows: _Rows) -> tuple[tuple[int, int], ...]:
    """Of requests with one reservation and one call: what was held beyond the input that the call had."""
    held = (
        "SELECT request, SUM(amount_tokens) AS held FROM {events} r WHERE kind = 'Reservation' "
        "AND action = 'reserved' AND amount_tokens IS NOT NULL GROUP BY request HAVING COUNT(*) = 1"
    )
    called = (
        "SELECT request, SUM(input_tokens) AS input FROM {events} c WHERE {is_call} AND usage_source = 'provider' "
        "AND input_tokens IS NOT NULL GROUP BY request HAVING COUNT(*) = 1"
    )
    return _counts(
        rows,
        "SELECT h.held - c.input AS size, COUNT(*) AS n FROM ({held}) h JOIN ({called}) c ON c.request = h.request "
        "WHERE h.held > c.input GROUP BY h.held - c.input ORDER BY 1",
        held=held,
        called=called,
    )


def _counts(rows: _Rows, query: str, **inner: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(row["size"]), int(row["n"])) for row in rows(query, **inner))


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(count=int(row["n"]), total=int(row["total"] or 0), squares=float(row["squares"] or 0.0))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
