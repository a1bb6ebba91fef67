"""Small edits of a question that change its answer: another number, a "not" more or less, an opposite, a name ...

The words that are put in are not taken from the lists that the guard of the cache reads with. Months, weekdays, units
and currencies are closed classes, so their lists cannot differ. Opposites come in two kinds, because a list of words
stands or falls with what it lacks: "opposite" are common pairs, most of which any such list has, and "rare_opposite"
are pairs that the guard's list does not have.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Edit = Callable[[str, random.Random], "str | None"]

_NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_MONTHS_IN_ORDER = "january february march april may june july august september october november december"
_MONTHS = tuple(_MONTHS_IN_ORDER.split())
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = (
    ("km", "miles"),
    ("kilometers", "miles"),
    ("meters", "feet"),
    ("celsius", "fahrenheit"),
    ("dollars", "euros"),
    ("usd", "eur"),
    ("gb", "mb"),
)
_TIMES = (("hours", "minutes"), ("days", "weeks"), ("months", "years"), ("minutes", "seconds"))  # after a number only
_COUNTED = "(?:" + "|".join(f"(?<={word} )" for word in (r"\d", "how many", *_NUMBER_WORDS)) + ")"
_FUNCTION = (
    "the and what one back this that then just even how have moving you they any some not for with from are was "
    "individual distinct his her its our your my all more less rather other want going"
)
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
_NAMES = ("Quentin", "Marisol", "Tadeusz", "Ingeborg", "Varnsdorf", "Tullamore", "Ostrowiec", "Kettleby", "Zephyrine")
_AUXILIARIES = (
    "is are was were do does did can could will would should has have must may might"  # of which a "not" follows
)
_AUXILIARY = re.compile(rf"\b({'|'.join(_AUXILIARIES.split())})\b(?! not\b|n't)", re.IGNORECASE)
_DENIED = re.compile(r"\b(\w+?)(?: not\b|n't\b|n\u2019t\b)", re.IGNORECASE)
_EXCHANGEABLE = re.compile(
    r"\b(?:(from )(\w{3,})( to )(\w{3,})|()(\w{3,})( before | after | into | instead of | than (?:a |the )?)(\w{3,}))\b"
)
_WHOLE = {"ca": "can", "wo": "will", "sha": "shall"}

COMMON_OPPOSITES = (
    "enable/disable open/close increase/decrease add/remove start/stop buy/sell send/receive accept/reject allow/block "
    "upload/download lock/unlock activate/deactivate before/after more/less higher/lower new/old cheap/"
    "expensive fast/slow large/small long/short early/late public/private internal/external minimum/maximum "
    "credit/debit deposit/withdraw incoming/outgoing show/hide read/write input/output encode/decode import/export "
    "include/exclude train/test single/multiple easy/difficult local/remote"
)
RARE_OPPOSITES = (
    "arrest/release praise/blame reward/punish gather/scatter loosen/tighten polite/rude sharp/blunt generous/stingy "
    "victory/defeat ally/enemy humid/arid peace/war vague/precise calm/nervous freeze/melt shrink/stretch "
    "transfer/keep order/return travel/stay work/rest help/hinder pay/owe replace/keep cancel/confirm choose/discard "
    "track/ignore verify/falsify use/avoid change/preserve eager/lazy streaming/batch shuffle/sort "
    "compress/inflate stolen/found broken/repaired pending/settled refund/charge verified/suspicious abroad/home"
)


def number(text: str, rng: random.Random) -> str | None:
    """Another number, in digits or as a word."""
    digits = list(re.finditer(r"(?<![\w.])\d+(?![\w.]*\w)", text))
    if digits:
        chosen = rng.choice(digits)
        value = int(chosen[0])
        return _put(
            text, chosen, str(value + rng.choice([1, 2, 3, 10]) if value < 10 else value * rng.choice([2, 3, 10]))
        )
    words = list(re.finditer(rf"\b(?:{'|'.join(_NUMBER_WORDS)})\b", text, re.IGNORECASE))
    if not words:
        return None
    chosen = rng.choice(words)
    return _put(text, chosen, rng.choice([word for word in _NUMBER_WORDS if word != chosen[0].lower()]))


def negation(text: str, rng: random.Random) -> str | None:
    """A "not" taken out, or one put after an auxiliary and what may stand between."""
    denied = _DENIED.search(text)
    if denied and denied[1].lower() in (*_AUXILIARIES.split(), *_WHOLE):
        return _put(text, denied, _WHOLE.get(denied[1].lower(), denied[1]))
    found = _AUXILIARY.search(text)
    if found is None:
        return None
    # "how do I pay" -> "how do I not pay"
    subject = re.compile(r"\s+(?:i|you|we|they|he|she|it|there|my \w+|the \w+|your \w+|this|that)\b", re.IGNORECASE)
    after = subject.match(text, found.end())
    place = after.end() if after else found.end()
    return f"{text[:place]} not{text[place:]}"


def opposite(text: str, rng: random.Random) -> str | None:
    """The opposite of a common word."""
    return _from_pairs(text, rng, COMMON_OPPOSITES)


def rare_opposite(text: str, rng: random.Random) -> str | None:
    """The opposite of a word, of a pair that the guard does not know."""
    return _from_pairs(text, rng, RARE_OPPOSITES)


def name(text: str, rng: random.Random) -> str | None:
    """Another name: for a capitalised word within a sentence."""
    found = [
        m for m in re.finditer(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", text) if m[0].lower() not in (*_MONTHS, *_WEEKDAYS)
    ]
    return _put(text, rng.choice(found), rng.choice(_NAMES)) if found else None


def date(text: str, rng: random.Random) -> str | None:
    """Another month or day of the week."""
    for words in (_WEEKDAYS, [month for month in _MONTHS if month not in ("may", "march")]):
        found = list(re.finditer(rf"\b(?:{'|'.join(words)})\b", text, re.IGNORECASE))
        if found:
            chosen = rng.choice(found)
            return _put(text, chosen, _like(rng.choice([w for w in words if w != chosen[0].lower()]), chosen[0]))
    return None


def unit(text: str, rng: random.Random) -> str | None:
    """Another unit or currency of the same dimension."""
    pairs = [(a, b, "") for pair in _UNITS for a, b in (pair, pair[::-1])]
    pairs += [(a, b, _COUNTED) for pair in _TIMES for a, b in (pair, pair[::-1])]
    rng.shuffle(pairs)
    for one, other, before in pairs:
        found = re.search(rf"{before}\b{one}\b", text, re.IGNORECASE)
        if found and not re.search(rf"\b{other}\b", text, re.IGNORECASE):
            return _put(text, found, _like(other, found[0]))
    return None


def order(text: str, rng: random.Random) -> str | None:
    """What stands on both sides of "to" (after "from"), "before", "than" ... exchanged."""
    found = _EXCHANGEABLE.search(text)
    if found is None:
        return None
    before, one, between, other = (part for part in found.groups() if part is not None)
    if one.lower() in _FUNCTION_WORDS or other.lower() in _FUNCTION_WORDS:
        return None
    return _put(text, found, f"{before}{other}{between}{one}")


EDITS: dict[str, Edit] = {
    "number": number,
    "negation": negation,
    "opposite": opposite,
    "rare_opposite": rare_opposite,
    "name": name,
    "date": date,
    "unit": unit,
    "order": order,
}


def edits(text: str, rng: random.Random) -> dict[str, str]:
    """Edited texts by kind of edit, for each kind that finds something to edit."""
    found = {kind: edit(text, rng) for kind, edit in EDITS.items()}
    return {kind: edited for kind, edited in found.items() if edited is not None and edited != text}


def _from_pairs(text: str, rng: random.Random, listed: str) -> str | None:
    pairs = [tuple(pair.split("/")) for pair in listed.split() if "/" in pair]
    sites = []
    for pair in pairs:
        for one, other in (pair, pair[::-1]):
            sites += [(match, other) for match in re.finditer(rf"\b{one}\b", text, re.IGNORECASE)]
    if not sites:
        return None
    match, other = rng.choice(sites)
    return _put(text, match, _like(other, match[0]))


def _put(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def _like(word: str, example: str) -> str:
    return word.capitalize() if example[0].isupper() else word
