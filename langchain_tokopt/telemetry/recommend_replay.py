"""The calls on record again, at other rates: what they would have cost."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_tokopt.prefix import PrefixUse, Segment, split
from langchain_tokopt.pricing import MILLION, Rates

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.recommend_evidence import Prompts


def by_rules(prompts: Iterable[Prompts], rates: Rates) -> Decimal:
    """USD at `rates`, with what was repeated in the prompt cache by their rules. Unknown repeats are none."""
    cost = Decimal(0)
    for one in prompts:
        reached = rates.for_prompt(one.input_tokens)
        cost += one.calls * prompt_use(one.input_tokens, one.repeated or 0, reached).cost(reached)
        cost += one.output * reached.output / MILLION
    return cost


def as_recorded(prompts: Iterable[Prompts], rates: Rates) -> Decimal:
    """USD at `rates`, with as much read from the prompt cache, and written to it, as the provider reported."""
    cost = Decimal(0)
    for one in prompts:
        reached = rates.for_prompt(one.input_tokens)
        total = one.input_tokens * one.calls
        read = min(total, (one.cache_read or 0) * one.calls)
        write = min(total - read, one.cache_write)
        cost += PrefixUse(read, write, total - read - write).cost(reached) + one.output * reached.output / MILLION
    return cost


def reads_by_rules(prompts: Iterable[Prompts], rates: Rates) -> int:
    """Tokens that the prompt cache would have given."""
    return sum(
        one.calls * prompt_use(one.input_tokens, one.repeated or 0, rates.for_prompt(one.input_tokens)).read
        for one in prompts
    )


def prompt_use(total: int, repeated: int, rates: Rates) -> PrefixUse:
    """How a prompt of `total` tokens is billed of which the first `repeated` had been sent before."""
    start = Segment(b"start", repeated)
    return split((start,), (start, Segment(b"rest", total - repeated)), rates)
