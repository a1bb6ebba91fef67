"""Whether showing a thread only some of the tools pays, with the provider's prompt cache counted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal, TypeAlias

from langchain_tokopt.prefix import Segment, split
from langchain_tokopt.pricing import MILLION, Rates

# How a thread is shown only some of the tools. "rebind": the request's tools are those that were needed so far.
# "inline": they stay the same, and the model is told of others in the conversation, as its provider allows. "proxy":
# they stay the same, and others are told of in the text and called through one tool.
Way: TypeAlias = Literal["rebind", "inline", "proxy"]

# How many model calls a thread makes is not known before. Narrowing must pay in a short one and in a long one: tools
# that are added late make a long history be written to the provider's cache again.
CALLS_PER_THREAD = (8, 24)
# What a thread is taken to look like, from public agent runs: each user message leads to about three model calls, a
# call leaves an answer and a tool result behind, half of what the next message picks is bound already, and one
# message in seven needs a tool that only a search finds: one more call with a short answer.
CALLS_PER_MESSAGE = 3
TOKENS_PER_CALL = 500
NEW_SHARE = Decimal("0.5")
# Of the tools that a message may pick, so many fit well enough.
PICKED_SHARE = 0.7
SEARCHES_PER_MESSAGE = Decimal("0.15")
SEARCH_OUTPUT_TOKENS = 60
# What a call through another tool says more than a direct one: the names of its two arguments, and an object.
PROXIED_OUTPUT_TOKENS = 12

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


@lru_cache(maxsize=2_048)
def worth(
    *,
    way: Way,
    everything: int,
    core: int,
    picked: int,
    system: int,
    asked: int,
    rates: Rates | None,
    calls: int,
    searches: bool,
) -> Worth:
    """The expected cost of one thread, with all tools and shown some of them in this way.

    All tools are the same for every thread, so their prefix is taken to be in the provider's cache already, and so is
    the `core` that every narrowed thread begins with, as far as the threads are alike: up to the user's first message,
    or, where tools are bound anew, up to those that were picked for it.

    Args:
        way: How the thread is shown some of the tools.
        everything: Tokens of all tool schemas.
        core: Tokens of the tools that every thread is given, with those that search and call others.
        picked: Tokens of the tools picked for the first message: of their schemas, or of the note about them.
        system: Tokens of the system prompt.
        asked: Tokens of the first user message.
        rates: Prices, with `caching` "none" when the request does not use the provider's cache; `None` is unknown.
        calls: How many model calls the thread is expected to make.
        searches: Whether the model can search for tools.
    """
    prices = rates or TOKENS
    full, few = _Thread("all", everything, system), _Thread("core", core, system)
    if way == "rebind":
        few.common = 1
        few.bind("picked", picked)
    full_cost = few_cost = Decimal(0)
    for call in range(calls):
        new_message = call % CALLS_PER_MESSAGE == 0
        if new_message:
            full.say(f"message {call}", asked if call == 0 else TOKENS_PER_CALL)
            few.say(f"message {call}", asked if call == 0 else TOKENS_PER_CALL)
            told = picked if call == 0 else int(picked * NEW_SHARE)
            if way != "rebind":
                few.say(f"told {call}", told)
            elif call:
                few.bind(f"added {call}", told)
        else:
            full.say(f"call {call}", TOKENS_PER_CALL)
            few.say(f"call {call}", TOKENS_PER_CALL)
        full_cost += full.cost(prices)
        few_cost += few.cost(prices)
        if searches and new_message:
            few_cost += SEARCHES_PER_MESSAGE * (few.again(prices) + SEARCH_OUTPUT_TOKENS * prices.output / MILLION)
        if way == "proxy":
            few_cost += PROXIED_OUTPUT_TOKENS * prices.output / MILLION
    return Worth(full_cost, few_cost, "tokens" if rates is None else "USD")


class _Thread:
    """A thread's prompt as it grows. `common`: how many of its segments all threads share."""

    def __init__(self, name: str, tools: int, system: int) -> None:
        self._tools = [Segment(name.encode(), tools)]
        self._rest = [Segment(b"system", system)]
        self.common = 2
        self._sent: list[Segment] | None = None

    def bind(self, name: str, tokens: int) -> None:
        self._tools.append(Segment(name.encode(), tokens))

    def say(self, name: str, tokens: int) -> None:
        self._rest.append(Segment(name.encode(), tokens))

    def cost(self, rates: Rates) -> Decimal:
        """What it costs to send it now."""
        now = [*self._tools, *self._rest]
        before = now[: self.common] if self._sent is None else self._sent
        self._sent = now
        return split(before, now, rates).cost(rates)

    def again(self, rates: Rates) -> Decimal:
        """What it costs to send once more what was just sent."""
        sent = self._sent or []
        return split(sent, sent, rates).cost(rates)


def rounded_up(tokens: int) -> int:
    """The next power of two, so that a prompt that carries the date or a name does not change a thread's decision."""
    return 1 << (tokens - 1).bit_length() if tokens > 0 else 0
