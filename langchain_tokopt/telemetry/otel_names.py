"""The names that OpenTelemetry knows things by: those of its GenAI conventions, and ours beside them.

The GenAI conventions (status "Development") come in two versions, and backends read either:

- "1.41": semantic conventions 1.41.0, the last that had them:
  https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/README.md
- "genai-0.1": the first release of the repository that they moved to, which has counters of tokens instead of the
  histogram `gen_ai.client.token.usage`, and calls a written cache `cache_write`:
  https://github.com/open-telemetry/semantic-conventions-genai/blob/v0.1.0/docs/gen-ai/client-inference.md
"""

from __future__ import annotations

from typing import Final, Literal

from langchain_tokopt.events import ModelCall, Who
from langchain_tokopt.telemetry.tally import Attributes, clean

Conventions = Literal["1.41", "genai-0.1"]

SCOPE: Final = "langchain_tokopt"

OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
ERROR_TYPE: Final = "error.type"

PART: Final = "tokopt.part"
MODE: Final = "tokopt.mode"
INTERNAL: Final = "tokopt.call.internal"

# Whom an event belongs to, as attributes. `user.id` is from the general conventions.
WHO: Final[dict[str, str]] = {
    "tenant": "tokopt.tenant",
    "project": "tokopt.project",
    "task": "tokopt.task",
    "agent": "gen_ai.agent.name",
    "user": "user.id",
    "thread": "gen_ai.conversation.id",
    "run": "tokopt.run",
    "node": "tokopt.node",
}

# LangChain's names of providers, where the conventions have others.
_PROVIDERS: Final[dict[str, str]] = {
    "amazon_bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "watsonx": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
}


def provider_name(provider: str | None) -> str:
    """The provider as the conventions spell it; "unknown" where nobody said, since the attribute is required."""
    return _PROVIDERS.get(provider, clean(provider)) if provider else "unknown"


def who_attributes(who: Who, fields: tuple[str, ...]) -> Attributes:
    """What is known of `fields` of `Who`, as attributes."""
    found = ((WHO[name], getattr(who, name)) for name in fields)
    return {key: clean(value) for key, value in found if value is not None}


def call_attributes(call: ModelCall) -> Attributes:
    """What the conventions ask for on each metric and span of a call, and whether it is one of the optimiser's own."""
    attributes: Attributes = {OPERATION: CHAT, PROVIDER: provider_name(call.provider)}
    if call.model:
        attributes[REQUEST_MODEL] = clean(call.model)
    attributes[INTERNAL] = call.internal
    return attributes
