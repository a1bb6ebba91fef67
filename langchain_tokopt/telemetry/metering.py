"""What one model call used and cost: the same figures, whoever watches the call."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_core.messages import AIMessage

from langchain_tokopt.events import ModelCall, Sink, Who
from langchain_tokopt.prefix import Segment, segments
from langchain_tokopt.pricing import Pricing, model_identity
from langchain_tokopt.telemetry.reported import from_a_cache, reported_usage, usage_of
from langchain_tokopt.telemetry.sightings import Sightings
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.messages.ai import UsageMetadata

_UNKNOWN_TTL_SECONDS: Final = 300.0


class SentPrefixes:
    """Remembers the prefixes of the prompts that were sent, for as long as a provider would.

    Unlike `PromptCache` it knows no minimum and no steps, so that a call can be priced under any provider's rules.

    Args:
        max_entries: How many prefixes are remembered, the latest ones.
        clock: Unix time in seconds.
    """

    def __init__(self, *, max_entries: int = 65_536, clock: Callable[[], float] = time.time) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._expires: OrderedDict[bytes, float] = OrderedDict()

    def repeated(self, chain: Sequence[bytes]) -> int:
        """How many leading segments were sent before."""
        now = self._clock()
        with self._lock:
            for n, prefix in enumerate(chain):
                if self._expires.get(prefix, now) <= now:
                    return n
        return len(chain)

    def sent(self, chain: Sequence[bytes], ttl_seconds: float) -> None:
        """Remember a prompt that reached the provider."""
        expires = self._clock() + ttl_seconds
        with self._lock:
            for prefix in chain:
                self._expires[prefix] = expires
                self._expires.move_to_end(prefix)
            while len(self._expires) > self._max_entries:
                self._expires.popitem(last=False)


def chain_of(prompt: Sequence[Segment], scope: str) -> tuple[bytes, ...]:
    """A digest for every prefix of the prompt, the shortest first."""
    digest = hashlib.blake2b(scope.encode("utf-8", "replace"), digest_size=16).digest()
    chain = []
    for segment in prompt:
        digest = hashlib.blake2b(digest + segment.digest, digest_size=16).digest()
        chain.append(digest)
    return tuple(chain)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A call that is under way. `counted` and `repeated` are tokens by our own count; `root` is the outermost run."""

    who: Who
    model: str | None
    provider: str | None
    internal: bool
    started: float | None
    counted: int | None = None
    repeated: int | None = None
    chain: tuple[bytes, ...] = ()
    ttl_seconds: float = _UNKNOWN_TTL_SECONDS
    root: str | None = None


class Meter:
    """Turns model calls into `ModelCall` events.

    Args:
        sink: Who is told.
        pricing: What calls cost.
        counter: Counts what a provider does not report.
        sightings: Which calls were counted; shared by all who may watch the same calls.
        prefixes: Which prompts were sent; shared likewise.
        observer: Who is watching, as `Sightings` tells observers apart.
        seen: Is told of every call that this observer sees, also of one that another has put on record, and of the
            outermost run around it.
        clock: Unix time in seconds.
        timer: Seconds that only go forward, for latencies.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        pricing: Pricing,
        counter: TokenCounter,
        sightings: Sightings,
        prefixes: SentPrefixes,
        observer: str,
        seen: Callable[[ModelCall, str | None], None] | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.sink = sink
        self.counter = counter
        self._pricing = pricing
        self._sightings = sightings
        self._observer = observer
        self._seen = seen
        self._clock = clock
        self._timer = timer
        self._prefixes = prefixes

    # --- before the call ---------------------------------------------------------------------------------------------

    def sending(self, request: ModelRequest[Any], *, who: Who, internal: bool, provider: str | None = None) -> Sent:
        """Note that `request` is about to be sent."""
        identity = model_identity(request.model, request.model_settings)
        provider = provider or identity.provider
        prompt = segments(request, self.counter)
        chain = chain_of(prompt, f"{provider}\0{identity.name}")
        rates = self._pricing.rates(identity.name, provider) if identity.name else None
        repeated = self._prefixes.repeated(chain)
        return Sent(
            who=who,
            model=identity.name,
            provider=provider,
            internal=internal,
            counted=sum(segment.tokens for segment in prompt),
            repeated=sum(segment.tokens for segment in prompt[:repeated]),
            chain=chain,
            ttl_seconds=rates.cache_ttl_seconds if rates else _UNKNOWN_TTL_SECONDS,
            started=self._timer(),
        )

    def sending_text(self, text: str, *, who: Who, model: str | None, provider: str | None, internal: bool) -> Sent:
        """Note that a plain text is about to be sent to a model that is not a chat model."""
        return Sent(
            who=who,
            model=model,
            provider=provider,
            internal=internal,
            counted=self.counter.text(text, model),
            started=self._timer(),
        )

    def unseen(self, who: Who) -> Sent:
        """A call whose start was not seen, or is forgotten."""
        return Sent(who=who, model=None, provider=None, internal=False, started=None)

    def counts_within(self, run: Hashable) -> None:
        """Note that every call within this run of a model is put on record here."""
        self._sightings.cover(run, by=self._observer)

    def _is_new_failure(self, sent: Sent, error: BaseException, partial: AIMessage | None, *, stopped: bool) -> bool:
        new = self._sightings.first_error(error, by=self._observer)
        if partial is not None:
            new = self._sightings.first(partial, by=self._observer) and new
        if stopped:
            new = self._sightings.first_stop((sent.model, sent.who.thread), by=self._observer) and new
        return new

    def _is_counted(self, run: Hashable | None) -> bool:
        return run is not None and self._sightings.covered(run, but=self._observer)

    # --- after the call ----------------------------------------------------------------------------------------------

    def answered(
        self,
        sent: Sent,
        message: AIMessage | None,
        *,
        text: str | None = None,
        llm_output: Mapping[str, Any] | None = None,
        run: Hashable | None = None,
    ) -> None:
        """Put a call on record whose answer arrived, unless it is already there or a cache gave the answer.

        `text`: the answer of a model that gives no message. `llm_output`: what else the integration reported. `run`:
        the run of the model, which may be one whose calls another observer counts.
        """
        if message is not None and from_a_cache(message):
            return
        # Also when another observer has counted the call: to each of them the prompt may look a little different.
        self._prefixes.sent(sent.chain, sent.ttl_seconds)
        new = not self._is_counted(run) and (message is None or self._sightings.first(message, by=self._observer))
        if not new and self._seen is None:
            return
        reported = reported_usage(message, llm_output)
        named = {**(llm_output or {}), **(message.response_metadata if message else {})}
        answered_by = next((named[key] for key in ("model_name", "model") if isinstance(named.get(key), str)), None)
        if reported is not None:
            if new and sent.counted:
                self.counter.observe(sent.model, sent.counted, reported["input_tokens"])
            self._emit(sent, reported, "provider", answered_by, new=new)
            return
        estimated = self._estimate(sent, self._count(message, text, sent.model))
        self._emit(sent, estimated, "estimate" if estimated else None, answered_by, new=new)

    def failed(
        self,
        sent: Sent,
        error: BaseException,
        partial: AIMessage | None = None,
        *,
        stopped: bool = False,
        run: Hashable | None = None,
    ) -> None:
        """Put a call on record that ended with an error.

        Nobody knows what a failed call is billed at. What was streamed before (`partial`), and the input of a call
        that was `stopped` from this side, are: they are counted as an estimate.
        """
        new = not self._is_counted(run) and self._is_new_failure(sent, error, partial, stopped=stopped)
        if not new and self._seen is None:
            return
        usage = None
        if partial is not None or stopped:
            self._prefixes.sent(sent.chain, sent.ttl_seconds)
            seen = reported_usage(partial, None)
            usage = self._estimate(sent, self._count(partial, None, sent.model))
            if usage is not None and seen is not None:
                usage = usage_of(
                    seen["input_tokens"] or usage["input_tokens"], max(seen["output_tokens"], usage["output_tokens"])
                )
        name = "StreamClosed" if isinstance(error, GeneratorExit) else type(error).__name__
        self._emit(sent, usage, "estimate" if usage else None, None, error=name, new=new)

    def _count(self, message: AIMessage | None, text: str | None, model: str | None) -> int:
        if message is not None:
            return self.counter.message(message, model)
        return self.counter.text(text or "", model)

    def _estimate(self, sent: Sent, output: int) -> UsageMetadata | None:
        if sent.counted is None:
            return None
        return usage_of(round(sent.counted * self.counter.correction(sent.model)), output)

    def _emit(
        self,
        sent: Sent,
        usage: UsageMetadata | None,
        source: Literal["provider", "estimate"] | None,
        answered_by: str | None,
        *,
        error: str | None = None,
        new: bool,
    ) -> None:
        repeated = sent.repeated
        if repeated is not None and usage is not None and sent.counted:
            # Our count and the provider's differ; the share of the prompt is what carries over.
            repeated = min(round(repeated * usage["input_tokens"] / sent.counted), usage["input_tokens"])
        call = ModelCall(
            who=sent.who,
            at=self._clock(),
            model=sent.model or answered_by,
            provider=sent.provider,
            usage=usage,
            usage_source=source,
            cost_usd=self._cost(usage, sent, answered_by),
            repeated_prefix_tokens=repeated,
            latency_seconds=None if sent.started is None else self._timer() - sent.started,
            error=error,
            internal=sent.internal,
        )
        if self._seen is not None:
            self._seen(call, sent.root)
        if new:
            self.sink.emit(call)

    def _cost(self, usage: UsageMetadata | None, sent: Sent, answered_by: str | None) -> Decimal | None:
        """By the name that was asked for, where your own rates are; else by the one that the provider gave."""
        if usage is None:
            return None
        for name in (sent.model, answered_by):
            cost = self._pricing.cost(usage, name, sent.provider) if name else None
            if cost is not None:
                return cost
        return None
