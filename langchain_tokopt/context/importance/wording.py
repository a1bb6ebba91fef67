"""What a message's wording says about its weight: instructions, decisions, errors, small talk, identifiers.

All patterns are for English and for what programs print. In other languages the other signals decide (role, position,
references, numbers, length). Every pattern takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

# Of a long text its head and its tail are read: what was asked, decided or went wrong stands there.
READ_HEAD: Final = 6_000
READ_TAIL: Final = 2_000
# Identifiers are looked for further in: a listing has them all over.
IDENTIFIERS_HEAD: Final = 48_000
IDENTIFIERS_TAIL: Final = 16_000

_NAME: Final = re.compile(r"[A-Za-z0-9_][\w\-]*(?:[./][\w\-]+)*")
_HUMP: Final = re.compile(r"[a-z][A-Z]")
_LONGEST_NAME: Final = 120

# Where a sentence or a clause that asks for something begins.
_START: Final = r"(?:^|[.!?;:\n(*]\s{0,4}|- |\bplease )"
_INSTRUCTION: Final = re.compile(
    _START + r"(?:(?:always|never) (?!here|there|happy|glad|a |give|mind|\w{1,30}(?:ing|ed)\b)"
    r"|(?:don'?t|do not) (?!hesitate|worry|be |give |you |we |let |quit|stop)"
    r"|remember(?:: ?| to | this\b| (?:that )?(?:i|my|we|our|all|every|the)\b)|make sure|ensure |avoid |keep in mind"
    r"|note that|from now on|use only|only (?:use|answer|reply|write|show|give|change|return)\b|stick to"
    r"|keep (?:your |the |all )?(?:answers?|repl(?:y|ies)|responses?|output)\b)"
    r"|\b(?:you|answers?|replies|output|code|results?|tests?) (?:must|shall|may not|should (?:always|never))\b"
    r"|\bmust(?:n't| not| never| always)\b|\bfrom now on\b|\b(?:and|also|to) make sure (?:that|the|to|it|all)\b"
    r"|\b(?:i|we) (?:prefer|want you to|need you to|insist|require)\b|\b(?:i am|i'm) allergic\b",
    re.IGNORECASE,
)
# Without one of these words none of that is said; a set is faster than the pattern.
_INSTRUCTING: Final = frozenset(
    """
    always never don't dont not remember sure ensure avoid mind note now only stick keep must mustn't shall should may
    prefer want need insist require allergic
    """.split()  # noqa: SIM905
)
_LOUD: Final = re.compile(r"\b(?:ALWAYS|NEVER|MUST|IMPORTANT|DO NOT|REQUIRED)\b")
_DECISION: Final = re.compile(
    r"\b(?:decided|decision|going with|we(?:'ll| will) (?:use|go|do|take|keep)"
    r"|let['\u2019]?s (?:use|go with|do|keep|take)|i(?:'ll| will) (?:take|use|go with)|chose|chosen|agreed"
    r"|agree on|settled on|approved?|confirm(?:ed|s)?"
    r"|the plan is|root cause|the (?:fix|bug|problem|issue|cause|solution) (?:is|was)|go ahead|signed up|booked)\b",
    re.IGNORECASE,
)
_DECIDING: Final = frozenset(
    """
    decided decision going we'll will let's lets i'll chose chosen agreed agree settled approve approved confirm
    confirmed confirms plan cause fix bug problem issue solution ahead signed booked
    """.split()  # noqa: SIM905
)
_ERROR: Final = re.compile(
    r"\bTraceback \(most recent|^E   |^[\w.]*(?:Error|Exception): "
    r"|^(?:\S+: )?(?:[Ee]rror|fatal|panic)\b ?[:!\[]|\b(?:ERROR|FATAL|CRITICAL)\b"
    r"|\b[1-9]\d* (?:failed|errors?)\b|^FAILED\b|\b(?:command not found|No such file or|Permission denied)\b"
    r"|<returncode>[1-9]|^(?:exit|return) ?code:? [1-9]",
    re.MULTILINE,
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_LONGEST_SMALL_TALK: Final = 200  # characters
_MOST_SMALL_TALK: Final = 12  # words
_SMALL: Final = frozenset(
    """
    hi hello hey hiya bye goodbye thanks thank thx cheers ok okay k yes yeah yep yup no nope nah sure fine great good
    nice cool awesome perfect wonderful excellent amazing lovely wow haha lol hmm ah oh alright right welcome please
    sorry got it that's thats it's sounds sound looks well done talk soon see you later take care have a day one
    evening night weekend morning afternoon how are doing going been is this that the to for so very much many again
    too really i'm im am me i we you're youre your my all and but just always glad happy anytime any time problem
    worries worry of course absolutely definitely indeed exactly understood noted understand will do ya u as
    """.split()  # noqa: SIM905 - one word a list entry would fill the screen
)


def read_part(text: str, head: int = READ_HEAD, tail: int = READ_TAIL) -> str:
    """The text, or its head and tail when it is longer than both."""
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def identifiers(text: str) -> dict[str, None]:
    """Names that a program gave, each once, in order: paths, ids, snake_case, camelCase, numbers with letters."""
    found: dict[str, None] = {}
    for name in _NAME.findall(read_part(text, IDENTIFIERS_HEAD, IDENTIFIERS_TAIL)):
        if 4 <= len(name) <= _LONGEST_NAME and _is_identifier(name):
            found[name] = None
    return found


def _is_identifier(name: str) -> bool:
    if len(name) >= 6 and ("_" in name or "/" in name or "." in name or _HUMP.search(name) is not None):
        return True
    return not name.isalpha() and any(c.isdigit() for c in name) and (any(c.isalpha() for c in name) or len(name) >= 5)


def words_of(text: str) -> list[str]:
    """The words of a text in order, in lower case; numbers are none."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def instructs(text: str, words: Collection[str]) -> bool:
    """Whether it says what is to be done from now on, or never. `words`: those of the text."""
    return (not _INSTRUCTING.isdisjoint(words) and _INSTRUCTION.search(text) is not None) or (
        _LOUD.search(text) is not None
    )


def decides(text: str, words: Collection[str]) -> bool:
    """Whether it tells of a decision, an agreement or a finding. `words`: those of the text."""
    return not _DECIDING.isdisjoint(words) and _DECISION.search(text) is not None


def fails(text: str) -> bool:
    """Whether a program's output tells of an error."""
    return _ERROR.search(text) is not None


def is_small_talk(text: str, words: Sequence[str]) -> bool:
    """Whether it is short and made of greetings, thanks and agreement only; an empty text is."""
    if len(text) > _LONGEST_SMALL_TALK or len(words) > _MOST_SMALL_TALK:
        return False
    return all(word in _SMALL for word in words) and not any(character.isdigit() for character in text)
