"""Compressing harder than pays by itself: for a call that would otherwise not be made at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_tokopt.context.history import compress_messages
from langchain_tokopt.context.middleware import kept_by_provider
from langchain_tokopt.errors import ContextTooLargeError
from langchain_tokopt.pricing import model_identity

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.messages import AnyMessage

    from langchain_tokopt.tokens import TokenCounter

_KEPT = 2 / 3


def compress_harder(request: ModelRequest[Any], *, counter: TokenCounter) -> ModelRequest[Any]:
    """The request with two thirds of its messages' tokens: what matters least for the newest question is left out.

    Called again on what it returned it leaves out more. What must stay - the newest question, open tool calls - stays;
    a request that has nothing else comes back as it is.
    """
    if kept_by_provider(request):
        return request
    name = model_identity(request.model, request.model_settings).name
    tokens = counter.messages(request.messages, name)
    try:
        messages = compress_messages(request.messages, max_tokens=max(1, int(tokens * _KEPT)), counter=counter)
    except ContextTooLargeError as error:
        if error.needed >= tokens:
            return request
        messages = compress_messages(request.messages, max_tokens=error.needed, counter=counter)
    if counter.messages(messages, name) >= tokens:
        return request
    return request.override(messages=cast("list[AnyMessage]", messages))
