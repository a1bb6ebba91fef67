"""The tool with which a model asks for tools that it was not given."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from langchain_tokopt.tools.index import ToolIndex

NAMES = ("search_tools", "find_tools", "search_more_tools")
MOST_RESULTS = 20
_NAMES_LISTED = 50
_ARTIFACT_KEY = "tokopt_found_tools"
_RESULT_LINE = re.compile(r"^- (.+?)\(", re.MULTILINE)

DESCRIPTION = (
    "Only some of the available tools are listed here. Call this to find others before you say that something cannot "
    "be done. The tools that it finds can be called from your next step on."
)


class SearchArguments(BaseModel):
    query: str = Field("", description="What the tool should do, in a few words; or its name.")
    k: int = Field(5, description=f"How many tools to return, 1 to {MOST_RESULTS}.")


def searcher_name(taken: Collection[str]) -> str:
    """A name for the search tool that no other tool has: `search_tools` where it is free."""
    free = next((name for name in NAMES if name not in taken), None)
    if free is not None:
        return free
    number = 2
    while f"{NAMES[0]}_{number}" in taken:
        number += 1
    return f"{NAMES[0]}_{number}"


def search_tool(name: str, look: Callable[[str, int], tuple[str, dict[str, list[str]]]]) -> BaseTool:
    """A tool that answers with what `look(query, k)` gives: a text for the model, and an artifact."""

    def search(query: str = "", k: int = 5) -> tuple[str, dict[str, list[str]]]:
        return look(query, k)

    return StructuredTool(
        name=name,
        description=DESCRIPTION,
        args_schema=SearchArguments,
        func=search,
        response_format="content_and_artifact",
    )


def find(index: ToolIndex, bound: Collection[str], query: str, k: int) -> tuple[str, dict[str, list[str]]]:
    """What a search tells the model, and the names that it found."""
    asked = " ".join(query.split())
    if not asked:
        listed = ", ".join(index.names[:_NAMES_LISTED])
        more = f" and {len(index) - _NAMES_LISTED} more" if len(index) > _NAMES_LISTED else ""
        return f"Say in `query` what the tool should do. There are: {listed}{more}.", {_ARTIFACT_KEY: []}
    specs = index.matches(query, min(max(k, 1), MOST_RESULTS))
    if not specs:
        shown = asked if len(asked) <= 80 else f"{asked[:79]}…"
        hint = "Try other words: a verb and an object, such as 'send email'."
        return f"None of the {len(index)} tools matches '{shown}'. {hint}", {_ARTIFACT_KEY: []}
    lines = ["These tools can be called now:"]
    for spec in specs:
        line = f"- {spec.signature}{' (already bound)' if spec.name in bound else ''}"
        lines.append(f"{line}: {spec.summary}" if spec.summary else line)
    return "\n".join(lines), {_ARTIFACT_KEY: [spec.name for spec in specs]}


def is_search_result(message: ToolMessage) -> bool:
    """Whether this is what a search for tools returned, by its artifact."""
    return isinstance(message.artifact, dict) and _ARTIFACT_KEY in message.artifact


def found_in(message: ToolMessage) -> list[str]:
    """The tools that a search returned: from its artifact, else from its text, which travels further."""
    artifact: Any = message.artifact
    names = artifact.get(_ARTIFACT_KEY) if isinstance(artifact, dict) else None
    if isinstance(names, list):
        return [name for name in names if isinstance(name, str)]
    return [] if message.status == "error" else _RESULT_LINE.findall(message.text)
