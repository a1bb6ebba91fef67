"""Which model a chat model will call, by the names that its provider uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel

# The resource paths that Google, Vertex AI and Fireworks put in front of a model's name.
_RESOURCE_PATH = re.compile(r"^(?:models/|(?:projects|publishers|accounts)/.*/models/)")

# What may stand before the colon in init_chat_model("provider:name").
_PROVIDERS = frozenset(
    {
        "amazon_bedrock",
        "anthropic",
        "anthropic_bedrock",
        "azure",
        "azure_ai",
        "azure_openai",
        "baseten",
        "bedrock",
        "bedrock_converse",
        "cohere",
        "databricks",
        "deepseek",
        "fireworks",
        "google_anthropic_vertex",
        "google_genai",
        "google_vertexai",
        "groq",
        "huggingface",
        "ibm",
        "litellm",
        "mistralai",
        "moonshotai",
        "nvidia",
        "ollama",
        "openai",
        "openrouter",
        "perplexity",
        "together",
        "upstage",
        "xai",
    }
)


@dataclass(frozen=True)
class ModelIdentity:
    """A model as its provider names it. `None` where that cannot be known.

    Attributes:
        provider: For example "openai", "anthropic", "amazon_bedrock", "azure", "google_genai".
        name: For example "gpt-4o-mini" or "us.anthropic.claude-sonnet-4-5-20250929-v1:0".
        url: The address of an OpenAI-compatible server that is not OpenAI's.
    """

    provider: str | None
    name: str | None
    url: str | None = None


def model_identity(model: Any, settings: Mapping[str, Any] | None = None) -> ModelIdentity:
    """Provider and name of the model that will be called.

    `model` is a chat model, a binding around one, or a name such as "gpt-4o" or "openai:gpt-4o". A `model` in
    `settings` (a request's `model_settings`) wins, then one that was bound. Never raises.
    """
    if isinstance(model, str):
        return _from_name(model)
    override = _text((settings or {}).get("model"))
    while hasattr(model, "bound") and hasattr(model, "kwargs"):
        override = override or _text(model.kwargs.get("model"))
        model = model.bound
    provider, name = _from_params(model, override)
    if provider is None and name is None:
        provider, name = _from_defaults(model)
    name = override or name or _attribute(model, "model_name", "model", "model_id", "deployment_name")
    return ModelIdentity(
        provider, _bare(name) if name else None, _other_server(model) if provider == "openai" else None
    )


def _other_server(model: Any) -> str | None:
    url = _attribute(model, "openai_api_base")
    return url if url and "api.openai.com" not in url else None


def _from_name(name: str) -> ModelIdentity:
    provider, colon, rest = name.partition(":")
    # "openai:gpt-4o" as in init_chat_model; but "ft:gpt-4o:acme" and "mistral:7b" are names with a colon in them.
    if colon and rest and provider in _PROVIDERS:
        return ModelIdentity(provider, _bare(rest))
    return ModelIdentity(None, _bare(name) or None)


def _from_params(model: Any, override: str | None) -> tuple[str | None, str | None]:
    """What LangChain's own tracing calls this model."""
    read = getattr(type(model), "_get_ls_params", None)
    if read is None:
        return None, None
    try:
        params = read(model, **({"model": override} if override else {}))
    except Exception:
        return None, None
    return _text(params.get("ls_provider")), _text(params.get("ls_model_name"))


def _from_defaults(model: Any) -> tuple[str | None, str | None]:
    """Of a model that is chosen at run time (`init_chat_model(configurable_fields=...)`): its default."""
    defaults = getattr(model, "_default_config", None)
    if not isinstance(defaults, Mapping):
        return None, None
    named = _from_name(_text(defaults.get("model")) or "")
    return _text(defaults.get("model_provider")) or named.provider, named.name


def _attribute(model: Any, *names: str) -> str | None:
    return next((value for name in names if (value := _text(getattr(model, name, None)))), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _bare(name: str) -> str:
    if name.startswith("arn:"):
        return name.rsplit("/", 1)[-1]
    return _RESOURCE_PATH.sub("", name)


def client_of(model: Any) -> Any:
    """The provider's client; the models that this package puts around one have it as `inner`."""
    while isinstance(inner := getattr(model, "inner", None), BaseChatModel):
        model = inner
    return model
