"""What two similar questions must have in common before one may be answered with the other's answer.

Embeddings hardly see a changed number, a "not" or a name: "transfer 50 EUR to Anna" and "transfer 500 EUR to Emma" are
near neighbours. This guard reads the words. It is lexical and made for English; it can only refuse, so what it does
not understand is left to the decision that asks it.

A refusal costs one call of the model and a wrong answer costs trust, so in doubt it refuses: "can't I pay by card" is
not answered with the answer to "can I pay by card", though English often means the same by both. What only wraps a
question ("I'm not sure how to ...", "..., isn't it?") is no negation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from langchain_tokopt.cache.reading import Prepared, lexicon, opposites, prepare
from langchain_tokopt.cache.reading.amounts import Amounts
from langchain_tokopt.cache.reading.roles import Role

__all__ = ["Prepared", "difference", "needs_context", "prepare"]

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_POINTING = (
    "it its they them their theirs he him his she her hers that this those these there then one ones same other others "
    "another again more else instead continue previous above below former latter first second third fourth last next "
    "yes no yep yeah nope ok okay sure correct right exactly go why"
)
_POINTERS = frozenset(_POINTING.split())
_OPENERS = ("and ", "or ", "but ", "so ", "also ", "then ", "what about", "how about", "what if", "and\u2026")
_MOVED = 4  # words of a block that is looked for at another place


def needs_context(text: str) -> bool:
    """Whether a message reads as a follow-up ("yes", "and the second one?") that means nothing by itself."""
    lowered = text.strip().lower()
    words = _WORD.findall(lowered)
    if len(words) < 4 and (lowered.isascii() or len(lowered) < 16):
        return True
    return lowered.startswith(_OPENERS) or any(word in _POINTERS for word in words)


def difference(one: Prepared | str, other: Prepared | str) -> str | None:
    """What forbids to answer `one` with the answer to `other`, `None` if nothing does.

    "numbers", "units", "negation", "quoted text", "names", "opposites", "order", "question word", or the name of a
    closed class such as "months". The same both ways round. Never raises, whatever the texts are.
    """
    a = prepare(one) if isinstance(one, str) else one
    b = prepare(other) if isinstance(other, str) else other
    if a is b or (a.text == b.text and a.rest == b.rest):
        return None
    if a.rest != b.rest:
        return "what follows"
    if numbers_differ(a.amounts, b.amounts):
        return "numbers"
    if units_differ(a.amounts, b.amounts):
        return "units"
    if negation_differs(a, b):
        return "negation"
    if quotes_differ(a, b):
        return "quoted text"
    odd = odd_class(a, b)
    if odd is not None:
        return odd
    if names_differ(a, b):
        return "names"
    if opposed(a, b):
        return "opposites"
    if swapped(a, b):
        return "order"
    if a.asks != b.asks and a.asks in lexicon.ASKS_FOR and b.asks in lexicon.ASKS_FOR:
        return "question word"
    return None


def numbers_differ(a: Amounts, b: Amounts) -> bool:
    """Whether they name other numbers, or the same in another order; "one" may be a number or a pronoun."""
    return a.numbers != b.numbers and a.with_one != b.with_one and a.numbers != b.with_one and a.with_one != b.numbers


def units_differ(a: Amounts, b: Amounts) -> bool:
    """Whether a number counts something else, or both name units of one dimension and not the same."""
    if a.counted != b.counted and len(a.counted) == len(b.counted):
        for ours, theirs in zip(a.counted, b.counted, strict=True):
            if ours == theirs:
                continue
            said = ours or theirs
            # "under 18" is "under 18 years old", but 15 is not 15 %.
            if (ours is not None and theirs is not None) or (
                said is not None and said[0] not in ("time", "clock", "currency")
            ):
                return True
    return a.units != b.units and any(_classes_that_differ(a.units, b.units))


def _classes_that_differ(ours: frozenset[tuple[str, str]], theirs: frozenset[tuple[str, str]]) -> Iterable[str]:
    """Classes of which both have members, and not the same."""
    mine = {name for name, _ in ours - theirs}
    others = {name for name, _ in theirs - ours}
    for name in sorted(mine | others):
        if any(name == has for has, _ in ours) and any(name == has for has, _ in theirs):
            yield name


def negation_differs(a: Prepared, b: Prepared) -> bool:
    """Whether one denies more than the other; "not available" denies as much as "unavailable"."""
    return a.negations != b.negations and (
        a.negations + len(_denials(a, b)) != b.negations + len(_denials(b, a)) or not (a.denied or b.denied)
    )


def _denials(a: Prepared, b: Prepared) -> frozenset[str]:
    """Words of `b` that `a` has with an opposing prefix."""
    return (a.denied & b.stems) - b.denied - a.stems if a.denied else a.denied


def quotes_differ(a: Prepared, b: Prepared) -> bool:
    """Whether one quotes what the other does not have, in quotation marks or without."""
    return a.quoted != b.quoted and not (_holds(b, a.quoted) and _holds(a, b.quoted))


def _holds(text: Prepared, quoted: tuple[str, ...]) -> bool:
    spaced = f" {' '.join(text.words)} "
    for part in quoted:
        words = _WORD.findall(part)
        if part not in text.quoted and (f" {' '.join(words)} " not in spaced if words else part not in text.text):
            return False
    return True


def names_differ(a: Prepared, b: Prepared) -> bool:
    """Whether one names something that the other's words do not hold, or a preposition leads to different things."""
    if not (a.names <= b.stems and b.names <= a.stems):
        return True
    if not (a.identifiers <= b.vocabulary and b.identifiers <= a.vocabulary):
        return True
    if a.slots == b.slots:
        return False
    for preposition in {preposition for preposition, _ in a.slots} & {preposition for preposition, _ in b.slots}:
        ours, theirs = ({word for lead, word in text.slots if lead == preposition} for text in (a, b))
        if ours.isdisjoint(b.stems) and theirs.isdisjoint(a.stems):
            return True
    return False


def odd_class(a: Prepared, b: Prepared) -> str | None:
    """The closed class of which they name different members, `None` if there is none."""
    if a.entities != b.entities:
        return min(a.entities ^ b.entities).partition(":")[0]
    if a.kinds != b.kinds and a.kinds and b.kinds:
        ours, theirs = ({(m.partition(":")[0], m) for m in kinds} for kinds in (a.kinds, b.kinds))
        for name in _classes_that_differ(frozenset(ours), frozenset(theirs)):
            return name
    return None


def opposed(a: Prepared, b: Prepared) -> bool:
    """Whether one has the opposite of a word: "enable" and "disable", "lock" and "unlock", "log in" and "log out"."""
    mine, others = a.stems - b.stems, b.stems - a.stems
    if mine and others:
        known = opposites.opposites()
        for word in mine:
            against = known.get(word)
            if against is not None and not against.isdisjoint(others):
                return True
    if a.negations == b.negations and (_denials(a, b) or _denials(b, a)):
        return True
    if a.particles != b.particles:
        for verb, particle in a.particles - b.particles:
            if (verb, opposites.PARTICLES[particle]) in b.particles - a.particles:
                return True
    return any(_before_and_after(x, y) for x in a.roles for y in b.roles)


def _before_and_after(x: Role, y: Role) -> bool:
    """ "Before" against "after", unless the sides are exchanged, too ("eat before work", "work after eating")."""
    if {x.connector, y.connector} != {"before", "after"}:
        return False
    return set(x.left).isdisjoint(y.right) or set(x.right).isdisjoint(y.left)


def swapped(a: Prepared, b: Prepared) -> bool:
    """Whether two things have exchanged their places: "from Paris to London", "from London to Paris"."""
    for x in a.roles:
        for y in b.roles:
            if x.connector == y.connector and _exchanged(x, y):
                return True
    if len(a.words) != len(b.words) or a.content_set != b.content_set or a.words == b.words:
        return False
    ours, theirs = (tuple([lexicon.PRONOUNS.get(word, word) for word in text.words]) for text in (a, b))
    return ours != theirs and Counter(ours) == Counter(theirs) and _blocks_exchanged(ours, theirs)


def _exchanged(x: Role, y: Role) -> bool:
    """Whether what follows one connector stands before the other, on both sides."""
    if not (x.right and y.right):
        return False
    came, went = x.right[0], y.right[0]
    return came in y.left and went in x.left and came not in (*x.left, *y.right) and went not in (*y.left, *x.right)


def _blocks_exchanged(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether `ours` is p X c Y s and `theirs` p Y c X s, with a middle c that is not merely "and" or "or"."""
    start, end = 0, len(ours)
    while start < end and ours[start] == theirs[start]:
        start += 1
    while end > start and ours[end - 1] == theirs[end - 1]:
        end -= 1
    one, other = ours[start:end], theirs[start:end]
    size = len(one)
    for x in range(1, min(_MOVED, size) + 1):
        for y in range(1, min(_MOVED, size - x - 1) + 1):
            middle = one[x : size - y]
            if one[:x] == other[size - x :] and one[size - y :] == other[:y] and middle == other[y : size - x]:
                return _weighs(one[:x]) and _weighs(one[size - y :]) and not lexicon.SYMMETRIC.issuperset(middle)
    return False


def _weighs(block: tuple[str, ...]) -> bool:
    return any(word not in lexicon.STOP_WORDS or word in lexicon.PRONOUNS for word in block)
