"""What the provider really did during one model call, seen by a callback: answers, streamed parts, usage.

A flow sees the last answer only. Attempts that a retry further in threw away, an answer that could not be parsed and
what was streamed before a cancellation cost money, too; LangChain's callbacks see them all.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration
from langchain_core.tracers.context import register_configure_hook

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

_active: ContextVar[Watch | None] = ContextVar("tokopt_budget_watch", default=None)


@dataclass
class Attempt:
    """One request that was sent to a provider.

    `answer` is there once it was complete. `streamed` and `streamed_usage` are what arrived before that.
    """

    model: str | None = None
    provider: str | None = None
    answer: AIMessage | None = None
    streamed: list[str] = field(default_factory=list)
    streamed_usage: UsageMetadata | None = None

    @property
    def from_cache(self) -> bool:
        """Whether LangChain's own cache answered: it marks the usage that it repeats as free."""
        usage: Mapping[str, Any] = (self.answer and self.answer.usage_metadata) or {}
        return usage.get("total_cost") == 0


class Watch(BaseCallbackHandler):
    """Keeps the attempts of one model call, in the order in which they began."""

    run_inline = True  # cheap, and what was streamed must be on record when a cancellation comes

    def __init__(self) -> None:
        self.owners: list[int] = []
        self._attempts: dict[UUID, Attempt] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._attempts)

    def __bool__(self) -> bool:
        return True

    def attempts(self, start: int = 0) -> list[Attempt]:
        """The attempts from the `start`-th on."""
        with self._lock:
            return list(self._attempts.values())[start:]

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        named = metadata or {}
        with self._lock:
            self._attempts[run_id] = Attempt(named.get("ls_model_name"), named.get("ls_provider"))

    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **kwargs: Any) -> None:
        attempt = self._attempts.get(run_id)
        if attempt is None:
            return
        message = getattr(chunk, "message", None)
        if message is None:
            attempt.streamed.append(token if isinstance(token, str) else "")
            return
        attempt.streamed.extend(_texts(message.content))
        attempt.streamed.extend(call.get("args") or "" for call in getattr(message, "tool_call_chunks", ()))
        if (usage := getattr(message, "usage_metadata", None)) is not None:
            attempt.streamed_usage = add_usage(attempt.streamed_usage, usage)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        attempt = self._attempts.get(run_id)
        if attempt is not None and event.get("event") == "content-block-delta":
            attempt.streamed.extend(_texts([event["delta"]]))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        attempt = self._attempts.get(run_id)
        if attempt is None:
            return
        for generation in response.generations[0] if response.generations else ():
            if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
                attempt.answer = generation.message
                return


def _texts(content: str | Sequence[Any]) -> Iterator[str]:
    """The text of content blocks: what was said, what was thought, and the arguments of tool calls."""
    if isinstance(content, str):
        yield content
        return
    for block in content:
        if isinstance(block, str):
            yield block
        elif isinstance(block, Mapping):
            fields = block.get("fields")  # a block delta carries its block there
            for key in ("text", "reasoning", "thinking", "args", "partial_json"):
                value = (fields if isinstance(fields, Mapping) else block).get(key)
                if isinstance(value, str):
                    yield value


@functools.cache
def _register() -> None:
    register_configure_hook(_active, inheritable=False)


@contextmanager
def watching(owner: object) -> Iterator[None]:
    """Inside, the attempts of every chat model that is called are kept for `owner`.

    Nested use, by a second budget around the same call, shares the outer `Watch`.
    """
    _register()
    current = _active.get()
    watch = current or Watch()
    watch.owners.append(id(owner))
    token = _active.set(watch) if current is None else None
    try:
        yield
    finally:
        watch.owners.remove(id(owner))
        if token is not None:
            _active.reset(token)


def active_watch(owner: object) -> Watch | None:
    """The `Watch` over the model call that is under way, `None` where it is not watched for `owner`."""
    watch = _active.get()
    return watch if watch is not None and id(owner) in watch.owners else None
