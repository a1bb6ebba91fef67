import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_openai import ChatOpenAI

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing, Rates, from_nano, to_nano, usage_parts
from tests.fakes import ScriptedModel

NOW = datetime(2026, 11, 16, 12, tzinfo=timezone.utc)
RATES = Rates(
    input=Decimal(10),
    output=Decimal(50),
    cache_read=Decimal(1),
    cache_write=Decimal("12.5"),
    cache_write_1h=Decimal(20),
)


def usage(input_tokens: int, output_tokens: int = 0, **details: Any) -> UsageMetadata:
    whole: dict[str, Any] = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    return cast("UsageMetadata", {**whole, "input_token_details": details} if details else whole)


@pytest.fixture
def pricing() -> Pricing:
    return Pricing(clock=lambda: NOW)


# --- amounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usd", "nano"), [("0", 0), ("1", 10**9), ("0.000000001", 1), ("0.0000000001", 1), ("0.0000000010001", 2)]
)
def test_nano_usd_are_rounded_up(usd: str, nano: int) -> None:
    assert to_nano(Decimal(usd)) == nano


@given(st.integers(0, 10**18))
def test_nano_usd_there_and_back(nano: int) -> None:
    assert to_nano(from_nano(nano)) == nano


# --- rates -----------------------------------------------------------------------------------------------------------


DOUBLE = Rates(input=Decimal(2), output=Decimal(2), cache_read=Decimal(1), caching="automatic")


def test_a_large_prompt_has_its_own_rates() -> None:
    rates = Rates(input=Decimal(1), output=Decimal(1), tiers=((1_000, DOUBLE),))
    assert (rates.for_prompt(1_000), rates.for_prompt(1_001)) == (rates, DOUBLE)
    assert rates.cost(usage(1_000, 10)) == Decimal("0.00101")
    assert rates.cost(usage(1_001, 10, cache_read=1)) == DOUBLE.cost(usage(1_001, 10, cache_read=1))
    assert rates.without_caching().cost(usage(1_001, 0, cache_read=1_001)) == Decimal("0.002002")


def test_prices_that_are_not_given_are_those_of_plain_input() -> None:
    rates = Rates(input=Decimal(3), output=Decimal(15))
    assert {rates.cache_read, rates.cache_write, rates.cache_write_1h} == {rates.input}
    assert Rates(input=Decimal(3), output=Decimal(15), cache_write=Decimal(4)).cache_write_1h == 4


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"input": 3.0}, "input"),
        ({"input": "3"}, "input"),
        ({"output": Decimal(-1)}, "output"),
        ({"cache_read": Decimal("Infinity")}, "cache_read"),
        ({"cache_write": Decimal("NaN")}, "cache_write"),
        ({"caching": "sometimes"}, "caching"),
        ({"min_cache_tokens": -1}, "min_cache_tokens"),
        ({"cache_increment": 0}, "cache_increment"),
        ({"cache_ttl_seconds": 0}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": float("nan")}, "cache_ttl_seconds"),
        ({"tiers": ((0, DOUBLE),)}, "tiers"),
        ({"tiers": ((200, DOUBLE), (100, DOUBLE))}, "tiers"),
        ({"tiers": ((100, DOUBLE), (100, DOUBLE))}, "tiers"),
    ],
)
def test_wrong_rates_fail_when_they_are_built(wrong: dict[str, Any], argument: str) -> None:
    fields: dict[str, Any] = {"input": Decimal(1), "output": Decimal(1), **wrong}
    with pytest.raises(ConfigurationError) as failure:
        Rates(**fields)
    assert failure.value.argument == argument


@pytest.mark.parametrize(
    ("reported", "millionths"),
    [
        (usage(100, 10), 100 * 10 + 10 * 50),
        (usage(100, 10, cache_read=40), 60 * 10 + 40 * 1 + 10 * 50),
        (usage(100, 0, cache_creation=40), Decimal("12.5") * 40 + 60 * 10),
        # langchain-anthropic: what was written by lifetime, the sum then at 0
        (
            usage(100, 0, cache_read=10, cache_creation=0, ephemeral_5m_input_tokens=20, ephemeral_1h_input_tokens=30),
            40 * 10 + 10 * 1 + Decimal("12.5") * 20 + 30 * 20,
        ),
        # both the sum and its parts: the same tokens
        (
            usage(100, 0, cache_creation=50, ephemeral_5m_input_tokens=20, ephemeral_1h_input_tokens=30),
            50 * 10 + Decimal("12.5") * 20 + 30 * 20,
        ),
        (usage(100, 0, cache_creation=50, ephemeral_1h_input_tokens=30), 50 * 10 + Decimal("12.5") * 20 + 30 * 20),
        # OpenAI's service tiers
        (usage(100, 0, flex_cache_read=40, flex=60), 60 * 10 + 40 * 1),
        # reports that contradict themselves
        (usage(100, 0, cache_read=400), 100 * 1),
        (usage(100, 0, cache_read=80, cache_creation=80), 80 * 1 + Decimal("12.5") * 20),
        (usage(100, 0, cache_read=-5, cache_creation=None), 100 * 10),
        (usage(-3, -3), 0),
        (cast("UsageMetadata", {}), 0),
        (cast("UsageMetadata", {"input_tokens": None, "output_tokens": 2, "input_token_details": None}), 2 * 50),
    ],
)
def test_every_token_is_billed_once(reported: UsageMetadata, millionths: Decimal | int) -> None:
    assert RATES.cost(reported) == Decimal(millionths) / 1_000_000


def test_reasoning_and_audio_are_part_of_what_they_detail() -> None:
    reported = usage(100, 50, audio=20)
    reported["output_token_details"] = {"reasoning": 40, "audio": 5}
    assert RATES.cost(reported) == RATES.cost(usage(100, 50))


COUNTS = st.none() | st.integers(-10, 10**9) | st.floats()


@given(
    COUNTS,
    COUNTS,
    st.dictionaries(
        st.sampled_from(
            [
                "cache_read",
                "cache_creation",
                "ephemeral_5m_input_tokens",
                "ephemeral_1h_input_tokens",
                "flex_cache_read",
            ]
        ),
        COUNTS,
    ),
)
def test_no_report_gives_negative_parts_or_another_total(read_in: Any, written: Any, details: dict[str, Any]) -> None:
    reported = cast(
        "UsageMetadata", {"input_tokens": read_in, "output_tokens": written, "input_token_details": details}
    )
    parts = usage_parts(reported)
    assert min(parts.plain, parts.read, parts.write, parts.write_1h, parts.output) >= 0
    assert parts.input == parts.plain + parts.read + parts.write + parts.write_1h
    assert parts.input == usage_parts(cast("UsageMetadata", {"input_tokens": read_in})).input
    assert RATES.cost(reported) >= 0


def test_without_caching_all_input_costs_the_same() -> None:
    rates = Rates(
        input=Decimal(10), output=Decimal(50), cache_read=Decimal(1), caching="explicit", provider="p", model="m"
    )
    assert rates.without_caching() == Rates(input=Decimal(10), output=Decimal(50), provider="p", model="m")
    assert rates.without_caching().cost(usage(100, 0, cache_read=60)) == rates.cost(usage(100))


# --- the price list --------------------------------------------------------------------------------------------------


def test_rates_of_known_models(pricing: Pricing) -> None:
    assert pricing.rates("gpt-4o") == Rates(
        provider="openai",
        model="gpt-4o",
        input=Decimal("2.5"),
        output=Decimal(10),
        cache_read=Decimal("1.25"),
        caching="automatic",
        min_cache_tokens=1024,
        cache_increment=128,
        cache_ttl_seconds=300.0,
    )
    assert pricing.rates("claude-haiku-4-5") == Rates(
        provider="anthropic",
        model="claude-haiku-4-5",
        input=Decimal(1),
        output=Decimal(5),
        cache_read=Decimal("0.1"),
        cache_write=Decimal("1.25"),
        cache_write_1h=Decimal(2),
        caching="explicit",
        min_cache_tokens=4096,
        cache_ttl_seconds=300.0,
    )


@pytest.mark.parametrize(
    ("model", "provider", "listed"),
    [
        ("models/gemini-2.5-flash", "google_genai", ("google", "gemini-2.5-flash")),
        ("gemini-2.5-flash", "google_vertexai", ("google", "gemini-2.5-flash")),
        ("gpt-4o", "azure", ("azure", "gpt-4o")),
        ("openai:gpt-4o", None, ("openai", "gpt-4o")),
        ("anthropic/claude-sonnet-4.5", "openrouter", ("openrouter", "anthropic/claude-sonnet-4.5")),
        ("amazon.nova-pro-v1:0", "amazon_bedrock", ("aws", "amazon.nova-pro-v1:0")),
        ("us.amazon.nova-pro-v1:0", "bedrock_converse", ("aws", "amazon.nova-pro-v1:0")),
        (
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "amazon_bedrock",
            ("aws", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ),
        ("gpt-4o", "acme_gateway", ("openai", "gpt-4o")),
    ],
)
def test_models_are_found_under_the_names_that_langchain_uses(
    pricing: Pricing, model: str, provider: str | None, listed: tuple[str, str]
) -> None:
    rates = pricing.rates(model, provider)
    assert rates is not None
    assert (rates.provider, rates.model) == listed


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("no-such-model", None),
        ("no-such-model", "openai"),
        ("my-deployment", "azure"),
        ("llama3.2:latest", "ollama"),
        ("deepseek-chat", "vllm"),
        ("", None),
    ],
)
def test_unknown_model_has_no_price(pricing: Pricing, model: str, provider: str | None) -> None:
    assert pricing.rates(model, provider) is None
    assert pricing.cost(usage(10), model, provider) is None


def test_object_that_is_no_model_has_no_price(pricing: Pricing) -> None:
    assert pricing.rates(cast("Any", object())) is None
    assert pricing.cost(usage(10), cast("Any", object())) is None


@pytest.mark.parametrize(
    ("model", "url", "listed"),
    [
        ("deepseek-chat", "https://api.deepseek.com/v1", "deepseek"),
        ("gpt-4o", "http://localhost:4000", "openai"),
        ("gpt-4o", "http://10.0.0.7:4000", "openai"),
        ("gpt-4o", "https://models.example.com/v1", "openai"),
        ("gpt-oss-120b", "http://localhost:8000/v1", None),
        ("deepseek-chat", "http://gpu-box:8000/v1", None),
    ],
)
def test_server_behind_openais_interface_is_told_by_its_address(
    pricing: Pricing, model: str, url: str, listed: str | None
) -> None:
    settings: dict[str, Any] = {"model": model, "base_url": url, "api_key": "unused"}
    rates = pricing.rates(ChatOpenAI(**settings))
    assert (rates.provider if rates else None) == listed


def test_large_prompt_is_billed_at_its_own_price(pricing: Pricing) -> None:
    assert pricing.cost(usage(200_000, 100, cache_read=50_000), "gemini-2.5-pro") == Decimal("0.1875") + Decimal(
        "0.00625"
    ) + Decimal("0.001")
    assert pricing.cost(usage(200_001, 100, cache_read=50_000), "gemini-2.5-pro") == Decimal("0.3750025") + Decimal(
        "0.0125"
    ) + Decimal("0.0015")
    rates = pricing.rates("gemini-2.5-pro")
    assert rates is not None
    assert (rates.input, rates.output) == (Decimal("1.25"), Decimal(10))
    assert rates.cost(usage(200_001, 100, cache_read=50_000)) == Decimal("0.3750025") + Decimal("0.0125") + Decimal(
        "0.0015"
    )


def test_service_tier_that_was_reported_has_its_own_price(pricing: Pricing) -> None:
    standard, flex = usage(1000, 100, cache_read=200), usage(1000, 100, flex_cache_read=200, flex=800)
    assert pricing.cost(standard, "gpt-5") == Decimal("0.002025")
    assert pricing.cost(flex, "gpt-5") == Decimal("0.0010125")


def test_prices_change_with_the_clock() -> None:
    def cost(day: datetime) -> Decimal | None:
        return Pricing(clock=lambda: day).cost(usage(1_000_000), "o3")

    assert cost(datetime(2025, 5, 1, tzinfo=timezone.utc)) == 10
    assert cost(NOW) == 2


def test_one_hour_writes_are_billed_at_their_price(pricing: Pricing) -> None:
    reported = usage(1000, 0, cache_creation=0, ephemeral_5m_input_tokens=100, ephemeral_1h_input_tokens=200)
    assert pricing.cost(reported, "claude-haiku-4-5") == Decimal("0.000700") + Decimal("0.000125") + Decimal("0.000400")


def test_report_that_contradicts_itself_is_still_priced(pricing: Pricing) -> None:
    assert pricing.cost(usage(100, 0, cache_read=400, cache_creation=400), "claude-haiku-4-5") == Decimal("0.00001")


def listed_models() -> list[tuple[str, str]]:
    """Models of text whose own id the list finds them by."""
    snapshot = get_snapshot()
    return sorted(
        (provider.id, model.id)
        for provider in snapshot.providers
        if provider.id in ("anthropic", "openai", "google", "deepseek")
        for model in provider.models
        if getattr(model.get_prices(NOW), "output_mtok", None) is not None
        if provider.find_model(model.id, all_providers=snapshot.providers) is model
    )


@given(
    st.sampled_from(listed_models()),
    st.integers(0, 400_000),
    st.integers(0, 1000),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_rates_and_the_price_list_agree(
    model: tuple[str, str], read_in: int, written_out: int, read: int, written: int
) -> None:
    pricing = Pricing(clock=lambda: NOW)
    reported = usage(read_in, written_out, cache_read=read, cache_creation=written)
    parts = usage_parts(reported)
    bill = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=parts.input,
            cache_read_tokens=parts.read,
            cache_write_tokens=parts.write,
            output_tokens=parts.output,
        ),
        model[1],
        provider_id=model[0],
        genai_request_timestamp=NOW,
    )
    assert pricing.cost(reported, model[1], model[0]) == bill.total_price
    rates = pricing._listed().rates(pricing_identity(model), NOW)
    assert rates is None or rates.cost(reported) == bill.total_price


def pricing_identity(model: tuple[str, str]) -> Any:
    from langchain_tokopt.identity import ModelIdentity

    return ModelIdentity(model[0], model[1])


# --- overrides -------------------------------------------------------------------------------------------------------


def test_own_rates_win() -> None:
    pricing = Pricing(overrides={"gpt-4o": RATES, "acme:small": RATES})
    assert pricing.rates("gpt-4o") is RATES
    assert pricing.rates("small", "acme") is RATES
    assert pricing.rates("small") is None
    assert pricing.cost(usage(100), ScriptedModel(model_name="gpt-4o")) == RATES.cost(usage(100))


def test_override_must_be_rates() -> None:
    with pytest.raises(ConfigurationError, match=r"overrides\['gpt-4o'\]"):
        Pricing(overrides={"gpt-4o": cast("Any", "3 dollars")})


def test_rates_of_a_request_are_those_of_the_model_in_its_settings(pricing: Pricing) -> None:
    plain: ModelRequest[Any] = ModelRequest(model=ScriptedModel(model_name="gpt-4o"), messages=[HumanMessage("Hi")])
    rates = pricing.request_rates(plain.override(model_settings={"model": "gpt-4.1"}))
    assert rates == pricing.rates("gpt-4.1")
    assert pricing.request_rates(plain) == pricing.rates("gpt-4o")


def test_price_list_is_not_imported_before_a_price_is_asked_for() -> None:
    code = "import sys, langchain_tokopt.pricing as p; p.Pricing(); sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_clock_is_timezone_aware_by_default() -> None:
    assert Pricing()._clock().utcoffset() == timedelta(0)
