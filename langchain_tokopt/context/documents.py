"""Retrieved documents in fewer tokens: the sentences that a question needs, as they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from numpy.typing import NDArray

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.ranking import Passage, Ranking
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
# A name that a text opens with: "The Old Bridge of Porto is ..." -> "Old Bridge of Porto".
_OPENING = re.compile(
    r"\W*(?:(?:The|An?)\s+)?((?:[^\W\d_a-z][\w'\u2019.-]*)"
    r"(?:\s+(?:(?:of|the|and|de|la|von)\s+){0,2}[^\W\d_a-z][\w'\u2019.-]*)*)"
)
_OPENING_CHARS = 200
_PATH_END = re.compile(r"([^/\\]+?)(?:\.\w{1,8})?[/\\]*\Z")


def compress_documents(
    query: str,
    documents: Sequence[Document],
    *,
    max_tokens: int | None = None,
    ratio: float | None = None,
    gap: str = "",
    embeddings: MemoEmbeddings | None = None,
    size: Size = text_size,
) -> list[Document]:
    """The documents with those sentences that the query needs most, whole and in their order.

    Sentences compete across all documents; their titles (`metadata["title"]`, else the last part of
    `metadata["source"]`, else the name that the text opens with) help to find them. A document of which nothing is kept
    is left out; the others keep their id and their metadata. Documents that fit as they are come back unchanged.

    Args:
        query: What the documents were retrieved for.
        documents: Any documents, in any order, which is kept.
        max_tokens: How many tokens the texts may have together, as `size` counts them.
        ratio: The same as a share of what they have now, above 0 and up to 1. With both, the smaller bound counts.
        gap: What marks that sentences were left out, such as "\u2026"; it is counted. By default the next sentence just
            starts a new line.
        embeddings: Vectors as a signal beside the words; without them no model is needed.
        size: Tokens of a text; by default an estimate that is the same on every machine.

    Raises:
        ConfigurationError: An argument cannot be used; says which and why.
    """
    _check(query, documents, max_tokens, ratio)
    sizes = [size(document.page_content) for document in documents]
    bounds = [] if max_tokens is None else [max_tokens]
    if ratio is not None:
        bounds.append(int(sum(sizes) * ratio))
    budget = min(bounds)
    if sum(sizes) <= budget:
        return list(documents)
    cut = [sentences(document.page_content) for document in documents]
    scores = Ranking(_passages(documents, cut), embeddings=embeddings, labels="headings").scores(query)
    limit = budget
    while True:
        keep = _fill(scores, cut, limit, gap, size)
        texts = [_joined(pieces, kept, gap) for pieces, kept in zip(cut, keep, strict=True)]
        excess = sum(size(text) for text in texts if text) - budget
        if excess <= 0:
            break
        limit -= excess  # a text may be more than the sum of its sentences
    return [
        document.model_copy(update={"page_content": text, "metadata": dict(document.metadata)})
        for document, text in zip(documents, texts, strict=True)
        if text
    ]


def _check(query: Any, documents: Sequence[Any], max_tokens: Any, ratio: Any) -> None:
    if not isinstance(query, str):
        raise ConfigurationError("query", query, "pass the question as a text")
    other = next((document for document in documents if not isinstance(document, Document)), None)
    if other is not None:
        raise ConfigurationError("documents", other, "pass LangChain documents: Document(page_content=...)")
    if max_tokens is None and ratio is None:
        raise ConfigurationError("max_tokens", None, "say how small it shall be: max_tokens=, or ratio= of what it is")
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1):
        raise ConfigurationError("max_tokens", max_tokens, "use a whole number of at least 1")
    if ratio is not None and (isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio <= 1):
        raise ConfigurationError("ratio", ratio, "use the share that may stay, above 0 and up to 1")


def title(document: Document) -> str:
    """What a document is headed with: its title, or the name of its file or page, or one that it opens with."""
    given = document.metadata.get("title")
    if isinstance(given, str) and given.strip():
        return given
    source = document.metadata.get("source")
    found = _PATH_END.search(source[-500:]) if isinstance(source, str) else None
    found = found or _OPENING.match(document.page_content[:_OPENING_CHARS])
    return found[1] if found else ""


def _passages(documents: Sequence[Document], cut: Sequence[Sequence[str]]) -> list[Passage]:
    """The sentences, each in its document and paragraph."""
    passages: list[Passage] = []
    for number, (document, pieces) in enumerate(zip(documents, cut, strict=True)):
        paragraph, label = 0, title(document)
        for piece in pieces:
            passages.append(Passage(piece, group=(number, paragraph), label=label))
            paragraph += _BLANK_LINE.search(piece) is not None
    return passages


def _fill(
    scores: NDArray[np.float32], cut: Sequence[Sequence[str]], budget: int, gap: str, size: Size
) -> list[list[bool]]:
    """For each document which of its sentences are kept: greedily, the best first, gaps counted."""
    where = [(number, at) for number, pieces in enumerate(cut) for at in range(len(pieces))]
    keep = [[False] * len(pieces) for pieces in cut]
    stretches = [0] * len(cut)
    gap_size = size(f" {gap} ") if gap else 0
    left = budget
    for place in np.argsort(-scores, kind="stable").tolist():
        number, at = where[place]
        if not cut[number][at].strip():
            continue
        kept = keep[number]
        beside = (at > 0 and kept[at - 1]) + (at + 1 < len(kept) and kept[at + 1])
        after = stretches[number] + 1 - beside
        cost = size(cut[number][at]) + gap_size * (max(0, after - 1) - max(0, stretches[number] - 1))
        if cost <= left:
            kept[at], stretches[number] = True, after
            left -= cost
    return keep


def _joined(pieces: Sequence[str], kept: Sequence[bool], gap: str) -> str:
    """The kept sentences as they stand, with a mark where others were left out."""
    parts: list[str] = []
    for at, (piece, is_kept) in enumerate(zip(pieces, kept, strict=True)):
        if not is_kept:
            continue
        if parts and not kept[at - 1]:
            before = parts[-1].rstrip()
            space = "\n" if not gap or "\n" in parts[-1][len(before) :] else " "
            parts[-1] = before
            parts.append(f"{space}{gap}{space}" if gap else space)
        parts.append(piece)
    return "".join(parts).strip()
