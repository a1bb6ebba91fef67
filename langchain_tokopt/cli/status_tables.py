"""What an installation and a database have, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from langchain_tokopt.cli.shown import age, console, safe, shortened, size

_MOST_LISTED = 10
_MOST_FIGURES = 4
_LONGEST = 300


def print_status(found: Mapping[str, Any]) -> None:
    """Print a line for each fact, what is wrong last."""
    screen = console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found.items():
        if name != "problems":
            said, style = _said(name, value)
            table.add_row(name.replace("_", " ").replace("size bytes", "size"), Text(said, style))
    screen.print(table)
    for problem in found.get("problems", ()):
        screen.print(Text(f"Wrong: {safe(problem)}", "red"), soft_wrap=True)


def _said(name: str, value: Any) -> tuple[str, str]:
    """The value as people read it, and how it looks."""
    if name == "extras":
        return ", ".join(f"{extra}{'' if there else ' (not installed)'}" for extra, there in value.items()), ""
    if name == "size_bytes":
        return ("unknown" if value is None else size(value)), ""
    if name == "schemas":
        return ", ".join(f"{safe(component)} {each['version']}{_known(each)}" for component, each in value.items()), ""
    if name == "events_by_kind":
        return ", ".join(f"{shortened(kind, 60)} {count:,}" for kind, count in value.items()), ""
    if name == "budgets":
        return _limited([_budget(one) for one in value]), "red" if any(one.get("used_up") for one in value) else ""
    if name == "alerts":
        return _alerts(value)
    if name == "snapshots":
        return _limited([_snapshot(one) for one in value]), ""
    if isinstance(value, int):
        return f"{value:,}", ""
    return ("" if value is None else safe(str(value))), ""


def _known(each: Mapping[str, int | None]) -> str:
    if each["known"] is None:
        return " (of another package)"
    return "" if each["version"] == each["known"] else f" (this package has {each['known']})"


def _budget(one: Mapping[str, Any]) -> str:
    name = shortened(one["name"], 60)
    if "error" in one:
        return f"{name}: {shortened(one['error'], _LONGEST)}"
    full = f", used up: {_limited([shortened(node, 80) for node in one['used_up']])}" if one["used_up"] else ""
    return f"{name} ({one['limits']:,} {'limit' if one['limits'] == 1 else 'limits'}{full})"


def _snapshot(one: Mapping[str, Any]) -> str:
    """Its name, its age, and its first figures that are no longer than a number."""
    plain = [(name, value) for name, value in one["figures"].items() if isinstance(value, (int, float))]
    said = "".join(f", {shortened(str(name), 40)} {value:,}" for name, value in plain[:_MOST_FIGURES])
    return f"{shortened(one['name'], 60)} ({age(one['age_seconds'])} ago{said})"


def _alerts(value: Mapping[str, int] | None) -> tuple[str, str]:
    if value is None:
        return "nobody looked for any yet: tokopt alerts check", ""
    standing = [f"{count:,} {severity}" for severity, count in value.items() if count]
    style = "red" if value["critical"] else "yellow" if standing else ""
    return (f"open: {', '.join(standing)}" if standing else "none open"), style


def _limited(names: list[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join([*names[:_MOST_LISTED], *([f"{more:,} more"] if more > 0 else [])]) or "none"
