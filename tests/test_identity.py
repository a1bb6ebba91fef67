from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from langchain_tokopt.identity import ModelIdentity, model_identity
from tests.fakes import ScriptedModel


def openai(**settings: Any) -> ChatOpenAI:
    chosen: dict[str, Any] = {"api_key": "unused", "model": "gpt-4o", **settings}
    return ChatOpenAI(**chosen)


@pytest.mark.parametrize(
    ("name", "provider", "bare"),
    [
        ("gpt-4o", None, "gpt-4o"),
        ("openai:gpt-4o", "openai", "gpt-4o"),
        ("google_genai:models/gemini-2.5-pro", "google_genai", "gemini-2.5-pro"),
        ("ft:gpt-4o-2024-08-06:acme::abc", None, "ft:gpt-4o-2024-08-06:acme::abc"),
        ("mistral:7b", None, "mistral:7b"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", None, "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            "arn:aws:bedrock:eu-west-1:123:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            None,
            "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ("publishers/google/models/gemini-2.5-flash", None, "gemini-2.5-flash"),
        ("", None, None),
    ],
)
def test_names(name: str, provider: str | None, bare: str | None) -> None:
    assert model_identity(name) == ModelIdentity(provider, bare)


def test_chat_models_say_who_they_are() -> None:
    assert model_identity(openai()) == ModelIdentity("openai", "gpt-4o")
    anthropic: dict[str, Any] = {"model_name": "claude-sonnet-4-5", "api_key": "unused"}
    assert model_identity(ChatAnthropic(**anthropic)) == ModelIdentity("anthropic", "claude-sonnet-4-5")
    assert model_identity(ScriptedModel(model_name="gpt-4.1", provider="acme")) == ModelIdentity("acme", "gpt-4.1")


def test_azure_is_named_by_its_model_and_else_by_its_deployment() -> None:
    azure: dict[str, Any] = {
        "azure_deployment": "mine",
        "api_key": "unused",
        "azure_endpoint": "https://x.test",
        "api_version": "1",
    }
    assert model_identity(AzureChatOpenAI(model="gpt-4o", **azure)) == ModelIdentity("azure", "gpt-4o")
    assert model_identity(AzureChatOpenAI(**azure)) == ModelIdentity("azure", "mine")


def test_setting_of_the_call_wins_over_the_binding_and_the_binding_over_the_model() -> None:
    bound = openai().bind(model="gpt-4.1").bind(temperature=0)
    assert model_identity(bound).name == "gpt-4.1"
    assert model_identity(bound, {"model": "o3"}).name == "o3"
    assert model_identity(openai(), {"model": "o3"}).name == "o3"
    assert model_identity(openai(), {"model": None, "temperature": 0}).name == "gpt-4o"


def test_address_of_another_server_is_part_of_the_identity() -> None:
    assert model_identity(openai(base_url="http://localhost:8000/v1")).url == "http://localhost:8000/v1"
    assert model_identity(openai(base_url="https://api.openai.com/v1")).url is None


def test_model_that_is_chosen_at_run_time_is_known_by_its_default() -> None:
    from langchain.chat_models import init_chat_model

    chosen = init_chat_model("gpt-4o", model_provider="openai", configurable_fields=("model",), api_key="unused")
    assert model_identity(chosen).name == "gpt-4o"


@pytest.mark.parametrize("thing", [None, object(), 5, lambda: None])
def test_what_is_no_model_is_unknown(thing: Any) -> None:
    assert model_identity(thing) == ModelIdentity(None, None)


def test_model_whose_own_code_fails_is_told_by_its_attributes() -> None:
    class Broken:
        model_name = "gpt-4o"

        def _get_ls_params(self, **_: Any) -> Any:
            raise RuntimeError("no")

    assert model_identity(Broken()) == ModelIdentity(None, "gpt-4o")
