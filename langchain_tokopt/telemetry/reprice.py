"""What the calls on record would have cost elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from langchain_tokopt.pricing import MILLION, Rates
from langchain_tokopt.telemetry.recommend_replay import prompt_use
from langchain_tokopt.telemetry.report import Repriced


def reprice_calls(prompts: Iterable[Mapping[str, Any]], rates: Rates) -> Repriced:
    """What calls would have cost at `rates`.

    Each of `prompts` stands for `n` calls with equal `input_tokens` and equally many of them `repeated`, and holds
    the sum of their `output` tokens.
    """
    cost = Decimal(0)
    calls = without_prefix = unknown = 0
    for row in prompts:
        n = int(row["n"])
        if row["input_tokens"] is None:
            unknown += n
            continue
        total, repeated = int(row["input_tokens"]), int(row["repeated"] or 0)
        reached = rates.for_prompt(total)
        cost += n * prompt_use(total, repeated, reached).cost(reached)
        cost += int(row["output"] or 0) * reached.output / MILLION
        calls += n
        without_prefix += n if row["repeated"] is None else 0
    return Repriced(
        provider=rates.provider,
        model=rates.model,
        calls=calls,
        cost_usd=cost,
        without_prefix=without_prefix,
        unknown=unknown,
    )
