"""What can be read off the words of a question: numbers, units, negations, names, members of closed classes, roles.

A question is read once (`prepare`) and compared often. Reading never fails and takes time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from langchain_tokopt.cache.reading import lexicon
from langchain_tokopt.cache.reading.amounts import NO_AMOUNTS, SIGNS, Amounts, amounts
from langchain_tokopt.cache.reading.naming import names_and_identifiers
from langchain_tokopt.cache.reading.roles import Role, particles, roles, slots
from langchain_tokopt.cache.reading.words import (
    ASKING,
    ASKS,
    CONNECTS,
    CONTENT,
    COUNTS,
    DENIES,
    LEADS,
    MEMBER,
    PARTICLE,
    PREFIXED,
    UNIT,
    Word,
    look_up,
    members,
)

# Longer than any embedder reads. What comes after it is compared as it stands.
_READ_CHARACTERS = 8_000
_TRIGRAM_BITS = 4_096

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_QUOTED = re.compile(
    r"\"([^\"\n]+)\"|\u201c([^\u201c\u201d\n]+)\u201d|\u00ab([^\u00ab\u00bb\n]+)\u00bb|`([^`\n]+)`"
    r"|(?:^|(?<=[\s(]))'([^'\n]+)'(?=$|[\s).,;:!?])"
)
_AMERICA = re.compile(r"\bUS\b|\bU\.S\.")
_MARK = re.compile("[\"'`\u201c\u00ab]")
_C_LANGUAGE = re.compile(r"\bc(?:\+\+|#)")
_AUXILIARY = (
    "is are was were do does did can could will would shall should may might must has have am isn't aren't wasn't "
    "won't don't doesn't didn't can't couldn't"
)
_AUXILIARIES = frozenset(_AUXILIARY.split())

# "I'm not sure how ..." asks "how ..."; "it is open, isn't it?" asks "is it open?".
_ASK = r"(?:how|what|where|when|which|who|why|if|whether)\b"
_IDLE_NEGATION = re.compile(
    rf"\bnot (?:quite |really |entirely |so )?sure (?:about )?{_ASK}"
    rf"|\b(?:do not|don't|dont|did not|didn't) (?:really |quite )?(?:know|understand|see|remember|get) {_ASK}"
    r"|\b(?:cannot|can not|can't|cant|could not|couldn't|unable to) "
    rf"(?:figure out|find out|find|work out|see|tell) {_ASK}"
    rf"|\bno (?:idea|clue) (?:about )?{_ASK}"
    r"|\bnot mistaken\b|\b(?:don't|dont|do not) (?:mind|worry)\b"
)
_TAG_QUESTION = re.compile(
    r",\s*(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have)n't\s+"
    r"(?:it|that|they|he|she|you|i|we|there)\s*[?.!]*\s*\Z"
)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A question, read.

    Attributes:
        text: What was read.
        rest: What was too long to be read.
        words: In their order, lower case, without "'s".
        stems: Of all words.
        content: Stems of the words that carry content, in their order.
        content_set: The same as a set.
        amounts: Numbers and what they count.
        negations: How many words deny something.
        quoted: What stands in quotation marks, sorted.
        names: Stems of words that are written like names.
        identifiers: Words of addresses, paths, identifiers.
        vocabulary: All words as a set.
        entities: "class:member" of closed classes that count on one side alone.
        kinds: "class:member" of closed classes that count if both sides have one.
        denied: Stems of words that stand here with an opposing prefix ("lock" for "unlock").
        particles: ("log", "in") for "log in".
        slots: ("from", "paris") for "from Paris".
        roles: What stands around connectors.
        asks: The first question word, `None` if there is none.
    """

    text: str
    rest: str
    words: tuple[str, ...]
    stems: frozenset[str]
    content: tuple[str, ...]
    content_set: frozenset[str]
    amounts: Amounts
    negations: int
    quoted: tuple[str, ...]
    names: frozenset[str]
    identifiers: frozenset[str]
    vocabulary: frozenset[str]
    entities: frozenset[str]
    kinds: frozenset[str]
    denied: frozenset[str]
    particles: frozenset[tuple[str, str]]
    slots: frozenset[tuple[str, str]]
    roles: tuple[Role, ...]
    asks: str | None
    _trigrams: int | None = field(default=None, repr=False)

    @property
    def trigrams(self) -> int:
        """Hashed trigrams of characters: one bit each of a number of 4,096 bits. Made when first asked for."""
        known = self._trigrams
        if known is None:
            known = _trigrams(" ".join(self.words))
            object.__setattr__(self, "_trigrams", known)
        return known


_NOTHING: frozenset[str] = frozenset()


def prepare(text: str) -> Prepared:
    """The question, read. Any string will do."""
    read, rest = text[:_READ_CHARACTERS], text[_READ_CHARACTERS:]
    plain = read.replace("\u2019", "'")
    lowered = plain.casefold()
    known = [look_up(word) for word in _WORD.findall(lowered)]
    words = tuple([word.text for word in known])
    roots = [word.stem for word in known]
    traits = 0
    for word in known:
        traits |= word.traits
    vocabulary = frozenset(words)
    content = tuple([word.stem for word in known if word.traits & CONTENT])
    entities, kinds, spelled = _classes(plain, lowered, words, traits)
    named = vocabulary.intersection(lexicon.units()) if traits & UNIT else _NOTHING
    names, identifiers = names_and_identifiers(plain, named.union(spelled) if spelled else named)
    return Prepared(
        text=read,
        rest=rest,
        words=words,
        stems=frozenset(roots),
        content=content,
        content_set=frozenset(content),
        amounts=amounts(lowered, words) if traits & COUNTS or SIGNS.search(lowered) is not None else NO_AMOUNTS,
        negations=_negations(lowered, words, known) if traits & DENIES else 0,
        quoted=_quoted(plain),
        names=names,
        identifiers=identifiers,
        vocabulary=vocabulary,
        entities=entities,
        kinds=kinds,
        denied=frozenset([word.base for word in known if word.base]) if traits & PREFIXED else _NOTHING,
        particles=particles(words, roots) if traits & PARTICLE else frozenset(),
        slots=slots(words, roots) if traits & LEADS else frozenset(),
        roles=roles(words, roots) if traits & CONNECTS else (),
        asks=_asks(words) if traits & ASKS else None,
    )


def _negations(lowered: str, words: Sequence[str], known: Sequence[Word]) -> int:
    count = sum(word.traits & DENIES != 0 for word in known)
    count -= len(_IDLE_NEGATION.findall(" ".join(words))) + len(_TAG_QUESTION.findall(lowered))
    return max(0, count)


def _quoted(text: str) -> tuple[str, ...]:
    if _MARK.search(text) is None:
        return ()
    return tuple(
        sorted(" ".join(part.split()).casefold() for match in _QUOTED.finditer(text) for part in match.groups() if part)
    )


def _trigrams(line: str) -> int:
    """One bit for each; for questions of a few dozen words as good as the set itself, at a tenth of its size."""
    coded = np.frombuffer(f"{line:3}".encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)
    bits = np.zeros(_TRIGRAM_BITS, np.uint8)
    bits[(coded[:-2] * 2741 + coded[1:-1] * 1103 + coded[2:] * 37) % _TRIGRAM_BITS] = 1
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _asks(words: Sequence[str]) -> str | None:
    for place, word in enumerate(words):
        if word not in ASKING:
            continue
        following = words[place + 1] if place + 1 < len(words) else ""
        if word in ("when", "where") and following and following not in _AUXILIARIES:
            continue  # "when I pay by card, why ..."
        if (word, following) in (("what", "time"), ("how", "come")):
            return "when" if word == "what" else "why"
        return "who" if word in ("whom", "whose") else word
    return None


# --- closed classes --------------------------------------------------------------------------------------------------


@cache
def _entity_classes() -> frozenset[str]:
    return frozenset(member.partition(":")[0] for member in lexicon.entities().values())


def _classes(
    plain: str, lowered: str, words: Sequence[str], traits: int
) -> tuple[frozenset[str], frozenset[str], list[str]]:
    """Entities, kinds, and the words that they were spelled with."""
    found: set[str] = set()
    spelled: list[str] = []
    if traits & MEMBER:
        _find_members(plain, words, found, spelled)
    if ("US" in plain or "U.S." in plain) and _AMERICA.search(plain) and not plain.isupper():
        found.add("places:america")
        spelled += ("us", "u", "s")
    if "+" in lowered or "#" in lowered:
        found.update(f"languages:{name}" for name in _C_LANGUAGE.findall(lowered))
    if not found:
        return _NOTHING, _NOTHING, spelled
    entities = frozenset([member for member in found if member.partition(":")[0] in _entity_classes()])
    return entities, frozenset(found) - entities, spelled


def _find_members(plain: str, words: Sequence[str], found: set[str], spelled: list[str]) -> None:
    known, firsts = members(), lexicon.first_of_two()
    skip = False
    for place, word in enumerate(words):
        if skip:
            skip = False
            continue
        if word in firsts and place + 1 < len(words):
            member = known.get(f"{word} {words[place + 1]}")
            if member is not None:
                found.add(member)
                spelled += (word, words[place + 1])
                skip = True
                continue
        member = known.get(word)
        if member is not None and (word not in lexicon.AMBIGUOUS_MONTHS or _is_month(plain, words, place)):
            found.add(member)
            spelled.append(word)


def _is_month(plain: str, words: Sequence[str], place: int) -> bool:
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    if before in lexicon.BEFORE_MONTH or before.isdigit() or after.isdigit():
        return True
    return place > 0 and words[place].capitalize() in plain and not plain.istitle()
