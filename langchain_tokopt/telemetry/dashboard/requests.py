"""The newest requests in full: what came in, what each part did and why, what went out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from langchain_tokopt.events import Decision
from langchain_tokopt.telemetry.dashboard.plain import known, plain
from langchain_tokopt.telemetry.readings import Readings, Span, Step, Story
from langchain_tokopt.telemetry.report import Saved, Usage

_STEPS: Final = 200  # of one request; that of an agent has a handful


def newest(readings: Readings, span: Span, count: int) -> list[Story]:
    """The newest requests of a span of time, the newest first.

    Raises:
        StoreError: The database cannot be read.
    """
    lines = readings.requests(span, limit=count)
    return list(readings.stories([line.id for line in lines]))


def story(one: Story) -> dict[str, Any]:
    """One request as plain values, without what is not known. Figures are those of its line: sums over its events."""
    line = one.line
    shown = {
        "id": line.id,
        "at": line.at,
        "until": line.until,
        "who": known(asdict(line.who)) or None,
        "model": line.model,
        "provider": line.provider,
        "outcome": line.outcome,
        "calls": line.calls,
        "own_calls": line.own_calls or None,
        "failed_calls": line.failed_calls or None,
        "measured": _usage(line.measured),
        "estimated": _usage(line.estimated),
        "saved": _saved(line.saved),
        "shadow": _saved(line.saved_in_shadow),
        "added_seconds": line.added_seconds,
        "latency_seconds": line.latency_seconds,
        "failures": line.failures or None,
        "came_in": _came_in(one),
        "went_out": one.went_out,
        "went_out_measured": one.went_out_measured or None,
        "left_out": max(0, len(one.steps) - _STEPS) or None,
        "steps": [_step(step) for step in one.steps[:_STEPS]],
    }
    plainly: dict[str, Any] = plain(known(shown))
    return plainly


def changes(stories: Sequence[Story]) -> list[dict[str, Any]]:
    """What parts made of the tokens of these requests, by our estimate: before, after, how often."""
    sums: dict[str, list[int]] = {}
    for one in stories:
        for step in one.steps:
            event = step.event
            if not isinstance(event, Decision) or event.mode == "shadow" or event.part == "budget":
                continue
            if event.tokens_before is None or event.tokens_after is None:
                continue
            after = event.tokens_after if event.action == "applied" else event.tokens_before
            before = sums.setdefault(event.part, [0, 0, 0])
            sums[event.part] = [before[0] + 1, before[1] + event.tokens_before, before[2] + after]
    named = ({"part": part, "decisions": n, "before": old, "after": new} for part, (n, old, new) in sums.items())
    return sorted((plain(each) for each in named), key=lambda each: (-each["before"], each["part"]))


def _came_in(one: Story) -> int | None:
    """Tokens of the request before any part changed it: only the history's part counts all of it, after the tools' part
    has taken from it what it left out."""
    made = [step.event for step in one.steps if isinstance(step.event, Decision) and step.mode != "shadow"]
    whole = next((event for event in made if event.part == "history" and event.tokens_before is not None), None)
    if whole is None or whole.tokens_before is None:
        return None
    tools = [event for event in made if event.part == "tools" and event.action == "applied"]
    return whole.tokens_before + sum((event.tokens_before or 0) - (event.tokens_after or 0) for event in tools)


def _step(step: Step) -> dict[str, Any]:
    shown = {
        "id": step.event.id,
        "after": round(step.after, 6),
        "kind": step.kind,
        "part": step.part,
        "action": step.action,
        "mode": "shadow" if step.mode == "shadow" else None,
        "reason": step.reason,
        "figures": step.figures or None,
        "detail": step.detail or None,
    }
    return known(shown)


def _usage(usage: Usage) -> dict[str, Any] | None:
    return known(asdict(usage)) if usage.calls else None


def _saved(saved: Saved) -> dict[str, Any] | None:
    return known(asdict(saved)) if saved.applied else None
