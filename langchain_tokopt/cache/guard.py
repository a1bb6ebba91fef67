"""What two similar questions must have in common before one may be answered with the other's answer.

Embeddings hardly see a changed number, a "not" or a name: "transfer 50 EUR to Anna" and "transfer 500 EUR to Emma" are
near neighbours. This guard reads the words. It is lexical and made for English; it can only refuse, so what it does
not understand is left to the threshold.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_WITH_DIGIT = re.compile(r"[^\s,;:!?()\[\]{}\"'<>]*\d[^\s;!?()\[\]{}\"'<>]*")
_QUOTED = re.compile(
    r"\"([^\"\n]+)\"|\u201c([^\u201d\n]+)\u201d|\u00ab([^\u00bb\n]+)\u00bb|`([^`\n]+)`|(?:^|(?<=[\s(]))'([^'\n]+)'(?=$|[\s).,;:!?])"
)
_IDENTIFIER = re.compile(r"[\w.+-]+@[\w.-]+|\w+://\S+|\w*[a-z][A-Z]\w*|\w+_\w+|/[\w./-]+|[\w-]+\.[a-z]{2,5}\b")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n+")

# Not "one", which is more often a pronoun than a number.
_NUMBERS = (
    "zero=0 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 thirteen=13 "
    "fourteen=14 fifteen=15 sixteen=16 seventeen=17 eighteen=18 nineteen=19 twenty=20 thirty=30 forty=40 fifty=50 "
    "sixty=60 seventy=70 eighty=80 ninety=90 hundred=100 thousand=1000 million=1000000 first=1st second=2nd third=3rd "
    "fourth=4th fifth=5th last=last"
)
_NUMBER_WORDS = dict(pair.split("=") for pair in _NUMBERS.split())
_NEGATIVE = (
    "not no never none nobody nothing neither nor cannot without isnt arent wasnt werent dont doesnt didnt cant "
    "couldnt wont wouldnt shouldnt hasnt havent hadnt unable except"
)
_NEGATIONS = frozenset(_NEGATIVE.split())
_POINTING = (
    "it its they them their theirs he him his she her hers that this those these there then one ones same other others "
    "another again more else instead continue previous above below former latter first second third fourth last next "
    "yes no yep yeah nope ok okay sure correct right exactly go why"
)
_POINTERS = frozenset(_POINTING.split())
_OPENERS = ("and ", "or ", "but ", "so ", "also ", "then ", "what about", "how about", "what if", "and\u2026")


def difference(one: str, other: str) -> str | None:
    """What forbids to answer `one` with the answer to `other` ("numbers", "names" ...), `None` if nothing does."""
    if _numbers(one) != _numbers(other):
        return "numbers"
    if _negations(one) != _negations(other):
        return "negation"
    if _quoted(one) != _quoted(other):
        return "quoted text"
    if not (_names(one) <= _vocabulary(other) and _names(other) <= _vocabulary(one)):
        return "names"
    return None


def needs_context(text: str) -> bool:
    """Whether a message reads as a follow-up ("yes", "and the second one?") that means nothing by itself."""
    lowered = text.strip().lower()
    words = _WORD.findall(lowered)
    if len(words) < 4 and (lowered.isascii() or len(lowered) < 16):
        return True
    return lowered.startswith(_OPENERS) or any(word in _POINTERS for word in words)


def _numbers(text: str) -> list[str]:
    """Numbers in their order, as digits or words, with what is glued to them ("10km", "v2", "3rd")."""
    found: list[tuple[int, str]] = []
    for match in _WITH_DIGIT.finditer(text):
        found.append((match.start(), _plain_number(match.group().rstrip(".,:").lower())))
    for match in _WORD.finditer(text.lower()):
        if match.group() in _NUMBER_WORDS:
            found.append((match.start(), _NUMBER_WORDS[match.group()]))
    return [number for _, number in sorted(found)]


def _plain_number(token: str) -> str:
    bare = re.sub(r"(?<=\d),(?=\d{3}\b)", "", token)
    if re.fullmatch(r"\d+\.\d+", bare):
        return format(Decimal(bare).normalize(), "f")
    return bare


def _negations(text: str) -> int:
    count = 0
    for word in _WORD.findall(text.lower().replace("\u2019", "'")):
        if word.endswith("n't") or word in _NEGATIONS:
            count += 1
    return count


def _quoted(text: str) -> Counter[str]:
    return Counter(
        " ".join(part.split()).casefold() for match in _QUOTED.finditer(text) for part in match.groups() if part
    )


def _names(text: str) -> set[str]:
    """Words that are written like names: capitals inside a sentence, addresses, identifiers, paths."""
    names = {word for match in _IDENTIFIER.finditer(text) for word in _vocabulary(match.group())}
    words = _WORD.findall(text)
    if sum(word.isupper() and len(word) > 1 for word in words) * 2 > len(words):
        return names  # all in capitals: no word stands out
    for sentence in _SENTENCE.split(text):
        for position, word in enumerate(_WORD.findall(sentence)):
            proper = word[0].isupper() and (position > 0 or (len(word) > 1 and word.isupper()))
            if proper and word.split("'")[0].split("\u2019")[0] not in ("I", "A"):
                names |= _vocabulary(word)
    return names


def _vocabulary(text: str) -> set[str]:
    return {word.casefold().removesuffix("'s").removesuffix("\u2019s") for word in _WORD.findall(text)}
