"""Whether a message only greets, thanks, praises or says goodbye: nothing that a tool could help with."""

from __future__ import annotations

import functools
import re
import unicodedata

from langchain_tokopt.tools.pleasantries import AROUND, ENGLISH, NAMED, OTHER_LANGUAGES

# Who writes more than this wants something.
_MOST_CHARACTERS = 200

_LONGEST_PHRASE = 60

_APOSTROPHES = re.compile("['\u2019\u02bc`\u00b4]")
_ACCENTS = re.compile("[\u0300-\u036f\u0640\u064b-\u0652]")  # on Latin and Cyrillic letters; vowels of Arabic
_SMILEYS = re.compile(r"(?<!\w)[:;=]-?[dp]\b")  # those made with letters
_DRAWN_OUT = re.compile(r"([a-z])\1{2,}")  # heyyy, soooo
_EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# A word, or what is written without spaces. To `\w` the vowel signs of Hindi are no letters.
_WORDS = re.compile(rf"[{_EAST_ASIAN}]+|(?:[^\W_{_EAST_ASIAN}]|[\u0900-\u0963])+")
# Between words, and between such characters.
_BORDER = re.compile(rf"^| |(?<=[{_EAST_ASIAN}])|$")
_NAME = re.compile(r"<(\w+)>")
_LITERAL = re.compile(r"[^()\[\]|]+")


def is_small_talk(text: str) -> bool:
    """Whether the text is made of small talk alone, in one of the languages that are written most.

    With a single word that could ask for something, it is not. A wrong yes leaves a model with the tools that are
    always there, and it has to search; a wrong no costs a few tokens.
    """
    if len(text) > _MOST_CHARACTERS:
        return False
    said = _spelled(text)
    borders = sorted({found.start() for found in _BORDER.finditer(said)})
    talk, around = _patterns()
    # How far the text is made of phrases, and whether one of these says something.
    reached = {(0, False)}
    for border in borders:
        for pattern, says in ((talk, True), (around, False)):
            at = border + said.startswith(" ", border)
            before = [earlier for earlier in (False, True) if (border, earlier) in reached]
            if before and pattern.match(said, at):
                ends = [end for end in borders if at < end <= at + _LONGEST_PHRASE and pattern.fullmatch(said, at, end)]
                reached.update((end, says or earlier) for end in ends for earlier in before)
    return (len(said), True) in reached


def _spelled(text: str) -> str:
    """The words of a text as they are compared, with a space between them."""
    apart = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text)).casefold()
    whole = unicodedata.normalize("NFC", _ACCENTS.sub("", apart)).replace("\u0131", "i")  # Turkish has two letters i
    return " ".join(_WORDS.findall(_DRAWN_OUT.sub(r"\1", _SMILEYS.sub(" ", whole))))


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What is small talk, and what goes with it. Made at the first message."""
    return _any_of(ENGLISH + OTHER_LANGUAGES), _any_of(AROUND)


def _any_of(phrases: str) -> re.Pattern[str]:
    given = [phrase.strip() for phrase in re.split(r"[,\n]", phrases)]
    return re.compile("|".join(_expression(phrase) for phrase in given if phrase))


def _expression(phrase: str) -> str:
    """A phrase as a regular expression."""
    named = _NAME.sub(lambda name: NAMED[name[1]], phrase)
    spelled = _LITERAL.sub(lambda literal: _with_ends(literal[0]), named)
    return spelled.replace("(", "(?:").replace("[", "(?:").replace("]", ")?")


def _with_ends(literal: str) -> str:
    return (
        f"{' ' * literal.startswith(' ')}{_spelled(literal)}{' ' * (literal.endswith(' ') and not literal.isspace())}"
    )
