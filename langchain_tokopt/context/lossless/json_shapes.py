"""JSON in the shape with the fewest tokens, when reading that shape back proves that nothing is lost.

Three shapes of one value:

- minified: `{"a":1,"b":[1,2]}`
- columns: an array of objects with equal keys as `{"columns":["id","name"],"rows":[[1,"Ada"],[2,"Bo"]]}`
- outline: `key: value` lines, indented; an array of equal objects is a header `users[2]{id,name}:` and one line for
  each row (close to TOON, https://github.com/toon-format/toon, but every compound that is not a table is plain JSON)

Nested objects of equal shape become dotted columns (`seats.economy`). What goes is whitespace between JSON's tokens
and the spelling of escapes in strings (`\\u00e9` is shown as the letter); values, their types, numbers digit by digit
and the order of keys stay. JSON that does not survive `json.loads` and `json.dumps` exactly (a key twice in one object,
`NaN`, `1.50`, `1e3`, `-0`) is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from langchain_tokopt.context.lossless.json_outline import from_outline, to_outline
from langchain_tokopt.context.lossless.json_tables import dumps, from_columns, to_columns
from langchain_tokopt.context.lossless.size import Size

# Above so many characters only whitespace is removed: building and reading back the other shapes costs too much.
STRUCTURE_LIMIT = 250_000


class _LeaveAloneError(ValueError):
    """The text is not JSON, or JSON that would not come back the same."""


def shorter_json(text: str, size: Size, min_tokens: int) -> str | None:
    """The text in its smallest shape, `None` when it is no JSON object or array or when less than `min_tokens` is won.

    `size` gives a text's tokens. Only a shape that reads back as exactly the same value is used.
    """
    try:
        value = parse(text)
    except (ValueError, RecursionError):
        return None
    best, best_size = None, size(text) - min_tokens + 1
    for shape in _shapes(value, len(text)):
        tokens = size(shape)
        if tokens < best_size and len(shape) < len(text):
            best, best_size = shape, tokens
    return best


def looks_like_json(text: str) -> bool:
    """Whether the text has the first and the last character of a JSON object or array."""
    stripped = text.strip()
    return stripped[:1] + stripped[-1:] in ("{}", "[]")


def parse(text: str) -> Any:
    """The value of a JSON object or array that `json.dumps` writes with the same numbers and the same keys again.

    Raises:
        ValueError: It is not JSON, or it would not come back the same.
        RecursionError: It is nested too deeply.
    """
    if not looks_like_json(text):
        raise _LeaveAloneError
    return json.loads(text, object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _LeaveAloneError
    return made


def _float(digits: str) -> float:
    number = float(digits)
    if repr(number) != digits:
        raise _LeaveAloneError
    return number


def _int(digits: str) -> int:
    if digits == "-0":
        raise _LeaveAloneError
    return int(digits)  # more than 4,300 digits: ValueError


def _constant(name: str) -> NoReturn:
    raise _LeaveAloneError(name)


def _shapes(value: Any, length: int) -> Iterator[str]:
    minified = dumps(value)
    yield minified
    # A value that has the columns shape already stays JSON: it could not be told from one of ours.
    if length > STRUCTURE_LIMIT or '"columns":[' in minified:
        return
    for write, read in ((to_columns, from_columns), (to_outline, from_outline)):
        try:
            shape = write(value)
            if dumps(read(shape)) == minified:
                yield shape
        except (ValueError, RecursionError):
            continue
