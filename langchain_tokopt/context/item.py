"""The tool results of a thread that is being read: how each is shown, and what reading it came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from langchain_tokopt.context.lossless.ingest import ShownResult, ToolResult
from langchain_tokopt.context.trimming import Wanted, identifiers
from langchain_tokopt.weighted_memo import WeightedMemo

# What a message has beside its text: roles and separators.
MESSAGE_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class Form:
    """A result as it is shown: in how many tokens, and with which identifiers."""

    shown: ShownResult
    tokens: int
    names: frozenset[str]

    @classmethod
    def of(cls, result: ToolResult, shown: ShownResult, tokens: int) -> Form:
        names = frozenset(name for text in shown.shown_texts(result) for name in identifiers(text))
        return cls(shown, tokens + MESSAGE_TOKENS, names)

    @property
    def weight(self) -> int:
        """About how many lines it takes to remember this."""
        return 10 + len(self.names) // 4 + sum(text.count("\n") for _, text in self.shown.texts)


@dataclass(frozen=True, slots=True)
class Step:
    """What reading a new result came to; it follows from the messages up to it and from the policy.

    Attributes:
        form: How it is shown.
        whole: The tokens that its texts have.
        trimmable: The tokens that it would lose by being shown in part.
        bound: Whether the tool that gives back originals is bound from here on.
    """

    form: Form
    whole: int
    trimmable: int
    bound: bool

    @property
    def weight(self) -> int:
        """As in `Steps`."""
        return self.form.weight


Steps: TypeAlias = "WeightedMemo[Step | Form]"
"""What steps of threads came to, by digests of all messages up to them, weighed in lines."""


@dataclass(slots=True)
class Item:
    """A tool result of the thread: where it is, and how it is shown.

    `step` is the model call that asked for it, `whole` the tokens that its texts have, `mark` where the index of lines
    was before it. `old`: how it is shown once it is rewritten.
    """

    index: int
    step: int
    result: ToolResult
    wanted: Wanted
    form: Form
    whole: int
    mark: tuple[int, int, int]
    rewritten: bool = False
    old: Form | None = None

    @property
    def shown(self) -> ShownResult:
        """How it is shown."""
        return self.form.shown

    @property
    def tokens(self) -> int:
        """In how many tokens."""
        return self.form.tokens
