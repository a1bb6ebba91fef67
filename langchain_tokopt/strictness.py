"""Whether tools that are sent as dictionaries have to be strict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain.agents.structured_output import ToolStrategy

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest


def needs_strict(request: ModelRequest[Any]) -> bool:
    """Whether OpenAI's client refuses this request if one of its tools is not strict.

    It does where the answer has a schema. LangChain makes tools strict there, but not those that are dictionaries.
    """
    if request.response_format is None or isinstance(request.response_format, ToolStrategy):
        return False
    return any(
        kind.__name__ == "BaseChatOpenAI" for kind in type(getattr(request.model, "inner", request.model)).__mro__
    )
