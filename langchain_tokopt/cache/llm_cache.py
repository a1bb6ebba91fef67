"""The semantic cache as LangChain's `BaseCache`, for `set_llm_cache` and `model.cache`."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokopt.cache.answers import UnreadableError, cleaned, json_safe, read, renewed, unfit, unfit_ending
from langchain_tokopt.cache.comparing import Comparing, answer_text
from langchain_tokopt.cache.decision import Verdict
from langchain_tokopt.cache.desk import AnswerDesk
from langchain_tokopt.cache.fingerprint import conversation, digest
from langchain_tokopt.cache.key import Asked, Bypass, Turn, last_turn, owner_of, refused_sampling
from langchain_tokopt.cache.semantic import SemanticCache
from langchain_tokopt.cache.store import Found
from langchain_tokopt.caller import active_config
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Mode, NullSink, ShadowSink, Sink, Who, who
from langchain_tokopt.flow import in_thread
from langchain_tokopt.memo import Memo

log = logging.getLogger("langchain_tokopt")

_VERSION = 1  # of what goes into a scope
_UNDER_WAY = 10_000
# A parameter in the text that LangChain makes of a model: JSON of its fields, and its bound arguments as tuples.
_PARAMETER = r"[\"'](?:{name})[\"'](?::|,)\s*(\d+(?:\.\d+)?)"
_TEMPERATURE = re.compile(_PARAMETER.format(name="temperature"))
_COUNT = re.compile(_PARAMETER.format(name="n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """A prompt as the store knows it."""

    scope: str
    owner: str
    exact: str
    text: str
    exact_only: str | None


class SemanticLLMCache(BaseCache):
    """A `BaseCache` that finds equal prompts, and chat prompts whose last user text means the same.

    The serialised prompt is never embedded: under a long system prompt unrelated questions would look alike. Of a chat
    prompt only the last user text is compared by meaning; all before it, and the model with its parameters, must be
    equal. A plain prompt must be equal as a whole, unless `semantic_plain` is set.

    LangChain does not ask a cache while it streams, and does not show it the config of a direct call: in
    `model.invoke(x, config)` a tenant that stands in `config` is not seen, only inside of a chain or graph is it. Where
    tenants share a model, give `tenant`, or use `SemanticCacheMiddleware`, which sees all. An error in here never
    reaches the caller; it is logged once and counted.

    Args:
        cache: Whose settings, embedder and database are used; one of its own, in memory, by default. Answers are kept
            apart from those of agents.
        tenant: Gives the current tenant; tenants never see each other's answers, and `None` as its result means that
            the prompt is not cached. By default the config of the chain around is asked (`tenant`, else `user_id`);
            without one all share. Needed if `cache` has a tenant function: that reads a request, and here is none.
        semantic_plain: Compare plain prompts (of an `LLM`, not a chat model) by meaning, too.
        sink: Is told of every look into the cache (`CacheLookup`).
        mode: "optimize", or "shadow" to look, record and store, and serve nothing.
    """

    def __init__(
        self,
        cache: SemanticCache | None = None,
        *,
        tenant: Callable[[], str | None] | None = None,
        semantic_plain: bool = False,
        sink: Sink | None = None,
        mode: Mode = "optimize",
    ) -> None:
        if mode not in ("optimize", "shadow"):
            raise ConfigurationError("mode", mode, 'use "optimize" or "shadow"')
        if cache is not None and not isinstance(cache, SemanticCache):
            raise ConfigurationError("cache", cache, "pass a SemanticCache")
        if tenant is not None and not callable(tenant):
            raise ConfigurationError("tenant", tenant, "pass a function without arguments")
        self.cache = cache if cache is not None else SemanticCache()
        self._tenant = tenant
        self._semantic_plain = semantic_plain
        self._mode = mode
        told: Sink = sink if sink is not None else NullSink()
        self._sink: Sink = ShadowSink(told) if mode == "shadow" else told
        self._desk: AnswerDesk | None = None
        # What was found for a prompt that the model is being asked, until its answer comes.
        self._asked: Memo[Found | None] = Memo(limit=_UNDER_WAY)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._logged: set[str] = set()

    # --- BaseCache ---------------------------------------------------------------------------------------------------

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The generations stored for this prompt, or for one that means the same; `None` if there are none."""
        started = time.perf_counter()
        try:
            parsed = self._parse(prompt, llm_string)
            if isinstance(parsed, Bypass):
                self._tell(Found(reason=parsed.reason), None, started, bypass=True)
                return None
            desk = self._desk_in_use()
            finding = desk.find(parsed)
            found = finding.found
            # There is no way to ask the model beside: audited ones go to it instead, and are compared with its answer.
            watched = self._mode == "shadow"  # then the model is asked in any case
            audited = finding.audit and found.how == "semantic" and not watched
            if audited or found.entry is None or watched:
                self._asked.put((parsed.scope, parsed.exact), found)
            if audited or found.entry is None:
                reason = "audited" if audited else found.reason
                self._tell(Found(similarity=found.similarity, reason=reason), None, started)
                return None
            try:
                generations = _unpacked(found)
            except UnreadableError as error:
                desk.store.drop(found.entry)
                if desk.learned is not None and found.verdict is not None:
                    desk.learned.withdrawn(found.verdict)
                self._failed("a cached answer cannot be read and was removed", error)
                return None
            self._tell(found, json.loads(found.entry.spent or "null"), started)
        except Exception as error:  # LangChain lets a cache's errors reach the user
            self._failed("lookup", error)
            return None
        return None if self._mode == "shadow" else generations

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Store the generations; tool calls, incomplete and empty answers are left out."""
        try:
            parsed = self._parse(prompt, llm_string)
            if isinstance(parsed, Bypass):
                return
            if not return_val or any(_unfit(generation) is not None for generation in return_val):
                self._count("not_stored")
                return
            kept = self._keep(parsed, return_val)
            self._count("stored" if kept is not None else "not_stored")
        except Exception as error:
            self._failed("update", error)

    def _keep(self, parsed: _Prompt, return_val: RETURN_VAL_TYPE) -> int | None:
        desk = self._desk_in_use()
        payload = dumps([_packed(generation) for generation in return_val])
        step = (parsed.scope, parsed.exact)
        found = self._asked.get(step) or Found()
        self._asked.put(step, None)
        kept = desk.keep(
            parsed,
            payload,
            spent=json.dumps(_usage(return_val)),
            ttl_seconds=self.cache.settings.ttl_seconds,
            value_nano_usd=None,
            verdict=found.verdict if found.entry is None else None,
            source="model" if found.entry is None else "audit",
        )
        if found.entry is not None and desk.comparing is not None:
            self._compare(desk.comparing, parsed.text, found.entry.payload, payload, found.verdict)
        return kept

    def _compare(self, comparing: Comparing, question: str, stored: str, new: str, verdict: Verdict | None) -> None:
        """Learn from the model's answer where a stored one was not given: it was audited, or only looked at."""
        given, answer = answer_text(stored), answer_text(new)
        if given is None or answer is None:
            return
        if verdict is None:
            comparing.twins(question, given, answer)
            return
        if self._mode == "shadow":  # all are compared, not a sample
            verdict = replace(verdict, audit_rate=1.0, audit=True)
        comparing.audited(question, verdict, given, answer, lambda: None)

    def clear(self, **kwargs: Any) -> None:
        """Remove every answer of this cache."""
        self._desk_in_use().store.clear()

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        found: RETURN_VAL_TYPE | None = await in_thread(self.lookup, prompt, llm_string)
        return found

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        await in_thread(self.update, prompt, llm_string, return_val)

    async def aclear(self, **kwargs: Any) -> None:
        await in_thread(self.clear)

    # --- the whole ---------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counts of this process, and `entries`: how many answers the database holds, whoever stored them."""
        with self._lock:
            counts = dict(self._counts)
        names = ("exact_hits", "semantic_hits", "misses", "bypasses", "errors", "stored", "not_stored")
        told: dict[str, Any] = {name: counts.get(name, 0) for name in names}
        told["hits"] = told["exact_hits"] + told["semantic_hits"]
        return told | self._desk_in_use().stats()

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Whether all that is being learned in the background was done within this time."""
        return self._desk is None or self._desk.settle(timeout_seconds)

    def close(self) -> None:
        """Write down what is pending; close the database if the cache opened it itself."""
        if self._desk is not None:
            self._desk.close()
        self.cache.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _parse(self, prompt: str, llm_string: str) -> _Prompt | Bypass:
        reason = self._refused(llm_string)
        if reason is not None:
            return Bypass(reason)
        owner = self._owner()
        if isinstance(owner, Bypass):
            return owner
        messages = _messages(prompt)
        if messages is None:
            scope = digest([_VERSION, "plain", owner, llm_string])
            asked = Asked.of(Turn((), prompt, None, ()), "exact", self.cache.rules.semantic_max_tokens)
            only = asked.exact_only if self._semantic_plain else "a plain prompt"
            return _Prompt(scope=scope, owner=digest(owner), exact=asked.exact(), text=prompt, exact_only=only)
        turn = last_turn(messages)
        if isinstance(turn, Bypass):
            return turn
        if turn.after:
            return Bypass("after a tool call")
        rules = self.cache.rules
        asked = Asked.of(turn, rules.history, rules.semantic_max_tokens)
        return _Prompt(
            scope=digest([_VERSION, "chat", owner, llm_string, conversation(asked.equal), turn.parts]),
            owner=digest(owner),
            exact=asked.exact(),
            text=asked.text,
            exact_only=asked.exact_only,
        )

    def _owner(self) -> str | Bypass:
        if self._tenant is not None:
            named = self._tenant()
            return Bypass("the tenant function named no tenant") if named is None else owner_of(tenant=named)
        if self.cache.rules.tenant is not None:
            return Bypass("the cache's tenant function reads requests: give SemanticLLMCache a tenant= of its own")
        return owner_of(tenant=_who().tenant, user=_who().user)

    def _refused(self, llm_string: str) -> str | None:
        # What is bound comes last and wins.
        temperatures = [float(found) for found in _TEMPERATURE.findall(llm_string)]
        sampled = refused_sampling(temperatures[-1] if temperatures else None, allowed=self.cache.rules.cache_sampled)
        counts = [int(float(found)) for found in _COUNT.findall(llm_string)]
        return sampled or (f"n={counts[-1]}: several answers were asked for" if counts and counts[-1] > 1 else None)

    def _desk_in_use(self) -> AnswerDesk:
        with self._lock:
            if self._desk is None:
                self._desk = self.cache.open_desk("llm")
            return self._desk

    def _tell(self, found: Found, usage: UsageMetadata | None, started: float, *, bypass: bool = False) -> None:
        outcome: Any = "bypass" if bypass else found.how
        self._count({"exact": "exact_hits", "semantic": "semantic_hits", "miss": "misses"}.get(outcome, "bypasses"))
        self._sink.emit(
            CacheLookup(
                who=_who(),
                outcome=outcome,
                similarity=found.similarity,
                threshold=None if bypass else self.cache.threshold,
                saved_input_tokens=usage["input_tokens"] if usage else None,
                saved_output_tokens=usage["output_tokens"] if usage else None,
                reason=found.reason,
                seconds=time.perf_counter() - started,
            )
        )

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _failed(self, stage: str, error: Exception) -> None:
        self._count("errors")
        if stage not in self._logged:
            self._logged.add(stage)
            log.warning("the LLM cache stepped aside (%s): %s: %s", stage, type(error).__name__, error)


def _who() -> Who:
    return who(config=active_config())


def _messages(prompt: str) -> list[BaseMessage] | None:
    """The messages that LangChain has serialised into a chat prompt; `None` if it is a plain prompt."""
    if not prompt.startswith("[{"):
        return None
    try:
        messages = read(prompt, "messages")
    except UnreadableError:
        return None
    return messages if isinstance(messages, list) and all(isinstance(m, BaseMessage) for m in messages) else None


def _unfit(generation: Generation) -> str | None:
    """Why a generation must not be kept, `None` if it may."""
    info = generation.generation_info or {}
    if not isinstance(generation, ChatGeneration):
        if not generation.text.strip():
            return "empty"
        return unfit_ending(info) or (None if json_safe(info) else "content that cannot be written down")
    if not isinstance(generation.message, AIMessage):
        return "no answer"
    return unfit_ending(info) or unfit(generation.message)


def _packed(generation: Generation) -> Generation:
    if isinstance(generation, ChatGeneration):
        return ChatGeneration(message=cleaned(generation.message))
    return Generation(text=generation.text, generation_info=generation.generation_info)


def _unpacked(found: Found) -> list[Generation]:
    generations = read(found.entry.payload if found.entry else "", [Generation, ChatGeneration, AIMessage])
    if not isinstance(generations, list) or not all(isinstance(g, Generation) for g in generations):
        msg = "the stored answer holds no generations"
        raise UnreadableError(msg)
    note = {"cache": found.how, "similarity": found.similarity}
    return [
        ChatGeneration(message=renewed(g.message, note, name=g.message.name))
        if isinstance(g, ChatGeneration) and isinstance(g.message, AIMessage)
        else g
        for g in generations
    ]


def _usage(generations: Sequence[Generation]) -> UsageMetadata | None:
    total: UsageMetadata | None = None
    for generation in generations:
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            usage = generation.message.usage_metadata
            total = add_usage(total, usage) if usage else total
    return total
