"""The newest data, asked for no more often than it takes, whoever asks."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokopt.telemetry.dashboard.page import json_block

_OLDEST: Final = 60.0  # seconds: spans of time move on, and budgets with them, when no event arrives
_REST: Final = 4.0  # how much longer than reading took it is left alone afterwards


@dataclass(frozen=True, slots=True)
class Made:
    """Data, the same as JSON, and a tag that tells it from other data (for an `ETag` header)."""

    data: Mapping[str, Any]
    body: bytes
    tag: str


class Latest:
    """Data that is read again when its version has changed, or when it is a minute old.

    Reading all events of a large database takes a second or two: between two times it rests for four times as long, so
    that a page that is left open does not keep a machine busy.

    Args:
        data: Reads it.
        version: Something that changes when it would; asked each time, so it must be quick.
        clock: Seconds from any moment, never going back.
    """

    def __init__(
        self,
        data: Callable[[], Mapping[str, Any]],
        *,
        version: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._version = version
        self._clock = clock
        self._lock = threading.Lock()
        self._made: Made | None = None
        self._of: object = None
        self._at = 0.0
        self._rests_until = 0.0

    def get(self) -> Made:
        """The newest data; while another asks for newer, what there is. Raises whatever reading it raises."""
        made = self._made
        if not self._lock.acquire(blocking=made is None) and made is not None:
            return made
        try:
            now = self._clock()
            if self._made is not None and now < self._rests_until:
                return self._made
            version = self._version() if self._version is not None else object()
            if self._made is not None and version == self._of and now - self._at < _OLDEST:
                return self._made
            data = self._data()
            body = json_block(data).encode()
            self._made = Made(data, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            ended = self._clock()
            self._of, self._at = version, now
            self._rests_until = ended + _REST * (ended - now)
            return self._made
        finally:
            self._lock.release()
