"""Which tools fit a text: words, meaning and what was called before, over a fixed list of tools."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.lexical import BM25, words
from langchain_tokopt.tools.categories import categories_of
from langchain_tokopt.tools.clauses import clauses
from langchain_tokopt.tools.encoder import Encoder
from langchain_tokopt.tools.schema import ToolSpec, spec_of, tool_name
from langchain_tokopt.tools.usage import LearnedUsage
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.tools.embedded import VectorKeeper
    from langchain_tokopt.tools.intent import IntentClassifier
    from langchain_tokopt.tools.usage import ToolUsage

# Weight of the words beside the meaning. Measured on MetaTool and BFCL: 0.3 to 0.5 give the same recall within 0.5
# points, and adding standard scores beats reciprocal rank fusion at k = 5.
LEXICAL_WEIGHT = 0.4
# Of the best part of a text beside the whole: with it, requests for two tools find both more often (MetaTool: 71 % to
# 74 % within ten), and those for one as often as before.
CLAUSE_WEIGHT = 0.3
# Of the words of earlier questions that led to a tool, in nats of evidence, and of the tools that are called together.
LEARNED_WORDS_WEIGHT = 0.15
TOGETHER_WEIGHT = 0.5
_COMPANIONS_OF = 3
# Of what kind of tool such texts lead to, in nats and within these bounds. It helps while single tools have few
# examples: on BFCL's dialogs 91.5 % to 92.2 % within ten after ten dialogs, and nothing more after a hundred.
PRIOR_WEIGHT = 0.2
_PRIOR_BOUNDS = (-1.0, 2.0)
# Below this cosine, and with no word in common, a tool is no match for a search.
SIMILARITY_FLOOR = 0.2
# What is read of a long text: its beginning and its end, where people say what they want.
QUERY_CHARS = 4_000
# How many tools are put in order; nobody asks for more.
_ORDERED = 128
# A tool with less than this share of the best one's score is not worth its tokens where the model can search for it; so
# many always are. Of ten tools this leaves six to seven. It costs recall: 0.5 points on
# BFCL, 2 to 4 on MetaTool and on BFCL's dialogs.
FITTING_SHARE = 0.5
FITTING_LEAST = 5
_MENTION = re.compile(r"[\w.:/-]+")
_QUOTED = re.compile(r"[`'\"]([\w.:/-]+)[`'\"]|([\w.:/-]+)\(")
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class _Ranking:
    """`order`: positions of the best tools, best first; `scores`: theirs; `matching`: which have anything in common."""

    order: NDArray[np.intp]
    scores: NDArray[np.float32]
    matching: NDArray[np.bool_]
    embedded: bool


class ToolIndex:
    """Tools ranked for a text, by meaning, by words, and by which tools such texts led to.

    The score is `cosine + 0.4 * BM25`, both as standard scores over the list; a text that asks for several things
    counts as a whole and by its parts. Each call that is learned (`learn`) moves a tool towards the question that led
    to it. A tool whose exact name is in the text comes first. Without an embedder, and while it fails, words alone
    decide. Tools that the provider runs (web search ...) are left out. A tool without a description is found by its
    name and parameters only.

    Args:
        tools: `BaseTool` or function dicts of OpenAI or Anthropic.
        embeddings: A LangChain `Embeddings`; `None` ranks by words alone.
        usage: What was learned before, of these tools or of others; by default nothing.
        intents: Gives, by the embedder's name, what learns which kind of tool a text leads to (see `categories_of`);
            `None` for nothing.
        keeper: Where vectors of tools are kept, so that only those of new tools are made; by default nowhere.
        recall: Called before a ranking with the embedder's name and the tools' digests, to bring `usage` up to date.

    Raises:
        ConfigurationError: Two tools have the same name.
    """

    def __init__(
        self,
        tools: Sequence[Any],
        *,
        embeddings: Embeddings | Encoder | None = None,
        usage: LearnedUsage | None = None,
        intents: Callable[[str], IntentClassifier] | None = None,
        keeper: VectorKeeper | None = None,
        recall: Callable[[str, Sequence[bytes]], None] | None = None,
    ) -> None:
        self._tools = tuple(tool for tool in tools if tool_name(tool) is not None)
        self.names: tuple[str, ...] = tuple(str(tool_name(tool)) for tool in self._tools)
        self._positions = {name: position for position, name in enumerate(self.names)}
        if len(self._positions) < len(self.names):
            twice = next(name for position, name in enumerate(self.names) if self._positions[name] != position)
            raise ConfigurationError("tools", twice, "two tools have this name; a model tells them apart by it")
        self._encoder = Encoder(embeddings) if isinstance(embeddings, Embeddings) else embeddings
        self._learned = LearnedUsage() if usage is None else usage
        self._intents = intents
        self._keeper = keeper
        self._recall = recall
        self._vectors: Future[NDArray[np.float32]] | None = None
        self._late = False
        self._lock = threading.Lock()
        self._rankings: WeightedMemo[_Ranking] = WeightedMemo(weight_limit=100_000)
        self._embedded: WeightedMemo[bool] = WeightedMemo(weight_limit=100_000)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What is known of each tool, in registration order; read when it is first needed."""
        return tuple(spec for tool in self._tools if (spec := spec_of(tool)) is not None)

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """What stands for each tool where something is kept about it: another description, another digest."""
        return tuple(spec.digest for spec in self.specs)

    @cached_property
    def by_name(self) -> Mapping[str, ToolSpec]:
        """What is known of each tool, by its name."""
        return {spec.name: spec for spec in self.specs}

    @property
    def embedder(self) -> str:
        """What identifies the embedder where something is kept; an empty text without one, or before it was used."""
        return "" if self._encoder is None else self._encoder.name()

    def spec(self, name: str) -> ToolSpec:
        """What is known of the tool `name`. Raises `KeyError`."""
        return self.by_name[name]

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are in the index, once each, in registration order."""
        return sorted({name for name in names if name in self._positions}, key=self._positions.__getitem__)

    def top(self, text: str, k: int, *, before: Sequence[str] = ()) -> list[str]:
        """The `k` tools that fit best, best first; fewer when there are fewer tools, and at most 128.

        `before` are the tools that were called last in the thread.
        """
        return [self.names[position] for position in self._ranked(text, before).order[:k]]

    def fitting(self, text: str, k: int, *, before: Sequence[str] = ()) -> list[str]:
        """Those of the `k` best tools that are not far worse than the best, best first: 5 at least, if `k` is."""
        ranking = self._ranked(text, before)
        scores = ranking.scores[:k]
        compared = scores[np.isfinite(scores)]  # a tool that is named comes first, and is no measure for others
        good = scores >= FITTING_SHARE * compared.max(initial=0)
        good[:FITTING_LEAST] = True
        return [self.names[position] for position in ranking.order[:k][good]]

    def matches(self, text: str, k: int) -> list[ToolSpec]:
        """At most `k` tools that have a word or a meaning in common with the text, best first."""
        ranking = self._ranked(text, ())
        return [self.specs[position] for position in ranking.order[ranking.matching][:k]]

    def embedded(self, text: str) -> bool | None:
        """Whether meaning had a part in how the text was ranked last; `None` if it was not ranked here."""
        return self._embedded.get(_read(text))

    def mentioned(self, text: str) -> list[str]:
        """Tools that the text names. A name that is an ordinary word counts only in quotes or written as a call."""
        quoted = {one or other for one, other in _QUOTED.findall(text)}
        named = {word.strip(".:/-") for word in _MENTION.findall(text)} | quoted
        return [name for name in self.ordered(named) if name in quoted or not name.isalpha() or " " in words(name)]

    def learn(self, text: str, called: Sequence[str], *, before: Sequence[str] = ()) -> None:
        """Take note that this text led to calls of these tools, after those `before`. Unknown names are passed over.

        Waits for the embedder as a ranking does; without it, the words are learned.
        """
        vectors = self._query_vectors(_read(text), ()) if text.strip() else None
        positions = [self._positions[name] for name in called if name in self._positions]
        self._learned.observe(
            _read(text),
            None if vectors is None else vectors[0],
            [self.digests[position] for position in positions],
            [self.digests[self._positions[name]] for name in before if name in self._positions],
        )
        if vectors is not None and self._intents is not None:
            intents = self._intents(self.embedder)
            for category in dict.fromkeys(self.categories[position] for position in positions):
                intents.learn_vector(vectors[0], category)

    def warm(self) -> None:
        """Embed the tools now and wait for it, however long it takes. Raises what the embedder raises."""
        if self._encoder is not None and self.names:
            self._tool_vectors(self._encoder).result()

    @cached_property
    def _words(self) -> BM25:
        return BM25([spec.text for spec in self.specs])

    @cached_property
    def _usage(self) -> ToolUsage:
        return self._learned.for_tools(self.digests)

    def _ranked(self, text: str, before: Sequence[str]) -> _Ranking:
        text = _read(text)
        key = (text, tuple(before), self._learned.version)
        known = self._rankings.get(key)
        if known is None:
            ranking = self._rank(text, before)
            # Another thread may have been quicker, and perhaps without the embedder: the first ranking stays.
            known = self._rankings.get(key) or ranking
            self._rankings.put(key, known, len(known.order) + len(text))
            self._embedded.put(text, known.embedded, 1 + len(text))
        return known

    def _rank(self, text: str, before: Sequence[str]) -> _Ranking:
        parts = clauses(text)
        vectors = self._query_vectors(text, parts) if text.strip() else None
        if self._recall is not None:
            self._recall(self.embedder, self.digests)
        similarity = self._similarity(vectors)
        lexical = self._words.scores(text)
        scores = _fused(None if similarity is None else similarity[0], lexical)
        if parts:
            scores = scores + CLAUSE_WEIGHT * self._best_part(parts, similarity)
        usage = self._usage
        weights = usage.weights
        if weights.any():
            learned = usage.word_scores(text) * (weights / (weights + 2))
            scores = scores + LEARNED_WORDS_WEIGHT * np.asarray(learned, dtype=np.float32)
            companions = usage.neighbours(_best(scores, _COMPANIONS_OF))
            called = [self._positions[name] for name in before if name in self._positions]
            scores = scores + TOGETHER_WEIGHT * (companions + usage.after(called))
        if vectors is not None and self._intents is not None:
            scores = scores + PRIOR_WEIGHT * self._prior(self._intents(self.embedder), vectors[0])
        named = [self._positions[name] for name in self.mentioned(text)]
        scores[named] = np.inf
        order = _best(scores, _ORDERED)
        matching = lexical[order] > 0
        if similarity is not None:
            matching |= similarity[0][order] >= SIMILARITY_FLOOR
        return _Ranking(order, scores[order], matching | np.isin(order, named), similarity is not None)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The kind of each tool; by meaning only once the tools are embedded."""
        vectors = self._vectors
        made = vectors is not None and vectors.done() and vectors.exception() is None
        found = categories_of(self._tools, vectors.result() if vectors is not None and made else None)
        return tuple(found[name] for name in self.names)

    def _prior(self, intents: IntentClassifier, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much more than by chance the text leads to each tool's kind, in nats, float32 `[n]`; 0 where unknown."""
        said = intents.probabilities(vector)
        if len(said) < 2:
            return np.zeros(len(self.names), dtype=np.float32)
        low, high = _PRIOR_BOUNDS
        nats = {one: min(max(math.log(max(share, 1e-9) * len(said)), low), high) for one, share in said.items()}
        return np.array([nats.get(category, 0.0) for category in self.categories], dtype=np.float32)

    def _best_part(self, parts: Sequence[str], similarity: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """For each tool its score for the part that it fits best."""
        known = () if similarity is None else similarity[1:]
        by_part = [
            _fused(known[at] if at < len(known) else None, self._words.scores(part)) for at, part in enumerate(parts)
        ]
        return np.asarray(np.max(by_part, axis=0), dtype=np.float32)

    def _query_vectors(self, text: str, parts: Sequence[str]) -> list[NDArray[np.float32]] | None:
        """The vectors of the text and of its parts (not of these when that would cost), in time, or `None`."""
        encoder = self._encoder
        if encoder is None or encoder.resting or not self.names:
            return None
        vectors = self._tool_vectors(encoder)
        if self._late and not vectors.done():
            return None
        found = encoder.wait_for_tools(vectors)
        self._late = not vectors.done()
        return None if found is None else encoder.wait_for_queries(encoder.queries(text, parts))

    def _similarity(self, vectors: Sequence[NDArray[np.float32]] | None) -> NDArray[np.float32] | None:
        """Cosine of each vector with each tool, float32 `[m, n]`."""
        if vectors is None or self._vectors is None:
            return None
        return self._usage.similarity(self._vectors.result(), np.stack(vectors))

    def _tool_vectors(self, encoder: Encoder) -> Future[NDArray[np.float32]]:
        with self._lock:
            failed = self._vectors is not None and self._vectors.done() and self._vectors.exception() is not None
            if self._vectors is None or (failed and not encoder.resting):
                self._vectors = encoder.tools(self.specs, self._keeper)
            return self._vectors


def _read(text: str) -> str:
    return text if len(text) <= QUERY_CHARS else f"{text[: QUERY_CHARS // 2]}\n{text[-QUERY_CHARS // 2 :]}"


def _fused(similarity: NDArray[np.float32] | None, lexical: NDArray[np.float32]) -> NDArray[np.float32]:
    by_words = LEXICAL_WEIGHT * _standard(lexical)
    return by_words if similarity is None else _standard(similarity) + by_words


def _standard(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard scores; all 0 when every score is the same."""
    if not scores.size:
        return scores
    return np.asarray((scores - scores.mean()) / (scores.std() + _EPSILON), dtype=np.float32)


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Positions of the `k` best scores, best first; of equal ones the first."""
    if k < len(scores):
        least = np.partition(scores, -k)[-k]
        found = np.flatnonzero(scores >= least)
    else:
        found = np.arange(len(scores))
    return found[np.argsort(-scores[found], kind="stable")][:k]
