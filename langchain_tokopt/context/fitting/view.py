"""The view of a history that has at most so many tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from langchain_core.messages import BaseMessage

from langchain_tokopt.context.fitting.filling import Filling
from langchain_tokopt.context.importance import MessageImportance
from langchain_tokopt.context.importance.reading import text_of
from langchain_tokopt.context.memory.render import is_users
from langchain_tokopt.context.validate import problem
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tokens import TokenCounter

KEEP_LAST: Final = 4


@dataclass(frozen=True, slots=True)
class Fitted:
    """A history in so many tokens.

    Attributes:
        messages: What is shown: the given messages, shorter forms of them, and notes for those that are left out.
        blocks: What the notes stand for, and the originals of shown results, by their handles; none without a tool.
    """

    messages: list[BaseMessage]
    blocks: Mapping[str, str] = field(default_factory=dict)


def fit(
    messages: Sequence[BaseMessage],
    max_tokens: int,
    *,
    query: str | None = None,
    counter: TokenCounter | None = None,
    model: str | None = None,
    keep_last: int = KEEP_LAST,
    tool: str | None = None,
    importance: MessageImportance | None = None,
) -> list[BaseMessage]:
    """The messages in at most `max_tokens` tokens, as `counter.messages` counts them. The given ones stay as they are.

    What fits is left alone. Else system messages, the first task, the newest message of the user with what follows it
    and the last `keep_last` messages stay; what follows a user's message for longer than that is older, too. Of the
    older ones the most important ones stay whole, others with their best sentences and lines, as a line of names, or
    not at all, the less the older they are. A call and its results go together. Where messages are left out, a message
    of the user's says so, with names that came in them; `additional_kwargs` tell it from the user's own. A list that no
    provider would take comes back as it is.

    Args:
        messages: The history.
        max_tokens: For the messages alone; the schemas of tools and the answer need their own room.
        query: What the messages are needed for; the newest text of the user by default.
        counter: Counts tokens. The same settings and the same counter give the same bytes.
        model: Whose tokens are counted.
        keep_last: How many of the newest messages stay whole, if they take no more than half of the room.
        tool: The tool that gives back what is left out; `None` where the model has none. See `fitted`.
        importance: Says which messages matter; keep one for a history that grows.

    Raises:
        ConfigurationError: `max_tokens` is below 1, or `keep_last` below 0.
        ContextTooLargeError: What has to stay does not fit.
    """
    return fitted(
        messages,
        max_tokens,
        query=query,
        counter=counter,
        model=model,
        keep_last=keep_last,
        tool=tool,
        importance=importance,
    ).messages


def fitted(
    messages: Sequence[BaseMessage],
    max_tokens: int,
    *,
    query: str | None = None,
    counter: TokenCounter | None = None,
    model: str | None = None,
    keep_last: int = KEEP_LAST,
    tool: str | None = None,
    importance: MessageImportance | None = None,
) -> Fitted:
    """What `fit` shows, with what the handles in it stand for: `Originals` with the messages and `blocks` finds all."""
    _check("max_tokens", max_tokens, 1)
    _check("keep_last", keep_last, 0)
    given = list(messages)
    if problem(given) is not None:
        return Fitted(given)
    counter = counter or TokenCounter()
    sizes = [counter.message(message, model) for message in given]
    if sum(sizes) <= max_tokens:
        return Fitted(given)
    asked = _newest_text(given) if query is None else query
    scores = [one.score for one in (importance or MessageImportance()).classify(given, asked)]
    filling = Filling(given, sizes, scores, asked, max_tokens, tool, lambda one: counter.message(one, model))
    view, notes = filling.view(keep_last)
    if problem(view) is not None or sum(counter.message(message, model) for message in view) > max_tokens:
        return Fitted(given)
    if tool is None:
        return Fitted(view)
    return Fitted(view, {**filling.originals(), **{note.handle: note.original for note in notes}})


def _check(argument: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(argument, value, f"give a whole number of at least {least}")


def _newest_text(messages: Sequence[BaseMessage]) -> str:
    return next((text_of(message) for message in reversed(messages) if is_users(message)), "")
