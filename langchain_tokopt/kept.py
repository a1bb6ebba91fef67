"""What was asked and answered before an answer, where a bare model has no place for it: the answer carries it.

Later requests show it again. Otherwise a thread would not go on as it was sent: what comes after would be paid for in
full again, and the signed thoughts of some models, which hold only after all that came before them, would be refused.

Several flows may do so around each other. Each adds what it asked, and any of them puts all of it back.
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
    """The model's answer, which carries the messages `asked` that came before it in the same step.

    What it carries already came after those. An answer that has nothing to carry is the same object.
    """
    before = [written for message in asked for written in _with_carried(message)]
    return [_carrying(message, before) if isinstance(message, AIMessage) else message for message in result]


def _carrying(answer: AIMessage, before: list[dict[str, Any]]) -> AIMessage:
    levels = _levels(answer)
    content = _as_said(answer, levels[-1]["content"]).content if levels else answer.content
    if not before and (not levels or levels[-1]["content"] == content):
        return answer
    # What is streamed of all answers of a step is one message: the last one keeps its own content apart. A key of its
    # own for each flow: streamed values of one key would be run into each other.
    kept = {_key(len(levels)): {"messages": before, "content": content}}
    return answer.model_copy(update={"additional_kwargs": {**answer.additional_kwargs, **kept}})


def _with_carried(message: BaseMessage) -> list[dict[str, Any]]:
    """The message and what it carries, in their order."""
    levels = _levels(message) if isinstance(message, AIMessage) else []
    if not levels or not isinstance(message, AIMessage):
        return [_written(message)]
    kept = {_key(number) for number in range(len(levels))}
    own = {key: value for key, value in message.additional_kwargs.items() if key not in kept}
    answer = _as_said(message, levels[-1]["content"]).model_copy(update={"additional_kwargs": own})
    return [*_before(levels), _written(answer)]


def _levels(message: AIMessage) -> list[dict[str, Any]]:
    """What each flow left with the message, that of the innermost first."""
    levels: list[dict[str, Any]] = []
    while kept := message.additional_kwargs.get(_key(len(levels))):
        levels.append(kept)
    return levels


def _key(level: int) -> str:
    return f"{_KEPT}_{level + 1}" if level else _KEPT


def _before(levels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for level in reversed(levels) for message in level["messages"]]


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
        levels = _levels(message) if isinstance(message, AIMessage) else []
        if not isinstance(message, AIMessage) or not levels or _GIVEN_AGAIN in message.response_metadata:
            shown.append(message)
            continue
        if id(message) not in read:
            read[id(message)] = [*map(_read, _before(levels)), _as_said(message, levels[-1]["content"])]
        *before, answer = read[id(message)]
        # The same answer once more, from a cache: a call may stand in a thread only once.
        calls = {call["id"] for one in before if isinstance(one, AIMessage) for call in one.tool_calls}
        shown += [answer] if calls & seen or _end_with(shown, before) else [*before, answer]
        seen |= calls
    return shown


def _end_with(shown: Sequence[BaseMessage], before: Sequence[BaseMessage]) -> bool:
    """Whether a flow further out has put them back already."""
    last = shown[max(0, len(shown) - len(before)) :]
    return [_call_ids(message) for message in last] == [_call_ids(message) for message in before]


def _call_ids(message: BaseMessage) -> list[str | None]:
    if isinstance(message, AIMessage):
        return [call["id"] for call in message.tool_calls]
    return [message.tool_call_id] if isinstance(message, ToolMessage) else []


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
