"""Two runs of one test suite, compared test by test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Tests that look at the shape of the graph and are bound to see a middleware more. Each with its reason.
_CORE = "tests/unit_tests/agents/middleware/core"
EXPECTED: dict[str, str] = {}


@dataclass(frozen=True)
class Outcome:
    """How one test ended: "passed", "failed", "error", "skipped", "xfailed", "xpassed" or "missing".

    `warnings` is what the optimiser logged meanwhile: a part that fails steps aside, and the test still passes.
    """

    name: str
    outcome: str
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What the optimiser changed.

    `regressions` are what must not happen; `expected` are changes with a reason; `stale` are tests that were expected
    to change and pass.
    """

    regressions: tuple[Outcome, ...]
    expected: tuple[Outcome, ...]
    repaired: tuple[Outcome, ...]
    stale: tuple[str, ...] = ()


def read(data: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
    """Outcomes by test, from the JSON that the plugin wrote."""
    return {
        name: Outcome(name, found["outcome"], found.get("error", ""), tuple(found.get("warnings", ())))
        for name, found in data.items()
    }


def warnings(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    """What the optimiser warned of, and in how many tests."""
    return dict(Counter(text for found in outcomes.values() for text in set(found.warnings)).most_common())


def compare(
    bare: Mapping[str, Outcome], optimized: Mapping[str, Outcome], expected: Mapping[str, str] = EXPECTED
) -> Comparison:
    """The tests whose outcome differs. A test that passed bare and does not pass now, or is gone, is a regression."""
    regressions: list[Outcome] = []
    allowed: list[Outcome] = []
    repaired: list[Outcome] = []
    for name, before in sorted(bare.items()):
        after = optimized.get(name, Outcome(name, "missing"))
        if before.outcome == "passed" and after.outcome != "passed":
            (allowed if name in expected else regressions).append(after)
        elif before.outcome != "passed" and after.outcome == "passed":
            repaired.append(after)
    passed = {name for name, found in optimized.items() if found.outcome == "passed"}
    return Comparison(tuple(regressions), tuple(allowed), tuple(repaired), tuple(sorted(passed & set(expected))))


def counts(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    """How many tests ended how, the most frequent first."""
    return dict(Counter(found.outcome for found in outcomes.values()).most_common())


def last_line(error: str) -> str:
    """The line of a pytest failure that names the exception, or its last one."""
    lines = [line for line in error.splitlines() if line.strip()]
    raised = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (raised or lines or [""])[0 if raised else -1][:200]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as it stands in the report."""
    return {
        "regressions": [vars(found) for found in comparison.regressions],
        "expected": [{"name": found.name, "reason": EXPECTED.get(found.name, "")} for found in comparison.expected],
        "repaired": [found.name for found in comparison.repaired],
        "stale": list(comparison.stale),
    }
