"""Which tools fit a text: words and meaning together, over a fixed list of tools."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tools.bm25 import BM25
from langchain_tokopt.tools.encoder import Encoder
from langchain_tokopt.tools.schema import ToolSpec, spec_of, tool_name, words
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Weight of the words beside the meaning. Measured on MetaTool and BFCL: 0.3 to 0.5 give the same recall within 0.5
# points, and adding standard scores beats reciprocal rank fusion at k = 5.
LEXICAL_WEIGHT = 0.4
# Below this cosine, and with no word in common, a tool is no match for a search.
SIMILARITY_FLOOR = 0.2
# What is read of a long text: its beginning and its end, where people say what they want.
QUERY_CHARS = 4_000
_MENTION = re.compile(r"[\w.:/-]+")
_QUOTED = re.compile(r"[`'\"]([\w.:/-]+)[`'\"]|([\w.:/-]+)\(")
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class _Ranking:
    order: NDArray[np.int32]
    matching: NDArray[np.bool_]
    embedded: bool


class ToolIndex:
    """Tools ranked for a text: `cosine + 0.4 * BM25`, both as standard scores over the list.

    A tool whose exact name is in the text comes first. Without an embedder, and while it fails, words alone decide.
    Tools that the provider runs (web search ...) are left out. A tool without a description is found by its name and
    parameters only. The ranking of a text is remembered, so that it stays the same while the index lives.

    Args:
        tools: `BaseTool` or function dicts of OpenAI or Anthropic.
        embeddings: A LangChain `Embeddings`; `None` ranks by words alone.

    Raises:
        ConfigurationError: Two tools have the same name.
    """

    def __init__(self, tools: Sequence[Any], *, embeddings: Embeddings | Encoder | None = None) -> None:
        self._tools = tuple(tool for tool in tools if tool_name(tool) is not None)
        self.names: tuple[str, ...] = tuple(str(tool_name(tool)) for tool in self._tools)
        self._positions = {name: position for position, name in enumerate(self.names)}
        if len(self._positions) < len(self.names):
            twice = next(name for position, name in enumerate(self.names) if self._positions[name] != position)
            raise ConfigurationError("tools", twice, "two tools have this name; a model tells them apart by it")
        self._encoder = Encoder(embeddings) if isinstance(embeddings, Embeddings) else embeddings
        self._vectors: Future[NDArray[np.float32]] | None = None
        self._late = False
        self._lock = threading.Lock()
        self._rankings: WeightedMemo[_Ranking] = WeightedMemo(weight_limit=1_000_000)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What is known of each tool, in registration order; read when it is first needed."""
        return tuple(spec for tool in self._tools if (spec := spec_of(tool)) is not None)

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are in the index, once each, in registration order."""
        return sorted({name for name in names if name in self._positions}, key=self._positions.__getitem__)

    def top(self, text: str, k: int) -> list[str]:
        """The `k` tools that fit best, best first; fewer only when there are fewer tools."""
        return [self.names[position] for position in self._ranked(text).order[:k]]

    def matches(self, text: str, k: int) -> list[ToolSpec]:
        """At most `k` tools that have a word or a meaning in common with the text, best first."""
        ranking = self._ranked(text)
        best = ranking.order[ranking.matching[ranking.order]]
        return [self.specs[position] for position in best[:k]]

    def embedded(self, text: str) -> bool:
        """Whether meaning had a part in how the text was ranked."""
        return self._ranked(text).embedded

    def mentioned(self, text: str) -> list[str]:
        """Tools that the text names. A name that is an ordinary word counts only in quotes or written as a call."""
        quoted = {one or other for one, other in _QUOTED.findall(text)}
        named = {word.strip(".:/-") for word in _MENTION.findall(text)} | quoted
        return [name for name in self.ordered(named) if name in quoted or not name.isalpha() or " " in words(name)]

    def warm(self) -> None:
        """Embed the tools now and wait for it, however long it takes. Raises what the embedder raises."""
        if self._encoder is not None and self.names:
            self._tool_vectors(self._encoder).result()

    @cached_property
    def _words(self) -> BM25:
        return BM25([spec.text for spec in self.specs])

    def _ranked(self, text: str) -> _Ranking:
        text = text if len(text) <= QUERY_CHARS else f"{text[: QUERY_CHARS // 2]}\n{text[-QUERY_CHARS // 2 :]}"
        known = self._rankings.get(text)
        if known is None:
            ranking = self._rank(text)
            # Another thread may have been quicker, and perhaps without the embedder: the first ranking stays.
            known = self._rankings.get(text) or ranking
            self._rankings.put(text, known, len(self.names) + len(text))
        return known

    def _rank(self, text: str) -> _Ranking:
        lexical = self._words.scores(text)
        matching = lexical > 0
        similarity = self._similarity(text) if text.strip() else None
        scores = LEXICAL_WEIGHT * _standard(lexical)
        if similarity is not None:
            matching |= similarity >= SIMILARITY_FLOOR
            scores = scores + _standard(similarity)
        for name in self.mentioned(text):
            scores[self._positions[name]] = np.inf
            matching[self._positions[name]] = True
        order = np.argsort(-scores, kind="stable")
        return _Ranking(order.astype(np.int32), matching, similarity is not None)

    def _similarity(self, text: str) -> NDArray[np.float32] | None:
        """Cosine of the text with each tool, float32 `[n]`."""
        encoder = self._encoder
        if encoder is None or not self.names:
            return None
        vectors = self._tool_vectors(encoder)
        if encoder.resting or (self._late and not vectors.done()):
            return None
        tools = encoder.wait_for_documents(vectors)
        self._late = not vectors.done()
        if tools is None:
            return None
        query = encoder.wait_for_query(encoder.query(text))
        return None if query is None else np.asarray(tools @ query, dtype=np.float32)

    def _tool_vectors(self, encoder: Encoder) -> Future[NDArray[np.float32]]:
        with self._lock:
            failed = self._vectors is not None and self._vectors.done() and self._vectors.exception() is not None
            if self._vectors is None or (failed and not encoder.resting):
                self._vectors = encoder.documents([spec.text for spec in self.specs])
            return self._vectors


def _standard(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard scores; all 0 when every score is the same."""
    if not scores.size:
        return scores
    return np.asarray((scores - scores.mean()) / (scores.std() + _EPSILON), dtype=np.float32)
