"""Which tools were picked for a message: once, so that a thread keeps them whatever is learned later."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.weighted_memo import WeightedMemo

# A message without an id may belong to any thread that began with the same words. What was picked for it is kept as
# long as a provider may keep the prompt; then what was learned since counts.
NAMELESS_SECONDS = 3_600.0
_REMEMBERED = 20_000


class PickKeeper(Protocol):
    """Where picks are kept between runs and for other processes. `keep_picks` gives what was kept first."""

    def picks(self, key: bytes) -> Sequence[str] | None: ...

    def keep_picks(self, key: bytes, names: Sequence[str]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    names: tuple[str, ...]
    since: float


class Picks:
    """The tools picked for each message, remembered here and, for messages that have an id, by the `keeper`.

    Args:
        keeper: Another memory. When it fails, picks are remembered here only: a thread may get other tools after a
            restart, no more than that.
        failed: Is told of its errors.
        clock: Seconds from any start.
    """

    def __init__(
        self,
        keeper: PickKeeper | None = None,
        *,
        failed: Callable[[Exception], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._tell = failed
        self._clock = clock
        self._memo: WeightedMemo[_Kept] = WeightedMemo(weight_limit=_REMEMBERED)

    def of(
        self, messages: Sequence[BaseMessage], at: int, settings: str, pick: Callable[[], Sequence[str]]
    ) -> tuple[str, ...]:
        """What was picked for the message at `at`, else what `pick` gives now. `settings` tell pickers apart."""
        named = messages[at].id is not None
        key = _key(messages, at, settings)
        kept = self._memo.get(key)
        if kept is not None and (named or self._clock() - kept.since < NAMELESS_SECONDS):
            return kept.names
        names = tuple(pick() if self._keeper is None or not named else self._shared(self._keeper, key, pick))
        self._memo.put(key, _Kept(names, self._clock()))
        return names

    def _shared(self, keeper: PickKeeper, key: bytes, pick: Callable[[], Sequence[str]]) -> Sequence[str]:
        try:
            kept = keeper.picks(key)
        except Exception as error:
            self._tell(error)
            return pick()
        if kept is not None:
            return kept
        made = pick()
        try:
            return keeper.keep_picks(key, made)
        except Exception as error:
            self._tell(error)
            return made


def _key(messages: Sequence[BaseMessage], at: int, settings: str) -> bytes:
    """16 bytes for a message: by its id, else by its text and those of the user's messages before it."""
    message = messages[at]
    told = hashlib.blake2b(settings.encode(), digest_size=16)
    if message.id is not None:
        parts = [message.id, message.text]
    else:
        parts = [one.text for one in messages[: at + 1] if isinstance(one, HumanMessage)]
    for part in parts:
        told.update(b"\0" + part.encode("utf-8", "surrogatepass"))
    return told.digest()
