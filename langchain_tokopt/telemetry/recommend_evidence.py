"""What recommendations are drawn from: the events of a span, added up in the ways that they are looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Calls of an agent to one model that are alike: as large, with as much repeated and as much read from the cache.

    `output` and `nano` (what they cost) are sums over the `calls`; `nano` is `None` where the price is not known.
    """

    provider: str | None
    model: str | None
    measured: bool
    input_tokens: int
    repeated: int | None
    cache_read: int | None
    cache_write: int
    calls: int
    output: int
    nano: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Amounts in nano-USD: how many, their sum, the sum of their squares."""

    count: int
    total: int
    squares: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSavings:
    """What a part did for real or in shadow mode. `priced` are those of `applied` whose saving in USD is known."""

    part: str
    shadow: bool
    applied: int
    tokens: int | None
    priced: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What runs cost that had something in common: `subject` tried as `variant`, by one agent."""

    subject: str
    variant: str
    agent: str | None
    cost: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Calls whose whole prompt had been sent before, by what the cache said: `outcome` is `None` without a cache."""

    outcome: str | None
    reason: str | None
    calls: int
    priced: int
    nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced:
    """Calls of a model whose price is not known."""

    provider: str | None
    model: str | None
    calls: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The events of a span, as far as recommendations need them. What is kept as sums only cannot be replayed.

    Attributes:
        seconds: How much time the events cover: from the first, or the beginning of the span, to its end.
        since: From when on (Unix time) they are, where the span has more events than were looked at; else `None`.
        prompts: Calls that used something, without the optimiser's own.
        parts: What parts did.
        part_arms: Runs by whether a part worked ("optimize") or only watched ("shadow").
        model_arms: Runs by the model that answered ("provider:model").
        repeats: Calls that repeated an earlier one.
        unpriced: Calls without a known price.
        own_calls: The optimiser's own calls.
        own_nano: What they cost; `None` where the price of one is not known.
        outputs: How many answers had so many tokens, as reported, shortest first.
        reserved_for_output: How many calls had so many tokens held by a budget beyond their input, fewest first.
        refused: How many calls a budget refused.
    """

    seconds: float = 0.0
    since: float | None = None
    prompts: tuple[Prompts, ...] = ()
    parts: tuple[PartSavings, ...] = ()
    part_arms: tuple[Arm, ...] = ()
    model_arms: tuple[Arm, ...] = ()
    repeats: tuple[Repeats, ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    own_calls: int = 0
    own_nano: int | None = 0
    outputs: tuple[tuple[int, int], ...] = ()
    reserved_for_output: tuple[tuple[int, int], ...] = ()
    refused: int = 0

    @property
    def calls(self) -> int:
        """Calls that used something, without the optimiser's own."""
        return sum(prompts.calls for prompts in self.prompts)
