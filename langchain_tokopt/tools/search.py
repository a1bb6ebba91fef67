"""The tool with which a model asks for tools that it was not given."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.tools import StructuredTool, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, ValidationError

from langchain_tokopt.tools.nearest import nearest_names
from langchain_tokopt.tools.notes import note_text

if TYPE_CHECKING:
    from langchain_tokopt.tools.index import ToolIndex
    from langchain_tokopt.tools.schema import ToolSpec

NAMES = ("search_tools", "find_tools", "search_more_tools")
MOST_RESULTS = 20
_NAMES_LISTED = 50
_UNKNOWN_TOLD = 5
# Of what a search finds, so many can be called at once, besides those that were asked for by name. The others are only
# named: the schemas of ten tools that nobody calls cost more than a second question.
MOST_LOADED = 5
_ARTIFACT_KEY = "tokopt_found_tools"
_RESULT_LINE = re.compile(r"^- (.+?)\(", re.MULTILINE)

DESCRIPTION = (
    "Only some of the available tools are listed here. Call this to find others before you say that something cannot "
    "be done. The tools that it finds can be called from your next step on."
)


class SearchArguments(BaseModel):
    query: str = Field("", description="What the tool should do, in a few words.")
    names: list[str] | None = Field(None, description="Names of tools, if you know them.")
    k: int = Field(10, description=f"How many tools to return, 1 to {MOST_RESULTS}.")


def searcher_name(taken: Collection[str]) -> str:
    """A name for the search tool that no other tool has: `search_tools` where it is free."""
    free = next((name for name in NAMES if name not in taken), None)
    if free is not None:
        return free
    number = 2
    while f"{NAMES[0]}_{number}" in taken:
        number += 1
    return f"{NAMES[0]}_{number}"


def search_schema(name: str, *, strict: bool = False) -> dict[str, Any]:
    """The tool `name(query, names=None, k=10)`, as it is sent to the model. `strict` as in `bind_tools`."""
    tool = StructuredTool(name=name, description=DESCRIPTION, args_schema=SearchArguments, func=_never)
    return convert_to_openai_tool(tool, strict=strict or None)


def _never(**_: Any) -> NoReturn:
    msg = "a search for tools is answered where the model is called"
    raise ToolException(msg)


def answer(call: ToolCall, index: ToolIndex, known: Collection[str], *, caller: str | None = None) -> ToolMessage:
    """The result of a search that the model asked for. `known` are the tools that it can call already.

    With `caller`, the name of the tool that calls others, parameters are described in full.
    """
    try:
        asked = SearchArguments.model_validate(call["args"])
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        text = f"The search could not be read: {problems}."
        return ToolMessage(text, name=call["name"], tool_call_id=call["id"], status="error")
    text, names = find(index, known, asked.query, names=asked.names or (), k=asked.k, caller=caller)
    return ToolMessage(text, name=call["name"], tool_call_id=call["id"], artifact={_ARTIFACT_KEY: names})


def refusal(call: ToolCall) -> ToolMessage:
    """The result of a search that is one too many."""
    text = "You have searched enough. Go on with the tools that you found, or say what cannot be done."
    return ToolMessage(text, name=call["name"], tool_call_id=call["id"], artifact={_ARTIFACT_KEY: []})


def find(
    index: ToolIndex,
    known: Collection[str],
    query: str,
    *,
    names: Sequence[str] = (),
    k: int = 10,
    caller: str | None = None,
) -> tuple[str, list[str]]:
    """What a search tells the model, and the names that it found."""
    asked = " ".join(query.split())
    if not asked and not names:
        listed = ", ".join(index.names[:_NAMES_LISTED])
        more = f" and {len(index) - _NAMES_LISTED} more" if len(index) > _NAMES_LISTED else ""
        return f"Say in `query` what the tool should do. There are: {listed}{more}.", []
    most = min(max(k, 1), MOST_RESULTS)
    specs = [index.spec(name) for name in dict.fromkeys(names) if name in index]
    if asked:
        specs += [spec for spec in index.matches(query, most) if spec not in specs]
    specs = specs[:most]
    unknown = [name for name in dict.fromkeys(names) if name not in index]
    hints = [_unknown(name, index) for name in unknown[:_UNKNOWN_TOLD]]
    if not specs:
        shown = asked if len(asked) <= 80 else f"{asked[:79]}…"
        if shown:
            hints.append(f"None of the {len(index)} tools matches '{shown}'.")
        return " ".join([*hints, "Try other words: a verb and an object, such as 'send email'."]), []
    named = sum(spec.name in names for spec in specs)
    ready, others = specs[: max(named, MOST_LOADED)], specs[max(named, MOST_LOADED) :]
    if caller is not None:
        lines = [note_text(ready, caller)]
    else:
        lines = ["These tools can be called now:"]
        lines += [_line(spec, " (already bound)" if spec.name in known else "") for spec in ready]
    if others:
        lines.append("Others that may fit; ask for them by their names to use them:")
        lines += [_line(spec, "", mark="*") for spec in others]
    return "\n".join([*lines, *hints]), [spec.name for spec in ready]


def _line(spec: ToolSpec, remark: str, *, mark: str = "-") -> str:
    line = f"{mark} {spec.signature}{remark}"
    return f"{line}: {spec.summary}" if spec.summary else line


def _unknown(name: str, index: ToolIndex) -> str:
    nearest = nearest_names(name, index.names)
    hint = f" The nearest names are: {', '.join(nearest)}." if nearest else ""
    return f"There is no tool named '{name[:100]}'.{hint}"


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
