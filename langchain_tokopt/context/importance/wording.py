"""What a message's wording says about its weight: instructions, decisions, errors, facts, small talk, identifiers.

All patterns are for English and for what programs print. In other languages the other signals decide (role, position,
references, numbers, length). Every pattern takes linear time.
"""

from __future__ import annotations

import re
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
_LOUD: Final = re.compile(r"\b(?:ALWAYS|NEVER|MUST|IMPORTANT|DO NOT|REQUIRED)\b")
_DECISION: Final = re.compile(
    r"\b(?:decided|decision|going with|we(?:'ll| will) (?:use|go|do|take|keep)|let'?s (?:use|go with|do|keep|take)"
    r"|i(?:'ll| will) (?:take|use|go with)|chose|chosen|agreed|agree on|settled on|approved?|confirm(?:ed|s)?"
    r"|the plan is|root cause|the (?:fix|bug|problem|issue|cause|solution) (?:is|was)|go ahead|signed up|booked)\b",
    re.IGNORECASE,
)
_ERROR: Final = re.compile(
    r"\bTraceback \(most recent|^E   |^[\w.]*(?:Error|Exception): "
    r"|^(?:\S+: )?(?:[Ee]rror|ERROR|fatal|FATAL|panic)\b ?[:!\[]"
    r"|\b[1-9]\d* (?:failed|errors?)\b|^FAILED\b|\b(?:command not found|No such file or|Permission denied)\b"
    r"|<returncode>[1-9]|^(?:exit|return) ?code:? [1-9]",
    re.MULTILINE,
)
_NUMBER: Final = re.compile(r"\d+")
_DATE: Final = re.compile(
    r"\b(?:19|20)\d\d\b|\b\d{1,2}[:/.\-]\d{1,2}\b|\b(?:january|february|march|april|june|july|august|september|october"
    r"|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|yesterday|tomorrow|tonight|today"
    r"|weekend|(?:last|next|this|past) (?:week|month|year|night|summer|winter|spring|fall|autumn|time)"
    r"|(?:days?|weeks?|months?|years?) ago|birthday|anniversary)\b",
    re.IGNORECASE,
)
# A capital within a sentence: "with Ines", not "So".
_PROPER: Final = re.compile(r"(?<=[a-z,;] )[A-Z][\w'\-]*")
_QUOTED: Final = re.compile(r"[\"\u201c\u201d`][^\"\u201c\u201d`\n]{2,80}[\"\u201c\u201d`]")
_OWN: Final = re.compile(r"\b(?:my|our|mine|ours|i've|i'm|i am|i was|i have|i had|we've|we're)\b", re.IGNORECASE)
_DONE: Final = re.compile(
    r"\b(?:i|we|he|she|they|it)(?:'ve| have| had| has| just| also)? (?:[a-z]{2,}ed|went|got|made|took|bought|met|saw"
    r"|won|found|began|started|gave|found|read|ran|built|wrote|did|was|were)\b",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_LONGEST_SMALL_TALK: Final = 12
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


def instructs(text: str) -> bool:
    """Whether it says what is to be done from now on, or never."""
    return _INSTRUCTION.search(text) is not None or _LOUD.search(text) is not None


def decides(text: str) -> bool:
    """Whether it tells of a decision, an agreement or a finding."""
    return _DECISION.search(text) is not None


def fails(text: str) -> bool:
    """Whether a program's output tells of an error."""
    return _ERROR.search(text) is not None


def facts(text: str) -> tuple[int, int, int, int, int]:
    """How many numbers, dates, proper names, quoted words, and things told of oneself or done."""
    return (
        len(_NUMBER.findall(text)),
        len(_DATE.findall(text)),
        len(_PROPER.findall(text)),
        len(_QUOTED.findall(text)),
        len(_OWN.findall(text)) + len(_DONE.findall(text)),
    )


def is_small_talk(text: str) -> bool:
    """Whether it is short and made of greetings, thanks and agreement only; an empty text is."""
    if len(text) > 200:
        return False
    found = _WORD.findall(text.lower().replace("\u2019", "'"))
    return len(found) <= _LONGEST_SMALL_TALK and not any(c.isdigit() for c in text) and all(w in _SMALL for w in found)
