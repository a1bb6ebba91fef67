"""The tool with which a model calls tools that are not bound, and how such calls become calls of the tools themselves.

The model calls `call_tool(name="get_user", arguments={"id": 7})`. Its answer is rewritten to a call of `get_user` with
the same id, so that whoever runs tools (a `ToolNode`, a human in the loop, a hand-written graph) meets the real one. In
later requests the call is shown as the model made it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, Field

from langchain_tokopt.tools.call_forms import CallForms, calls_of, parsed, same, with_calls
from langchain_tokopt.tools.nearest import nearest_names
from langchain_tokopt.tools.schema import ToolSpec

NAMES = ("call_tool", "run_tool", "use_tool")

DESCRIPTION = (
    "Calls a tool that is not listed here. Which tools there are, and their parameters, you are told in the "
    "conversation. Tools that are listed here are called directly."
)
_NAME = "The tool's name, exactly as you were told it."
_ARGUMENTS = "The tool's arguments by name"

# Where a message keeps what the model said, for calls of which it could not be told otherwise.
_SAID = "tokopt_called_as"

_KINDS = {str: "text that is no JSON object", list: "an array", bool: "a truth value"}


class CallArguments(BaseModel):
    name: str = Field(description=_NAME)
    arguments: dict[str, Any] = Field(description=f"{_ARGUMENTS}.")


class CallTextArguments(BaseModel):
    name: str = Field(description=_NAME)
    arguments: str = Field(description=f"{_ARGUMENTS}, as JSON.")


def caller_name(taken: Collection[str]) -> str:
    """A name for the tool that calls others which no other tool has: `call_tool` where it is free."""
    numbered = (f"{NAMES[0]}_{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (*NAMES, *numbered) if name not in taken)


def caller_tool(name: str, *, as_text: bool = False) -> BaseTool:
    """The tool `name(name, arguments)`, to be bound for its schema; it never runs.

    `as_text` makes `arguments` a string that holds JSON. A strict schema needs that, for it has no free objects, and so
    do Gemini's older APIs, which refuse an object without properties.
    """

    def run(**_: Any) -> NoReturn:
        msg = f"{name} does not run by itself: the calls that it stands for are made by the tools' own names"
        raise ToolException(msg)

    schema = CallTextArguments if as_text else CallArguments
    return StructuredTool(name=name, description=DESCRIPTION, args_schema=schema, func=run)


def unwrapped(
    result: Sequence[BaseMessage], caller: str, known: Mapping[str, ToolSpec], *, searcher: str | None = None
) -> tuple[list[BaseMessage], list[ToolMessage]]:
    """The model's messages with calls of the tool `caller` turned into those they stand for; and answers to the rest.

    A call keeps its id and its place, in `tool_calls`, in content blocks and in `additional_kwargs`; all else stays as
    it is, and so do messages without such calls. A call that stands for no known tool, or whose arguments are no
    object, stays as it is and is answered by an error that says how to do it right.

    Args:
        result: What the model said. Its messages are not changed.
        caller: The name of the tool that calls others.
        known: The tools that can be called, by name.
        searcher: The name of the tool that finds others, which is called directly.
    """
    messages: list[BaseMessage] = []
    errors: list[ToolMessage] = []
    for message in result:
        if not isinstance(message, AIMessage):
            messages.append(message)
            continue
        real: dict[str, CallForms] = {}
        for call_id, call in calls_of(message).items():
            if call.name != caller:
                continue
            target = _target(call.args, caller, known, searcher)
            if isinstance(target, str):
                errors.append(ToolMessage(target, name=caller, tool_call_id=call_id, status="error"))
            else:
                real[call_id] = call.renamed(*target)
        messages.append(_unwrapped(message, real, caller) if real else message)
    return messages, errors


def proxied(messages: Sequence[BaseMessage], hidden: Collection[str], caller: str) -> list[BaseMessage]:
    """The messages as the model may see them: each call of a `hidden` tool is one of the tool `caller`.

    This undoes `unwrapped`, to the byte. A call that was not made through `caller`, because the tool was bound then,
    is shown in the same way. Results are shown as those of `caller`. All other messages are the same objects.
    """
    shown: list[BaseMessage] = []
    open_calls: frozenset[str] = frozenset()
    for message in messages:
        if isinstance(message, AIMessage):
            wrapped = _wrapped(message, hidden, caller)
            open_calls = frozenset(wrapped)
            shown.append(with_calls(message, wrapped, {_SAID: None}) if wrapped else message)
        elif isinstance(message, ToolMessage) and message.name and message.tool_call_id in open_calls:
            shown.append(message.model_copy(update={"name": caller}))
        else:
            shown.append(message)
    return shown


# --- what a call stands for ------------------------------------------------------------------------------------------


def _target(
    given: Any, caller: str, known: Mapping[str, ToolSpec], searcher: str | None
) -> tuple[str, dict[str, Any]] | str:
    """The tool that is called and its arguments; or what is wrong with the call."""
    said = parsed(given)
    if not isinstance(said, Mapping):
        return "The call could not be read: it is not valid JSON. Nothing was run."
    name, arguments = _meant(said)
    if not name:
        return f"Say in `name` which tool to call, as in {caller}(name='...', arguments={{...}})."
    if name == caller:
        return f"{caller} calls other tools. Say in `name` which of them to call."
    if name == searcher:
        return f"Call {name} directly, not with {caller}."
    spec = known.get(name)
    if spec is None:
        nearest = "".join(f"\n- {known[one].signature}" for one in nearest_names(name, known))
        hint = f" The nearest ones are:{nearest}" if nearest else ""
        return f"There is no tool named '{name[:100]}'.{hint}"
    if not isinstance(arguments, Mapping):
        kind = _KINDS.get(type(arguments), "a number")
        return f"`arguments` must be an object that holds the tool's arguments by name, not {kind}: {spec.signature}"
    return name, dict(arguments)


def _meant(said: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and the arguments in a call of the tool that calls others; empty where they are missing."""
    name = said.get("name")
    # Some models put the arguments beside the name.
    inner = said["arguments"] if "arguments" in said else {key: said[key] for key in said if key != "name"}
    return name.strip() if isinstance(name, str) else "", parsed(inner) if inner else {}


# --- there and back --------------------------------------------------------------------------------------------------


def _unwrapped(message: AIMessage, real: Mapping[str, CallForms], caller: str) -> AIMessage:
    """A copy of the message with the calls `real`, and with what it takes to undo this."""
    before = calls_of(message)
    said = {
        call_id: before[call_id].pieces
        for call_id, call in real.items()
        if not same(_through(caller, call), before[call_id])
    }
    return with_calls(message, real, {_SAID: said or None})


def _wrapped(message: AIMessage, hidden: Collection[str], caller: str) -> dict[str, CallForms]:
    """The message's calls of hidden tools, as the model made them."""
    said = message.additional_kwargs.get(_SAID) or {}
    wrapped: dict[str, CallForms] = {}
    for call_id, call in calls_of(message).items():
        if call.name not in hidden or not isinstance(call.args, Mapping):
            continue
        before = CallForms(**said[call_id]) if call_id in said else None
        # Arguments that a human has changed since are shown as they are now.
        unchanged = before is not None and _meant(parsed(before.args)) == (call.name, call.args)
        wrapped[call_id] = before if before is not None and unchanged else _through(caller, call)
    return wrapped


def _through(caller: str, call: CallForms) -> CallForms:
    return call.renamed(caller, {"name": call.name, "arguments": call.args})
