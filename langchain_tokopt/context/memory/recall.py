"""What a new question needs of closed blocks and their short forms do not show: said again, right before the question.

It stands after all that the provider has cached, and is gone in the next turn, so that it is never paid for twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.extract import Digest
from langchain_tokopt.context.memory.query import Query, newest_question
from langchain_tokopt.context.memory.render import MARK, Line, rendered
from langchain_tokopt.context.memory.salience import distinct_terms
from langchain_tokopt.context.ranking import Passage, Ranking, best_within
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError

RECALL_TOKENS: Final = 600
_HEADER: Final = "[From earlier in this conversation, because it may matter now]"
_PASSAGE: Final = 120  # tokens; what is longer is split between sentences
_LABEL: Final = 4  # tokens of a speaker's name and a line end
# Shared words are rare enough together: as a multiple of the rarity of a word that came once.
_OPENS: Final = 0.65
# Passages that stand out less than this, with the best one at 1 and the median at 0, are left out.
_FLOOR: Final = 0.5


@dataclass(frozen=True)
class _Piece:
    """A passage of a closed block: some sentences of one line."""

    line: Line
    text: str
    size: int
    block: int
    shown: bool


class Recollection:
    """What closed blocks hold, ready to be asked. Depends on the blocks and their digests alone.

    Args:
        digests: The blocks of a thread with what is shown of them, in order.
        embeddings: Finds what is said in other words; without it the words decide.
        size: Says how many tokens a text has.
    """

    def __init__(
        self, digests: Sequence[Digest], *, embeddings: MemoEmbeddings | None = None, size: Size = text_size
    ) -> None:
        self._pieces = [piece for digest in digests for piece in _pieces(digest, size)]
        self._terms = [distinct_terms(piece.text) for piece in self._pieces]
        self._frequency = Counter(term for terms in self._terms for term in terms)
        # Who is spoken to is no topic.
        self._speakers = distinct_terms(" ".join(sorted({piece.line.speaker for piece in self._pieces})))
        passages = [Passage(piece.text, piece.block, piece.line.speaker) for piece in self._pieces]
        self._ranking = Ranking(passages, embeddings=embeddings)

    def recall(self, query: Query, tokens: int = RECALL_TOKENS) -> HumanMessage | None:
        """The passages that the query needs, at most `tokens` of them, in order; `None` when none is relevant enough.

        Raises:
            ConfigurationError: `tokens` is below 0.
        """
        if tokens < 0:
            raise ConfigurationError("tokens", tokens, "use 0 or more tokens")
        if not self._pieces or not query.asks or not self.worth_asking(query):
            return None
        scores = self._ranking.scores(query.text)
        usual, best = float(np.median(scores)), float(scores.max())
        enough = usual + _FLOOR * (best - usual)
        hidden = [at for at, piece in enumerate(self._pieces) if not piece.shown and scores[at] >= enough > usual]
        sizes = [self._pieces[at].size for at in hidden]
        kept = [self._pieces[hidden[at]] for at in best_within(scores[hidden], sizes, tokens)]
        if not kept:
            return None
        lines = [replace(piece.line, text=piece.text) for piece in kept]
        return HumanMessage(f"{_HEADER}\n{rendered(lines)}", additional_kwargs={MARK: "recall"})

    def worth_asking(self, query: Query) -> bool:
        """Whether some passage shares words with the query that are rare, and not there anyway right before it."""
        new = query.terms - query.near - self._speakers
        needed = _OPENS * self._idf(1)
        weights = {term: self._idf(self._frequency[term]) for term in new if term in self._frequency}
        if math.fsum(weights.values()) < needed:
            return False
        return any(math.fsum(weights[term] for term in terms & weights.keys()) >= needed for terms in self._terms)

    def _idf(self, frequency: int) -> float:
        return math.log(1 + (len(self._pieces) - frequency + 0.5) / (frequency + 0.5))


def recall(
    query: Query | str,
    closed: Sequence[Digest],
    tokens: int = RECALL_TOKENS,
    *,
    embeddings: MemoEmbeddings | None = None,
    size: Size = text_size,
) -> HumanMessage | None:
    """What the query needs of closed blocks and their digests do not show, at most `tokens`; `None` for nothing.

    To ask the same blocks again keep a `Recollection`.
    """
    asked = Query(query) if isinstance(query, str) else query
    return Recollection(closed, embeddings=embeddings, size=size).recall(asked, tokens)


def place(messages: Sequence[BaseMessage], recalled: HumanMessage | None) -> list[BaseMessage]:
    """The messages with what is recalled directly before the newest human message."""
    at = newest_question(messages)
    if recalled is None or at is None:
        return list(messages)
    return [*messages[:at], recalled, *messages[at:]]


def _pieces(digest: Digest, size: Size) -> Iterator[_Piece]:
    for place_, line in enumerate(digest.block.lines):
        shown = digest.shown.get(place_, frozenset())
        for numbers, text in _passages(line.text, size):
            tokens = size(text) + _LABEL
            yield _Piece(line, text, tokens, digest.block.number, all(number in shown for number in numbers))


def _passages(text: str, size: Size) -> Iterator[tuple[list[int], str]]:
    """Runs of sentences that have about `_PASSAGE` tokens at most, each with the numbers of its sentences."""
    numbers: list[int] = []
    parts: list[str] = []
    total = 0
    for number, sentence in enumerate(sentences(text)):
        tokens = size(sentence)
        if numbers and total + tokens > _PASSAGE:
            yield numbers, "".join(parts).strip()
            numbers, parts, total = [], [], 0
        if sentence.strip():
            numbers.append(number)
            parts.append(sentence)
            total += tokens
    if numbers:
        yield numbers, "".join(parts).strip()
