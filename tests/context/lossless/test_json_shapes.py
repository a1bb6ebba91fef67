"""JSON in fewer tokens, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples

from langchain_tokopt.context.lossless.json_outline import from_outline, to_outline
from langchain_tokopt.context.lossless.json_shapes import parse, shorter_json
from langchain_tokopt.context.lossless.json_tables import dumps, from_columns, to_columns
from tests.strategies import json_values

USERS = [{"id": n, "name": f"user {n}", "seats": {"window": n, "aisle": 2}} for n in range(3)]


def shorter(text: str) -> str | None:
    """The shape with the fewest characters."""
    return shorter_json(text, len, 1)


def read_back(text: str) -> list[str]:
    """Every value that the text may stand for, as JSON."""
    values = []
    for read in (json.loads, from_columns, from_outline):
        try:
            values.append(json.dumps(read(text)))
        except ValueError:
            continue
    return values


@examples(deadline=None, max_examples=300)
@given(json_values())
def test_what_is_shown_reads_back_as_the_same_value(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=4)):
        shape = shorter(text)
        if shape is not None:
            assert len(shape) < len(text)
            assert json.dumps(value) in read_back(shape)


@examples(deadline=None, max_examples=300)
@given(json_values())
def test_each_shape_reads_back_or_is_refused(value: Any) -> None:
    for write, read in ((to_columns, from_columns), (to_outline, from_outline)):
        try:
            back = read(write(value))
        except ValueError:
            continue
        if dumps(back) == dumps(value):
            assert json.dumps(back) == json.dumps(value)


def test_an_array_of_equal_objects_as_columns() -> None:
    assert to_columns({"users": USERS}) == (
        '{"users":{"columns":["id","name","seats.window","seats.aisle"],'
        '"rows":[[0,"user 0",0,2],[1,"user 1",1,2],[2,"user 2",2,2]]}}'
    )


def test_objects_as_an_outline() -> None:
    value = {
        "user": {"name": "Ada", "zip": "07920", "tags": ["a", "b"], "note": " padded", "x y": None},
        "seats": USERS,
        "empty": {},
        "on": True,
        "text": "true",
    }
    assert to_outline(value).split("\n") == [
        "user:",
        "  name: Ada",
        '  zip: "07920"',
        '  tags: ["a","b"]',
        '  note: " padded"',
        '  "x y": null',
        "seats[3]{id,name,seats.window,seats.aisle}:",
        "  0,user 0,0,2",
        "  1,user 1,1,2",
        "  2,user 2,2,2",
        "empty: {}",
        "on: true",
        'text: "true"',
    ]
    assert json.dumps(from_outline(to_outline(value))) == json.dumps(value)


def test_the_smallest_shape_is_taken() -> None:
    pretty = json.dumps({"numbers": [1, 2, 3]}, indent=4)
    assert shorter(pretty) == "numbers: [1,2,3]"
    assert shorter("[1,2,3]") is None
    # A counter for which brackets are cheap.
    assert shorter_json(pretty, lambda text: len(text) + (0 if "{" in text else 100), 1) == '{"numbers":[1,2,3]}'


def test_keys_stay_in_their_order() -> None:
    text = json.dumps([{"b": 1, "a": 2}, {"b": 3, "a": 4}] * 9, indent=2)
    shape = shorter(text)
    assert shape is not None
    assert json.dumps(json.loads(text)) in read_back(shape)
    mixed = json.dumps([{"b": 1, "a": 2}, {"a": 4, "b": 3}], indent=2)
    assert shorter(mixed) == '[{"b":1,"a":2},{"a":4,"b":3}]'


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2,                 "b": 3}',
        '{"a": NaN,                       "b": 3}',
        '{"a": -Infinity,                 "b": 3}',
        '{"a": 1.50,                      "b": 3}',
        '{"a": 1e3,                       "b": 3}',
        '{"a": 1E400,                     "b": 3}',
        '{"a": -0,                        "b": 3}',
        '{"a": 0.1234567890123456789012,  "b": 3}',
        '{"a": ' + "9" * 5000 + ',        "b": 3}',
        '{"a": 1,                         "b": 3',
        '"only a string",                       ',
        "[" * 100_000 + "]" * 100_000,
        "[1,   2,   3,   4] and more  [1,   2,  ",
        "",
    ],
)
def test_what_would_not_come_back_the_same_is_left_alone(text: str) -> None:
    assert shorter(text) is None


def test_large_integers_and_exact_floats_stay_digit_by_digit() -> None:
    text = '{"big":   123456789012345678901234567890,   "small":   1e-07,   "third":   0.1,   "neg":   -0.0}'
    assert shorter_json(text, len, 1) == "big: 123456789012345678901234567890\nsmall: 1e-07\nthird: 0.1\nneg: -0.0"


def test_escapes_are_shown_as_letters_unless_utf8_cannot_hold_them() -> None:
    assert shorter(r'{"a":"\u6f22\u5b57\u6f22\u5b57"}') == "a: 漢字漢字"
    assert dumps({"a": "é\ud800"}) == r'{"a":"\u00e9\ud800"}'


def test_control_characters_never_stand_bare() -> None:
    value = {"a": "one\ntwo", "b": "\x1b[0m", "c": "x\u2028y", "d": "\x00"}
    outline = to_outline(value)
    assert outline.count("\n") == 3
    assert from_outline(outline) == value


def test_a_value_with_columns_of_its_own_stays_json() -> None:
    text = json.dumps({"columns": ["a", "b"], "rows": [[1, 2], [3, 4]]}, indent=4)
    assert shorter(text) == '{"columns":["a","b"],"rows":[[1,2],[3,4]]}'


def test_of_very_long_json_only_whitespace_goes() -> None:
    value = [{"id": n, "name": f"user {n}"} for n in range(10_000)]
    assert shorter(json.dumps(value, indent=2)) == dumps(value)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:1", "a:\n    b: 1", "[2]{a}:\n  1", "[1]{a,b}:\n  1", '[1]{a}:\n  "x"y', "[x]{a}:", "a[1]: 1", '"a'],
)
def test_what_is_no_outline_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it
        from_outline(text)


@pytest.mark.parametrize("content", ['1,"rows":[]', '["a"],"rows":[[1,2]]', '["a","a.b"],"rows":[[1,2]]'])
def test_what_are_no_columns_is_refused(content: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it
        from_columns(f'{{"columns":{content}}}')


def test_only_objects_and_arrays_are_parsed() -> None:
    assert parse(' {"a": 1}\n') == {"a": 1}
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it
        parse("12")
