"""What one request's tools cost: all of them, and those that a plan binds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokopt.identity import ModelIdentity, model_identity
from langchain_tokopt.prefix import Segment, caching_enabled, split
from langchain_tokopt.tools.index import FITTING_LEAST
from langchain_tokopt.tools.worth import PICKED_SHARE, Way, Worth, rounded_up, worth

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain.agents.middleware.types import ModelRequest

    from langchain_tokopt.pricing import Pricing, Rates
    from langchain_tokopt.tokens import TokenCounter
    from langchain_tokopt.tools.plan import Plan
    from langchain_tokopt.tools.registry import Registry


@dataclass(frozen=True)
class Bill:
    """Figures for one request, each worked out when it is asked for. `messages` is the thread as it is stored."""

    request: ModelRequest[Any]
    registry: Registry
    messages: Sequence[BaseMessage]
    counter: TokenCounter
    pricing: Pricing

    @cached_property
    def given(self) -> int:
        """Schema tokens of all tools as they were given."""
        return self.registry.tokens_given(self.counter, self._model.name)

    @cached_property
    def everything(self) -> int:
        """Schema tokens of all tools as they are sent when nothing is left out."""
        return self.registry.tokens(self.registry.index.names, self.counter, self._model.name, others=True)

    @property
    def caches(self) -> bool:
        """Whether the provider is known to cache this request's prompt."""
        return self._rates is not None and self._rates.caching != "none"

    def outlook(
        self, way: Way, *, always: Sequence[str], picks: int, asked: str, calls: Iterable[int], searches: bool
    ) -> Worth:
        """What a thread that begins with `asked` is expected to cost: of the given lengths, where it saves least.

        `always` are the tools that every thread is given; `picks` more of average size are added to them.
        """
        model = self._model.name
        own = self.registry.tokens(always, self.counter, model, others=True)
        size = (self.everything - own) / max(1, len(self.registry.index) - len(always))
        if way == "proxy":
            size *= self.registry.note_share(self.counter, model)
        helpers = self.registry.helper_tokens(self.counter, model, searches=searches, calls=way == "proxy")
        outlooks = [
            worth(
                way=way,
                everything=self.everything,
                core=own + helpers,
                picked=round(size * max(min(picks, FITTING_LEAST), PICKED_SHARE * picks)),
                # Rounded, so that a prompt that carries the date or a name does not change the outlook of a thread.
                system=rounded_up(self._system),
                asked=self.counter.text(asked, model),
                rates=self._rates,
                calls=count,
                searches=searches,
            )
            for count in calls
        ]
        return max(outlooks, key=lambda outlook: outlook.share)

    def after(self, plan: Plan) -> int:
        """Tokens of the tools that the model is told of by the plan, in whatever place."""
        core, added, last = plan.weights(self.counter, self._model.name)
        return core + sum(added) + last

    def saved_usd(self, plan: Plan) -> Decimal | None:
        """USD that the plan saves in this one call, `None` when the price is not known.

        Negative in a call that writes to the provider's cache what it would have read with all tools bound.
        """
        rates = self._rates
        if rates is None:
            return None
        full, few = self._prompt(None, None), self._prompt(plan, None)
        answered = _last_answer(self.messages)
        if answered is None:  # a thread's first call: what all threads have in common is in the cache
            full_before, few_before = full[:2], few[: 1 if plan.way == "rebind" else 2]
        else:
            full_before, few_before = self._prompt(None, answered), self._prompt(plan, answered)
        return split(full_before, full, rates).cost(rates) - split(few_before, few, rates).cost(rates)

    def saved_usd_by_size(self) -> Decimal | None:
        """USD that smaller schemas save in this one call when all tools are bound; `None` when it is not known."""
        rates = self._rates
        if rates is None:
            return None
        rest = self._prompt(None, None)[1:]
        given, sent = [Segment(b"given", self.given), *rest], [Segment(b"sent", self.everything), *rest]
        answered = _last_answer(self.messages)
        seen = 2 if answered is None else len(self._prompt(None, answered))
        before, after = split(given[:seen], given, rates), split(sent[:seen], sent, rates)
        return before.cost(rates) - after.cost(rates)

    def _prompt(self, plan: Plan | None, before: int | None) -> list[Segment]:
        """The prompt with the plan's tools, or with all: as it is now, or as it was for the answer at `before`.

        `before` is a position of the thread. Of that the request may show the end only.
        """
        model = self._model.name
        hidden = max(0, len(self.messages) - len(self.request.messages))
        shown = self.request.messages if before is None else self.request.messages[: max(0, before - hidden)]
        said = [[Segment(b"message %d" % at, self.counter.message(message, model))] for at, message in enumerate(shown)]
        tools = [Segment(b"all", self.given)]
        if plan is not None:
            core, added, last = plan.weights(self.counter, model)
            tools = [Segment(b"core", core)]
            for number, (batch, tokens) in enumerate(zip(plan.batches, added, strict=True)):
                if before is None or batch.at < before:
                    at = max(0, batch.at - hidden)
                    place = tools if plan.way == "rebind" or at >= len(said) else said[at]
                    place.append(Segment(b"batch %d" % number, tokens))
            if before is None and last:
                tools.append(Segment(b"last", last))
        return [*tools, Segment(b"system", self._system), *chain.from_iterable(said)]

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


def _last_answer(messages: Sequence[BaseMessage]) -> int | None:
    positions = range(len(messages) - 1, -1, -1)
    return next((at for at in positions if isinstance(messages[at], AIMessage)), None)
