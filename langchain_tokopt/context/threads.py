"""The threads that are being read: each goes on from where it was, and is read anew where it is not known."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.context.item import Steps
from langchain_tokopt.context.lossless.ingest import ShownResult, ToolResult
from langchain_tokopt.context.message_text import message_text
from langchain_tokopt.context.policy import Policy
from langchain_tokopt.context.progress import Progress, Rewrite
from langchain_tokopt.context.retrieval import is_retrieved
from langchain_tokopt.weighted_memo import WeightedMemo

# What is remembered between calls: lines of histories that are still growing, and digests of their messages.
REMEMBERED_LINES: Final = 400_000
REMEMBERED_MESSAGES: Final = 20_000
# What steps came to, for threads that go on in several ways: weighed in lines, too.
REMEMBERED_STEPS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Reading:
    """A thread as it has been read.

    Attributes:
        shown: Each tool result that is shown shorter: its index, and how it is shown.
        tokens: About how many tokens each message has as it is shown.
        rewrites: Where what was sent before was changed.
        marks: The handles of what is shown in part.
        bound: Whether the tool that gives back originals is bound; `bound_at`, since how many messages.
        calls: How many model calls the thread has made.
        trimmable: The tokens that new results would have lost by being shown in part.
        asked: How often the model asked for what was shown in part.
    """

    shown: tuple[tuple[int, ShownResult], ...]
    tokens: tuple[int, ...]
    rewrites: tuple[Rewrite, ...]
    marks: frozenset[str]
    bound: bool
    bound_at: int
    calls: int
    trimmable: int
    asked: int

    @classmethod
    def of(cls, progress: Progress) -> Reading:
        return cls(
            shown=tuple((item.index, item.shown) for item in progress.items if item.shown.texts),
            tokens=tuple(progress.tokens),
            rewrites=tuple(progress.rewrites),
            marks=frozenset(mark for item in progress.items for mark in item.shown.parts),
            bound=progress.bound,
            bound_at=progress.bound_at,
            calls=progress.calls,
            trimmable=progress.trimmable,
            asked=progress.retrieved,
        )


class Threads:
    """Reads threads. Safe to share between threads of execution.

    Args:
        remember: Keep what was read, within bounds, so that a thread that grows costs only what is new.
    """

    def __init__(self, *, remember: bool = True) -> None:
        self._read: WeightedMemo[Progress] = WeightedMemo(weight_limit=REMEMBERED_LINES if remember else 0)
        self._steps: Steps = WeightedMemo(weight_limit=REMEMBERED_STEPS if remember else 0)
        self._digests: dict[int, _Known] = {}
        self._lock = threading.Lock()

    def read(self, messages: Sequence[BaseMessage], results: Sequence[ToolResult | None], policy: Policy) -> Reading:
        """The thread with all these messages read, and the call that is made with them.

        `results` has for each message what it is as a tool result.
        """
        keys = self._keys(messages, results, policy)
        progress, done = self._known(keys, messages)
        if progress is None:
            progress = Progress(policy, self._steps)
        for message, result, key in zip(messages[done:], results[done:], keys[done:], strict=True):
            progress.read(message, result, key)
        progress.call()
        reading = Reading.of(progress)
        # From here on it is another caller's: whoever makes the thread longer takes it.
        self._read.put(keys[-1], progress, 100 + progress.lines.lines + progress.count)
        return reading

    def _known(self, keys: Sequence[bytes], messages: Sequence[BaseMessage]) -> tuple[Progress | None, int]:
        """What is known of the thread, as far as it goes, and of how many messages that is."""
        for done in range(len(keys), 0, -1):
            progress = self._read.take(keys[done - 1])
            if progress is not None:
                if done == len(messages) or progress.goes_on_with(messages[done]):
                    return progress, done
                return None, 0
        return None, 0

    def _keys(
        self, messages: Sequence[BaseMessage], results: Sequence[ToolResult | None], policy: Policy
    ) -> list[bytes]:
        """For each message a digest of it and of all before it: of everything that decides how it is shown."""
        link = hashlib.blake2b(repr(policy).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        keys: list[bytes] = []
        digests, chained = self._digests, hashlib.blake2b
        for message, result in zip(messages, results, strict=True):
            known = digests.get(id(message))
            if known is None or not known.holds(message, result):
                known = self._digest(message, result)
            link = chained(link + known.digest, digest_size=16).digest()
            keys.append(link)
        return keys

    def _digest(self, message: BaseMessage, result: ToolResult | None) -> _Known:
        known = _Known.of(message, result)
        if isinstance(message.content, str):
            with self._lock:
                if len(self._digests) >= REMEMBERED_MESSAGES:
                    self._digests.clear()
                self._digests[id(message)] = known
        return known


@dataclass(frozen=True, slots=True)
class _Known:
    """A message as it was when its digest was made. Since then it may have been given other content, or calls."""

    message: BaseMessage
    content: object
    calls: object
    how: tuple[bool, int, str | None] | None
    digest: bytes

    @classmethod
    def of(cls, message: BaseMessage, result: ToolResult | None) -> _Known:
        calls = message.tool_calls if isinstance(message, AIMessage) else None
        if result is None:
            return cls(message, message.content, calls, None, _digest(message))
        kind = f"{int(result.verbatim)}{result.least}|{int(is_retrieved(result.message))}{result.name}"
        told = _digest(message) + kind.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(told, digest_size=16).digest()
        return cls(message, message.content, calls, (result.verbatim, result.least, result.name), digest)

    def holds(self, message: BaseMessage, result: ToolResult | None) -> bool:
        """Whether the digest is still that of the message."""
        if self.message is not message or self.content is not message.content:
            return False
        if result is not None:
            return (result.verbatim, result.least, result.name) == self.how
        return self.how is None and (not isinstance(message, AIMessage) or message.tool_calls is self.calls)


def _digest(message: BaseMessage) -> bytes:
    """Of what the message is and says: each text of a tool result by its place, of others what they say in all."""
    digest = hashlib.blake2b(message.type.encode("utf-8", "surrogatepass"), digest_size=16)
    if isinstance(message, ToolMessage):
        for index, _, text in ToolResult(message, 0, None, verbatim=False).texts():
            told = text.encode("utf-8", "surrogatepass")
            # With its length, so that no two lists of texts look the same.
            digest.update(f"|{index}:{len(told)}:".encode())
            digest.update(told)
    else:
        digest.update(message_text(message).encode("utf-8", "surrogatepass"))
    return digest.digest()
