"""The semantic cache as a middleware of an agent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_tokopt.cache.flights import Question
from langchain_tokopt.cache.hits import Hit, Look
from langchain_tokopt.cache.key import Bypass, CacheKey
from langchain_tokopt.cache.semantic import SemanticCache
from langchain_tokopt.caller import call_who
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, is_internal
from langchain_tokopt.later import Later
from langchain_tokopt.memo import Memo
from langchain_tokopt.pricing import Pricing

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

_STEPS_KEPT = 4_096
_AGAIN = "the same step asks again"


class SemanticCacheMiddleware(FlowMiddleware):
    """Serves an agent's repeated questions from a `SemanticCache`. Goes first in the list of middleware.

    Equal and near-equal questions that arrive at the same time make one model call: the others wait for its answer, at
    most `wait_seconds` of the cache.

    Args:
        cache: The cache; one of its own, in memory, by default.
        sink: Is told of every look into the cache (`CacheLookup`): one for each request, however long it waited. Calls
            of an optimiser's own (audits, answers ahead) are none.
        mode: In "shadow" answers are stored and looked up, and never served.
        name: The middleware's name in the graph.
        pricing: Prices what a hit saves; without it that is not known.
    """

    part: ClassVar[str] = "cache"

    def __init__(
        self,
        cache: SemanticCache | None = None,
        *,
        sink: Sink | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
        pricing: Pricing | None = None,
    ) -> None:
        if cache is not None and not isinstance(cache, SemanticCache):
            raise ConfigurationError("cache", cache, "pass a SemanticCache")
        super().__init__(sink=sink, mode=mode, name=name)
        self.cache = cache if cache is not None else SemanticCache()
        self._pricing = pricing
        self._asked: Memo[bool] = Memo(limit=_STEPS_KEPT)

    def flow(self, request: ModelRequest[Any]) -> Flow:
        if is_internal(request):
            return (yield request)  # an optimiser further out makes it: no question of a user's, and not to be counted
        started = time.perf_counter()
        key = self.cache.examine(request)
        if isinstance(key, Bypass):
            self.cache.bypassed()
            self._tell(request, Look(reason=key.reason), started, bypass=True)
            return (yield request)
        again = self._asked_again(request, key)
        if again:
            key = replace(key, serve=False)
        mark = self.cache.flights.mark(key.scope)
        look = replace(self.cache.look(key), reason=_AGAIN) if again else self.cache.look(key)
        if self.mode == "shadow" or not key.serve:
            self._tell(request, look, started, bypass=not key.serve)
            return (yield from self._watched(request, key, look))
        if look.hit is not None:
            return (yield from self._given(request, key, look, started))
        near, threshold = self._near(key, look)
        with self.cache.flights.board(key.scope, key.exact, question=near, threshold=threshold, mark=mark) as turn:
            while (pause := turn.pause()) is not None:
                yield pause
                started = time.perf_counter()
                look = self.cache.look(key, again=True)
                if look.hit is not None:
                    return (yield from self._given(request, key, look, started))
            self._tell(request, look, started, bypass=False)
            response = yield request
            self.cache.store(key, response, look)
        yield from self.cache.ahead(request, key, look)
        return response

    def _given(self, request: ModelRequest[Any], key: CacheKey, look: Look, started: float) -> Flow:
        """The stored answer, and where it is audited the same question to the model beside it."""
        self._tell(request, look, started, bypass=False)
        if look.audit:
            yield Later(request, lambda response: self.cache.audited(key, look, response))
        yield from self.cache.ahead(request, key, look)
        assert look.hit is not None  # noqa: S101 - checked by the caller
        return look.hit.to_response()

    def _watched(self, request: ModelRequest[Any], key: CacheKey, look: Look) -> Flow:
        """In shadow the model is asked in any case: what would have been served is audited for nothing."""
        response = yield request
        if look.hit is not None:
            self.cache.watched(key, look, response)
        else:
            self.cache.store(key, response, look)
        yield from self.cache.ahead(request, key, look)
        return response

    def _near(self, key: CacheKey, look: Look) -> tuple[Question | None, float]:
        """By what near-equal questions under way wait for each other: only where they may then be served."""
        served_from = self.cache.serves_from()
        if look.vector is None or key.exact_only is not None or served_from is None:
            return None, 1.0
        return Question(key.text, look.vector), served_from

    def _asked_again(self, request: ModelRequest[Any], key: CacheKey) -> bool:
        """Whether the same step of an agent asked this before: then a middleware further out did not like the answer.

        The stored answer would be the one that it turned down, so the model is asked.
        """
        info = getattr(request.runtime, "execution_info", None)
        if info is None or info.task_id is None:
            return False
        step = (info.task_id, info.node_attempt, info.node_first_attempt_time, key.scope, key.exact)
        again = self._asked.get(step) is not None
        self._asked.put(step, True)
        return again

    def _tell(self, request: ModelRequest[Any], look: Look, started: float, *, bypass: bool) -> None:
        hit = look.hit
        usage = hit.usage if hit is not None else None
        self.sink.emit(
            CacheLookup(
                who=call_who(request),
                outcome=hit.how if hit is not None else "bypass" if bypass else "miss",
                similarity=look.similarity,
                threshold=None if bypass else self.cache.threshold,
                saved_input_tokens=usage["input_tokens"] if usage else None,
                saved_output_tokens=usage["output_tokens"] if usage else None,
                saved_usd=self._price(hit),
                reason=look.reason,
                seconds=time.perf_counter() - started,
            )
        )

    def _price(self, hit: Hit | None) -> Any:
        if self._pricing is None or hit is None or hit.usage is None or hit.identity.name is None:
            return None
        return self._pricing.cost(hit.usage, hit.identity.name, hit.identity.provider)
