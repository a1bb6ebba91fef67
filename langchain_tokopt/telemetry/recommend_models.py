"""Cheaper models for the same tokens, prompt caches that are not used, and prices that are not known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from langchain_tokopt.pricing import Rates, from_nano, to_nano
from langchain_tokopt.telemetry.recommend_replay import as_recorded, by_rules, reads_by_rules
from langchain_tokopt.telemetry.recommend_statistics import difference
from langchain_tokopt.telemetry.recommendation import FEWEST_EVENTS, Recommendation, over_time
from langchain_tokopt.telemetry.report_figures import between, money, name, number, percent, times

if TYPE_CHECKING:
    from langchain_tokopt.pricing import Pricing
    from langchain_tokopt.telemetry.recommend_evidence import Arm, Evidence, Prompts, Unpriced

# What the makers call the next smaller model of a family; a name holds only where the price list has it, too.
_SMALLER: Final = (("opus", "sonnet"), ("sonnet", "haiku"), ("flash", "flash-lite"), ("pro", "flash"), ("mini", "nano"))
_SMALLEST: Final = ("mini", "nano", "lite", "haiku")
# With more than this share of the possible reads the prompt cache is taken to work.
_WORKS: Final = 0.5
_MOST_UNPRICED: Final = 5


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that answered, its rates now, and its calls at known prices as the provider measured them."""

    provider: str | None
    name: str
    rates: Rates
    prompts: tuple[Prompts, ...]

    @property
    def calls(self) -> int:
        return sum(prompts.calls for prompts in self.prompts)

    @property
    def nano(self) -> int:
        return sum(prompts.nano or 0 for prompts in self.prompts)

    @property
    def variant(self) -> str:
        """As the runs that are compared are told apart."""
        return f"{self.provider or ''}:{self.name}"


def about_models(
    evidence: Evidence, pricing: Pricing | None, candidates: Sequence[Rates | str]
) -> Iterator[Recommendation]:
    """Changes of models and of what their providers are asked for."""
    models = [] if pricing is None else _models(evidence, pricing)
    for model in models:
        cheaper = _cheaper(evidence, model, _candidates(model, models, evidence.model_arms, pricing, candidates))
        cached = _cached(evidence, model)
        yield from (one for one in (cheaper, cached) if one is not None)


def about_prices(evidence: Evidence) -> Iterator[Recommendation]:
    """Rates to give, for models whose price is not known."""
    yield from (_rates_wanted(unpriced) for unpriced in evidence.unpriced[:_MOST_UNPRICED])


def _models(evidence: Evidence, pricing: Pricing) -> list[_Model]:
    groups: dict[tuple[str | None, str], list[Prompts]] = defaultdict(list)
    for prompts in evidence.prompts:
        if prompts.model is not None and prompts.measured and prompts.nano is not None:
            groups[prompts.provider, prompts.model].append(prompts)
    found = []
    for (provider, model), group in groups.items():
        rates = pricing.rates(model, provider)
        if rates is not None:
            found.append(_Model(provider, model, rates, tuple(group)))
    return found


# --- another model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    rates: Rates
    provider: str | None
    name: str
    in_use: bool


def _candidates(
    model: _Model,
    models: Sequence[_Model],
    arms: Sequence[Arm],
    pricing: Pricing | None,
    given: Sequence[Rates | str],
) -> list[_Candidate]:
    """Models that may answer instead: the ones given, else the next smaller one and those that the same agents use."""
    found = []
    for one in given:
        rates = one if isinstance(one, Rates) else None if pricing is None else pricing.rates(one)
        if rates is not None:
            called = rates.model if isinstance(one, Rates) else one
            in_use = any((other.rates.provider, other.name) == (rates.provider, called) for other in models)
            found.append(_Candidate(rates, rates.provider or None, called, in_use))
    if given:
        return found
    for smaller in _smaller(model.rates.model):
        rates = None if pricing is None else pricing.rates(smaller, model.provider)
        # The list also knows names by how they begin: only an entry of that very name is that model.
        if rates is not None and rates.model == smaller:
            in_use = any((other.provider, other.name) == (model.provider, smaller) for other in models)
            found.append(_Candidate(rates, model.provider, smaller, in_use))
    known = {(one.provider, one.name) for one in found}
    for other in models:
        # That a model is in use elsewhere does not say that it can do this.
        answered = difference(arms, other.variant, model.variant) is not None
        if other is not model and answered and (other.provider, other.name) not in known:
            found.append(_Candidate(other.rates, other.provider, other.name, True))
    return found


def _smaller(model: str) -> Iterator[str]:
    words = model.split("-")
    for word, smaller in _SMALLER:
        if word in words and not (word == "flash" and "lite" in words):
            yield "-".join(smaller if one == word else one for one in words)
    if not any(word in words for word in _SMALLEST):
        yield f"{model}-mini"


def _cheaper(evidence: Evidence, model: _Model, candidates: Sequence[_Candidate]) -> Recommendation | None:
    if model.calls < FEWEST_EVENTS:
        return None
    options = [(_saving(model, one), one) for one in candidates if one.rates != model.rates]
    options = [(saving, one) for saving, one in options if saving[0] > 0 and not _contradicted(evidence, model, one)]
    if not options:
        return None
    (saves, low, high), best = max(options, key=lambda option: (option[0][0], option[1].name))
    share = 1 - saves / model.nano
    same = best.rates.provider == model.rates.provider
    tried = _tried(evidence, model, best)
    why = "no run of the same agents has been answered by it yet"
    if tried is not None:
        why = (
            f"in {number(tried[2])} runs of the same agents it cost "
            f"{between(from_nano(round(-tried[1])), from_nano(round(-tried[0])))} less a run"
        )
    counts = "" if same else " It counts tokens in its own way, which may be some tens of percent more or fewer."
    return over_time(
        evidence.seconds,
        id=f"cheaper-model:{model.variant}",
        title=(
            f"Try {name(best.name)} where {name(model.name)} answers now: the same tokens cost {percent(share)} of it"
        ),
        change=f"init_chat_model({best.name!r}, model_provider={best.provider!r})",
        saves=saves,
        low=low,
        high=high,
        source="estimated",
        events=model.calls,
        basis=(
            f"the tokens of {number(model.calls)} calls as the provider measured them, "
            f"{money(from_nano(model.nano))}, at the other model's list prices"
            f"{'' if same else ' and by the rules of its provider for prompt caching'}{_dearest(evidence, model)}"
        ),
        confidence="medium" if same and tried is not None and tried[1] < 0 else "low",
        why=why,
        caveat=f"Quality is not measured here: compare answers first, as with a part of the calls.{counts}",
    )


def _dearest(evidence: Evidence, model: _Model) -> str:
    """The agent that spends most of it."""
    arms = [arm for arm in evidence.model_arms if arm.variant == model.variant and arm.agent is not None]
    if not arms:
        return ""
    most = max(arms, key=lambda arm: (arm.cost.total, arm.agent or ""))
    return f"; the agent {name(most.agent)} spends most of it"


def _saving(model: _Model, candidate: _Candidate) -> tuple[int, int, int]:
    """What the candidate saves, at least and at most, in nano-USD.

    At a model of the same provider what was read from the prompt cache is read again; elsewhere what was repeated is,
    by that provider's rules. The least is without any reads, the most with all that the rules allow.
    """
    bare = to_nano(by_rules(model.prompts, candidate.rates.without_caching()))
    full = to_nano(by_rules(model.prompts, candidate.rates))
    caches = candidate.rates.caching == "automatic" or any(one.cache_read or one.cache_write for one in model.prompts)
    if candidate.rates.provider == model.rates.provider:
        cost = to_nano(as_recorded(model.prompts, candidate.rates))
    else:
        cost = full if caches else bare
    known = [cost, bare, full] if caches else [cost, bare]
    return model.nano - cost, model.nano - max(known), model.nano - min(known)


def _tried(evidence: Evidence, model: _Model, candidate: _Candidate) -> tuple[float, float, int] | None:
    if not candidate.in_use:
        return None
    return difference(evidence.model_arms, f"{candidate.provider or ''}:{candidate.name}", model.variant)


def _contradicted(evidence: Evidence, model: _Model, candidate: _Candidate) -> bool:
    """Whether runs of the same agents that it answered were not cheaper: they took more tokens or more steps."""
    tried = _tried(evidence, model, candidate)
    return tried is not None and tried[0] + tried[1] >= 0


# --- the provider's prompt cache -------------------------------------------------------------------------------------


def _cached(evidence: Evidence, model: _Model) -> Recommendation | None:
    prompts = tuple(one for one in model.prompts if one.repeated is not None)
    calls, nano = sum(one.calls for one in prompts), sum(one.nano or 0 for one in prompts)
    possible, read = reads_by_rules(prompts, model.rates), sum((one.cache_read or 0) * one.calls for one in prompts)
    if calls < FEWEST_EVENTS or not possible or read >= _WORKS * possible:
        return None
    cached, bare = by_rules(prompts, model.rates), by_rules(prompts, model.rates.without_caching())
    saves, low = nano - to_nano(cached), nano - to_nano((cached + bare) / 2)
    if saves <= 0:
        return None
    explicit = model.rates.caching == "explicit"
    title = f"Have {name(model.name)} read repeated prompts from its provider's cache"
    return over_time(
        evidence.seconds,
        id=f"prompt-cache:{model.variant}",
        title=title,
        change=_caching_code(model.rates),
        saves=saves,
        low=min(saves, max(0, low)),
        high=saves,
        source="estimated",
        events=calls,
        basis=(
            f"{number(calls)} calls repeated {number(possible)} tokens that the cache could have given; the provider "
            f"reports {number(read)} read from it"
        ),
        confidence="medium" if explicit else "low",
        why=(
            "the provider caches what a request marks, and nothing or little was marked"
            if explicit
            else "the provider caches by itself, and does not say why it did not here"
        ),
        caveat=(
            "What is repeated is our count. The lower end takes it that half of the repeats are not found."
            + (" Writing to the cache is counted at its price." if explicit else "")
        ),
    )


def _caching_code(rates: Rates) -> str:
    if rates.provider == "anthropic":
        return "create_agent(..., middleware=[*tokopt.middleware, AnthropicPromptCachingMiddleware()])"
    if rates.caching == "explicit":
        return 'SystemMessage([{"type": "text", "text": ...}, {"cachePoint": {"type": "default"}}])'
    if rates.provider in ("openai", "azure"):
        return 'model.bind(prompt_cache_key="one per agent")'
    return "create_agent(..., system_prompt=...)  # the same bytes in every call, what changes at the end"


# --- prices ----------------------------------------------------------------------------------------------------------


def _rates_wanted(unpriced: Unpriced) -> Recommendation:
    key = f"{unpriced.provider}:{unpriced.model}" if unpriced.provider and unpriced.model else unpriced.model
    tokens = f"{number(unpriced.input_tokens)} input and {number(unpriced.output_tokens)} output tokens"
    if key is None:
        change = "UsageCallback(...)  # on a model with a name: model_name= of its class, or metadata ls_model_name"
        title = "Give the model a name, so that its calls have a price"
    else:
        change = f"Pricing(overrides={{{key!r}: Rates(input=Decimal(...), output=Decimal(...))}})"
        title = f"Give the rates of {name(key)}, whose price is not known"
    return Recommendation(
        id=f"give-rates:{key}",
        title=title,
        change=change,
        source="measured",
        events=unpriced.calls,
        basis=f"{times(unpriced.calls, 'call')} with {tokens} are in no figure of money",
        confidence="high",
        why="their price is neither in the price list nor in your overrides",
        caveat="Rates are USD per million tokens, 0 for a model that you run yourself. Calls on record stay unpriced.",
    )
