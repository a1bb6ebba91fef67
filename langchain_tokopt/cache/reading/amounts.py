"""Numbers in a question, in digits or in words, and the units that they count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from langchain_tokopt.cache.reading import lexicon

_DIGIT = re.compile(r"\d")
SIGNS = re.compile(r"[\d%$\u20ac\u00a3\u00a5\u20b9\u20bd]")  # of these at least one is in any amount without words
_QUANTITY = re.compile(
    r"([$\u20ac\u00a3\u00a5\u20b9\u20bd]?)([+-]?\d+(?:[.,]\d+)*)([^\W\d_]*|[%$\u20ac\u00a3\u00b0]+[a-z]?|km/h)"
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|%|[$\u20ac\u00a3\u00a5\u20b9\u20bd]")
_AROUND = "([{<\"'*_~,;:!?>)]}."
_DEGREES = {"\u00b0c": "celsius", "\u00b0f": "fahrenheit", "\u00b0": "degree"}
_ORDINAL_ENDINGS = ("st", "nd", "rd", "th")
_MODEL = re.compile(r"([a-z]+)-?(\d+)s?")  # "w-2", "W2s"
# "First" alone is more often an adverb ("activate it first").
_BEFORE_ORDINAL = frozenset(
    ["the", "a", "my", "your", "our", "his", "her", "its", "their", "every", "this", "that", "on"]
)
_BEFORE_UNIT = frozenset(["many", "per", "in", "to", "into"])  # "how many feet", "in feet"
_LONGEST = 30  # digits; a longer number is compared as it stands


@dataclass(frozen=True, slots=True)
class Amounts:
    """Numbers in their order.

    Attributes:
        numbers: As plain decimals; what is no plain number ("v2", "2024-05-01") as it is written.
        with_one: The same with each "one" as 1; the word is more often a pronoun.
        counted: What each of `numbers` counts, (what it measures, the unit); `None` if that is not said.
        units: All units that are named, with a number or without.
    """

    numbers: tuple[str, ...] = ()
    with_one: tuple[str, ...] = ()
    counted: tuple[tuple[str, str] | None, ...] = ()
    units: frozenset[tuple[str, str]] = frozenset()


NO_AMOUNTS = Amounts()


def amounts(lowered: str, words: Sequence[str]) -> Amounts:
    """The numbers and units of a text in lower case, whose words are `words`."""
    digits = _DIGIT.search(lowered) is not None
    if not digits and SPOKEN.isdisjoint(words):
        by_themselves = lexicon.units_by_themselves()
        all_units = lexicon.units()
        found = [
            all_units[word]
            for place, word in enumerate(words)
            if word in by_themselves or (place and word in all_units and words[place - 1] in _BEFORE_UNIT)
        ]
        if "%" in lowered:
            found.append(all_units["%"])
        found += [all_units[sign] for sign in "$\u20ac\u00a3\u00a5\u20b9\u20bd" if sign in lowered]
        return Amounts(units=frozenset(found)) if found else NO_AMOUNTS
    return _merged(_tokens(lowered) if digits else list(words))


SPOKEN = frozenset({"one", *lexicon.SMALL_NUMBERS, *lexicon.LARGE_NUMBERS, *lexicon.ORDINALS})

_Token = str | tuple[str, "tuple[str, str] | None"]  # a word, or a number in digits with its unit


def _tokens(lowered: str) -> list[_Token]:
    """Words, and numbers in digits with what is glued to them."""
    found: list[_Token] = []
    for chunk in lowered.split():
        if _DIGIT.search(chunk) is None:
            found.extend(_WORD.findall(chunk))
            continue
        bare = chunk.strip(_AROUND)
        amount, slash, rest = bare.partition("/")
        if slash and bare != "km/h" and rest.isalpha() and _DIGIT.search(amount) and not amount.isalnum():
            found += (_digits(amount), rest)
        else:
            found.append(_digits(bare))
    return found


def _digits(token: str) -> _Token:
    if len(token) > _LONGEST:
        return (token, None)
    match = _QUANTITY.fullmatch(token.replace(":00", ""))
    if match is None:
        model = _MODEL.fullmatch(token)
        return ("".join(model.groups()) if model else token.removesuffix("'s"), None)
    sign, number, suffix = match.groups()
    value = _plain(number)
    unit = lexicon.units()[sign] if sign else None
    if not suffix:
        return (value, unit)
    if suffix in _ORDINAL_ENDINGS:
        return (value, unit)
    if suffix in lexicon.MULTIPLIERS or (suffix == "m" and sign):
        return (_times(value, lexicon.MULTIPLIERS.get(suffix, 10**6)), unit)
    glued = lexicon.units().get(_DEGREES.get(suffix, suffix))
    return (value, unit or glued) if glued is not None else (token, unit)


def _plain(number: str) -> str:
    """A number as a plain decimal: "1,000" and "1000.0" are "1000"."""
    bare = number.replace(",", "") if _GROUPED.fullmatch(number.lstrip("+-")) else number
    if "," in bare or bare.count(".") > 1:
        return bare  # a version, an address, another country's way of writing
    return _written(Decimal(bare))


def _written(value: Decimal) -> str:
    return format(value.normalize(), "f") if value else "0"


def _times(value: str, factor: int) -> str:
    try:
        return _written(Decimal(value) * factor)
    except ArithmeticError:
        return f"{value}x{factor}"


def _merged(items: Sequence[_Token]) -> Amounts:
    """Number words put together ("twenty-five", "2 million"), and each number with the unit after it."""
    numbers: list[str] = []
    with_one: list[str] = []
    counted: list[tuple[str, str] | None] = []
    units: set[tuple[str, str]] = set()
    all_units, by_themselves = lexicon.units(), lexicon.units_by_themselves()
    place, previous = 0, ""
    while place < len(items):
        item = items[place]
        value: str | None = None
        unit: tuple[str, str] | None = None
        after = place + 1
        if isinstance(item, tuple):
            value, unit = item
            while after < len(items) and isinstance(items[after], str) and items[after] in lexicon.LARGE_NUMBERS:
                value = _times(value, lexicon.LARGE_NUMBERS[str(items[after])])
                after += 1
        elif item in lexicon.ORDINALS:
            if previous in _BEFORE_ORDINAL and not (item == "second" and previous in ("a", "every")):
                value = lexicon.ORDINALS[item]
        elif item in lexicon.LARGE_NUMBERS and previous != "a":
            pass  # "several thousand"
        elif item in SPOKEN:
            value, after = _spoken(items, place)
        elif item in by_themselves or (item in all_units and previous in _BEFORE_UNIT):
            units.add(all_units[item])
        if value is None:
            previous = item if isinstance(item, str) else ""
            place = after
            continue
        if unit is None and after < len(items):
            following = items[after]
            if following == "us" and after + 1 < len(items):
                following = items[after + 1]
            unit = all_units.get(following) if isinstance(following, str) else None
        with_one.append(value)
        if item != "one" or after > place + 1 or unit is not None:
            numbers.append(value)
            counted.append(unit)
        if unit is not None:
            units.add(unit)
        previous = ""
        place = after
    return Amounts(tuple(numbers), tuple(with_one), tuple(counted), frozenset(units))


def _spoken(items: Sequence[_Token], place: int) -> tuple[str, int]:
    """The value of the number words from here on, and where they end."""
    total = current = 0
    after_large = False
    start = place
    while place < len(items):
        word = items[place]
        if not isinstance(word, str):
            break
        small = 1 if word == "one" else lexicon.SMALL_NUMBERS.get(word)
        if small is not None:
            joins = place == start or after_large or (0 < small < 10 and current % 10 == 0 and current % 100 >= 20)
            if not joins:
                break
            current += small
            after_large = False
        elif word == "hundred":
            current, after_large = max(1, current) * 100, True
        elif word in lexicon.LARGE_NUMBERS:
            total, current, after_large = total + max(1, current) * lexicon.LARGE_NUMBERS[word], 0, True
        elif not (word == "and" and after_large and place + 1 < len(items) and _is_small(items[place + 1])):
            break
        place += 1
    return str(total + current), place


def _is_small(item: _Token) -> bool:
    return isinstance(item, str) and (item == "one" or item in lexicon.SMALL_NUMBERS)
