"""What a new question needs of closed blocks and their short forms do not show: said again, right before the question.

It stands after all that the provider has cached, and is gone in the next turn, so that it is never paid for twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.extract import LONGEST_RESULT, Digest, Sentence
from langchain_tokopt.context.memory.query import Query, newest_question
from langchain_tokopt.context.memory.render import MARK, ROLES, Line, ends_of, rendered
from langchain_tokopt.context.memory.salience import distinct_terms
from langchain_tokopt.context.ranking import Passage, Ranking, best_within
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError

RECALL_TOKENS: Final = 800
# Of a short past little is recalled: it is paid in full each time, and the past would have been read from the cache.
SHARE: Final = 1 / 8
_HEADER: Final = "[From earlier in this conversation, because it may matter now]"
_PASSAGE: Final = 120  # tokens; what is longer is split between sentences
_LABEL: Final = 4  # tokens of a speaker's name and a line end
# Shared words are rare enough together: as a multiple of the rarity of a word that came once.
_OPENS: Final = 0.5
_NEW_TERMS: Final = 2
# Passages that stand out less than this, with the best one at 1 and the median at 0, are left out.
_FLOOR: Final = 0.4


@dataclass(frozen=True)
class _Piece:
    """A passage of a closed block: some sentences of one line."""

    line: Line
    text: str
    words: frozenset[str]
    size: int
    block: int
    hidden: bool


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
        self._size = size
        self._embeddings = embeddings
        self._pieces: list[_Piece] = []
        self._total = 0
        self._holders: dict[str, list[int]] = {}
        self._speakers: set[str] = set()
        self._ranking = Ranking([], embeddings=embeddings, labels="speakers")
        self.extend(digests)

    def extend(self, digests: Sequence[Digest]) -> None:
        """Blocks that come after those which are known. Only the new ones are read."""
        new = [piece for digest in digests for piece in _pieces(digest, self._size)]
        for at, piece in enumerate(new, len(self._pieces)):
            for word in piece.words:
                self._holders.setdefault(word, []).append(at)
        self._pieces += new
        self._total += sum(piece.size for piece in new)
        # Who is spoken to is no topic.
        names = {piece.line.speaker for piece in new if piece.line.kind == "said"} - ROLES
        self._speakers.update(*map(distinct_terms, names))
        self._ranking.extend([Passage(piece.text, piece.block, piece.line.speaker) for piece in new])

    def recall(self, query: Query, tokens: int = RECALL_TOKENS) -> HumanMessage | None:
        """The passages that the query needs, at most `tokens` of them and an eighth of all, in order.

        `None` when none is relevant enough.

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
        outstanding = np.flatnonzero((scores >= enough) & (scores > usual)).tolist()
        hidden = [at for at in outstanding if self._pieces[at].hidden]
        sizes = [self._pieces[at].size for at in hidden]
        left = min(tokens, int(self._total * SHARE)) - self._size(_HEADER)
        kept = [self._pieces[hidden[at]] for at in best_within(scores[hidden], sizes, left)]
        if not kept:
            return None
        lines = [replace(piece.line, text=piece.text) for piece in kept]
        return HumanMessage(f"{_HEADER}\n{rendered(lines)}", additional_kwargs={MARK: "recall"})

    def worth_asking(self, query: Query) -> bool:
        """Whether some passage shares words with the query that are rare, and not there anyway right before it.

        With embeddings a few words that are new suffice: what is said in other words shares none.
        """
        new = query.terms - query.near - self._speakers
        if self._embeddings is not None and len(new) >= _NEW_TERMS:
            return True
        needed = _OPENS * self._idf(1)
        worth: dict[int, float] = {}
        # In the order of the words: a sum must not depend on that of a set.
        for word in sorted(word for word in new if word in self._holders):
            rarity = self._idf(len(self._holders[word]))
            for at in self._holders[word]:
                worth[at] = worth.get(at, 0.0) + rarity
        return max(worth.values(), default=0.0) >= needed

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
    number = digest.block.number
    said: dict[int, list[Sentence]] = {}
    for sentence in digest.sentences:
        said.setdefault(sentence.line, []).append(sentence)
    for place_, line in enumerate(digest.block.lines):
        if line.kind == "said":
            shown = digest.shown.get(place_, frozenset())
            for run in _runs(said.get(place_, ())):
                words = frozenset[str]().union(*(sentence.words for sentence in run))
                tokens = sum(sentence.size for sentence in run) + _LABEL
                hidden = any(sentence.number not in shown for sentence in run)
                yield _Piece(line, "".join(sentence.text for sentence in run).strip(), words, tokens, number, hidden)
        elif line.kind == "result":  # a digest has its beginning at most
            whole = ends_of(line.text, LONGEST_RESULT)
            per_character = size(whole) / max(1, len(whole))
            found = [
                Sentence(place_, at, text, frozenset(), math.ceil(len(text) * per_character))
                for at, text in enumerate(sentences(whole))
            ]
            for run in _runs(found):
                text = "".join(sentence.text for sentence in run).strip()
                tokens = sum(sentence.size for sentence in run) + _LABEL
                yield _Piece(line, text, distinct_terms(text), tokens, number, hidden=True)


def _runs(found: Sequence[Sentence]) -> Iterator[list[Sentence]]:
    """Runs of sentences that follow each other and have about `_PASSAGE` tokens together."""
    run: list[Sentence] = []
    total = 0
    for sentence in found:
        if run and total + sentence.size > _PASSAGE:
            yield run
            run, total = [], 0
        run.append(sentence)
        total += sentence.size
    if run:
        yield run
