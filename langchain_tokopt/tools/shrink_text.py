"""Descriptions in fewer tokens: without needless space, and cut where a sentence or a word ends."""

from __future__ import annotations

import re

from langchain_tokopt.lexical import words

# A description that would have to be cut to less is left out instead: two or three words say next to nothing.
LEAST_CHARS = 16

_SPACE = re.compile(r"\n|[ \t]{2}")
_BLANK_LINES = re.compile(r"\n{3,}")
_RUNS = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")
# After two abbreviations, which are common in what describes a parameter, the sentence goes on.
_SENTENCE_END = re.compile(r"""(?<!e\.g)(?<!i\.e)[.!?]["')\]]*(?=\s)|[。！？]|(?=\n)""")  # noqa: RUF001 - Chinese marks
_LOOSE_END = re.compile(r"[\s,;:(\[{\"'`-]+$")

_FILLERS = frozenset({"a", "an", "the", "of", "for"})
_MARKS = str.maketrans("", "", ".,;'\"`")


def without_needless_space(text: str) -> str:
    """The text without trailing space, blank lines in a row, and runs of space; how lines are nested stays visible.

    Each level of indentation becomes one space. A text with a fenced block only loses trailing space: inside of it
    every space may matter.
    """
    text = text.strip()
    if not _SPACE.search(text):
        return text
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    if "```" in text:
        return text
    text = _RUNS.sub(" ", _BLANK_LINES.sub("\n\n", text))
    first, *rest = text.split("\n")
    if not rest:
        return first
    indents = {len(line) - len(line.lstrip()) for line in rest if line}
    levels = {indent: level for level, indent in enumerate(sorted(indents))}
    lines = [" " * levels[len(line) - len(line.lstrip())] + line.lstrip() if line else "" for line in rest]
    return "\n".join([first, *lines])


def repeats(text: str, name: str) -> bool:
    """Whether a description has no word that the name does not have, as "The user ID." for `user_id`."""
    if len(text) > 4 * len(name) + 16:  # too long to have no other word
        return False
    said, known = _spoken(text), _spoken(name)
    return bool(known) and said <= known


def _spoken(text: str) -> set[str]:
    return set(words(text.translate(_MARKS)).casefold().split()) - _FILLERS


def cut(text: str, limit: int) -> str:
    """The beginning of the text in at most `limit` characters; nothing when that would be too short to say anything.

    It ends with a sentence if that is at least half of what is allowed, and else with a word and "…".
    """
    if len(text) <= limit:
        return text
    if limit < LEAST_CHARS:
        return ""
    end = 0
    for found in _SENTENCE_END.finditer(text, limit // 2, limit + 1):
        end = found.end() if found.end() <= limit else end
    if 2 * end >= limit:
        return text[:end].rstrip()
    head = text[: limit - 1]
    space = max(head.rfind(" "), head.rfind("\n")) if not text[limit - 1].isspace() else limit - 1
    # Without a space in its second half it is a long address, or a script that has none.
    head = head[:space] if 2 * space >= limit else head
    return _LOOSE_END.sub("", head) + "…"
