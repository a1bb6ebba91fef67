"""Tools that calculate: numbers, dates, units. They need no file."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from datetime import date
from typing import Any

from langchain_core.tools import ToolException

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "log": math.log,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}
_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_LIMIT = 10**15


class SumTools:
    """Arithmetic without running code."""

    def calculator(self, expression: str) -> str:
        """Work out an arithmetic expression: + - * / // % **, brackets, abs, ceil, floor, log, max, min, round, sqrt.

        Args:
            expression: The expression, such as "(1200 - 950) / 950 * 100".
        """
        if len(expression) > 300:
            raise ToolException("the expression is longer than 300 characters; work it out in parts")
        try:
            value = _value(ast.parse(expression.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ToolException(f"expression={expression!r} is not arithmetic that can be worked out") from None
        except (ArithmeticError, TypeError) as error:
            raise ToolException(f"expression={expression!r} has no value: {error}") from None
        return f"{expression.strip()} = {_number(value)}"

    def percent_change(self, before: float, after: float) -> str:
        """Give the change from one number to another in percent.

        Args:
            before: The first number.
            after: The second number.
        """
        if before == 0:
            raise ToolException("before=0: a change from nothing has no percentage")
        return f"{(after - before) / abs(before) * 100:+.2f} %"

    def date_difference(self, first: str, second: str) -> str:
        """Give the number of days between two dates, and the weekday of each.

        Args:
            first: One date, YYYY-MM-DD.
            second: The other date, YYYY-MM-DD.
        """
        one, two = _date(first), _date(second)
        return f"{(two - one).days} days, from {one:%A} {first} to {two:%A} {second}"

    def spell_out_number(self, number: int) -> str:
        """Write a whole number in English words.

        Args:
            number: The number, between -999999999999 and 999999999999.
        """
        if abs(number) >= 10**12:
            raise ToolException(f"number={number} is too large to be spelt out")
        return ("minus " if number < 0 else "") + _words(abs(number))

    def convert_bytes(self, size: int, unit: str = "KiB") -> str:
        """Convert a number of bytes into another unit: kB, MB, GB (thousands) or KiB, MiB, GiB (1,024s).

        Args:
            size: The number of bytes.
            unit: The unit to convert to.
        """
        scales = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        if unit not in scales:
            raise ToolException(f"unit={unit!r} is not known; use one of {', '.join(scales)}")
        return f"{size} bytes = {size / scales[unit]:.2f} {unit}"


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > 100 or abs(left) > 10**6):
            raise ArithmeticError("a power this large is not worked out")
        return _bounded(_BINARY[type(node.op)](left, right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        if function is not None:
            return _bounded(function(*(_value(argument) for argument in node.args)))
    raise ValueError("not arithmetic")


def _bounded(value: Any) -> Any:
    if isinstance(value, complex) or value != value or abs(value) > 10**30:
        raise ArithmeticError("the result is not a number of ordinary size")
    return value


def _number(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _LIMIT:
        return str(int(value))
    return str(round(value, 6)) if isinstance(value, float) else str(value)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ToolException(f"{text!r} is not a date; write it as YYYY-MM-DD") from None


def _words(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    scale, name = next((s, n) for s, n in _SCALES if number >= s)
    rest = f" {_words(number % scale)}" if number % scale else ""
    return f"{_words(number // scale)} {name}{rest}"
