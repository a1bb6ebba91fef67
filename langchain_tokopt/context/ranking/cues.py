"""What a question asks for - a time, a number, a name - and which texts hold such a thing."""

from __future__ import annotations

import re
from collections.abc import Callable

_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_TIME = re.compile(
    rf"\b(?:yesterday|today|tomorrow|tonight|ago|last|next|since|recently|weekend|morning|evening|night|week|month|year"
    rf"|{_DAYS}|{_MONTHS}|\d{{4}}|\d{{1,2}}(?:st|nd|rd|th)|\d{{1,2}}:\d{{2}})\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million|once|twice"
    r"|couple|half|several)\b",
    re.IGNORECASE,
)
# A capital letter inside a sentence.
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]")

_ASKS_TIME = re.compile(r"\bwhen\b|\bhow long\b|\b(?:what|which) (?:date|day|month|year|time)\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(r"\bhow (?:many|much|long|old|often|far|big)\b", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\b(?:who|whom|whose|where|which|names?|called)\b", re.IGNORECASE)

Holds = Callable[[str], bool]


def _holds_time(text: str) -> bool:
    return _TIME.search(text) is not None


def _holds_number(text: str) -> bool:
    return _NUMBER.search(text) is not None


def _holds_name(text: str) -> bool:
    return _NAME.search(text) is not None


_CUES: tuple[tuple[re.Pattern[str], Holds], ...] = (
    (_ASKS_TIME, _holds_time),
    (_ASKS_NUMBER, _holds_number),
    (_ASKS_NAME, _holds_name),
)

_FIRST_PERSON = re.compile(r"\b(?:I|my|mine|me|we|our|us)\b")
_ENDS = re.compile(r"[.!?\u3002\uff01\uff1f\u061f]+|\n")


def answers_to(question: str) -> list[Holds]:
    """For each kind of thing that the question asks for, whether a text holds such a thing."""
    return [holds for asks, holds in _CUES if asks.search(question)]


def asks_about_oneself(question: str) -> bool:
    """Whether who asks speaks of himself."""
    return _FIRST_PERSON.search(question) is not None


def told_share(text: str) -> float:
    """Which share of the text tells and does not ask, 0 to 1: a question is seldom the answer to another."""
    start = asked = 0
    for end in _ENDS.finditer(text):
        if end[0][-1] in "?\uff1f\u061f":
            asked += end.end() - start
        start = end.end()
    return 1.0 - asked / max(1, len(text))
