"""The history part as a middleware: the model is sent the view, the thread keeps what it had."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, cast

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from langchain_tokopt.caller import call_who
from langchain_tokopt.context.history import HistoryCompression, View
from langchain_tokopt.events import Decision, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, is_internal
from langchain_tokopt.prefix import Segment, rates_in_use, segments, split
from langchain_tokopt.pricing import Rates, model_identity

# With these the provider keeps the history and is sent only what is new, or takes old results out of it, so that what a
# reference points to might be gone.
_SERVER_SIDE = ("use_previous_response_id", "previous_response_id", "conversation", "context_management")


class HistoryCompressionMiddleware(FlowMiddleware):
    """Sends tool results in fewer tokens; the thread's own messages stay as they are.

    What is sent only ever grows at its end, so the provider's prompt cache stays whole. Results that come before the
    prompt has the size from which on the provider caches are sent as they are: shortening them could keep a small
    prompt out of the cache. Requests whose history the provider keeps or edits (`previous_response_id`,
    `context_management`) are left alone.

    Later results refer to earlier ones. So whatever takes results out of the history, such as a
    `ContextEditingMiddleware`, has to come before this middleware in the agent's list.

    Added to a thread that ran without it, the first call sends the earlier results in their short form and so writes
    that part of the provider's cache again, once.

    Args:
        history: What is done to the history; `HistoryCompression()` by default.
        sink: Who is told what happened; nobody by default.
        mode: "optimize", or "shadow" to compute and record without changing anything.
        name: The middleware's name in the graph; two instances in one agent need different names.
    """

    part: ClassVar[str] = "history"

    def __init__(
        self,
        history: HistoryCompression | None = None,
        *,
        sink: Sink | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
    ) -> None:
        super().__init__(sink=sink, mode=mode, name=name)
        self.history = history if history is not None else HistoryCompression()

    def flow(self, request: ModelRequest[Any]) -> Flow:
        if is_internal(request):
            return (yield request)
        started = time.perf_counter()
        sent, outcome = self._shown(request)
        self.sink.emit(
            Decision(
                part=self.part,
                who=call_who(request),
                action="skipped" if sent is request else "applied",
                tokens_before=outcome.before,
                tokens_after=outcome.after,
                saved_usd=outcome.saved_usd,
                reason=outcome.reason,
                detail=dict(outcome.detail or {}),
                seconds=time.perf_counter() - started,
            )
        )
        return (yield sent)

    def _shown(self, request: ModelRequest[Any]) -> tuple[ModelRequest[Any], _Outcome]:
        """The request to send, and what there is to say about it."""
        results = sum(isinstance(message, ToolMessage) for message in request.messages)
        if not self.history.active or not results:
            return request, _Outcome("switched off" if results else "no tool results")
        if kept := _kept_by_provider(request):
            return request, _Outcome(f"the provider keeps or edits the history ({kept})")
        rates = self._rates(request)
        bare = segments(request, self.history.counter)
        head, start = len(bare) - len(request.messages), 0
        if rates is not None and rates.caching != "none":
            start = _cacheable_from(bare, rates.min_cache_tokens) - head
        view = self.history.examine(request.messages, start=start)
        before = sum(segment.tokens for segment in bare)
        if not view.changed:
            return request, _Outcome(_why_not(view, request.messages[max(0, start) :], rates), before, before)
        sent = request.override(messages=cast("list[AnyMessage]", view.messages))
        short = self._short_segments(request, view, bare)
        last_answer = next(
            (n for n in range(len(request.messages) - 1, -1, -1) if isinstance(request.messages[n], AIMessage)), None
        )
        last_sent = None if last_answer is None else head + last_answer
        return sent, _Outcome(
            f"{len(view.changed)} of {results} tool results are sent in fewer tokens",
            before,
            sum(segment.tokens for segment in short),
            _saved(bare, short, last_sent, rates and rates_in_use(request, rates)),
            {"results": results, "changed": len(view.changed), **view.saved},
        )

    def _rates(self, request: ModelRequest[Any]) -> Rates | None:
        model = model_identity(request.model, request.model_settings)
        return self.history.pricing.rates(model.name, model.provider) if model.name else None

    def _short_segments(self, request: ModelRequest[Any], view: View, bare: Sequence[Segment]) -> list[Segment]:
        """The segments of the view: those of the request, except where a message was changed."""
        changed = cast("list[AnyMessage]", [view.messages[index] for index in view.changed])
        alone = request.override(messages=changed, tools=[], system_message=None)
        short, head = list(bare), len(bare) - len(request.messages)
        # The last segments are the messages; what comes before them belongs to the rest of the request.
        for index, segment in zip(view.changed, segments(alone, self.history.counter)[-len(changed) :], strict=True):
            short[head + index] = segment
        return short


@dataclass(frozen=True)
class _Outcome:
    reason: str
    before: int | None = None
    after: int | None = None
    saved_usd: Decimal | None = None
    detail: dict[str, int] | None = None


def _kept_by_provider(request: ModelRequest[Any]) -> str | None:
    model: Any = request.model
    for key in _SERVER_SIDE:
        if request.model_settings.get(key, getattr(model, key, None)):
            return key
    for bound in (getattr(model, "model_kwargs", None), getattr(model, "kwargs", None)):
        for key in _SERVER_SIDE:
            if isinstance(bound, dict) and bound.get(key):
                return key
    return None


def _cacheable_from(prompt: Sequence[Segment], minimum: int) -> int:
    """The first segment that has a prefix before it that is large enough to be cached."""
    total = 0
    for index, segment in enumerate(prompt):
        if total >= minimum:
            return index
        total += segment.tokens
    return len(prompt)


def _why_not(view: View, shortened: Sequence[AnyMessage], rates: Rates | None) -> str:
    if view.problem:
        return f"the history is sent as it is, because {view.problem}"
    if rates is not None and not any(isinstance(message, ToolMessage) for message in shortened):
        return f"the tool results are within the first {rates.min_cache_tokens} tokens, below which nothing is cached"
    return "no tool result would get shorter"


def _saved(
    bare: Sequence[Segment], short: Sequence[Segment], last_sent: int | None, rates: Rates | None
) -> Decimal | None:
    """USD that this call saves. What was sent last is what came before the last answer, in the same form."""
    if rates is None:
        return None
    costs = [split(None if last_sent is None else sent[:last_sent], sent, rates).cost(rates) for sent in (bare, short)]
    return costs[0] - costs[1]
