"""A history that outgrows its room: fitted to a part of it now and then, and left alone in between.

Fitting it anew for each call would keep it as full as can be and change what was sent before every time. So it is
fitted to `SHARE` of the room where it has outgrown it, and grows from there until it does so again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokopt.context.fitting import Fitted, fitted
from langchain_tokopt.context.importance import MessageImportance
from langchain_tokopt.context.item import MESSAGE_TOKENS
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.message_text import message_text
from langchain_tokopt.errors import ContextTooLargeError
from langchain_tokopt.tokens import TokenCounter

SHARE: Final = 0.6


def shortened(
    messages: Sequence[BaseMessage],
    max_tokens: int,
    *,
    counter: TokenCounter,
    model: str | None = None,
    tool: str | None = None,
    importance: MessageImportance | None = None,
) -> Fitted | None:
    """The messages up to where they last outgrew the room in `SHARE` of it, and those after that as they are.

    `None` where that cannot be: what must stay of them has more.
    """
    given = list(messages)
    end = _outgrown_at(given, max_tokens)
    try:
        kept = fitted(
            given[:end], int(SHARE * max_tokens), counter=counter, model=model, tool=tool, importance=importance
        )
    except ContextTooLargeError:
        return None
    return Fitted([*kept.messages, *given[end:]], kept.blocks)


def _outgrown_at(messages: Sequence[BaseMessage], max_tokens: int) -> int:
    """Before which message the history was fitted last: the newest call, this one included, that found it too large."""
    end = total = 0
    for at, message in enumerate(messages):
        if isinstance(message, AIMessage) and total > max_tokens:
            end, total = at, int(SHARE * max_tokens)
        total += text_size(message_text(message)) + MESSAGE_TOKENS
    return len(messages) if total > max_tokens else end
