"""A thread cut into turns, and its closed part into blocks that stay as they are whatever comes after them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.render import Line, arguments, lines_of, made_here, only_text, rendered, text_of
from langchain_tokopt.errors import ConfigurationError

# Whether it pays to close blocks: given their tokens, those that come after them, and how many calls were made so far.
Pays: TypeAlias = Callable[[int, int, int], bool]

BLOCK_TOKENS: Final = 4_000
KEEP_TOKENS: Final = 2_000
_OVERHEAD: Final = 4  # what a provider adds to each message


@dataclass(frozen=True)
class Turn:
    """A human message and all that follows until the next one: calls and their results stay together.

    Attributes:
        start: Where its first message stands in the thread.
        messages: Its messages.
        size: About how many tokens they have.
    """

    start: int
    messages: tuple[BaseMessage, ...]
    size: int

    @property
    def end(self) -> int:
        """Where the next turn begins."""
        return self.start + len(self.messages)


@dataclass(frozen=True)
class Block:
    """Whole turns of a thread that are over.

    Attributes:
        number: 0 for the first block of the thread.
        turns: Its turns, in order.
        closed_at: Where the human message stands with which it was closed.
    """

    number: int
    turns: tuple[Turn, ...]
    closed_at: int = 0

    @property
    def start(self) -> int:
        """Where its first message stands in the thread."""
        return self.turns[0].start

    @property
    def end(self) -> int:
        """Where the first message after it stands."""
        return self.turns[-1].end

    @cached_property
    def size(self) -> int:
        """About how many tokens its messages have."""
        return sum(turn.size for turn in self.turns)

    @cached_property
    def messages(self) -> tuple[BaseMessage, ...]:
        """Its messages, in order."""
        return tuple(message for turn in self.turns for message in turn.messages)

    @cached_property
    def answers(self) -> int:
        """How many of its messages are a model's: each is a call that was made."""
        return _answers(self.messages)

    @cached_property
    def kept(self) -> tuple[BaseMessage, ...]:
        """Messages that no text can stand for: instructions of the system, what a human showed, what is ours."""
        return tuple(message for message in self.messages if stays(message))

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """What the messages say that are not `kept`."""
        return tuple(line for turn in self.turns for line in _folded_lines(turn))

    @cached_property
    def original(self) -> str:
        """The text of the whole block."""
        return rendered(self.lines)

    @cached_property
    def digest(self) -> bytes:
        """A digest of `original`, 16 bytes, that no other text has."""
        return hashlib.blake2b(self.original.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @cached_property
    def handle(self) -> str:
        """The name of `original`."""
        return handle(self.original)


@dataclass(frozen=True)
class Cut:
    """Where a thread is cut.

    Attributes:
        head: The first so many messages are pinned: those of the system, and the first task.
        blocks: The closed blocks, which follow the head and each other without a gap.
        recent: Where the messages begin that stay as they are.
    """

    head: int
    blocks: tuple[Block, ...]
    recent: int


def cut(
    messages: Sequence[BaseMessage],
    *,
    block_tokens: int = BLOCK_TOKENS,
    keep_tokens: int = KEEP_TOKENS,
    pays: Pays | None = None,
    known: Sequence[Block] = (),
    size: Size = text_size,
) -> Cut:
    """The thread's pinned head, its closed blocks, and where its recent part begins.

    A block ends with the first turn with which it has `block_tokens`. It is closed with the first human message up to
    which `keep_tokens` came after the block, if `pays` agrees; otherwise it is looked at again with the next one. So
    appending messages may close further blocks and never changes one that is closed, and a turn changes none.

    Args:
        messages: The thread, or its beginning.
        block_tokens: The least that a block has.
        keep_tokens: The least that stays as it is at the end, up to the newest human message.
        pays: Says whether closing blocks pays; `None`: always.
        known: The first closed blocks of a thread that begins like this one: what they hold is not read again.
        size: Says how many tokens a text has.

    Raises:
        ConfigurationError: A number of tokens is too small.
    """
    if block_tokens < 1:
        raise ConfigurationError("block_tokens", block_tokens, "use 1 or more tokens")
    if keep_tokens < 0:
        raise ConfigurationError("keep_tokens", keep_tokens, "use 0 or more tokens")
    head = pinned(messages)
    # What was closed further on in a longer thread is not closed here.
    blocks = [block for block in known if block.closed_at < len(messages)]
    start = blocks[-1].end if blocks else head
    turns = list(turns_of(messages, start, size=size))
    calls = _answers(messages[:head]) + sum(block.answers for block in blocks)
    waiting: list[tuple[list[Turn], int]] = []  # with the tokens up to their ends
    gathered: list[Turn] = []
    total = begun = 0
    for turn, following in pairwise(turns):
        gathered.append(turn)
        total += turn.size
        calls += _answers(turn.messages)
        if total - begun >= block_tokens:
            waiting.append((gathered, total))
            gathered, begun = [], total
        seen = total + message_size(following.messages[0], size)
        ready = [run for run, end in waiting if seen - end >= keep_tokens]
        if not ready:
            continue
        after = seen - waiting[len(ready) - 1][1]
        if pays is None or pays(sum(turn.size for run in ready for turn in run), after, calls):
            blocks += (Block(len(blocks) + n, tuple(run), following.start) for n, run in enumerate(ready))
            waiting = waiting[len(ready) :]
    return Cut(head, tuple(blocks), blocks[-1].end if blocks else head)


def pinned(messages: Sequence[BaseMessage]) -> int:
    """How many messages at the beginning are pinned: all up to the first task, those of the system if there is none."""
    system = 0
    while system < len(messages) and isinstance(messages[system], SystemMessage):
        system += 1
    for index, message in enumerate(messages[system:], system):
        if _begins_turn(message):
            return index + 1
        if isinstance(message, ToolMessage) or (isinstance(message, AIMessage) and message.tool_calls):
            break  # a thread that begins in the middle, and whose calls stay with their results
    return system


def turns_of(messages: Sequence[BaseMessage], start: int = 0, *, size: Size = text_size) -> Iterator[Turn]:
    """The turns from index `start` on. What comes before the first human message there is a turn of its own."""
    begin = start
    for index in range(start, len(messages) + 1):
        ends = index == len(messages) or (index > begin and _begins_turn(messages[index]))
        if ends and index > begin:
            turn = tuple(messages[begin:index])
            yield Turn(begin, turn, sum(message_size(message, size) for message in turn))
            begin = index


def message_size(message: BaseMessage, size: Size = text_size) -> int:
    """About how many tokens a message has: its text and its calls."""
    total = _OVERHEAD + size(text_of(message))
    if isinstance(message, AIMessage):
        total += sum(size(call["name"]) + size(arguments(call["args"])) for call in message.tool_calls)
    return total


def stays(message: BaseMessage) -> bool:
    """Whether a message is shown as it is, even in a closed block."""
    if isinstance(message, HumanMessage):
        return made_here(message) or not only_text(message)
    return not isinstance(message, (AIMessage, ToolMessage))


def _answers(messages: Sequence[BaseMessage]) -> int:
    return sum(isinstance(message, AIMessage) for message in messages)


def _begins_turn(message: BaseMessage) -> bool:
    return isinstance(message, HumanMessage) and not made_here(message)


def _folded_lines(turn: Turn) -> Iterator[Line]:
    staying = {index for index, message in enumerate(turn.messages, turn.start) if stays(message)}
    return (line for line in lines_of(turn.messages, turn.start) if line.index not in staying)
