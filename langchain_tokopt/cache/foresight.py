"""What a cache does about questions that are likely to come: their answers are loaded, and missing ones made ahead.

A question is named by the text that its answer was stored under, so that other wordings of it, which are served that
answer, count as the same question. One that opens a conversation and one that goes on with it have different names,
even with the same text: only the answer to the former can be made ahead, since nobody knows what will have been said
before the latter.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import HumanMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.cache.hits import Look
from langchain_tokopt.cache.key import Bypass, CacheKey, opening_scope, place_of, text_digest
from langchain_tokopt.cache.precompute import Known, Precompute
from langchain_tokopt.cache.prefetch import Prefetch
from langchain_tokopt.cache.scopes import with_ids
from langchain_tokopt.cache.track_record import Record
from langchain_tokopt.caller import call_who
from langchain_tokopt.later import Later
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

    from langchain_tokopt.cache.store import AnswerStore

log = logging.getLogger("langchain_tokopt")

_GOES_ON: Final = "+"  # what the names of questions begin with that go on with a conversation
_CHARACTERS: Final = 1_000_000  # of questions that may be asked of the model ahead

_NAMED = with_ids(
    """SELECT e.exact, COALESCE(e.answer, e.id), e.question, e.spent, e.expires_at, e.tags FROM tokopt_cache_scopes s
    JOIN tokopt_cache_entries e ON e.scope_id = s.id WHERE s.scope = :scope AND e.alive = 1 AND e.exact IN :ids"""
)


@dataclass(frozen=True, slots=True)
class _Row:
    """An entry as it is found by the name of its question. `answer`: the number of its group."""

    name: str
    answer: int
    question: str
    spent: str | None
    expires_at: float | None
    tags: str


class Foresight:
    """Predictions for a cache, and what is done about them. Thread-safe, and never fails an answer.

    Args:
        store: The cache's answers.
        examine: The key of a request.
        keep: Stores an answer that was made ahead; whether it was one to be stored.
        precompute: Whether and for how much answers are made ahead; `None` for not at all.
        pricing: What calls cost.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        store: AnswerStore,
        *,
        examine: Callable[[ModelRequest[Any]], CacheKey | Bypass],
        keep: Callable[[CacheKey, ModelResponse[Any]], bool],
        precompute: Precompute | None = None,
        pricing: Pricing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._examine = examine
        self._keep = keep
        self._precompute = precompute
        self._clock = clock
        self._known: WeightedMemo[Known] = WeightedMemo(weight_limit=_CHARACTERS)
        self._failed = False
        self.prefetch = Prefetch(
            database=lambda: store.database,
            preload=self._preload,
            precompute=precompute,
            pricing=pricing,
            clock=clock,
        )

    # --- one request -------------------------------------------------------------------------------------------------

    def ahead(self, request: ModelRequest[Any], key: CacheKey, look: Look) -> Iterator[Later]:
        """Learn that this was asked; the calls to be made because of it, for a flow to yield once it has the answer."""
        try:
            yield from self._ahead(request, key, look)
        except Exception as error:
            if not self._failed:
                self._failed = True
                log.warning("predicting stepped aside: %s: %s", type(error).__name__, error)

    def _ahead(self, request: ModelRequest[Any], key: CacheKey, look: Look) -> Iterator[Later]:
        user = _asker(request)
        likely = self.prefetch.asked(user, key.place, _name(key, look), hit=look.hit is not None)
        keys: dict[str, CacheKey] = {}

        def request_for(text: str) -> ModelRequest[Any] | None:
            asked = _opening(request, text)
            found = self._examine(asked)
            if isinstance(found, Bypass) or not _opens(found):
                return None
            keys[text] = found
            return asked

        return self.prefetch.ahead(
            key.place,
            likely,
            known=lambda name: self._known_of(key.place, name),
            request_for=request_for,
            store=lambda asked, response: self._keep(keys[asked.messages[-1].text], response),
        )

    def stored(self, key: CacheKey, *, usage: UsageMetadata | None, fresh_until: float | None) -> None:
        """Note that an answer was stored, so that it can be made again when it has expired and is gone.

        One that came from tools cannot: the model would have to call them.
        """
        if self._precompute is not None and not key.tools and _opens(key):
            self._remember(key.place, key.exact, Known(text=key.text, fresh_until=_until(fresh_until), usage=usage))

    def _remember(self, place: str, name: str, known: Known) -> None:
        self._known.put((place, name), known, weight=len(known.text))

    def _known_of(self, place: str, name: str) -> Known | None:
        if name.startswith(_GOES_ON) or self._precompute is None:
            return None
        known = self._known.get((place, name))
        soon = self._clock() + self._precompute.before_expiry_seconds
        if known is not None and known.fresh_until is not None and known.fresh_until > soon:
            return known  # nobody waits for the database where there is nothing to be done
        for row in self._named(place, [name]):
            if row.tags:
                return None
            usage = json.loads(row.spent).get("usage") if row.spent else None
            known = Known(text=row.question, fresh_until=_until(row.expires_at), usage=usage)
            self._remember(place, name, known)
        return known

    # --- loading -----------------------------------------------------------------------------------------------------

    def _preload(self, place: str, names: Sequence[str]) -> set[str]:
        now = self._clock()
        groups: defaultdict[int, set[str]] = defaultdict(set)
        for row in self._named(place, [name for name in names if not name.startswith(_GOES_ON)]):
            if _until(row.expires_at) > now:
                groups[row.answer].add(row.name)
        loaded = self._store.preload(opening_scope(place), groups) if groups else set()
        return {name for answer in loaded for name in groups[answer]}

    def _named(self, place: str, names: Iterable[str]) -> list[_Row]:
        ids = list(names)
        if not ids:
            return []
        with self._store.database.read() as connection:
            rows = connection.execute(_NAMED, {"scope": opening_scope(place), "ids": ids})
            return [_Row(*row) for row in rows]

    # --- the whole ---------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """What predicting did in this process, and what it cost; see `SemanticCache.stats`."""
        told = self.prefetch.report()
        record = Record(float(told.predictions), float(told.predictions_used))
        low, high = record.interval() if told.predictions else (None, None)
        return {
            "made": told.predictions,
            "used": told.predictions_used,
            "share": record.share(),
            "share_low": low,
            "share_high": high,
            "preloaded": told.preloaded,
            "preloaded_used": told.preloaded_used,
            "precomputed": told.precomputed,
            "precomputed_used": told.precomputed_used,
            "refused": told.refused,
            "spent_usd": told.spent_usd,
            "estimated_usd": told.estimated_usd,
            "saved_usd": told.saved_usd,
            "saved_seconds": told.saved_seconds,
            "net_usd": told.net_usd,
        }

    def forget(self, *, owner: str | None = None, user: str | None = None) -> None:
        """Forget what was learned in all places of an owner and about a user; with neither, everything.

        Raises:
            StoreError: The database cannot be used.
        """
        self._known.clear()  # all of it: it comes back with the next answers
        if owner is None and user is None:
            self.prefetch.forget()
        if owner is not None:
            self.prefetch.forget(scope=place_of(owner))
        if user is not None:
            self.prefetch.forget(user=_user_name(user))

    def settle(self, timeout_seconds: float) -> bool:
        """Whether all that is read and written in the background was done within this time."""
        return self.prefetch.drain(timeout_seconds)

    def close(self) -> None:
        """Write down what was learned, and stop."""
        self.prefetch.close()


def _until(expires_at: float | None) -> float:
    return math.inf if expires_at is None else expires_at


def _opens(key: CacheKey) -> bool:
    """Whether its answer would be the same if nothing had been said before, as far as the cache is concerned."""
    return key.scope == opening_scope(key.place) and key.exact == text_digest(key.text)


def _name(key: CacheKey, look: Look) -> str:
    """What questions that share an answer have in common: at most 64 characters."""
    text = key.text
    if look.hit is not None and look.hit.how == "semantic" and look.verdict is not None and look.verdict.neighbour:
        text = look.verdict.neighbour.text
    name = text_digest(text)
    return name if _opens(key) else _GOES_ON + name[1:]


def _asker(request: ModelRequest[Any]) -> str | None:
    """Whose question it is, as a digest: the user's, or where none is named the thread's."""
    who = call_who(request)
    if who.user is not None:
        return _user_name(who.user)
    return text_digest(f"thread:{who.thread}") if who.thread is not None else None


def _user_name(user: str) -> str:
    return text_digest(f"user:{user}")


def _opening(request: ModelRequest[Any], text: str) -> ModelRequest[Any]:
    """The request as it would be if a new conversation began with `text`."""
    messages = [HumanMessage(text)]
    changed: dict[str, Any] = {"messages": messages}
    if isinstance(request.state, dict) and "messages" in request.state:
        changed["state"] = {**request.state, "messages": messages}
    return request.override(**changed)
