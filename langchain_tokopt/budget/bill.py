"""What a model call took: put together from what the watch saw, the response, or the error that ended it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.watch import Attempt
from langchain_tokopt.budget.worst_case import plain_usage
from langchain_tokopt.flow import partial_answer
from langchain_tokopt.pricing import Rates

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelResponse

    from langchain_tokopt.tokens import TokenCounter

ESTIMATED = "the provider reported no usage: estimated"
FROM_CACHE = "answered by LangChain's own cache"


@dataclass(frozen=True, slots=True)
class Bill:
    """What is to be booked for a call; `usage` is `None` when nothing was spent, `calls` how often it was made."""

    usage: UsageMetadata | None
    usd: Decimal | None = None
    reason: str | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Biller:
    """Writes the bills of one call.

    Attributes:
        hold: What the call holds.
        counter: Counts what no provider reported.
        rates: Prices of other models than the call's own, by name and provider.
    """

    hold: Hold
    counter: TokenCounter
    rates: Callable[[str | None, str | None], Rates | None]

    def for_response(self, response: ModelResponse[Any], attempts: Sequence[Attempt]) -> Bill:
        """The bill for a call that gave an answer; every attempt that was answered counts, also those thrown away."""
        done = _answered(attempts)
        if not _complete(done):
            answer = next((message for message in response.result if isinstance(message, AIMessage)), None)
            done += [Attempt(answer=answer)] if answer is not None else []
        return self._sum(done)

    def for_error(self, error: BaseException, attempts: Sequence[Attempt] | None) -> Bill:
        """The bill for a call that ended with `error`; `attempts` is `None` where nobody watched.

        Answers that were complete are billed whatever came after them, such as one that could not be parsed. One that
        broke off has its input on the bill, and as much of its answer as was seen: providers charge for both. An error
        before any answer is taken to be one that they do not charge for. A cancelled call (or one of which the caller
        closed the stream) has its input on the bill in any case.
        """
        name = type(error).__name__
        done = _answered(attempts or ())
        answer = getattr(error, "ai_message", None)  # of LangChain's StructuredOutputError
        if not _complete(done) and isinstance(answer, AIMessage):
            done = [*done, Attempt(answer=answer)]
        broken_off = any(attempt.answer is None for attempt in done)
        if isinstance(error, Exception):
            bill = self._sum(done)
            if bill.usage is None:
                return Bill(None, reason=name)
            when = "in the middle of the answer" if broken_off else "after the answer"
            return Bill(bill.usage, bill.usd, _joined(f"{name} {when}", bill.reason), bill.calls)
        if attempts is not None:
            done = [*_complete(done), *(attempt for attempt in attempts if attempt.answer is None)]
            if not done:
                return Bill(None, reason=f"{name} before the model was called")
        else:
            partial = partial_answer(error)
            seen = Attempt()
            if partial is not None:
                seen = Attempt(streamed=[str(partial.text)], streamed_usage=partial.usage_metadata)
            done = [*done, seen]
        bill = self._sum(done)
        return Bill(bill.usage, bill.usd, f"{name}: input and what was seen of the answer", bill.calls)

    def _sum(self, attempts: Sequence[Attempt]) -> Bill:
        """The attempts together; one without an answer is one that broke off."""
        usage: UsageMetadata | None = None
        usd: Decimal | None = None
        calls = 0
        reason = FROM_CACHE if attempts else None
        for attempt in attempts:
            if attempt.from_cache:
                continue
            part = self._cut_off(attempt) if attempt.answer is None else attempt.answer.usage_metadata
            estimated = part is None or not (part["input_tokens"] or part["output_tokens"])
            if part is None or estimated:
                part = plain_usage(
                    self.hold.case.counted_tokens, self._count(attempt.answer) if attempt.answer is not None else 0
                )
            usage, usd, calls = add_usage(usage, part), _plus(usd, self._cost(attempt, part)), calls + 1
            reason = ESTIMATED if estimated or reason == ESTIMATED else None
        return Bill(usage, usd, reason, max(1, calls))

    def _count(self, answer: AIMessage) -> int:
        return self.counter.message(answer, self.hold.case.model)

    def _cut_off(self, attempt: Attempt) -> UsageMetadata:
        """Some providers report the input first, and what they gave so far as they go."""
        seen = self.counter.text("".join(attempt.streamed), self.hold.case.model)
        reported = attempt.streamed_usage
        if reported is None:
            return plain_usage(self.hold.case.counted_tokens, seen)
        usage = plain_usage(
            reported["input_tokens"] or self.hold.case.counted_tokens, max(reported["output_tokens"], seen)
        )
        if "input_token_details" in reported:
            usage["input_token_details"] = reported["input_token_details"]
        return usage

    def _cost(self, attempt: Attempt, usage: UsageMetadata) -> Decimal | None:
        """At the prices of the model that was really called, which may be another than the request's."""
        case, rates = self.hold.case, self.hold.rates
        if attempt.model is not None and attempt.model != case.model:
            rates = self.rates(attempt.model, attempt.provider) or rates
        return None if rates is None else rates.cost(case.as_asked(usage))


def _answered(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts that were answered, wholly or in part."""
    return [attempt for attempt in attempts if attempt.answer is not None or attempt.streamed or attempt.streamed_usage]


def _complete(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.answer is not None]


def _plus(usd: Decimal | None, more: Decimal | None) -> Decimal | None:
    return usd if more is None else more + (usd or 0)


def _joined(*reasons: str | None) -> str:
    return "; ".join(reason for reason in reasons if reason)
