"""Results that are shown in part: what the policy asks for before it answers from one, as a careful model would."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from langchain_tokopt.demo.sight import Result

RETRIEVE: Final = "retrieve_original"
_IN_PART = re.compile(rf'\[shown in part; ({RETRIEVE}(?:_\d+)?)\("([0-9a-f]{{8}})"\) has all of it\]$')
_MORE = re.compile(r"\[lines \d+-\d+ of \d+: go on with start=(\d+)\]$")


def is_original(result: Result) -> bool:
    """Whether the result is what was asked for here, and no tool's of the agent."""
    return result.tool.startswith(RETRIEVE)


def whole(result: Result, results: Sequence[Result]) -> tuple[Result, tuple[str, Mapping[str, Any]] | None]:
    """The result as its tool gave it, from originals among the `results`; and the call that is missing for that."""
    part = _IN_PART.search(result.text)
    if part is None:
        return result, None
    pages = {one.args.get("start", 1): one.text for one in results if is_original(one) and one.args["id"] == part[2]}
    text, start = "", 1
    while start in pages:
        more = _MORE.search(pages[start])
        text += pages[start] if more is None else pages[start][: more.start()]
        if more is None:
            return replace(result, text=text), None
        start = int(more[1])
    return result, (part[1], {"id": part[2]} if start == 1 else {"id": part[2], "start": start})
