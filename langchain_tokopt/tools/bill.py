"""What one request's tools cost: all of them, and those that a plan binds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokopt.identity import ModelIdentity, model_identity
from langchain_tokopt.prefix import Segment, caching_enabled, split
from langchain_tokopt.tools.worth import Worth, rounded_up, worth

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain.agents.middleware.types import ModelRequest

    from langchain_tokopt.pricing import Pricing, Rates
    from langchain_tokopt.tokens import TokenCounter
    from langchain_tokopt.tools.plan import Plan, Registry


@dataclass(frozen=True)
class Bill:
    """Figures for one request, each worked out when it is asked for. `messages` is the thread as it is stored."""

    request: ModelRequest[Any]
    registry: Registry
    messages: Sequence[BaseMessage]
    counter: TokenCounter
    pricing: Pricing

    @cached_property
    def before(self) -> int:
        """Schema tokens of all tools."""
        return self.registry.tokens(self.registry.index.names, self.counter, self._model.name, others=True)

    def outlook(self, *, always: Sequence[str], picks: int, asked: str, calls: Iterable[int], searches: bool) -> Worth:
        """What a thread that begins with `asked` is expected to cost: of the given lengths, where it saves least.

        `always` are the tools that every thread is given; `picks` more of average size are added to them.
        """
        core = self.registry.tokens(always, self.counter, self._model.name, others=True)
        size = (self.before - core) / max(1, len(self.registry.index) - len(always))
        outlooks = [
            worth(
                everything=self.before,
                core=core,
                picked=round(size * picks),
                # Rounded, so that a prompt that carries the date or a name does not change the outlook of a thread.
                system=rounded_up(self._system),
                asked=self.counter.text(asked, self._model.name),
                rates=self._rates,
                calls=count,
                searches=searches,
            )
            for count in calls
        ]
        return max(outlooks, key=lambda outlook: outlook.share)

    def after(self, plan: Plan) -> int:
        """Schema tokens of the tools that the plan binds."""
        return sum(plan.tokens(self.counter, self._model.name))

    def saved_usd(self, plan: Plan) -> Decimal | None:
        """USD that the plan saves in this one call, `None` when the price is not known.

        Negative in a call that writes to the provider's cache what it would have read with all tools bound.
        """
        rates = self._rates
        if rates is None:
            return None
        rest = [Segment(b"system", self._system)]
        rest += [
            Segment(b"message %d" % at, self.counter.message(message, self._model.name))
            for at, message in enumerate(self.request.messages)
        ]
        full, few = [Segment(b"all", self.before)], self._segments(plan, None)
        answered = _last_answer(self.request.messages)
        if answered is None:  # a thread's first call: what all threads have in common is in the cache
            full_before, few_before = [*full, rest[0]], few[:1]
        else:
            seen = rest[: answered + 1]
            full_before, few_before = [*full, *seen], [*self._segments(plan, _last_answer(self.messages)), *seen]
        full_use, few_use = split(full_before, [*full, *rest], rates), split(few_before, [*few, *rest], rates)
        return full_use.cost(rates) - few_use.cost(rates)

    @cached_property
    def _model(self) -> ModelIdentity:
        return model_identity(self.request.model, self.request.model_settings)

    @cached_property
    def _rates(self) -> Rates | None:
        """The model's rates, without caching when this request does not use it."""
        if self._model.name is None:
            return None
        rates = self.pricing.rates(self._model.name, self._model.provider)
        if rates is None or caching_enabled(self.request, rates):
            return rates
        return replace(rates, caching="none")

    @cached_property
    def _system(self) -> int:
        system = self.request.system_message
        return 0 if system is None else self.counter.message(system, self._model.name)

    def _segments(self, plan: Plan, before: int | None) -> list[Segment]:
        """The plan's tools as they are sent now, or as they were for the answer at position `before` of the thread."""
        core, *added, last = plan.tokens(self.counter, self._model.name)
        found = [
            Segment(b"batch %d" % number, tokens)
            for number, (batch, tokens) in enumerate(zip(plan.batches, added, strict=True))
            if before is None or batch.at < before
        ]
        now_only = [Segment(b"last", last)] if before is None and last else []
        return [Segment(b"core", core), *found, *now_only]


def _last_answer(messages: Sequence[BaseMessage]) -> int | None:
    positions = range(len(messages) - 1, -1, -1)
    return next((at for at in positions if isinstance(messages[at], AIMessage)), None)
