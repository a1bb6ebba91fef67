"""The semantic cache: answers given once are given again to the same question, and to one that means the same."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.cache.answers import UnreadableError, new_id, pack, unpack, usage_of
from langchain_tokopt.cache.catalog import Catalog
from langchain_tokopt.cache.comparing import answer_text
from langchain_tokopt.cache.decision import Verdict
from langchain_tokopt.cache.desk import AnswerDesk
from langchain_tokopt.cache.expiry import expires_at
from langchain_tokopt.cache.fingerprint import digest
from langchain_tokopt.cache.flights import Flights
from langchain_tokopt.cache.foresight import Foresight
from langchain_tokopt.cache.hits import Hit, Look, hit_id
from langchain_tokopt.cache.judging import Judge
from langchain_tokopt.cache.key import Bypass, CacheKey, KeyRules, owner_of
from langchain_tokopt.cache.precompute import Precompute
from langchain_tokopt.cache.settings import CacheSettings, History, Resources, check_tools
from langchain_tokopt.cache.takings import Takings
from langchain_tokopt.cache.transfer import Imported, export, import_
from langchain_tokopt.cache.warm_up import Like, WarmUp, warm_up
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import ModelIdentity
from langchain_tokopt.later import Later
from langchain_tokopt.memo import Memo
from langchain_tokopt.pricing import Pricing

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

    from langchain_tokopt.cache.eviction import Eviction

log = logging.getLogger("langchain_tokopt")

_HITS_KEPT = 10_000  # for feedback
_NEARLY_EQUAL = 0.95  # similarity from which a learned decision is likely to serve


@dataclass(frozen=True, slots=True)
class _Given:
    """A hit that feedback may come to."""

    scope: str
    exact: str
    how: str
    entry: int
    verdict: Verdict | None


class SemanticCache:
    """Answers of models, kept in a database and found by exact text or by meaning.

    What must be equal for a hit is in `CacheKey`; what is never cached, and why, in `Bypass` and `why_not`. Questions
    must also agree in their numbers, units, negations, names, opposites, quoted text and order of things. An instance
    is thread-safe and may serve many agents; processes that share a database see each other's answers and removals at
    once, and learn from each other.

    With `max_error` the cache learns which answers may be given: it serves as many as it can while the share of all
    requests that is answered wrongly stays below `max_error`. It serves nothing by meaning before it has seen enough;
    it compares every new answer of the model with those of near questions; and it has a small share of its own answers
    audited: the model is asked in the background, never delaying the answer. `stats()` shows the audited error.

    The cache sees a request before the middleware inside of it: whatever those add from the run's context (such as a
    dynamic prompt) is not part of the key. Put such a middleware outside of the cache, or name in `tenant` what its
    result depends on.

    Args:
        max_error: Share of all requests that may be answered wrongly, in (0, 1), such as 0.01.
        threshold: Instead of `max_error`: cosine similarity, in (0, 1], from which a question counts as the same; 0.93
            where neither is given. 1 is nearly "exact only".
        audit_rate: With `max_error`: share of the answers given by meaning that is audited in the long run. It begins
            at 40 %.
        warm_up_requests: With `max_error`: how many requests are only watched at first.
        judge: With `max_error`: says whether two answers are the same. "similarity" compares their embeddings, "text"
            their words; or a function of the question, the stored and the new answer that returns a bool, such as
            `ModelJudge(model)`. What the judge gets wrong is estimated and taken out.
        judge_candidates: With how many stored answers a new one is compared; 8, or 2 for a judge of your own.
        judge_timeout_seconds: How long a judge of your own may take.
        history: What the earlier turns of a conversation must be: "exact" the same; "ignore" them, for questions that
            stand for themselves; "semantic" compares the latest of them by meaning, together with the question. A
            follow-up ("and the second one?") always needs the same earlier turns and the same text.
        eviction: What goes when there is no room: "lru", "lfu", "ttl" (what expires first), "cost" (what saves least
            money for its size), or "adaptive", which learns which of them keeps most value.
        max_entries: How many answers the database keeps; `None` for any number.
        max_bytes: How many bytes of answers, questions and vectors it keeps; `None` for any number.
        max_entry_bytes: A bigger answer is not stored.
        ttl_seconds: How long an answer is served; `None` for as long as there is room.
        ttl_jitter: By which share of `ttl_seconds` an answer may expire earlier, so that not all expire at once.
        tenant: Gives the tenant of a request; tenants never see each other's answers. `None` as its result means that
            the request is not cached. By default the tenant is read from the runtime context or the run's config
            (`tenant`, `tenant_id`), else the user (`user_id`), else everybody shares.
        embeddings: The embedder; all-MiniLM-L6-v2 by default.
        on_embedder_change: What happens to a database that another embedder was used with: "reembed" embeds its
            questions anew in the background, "refuse" raises at the first use.
        database: A `Database`, or the path or URL of one; in memory by default.
        index_folder: Where big indexes are kept so that they need not be built again; beside a SQLite file by default.
        cache_sampled: Cache answers at an explicit temperature above 0, too.
        cacheable_tools: Names of tools whose results stay true for `ttl_seconds`: answers that used no others are
            stored, too, and can be removed by `clear(tool=...)`. Needs `ttl_seconds`.
        semantic_max_tokens: Longer questions match exactly only; 256 is what MiniLM reads.
        wait_seconds: How long equal and near-equal questions wait for the first one's answer; 0 for not at all.
        neighbours: How many near questions are looked at.
        max_scopes: How many scopes this process keeps in memory.
        predict: Learn which question follows which, for each user and all users of a tenant, and load what is likely
            to come next into memory. Off by default: it takes some 60 microseconds of each request and keeps in the
            database, as digests, who asked what after what; and it saves one read of the database where a question is
            answered by meaning, which counts with a database that is far away.
        precompute: Have likely answers that are missing or about to expire made ahead, within this budget; switches
            `predict` on. Only of questions that open a conversation, or stand for themselves (`history="ignore"`): a
            new conversation with the same model, system prompt and tools is begun for each.
        pricing: Prices what hits save, and what audits and answers ahead cost.
        clock: Unix time in seconds.
        seed: Of the audits' lot.
    """

    def __init__(
        self,
        *,
        max_error: float | None = None,
        threshold: float | None = None,
        audit_rate: float = 0.03,
        warm_up_requests: int = 150,
        judge: Judge | Literal["similarity", "text"] = "similarity",
        judge_candidates: int | None = None,
        judge_timeout_seconds: float = 30.0,
        history: History = "exact",
        eviction: Eviction = "adaptive",
        max_entries: int | None = 10_000,
        max_bytes: int | None = None,
        max_entry_bytes: int | None = 1_000_000,
        ttl_seconds: float | None = None,
        ttl_jitter: float = 0.1,
        tenant: Callable[[ModelRequest[Any]], str | None] | None = None,
        embeddings: Embeddings | str | None = None,
        on_embedder_change: Literal["reembed", "refuse"] = "reembed",
        database: Database | str | Path | None = None,
        index_folder: str | Path | None = None,
        cache_sampled: bool = False,
        cacheable_tools: Collection[str] = (),
        semantic_max_tokens: int = 256,
        wait_seconds: float = 30.0,
        neighbours: int = 20,
        max_scopes: int = 256,
        predict: bool = False,
        precompute: Precompute | None = None,
        pricing: Pricing | None = None,
        clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        self.settings = CacheSettings(
            max_error=max_error,
            threshold=threshold,
            audit_rate=audit_rate,
            warm_up_requests=warm_up_requests,
            judge=judge,
            judge_candidates=judge_candidates,
            judge_timeout_seconds=judge_timeout_seconds,
            eviction=eviction,
            max_entries=max_entries,
            max_bytes=max_bytes,
            max_entry_bytes=max_entry_bytes,
            ttl_seconds=ttl_seconds,
            ttl_jitter=ttl_jitter,
            on_embedder_change=on_embedder_change,
            index_folder=index_folder,
            neighbours=neighbours,
            max_scopes=max_scopes,
            seed=seed,
        )
        if tenant is not None and not callable(tenant):
            raise ConfigurationError("tenant", tenant, "pass a function of the request, such as lambda r: ...")
        check_tools(cacheable_tools, ttl_seconds)
        if not wait_seconds >= 0:
            raise ConfigurationError("wait_seconds", wait_seconds, "use a number of seconds, or 0 for not waiting")
        if not isinstance(predict, bool):
            raise ConfigurationError("predict", predict, "use True or False")
        if precompute is not None and not isinstance(precompute, Precompute):
            raise ConfigurationError("precompute", precompute, 'pass a Precompute(usd_per_day="1.00"), or None for off')
        self.flights = Flights(wait_seconds)
        self.rules = KeyRules(
            tenant=tenant,
            cache_sampled=cache_sampled,
            cacheable_tools=frozenset(cacheable_tools),
            semantic_max_tokens=semantic_max_tokens,
            history=history,
        )
        self.predicts = predict or precompute is not None
        self._precompute = precompute
        self._foresight: Foresight | None = None
        self._resources = Resources(embeddings, database)
        self._clock = clock
        self._takings = Takings(pricing)
        self._given: Memo[_Given] = Memo(limit=_HITS_KEPT)
        self._lock = threading.Lock()
        self._desk: AnswerDesk | None = None
        self._unreadable_logged = False

    def attach(
        self,
        *,
        database: Database | None = None,
        embeddings: MemoEmbeddings | None = None,
        pricing: Pricing | None = None,
        own_result: Callable[[ToolMessage], bool] | None = None,
    ) -> SemanticCache:
        """The cache itself, using these where none was given at construction. Without effect after the first use.

        `own_result` tells a result that is the optimiser's own affair (a search for tools) from a tool's: it makes no
        answer stale.
        """
        if own_result is not None:
            self.rules = replace(self.rules, own_result=own_result)
        if self._takings.pricing is None:
            self._takings.pricing = pricing
        if self._desk is None:
            self._resources.attach(database=database, embeddings=embeddings)
        return self

    @property
    def threshold(self) -> float | None:
        """The similarity of the plain decision, `None` where the decision is learned."""
        return None if self.settings.max_error is not None else self.settings.plain_threshold

    def serves_from(self) -> float | None:
        """From which similarity on a question may be served by meaning; `None` while none is."""
        learned = self.desk.learned
        if learned is None:
            return self.settings.plain_threshold
        return _NEARLY_EQUAL if learned.limit > 0 else None

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

    def look(self, key: CacheKey, *, again: bool = False) -> Look:
        """The stored answer for a key, or why there is none. `again`: after having waited for an equal question."""
        if not key.serve:
            self._takings.count("bypasses")
            return Look(reason="after a tool call")
        try:
            look = self._look(key, again=again)
        except Exception:
            self._takings.count("errors")
            raise
        if look.hit is not None:
            self._takings.gave(look.hit, missed_before=again)
        elif not again:
            self._takings.count("misses")
        return look

    def _look(self, key: CacheKey, *, again: bool) -> Look:
        desk = self.desk
        finding = desk.find(key, again=again)
        found = finding.found
        if found.entry is None or found.how == "miss":
            return Look(similarity=found.similarity, reason=found.reason, verdict=found.verdict, vector=found.vector)
        similarity = 1.0 if found.similarity is None else found.similarity
        name = new_id()
        note = {"cache": found.how, "similarity": similarity, "id": name, "entry": found.entry.id}
        try:
            response = unpack(found.entry.payload, key, note)
        except UnreadableError as error:
            if not self._unreadable_logged:
                self._unreadable_logged = True
                log.warning("a cached answer cannot be read and was removed: %s", error)
            desk.store.drop(found.entry)
            if desk.learned is not None and found.verdict is not None:
                desk.learned.withdrawn(found.verdict)
            return Look(reason="the stored answer could not be read")
        usage, identity = _told(found.entry.spent)
        hit = Hit(
            response=response,
            how=found.how,
            similarity=similarity,
            usage=usage,
            identity=identity,
            id=name,
            entry=found.entry.id,
            risk=found.verdict.risk if found.verdict is not None else None,
        )
        self._given.put(name, _Given(key.scope, key.exact, found.how, found.entry.id, found.verdict))
        return Look(
            hit=hit,
            similarity=similarity,
            audit=finding.audit,
            verdict=found.verdict,
            payload=found.entry.payload,
            vector=found.vector,
        )

    def store(self, key: CacheKey, response: ModelResponse[Any], look: Look | None = None) -> bool:
        """Whether the answer was stored; incomplete ones, tool calls and the like are not.

        `look`: What was found before the model was asked; with it, the cache learns from the answer.
        """
        payload = pack(response, key)
        if payload is None:
            self._takings.count("not_stored")
            return False
        try:
            entry = self._keep(key, payload, response, verdict=look.verdict if look is not None else None)
        except Exception:
            self._takings.count("errors")
            raise
        self._takings.count("stored" if entry is not None else "not_stored")
        return entry is not None

    def _keep(
        self,
        key: CacheKey,
        payload: str,
        response: ModelResponse[Any],
        *,
        verdict: Verdict | None = None,
        source: Literal["model", "audit", "prefetch"] = "model",
    ) -> int | None:
        usage = usage_of(response, key.spent)
        price = self._takings.price(usage, key.identity)
        entry = self.desk.keep(
            key,
            payload,
            spent=json.dumps({"usage": usage, "provider": key.identity.provider, "name": key.identity.name}),
            tags=tuple(f"tool:{name}" for name in key.tools),
            ttl_seconds=self.settings.ttl_seconds,
            value_nano_usd=None if price is None else int(price * 10**9),
            verdict=verdict,
            source=source,
        )
        if entry is not None and self._foresight is not None:
            ttl, jitter = self.settings.ttl_seconds, self.settings.ttl_jitter
            until = expires_at(self._clock(), ttl, key=key.exact, jitter=jitter)
            self._foresight.stored(key, usage=usage, fresh_until=until)
        return entry

    # --- what comes next ---------------------------------------------------------------------------------------------

    def ahead(self, request: ModelRequest[Any], key: CacheKey, look: Look) -> Iterator[Later]:
        """What is to be answered ahead now that this was asked, for a flow to yield once it has the answer.

        Nothing, and nothing is learned, unless `predict` or `precompute` was given.
        """
        foresight = self._foresight
        return iter(()) if foresight is None or not key.serve else foresight.ahead(request, key, look)

    def _keep_ahead(self, key: CacheKey, response: ModelResponse[Any]) -> bool:
        payload = pack(response, key)
        return payload is not None and self._keep(key, payload, response, source="prefetch") is not None

    # --- learning ----------------------------------------------------------------------------------------------------

    def audited(self, key: CacheKey, look: Look, response: ModelResponse[Any]) -> None:
        """Learn from what the model says where an answer was given from the cache.

        What the cache would not store (an incomplete answer, a tool call) is no answer to compare with.
        """
        self._takings.audited(usage_of(response) if response.result else None, key.identity)
        self._compare(key, look, response)

    def _compare(self, key: CacheKey, look: Look, response: ModelResponse[Any]) -> None:
        payload = pack(response, key)
        comparing = self.desk.comparing
        if payload is None or comparing is None or look.payload is None or look.hit is None:
            return
        given, answer = answer_text(look.payload), answer_text(payload)
        if given is None or answer is None:
            return
        if look.hit.how == "exact":
            comparing.twins(key.text, given, answer)
        elif look.verdict is not None:
            comparing.audited(key.text, look.verdict, given, answer, lambda: self._put_right(key, payload, response))

    def watched(self, key: CacheKey, look: Look, response: ModelResponse[Any]) -> None:
        """Learn from the model's answer where one from the cache was only considered, as in shadow mode."""
        verdict = look.verdict
        if verdict is not None and verdict.serve:
            look = replace(look, verdict=replace(verdict, audit_rate=1.0, audit=True))
        self._compare(key, look, response)

    def _put_right(self, key: CacheKey, payload: str, response: ModelResponse[Any]) -> None:
        self._keep(key, payload, response, source="audit")

    def feedback(self, hit: Hit | AIMessage | str, *, correct: bool) -> bool:
        """Tell the cache whether an answer that it gave was right; whether it still knew of that hit.

        A wrong answer by meaning is not given to that question again, and counts as a wrong one; a wrong answer to the
        very question is removed.

        Args:
            hit: The hit, its id, or the message that was given.
            correct: Whether the answer was right.

        Raises:
            ConfigurationError: `hit` is none of these, or `correct` no bool.
        """
        if not isinstance(correct, bool):
            raise ConfigurationError("correct", correct, "use True or False")
        name = hit_id(hit)
        given = self._given.get(name)
        if given is None:
            return False
        desk = self.desk
        if given.verdict is not None and desk.learned is not None:
            desk.learned.told(given.verdict, correct=correct)
            self._given.put(name, replace(given, verdict=None))  # one answer is counted once, however often it is told
        if not correct and given.how == "exact":
            desk.store.remove([given.entry])
        elif not correct:
            desk.turned_down.add(given.scope, given.exact)
        return True

    # --- the whole ---------------------------------------------------------------------------------------------------

    def clear(self, *, tenant: str | None = None, user: str | None = None, tool: str | None = None) -> int:
        """How many answers were removed: all, or those of one tenant, of one user, or that came from one tool.

        What `predict` has learned of the same is forgotten.
        """
        name = owner_of(tenant=tenant, user=user) if tenant is not None or user is not None else None
        owner = digest(name) if name is not None else None
        store = self.desk.store
        if tool is not None:
            return store.remove_tagged(f"tool:{tool}", owner)
        if self._foresight is not None:
            self._foresight.forget(owner=name, user=user)
        return store.clear(owner)

    def invalidate(
        self,
        *,
        tag: str | None = None,
        scope: str | None = None,
        tenant: str | None = None,
        user: str | None = None,
        older_than: timedelta | None = None,
    ) -> int:
        """How many answers were removed: those that fit all that is given.

        Args:
            tag: "tool:name" for answers that used a tool.
            scope: The digest of a scope, as `CacheKey.scope` has it.
            tenant: Whose.
            user: Whose.
            older_than: Since they were stored.

        Raises:
            ConfigurationError: Nothing is given; to remove everything use `clear`.
        """
        given = (tag, scope, tenant, user, older_than)
        if given == (None,) * len(given):
            raise ConfigurationError("tag", None, "say which answers: tag, scope, tenant ...; clear() removes all")
        return self.catalog.invalidate(
            tag=tag, scope=scope, tenant=tenant, user=user, older_than=older_than, kind="agent"
        )

    @property
    def catalog(self) -> Catalog:
        """The stored answers, to be listed, shown and removed one by one."""
        desk = self.desk
        return Catalog(desk.store.database, clock=self._clock)

    def export(self, target: str | Path | IO[str], *, vectors: bool = False) -> int:
        """How many answers were written to `target`, as JSON Lines; with their vectors if that is wanted."""
        return export(self.desk.store.database, target, vectors=vectors)

    def import_(self, source: str | Path | IO[str]) -> Imported:
        """What became of the rows of an export. Bad rows are named by line, and the others are stored."""
        return import_(self.desk.store.database, source, embeddings=self._resources.embeddings())

    def warm_up(self, rows: Iterable[Mapping[str, Any]], *, like: Like) -> WarmUp:
        """What became of `rows` of a log with `question` and `answer`, stored as if the model had just answered.

        `like`: what will ask later: a wrapped model, or a `ModelRequest` with what an agent is made of.

        Raises:
            ConfigurationError: `like` is nothing that a scope can be taken from.
        """
        return warm_up(self, rows, like=like)

    def stats(self) -> dict[str, Any]:
        """Counts of this process, `entries` of the database, and with `max_error` what is known of the error.

        `hit_rate` is of all requests that were looked for. `saved_usd` is what the given answers had cost the first
        time, `audit_usd` what audits cost, both `None` without known prices; `net_usd` is what was saved less audits
        and answers that were made ahead. In shadow mode hits are those that would have been.

        "prediction", where it is on: how many predictions were "made" and "used", that is, asked for within the user's
        next three questions; their "share" with its 90 % interval; what was "preloaded" and "precomputed", and how much
        of either was used; why likely answers were "refused"; what the answers made ahead cost ("spent_usd", of which
        "estimated_usd" was not reported by the provider), what the used ones would have cost when they were asked for
        ("saved_usd") and how long their users would have waited.
        """
        desk = self.desk
        if self._foresight is None:
            return self._takings.stats() | desk.stats()
        foretold = self._foresight.stats()
        return self._takings.stats(foretold["spent_usd"]) | desk.stats() | {"prediction": foretold}

    def bypassed(self) -> None:
        """Count a request that was left alone."""
        self._takings.count("bypasses")

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Whether all that is being learned in the background was done within this time."""
        until = time.monotonic() + timeout_seconds
        if self._desk is not None and not self._desk.settle(timeout_seconds):
            return False
        return self._foresight is None or self._foresight.settle(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Write down what is pending; close the database if the cache opened it itself."""
        if self._foresight is not None:
            self._foresight.close()
        if self._desk is not None:
            self._desk.close()
        self._resources.close()

    @property
    def desk(self) -> AnswerDesk:
        """Where the answers are; opened at the first use."""
        with self._lock:
            if self._desk is None:
                self._desk = self.open_desk("agent")
                if self.predicts:
                    self._foresight = Foresight(
                        self._desk.store,
                        examine=self.examine,
                        keep=self._keep_ahead,
                        precompute=self._precompute,
                        pricing=self._takings.pricing,
                        clock=self._clock,
                    )
            return self._desk

    def open_desk(self, kind: str) -> AnswerDesk:
        """A desk for another kind of answers, with the settings and resources of this cache."""
        return AnswerDesk(kind, self.settings, self._resources, clock=self._clock)


def _told(spent: str | None) -> tuple[UsageMetadata | None, ModelIdentity]:
    told = json.loads(spent) if spent else {}
    return told.get("usage"), ModelIdentity(told.get("provider"), told.get("name"))
