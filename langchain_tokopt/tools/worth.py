"""Whether showing a thread only some of the tools pays, with the provider's prompt cache counted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from langchain_tokopt.prefix import Segment, split
from langchain_tokopt.pricing import MILLION, Rates

# How many model calls a thread makes is not known before. Narrowing must pay in a short one and in a long one: tools
# that are added late make a long history be written to the provider's cache again.
CALLS_PER_THREAD = (8, 24)
# What a thread is taken to look like, from public agent runs: each user message leads to about three model calls, a
# call leaves an answer and a tool result behind, half of what the next message picks is bound already, and one
# message in seven needs a tool that only a search finds: one more call with a short answer.
CALLS_PER_MESSAGE = 3
TOKENS_PER_CALL = 500
NEW_SHARE = Decimal("0.5")
SEARCHES_PER_MESSAGE = Decimal("0.15")
SEARCH_OUTPUT_TOKENS = 60

# Tokens cost what they cost when no price is known: each the same, nothing cached.
TOKENS = Rates(input=MILLION, output=MILLION)


@dataclass(frozen=True, slots=True)
class Worth:
    """What a thread's input is expected to cost with all tools bound and with some, in USD or, unpriced, in tokens."""

    everything: Decimal
    narrowed: Decimal
    unit: str

    @property
    def pays(self) -> bool:
        """Whether binding some is cheaper."""
        return self.narrowed < self.everything

    @property
    def share(self) -> Decimal:
        """The cost with some tools bound as a share of that with all."""
        return self.narrowed / self.everything if self.everything else Decimal(1)

    def __str__(self) -> str:
        form = ".5f" if self.unit == "USD" else ".0f"
        few, full = f"{self.narrowed:{form}}", f"{self.everything:{form}}"
        return f"{few} {self.unit} a thread with some tools, {full} with all ({self.share:.0%})"


@lru_cache(maxsize=512)
def worth(
    *, everything: int, core: int, picked: int, system: int, asked: int, rates: Rates | None, calls: int, searches: bool
) -> Worth:
    """The expected cost of one thread, both ways.

    All tools are the same for every thread, so their prefix is taken to be in the provider's cache already, and so is
    the `core` that every narrowed thread begins with. What was picked for this thread is not, nor the system prompt
    after it; and what a later message adds makes everything after the tools be written again.

    Args:
        everything: Tokens of all tool schemas.
        core: Tokens of the tools that every thread is given.
        picked: Tokens of the tools picked for the first message.
        system: Tokens of the system prompt.
        asked: Tokens of the first user message.
        rates: Prices, with `caching` "none" when the request does not use the provider's cache; `None` is unknown.
        calls: How many model calls the thread is expected to make.
        searches: Whether the model can search for tools.
    """
    prices = rates or TOKENS
    added = int(picked * NEW_SHARE)
    full, few = [Segment(b"all", everything)], [Segment(b"core", core), Segment(b"picked", picked)]
    rest = [Segment(b"system", system), Segment(b"asked", asked)]
    full_before, few_before = [*full, rest[0]], [few[0]]
    full_cost = few_cost = Decimal(0)
    for call in range(calls):
        new_message = call % CALLS_PER_MESSAGE == 0
        if call and new_message:
            few = [*few, Segment(b"added %d" % call, added)]
        full_now, few_now = [*full, *rest], [*few, *rest]
        full_cost += split(full_before, full_now, prices).cost(prices)
        few_cost += split(few_before, few_now, prices).cost(prices)
        if searches and new_message:
            again = split(few_now, few_now, prices).cost(prices) + SEARCH_OUTPUT_TOKENS * prices.output / MILLION
            few_cost += SEARCHES_PER_MESSAGE * again
        full_before, few_before = full_now, few_now
        rest = [*rest, Segment(b"call %d" % call, TOKENS_PER_CALL)]
    return Worth(full_cost, few_cost, "tokens" if rates is None else "USD")


def rounded_up(tokens: int) -> int:
    """The next power of two, so that a prompt that carries the date or a name does not change a thread's decision."""
    return 1 << (tokens - 1).bit_length() if tokens > 0 else 0
