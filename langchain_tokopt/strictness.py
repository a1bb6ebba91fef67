"""Whether tools that are sent as dictionaries have to be strict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain.agents.structured_output import ToolStrategy

from langchain_tokopt.identity import client_of

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest


def needs_strict(request: ModelRequest[Any]) -> bool:
    """Whether OpenAI's client refuses this request if one of its tools is not strict.

    It does where the answer has a schema. LangChain makes tools strict there, but not those that are dictionaries. Of a
    model that was wrapped the schema is among the settings.
    """
    asked = request.response_format
    has_schema = asked is not None and not isinstance(asked, ToolStrategy)
    if not has_schema and not request.model_settings.get("response_format"):
        return False
    return any(kind.__name__ == "BaseChatOpenAI" for kind in type(client_of(request.model)).__mro__)
