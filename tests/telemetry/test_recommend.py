"""What is recommended: known changes with exact amounts, from enough events only, and nothing that runs contradict."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry.recommend import recommendations, too_little
from langchain_tokopt.telemetry.recommend_evidence import (
    Arm,
    Evidence,
    PartSavings,
    Prompts,
    Repeats,
    Sample,
    Unpriced,
)
from langchain_tokopt.telemetry.recommendation import Recommendation
from langchain_tokopt.telemetry.report_details import BudgetLine

USD = Decimal
HALF_A_DAY = 43_200.0


def rates(name: str, price: str, *, provider: str = "maker", **rules: Any) -> Rates:
    """Output costs four times the input, reading from the prompt cache half of it."""
    one = USD(price)
    settings: dict[str, Any] = {"cache_read": one / 2, "caching": "automatic", **rules}
    return Rates(provider=provider, model=name, input=one, output=4 * one, **settings)


BIG, SMALL = rates("new-opus", "10"), rates("new-sonnet", "1")
PRICING = Pricing(overrides={"maker:new-opus": BIG, "maker:new-sonnet": SMALL})


def prompts(calls: int = 40, **fields: Any) -> Prompts:
    """Calls with 1,000 tokens in (400 read from the cache, 500 repeated) and 100 out, at 0.012 USD each."""
    settings: dict[str, Any] = {
        "provider": "maker",
        "model": "new-opus",
        "measured": True,
        "input_tokens": 1000,
        "repeated": 500,
        "cache_read": 400,
        "cache_write": 0,
        "calls": calls,
        "output": 100 * calls,
        "nano": 12_000_000 * calls,
    }
    return Prompts(**{**settings, **fields})


def evidence(**fields: Any) -> Evidence:
    return replace(Evidence(seconds=HALF_A_DAY), **fields)


def same(count: int, nano: int) -> Sample:
    """So many equal amounts."""
    return Sample(count=count, total=count * nano, squares=float(count) * nano * nano)


def part(name: str = "tools", *, shadow: bool, count: int = 30, nano: int = 10_000_000) -> PartSavings:
    return PartSavings(part=name, shadow=shadow, applied=count, tokens=100 * count, priced=same(count, nano))


def arms(subject: str, costs: dict[str, int], *, count: int = 30, agent: str | None = "writer") -> tuple[Arm, ...]:
    return tuple(
        Arm(subject=subject, variant=variant, agent=agent, cost=same(count, nano)) for variant, nano in costs.items()
    )


def only(found: tuple[Recommendation, ...]) -> Recommendation:
    (one,) = found
    return one


def ids(found: tuple[Recommendation, ...]) -> list[str]:
    return [one.id for one in found]


# --- a cheaper model -------------------------------------------------------------------------------------------------


def test_the_next_smaller_model_of_a_family_is_priced_for_the_same_tokens() -> None:
    found = only(recommendations(evidence(prompts=(prompts(),)), pricing=PRICING))
    assert found.id == "cheaper-model:maker:new-opus"
    assert found.change == "init_chat_model('new-sonnet', model_provider='maker')"
    # As much is read from the cache: 600 plain at 1, 400 read at 0.5, 100 out at 4 USD per million, of 0.012 now.
    assert found.saves_usd == 40 * (USD("0.012") - USD("0.0012")) == USD("0.432")
    # At least: nothing is read. At most: all that is repeated is.
    assert found.low_usd == 40 * (USD("0.012") - USD("0.0014"))
    assert found.high_usd == 40 * (USD("0.012") - USD("0.00115"))
    assert (found.per_day_usd, found.per_day_low_usd, found.per_day_high_usd) == (
        USD("0.864"),
        USD("0.848"),
        USD("0.868"),
    )
    assert (found.source, found.events, found.confidence) == ("estimated", 40, "low")
    assert "the same tokens cost 10% of it" in found.title
    assert found.caveat.startswith("Quality is not measured here")


def test_a_model_of_another_provider_is_priced_by_the_rules_of_its_prompt_cache() -> None:
    foreign = rates("elsewhere", "1", provider="other", min_cache_tokens=300, cache_increment=200)
    found = only(recommendations(evidence(prompts=(prompts(),)), pricing=PRICING, candidates=[foreign]))
    assert found.change == "init_chat_model('elsewhere', model_provider='other')"
    # Of 500 repeated tokens 400 are read, in steps of 200.
    assert found.saves_usd == found.high_usd == 40 * (USD("0.012") - USD("0.0012"))
    assert found.low_usd == 40 * (USD("0.012") - USD("0.0014"))
    assert "It counts tokens in its own way" in found.caveat


def test_a_candidate_that_must_be_asked_to_cache_is_not_taken_to_cache_where_nothing_is_cached_now() -> None:
    asked = rates("elsewhere", "1", provider="other", caching="explicit", cache_write=USD("1.25"))
    without = prompts(cache_read=0, nano=14_000_000 * 40)
    found = next(
        one
        for one in recommendations(evidence(prompts=(without,)), pricing=PRICING, candidates=[asked])
        if one.id.startswith("cheaper-model")
    )
    assert found.saves_usd == found.low_usd == found.high_usd == 40 * (USD("0.014") - USD("0.0014"))


def test_prices_that_rise_with_the_prompt_are_those_of_each_prompt() -> None:
    tiered = replace(SMALL, tiers=((900, rates("new-sonnet", "5")),))
    found = only(recommendations(evidence(prompts=(prompts(),)), pricing=PRICING, candidates=[tiered]))
    assert found.saves_usd == 40 * (USD("0.012") - USD("0.006"))


def test_too_few_calls_say_nothing_of_another_model() -> None:
    few = evidence(prompts=(prompts(29),))
    assert recommendations(few, pricing=PRICING) == ()
    assert too_little(few) == (
        "Recommendations about money need at least 30 model calls of agents, or as many times that a part worked; so "
        "far there are 29 calls."
    )
    assert too_little(evidence(prompts=(prompts(30),))) is None


def test_estimated_calls_are_not_mixed_with_measured_ones() -> None:
    assert recommendations(evidence(prompts=(prompts(measured=False),)), pricing=PRICING) == ()


def test_a_dearer_model_is_not_recommended() -> None:
    small = prompts(model="new-sonnet", nano=1_200_000 * 40)
    assert recommendations(evidence(prompts=(small,)), pricing=PRICING, candidates=["new-opus"]) == ()


def test_a_model_that_made_runs_of_the_same_agent_dearer_is_not_recommended() -> None:
    # For less a token, but more tokens or more steps.
    tried = arms("model", {"maker:new-opus": 12_000_000, "maker:new-sonnet": 13_000_000})
    used = (prompts(), prompts(model="new-sonnet"))
    assert recommendations(evidence(prompts=used, model_arms=tried), pricing=PRICING) == ()


def test_runs_of_the_same_agent_that_were_cheaper_are_told_and_trusted_more() -> None:
    tried = arms("model", {"maker:new-opus": 12_000_000, "maker:new-sonnet": 2_000_000})
    used = (prompts(), prompts(model="new-sonnet", nano=1_200_000 * 40))
    found = only(recommendations(evidence(prompts=used, model_arms=tried), pricing=PRICING))
    assert found.confidence == "medium"
    assert found.why == "in 60 runs of the same agents it cost $0.01 less a run"


def test_runs_of_different_agents_are_not_compared() -> None:
    tried = (
        *arms("model", {"maker:new-opus": 12_000_000}, agent="writer"),
        *arms("model", {"maker:new-sonnet": 90_000_000}, agent="researcher"),
    )
    used = (prompts(), prompts(model="new-sonnet", nano=1_200_000 * 40))
    found = only(recommendations(evidence(prompts=used, model_arms=tried), pricing=PRICING))
    assert found.why == "no run of the same agents has been answered by it yet"


def test_without_prices_no_model_is_recommended() -> None:
    assert recommendations(evidence(prompts=(prompts(),))) == ()


# --- the provider's prompt cache -------------------------------------------------------------------------------------

ASKED = Rates(
    provider="anthropic",
    model="claude-test",
    input=USD(4),
    output=USD(20),
    cache_read=USD("0.4"),
    cache_write=USD(5),
    caching="explicit",
)
ASKED_PRICING = Pricing(overrides={"anthropic:claude-test": ASKED})


def uncached(calls: int = 30, **fields: Any) -> Prompts:
    settings: dict[str, Any] = {"provider": "anthropic", "model": "claude-test", "cache_read": 0, "repeated": 900}
    return prompts(calls, nano=6_000_000 * calls, **{**settings, **fields})


def test_repeated_prompts_that_are_not_read_from_the_cache_are_worth_asking_for() -> None:
    found = only(recommendations(evidence(prompts=(uncached(),)), pricing=ASKED_PRICING))
    assert found.id == "prompt-cache:anthropic:claude-test"
    assert "AnthropicPromptCachingMiddleware()" in found.change
    # 900 tokens read at 0.4, 100 written at 5, 100 out at 20 USD per million, instead of 1,000 at 4 and 100 at 20.
    cached, bare = USD("0.00286"), USD("0.006")
    assert found.saves_usd == found.high_usd == 30 * (bare - cached)
    assert found.low_usd == 30 * (bare - (cached + bare) / 2)
    assert "30 calls repeated 27,000 tokens that the cache could have given; the provider reports 0 read" in found.basis


@pytest.mark.parametrize(
    "kept",
    [
        uncached(29),
        uncached(cache_read=450),  # half of what is possible is read
        uncached(repeated=None),  # nobody knows what is repeated
        uncached(repeated=0),
        uncached(repeated=200),  # what is written costs more than what is read saves
    ],
)
def test_a_prompt_cache_that_works_or_would_not_pay_is_left_alone(kept: Prompts) -> None:
    assert recommendations(evidence(prompts=(kept,)), pricing=ASKED_PRICING) == ()


# --- parts on and off ------------------------------------------------------------------------------------------------


def test_a_part_that_would_have_saved_is_to_be_turned_on() -> None:
    found = only(recommendations(evidence(parts=(part(shadow=True),))))
    assert (found.id, found.change) == ("turn-on:tools", 'TokenOptimizer(tools=ToolSelection(), mode="optimize")')
    assert found.saves_usd == found.low_usd == found.high_usd == USD("0.3")
    assert (found.per_day_usd, found.events, found.confidence) == (USD("0.6"), 30, "medium")


def test_the_range_is_what_chance_can_do_to_the_sum() -> None:
    # 100 decisions, half of 0 and half of 0.02: the sum of 1 USD has a deviation of 0.1005 USD.
    spread = Sample(count=100, total=1_000_000_000, squares=50 * 20_000_000.0**2)
    watched = replace(part(shadow=True), applied=100, priced=spread)
    found = only(recommendations(evidence(parts=(watched,))))
    assert found.low_usd is not None
    assert found.high_usd is not None
    assert round(found.low_usd, 4) == USD("0.8030")
    assert round(found.high_usd, 4) == USD("1.1970")


@pytest.mark.parametrize(
    "seen",
    [
        {"parts": (part(shadow=True, count=29),)},
        {"parts": (part(shadow=True, nano=-1),)},
        # Where it was on, it lost.
        {"parts": (part(shadow=True), part(shadow=False, nano=0))},
        # Runs with it on cost more.
        {"parts": (part(shadow=True),), "part_arms": arms("tools", {"optimize": 9_000_000, "shadow": 8_000_000})},
        # Somebody else's part, of which no setting is known.
        {"parts": (part("their own", shadow=True),)},
    ],
)
def test_a_part_is_not_to_be_turned_on_for_too_little_or_against_what_was_seen(seen: dict[str, Any]) -> None:
    assert recommendations(evidence(**seen)) == ()


def test_runs_that_were_cheaper_with_a_part_make_it_surer() -> None:
    tried = arms("tools", {"optimize": 7_000_000, "shadow": 9_000_000})
    found = only(recommendations(evidence(parts=(part(shadow=True),), part_arms=tried)))
    assert found.confidence == "high"
    assert found.why == "60 runs of the same agents say so as well: with it on, a run cost $0.002 less"


def test_a_part_that_costs_more_than_it_saves_is_to_be_turned_off() -> None:
    found = only(recommendations(evidence(parts=(part("history", shadow=False, nano=-2_000_000),))))
    assert (found.id, found.change) == ("turn-off:history", "TokenOptimizer(savings_guard=SavingsGuard())")
    assert found.saves_usd == USD("0.06")
    cache = only(recommendations(evidence(parts=(part("cache", shadow=False, nano=-2_000_000),))))
    assert cache.change == "TokenOptimizer(cache=None)"


@pytest.mark.parametrize(
    "seen",
    [
        {"parts": (part(shadow=False, count=29, nano=-1000),)},
        # It may be chance: the sum is below 0, its interval is not.
        {"parts": (replace(part(shadow=False), priced=Sample(count=50, total=-1000, squares=1e12)),)},
        # Our estimate says that it loses, but runs with it on cost less.
        {
            "parts": (part(shadow=False, nano=-1000),),
            "part_arms": arms("tools", {"optimize": 7_000_000, "shadow": 9_000_000}),
        },
    ],
)
def test_a_part_is_not_to_be_turned_off_by_chance_or_against_what_was_seen(seen: dict[str, Any]) -> None:
    assert recommendations(evidence(**seen)) == ()


def test_own_calls_that_cost_more_than_all_parts_save_are_to_be_stopped() -> None:
    saved = part(shadow=False, count=30, nano=1_000_000)
    found = only(recommendations(evidence(parts=(saved,), own_calls=20, own_nano=50_000_000)))
    assert (found.id, found.saves_usd, found.high_usd) == ("own-calls", USD("0.02"), USD("0.05"))
    assert recommendations(evidence(parts=(saved,), own_calls=20, own_nano=30_000_000)) == ()
    assert recommendations(evidence(parts=(saved,), own_calls=20, own_nano=None)) == ()


# --- questions that were asked again ---------------------------------------------------------------------------------


def repeats(outcome: str | None, reason: str | None, calls: int = 30) -> Repeats:
    return Repeats(outcome=outcome, reason=reason, calls=calls, priced=calls, nano=calls * 5_000_000)


def test_exact_repeats_without_a_cache_want_one() -> None:
    found = only(recommendations(evidence(repeats=(repeats(None, None),))))
    assert (found.id, found.change) == ("exact-repeats", "TokenOptimizer(cache=SemanticCache(threshold=1.0))")
    assert (found.low_usd, found.saves_usd, found.source) == (USD(0), USD("0.15"), "measured")


@pytest.mark.parametrize(
    ("outcome", "reason", "change"),
    [
        ("bypass", "after a tool call", "SemanticCache(cacheable_tools=[...], ttl_seconds=3600)"),
        ("bypass", "the tenant function named no tenant", "agent.invoke(..., context={'tenant': ...})"),
        ("bypass", "temperature=0.7: sampled answers are cached ...", "SemanticCache(cache_sampled=True)"),
        ("miss", "nothing stored", "SemanticCache(ttl_seconds=None, tenant=...)"),
    ],
)
def test_exact_repeats_that_the_cache_missed_name_what_kept_it(outcome: str, reason: str, change: str) -> None:
    found = only(recommendations(evidence(repeats=(repeats(outcome, reason),))))
    assert found.change == change
    assert reason in found.basis


def test_repeats_that_a_step_asked_for_on_purpose_do_not_count() -> None:
    again = repeats("bypass", "the same step asks again")
    assert recommendations(evidence(repeats=(again, repeats("miss", "nothing stored", 29)))) == ()


# --- budgets ---------------------------------------------------------------------------------------------------------


def line(**fields: Any) -> BudgetLine:
    settings: dict[str, Any] = {
        "budget": "default",
        "node": "team-a",
        "per": "month",
        "unit": "usd",
        "limit": USD(50),
        "spent": USD(40),
        "held": USD(0),
        "expected": USD(60),
        "low": USD(55),
        "high": USD("70.001"),
        "coverage": 0.8,
        "runs_out_at": 1_800_000_000.0,
    }
    return BudgetLine(**{**settings, **fields})


def test_a_budget_that_is_used_up_is_to_be_raised_or_waited_for() -> None:
    found = only(recommendations(evidence(), budgets=[line(spent=USD(50))]))
    assert found.title == "Raise the limit of team-a per month by $20.01, or wait until it starts afresh"


def test_a_budget_that_runs_out_is_to_be_raised_or_spent_from_more_slowly() -> None:
    found = only(recommendations(evidence(), budgets=[line()]))
    assert found.title == (
        "Raise the limit of team-a per month by $20.01, or spend at 50% of the pace that is expected"
    )
    assert found.change == "budget.set_limit('team-a', Limit(usd=\"70.01\", per='month'))"
    assert found.saves_usd is None
    assert found.confidence == "medium"
    assert "it runs out about 2027-01-15 08:00 UTC" in found.basis
    assert only(recommendations(evidence(), budgets=[line(low=USD(45))])).confidence == "low"
    assert only(recommendations(evidence(), budgets=[line(steps=4)])).confidence == "medium"
    guessed = only(recommendations(evidence(), budgets=[line(steps=3)]))
    assert (guessed.confidence, guessed.why) == ("low", "the forecast is a guess from hardly any history")


def test_a_raised_limit_keeps_the_limits_in_other_units() -> None:
    tokens = line(unit="tokens", limit=1000, spent=1, expected=None)
    found = only(recommendations(evidence(), budgets=[line(), tokens, line(node="other", expected=None)]))
    assert found.change == "budget.set_limit('team-a', Limit(usd=\"70.01\", tokens=1000, per='month'))"


@pytest.mark.parametrize("kept", [line(expected=USD(50)), line(expected=None), line(hard=False)])
def test_a_budget_that_lasts_or_only_alerts_is_left_alone(kept: BudgetLine) -> None:
    assert recommendations(evidence(), budgets=[kept]) == ()


def test_a_reservation_far_above_what_answers_take_is_to_be_bounded() -> None:
    seen = evidence(outputs=((100, 99), (400, 1)), reserved_for_output=((4096, 100),), refused=7)
    found = only(recommendations(seen))
    # The longest answer and a quarter, in steps of 256.
    assert found.change == "Budget(max_output_tokens=512, ...)"
    assert "of 100 answers 99% took 100 tokens or fewer, the longest 400" in found.basis
    assert "refused 7 calls" in found.basis
    assert recommendations(replace(seen, outputs=((100, 99),))) == ()
    assert recommendations(replace(seen, reserved_for_output=((1000, 100),))) == ()


# --- prices, order, form ---------------------------------------------------------------------------------------------


def test_a_model_without_a_price_wants_rates() -> None:
    seen = Unpriced(provider="local", model="llm", calls=3, input_tokens=300, output_tokens=30)
    found = only(recommendations(evidence(unpriced=(seen,))))
    assert found.change == "Pricing(overrides={'local:llm': Rates(input=Decimal(...), output=Decimal(...))})"
    assert found.basis == "3 calls with 300 input and 30 output tokens are in no figure of money"


def test_what_saves_most_comes_first_and_what_saves_no_money_last() -> None:
    seen = evidence(
        prompts=(prompts(),),
        parts=(part(shadow=True), part("history", shadow=False, nano=-20_000_000)),
        unpriced=(Unpriced(provider=None, model="llm", calls=3, input_tokens=1, output_tokens=1),),
    )
    found = recommendations(seen, pricing=PRICING, budgets=[line()])
    assert ids(found) == [
        "turn-off:history",
        "cheaper-model:maker:new-opus",
        "turn-on:tools",
        "raise-limit:default:team-a:month:usd",
        "give-rates:llm",
    ]
    assert recommendations(seen, pricing=PRICING, budgets=[line()]) == found


def test_a_saving_per_day_takes_an_hour_of_events() -> None:
    watched = (part(shadow=True),)
    assert only(recommendations(evidence(parts=watched, seconds=3599.0))).per_day_usd is None
    assert only(recommendations(evidence(parts=watched, seconds=3600.0))).per_day_usd == USD("7.2")


def test_names_from_outside_cannot_leave_the_code() -> None:
    hostile = 'x"})\nimport os; os.system("rm")\x1b[2J'
    seen = Unpriced(provider=None, model=hostile, calls=3, input_tokens=1, output_tokens=1)
    found = only(recommendations(evidence(unpriced=(seen,))))
    assert repr(hostile) in found.change
    assert "\x1b" not in found.title
