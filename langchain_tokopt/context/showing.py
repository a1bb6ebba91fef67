"""One tool result as it is shown, given what is shown before it and how many tokens it may have."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from langchain_tokopt.context.lossless.ingest import Ingest, ShownResult, ToolResult, shorten_text
from langchain_tokopt.context.lossless.references import has_reference
from langchain_tokopt.context.lossless.repeats import ShownLines
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.lossless.tool_output import shorter_text
from langchain_tokopt.context.trimming import Trimmed, Wanted, has_blob, trimmed


@dataclass(frozen=True, slots=True)
class Room:
    """How a result is shown in part when it is larger than it may be.

    Attributes:
        tokens: What it may have.
        wanted: What it is read for.
        seen: Identifiers that are shown elsewhere.
        tool: The tool that gives back the whole of it; `None` where there is none.
    """

    tokens: int
    wanted: Wanted
    seen: Collection[str]
    tool: str | None


def show(result: ToolResult, lines: ShownLines, settings: Ingest | None, room: Room | None) -> tuple[ShownResult, int]:
    """The result without loss in fewer tokens, and in part where that is more than there is room for; and its tokens.

    `settings` of `None`: nothing but the room counts. Its lines are taken in by `lines` as they will be shown.
    """
    texts: list[tuple[int | None, str]] = []
    saved: list[tuple[str, int]] = []
    marks: list[str] = []
    given = list(result.texts())
    sizes = [text_size(text) for _, _, text in given]
    total = 0
    for (index, place, text), size in zip(given, sizes, strict=True):
        if result.verbatim and (room is None or not result.least):
            if settings and settings.dedupe:
                lines.add(text, place)
            total += size
            continue
        before = lines.mark()
        changes: list[tuple[str, int]] = []
        short = text
        if settings and not result.verbatim:
            short = shorten_text(text, place, lines, settings, changes, size)
        now = size if short == text else text_size(short)
        share = 0 if room is None else room.tokens * size // max(1, sum(sizes))
        if room is not None and (now > share or has_blob(text)):
            own = _own(text, settings)
            part = _in_part(text, own, room, share, now, size if own == text else None)
            if part is not None:
                lines.undo(before)
                if settings and settings.dedupe:
                    lines.add(part.text, place, whole=own)
                short, now, changes = part.text, part.tokens, [("parts", size - part.tokens)]
                marks.append(part.handle)
        total += now
        if short != text:
            texts.append((index, short))
            saved += changes
    return ShownResult(tuple(texts), tuple(saved), tuple(marks)), total


def take_in(result: ToolResult, shown: ShownResult, lines: ShownLines, settings: Ingest | None) -> None:
    """Let `lines` take in a result that stays as it is shown."""
    if settings is None or not settings.dedupe:
        return
    short = dict(shown.texts)
    for index, place, text in result.texts():
        whole = _own(text, settings) if shown.parts and index in short else None
        lines.add(short.get(index, text), place, whole=whole)


def _own(text: str, settings: Ingest | None) -> str:
    """The text in its shortest form without references."""
    if settings is None or has_reference(text):
        return text
    own, _ = shorter_text(text, text_size, settings.min_tokens, json=settings.json, whitespace=settings.whitespace)
    return text if has_reference(own) else own


def _in_part(text: str, own: str, room: Room, tokens: int, now: int, size: int | None) -> Trimmed | None:
    """The text in part, if that is shorter than it is `now`. `size`: the tokens of `own`, where they are known."""
    if has_reference(text):
        return None
    part = trimmed(own, tokens, wanted=room.wanted, seen=room.seen, tool=room.tool, original=text, size=size)
    return part if part is not None and part.tokens < now else None
