"""What is asked of the events, and what comes back: spans, places, and the figures of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.report import CacheReport, Saved, Usage

# What figures can be told apart by, and the column that has it.
DIMENSIONS: Final[Mapping[str, str]] = {
    "tenant": "tenant",
    "project": "project",
    "task": "task",
    "agent": "agent",
    "user": "user_id",
    "thread": "thread",
    "run": "run",
    "node": "node",
    "model": "model",
    "provider": "provider",
    "part": "part",
}


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` (inclusive) to `until` (exclusive), Unix time in seconds; `None` for no bound.

    `where` keeps the events of one value of a dimension, such as `{"agent": "writer"}`; `None` as a value means that
    the dimension is not known.
    """

    since: float | None = None
    until: float | None = None
    where: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """What a figure belongs to: a value for each of the dimensions that were asked for, and the start of its bucket.

    `start` is Unix time in seconds, a multiple of the bucket's length; `None` where no buckets were asked for.
    """

    key: tuple[str | None, ...] = ()
    start: int | None = None


@dataclass(frozen=True, slots=True)
class CallFigures:
    """Model calls.

    Attributes:
        measured: Calls whose usage the provider reported.
        estimated: Calls whose usage we estimated.
        own_measured: Of these, the optimiser's own.
        own_estimated: The same.
        failed: Calls that ended with an error.
        requests: Requests that reached a model, the optimiser's own calls aside.
    """

    measured: Usage = field(default_factory=Usage)
    estimated: Usage = field(default_factory=Usage)
    own_measured: Usage = field(default_factory=Usage)
    own_estimated: Usage = field(default_factory=Usage)
    failed: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class PartFigures:
    """What one part did and saved, by our estimate: for real, and in shadow mode."""

    real: Saved = field(default_factory=Saved)
    shadow: Saved = field(default_factory=Saved)
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class LookupFigures:
    """Looks into the semantic cache: for real, and in shadow mode."""

    real: CacheReport = field(default_factory=CacheReport)
    shadow: CacheReport = field(default_factory=CacheReport)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of `count` observations, by nearest rank.

    `error` is the largest relative error that `p50` and `p95` can have: 0 from single events; from rolled-up ones the
    width of the histogram's buckets.
    """

    count: int
    p50: float
    p95: float
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class TimeFigures:
    """The time that the optimiser `added` to each request, and the `latency` of each model call that was answered.

    `None` where nothing was timed.
    """

    added: Times | None = None
    latency: Times | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was done, left alone, refused or failed, and how often.

    `kind` is the class of the events; `action` what was done ("skipped", "refused" ...), `None` for a failure.
    """

    kind: str
    part: str | None
    action: str | None
    mode: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is.

    Attributes:
        events: How many events.
        first: When the first of them happened, Unix time in seconds; to the hour or day where it is rolled up.
        last: When the last one did.
        rolled: Up to when events are rolled up; `None` if none is.
    """

    events: int = 0
    first: float | None = None
    last: float | None = None
    rolled: float | None = None


Outcome = Literal["answered", "cached", "refused", "failed", "none"]
Order = Literal["newest", "oldest", "dearest", "slowest", "saved", "tokens"]


def column(name: str, *, argument: str = "by") -> str:
    """The column of a dimension.

    Raises:
        ConfigurationError: There is no such dimension.
    """
    found = DIMENSIONS.get(name) if isinstance(name, str) else None
    if found is None:
        raise ConfigurationError(argument, name, f"use one of {', '.join(map(repr, DIMENSIONS))}")
    return found
