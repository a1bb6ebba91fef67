"""What a change to the prompt costs at the provider's prompt cache, and whether it pays.

Providers cache the beginning of a prompt: what is sent again unchanged is read at a fraction of the price, what comes
after the first change is billed, or written to the cache, anew. So less text can cost more.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import model_identity
from langchain_tokopt.rates import MILLION, Rates
from langchain_tokopt.tokens import TokenCounter, sent_tools
from langchain_tokopt.wire import digest

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

# One unit of money for a million tokens: for models whose price is not known.
_TOKENS_ONLY: Final = Rates(input=Decimal(1), output=Decimal(1))
_KEPT: Final = "_tokopt_segments"
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0


@dataclass(frozen=True)
class Segment:
    """One piece of a prompt - a tool, the system message, a message - with its digest and its tokens."""

    digest: bytes
    tokens: int


def segments(request: ModelRequest[Any], counter: TokenCounter) -> tuple[Segment, ...]:
    """The prompt as the provider sees it, in the order of the prefix.

    Each tool, the schema of the response format, the system message, each message: the last `len(request.messages)`
    segments are the messages. The tokens add up to those of `counter.request(request)` but for the few that begin the
    answer. Digests do not depend on message ids, usage or response metadata, nor on marks for the provider's cache.
    """
    seen = (counter, request.messages, request.tools, request.system_message, request.response_format)
    sizes = (len(request.messages), len(request.tools))
    kept = vars(request).get(_KEPT)
    if kept is not None and kept[1] == sizes and all(a is b for a, b in zip(kept[0], seen, strict=True)):
        found: tuple[Segment, ...] = kept[2]
        return found
    model = model_identity(request.model, request.model_settings).name
    parts: list[Segment] = []
    added = counter.tool_prompt(model, tool_choice=request.tool_choice)  # once, with the first tool
    for tool in sent_tools(request):
        parts.append(Segment(counter.schema(tool).digest, counter.tool(tool, model) + added))
        added = 0
    first = [] if request.system_message is None else [request.system_message]
    parts.extend(Segment(*counter.weighed(message, model)) for message in (*first, *request.messages))
    # Several parts ask about one request. A request is not changed but replaced, and what is kept goes with it.
    vars(request)[_KEPT] = (seen, sizes, tuple(parts))
    return tuple(parts)


@dataclass(frozen=True)
class PrefixUse:
    """How the input tokens of a request are billed: read from the cache, written to it, or neither."""

    read: int
    write: int
    plain: int

    @property
    def total(self) -> int:
        """All input tokens."""
        return self.read + self.write + self.plain

    def cost(self, rates: Rates) -> Decimal:
        """USD for the input."""
        return (self.read * rates.cache_read + self.write * rates.cache_write + self.plain * rates.input) / MILLION


def split(previous: Sequence[Segment] | None, now: Sequence[Segment], rates: Rates) -> PrefixUse:
    """How `now` is billed after `previous` was sent on the same thread (`None`: nothing was)."""
    shared = 0
    for before, after in zip(previous or (), now, strict=False):
        if before.digest != after.digest:
            break
        shared += after.tokens
    return _use(shared, sum(segment.tokens for segment in now), rates)


def _use(shared: int, total: int, rates: Rates) -> PrefixUse:
    """How a prompt of `total` tokens is billed of which the first `shared` were sent before."""
    if rates.caching == "none" or total < rates.min_cache_tokens:
        return PrefixUse(0, 0, total)
    read = shared - shared % rates.cache_increment if shared >= rates.min_cache_tokens else 0
    # Whoever asks for caching, or has a provider with a price for it, writes what was not read; the last breakpoint is
    # taken to be at the end.
    if rates.caching == "explicit" or rates.cache_write != rates.input:
        return PrefixUse(read, total - read, 0)
    return PrefixUse(read, 0, total - read)


# --- does it pay? ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Whether a change to the prompt pays.

    Attributes:
        pays: Whether the change costs less than leaving the prompt alone.
        saved_usd: What it saves over this call and those expected after it; below 0 when it costs more.
        before_usd: The input of all these calls without the change.
        after_usd: The same with it.
        reason: The figures in a sentence.
    """

    pays: bool
    saved_usd: Decimal
    before_usd: Decimal
    after_usd: Decimal
    reason: str


def change_pays(
    *,
    previous: Sequence[Segment] | None,
    unchanged: Sequence[Segment],
    changed: Sequence[Segment],
    rates: Rates | None,
    calls_expected: int,
) -> Verdict:
    """Whether sending `changed` instead of `unchanged` pays, over this call and `calls_expected` calls after it.

    Each later call sends again what is sent now. What the calls add themselves is the same either way and left out.
    For one cut of `G` tokens before a tail of `T` tokens this is `G * H * r > T * (w - r)`, with `r` and `w` the prices
    of reading and writing the cache and `H` the calls that send the shorter prompt, this one included.

    `rates` must be those that hold for the request (see `rates_in_use`). Without rates tokens alone decide, at one
    dollar a million and nothing cached.
    """
    prices = rates or _TOKENS_ONLY
    later = max(0, calls_expected)
    before_now, before_later = _now_and_later(previous, unchanged, prices)
    after_now, after_later = _now_and_later(previous, changed, prices)
    before = before_now + later * before_later
    after = after_now + later * after_later
    saved = before - after
    outcome = f"saves {_figure(saved, rates)}" if saved > 0 else f"costs {_figure(-saved, rates)} more"
    reason = (
        f"The change {outcome} over this call and {later} more: this call {_figure(after_now, rates)} instead of "
        f"{_figure(before_now, rates)}, each later one {_figure(after_later, rates)} instead of "
        f"{_figure(before_later, rates)}."
    )
    if rates is None:
        reason += " The price of the model is not known, so tokens were compared."
    return Verdict(saved > 0, saved, before, after, reason)


def _now_and_later(
    previous: Sequence[Segment] | None, sent: Sequence[Segment], rates: Rates
) -> tuple[Decimal, Decimal]:
    return split(previous, sent, rates).cost(rates), split(sent, sent, rates).cost(rates)


def _figure(usd: Decimal, rates: Rates | None) -> str:
    return f"${usd:.6f}" if rates is not None else f"{usd * MILLION:,.0f} tokens"


# --- does the request ask for caching? -------------------------------------------------------------------------------


def caching_enabled(request: ModelRequest[Any], rates: Rates) -> bool:
    """Whether the provider will cache the prompt of this request.

    Some providers do so by themselves. With the others the request asks for it: `cache_control` (Anthropic) or
    `cachePoint` (Bedrock) in the model's settings, a content block or a tool. What a middleware further inside adds
    cannot be seen here.
    """
    if rates.caching == "explicit":
        return any(True for _ in _cache_marks(request))
    return rates.caching == "automatic"


def rates_in_use(request: ModelRequest[Any], rates: Rates) -> Rates:
    """The rates as they hold for this request: without caching when it asks for none, with the lifetime it asks for."""
    if not caching_enabled(request, rates):
        return rates.without_caching()
    if rates.caching == "explicit":
        if any(isinstance(mark, Mapping) and mark.get("ttl") == "1h" for mark in _cache_marks(request)):
            return replace(rates, cache_write=rates.cache_write_1h, cache_ttl_seconds=_HOUR)
    elif _setting(request, "prompt_cache_retention") == "24h":
        # https://developers.openai.com/api/docs/guides/prompt-caching ("Prompt cache retention")
        return replace(rates, cache_ttl_seconds=_DAY)
    return rates


def _cache_marks(request: ModelRequest[Any]) -> Iterator[Any]:
    holders: list[Any] = [
        {"cache_control": _setting(request, "cache_control")},
        *(tool if isinstance(tool, dict) else getattr(tool, "extras", None) for tool in request.tools),
    ]
    for message in (request.system_message, *request.messages):
        if message is not None and isinstance(message.content, list):
            holders += message.content
    for holder in holders:
        if isinstance(holder, Mapping):
            yield from (holder[key] for key in ("cache_control", "cachePoint") if holder.get(key))


def _setting(request: ModelRequest[Any], name: str) -> Any:
    """A setting of the call: from the request, or one that the model was built with."""
    if name in request.model_settings:
        return request.model_settings[name]
    return getattr(request.model, name, None) or (getattr(request.model, "model_kwargs", None) or {}).get(name)


# --- a model of the cache --------------------------------------------------------------------------------------------


class PromptCache:
    """A model of a provider's prompt cache, as all threads share it: what was sent, and until when it is kept.

    Args:
        max_entries: The most prefixes that are remembered; the one not used for longest is forgotten first.
        clock: Seconds since any fixed moment.

    Raises:
        ConfigurationError: `max_entries` is below 1.
    """

    def __init__(self, *, max_entries: int = 65_536, clock: Callable[[], float] = time.time) -> None:
        if max_entries < 1:
            raise ConfigurationError("max_entries", max_entries, "use 1 or more")
        self._max_entries = max_entries
        self._clock = clock
        self._kept_until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def observe(self, segments: Sequence[Segment], rates: Rates, scope: str = "") -> PrefixUse:
        """How a request is billed that is sent now. Its prefixes are in the cache from then on.

        `scope` keeps apart what does not share a cache, such as accounts or workspaces; providers and models always
        are.
        """
        prefix = digest(scope, rates.provider, rates.model)
        prefixes, sizes, total = [], [], 0
        for segment in segments:
            prefix = digest("", prefix, segment.digest)
            total += segment.tokens
            prefixes.append(prefix)
            sizes.append(total)
        with self._lock:
            now = self._clock()
            found = (at for at in reversed(range(len(prefixes))) if self._kept_until.get(prefixes[at], now) > now)
            shared = next((sizes[at] for at in found), 0)
            # The longest first: so it is the first to be forgotten, and the shorter ones, which others share, stay.
            for one in reversed(prefixes):
                self._kept_until[one] = now + rates.cache_ttl_seconds
                self._kept_until.move_to_end(one)
            while len(self._kept_until) > self._max_entries:
                self._kept_until.popitem(last=False)
        return _use(shared, total, rates)

    def __len__(self) -> int:
        return len(self._kept_until)
