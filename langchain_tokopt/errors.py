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


class BudgetExceededError(TokOptError):
    """A call would go over a limit. The only error of this package that may stop an agent.

    Attributes:
        limit: The limit that was hit, in USD (`Decimal`) or tokens (`int`).
        spent: What is spent and held under that limit, in the same unit.
        needed: What the refused call would have reserved, in the same unit.
        unit: "usd" or "tokens".
        resets_at: When the limit's period ends (timezone-aware UTC), `None` for a limit without a period.
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
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.spent = spent
        self.needed = needed
        self.unit = unit
        self.resets_at = resets_at
