import pytest

from langchain_tokopt.provider_caching import CachingRules, caching_rules


@pytest.mark.parametrize(
    ("model", "minimum"),
    [
        ("claude-3-haiku-20240307", 2048),
        ("claude-3-5-haiku-latest", 2048),
        ("claude-haiku-4-5", 4096),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 4096),
        ("anthropic/claude-haiku-4.5", 4096),
        ("claude-3-5-sonnet-20241022", 1024),
        ("claude-sonnet-4-5", 1024),
        ("claude-sonnet-4-6", 1024),
        ("claude-opus-4-1", 1024),
        ("claude-opus-4-5-20251101", 4096),
        ("claude-opus-4-6", 4096),
        ("claude-opus-4-7", 2048),
        ("claude-opus-4-8", 1024),
        ("claude-opus-5", 512),
        ("claude-opus-5-5", 512),
        ("claude-fable-5-1", 512),
        ("claude-sonnet-5", 1024),
    ],
)
def test_claude_caches_when_asked_from_the_models_minimum_on(model: str, minimum: int) -> None:
    assert caching_rules("anthropic", model, has_read_price=True) == CachingRules("explicit", minimum, 1, 300.0)


@pytest.mark.parametrize(
    ("provider", "model", "rules"),
    [
        ("openai", "gpt-4o", CachingRules("automatic", 1024, 128, 300.0)),
        ("azure", "gpt-4.1", CachingRules("automatic", 1024, 128, 300.0)),
        ("google", "gemini-2.5-pro", CachingRules("automatic", 2048)),
        ("google", "gemini-2.5-flash-lite", CachingRules("automatic", 2048)),
        ("google", "gemini-3.1-pro-preview", CachingRules("automatic", 4096)),
        ("google", "gemini-3-flash-preview", CachingRules("automatic", 4096)),
        ("openrouter", "google/gemini-2.5-pro", CachingRules("automatic", 2048)),
        ("google", "gemini-2.0-flash", CachingRules("none")),
        ("google", "gemini-1.5-pro", CachingRules("none")),
        ("deepseek", "deepseek-chat", CachingRules("automatic", 64, 64, 3600.0)),
        ("aws", "us.amazon.nova-pro-v1:0", CachingRules("explicit", 1024)),
        ("aws", "anthropic.claude-sonnet-4-5-20250929-v1:0", CachingRules("explicit", 1024)),
        ("x-ai", "grok-4", CachingRules("automatic", 1024, 128, 300.0)),
    ],
)
def test_other_providers(provider: str, model: str, rules: CachingRules) -> None:
    assert caching_rules(provider, model, has_read_price=True) == rules


def test_openais_models_with_a_price_for_writing_keep_longer() -> None:
    rules = caching_rules("openai", "gpt-5.6-sol", has_read_price=True, pays_for_writing=True)
    assert rules == CachingRules("automatic", 1024, 1, 1800.0)


@pytest.mark.parametrize("model", ["gpt-4", "claude-2", "gemini-2.5-pro", "llama-3.3-70b"])
def test_without_a_price_for_reading_there_is_no_caching(model: str) -> None:
    assert caching_rules("any", model, has_read_price=False) == CachingRules("none")
