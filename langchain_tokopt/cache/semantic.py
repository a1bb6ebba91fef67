"""The semantic cache: answers given once are given again to the same question, and to one that means the same."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.embeddings import Embeddings
from langchain_core.messages import ToolMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.cache.answers import UnreadableError, pack, unpack, usage_of
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.fingerprint import digest
from langchain_tokopt.cache.flights import Flights
from langchain_tokopt.cache.key import Bypass, CacheKey, KeyRules, owner_of
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import ModelIdentity

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

log = logging.getLogger("langchain_tokopt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A stored answer, ready to be given.

    Attributes:
        response: New messages with new ids and zero usage.
        how: "exact" for the same text, "semantic" for a similar one.
        similarity: Cosine similarity of the two questions, 1.0 for an exact hit.
        usage: What giving this answer used the first time, `None` if the provider did not say.
        identity: The model that gave it.
    """

    response: ModelResponse[Any]
    how: Literal["exact", "semantic"]
    similarity: float
    usage: UsageMetadata | None
    identity: ModelIdentity

    def to_response(self) -> ModelResponse[Any]:
        """The response that stands in for the model's."""
        return self.response


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look into the cache: a hit, or the reason for the miss and the similarity of the nearest question."""

    hit: Hit | None = None
    similarity: float | None = None
    reason: str | None = None


class SemanticCache:
    """Answers of models, kept in a database and found by exact text or by meaning.

    What must be equal for a hit is in `CacheKey`; what is never cached, and why, in `Bypass` and `why_not`. Similar
    questions must also agree in numbers, negations, quoted text and names. An instance is thread-safe and may serve
    many agents; processes that share a database see each other's answers and removals at once.

    The cache sees a request before the middleware inside of it: whatever those add from the run's context (such as a
    dynamic prompt) is not part of the key. Put such a middleware outside of the cache, or name in `tenant` what its
    result depends on.

    Args:
        threshold: Cosine similarity, in (0, 1], from which a question counts as the same. 1 is nearly "exact only".
        ttl_seconds: How long an answer is served; `None` for as long as there is room.
        max_entries: How many answers the database keeps; the least recently used go first.
        tenant: Gives the tenant of a request; tenants never see each other's answers. `None` as its result means that
            the request is not cached. By default the tenant is read from the runtime context or the run's config
            (`tenant`, `tenant_id`), else the user (`user_id`), else everybody shares.
        embeddings: The embedder; all-MiniLM-L6-v2 by default.
        database: A `Database`, or the path or URL of one; in memory by default.
        cache_sampled: Cache answers at an explicit temperature above 0, too.
        cacheable_tools: Names of tools whose results stay true for `ttl_seconds`: answers that used no others are
            stored, too, and can be removed by `clear(tool=...)`. Needs `ttl_seconds`.
        semantic_max_tokens: Longer questions match exactly only; 256 is what MiniLM reads.
        wait_seconds: How long equal questions wait for the first one's answer; 0 for not at all.
        max_scopes: How many scopes this process keeps in memory.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.93,
        ttl_seconds: float | None = None,
        max_entries: int = 10_000,
        tenant: Callable[[ModelRequest[Any]], str | None] | None = None,
        embeddings: Embeddings | str | None = None,
        database: Database | str | Path | None = None,
        cache_sampled: bool = False,
        cacheable_tools: Collection[str] = (),
        semantic_max_tokens: int = 256,
        wait_seconds: float = 30.0,
        max_scopes: int = 256,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_settings(threshold=threshold, ttl_seconds=ttl_seconds, max_entries=max_entries, max_scopes=max_scopes)
        if tenant is not None and not callable(tenant):
            raise ConfigurationError("tenant", tenant, "pass a function of the request, such as lambda r: ...")
        if isinstance(cacheable_tools, str) or not all(isinstance(name, str) for name in cacheable_tools):
            raise ConfigurationError("cacheable_tools", cacheable_tools, "pass a list of tool names")
        if cacheable_tools and ttl_seconds is None:
            remedy = "answers from tools go stale: set ttl_seconds= to how long their results stay true"
            raise ConfigurationError("cacheable_tools", sorted(cacheable_tools), remedy)
        if not wait_seconds >= 0:
            raise ConfigurationError("wait_seconds", wait_seconds, "use a number of seconds, or 0 for not waiting")
        self.threshold = threshold
        self.ttl_seconds = ttl_seconds
        self.max_entries = max_entries
        self.flights = Flights(wait_seconds)
        self.rules = KeyRules(
            tenant=tenant,
            cache_sampled=cache_sampled,
            cacheable_tools=frozenset(cacheable_tools),
            semantic_max_tokens=semantic_max_tokens,
        )
        self._resources = Resources(embeddings, database)
        self._max_scopes = max_scopes
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._store: AnswerStore | None = None
        self._unreadable_logged = False

    def attach(
        self,
        *,
        database: Database | None = None,
        embeddings: MemoEmbeddings | None = None,
        own_result: Callable[[ToolMessage], bool] | None = None,
    ) -> SemanticCache:
        """The cache itself, using these where none was given at construction. Without effect after the first use.

        `own_result` tells a result that is the optimiser's own affair (a search for tools) from a tool's: it makes no
        answer stale.
        """
        if own_result is not None:
            self.rules = replace(self.rules, own_result=own_result)
        if self._store is None:
            self._resources.attach(database=database, embeddings=embeddings)
        return self

    # --- one request -------------------------------------------------------------------------------------------------

    def examine(self, request: ModelRequest[Any]) -> CacheKey | Bypass:
        """The key of a request, or why the cache leaves it alone."""
        return self.rules.examine(request)

    def key(self, request: ModelRequest[Any]) -> CacheKey | None:
        """The key of a request; `None` if the cache leaves it alone, see `examine`."""
        found = self.examine(request)
        return found if isinstance(found, CacheKey) else None

    def lookup(self, key: CacheKey) -> Hit | None:
        """The stored answer for a key, `None` if there is none."""
        return self.look(key).hit

    def look(self, key: CacheKey) -> Look:
        """The stored answer for a key, or why there is none."""
        if not key.serve:
            self._count("bypasses")
            return Look(reason="after a tool call")
        try:
            look = self._look(key)
        except Exception:
            self._count("errors")
            raise
        self._count(f"{look.hit.how}_hits" if look.hit else "misses")
        return look

    def _look(self, key: CacheKey) -> Look:
        found = self.store_in_use.find(key.scope, key.exact, key.text, exact_only=key.exact_only)
        if found.entry is None or found.how == "miss":
            return Look(similarity=found.similarity, reason=found.reason)
        similarity = 1.0 if found.similarity is None else found.similarity
        try:
            response = unpack(found.entry.payload, key, {"cache": found.how, "similarity": similarity})
        except UnreadableError as error:
            if not self._unreadable_logged:
                self._unreadable_logged = True
                log.warning("a cached answer cannot be read and was removed: %s", error)
            self.store_in_use.drop(found.entry)
            return Look(reason="the stored answer could not be read")
        usage, identity = _told(found.entry.spent)
        return Look(
            hit=Hit(response=response, how=found.how, similarity=similarity, usage=usage, identity=identity),
            similarity=similarity,
        )

    def store(self, key: CacheKey, response: ModelResponse[Any]) -> bool:
        """Whether the answer was stored; incomplete ones, tool calls and the like are not."""
        payload = pack(response, key)
        if payload is None:
            self._count("not_stored")
            return False
        usage = usage_of(response, key.spent)
        try:
            self.store_in_use.keep(
                scope=key.scope,
                owner=key.owner,
                exact=key.exact,
                question=key.text,
                payload=payload,
                semantic=key.exact_only is None,
                spent=json.dumps({"usage": usage, "provider": key.identity.provider, "name": key.identity.name}),
                tags=tuple(f"tool:{name}" for name in key.tools),
                ttl_seconds=self.ttl_seconds,
            )
        except Exception:
            self._count("errors")
            raise
        self._count("stored")
        return True

    # --- the whole ---------------------------------------------------------------------------------------------------

    def clear(self, *, tenant: str | None = None, user: str | None = None, tool: str | None = None) -> int:
        """How many answers were removed: all, or those of one tenant, of one user, or that came from one tool."""
        owner = digest(owner_of(tenant=tenant, user=user)) if tenant is not None or user is not None else None
        if tool is not None:
            return self.store_in_use.remove_tagged(f"tool:{tool}", owner)
        return self.store_in_use.clear(owner)

    def stats(self) -> dict[str, Any]:
        """Counts of this process, and `entries`: how many answers the database holds, whoever stored them."""
        with self._lock:
            counts = dict(self._counts)
        names = ("exact_hits", "semantic_hits", "misses", "bypasses", "errors", "stored", "not_stored")
        told: dict[str, Any] = {name: counts.get(name, 0) for name in names}
        told["hits"] = told["exact_hits"] + told["semantic_hits"]
        told["entries"] = self.store_in_use.entries.count()
        return told

    def bypassed(self) -> None:
        """Count a request that was left alone."""
        self._count("bypasses")

    def close(self) -> None:
        """Write down what is pending; close the database if the cache opened it itself."""
        if self._store is not None:
            self._store.flush()
        self._resources.close()

    @property
    def store_in_use(self) -> AnswerStore:
        """Where the answers are; opened at the first use."""
        with self._lock:
            if self._store is None:
                self._store = self.open_store("agent")
            return self._store

    def open_store(self, kind: str) -> AnswerStore:
        """A store for another kind of answers, with the settings and resources of this cache."""
        return AnswerStore(
            self._resources.database(self._clock),
            self._resources.embeddings(),
            kind=kind,
            decider=Threshold(self.threshold),
            max_entries=self.max_entries,
            max_scopes=self._max_scopes,
            clock=self._clock,
        )

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def check_settings(*, threshold: float, ttl_seconds: float | None, max_entries: int, max_scopes: int) -> None:
    """Raises `ConfigurationError` for settings that cannot work."""
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not number or not 0 < threshold <= 1:
        raise ConfigurationError("threshold", threshold, "use a cosine similarity in (0, 1], such as 0.93")
    if ttl_seconds is not None and not ttl_seconds > 0:
        raise ConfigurationError("ttl_seconds", ttl_seconds, "use a number of seconds above 0, or None for no limit")
    for name, value in (("max_entries", max_entries), ("max_scopes", max_scopes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(name, value, "use a whole number of at least 1")


def _told(spent: str | None) -> tuple[UsageMetadata | None, ModelIdentity]:
    told = json.loads(spent) if spent else {}
    return told.get("usage"), ModelIdentity(told.get("provider"), told.get("name"))


class Resources:
    """The embedder and the database of a cache: given, attached later, or made at the first use."""

    def __init__(self, embeddings: Embeddings | str | None, database: Database | str | Path | None) -> None:
        if embeddings is not None and not isinstance(embeddings, (Embeddings, str)):
            raise ConfigurationError("embeddings", embeddings, "pass a LangChain Embeddings, a model name or a folder")
        if database is not None and not isinstance(database, (Database, str, Path)):
            raise ConfigurationError("database", database, "pass a Database, a path or a URL")
        self._embeddings = embeddings
        self._database = database
        self._opened: Database | None = None
        self._lock = threading.Lock()

    def attach(self, *, database: Database | None, embeddings: MemoEmbeddings | None) -> None:
        self._database = database if self._database is None else self._database
        self._embeddings = embeddings if self._embeddings is None else self._embeddings

    def embeddings(self) -> MemoEmbeddings:
        with self._lock:
            if not isinstance(self._embeddings, MemoEmbeddings):
                self._embeddings = MemoEmbeddings(self._embeddings)
            return self._embeddings

    def database(self, clock: Callable[[], float]) -> Database:
        with self._lock:
            if not isinstance(self._database, Database):
                self._database = self._opened = Database(self._database, clock=clock)
            return self._database

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
