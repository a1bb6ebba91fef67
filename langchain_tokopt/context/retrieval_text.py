"""Parts of a long text: a page from a line on, or the lines that match some words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.retrieval_lines import lines_from

PAGE_TOKENS: Final = 4_000
PASSAGES_TOKENS: Final = 1_500
# A page is measured in steps of so many characters, and has at most so many of them.
_STEP: Final = 512
_MOST_STEPS: Final = 200

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Part:
    """What is shown of a text; or, with `error`, why nothing is."""

    text: str
    error: bool = False


def sendable(text: str) -> str:
    r"""The text as clients can send it: a lone surrogate, which UTF-8 cannot hold, is written as `\udc80`."""
    return text.encode("utf-8", "backslashreplace").decode() if _SURROGATE.search(text) else text


def page(text: str, id: str, *, offset: int = 0, start: int = 1) -> Part:  # noqa: A002 - as the model calls it
    """The text from a character or a line on, at most about `PAGE_TOKENS` of it; if more follows, with how to get it.

    It is cut at the end of a line. Then the last line names the next one, and stands in the place of the rest. A line
    too long for that is cut anywhere: then the last line is one more, and names the character where it goes on.
    """
    begin = _begin(text, offset, start)
    if begin is None:
        return _past_the_end(text)
    end = _fitting(text, begin, PAGE_TOKENS)
    if end == len(text):
        return Part(text[begin:] or "(The text is empty.)")
    cut = text.rfind("\n", begin, end) + 1
    if 2 * (cut - begin) < end - begin:
        return Part(f'{text[begin:end]}\n[{len(text) - end} characters are left: go on with id="{id}+{end}"]')
    first, last = (text.count("\n", 0, at) + 1 for at in (begin, cut - 1))
    return Part(f"{text[begin:cut]}[lines {first}-{last} of {_lines(text)}: go on with start={last + 1}]")


def passages(text: str, id: str, *, query: str, offset: int = 0, start: int = 1) -> Part:  # noqa: A002
    """The lines from there on that match the query best, with those beside them, at most about `PASSAGES_TOKENS`.

    Each has its number; a piece of a long line has the character where it begins. They keep their order, and `--`
    stands where others are left out. A text that is no longer than that is given whole.
    """
    begin = _begin(text, offset, start)
    if begin is None:
        return _past_the_end(text)
    if _fitting(text, begin, PASSAGES_TOKENS) == len(text):
        return page(text, id, offset=begin)
    rows = lines_from(text, begin)
    shown = rows.best(query, PASSAGES_TOKENS)
    if not shown:
        none = "No line" if begin == 0 else "No line from there on"
        return Part(f"{none} has a word of the query. Leave `query` out to read them, from `start` on.")
    found = [line for row in shown for line in rows.shown(row)]
    further = f'with start, or from +n with id="{id}+n"' if any(row.cut for row in shown) else "with start"
    return Part("\n".join([*found, f"[the best of {_lines(text)} lines: read on {further}]"]))


# --- where a part begins and ends ------------------------------------------------------------------------------------


def _begin(text: str, offset: int, start: int) -> int | None:
    """The character where to begin; `None` past the end. An offset counts more than a line."""
    if offset:
        return offset if offset < len(text) else None
    at = 0
    for _ in range(start - 1):
        at = text.find("\n", at) + 1
        if not at:
            return None
    return at if at < len(text) or start == 1 else None


def _past_the_end(text: str) -> Part:
    return Part(f"The text has only {_lines(text)} lines and {len(text)} characters.", error=True)


def _lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n"))


def _fitting(text: str, begin: int, tokens: int) -> int:
    """Where a part of at most about so many tokens ends; it has at least one step."""
    last = min(len(text), begin + _STEP * _MOST_STEPS)
    used = 0
    for at in range(begin, last, _STEP):
        used += text_size(text[at : at + _STEP])
        if used > tokens:
            return max(at, min(begin + _STEP, last))
    return last
