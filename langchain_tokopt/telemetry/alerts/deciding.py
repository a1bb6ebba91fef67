"""What becomes of a condition, given what is seen of it: decided here, made in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from langchain_tokopt.telemetry.alerts.rules import AlertRule
from langchain_tokopt.telemetry.alerts.table import NEWER_SECONDS, Row

Step: TypeAlias = Literal["begin", "raise", "clear", "drop", "note", "remind", "lapse"]

_NOTED_EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a metric was for one subject.

    Attributes:
        subject: "" for the whole.
        value: `None` when there was nothing to see.
        count: From how many observations.
        low: Of the value's interval, if it has one.
        high: The same.
        target: Of the metric, if it has one.
        named: What is shown of the subject.
        told: Whether somebody who should know has already said that this is too much.
        heard_at: When that was, where nobody could be asked how it is now.
        more: What else there is to say about it.
    """

    subject: str = ""
    value: float | None = None
    count: int = 0
    low: float | None = None
    high: float | None = None
    target: float | None = None
    named: str = ""
    told: bool = False
    heard_at: float | None = None
    more: str = ""


def decide(rule: AlertRule, row: Row | None, seen: Observation, now: float) -> Step | None:
    """What to do about one condition; `None` for nothing. `row` is what is known of it."""
    threshold = rule.threshold(seen.target)
    if threshold is None:
        return None
    if row is not None and now < row.seen_at < now + NEWER_SECONDS:
        return None
    bad = is_bad(rule, seen, threshold)
    if row is None:
        return "begin" if bad else None
    if row.raised_at is None:
        if not bad or row.since > now + NEWER_SECONDS:
            return "drop"
        return "raise" if now - row.since >= rule.for_seconds else _note(row, seen, now)
    if not bad and (seen.value is None or not rule.past(seen.value, rule.clears_at(threshold))):
        return "clear"
    if (
        rule.repeat_seconds is not None
        and row.acknowledged_by is None
        and row.told_at is not None
        and now - row.told_at >= rule.repeat_seconds
    ):
        return "remind"
    return _note(row, seen, now)


def is_bad(rule: AlertRule, seen: Observation, threshold: float) -> bool:
    """Whether the condition of the rule holds."""
    if seen.value is None:
        return False
    if seen.told:
        return True
    bound = seen.value
    if rule.sure:
        sure = seen.low if rule.above is not None else seen.high
        bound = seen.value if sure is None else sure
    return seen.count >= rule.min_count and rule.past(bound, threshold)


def lapsed(row: Row, now: float) -> bool:
    """Whether nobody has looked at a condition for so long that it says nothing any more."""
    return now - row.seen_at > row.lapses_after


def _note(row: Row, seen: Observation, now: float) -> Step | None:
    unseen = now - row.seen_at
    if seen.heard_at is not None:  # who can ask knows better; but it must not lapse if there is nobody who can
        return "note" if unseen >= row.lapses_after / 2 else None
    return "note" if seen.value != row.value or unseen >= _NOTED_EVERY_SECONDS else None
