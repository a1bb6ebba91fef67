"""What decides how a thread is shown, beside its messages: settings, prices, and what earlier threads taught."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from langchain_tokopt.context.lossless.ingest import Ingest
from langchain_tokopt.rates import Rates

# Before anything is known: a thread that has made n calls makes n more, and a few at least.
LEAST_CALLS_LEFT: Final = 4
# How much the calls of earlier threads of an agent count: as many of them as this weigh as much as the rule above.
PRIOR_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many tokens tool results may have.

    Attributes:
        new: A result that the model has not seen yet; `None` for no limit.
        old: One that it has seen, once it is rewritten: at least so many ...
        old_share: ... or this share of what it had.
        keep_steps: The results of so many of the newest steps are never rewritten.
        rewrite: Whether any is.
    """

    new: int | None = 700
    old: int = 60
    old_share: float = 0.1
    keep_steps: int = 2
    rewrite: bool = True


@dataclass(frozen=True, slots=True)
class Prices:
    """What a token of the prompt costs, relative to one that is not cached.

    Attributes:
        read: One that was sent before, unchanged and after nothing that changed.
        write: Any other.
    """

    read: float
    write: float

    @classmethod
    def of(cls, rates: Rates | None) -> Prices:
        """The prices at these rates. Of an unknown model it is assumed that changes to what was sent are dear."""
        if rates is None:
            return cls(read=0.1, write=1.25)
        if rates.caching == "none" or rates.input <= 0:
            return cls(read=1.0, write=1.0)
        write = rates.cache_write if rates.caching == "explicit" else max(rates.cache_write, rates.input)
        return cls(read=float(rates.cache_read / rates.input), write=float(write / rates.input))


@dataclass(frozen=True, slots=True)
class Expected:
    """What earlier threads of the same agent were like.

    Attributes:
        calls: How many model calls each made.
        trims: Whether their results were large enough for it to pay that they can be shown in part from the start.
        asks: Whether the model asked for so many of the parts that it does not pay to show any.
    """

    calls: tuple[int, ...] = ()
    trims: bool = False
    asks: bool = False

    def calls_left(self, made: int) -> float:
        """How many more calls a thread makes that has made so many, this one included."""
        rule = max(LEAST_CALLS_LEFT, made)
        longer = [calls - made for calls in self.calls if calls > made]
        reached = sum(calls >= made for calls in self.calls)
        return (sum(longer) + PRIOR_THREADS * rule) / (reached + PRIOR_THREADS)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that the view of a thread depends on beside its messages.

    Attributes:
        lossless: How results are made shorter without loss; `None` for not at all.
        sizes: How large they may be; `None` where nothing is shown in part.
        prices: What tokens cost.
        expected: What earlier threads were like.
        tool: The name of the tool that gives back what is shown in part; `None` where none can be bound.
        tool_tokens: What binding it costs on each call.
        head_tokens: What comes before the messages: tools and system message.
        binds_late: Whether the tool may be bound when the thread has begun.
        fixed: Whether no message may change once it was sent, whatever that costs: signed thoughts after it would be
            refused.
        least: The fewest tokens in which results are shown that come first in a prompt: fewer might keep it out of the
            provider's cache.
    """

    lossless: Ingest | None
    sizes: Sizes | None = None
    prices: Prices = field(default_factory=lambda: Prices(0.1, 1.25))
    expected: Expected = field(default_factory=Expected)
    tool: str | None = None
    tool_tokens: int = 60
    head_tokens: int = 0
    binds_late: bool = True
    fixed: bool = False
    least: int = 0

    @property
    def binds_at_once(self) -> bool:
        """Whether the tool is bound before it is needed: later it would cost more. Without a cache it does not."""
        return self.tool is not None and self.expected.trims and self.rewrite_factor > 0

    @property
    def rewrite_factor(self) -> float:
        """What writing a token again costs beyond reading it."""
        return max(0.0, self.prices.write - self.prices.read)
