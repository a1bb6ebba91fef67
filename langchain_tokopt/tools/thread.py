"""What a thread's messages say about the tools that it needs, read off in order.

Everything here is a pure function of the messages, so the same thread gives the same tools in any process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.tools.search import found_in

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

    from langchain_tokopt.tools.index import ToolIndex


_WORD = re.compile(r"\w+")
# A message of nothing but these asks for nothing new.
_AGREEMENT = frozenset(
    """
    yes yeah yep no nope ok okay sure fine right correct exactly thanks thank you go ahead on continue proceed please do
    it that great good cool nice perfect
    """.split()  # noqa: SIM905 - one word a list entry would fill the screen
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Tools that one message made necessary. `at`: the message's position in the thread."""

    at: int
    kind: Literal["asked", "called", "found"]
    names: tuple[str, ...]


def thread_messages(request: ModelRequest[Any]) -> Sequence[BaseMessage]:
    """The thread as it is stored: other middleware may show the model only a part of it, but tools stay bound."""
    state: Any = request.state
    stored = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    return stored if isinstance(stored, list) and stored else request.messages


def question(messages: Sequence[BaseMessage]) -> str | None:
    """The text of the thread's first user message; empty when it has no text, `None` when there is no such message."""
    summary = None
    for message in messages:
        if isinstance(message, HumanMessage):
            if not _is_summary(message):
                return message.text.strip()
            summary = message.text.strip() if summary is None else summary
    return summary


def last_question(messages: Sequence[BaseMessage]) -> str | None:
    """The text of the last user message that asks for something; of the first one if none does."""
    asking = (m.text.strip() for m in reversed(messages) if isinstance(m, HumanMessage) and not _is_summary(m))
    return next((text for text in asking if text and not _only_agrees(text)), question(messages))


def batches(
    messages: Sequence[BaseMessage],
    index: ToolIndex,
    *,
    bound: Iterable[str],
    searcher: str,
    pick: Callable[[int, str], Sequence[str]],
) -> list[Batch]:
    """The tools to bind beyond those that are always `bound`, in the order in which they became necessary.

    A user message adds what `pick` gives for its position and its text (empty for an image ...), nothing when it only
    agrees ("yes, go ahead"); a call adds the tool that was called; a search adds what it found.
    Nothing is ever taken back, and inside a batch the order is that of registration, so a longer thread only appends.
    """
    have = set(bound)
    added: list[Batch] = []
    for at, kind, wanted in _wanted(messages, index, searcher, pick):
        new = [name for name in index.ordered(wanted) if name not in have]
        if new:
            have.update(new)
            added.append(Batch(at, kind, tuple(new)))
    return added


def called(messages: Iterable[BaseMessage]) -> list[str]:
    """Names of the tools that were called, answered or not, in order."""
    return [name for message in messages for name in _called_in(message)]


def chosen(choice: Any) -> list[str]:
    """The tools that a `tool_choice` names; "auto", "any", "required", "none" and booleans name none.

    Read are a bare name and the dict forms of OpenAI (also `allowed_tools`) and Anthropic.
    """
    if isinstance(choice, str):
        return [] if choice in ("auto", "any", "required", "none") else [choice]
    if not isinstance(choice, Mapping):
        return []
    inner = choice.get("function", choice)
    names = [inner["name"]] if isinstance(inner, Mapping) and isinstance(inner.get("name"), str) else []
    allowed = choice.get("allowed_tools", choice)
    listed = allowed.get("tools") if isinstance(allowed, Mapping) else None
    return names + [name for one in (listed if isinstance(listed, list) else []) for name in chosen(one)]


def _wanted(
    messages: Sequence[BaseMessage],
    index: ToolIndex,
    searcher: str,
    pick: Callable[[int, str], Sequence[str]],
) -> Iterator[tuple[int, Literal["asked", "called", "found"], Iterable[str]]]:
    own_words = any(isinstance(message, HumanMessage) and not _is_summary(message) for message in messages)
    asked_before = False
    names: dict[str | None, str] = {}  # of the tools called, by the call's id
    for at, message in enumerate(messages):
        if isinstance(message, HumanMessage):
            text = message.text.strip()
            if own_words and _is_summary(message):
                # A summary speaks of everything at once: ranking by it finds nothing well. Names in it do count.
                yield at, "called", index.mentioned(text)
            elif not text:
                yield at, "asked", pick(at, text)
            elif not asked_before or not _only_agrees(text):
                asked_before = True
                yield at, "asked", pick(at, text)
        elif isinstance(message, AIMessage):
            names.update((call["id"], call["name"]) for call in message.tool_calls)
            yield at, "called", _called_in(message)
        elif isinstance(message, ToolMessage):
            name = message.name or names.get(message.tool_call_id)
            if name == searcher:
                yield at, "found", found_in(message)
            elif name:
                yield at, "called", (name,)


def _only_agrees(text: str) -> bool:
    return _AGREEMENT.issuperset(_WORD.findall(text.lower()))


def _called_in(message: BaseMessage) -> list[str]:
    if not isinstance(message, AIMessage):
        return []
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    return [name for call in calls if (name := call.get("name"))]


def _is_summary(message: BaseMessage) -> bool:
    """Whether LangChain's SummarizationMiddleware put this message in the place of older ones."""
    return message.additional_kwargs.get("lc_source") == "summarization"
