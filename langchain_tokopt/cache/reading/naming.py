"""Words of a question that are written like names: capitals inside a sentence, addresses, identifiers, paths."""

from __future__ import annotations

import re

from langchain_tokopt.cache.reading import lexicon
from langchain_tokopt.cache.reading.stems import stem

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_NEW_SENTENCE = re.compile(r"[.!?:]\s|\n")
_FILE = re.compile(r"[\w-]+\.[a-z]{2,5}")
_ODD = re.compile(r"[@_/.]|[a-z][A-Z]")  # without one of these nothing is an identifier
_CAMEL = re.compile(r"[a-z][A-Z]")
_NOTHING: frozenset[str] = frozenset()
_TRIM = "([{<\"'`,;:!?>)]}."


def names_and_identifiers(text: str, known: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Stems of names, and words of identifiers as they are, all in lower case. `known` words are left out."""
    identifiers = _identifiers(text) if _ODD.search(text) is not None else _NOTHING
    if text.islower():
        return _NOTHING, identifiers
    return frozenset([stem(word) for word in _capitals(text) if word not in known and word not in identifiers]), (
        identifiers
    )


def _identifiers(text: str) -> frozenset[str]:
    found: set[str] = set()
    for chunk in text.split():
        if chunk.isalpha():
            if chunk[1:].islower() or chunk.islower() or not _CAMEL.search(chunk):
                continue
        else:
            chunk = chunk.strip(_TRIM) or chunk
            if not (
                "@" in chunk
                or "_" in chunk
                or "://" in chunk
                or (chunk.startswith(("/", "~/", "./", "../")) and len(chunk) > 2)
                or _FILE.fullmatch(chunk)
                or _CAMEL.search(chunk)
            ):
                continue
        found.update(_plain(word) for word in _WORD.findall(chunk))
    return frozenset(found)


def _capitals(text: str) -> set[str]:
    words = list(_WORD.finditer(text))
    raised = [place for place, word in enumerate(words) if word[0][0].isupper()]
    if not raised or sum(words[place][0].isupper() and len(words[place][0]) > 1 for place in raised) * 2 > len(words):
        return set()  # all in capitals: no word stands out
    found: set[str] = set()
    for place in raised:
        word = words[place][0]
        first = not place or _NEW_SENTENCE.search(text, words[place - 1].end(), words[place].start())
        if first and not (len(word) > 1 and word.isupper()):
            continue
        lowered = _plain(word)
        if lowered in lexicon.GENERIC_CAPITALS:
            continue
        if lowered not in lexicon.STOP_WORDS:
            found.add(lowered)
        elif "'" not in word:
            return set()  # "How Do I ..." is a title: no word stands out
    return found


def _plain(word: str) -> str:
    return word.casefold().removesuffix("'s")
