"""The tool names that come nearest to one that does not exist, and errors that name them instead of every tool."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from operator import itemgetter

from langchain_core.messages import BaseMessage, ToolMessage
from langgraph.prebuilt.tool_node import INVALID_TOOL_NAME_ERROR_TEMPLATE

from langchain_tokopt.lexical import words

# So many names are compared in full; the others have too few letters in common.
_SHORTLIST = 50
# What is read of a name that a model made up.
_NAME_CHARS = 100
# A list of so few names is short enough as it is.
_LISTED = 10

_UNKNOWN_TOOL = re.compile(
    re.escape(INVALID_TOOL_NAME_ERROR_TEMPLATE)
    .replace(re.escape("{requested_tool}"), "(.+?)")
    .replace(re.escape("{available_tools}"), "(.*)"),
    re.DOTALL,
)


def nearest_names(name: str, names: Iterable[str], k: int = 3) -> list[str]:
    """At most `k` of `names` that are most like `name`, best first; none that has nothing in common with it.

    Names are alike in their words and in their spelling; upper case and the separators between words do not count.
    """
    asked = _plain(name[:_NAME_CHARS])
    asked_words = _words(name[:_NAME_CHARS])
    pairs = [asked[n : n + 2] for n in range(len(asked) - 1)] or list(asked)

    def letters_in_common(candidate: str) -> float:
        plain = _plain(candidate)
        return sum([pair in plain for pair in pairs]) / (len(pairs) + len(plain) or 1)

    def likeness(candidate: str) -> float:
        spelling = SequenceMatcher(None, asked, _plain(candidate), autojunk=False).ratio()
        theirs = _words(candidate)
        return spelling + len(asked_words & theirs) / (len(asked_words | theirs) or 1)

    scored = [(letters, candidate) for candidate in names if (letters := letters_in_common(candidate))]
    shortlist = heapq.nlargest(_SHORTLIST, scored, key=itemgetter(0))
    return heapq.nlargest(k, (candidate for _, candidate in shortlist), key=likeness)


def with_short_errors(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages, in which LangGraph's answer to a call of an unknown tool names the three nearest, not all tools.

    The names are those that the answer itself lists, so that a message always looks the same.
    """
    return [_shortened(message) if _is_error(message) else message for message in messages]


def _is_error(message: BaseMessage) -> bool:
    return isinstance(message, ToolMessage) and message.status == "error" and isinstance(message.content, str)


def _shortened(message: BaseMessage) -> BaseMessage:
    text = _short(str(message.content))
    return message if text is None else message.model_copy(update={"content": text})


@lru_cache(maxsize=16)  # the same error is in every later request of its thread
def _short(error: str) -> str | None:
    found = _UNKNOWN_TOOL.fullmatch(error)
    names = found[2].split(", ") if found else []
    if found is None or len(names) <= _LISTED:
        return None
    nearest = ", ".join(nearest_names(found[1], names))
    return f"Error: {found[1]} is not a valid tool.{f' The nearest names are: {nearest}.' if nearest else ''}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(".", "")


def _words(name: str) -> set[str]:
    return {word.removesuffix("s") for word in words(name).lower().split()}
