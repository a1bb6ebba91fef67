"""Searches for which a bare model has no place in its answer: the answer carries them, and later requests show them.

Otherwise a thread would not go on as it was sent: what comes after would be paid for in full again, and the signed
thoughts of some models, which hold only after all that came before them, would be refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.utils.utils import LC_ID_PREFIX

_KEPT = "tokopt_before"
_OF_AN_ANSWER = ("content", "tool_calls", "invalid_tool_calls", "additional_kwargs", "id")
_OF_A_RESULT = ("content", "name", "tool_call_id", "status", "artifact")
# What tells clients how content is meant.
_FORM = ("model_provider", "output_version")
# Where it says that an answer was given before, maybe in another thread.
_GIVEN_AGAIN = "tokopt"


def carrying(result: Sequence[BaseMessage], asked: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The model's answer, which carries the messages `asked` that came before it in the same step."""
    if not asked:
        return list(result)
    before = [_written(message) for message in asked]
    return [_carrying(message, before) if isinstance(message, AIMessage) else message for message in result]


def _carrying(answer: AIMessage, before: list[dict[str, Any]]) -> AIMessage:
    # What is streamed of all answers of a step is one message: the last one keeps its own content apart.
    kept = {_KEPT: {"messages": before, "content": answer.content}}
    return answer.model_copy(update={"additional_kwargs": {**answer.additional_kwargs, **kept}})


def restored(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request, in whose messages stands before each answer what it carries; the same request if none does."""
    read: dict[int, list[AnyMessage]] = {}
    state: Any = request.state
    stored = state.get("messages") if isinstance(state, Mapping) else None
    messages, thread = _put_back(request.messages, read), _put_back(stored or [], read)
    if not read:
        return request
    state = {**state, "messages": thread} if stored else state
    return request.override(messages=messages, state=state)


def _put_back(messages: Sequence[AnyMessage], read: dict[int, list[AnyMessage]]) -> list[AnyMessage]:
    """The messages with what they carry; `read` makes that the same objects wherever an answer is shown."""
    shown: list[AnyMessage] = []
    seen: set[str | None] = set()
    for message in messages:
        kept = message.additional_kwargs.get(_KEPT) if isinstance(message, AIMessage) else None
        if not isinstance(message, AIMessage) or not kept or _GIVEN_AGAIN in message.response_metadata:
            shown.append(message)
            continue
        if id(message) not in read:
            read[id(message)] = [*map(_read, kept["messages"]), _as_said(message, kept["content"])]
        *before, answer = read[id(message)]
        # The same answer once more, from a cache: a call may stand in a thread only once.
        calls = {call["id"] for one in before if isinstance(one, AIMessage) for call in one.tool_calls}
        shown += [answer] if calls & seen else [*before, answer]
        seen |= calls
    return shown


def _as_said(answer: AIMessage, content: Any) -> AIMessage:
    """The answer with its own content alone; as it is now, if somebody has changed that since."""
    own = AIMessage(content)
    blocks = _blocks(answer)
    same = answer.text.endswith(own.text) and all(block in blocks for block in _blocks(own))
    return answer.model_copy(update={"content": content}) if same and content != answer.content else answer


def _blocks(message: AIMessage) -> list[Any]:
    """What the content holds beside text, wherever it stands."""
    given = message.content if isinstance(message.content, list) else []
    blocks = [block for block in given if isinstance(block, dict)]
    return [{key: value for key, value in block.items() if key not in ("index", "text")} for block in blocks]


def _written(message: BaseMessage) -> dict[str, Any]:
    """The message as JSON can hold it, without what it was billed."""
    fields = _OF_AN_ANSWER if isinstance(message, AIMessage) else _OF_A_RESULT
    form = {key: message.response_metadata[key] for key in _FORM if key in message.response_metadata}
    written = {"type": message.type, "response_metadata": form, **{name: getattr(message, name) for name in fields}}
    if str(message.id).startswith(LC_ID_PREFIX):  # all answers of one step have the same one
        written.pop("id", None)
    return written


def _read(fields: dict[str, Any]) -> AnyMessage:
    kind = AIMessage if fields["type"] == "ai" else ToolMessage
    return cast("AnyMessage", kind(**{name: value for name, value in fields.items() if name != "type"}))
