"""How the policy reads its prompt: references to earlier results, the shapes of JSON, facts in text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.context import HistoryCompression
from langchain_tokopt.demo import extract
from langchain_tokopt.demo.records import fields, records
from langchain_tokopt.demo.sight import Sight, looked_up


def result(text: str, number: int, **more: Any) -> ToolMessage:
    return ToolMessage(text, tool_call_id=f"call_{number}", **more)


# --- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "meant"),
    [
        ("[same as tool result 1]", "a\nb\nc\nd"),
        ("[same as tool result 1 (read_file)]", "a\nb\nc\nd"),
        ("x\n[same as lines 2-3 of tool result 1 (read_file)]\ny", "x\nb\nc\ny"),
        ("[2 lines: same as lines 2-3 of tool result 1 (read_file)]", "b\nc"),
        ("[same as line 4 of tool result 1, part 1 (read_file)]", "d"),
        ("p\nq\n[same as lines 1-2 of this result]", "p\nq\np\nq"),
        ("p\n[line above repeats 2 more times]", "p\np\np"),
        ("nothing of this kind", "nothing of this kind"),
    ],
)
def test_a_reference_is_looked_up_in_the_earlier_result(second: str, meant: str) -> None:
    assert looked_up([result("a\nb\nc\nd", 1), result(second, 2)])["call_2"] == (meant, True)


@pytest.mark.parametrize(
    "lost",
    ["[same as tool result 9]", "[same as lines 7-8 of tool result 1]", "[same as lines 1-2 of tool result 3]"],
)
def test_a_reference_that_leads_nowhere_stays(lost: str) -> None:
    assert looked_up([result("a\nb", 1), result(lost, 2)])["call_2"] == (lost, True)


@given(
    st.lists(
        st.lists(st.sampled_from(["alpha beta gamma", "def f():", "x", "", "  42| y = 1"]), max_size=12), max_size=6
    )
)
def test_the_policy_reads_a_compressed_history_as_the_whole_one(texts: list[list[str]]) -> None:
    messages: list[BaseMessage] = [HumanMessage("q")]
    for number, lines in enumerate(texts):
        call = {"name": "read_file", "args": {}, "id": f"call_{number}"}
        messages += [AIMessage("", tool_calls=[call]), result("\n".join(lines * 3), number, name="read_file")]
    view = HistoryCompression(whitespace=False).view(messages)
    seen = looked_up([message for message in view if isinstance(message, ToolMessage)])
    assert seen == looked_up([message for message in messages if isinstance(message, ToolMessage)])


def test_only_results_since_the_newest_question_count() -> None:
    call = {"name": "count_lines", "args": {"path": "a"}}
    messages: list[BaseMessage] = [
        HumanMessage("first"),
        AIMessage("", tool_calls=[{**call, "id": "call_1"}]),
        result("a: 1 lines", 1),
        AIMessage("one"),
        HumanMessage("second"),
        AIMessage("", tool_calls=[{**call, "id": "call_2"}, {**call, "id": "call_3"}]),
        result("[same as tool result 1]", 2),
        result("broken", 3, status="error"),
    ]
    tools = [{"type": "function", "function": {"name": "count_lines"}}, {"type": "web_search"}]
    sight = Sight.of(messages, tools)
    assert (sight.question, sight.steps, list(sight.tools)) == ("second", 1, ["count_lines"])
    assert [(one.text, one.ok) for one in sight.results] == [("a: 1 lines", True), ("broken", False)]


# --- JSON ------------------------------------------------------------------------------------------------------------

ROWS = [{"path": "a, b.py", "bytes": 12, "note": 'say "x"'}, {"path": "c.py", "bytes": 3, "note": "12"}]
SHAPES = [
    json.dumps(ROWS),
    json.dumps(ROWS, indent=2),
    '{"columns":["path","bytes","note"],"rows":[["a, b.py",12,"say \\"x\\""],["c.py",3,"12"]]}',
    '[2]{path,bytes,note}:\n  "a, b.py",12,say "x"\n  c.py,3,"12"',
]


@pytest.mark.parametrize("text", SHAPES)
def test_records_are_read_in_every_shape(text: str) -> None:
    assert records(text) == ROWS


@pytest.mark.parametrize(
    "text", ['{"path": "a.py", "lines": 12, "kind": ".py, text"}', "path: a.py\nlines: 12\nkind: .py, text"]
)
def test_fields_are_read_in_every_shape(text: str) -> None:
    assert fields(text) == {"path": "a.py", "lines": 12, "kind": ".py, text"}


@given(st.lists(st.fixed_dictionaries({"name": st.text('ab, "1', max_size=5), "line": st.integers(0, 99)}), min_size=2))
def test_records_are_read_as_the_history_shows_them(rows: list[dict[str, Any]]) -> None:
    rows = rows * 8
    messages: list[BaseMessage] = [
        HumanMessage("q"),
        AIMessage("", tool_calls=[{"name": "symbols", "args": {}, "id": "call_1"}]),
        result(json.dumps(rows), 1, name="symbols"),
    ]
    shown = HistoryCompression(dedupe=False).view(messages)[-1].text
    assert records(shown) == rows


@pytest.mark.parametrize("text", ["no such thing", "", "[1, 2]", '"text"', "[2]{a,b}"])
def test_what_is_no_record_gives_none(text: str) -> None:
    assert records(text) == []
    assert fields("plain words") == {}


# --- text ------------------------------------------------------------------------------------------------------------


def test_hits_and_numbered_lines_are_told_apart() -> None:
    text = "a/b.py:12: def f():\n   12| def f():\n... and 3 more\nc.md:3: # Title: more"
    assert [(hit.path, hit.line, hit.text) for hit in extract.hits(text)] == [
        ("a/b.py", 12, "def f():"),
        ("c.md", 3, "# Title: more"),
    ]
    assert extract.numbered([text]) == {12: "def f():"}


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ("def f(a, /, b: dict[str, int] = {}, *rest, c=(1, 2), **more) -> None:", ["a", "b", "*rest", "c", "**more"]),
        ("a.py:3: async def f(self, x: Callable[[int], str]): ...", ["x"]),
        ("def f(\n    cls,\n    a,\n)", ["a"]),
        ("def f()", []),
        ("class C", None),
        ("def f(a, b", None),
        ("def f(a b)", None),
    ],
)
def test_parameters_of_a_signature(signature: str, names: list[str] | None) -> None:
    assert extract.parameters(signature) == names


def test_a_docstring_is_found_in_numbered_source() -> None:
    one = {3: "def f():", 4: '    """One line."""', 5: "    return 1"}
    two = {
        3: "class C(",
        4: "    Base,",
        5: "):",
        6: '    r"""Two',
        7: "    lines. More.",
        8: "",
        9: '    Not this."""',
    }
    assert extract.docstring_in(one, 3) == "One line."
    assert extract.docstring_in(two, 3) == "Two lines. More."
    assert extract.docstring_in({3: "x = 1"}, 3) is None


def test_methods_are_found_in_numbered_source() -> None:
    source = [
        "class C:",
        "    def a(self):",
        "        def inner(): ...",
        "    async def b(self): ...",
        "    def _c(self): ...",
    ]
    lines = dict(enumerate([*source, "def outside(): ..."], start=7))
    assert extract.methods_in(lines, 7) == ["a", "b"]


def test_imports_of_lines() -> None:
    lines = ["import os, sys as system", "from a.b import c  # why", "    from . import d", "x = 'import y'"]
    assert extract.imports_in(lines) == [".", "a.b", "os", "sys"]


@pytest.mark.parametrize(
    ("text", "count", "first"),
    [
        ("One. Two. Three.", 1, "One."),
        ("One. Two. Three.", 2, "One. Two."),
        ("e.g. this goes on. Then\n  it ends.", 1, "e.g. this goes on."),
        ("No end", 1, "No end"),
    ],
)
def test_first_sentences(text: str, count: int, first: str) -> None:
    assert extract.sentences(text, count) == first


def test_numbers_are_read_by_what_they_count() -> None:
    assert extract.number_of("a.md: 12 lines, 10 not blank", "lines") == 12
    assert extract.number_of('{"lines": 7}', "lines") == 7
    assert extract.number_of("lines of text", "lines") is None
    assert extract.total_lines("a.md, lines 1-1 of 30\n    1| x") == 30
    assert extract.listed(["a", "b", "c"]) == "`a`, `b` and `c`"
    assert extract.listed(["a"]) == "`a`"
