"""Errors of the package: each names the argument or resource, the value it had, and the remedy."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal


class TokOptError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigurationError(TokOptError, ValueError):
    """A setting that cannot work. Raised when an object is built, never at its first call."""

    def __init__(self, argument: str, value: object, remedy: str) -> None:
        super().__init__(f"{argument}={value!r} cannot be used: {remedy}")
        self.argument = argument
        self.value = value
        self.remedy = remedy


class MissingDependencyError(TokOptError, ImportError):
    """A part needs a package or a model that is not on this machine; says exactly what to install."""


class StoreError(TokOptError):
    """A database, index or folder cannot be used; what was written before is untouched."""


class NoChatModelError(TokOptError, TypeError):
    """`wrap` found no chat model in the Runnable that it was given."""


class ContextTooLargeError(TokOptError, ValueError):
    """What has to stay of a history does not fit into the tokens that it may have.

    Attributes:
        needed: The fewest tokens that what has to stay can have.
        limit: The tokens that there are.
        parts: The biggest parts of it and their tokens, biggest first.
    """

    def __init__(self, *, needed: int, limit: int, parts: tuple[tuple[str, int], ...]) -> None:
        biggest = ", ".join(f"{name}: {tokens:,} tokens" for name, tokens in parts)
        super().__init__(
            f"max_tokens={limit!r} is too small: what has to stay has {needed:,} tokens ({biggest}); raise the limit, "
            "make these parts shorter, or use a model with a larger context window"
        )
        self.needed = needed
        self.limit = limit
        self.parts = parts


class BudgetExceededError(TokOptError):
    """A call would go over a limit. The only error of this package that may stop an agent.

    Attributes:
        limit: The limit that was hit, in USD (`Decimal`), tokens or calls (`int`).
        spent: What is spent and held under that limit, in the same unit.
        needed: What the refused call would have reserved, in the same unit.
        unit: "usd", "tokens" or "calls".
        resets_at: When the limit's period ends (timezone-aware UTC), `None` for a limit without a period.
        node: The node that the limit is on, such as "project=shop"; "global" for the root.
        per: What the limit is for, such as "day".
    """

    def __init__(
        self,
        message: str,
        *,
        limit: Decimal | int,
        spent: Decimal | int,
        needed: Decimal | int,
        unit: str,
        resets_at: datetime | None = None,
        node: str = "global",
        per: str = "forever",
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.spent = spent
        self.needed = needed
        self.unit = unit
        self.resets_at = resets_at
        self.node = node
        self.per = per
