"""A thread whose closed blocks are shown in short, from when on that pays: what `ChatMemory` makes of it, at a price.

Folding a block rewrites what follows it; and what later questions need of folded blocks is recalled before each of
them, which the provider's cache never holds. So a thread is folded at the beginning of a turn only, and only when the
calls that are still expected save more than both cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.context.item import MESSAGE_TOKENS
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.memory import Block, ChatMemory, Digest
from langchain_tokopt.context.memory.render import is_users
from langchain_tokopt.context.policy import Policy

# A fold has to be worth this many times what it costs: what is expected may not come.
MARGIN: Final = 1.3
# A message that asks may need what was said before. Of those that do, a part gets as much as may be recalled.
_QUESTION: Final = re.compile(r"[?\uff1f\u061f]")
RECALLED_SHARE: Final = 0.5


@dataclass(frozen=True)
class Folded:
    """A thread with its first blocks in short.

    Attributes:
        messages: What is shown: the head, the digests, and the messages after the last folded block.
        origin: For each of these where it stands in the thread; `None` for what stands there nowhere.
        recalled: What is recalled before some of them, by where they stand in `messages`.
        blocks: The originals of the blocks, by their handles.
    """

    messages: list[BaseMessage]
    origin: list[int | None]
    recalled: Mapping[int, HumanMessage] = field(default_factory=dict)
    blocks: Mapping[str, str] = field(default_factory=dict)

    def with_recalled(self, shown: Sequence[BaseMessage]) -> list[BaseMessage]:
        """`shown` stands for `messages`, one for one; with what is recalled in its places."""
        view: list[BaseMessage] = []
        for at, message in enumerate(shown):
            if at in self.recalled:
                view.append(self.recalled[at])
            view.append(message)
        return view


def fold(chat: ChatMemory, messages: Sequence[BaseMessage], policy: Policy) -> Folded:
    """The thread as it is shown at these prices. A pure function of its arguments, but for summaries (see there)."""
    given = list(messages)
    where = chat.cut(given)
    if not where.blocks:
        return Folded(given, list(range(len(given))))
    digests = chat.digests(where.blocks)
    turns = _turns(chat, given, where.blocks, digests, policy)
    count = turns[-1].folded if turns else 0
    if not count:
        return Folded(given, list(range(len(given))))
    head: list[BaseMessage] = given[: where.head]
    origin: list[int | None] = list(range(where.head))
    for digest in digests[:count]:
        own = digest.messages(retrievable=policy.tool is not None)
        head += own
        places = {id(given[at]): at for at in range(digest.block.start, digest.block.end)}
        origin += [places.get(id(message)) for message in own]
    rest = where.blocks[count - 1].end
    shift = len(head) - rest
    recalled = {}
    for turn in turns:
        if turn.recalls and turn.start >= rest:
            found = chat.recalled(digests[: turn.folded], given[: turn.start + 1])
            if found is not None:
                recalled[turn.start + shift] = found
    return Folded(
        [*head, *given[rest:]],
        [*origin, *range(rest, len(given))],
        recalled,
        {block.handle: block.original for block in where.blocks[:count]},
    )


@dataclass(slots=True)
class _Turn:
    """A turn: where it begins, how many blocks are folded in it, and whether what it recalls is (still) shown."""

    start: int
    folded: int
    recalls: bool


def _turns(
    chat: ChatMemory,
    messages: Sequence[BaseMessage],
    blocks: Sequence[Block],
    digests: Sequence[Digest],
    policy: Policy,
) -> list[_Turn]:
    """Each turn after the first block, as its first call found it."""
    sizes = [chat.message_size(message) for message in messages]
    before = list(accumulate(sizes, initial=0))
    answers = list(accumulate((isinstance(message, AIMessage) for message in messages), initial=0))
    short = [text_size(digest.text) + MESSAGE_TOKENS for digest in digests]
    turns: list[_Turn] = []
    folded = asking = 0
    for start in (at for at, message in enumerate(messages) if is_users(message)):
        left, size = policy.expected.calls_left(answers[start]), before[start]
        asking += _QUESTION.search(str(messages[start].text)) is not None
        over = (before[start + 1] - before[block.end] for block in blocks if block.end <= start)
        closed = sum(after >= chat.keep_tokens for after in over)
        if closed > folded:
            removed = sum(block.size for block in blocks[folded:closed]) - sum(short[folded:closed])
            tail = before[start] - before[blocks[folded].start] - removed
            if folded == 0 and policy.tool is not None and not policy.binds_at_once:
                tail += policy.head_tokens + before[blocks[0].start]  # a tool more rewrites all of it
            cost = MARGIN * max(0, tail) * policy.rewrite_factor
            if folded == 0:
                each = len(turns) + 1
                recalled = RECALLED_SHARE * chat.recall_tokens * asking / each
                cost += _recalling(policy, left, recalled, size / each)
            if removed * left * policy.prices.read > cost:
                folded = closed
        if turns:
            turns[-1].recalls = _stays(policy, left, chat.recall_tokens, before[start] - before[turns[-1].start])
        turns.append(_Turn(start, folded, recalls=folded > 0))
    return turns


def _recalling(policy: Policy, left: float, recalled: float, per_turn: float) -> float:
    """What it costs to recall so many tokens in each turn to come, and to leave them out again in the next one."""
    return left * (recalled * policy.prices.write + per_turn * policy.rewrite_factor)


def _stays(policy: Policy, left: float, recall_tokens: int, turn_tokens: int) -> bool:
    """Whether what a turn recalled stays when it is over: leaving it out rewrites all of a long turn."""
    return turn_tokens * policy.rewrite_factor > recall_tokens * policy.prices.read * left
