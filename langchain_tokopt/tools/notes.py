"""How a model is told in the conversation of tools that are not bound: a note at the end of a user's message."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.tools.schema import ToolSpec

# What is told of a description: the sentences that fit. On BFCL all sentences together are hardly longer, and the first
# one alone often says nothing ("This tool belongs to ...").
DESCRIPTION_CHARS = 300
PARAMETER_CHARS = 150

_DEEPEST = 4
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


def note_text(specs: Iterable[ToolSpec], caller: str) -> str:
    """Text for the model that says which tools it can call with the tool `caller`, and how.

    Each tool has a line `- name: what it does`, and one for each parameter: `days?: integer = 3 - what it means`, with
    `?` where it may be left out. Types are told in full: enums, arrays, nested objects, defaults.
    """
    lines = [f"Tools that may help here. Call them with {caller}(name, arguments); ? marks what may be left out:"]
    for spec in specs:
        known = {**(spec.parameters.get("definitions") or {}), **(spec.parameters.get("$defs") or {})}
        lines.append(_line(f"- {spec.name}", ":", spec.description, DESCRIPTION_CHARS))
        required = spec.parameters.get("required") or ()
        for name, schema in _properties(spec.parameters).items():
            shown = f"  {_member(name, schema, required, known, 0)}"
            lines.append(_line(shown, " -", _resolved(schema, known)[0].get("description"), PARAMETER_CHARS))
            lines += _described(schema, known, f"  {name}.", 1)
    return "\n".join(lines)


def with_notes(messages: Sequence[BaseMessage], notes: Iterable[tuple[int, str]]) -> list[BaseMessage]:
    """The messages with each note `(at, text)` at the end of the user's message at position `at`.

    Where another kind of message stands there, the note goes to the next message of a user, and is left out as long as
    there is none: what was sent before stays as it was, and a note that was once shown does not move. Notes of one
    message keep their order. Text stays text, which every provider takes; content in blocks gets one more of them.
    """
    told: dict[int, list[str]] = {}
    for at, text in notes:
        place = next((n for n in range(max(at, 0), len(messages)) if isinstance(messages[n], HumanMessage)), None)
        if place is not None and text:
            told.setdefault(place, []).append(text)
    return [_with_note(message, "\n\n".join(told[n])) if n in told else message for n, message in enumerate(messages)]


def _with_note(message: BaseMessage, note: str) -> BaseMessage:
    content: Any = message.content
    if isinstance(content, str):
        content = f"{content}\n\n{note}" if content else note
    else:
        content = [*content, {"type": "text", "text": note}]
    return message.model_copy(update={"content": content})


# --- a tool in a few lines -------------------------------------------------------------------------------------------


def _line(start: str, mark: str, description: Any, most: int) -> str:
    """The line with as many whole sentences of the description as fit into `most` characters."""
    text = " ".join(description.split()) if isinstance(description, str) else ""
    if len(text) > most:
        ends = [end.start() for end in _SENTENCE_END.finditer(text, 0, most + 1)]
        text = text[: ends[-1]] if ends else f"{text[: most - 1].rpartition(' ')[0] or text[: most - 1]}…"
    return f"{start}{mark} {text}" if text else start


def _member(name: str, given: Any, required: Collection[str], known: Mapping[str, Any], depth: int) -> str:
    default = _resolved(given, known)[0].get("default")
    shown = "" if default is None else f" = {_json(default)}"
    return f"{name}{'' if name in required else '?'}: {_type(given, known, depth)}{shown}"


def _type(given: Any, known: Mapping[str, Any], depth: int) -> str:
    schema, known = _resolved(given, known)
    if isinstance(schema.get("enum"), list):
        return "|".join(map(_json, schema["enum"]))
    if "const" in schema:
        return _json(schema["const"])
    kind = schema.get("type")
    inside = _properties(schema)
    if depth > _DEEPEST:
        return str(kind) if isinstance(kind, str) else "any"
    for either in ("anyOf", "oneOf"):
        if isinstance(schema.get(either), list):
            return "|".join(dict.fromkeys(_type(one, known, depth + 1) for one in schema[either]))
    if isinstance(kind, list):
        return "|".join(dict.fromkeys(_type({**schema, "type": one}, known, depth + 1) for one in kind))
    if kind == "array":
        item = _type(schema.get("items"), known, depth + 1)
        return f"({item})[]" if "|" in item else f"{item}[]"
    if inside:
        required = schema.get("required") or ()
        members = (_member(name, value, required, known, depth + 1) for name, value in inside.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(values := schema.get("additionalProperties"), Mapping) and values:
        return f"{{[key]: {_type(values, known, depth + 1)}}}"
    form = schema.get("format")
    return f"{kind or 'any'}{f'<{form}>' if isinstance(form, str) else ''}"


def _described(given: Any, known: Mapping[str, Any], path: str, depth: int) -> list[str]:
    """A line for each member of a nested object that has a description, with its path."""
    schema, known = _resolved(given, known)
    if schema.get("type") == "array":
        schema, known = _resolved(schema.get("items"), known)
    lines: list[str] = []
    for name, value in _properties(schema).items() if depth <= _DEEPEST else ():
        description = _resolved(value, known)[0].get("description")
        if isinstance(description, str):
            lines.append(_line(f"{path}{name}", " -", description, PARAMETER_CHARS))
        lines += _described(value, known, f"{path}{name}.", depth + 1)
    return lines


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _resolved(given: Any, known: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The schema with what its `$ref` means, or the only part of an `allOf`, in its place; and what is known inside it.

    Inside of itself a definition is not known, so that a type that contains itself ends.
    """
    found: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
    while True:
        parts = found.pop("allOf", None)
        if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping):
            found = {**parts[0], **found}
        reference = str(found.pop("$ref", "")).rpartition("/")[2]
        if reference not in known:
            return found, known
        target = known[reference]
        found = {**target, **found} if isinstance(target, Mapping) else found
        known = {name: schema for name, schema in known.items() if name != reference}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)
