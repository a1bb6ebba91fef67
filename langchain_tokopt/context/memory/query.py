"""What a turn asks for, and which of its words are new: whether it is worth looking back at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.context.memory.render import made_here, text_of
from langchain_tokopt.context.memory.salience import QUESTION_MARKS, distinct_terms
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.lexical import terms

# So many messages before a question are what it is about anyway; their words do not ask for older ones.
_NEAR: Final = 4
_SHORT: Final = 3  # terms
_LONGEST: Final = 4_000  # characters that are read of a message
_WORD: Final = re.compile(r"[\w']+")
_ASKING: Final = frozenset(
    """
    what who whom whose when where which why how is are was were do does did can could would should will has have had
    please tell show give find list remind compare explain summarize summarise repeat recap check look book send write
    draft add change update cancel use continue recommend suggest calculate describe name
    """.split()  # noqa: SIM905
)
_BACK: Final = re.compile(
    r"\b(?:that one|this one|the other|the (?:first|second|third|last|previous|earlier|same)|as before|last time|again"
    r"|earlier|previously|remember|you (?:said|told|mentioned|suggested)|i (?:said|told|mentioned)|we (?:said|agreed"
    r"|discussed|talked)|both of|either of|those|them|it|its)\b",
    re.IGNORECASE,
)
_LOOKS_BACK: Final = re.compile(
    r"\b(?:as before|last time|again|earlier|previously|remember|you (?:said|told|mentioned|suggested)"
    r"|i (?:said|told|mentioned)|we (?:said|agreed|discussed|talked)|the (?:same|previous|earlier))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Query:
    """What a turn asks for.

    Attributes:
        text: The sentences that ask for something; all of the text where none does.
        asks: Whether any does.
        near: Terms that stand directly before, which need no looking back.
    """

    text: str
    asks: bool = True
    near: frozenset[str] = frozenset()

    @property
    def terms(self) -> frozenset[str]:
        """The terms of the text."""
        return distinct_terms(self.text)


def newest_question(messages: Sequence[BaseMessage]) -> int | None:
    """Where the newest human message stands; `None` if there is none."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, HumanMessage) and not made_here(message):
            return index
    return None


def query_of(messages: Sequence[BaseMessage]) -> Query | None:
    """What the newest human message asks for; `None` if there is none, or it has no text.

    Where its text is short or points back ("and the other one?"), the answer before it belongs to the question.
    """
    at = newest_question(messages)
    if at is None:
        return None
    text = text_of(messages[at])[:_LONGEST]
    parts = [sentence for sentence in sentences(text) if sentence.strip()]
    if not parts:
        return None
    asking = [part for part in parts if asks(part)] or (parts if _only_terms(text) else [])
    asked = " ".join(part.strip() for part in asking or parts)
    said = " ".join(part for part in parts if part not in asking) if asking else ""
    before = [text_of(message)[:_LONGEST] for message in messages[max(0, at - _NEAR) : at] if not made_here(message)]
    near = frozenset[str]().union(*map(distinct_terms, (said, *before)))
    if len(distinct_terms(asked)) < _SHORT and _BACK.search(asked):
        answer = next((text_of(message) for message in reversed(messages[:at]) if isinstance(message, AIMessage)), "")
        # What the answer was about is then what is asked for: those words count, near as they are.
        return Query(f"{asked} {answer[:_LONGEST]}".strip(), bool(asking), frozenset())
    return Query(asked, bool(asking), near)


def asks(sentence: str) -> bool:
    """Whether a sentence asks for something: a question, a request, or a word that points to what was said before."""
    stripped = sentence.strip()
    if stripped.endswith(QUESTION_MARKS) or _LOOKS_BACK.search(stripped):
        return True
    first = _WORD.match(stripped)
    return first is not None and first[0].lower() in _ASKING


def _only_terms(text: str) -> bool:
    """Whether every word says something: a list of search words, or a language that is not known here."""
    return len(terms(text)) >= len(_WORD.findall(text))
