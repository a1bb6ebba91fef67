"""What both providers' rules share: a rejection, and the checks of JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class RejectedError(Exception):
    """A request that the provider refuses, with the HTTP status and the body that it sends back."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body["error"]["message"])
        self.status = status
        self.body = body


def openai_error(
    message: str, *, status: int = 400, kind: str = "invalid_request_error", param: str | None = None, code: Any = None
) -> RejectedError:
    """An error in OpenAI's form."""
    return RejectedError(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def anthropic_error(message: str, *, status: int = 400, kind: str = "invalid_request_error") -> RejectedError:
    """An error in Anthropic's form."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_test"}
    return RejectedError(status, body)


JSON_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")


def schema_faults(schema: Mapping[str, Any], *, strict: bool, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Why OpenAI refuses a JSON Schema, in its words; nothing for a good one.

    Outside strict mode only arrays without `items` and unknown types are refused below the top level.
    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    where = "()" if not path else str(path)
    kind = schema.get("type")
    for name in kind if isinstance(kind, list) else [kind]:
        if name is not None and name not in JSON_TYPES:
            yield f"In context={where}, '{name}' is not valid under any of the given schemas."
    if kind == "array" and "items" not in schema and "prefixItems" not in schema:
        yield f"In context={where}, array schema missing items."
    properties = schema.get("properties") or {}
    if strict and (kind == "object" or properties):
        if schema.get("additionalProperties") is not False:
            yield f"In context={where}, 'additionalProperties' is required to be supplied and to be false."
        missing = [name for name in properties if name not in (schema.get("required") or [])]
        if missing:
            yield (
                f"In context={where}, 'required' is required to be supplied and to be an array including every key in "
                f"properties. Missing '{missing[0]}'."
            )
    for name, child in properties.items():
        yield from schema_faults(child, strict=strict, path=(*path, "properties", name))
    if isinstance(schema.get("items"), Mapping):
        yield from schema_faults(schema["items"], strict=strict, path=(*path, "items"))
    for word in ("anyOf", "allOf", "oneOf"):
        for n, child in enumerate(schema.get(word) or []):
            yield from schema_faults(child, strict=strict, path=(*path, word, str(n)))
    for word in ("$defs", "definitions"):
        for name, child in (schema.get(word) or {}).items():
            yield from schema_faults(child, strict=strict, path=(*path, word, name))
