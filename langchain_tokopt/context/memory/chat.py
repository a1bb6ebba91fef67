"""The view of a long conversation: closed blocks in short, the recent part as it is, and what the question needs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from operator import is_
from typing import Any, Final, TypeAlias

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.blocks import (
    BLOCK_TOKENS,
    KEEP_TOKENS,
    Block,
    Cut,
    Pays,
    cut,
    message_size,
    pinned,
)
from langchain_tokopt.context.memory.extract import RATIO, Digest, digests
from langchain_tokopt.context.memory.query import Query, newest_question, query_of
from langchain_tokopt.context.memory.recall import RECALL_TOKENS, Recollection
from langchain_tokopt.context.memory.render import made_here
from langchain_tokopt.context.memory.summaries import SummaryStore
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.weighted_memo import WeightedMemo

REMEMBERED_CHARACTERS: Final = 32_000_000
_NOTHING: Final = HumanMessage("")

_State: TypeAlias = "tuple[Sequence[BaseMessage], list[Any]]"


class ChatMemory:
    """Shows closed blocks of a thread in short, and before the newest question what it needs of them.

    Without `summaries` the view is a pure function of the messages and the settings. Appending a message changes it
    only where a block is closed, from that block on, and in what is recalled. Safe to share between threads.

    Args:
        block_tokens: The least that a block has.
        keep_tokens: The least that stays as it is at the end.
        pays: Says whether closing blocks pays, see `worth_closing`; `None`: always.
        ratio: Which part of a block's tokens its short form may have.
        recall_tokens: The most that is recalled for a question; 0 for nothing.
        embeddings: Recalls what is said in other words, too; without it the words decide.
        retrievable: Whether the model can ask for the original of a block, for `view`; a `HistoryCompression` knows.
        summaries: Shows its summaries where it has them, see there.
        size: Says how many tokens a text has.
        remember: Keep what was computed, within bounds, so that a growing thread costs only what is new.

    Raises:
        ConfigurationError: A setting makes no sense.
    """

    def __init__(
        self,
        *,
        block_tokens: int = BLOCK_TOKENS,
        keep_tokens: int = KEEP_TOKENS,
        pays: Pays | None = None,
        ratio: float = RATIO,
        recall_tokens: int = RECALL_TOKENS,
        embeddings: MemoEmbeddings | None = None,
        retrievable: bool = True,
        summaries: SummaryStore | None = None,
        size: Size = text_size,
        remember: bool = True,
    ) -> None:
        if recall_tokens < 0:
            raise ConfigurationError("recall_tokens", recall_tokens, "use 0 or more tokens")
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
            raise ConfigurationError("ratio", ratio, "use a share of the tokens between 0 and 1")
        cut((), block_tokens=block_tokens, keep_tokens=keep_tokens)  # says what is wrong with them
        self._block_tokens = block_tokens
        self._keep_tokens = keep_tokens
        self._pays = pays
        self._ratio = ratio
        self._recall_tokens = recall_tokens
        self._embeddings = embeddings
        self._retrievable = retrievable
        self._summaries = summaries
        self._measure = size
        self._remember = remember
        limit = REMEMBERED_CHARACTERS if remember else 0
        self._sizes: WeightedMemo[int] = WeightedMemo(weight_limit=limit)
        self._cuts: WeightedMemo[tuple[tuple[Block, _State], ...]] = WeightedMemo(weight_limit=limit)
        self._digests: WeightedMemo[Digest] = WeightedMemo(weight_limit=limit)
        self._recollections: WeightedMemo[Recollection] = WeightedMemo(weight_limit=limit)
        self._recalled: WeightedMemo[HumanMessage] = WeightedMemo(weight_limit=limit)

    @property
    def keep_tokens(self) -> int:
        """The least that stays as it is at the end."""
        return self._keep_tokens

    @property
    def recall_tokens(self) -> int:
        """The most that is recalled for a question."""
        return self._recall_tokens

    @property
    def summaries(self) -> SummaryStore | None:
        """Where summaries are made and kept."""
        return self._summaries

    def with_summaries(self, summaries: SummaryStore) -> ChatMemory:
        """The same settings, with these summaries."""
        return ChatMemory(
            block_tokens=self._block_tokens,
            keep_tokens=self._keep_tokens,
            pays=self._pays,
            ratio=self._ratio,
            recall_tokens=self._recall_tokens,
            embeddings=self._embeddings,
            retrievable=self._retrievable,
            summaries=summaries,
            size=self._measure,
            remember=self._remember,
        )

    def message_size(self, message: BaseMessage) -> int:
        """About how many tokens a message has."""
        return message_size(message, self._size)

    def cut(self, messages: Sequence[BaseMessage]) -> Cut:
        """Where the thread is cut at these settings."""
        head = pinned(messages)
        # A thread's messages are most often the same objects as before; then its closed blocks are known.
        thread = id(messages[head - 1]) if head else 0
        known = [one for one, _ in takewhile(partial(_is_same, messages), self._cuts.get(thread) or ())]
        where = cut(
            messages,
            block_tokens=self._block_tokens,
            keep_tokens=self._keep_tokens,
            pays=self._pays,
            known=known,
            size=self._size,
        )
        if len(where.blocks) > len(known):
            kept = tuple((block, _state(messages, block)) for block in where.blocks)
            self._cuts.put(thread, kept, 4 * sum(block.size for block in where.blocks))
        return where

    def digests(self, blocks: Sequence[Block]) -> list[Digest]:
        """What is shown of each block of a thread, from its first on."""
        keys = list(_chain(block.digest for block in blocks))
        found: list[Digest] = []
        for key in keys:
            known = self._digests.get(key)
            if known is None:
                break
            found.append(known)
        if len(found) < len(keys):
            made = digests(blocks, ratio=self._ratio, known=tuple(found), size=self._size)
            for key, digest in zip(keys[len(found) :], list(made), strict=True):
                self._digests.put(key, digest, 4 * len(digest.block.original) + 1_000)
                found.append(digest)
        # Another thread may say the same, and show other images: what no text can stand for is the block's own.
        found = [
            digest if digest.block is block else replace(digest, block=block)
            for digest, block in zip(found, blocks, strict=True)
        ]
        return found if self._summaries is None else [self._summaries.shown(digest) for digest in found]

    def view(self, messages: Sequence[BaseMessage], *, keep_recalled_in: Collection[int] = ()) -> list[BaseMessage]:
        """The messages as the model is shown them. The given list and its messages stay as they are.

        `keep_recalled_in`: places in `messages` of earlier human messages before which what was recalled for them still
        stands, with the same bytes. Otherwise it is gone in the next turn.
        """
        given = list(messages)
        where = self.cut(given)
        if not where.blocks:
            return given
        shown = self.digests(where.blocks)
        view = given[: where.head]
        for digest in shown:
            view += digest.messages(retrievable=self._retrievable)
        newest = newest_question(given)
        for index, message in enumerate(given[where.recent :], where.recent):
            if index == newest:
                recalled = self.recalled(shown, given[: index + 1])
            elif index in keep_recalled_in and isinstance(message, HumanMessage) and not made_here(message):
                recalled = self._recalled_earlier(shown, given, index)
            else:
                recalled = None
            view += [message] if recalled is None else [recalled, message]
        return view

    def recalled(self, shown: Sequence[Digest], messages: Sequence[BaseMessage]) -> HumanMessage | None:
        """What the newest human message of `messages` needs of closed blocks, beside what is shown of them."""
        query = query_of(messages) if self._recall_tokens and shown else None
        if query is None or not query.asks:
            return None
        keys = list(_chain(one.block.digest + one.text.encode("utf-8", "surrogatepass") for one in shown))
        asked = (keys[-1], query)
        known = self._recalled.get(asked)
        if known is None:
            known = self._ask(shown, keys, query) or _NOTHING
            self._recalled.put(asked, known, len(query.text) + len(known.text) + 500)
        return None if known is _NOTHING else known

    def _ask(self, shown: Sequence[Digest], keys: Sequence[bytes], query: Query) -> HumanMessage | None:
        """Ask a recollection of these blocks, or one of fewer of them which is extended."""
        recollection, known = None, 0
        for count in range(len(keys), 0, -1):
            recollection, known = self._recollections.take(keys[count - 1]), count
            if recollection is not None:
                break
        if recollection is None:
            recollection, known = Recollection((), embeddings=self._embeddings, size=self._size), 0
        if known < len(shown):
            recollection.extend(shown[known:])
        found = recollection.recall(query, self._recall_tokens)
        self._recollections.put(keys[-1], recollection, 6 * sum(len(one.block.original) for one in shown))
        return found

    def _recalled_earlier(
        self, shown: Sequence[Digest], messages: Sequence[BaseMessage], index: int
    ) -> HumanMessage | None:
        """What stood before the human message at `index` when it was the newest one."""
        closed = sum(digest.block.closed_at <= index for digest in shown)
        return self.recalled(shown[:closed], messages[: index + 1])

    def _size(self, text: str) -> int:
        known = self._sizes.get(text)
        if known is None:
            known = self._measure(text)
            self._sizes.put(text, known, len(text) + 100)
        return known


def _state(messages: Sequence[BaseMessage], block: Block) -> _State:
    """The messages that a block is made of and those up to the one with which it was closed, and their contents."""
    seen = messages[block.start : block.closed_at + 1]
    return seen, [message.content for message in seen]


def _is_same(messages: Sequence[BaseMessage], known: tuple[Block, _State]) -> bool:
    """Whether these messages close the same block: they are the same objects, and none was changed since."""
    block, before = known
    now = _state(messages, block)
    return all(len(a) == len(b) and all(map(is_, a, b)) for a, b in zip(now, before, strict=True))


def _chain(parts: Iterable[bytes]) -> Iterator[bytes]:
    """For each part a digest of it and of all before it."""
    link = b""
    for part in parts:
        link = hashlib.blake2b(link + part, digest_size=16).digest()
        yield link
