"""A text cut into sentences: in prose of most languages, lists, tables and code. Linear in the length of the text."""

from __future__ import annotations

import re

# Abbreviations that are followed by what they belong to, whatever letter that starts with.
_TITLES = frozenset(
    """
    adm approx art bzw ca capt cf ch col cmdr dr eds eq eqs fig figs gen gov hon lt maj mlle mm mme mr mrs ms mt nr op
    pp prof ref refs rep rev sec sen sgt sr sra st vgl viz vol vols vs z.b d.h u.a e.g i.e
    """.split()  # noqa: SIM905 - one word a list entry would fill the screen
)
# These may stand inside a sentence or end one.
_EITHER = frozenset(
    "al apr aug ave blvd bros co corp dec dept ed est etc feb inc jan jr jul jun ltd mar nov oct ph.d sep sept usw".split()  # noqa: SIM905, E501
)
# After these a number follows, or the sentence is over.
_BEFORE_NUMBERS = frozenset(("no", "nos", "p", "vol", "art", "sec", "fig", "eq", "ch"))
# A word with a capital letter that starts sentences and is no name.
_STARTERS = frozenset(
    """
    a after all also although an and as at before but by during each every for from he her his how however i if in it
    its many most my no on one our she since so some that the their then there these they this those though to we what
    when where which while who why with you your
    """.split()  # noqa: SIM905
)
_LONGEST_WORD = 24
_WRAPPED_FROM = 40

_STOPS = re.compile(r"[.!?\u2026\u061f\u0964]+|[\u3002\uff01\uff1f]+|\n")
_CLOSERS = re.compile("[\"'\\)\\]}\u2019\u201d\u00bb\u300d\u300f\uff09*_]*")
_SPACES = re.compile(r"\s*")
_FULL_WIDTH = frozenset("\u3002\uff01\uff1f")
_WORD_BEFORE = re.compile(r"[^\s(\[\"'\u201c\u2018\u00ab]*\Z")
_WORD_AFTER = re.compile(r"[^\W\d_]+")
_OPENERS = " \t\"'([{\u2018\u201c\u00ab\u00bf\u00a1*_"
_LIST_NUMBER = re.compile(r"\s*(?:\d{1,3}|[a-zA-Z])\Z")
_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)[^\n]*\n?", re.MULTILINE)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the white space behind it: joined together they are the text.

    A line of a list, of a table or of code is a sentence of its own, a fenced block of code is one as a whole, and so
    is text without any sign of an end. An abbreviation, an initial or a decimal number ends no sentence.
    """
    pieces: list[str] = []
    end = 0
    fences = list(_FENCE.finditer(text))
    for opening, closing in zip(fences[::2], fences[1::2], strict=False):
        pieces += _prose(text[end : opening.start()])
        pieces.append(text[opening.start() : closing.end()])
        end = closing.end()
    return pieces + _prose(text[end:])


def _prose(text: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for stop in _STOPS.finditer(text):
        if stop.start() < start:
            continue
        end = _end(text, start, stop)
        if end is not None:
            pieces.append(text[start:end])
            start = end
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def _end(text: str, start: int, stop: re.Match[str]) -> int | None:
    """Where the sentence ends, white space included, if it ends at this sign."""
    if stop[0] == "\n":
        behind = _spaces_behind(text, stop.start())
        return None if _is_wrapped(text, start, stop.start(), behind) else behind
    closed = _behind(_CLOSERS, text, stop.end())
    behind = _spaces_behind(text, closed)
    if stop[0][-1] in _FULL_WIDTH:
        return behind
    if behind == closed and behind < len(text):  # a decimal number, a file name, a method of an object
        return None
    if "\n" in text[closed:behind]:
        # The end of the line decides, unless the number of a list stands before it.
        return behind
    if stop[0] == "." and _goes_on(text, start, stop.start(), behind):
        return None
    following = text[behind : behind + 8].lstrip(_OPENERS)[:1]
    return None if following.islower() else behind


def _goes_on(text: str, start: int, at: int, behind: int) -> bool:
    """Whether the full stop at `at` belongs to an abbreviation, an initial or the number of a list."""
    if _LIST_NUMBER.match(text[max(start, at - 8) : at]) and at - start <= 8:
        return True
    found = _WORD_BEFORE.search(text[max(start, at - _LONGEST_WORD) : at])
    word = found[0] if found else ""
    folded = word.lower()
    if folded in _BEFORE_NUMBERS and text[behind : behind + 1].isdigit():
        return True
    if folded in _TITLES:
        return True
    if folded in _EITHER or (len(word) == 1 and word.isupper() and word != "I") or "." in word.strip("."):
        following = _WORD_AFTER.match(text[behind : behind + 8 + _LONGEST_WORD].lstrip(_OPENERS))
        return following is None or following[0].lower() not in _STARTERS
    return False


def _is_wrapped(text: str, start: int, at: int, behind: int) -> bool:
    """Whether a line of prose is broken here only because it is full."""
    line = text[max(start, text.rfind("\n", start, at) + 1) : at].rstrip()
    if len(line) < _WRAPPED_FROM or text.count("\n", at, behind) > 1 or behind - at > 1:
        return False
    return (line[-1].isalnum() or line[-1] in ",-") and text[behind : behind + 1].islower()


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where what the pattern matches at `at` ends."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _spaces_behind(text: str, at: int) -> int:
    """Where the white space at `at` ends, but for what indents the line after it."""
    end = _behind(_SPACES, text, at)
    line = text.rfind("\n", at, end)
    return end if line < 0 else line + 1
