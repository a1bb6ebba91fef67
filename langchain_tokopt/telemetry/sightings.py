"""Which answers were seen already, so that a call that is watched from two sides is counted once."""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.utils.utils import LC_ID_PREFIX

_RUN_ID: Final = f"{LC_ID_PREFIX}-"

# Both sides see the end of a stream within moments of each other.
_MOMENTS_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Record:
    at: float
    message: weakref.ref[BaseMessage] | None
    counts: Counter[str] = field(default_factory=Counter)


class Sightings:
    """Remembers who saw which answer.

    The same call reaches a callback handler and a middleware with one message object; after streaming with two that
    have the id in common. Ids alone do not tell calls apart, because some servers repeat theirs, and neither do
    objects, because a stand-in for a model may give one object again and again. So observers are told apart: an
    answer is new when this observer has met it more often than any other has.

    Args:
        max_entries: How many answers are remembered, the latest ones.
        clock: Seconds that only go forward.
    """

    def __init__(self, *, max_entries: int = 8192, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, _Record] = OrderedDict()
        self._covered: OrderedDict[Hashable, str] = OrderedDict()

    def first(self, message: BaseMessage, *, by: str | None = None) -> bool:
        """Whether this answer belongs to a call that was not counted yet.

        `by` names the observer. Without it the question is whether anybody has asked for this message before.
        """
        with self._lock:
            found = [self._record(id(message), weakref.ref(message))]
            same = _same_call(message)
            if same is not None:
                found.append(self._record(same, None))
            while len(self._seen) > self._max_entries:
                self._seen.popitem(last=False)
            if by is None:
                new = not any(record.counts for record in found)
            else:
                new = all(record.counts[by] >= _most(record.counts, but=by) for record in found)
            for record in found:
                record.counts[by or ""] += 1
            return new

    def cover(self, run: Hashable, *, by: str) -> None:
        """Note that `by` counts each call that is made within this run of a model."""
        with self._lock:
            self._covered[run] = by
            while len(self._covered) > self._max_entries:
                self._covered.popitem(last=False)

    def covered(self, run: Hashable, *, but: str) -> bool:
        """Whether somebody else counts the calls within this run.

        What the run gives back may then be made of several answers, with the usage of all.
        """
        with self._lock:
            return self._covered.get(run, but) != but

    def first_error(self, error: BaseException, *, by: str) -> bool:
        """The same for a call that failed. The record is kept on the exception, which nobody here may keep alive."""
        with self._lock:
            try:
                counts: Counter[str] = vars(error).setdefault("_tokopt_seen", {}).setdefault(id(self), Counter())
            except TypeError:  # an exception class with slots
                return True
            new = counts[by] >= _most(counts, but=by)
            counts[by] += 1
            return new

    def first_stop(self, what: Hashable, *, by: str) -> bool:
        """The same for a call that was stopped from this side, by what both sides know of it.

        The `GeneratorExit` that closes a stream is a new one in each generator, so it does not identify the call.
        """
        with self._lock:
            counts = self._record(("stopped", what), None).counts
            new = counts[by] >= _most(counts, but=by)
            counts[by] += 1
            return new

    def _record(self, key: Hashable, message: weakref.ref[BaseMessage] | None) -> _Record:
        now = self._clock()
        known = self._seen.get(key)
        if known is not None and message is not None:
            # The id of an object is used again once the object is gone.
            stale = known.message is None or known.message() is not message()
        else:
            stale = known is not None and now - known.at > _MOMENTS_SECONDS
        if known is None or stale:
            known = self._seen[key] = _Record(now, message)
        known.at = now
        self._seen.move_to_end(key)
        return known


def _most(counts: Counter[Any], *, but: str) -> int:
    return max((n for by, n in counts.items() if by != but), default=0)


def _same_call(message: BaseMessage) -> Hashable | None:
    """A key that two message objects of one call have in common, and hardly those of two calls."""
    if not message.id:
        return None
    if message.id.startswith(_RUN_ID):
        return message.id
    if not isinstance(message, AIMessage):
        return message.id, str(message.text)
    usage: Mapping[str, Any] = message.usage_metadata or {}
    tokens = usage.get("input_tokens"), usage.get("output_tokens")
    return message.id, str(message.text), tokens, tuple(call["id"] for call in message.tool_calls)
