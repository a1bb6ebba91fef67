"""Plans for questions that are answered with a number."""

from __future__ import annotations

import re

from langchain_tokopt.demo import extract
from langchain_tokopt.demo.plans import steps
from langchain_tokopt.demo.plans.steps import Plan, Want
from langchain_tokopt.demo.records import fields, records
from langchain_tokopt.demo.sight import Result


def _count_lines(path: str) -> Want:
    return Want(
        "count the lines of a file",
        (
            ("count_lines", {"path": path}),
            ("file_info", {"path": path}),
            ("text_statistics", {"path": path}),
            ("read_file", {"path": path, "start": 1, "end": 1}),
        ),
    )


def _lines_in(result: Result) -> int | None:
    if not result.ok:
        return None
    if result.tool in ("file_info", "text_statistics"):
        value = fields(result.text).get("lines")
        return value if isinstance(value, int) else None
    return extract.total_lines(result.text) if result.tool == "read_file" else extract.number_of(result.text, "lines")


def _lines_said(count: int) -> str:
    return f"{count} line{'s' * (count != 1)}"


def lines(path: str) -> Plan:
    yield [steps.find(path)]
    (info,) = yield [
        Want("size and date of a file", (("file_info", {"path": path}), ("text_statistics", {"path": path})))
    ]
    (counted,) = yield [_count_lines(path)]
    count = _lines_in(counted)
    count = _lines_in(info) if count is None else count
    return steps.unknown(f"how long `{path}` is") if count is None else f"`{path}` has {_lines_said(count)}."


def longer(first: str, second: str) -> Plan:
    yield [steps.find(first), steps.find(second)]
    one, two = yield [_count_lines(first), _count_lines(second)]
    counts = [count for count in (_lines_in(one), _lines_in(two)) if count is not None]
    if len(counts) < 2:
        return steps.unknown("which file is longer")
    expression = f"{max(counts)} - {min(counts)}"
    (sum_,) = yield [Want("work out an arithmetic expression", (("calculator", {"expression": expression}),))]
    worked = re.search(r"= (-?\d+)\s*$", sum_.text)
    difference = int(worked[1]) if worked else abs(counts[0] - counts[1])
    if not difference:
        return f"`{first}` and `{second}` both have {counts[0]} lines."
    longer, shorter = (first, second) if counts[0] > counts[1] else (second, first)
    against = f"{max(counts)} against {min(counts)}"
    return f"`{longer}` is longer than `{shorter}` by {_lines_said(difference)} ({against})."


def largest(folder: str) -> Plan:
    yield [Want("show folders and files as a tree", (("tree", {"folder": folder}), ("list_files", {"folder": folder})))]
    (said,) = yield [
        Want(
            "list the largest files",
            (("largest_files", {"folder": folder, "count": 10}), ("list_files", {"folder": folder, "limit": 200})),
        )
    ]
    sizes: dict[str, int] = {}
    if said.tool == "largest_files":
        sizes = {str(row["path"]): int(row["bytes"]) for row in records(said.text) if {"path", "bytes"} <= row.keys()}
    else:
        rows = re.findall(r"(?m)^(\S.*?)\s{1,}(\d+)$", said.text)
        sizes = {path.strip(): int(size) for path, size in rows}
    if not sizes:
        return steps.unknown(f"which file in `{folder}` is the largest")
    largest = min(sizes, key=lambda path: (-sizes[path], path))
    yield [Want("size and date of a file", (("file_info", {"path": largest}),))]
    return f"The largest file is {largest} with {sizes[largest]} bytes."
