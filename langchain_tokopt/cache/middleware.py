"""The semantic cache as a middleware of an agent."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_tokopt.cache.key import Bypass, CacheKey
from langchain_tokopt.cache.semantic import Hit, Look, SemanticCache
from langchain_tokopt.caller import call_who
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, in_thread
from langchain_tokopt.memo import Memo
from langchain_tokopt.pricing import Pricing

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

# The request that the hook has examined, what it found and how long that took: the flow inside need not do it again.
_examined: contextvars.ContextVar[tuple[Any, CacheKey | Bypass, float] | None] = contextvars.ContextVar(
    "tokopt_cache_examined", default=None
)


_STEPS_KEPT = 4_096


class SemanticCacheMiddleware(FlowMiddleware):
    """Serves an agent's repeated questions from a `SemanticCache`. Goes first in the list of middleware.

    Equal questions that arrive at the same time make one model call: the others wait for its answer, at most
    `wait_seconds` of the cache. That holds for agents; a model that is wrapped without an agent does not wait.

    Args:
        cache: The cache; one of its own, in memory, by default.
        sink: Is told of every look into the cache (`CacheLookup`).
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
        key, started = self._examine(request)
        if isinstance(key, Bypass):
            self.cache.bypassed()
            self._tell(request, Look(reason=key.reason), started, bypass=True)
            return (yield request)
        if self._asked_again(request, key):
            key = replace(key, serve=False)
        look = self.cache.look(key)
        self._tell(request, look, started, bypass=not key.serve)
        if look.hit is not None:
            return look.hit.to_response()
        response = yield request
        self.cache.store(key, response)
        return response

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

    # --- waiting for an equal question -------------------------------------------------------------------------------

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        if self.mode == "shadow" or not self.allowed():
            return super().wrap_model_call(request, handler)
        token = _examined.set(self._try_examine(request))
        try:
            with self.cache.flights.turn(_flight()):
                return super().wrap_model_call(request, handler)
        finally:
            _examined.reset(token)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        if self.mode == "shadow" or not self.allowed():
            return await super().awrap_model_call(request, handler)
        token = _examined.set(await in_thread(self._try_examine, request))
        try:
            async with self.cache.flights.aturn(_flight()):
                return await super().awrap_model_call(request, handler)
        finally:
            _examined.reset(token)

    def _examine(self, request: ModelRequest[Any]) -> tuple[CacheKey | Bypass, float]:
        """The request's key, and the `perf_counter` time at which the look into the cache began, without waiting."""
        known = _examined.get()
        if known is not None and known[0] is request:
            return known[1], time.perf_counter() - known[2]
        started = time.perf_counter()
        return self.cache.examine(request), started

    def _try_examine(self, request: ModelRequest[Any]) -> tuple[Any, CacheKey | Bypass, float] | None:
        started = time.perf_counter()
        try:
            key = self.cache.examine(request)
            return request, key, time.perf_counter() - started
        except Exception:  # raised again inside the flow, where it is put on record and stepped aside from
            return None

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


def _flight() -> Hashable | None:
    """What equal questions have in common, `None` if this one may not be served from the cache."""
    known = _examined.get()
    key = known[1] if known is not None else None
    return (key.scope, key.exact) if isinstance(key, CacheKey) and key.serve else None
