"""Comparing two runs of a test suite."""

from __future__ import annotations

from compat.outcomes import EXPECTED, Outcome, compare, counts, last_line, read, warnings


def outcomes(**found: str) -> dict[str, Outcome]:
    return {name: Outcome(name, outcome) for name, outcome in found.items()}


def test_what_passed_and_fails_now_is_a_regression() -> None:
    bare = outcomes(a="passed", b="passed", c="passed", d="passed", e="passed")
    now = outcomes(a="passed", b="failed", c="error", d="skipped")
    found = compare(bare, now, {})
    assert [(one.name, one.outcome) for one in found.regressions] == [
        ("b", "failed"),
        ("c", "error"),
        ("d", "skipped"),
        ("e", "missing"),
    ]
    assert found.expected == found.repaired == ()


def test_what_failed_before_is_no_regression() -> None:
    found = compare(outcomes(a="failed", b="skipped", c="error"), outcomes(a="failed", b="passed", c="skipped"), {})
    assert found.regressions == ()
    assert [one.name for one in found.repaired] == ["b"]


def test_expected_change_is_no_regression_and_is_told() -> None:
    found = compare(outcomes(a="passed", b="passed"), outcomes(a="failed", b="failed"), {"a": "one node more"})
    assert [one.name for one in found.expected] == ["a"]
    assert found.stale == ()
    assert [one.name for one in found.regressions] == ["b"]


def test_expected_change_that_does_not_come_is_told() -> None:
    found = compare(outcomes(a="passed", b="failed"), outcomes(a="passed", b="failed"), {"a": "x", "b": "x", "c": "x"})
    assert (found.stale, found.expected) == (("a",), ())


def test_every_expected_change_has_a_reason() -> None:
    assert all(len(reason.split()) > 3 for reason in EXPECTED.values())


def test_outcomes_are_counted_and_read() -> None:
    found = read({"a": {"outcome": "passed"}, "b": {"outcome": "failed", "error": "x"}, "c": {"outcome": "passed"}})
    assert counts(found) == {"passed": 2, "failed": 1}
    assert found["b"] == Outcome("b", "failed", "x")


def test_warnings_are_counted_by_test() -> None:
    found = read(
        {"a": {"outcome": "passed", "warnings": ["x", "x", "y"]}, "b": {"outcome": "passed", "warnings": ["x"]}}
    )
    assert warnings(found) == {"x": 2, "y": 1}


def test_line_that_names_the_exception_is_found() -> None:
    assert last_line("test_x.py:3: in test\n    f()\nE   ValueError: no\nE   second\nE     third") == "ValueError: no"
    assert last_line("one\ntwo\n\n") == "two"
    assert last_line("") == ""
