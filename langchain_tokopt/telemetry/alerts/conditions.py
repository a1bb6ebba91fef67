"""From what was seen to what is kept: the steps to make, and the words of a condition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokopt.telemetry.alerts.deciding import Observation, Step, decide
from langchain_tokopt.telemetry.alerts.observing import Seen
from langchain_tokopt.telemetry.alerts.rules import AlertRule
from langchain_tokopt.telemetry.alerts.table import Row, clean, new_id, place_of
from langchain_tokopt.telemetry.kpis import measure_of, shown

_SHORTEST_LAPSE_SECONDS: Final = 3600.0
_LONGEST_NAME: Final = 200  # so that a title tells the value, too

# Of one rule at once: a limit on each of very many users must not bury the rest.
MOST_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Planned:
    """A change to make. `rule` is `None` for a condition that nobody looks at any more ("lapse")."""

    place: str
    step: Step
    rule: AlertRule | None
    row: Row | None
    seen: Observation


def steps_of(rule: AlertRule, seen: Seen, known: dict[str, Row], now: float) -> Iterator[Planned]:
    """What to do about the conditions of one rule; takes those that were looked at out of `known`."""
    ours = {place: row for place, row in known.items() if row.rule == rule.name}
    found = {place_of(rule.name, one.subject): one for one in seen.found.values()}
    for place, row in ours.items():
        if place not in found and seen.covers(row.subject):
            found[place] = Observation(subject=row.subject)  # there is nothing to see of it any more
    sign = -1.0 if rule.above is not None else 1.0
    room = MOST_AT_ONCE - len(ours)
    for place, one in sorted(found.items(), key=lambda item: (sign * (item[1].value or 0.0), item[0])):
        current = known.pop(place, None)
        step = decide(rule, current, one, now)
        if step == "begin" and room <= 0:
            continue
        room -= step == "begin"
        if step is not None:
            yield Planned(place, step, rule, current, one)


def begun(rule: AlertRule, seen: Observation, now: float, *, tells: bool) -> Row:
    """A condition that begins to hold now; raised at once where it need not hold for any time.

    `tells` is whether there is somebody to tell it to.
    """
    raised = now if not rule.for_seconds else None
    value = seen.value or 0.0
    return Row(
        id=new_id(),
        place=place_of(rule.name, seen.subject),
        rule=rule.name,
        metric=rule.metric,
        subject=clean(seen.subject),
        severity=rule.severity,
        **words_of(rule, seen),
        value=value,
        peak=value,
        since=now,
        raised_at=raised,
        seen_at=now,
        told_at=raised if tells else None,
        tell=None if tells or raised is None else "raised",
        lapses_after=max(_SHORTEST_LAPSE_SECONDS, rule.window_hours * 3600),
        cleared_at=None,
        acknowledged_by=None,
        acknowledged_at=None,
        note=None,
    )


def words_of(rule: AlertRule, seen: Observation, *, cleared: bool = False) -> dict[str, Any]:
    """What is said about a condition, and the threshold that it is held against."""
    threshold = rule.threshold(seen.target) or 0.0
    side = "over" if rule.above is not None else "under"
    side = f"no longer {side}" if cleared else side
    name = seen.named if len(seen.named) <= _LONGEST_NAME else f"{seen.named[: _LONGEST_NAME - 1]}\u2026"
    what = f"{rule.title} ({name})" if name else rule.title
    measure = measure_of(rule.metric)
    detail = " ".join(filter(None, (measure.definition if measure is not None else "", seen.more, rule.advice)))
    return {
        "title": clean(f"{what}: {shown(seen.value, rule.unit)}, {side} {shown(threshold, rule.unit)}"),
        "detail": clean(detail),
        "threshold": float(threshold),
    }
