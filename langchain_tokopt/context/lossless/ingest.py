"""A tool result without loss: its texts, how they are shown, and how one text is made shorter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import ToolMessage

from langchain_tokopt.context.lossless.references import Place, has_reference
from langchain_tokopt.context.lossless.repeats import ShownLines
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.lossless.tool_output import shorter_text


@dataclass(frozen=True, slots=True)
class Ingest:
    """What is done to each tool result when it comes in; see `HistoryCompression` for the settings."""

    dedupe: bool
    json: bool
    whitespace: bool
    min_tokens: int


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool result in the history: its number, counted from 1, and its tool's name.

    `verbatim`: it may be referred to, but is shown as it is; unless it is shown in part, in no fewer than `least`
    tokens, where that is above 0.
    """

    message: ToolMessage
    number: int
    name: str | None
    verbatim: bool
    least: int = 0

    def texts(self) -> Iterator[tuple[int | None, Place, str]]:
        """Each text of the content: its index among the blocks (`None`: the content is one string), place and text."""
        content = self.message.content
        if isinstance(content, str):
            yield None, Place(self.number, 0, self.name), content
            return
        for index, block in enumerate(content):
            text = block if isinstance(block, str) else block.get("text") if block.get("type") == "text" else None
            if isinstance(text, str):
                yield index, Place(self.number, index + 1, self.name), text


@dataclass(frozen=True, slots=True)
class ShownResult:
    """How a tool result is shown.

    Attributes:
        texts: The texts that are shown shorter, by block.
        saved: The estimated tokens that each change saves.
        parts: The handles of the texts that are shown in part.
    """

    texts: tuple[tuple[int | None, str], ...] = ()
    saved: tuple[tuple[str, int], ...] = ()
    parts: tuple[str, ...] = ()

    def shown_texts(self, result: ToolResult) -> Iterator[str]:
        """Each text of the result as it is shown."""
        short = dict(self.texts)
        return (short.get(index, text) for index, _, text in result.texts())

    def content(self, message: ToolMessage) -> str | list[Any]:
        """The message's content with these texts in their places."""
        new: str | list[Any] = message.content
        for index, text in self.texts:
            if index is None or isinstance(new, str):
                return text
            block = new[index]
            new = [*new[:index], text if isinstance(block, str) else {**block, "text": text}, *new[index + 1 :]]
        return new


def shorten_text(
    text: str, place: Place, shown: ShownLines, settings: Ingest, saved: list[tuple[str, int]], tokens: int
) -> str:
    """The text, which has so many tokens, in fewer; what each change saved is added to `saved`.

    Its lines are taken in by `shown` as they will be shown.
    """
    sizes = {text: tokens}

    def size(measured: str) -> int:
        if measured not in sizes:
            sizes[measured] = text_size(measured)
        return sizes[measured]

    # A line of the text's own that looks like a reference of ours must not be taken for one.
    if has_reference(text):
        if settings.dedupe:
            shown.add(text, place)
        return text
    own, change = shorter_text(text, size, settings.min_tokens, json=settings.json, whitespace=settings.whitespace)
    if change is None or has_reference(own):
        own = text
    else:
        saved.append((change, size(text) - size(own)))
    if not settings.dedupe:
        return own
    short = shown.shorten(own, place, size, settings.min_tokens)
    if short != own:
        saved.append(("repeats", size(own) - size(short)))
    return short
