"""Whether it pays, at a model's prices, to show blocks of a thread in short from now on."""

from __future__ import annotations

from typing import Final

from langchain_tokopt.context.memory.blocks import Pays
from langchain_tokopt.context.memory.extract import RATIO
from langchain_tokopt.context.memory.recall import RECALL_TOKENS, SHARE
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.rates import Rates

# A thread that made so many calls is taken to make one more. Most often it goes on for longer than that; but one that
# ends sooner than is thought costs more than without, and shall not.
CALLS_FOR_ONE_MORE: Final = 4.0
# In five conversations of 370 to 680 messages every fifth call recalled something, most of what it might.
_RECALLS_PER_CALL: Final = 0.2


def worth_closing(
    rates: Rates,
    *,
    ratio: float = RATIO,
    recall_tokens: int = RECALL_TOKENS,
    calls_for_one_more: float = CALLS_FOR_ONE_MORE,
) -> Pays:
    """Whether closing blocks pays, for `cut`, at these prices: a pure function of what `cut` gives it.

    It does if `H * (G * r - R * w) >= T * (w - r)`: each of the `H` calls still expected would have read, at `r`, the
    `G` tokens that are saved, and writes, at `w`, the `R` tokens that are recalled on average; and the `T` tokens after
    the change are written again instead of read. Without a cache it pays, if more is saved than recalled.

    Args:
        rates: Those that hold for the thread's requests, see `prefix.rates_in_use`.
        ratio: Which part of a block's tokens its short form has.
        recall_tokens: The most that is recalled for a question.
        calls_for_one_more: How many calls a thread must have made for one more to be expected.

    Raises:
        ConfigurationError: `calls_for_one_more` is not above 0.
    """
    if not calls_for_one_more > 0:
        raise ConfigurationError("calls_for_one_more", calls_for_one_more, "use a number above 0")
    cached = rates.caching != "none"
    read = float(rates.cache_read if cached else rates.input)
    write = float(rates.cache_write if cached else rates.input)

    def pays(closing: int, after: int, calls: int) -> bool:
        saved, written = (1 - ratio) * closing, after + ratio * closing
        recalled = _RECALLS_PER_CALL * min(recall_tokens, SHARE * closing)
        each = saved * read - recalled * write
        return each * calls / calls_for_one_more >= written * (write - read)

    return pays
