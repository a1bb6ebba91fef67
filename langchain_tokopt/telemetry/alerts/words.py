"""What an alert is, and what is said when one is raised or cleared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from langchain_tokopt.events import Event

Severity: TypeAlias = Literal["info", "warning", "critical"]
State: TypeAlias = Literal["open", "acknowledged", "cleared"]
Change: TypeAlias = Literal["raised", "reminded", "cleared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that needs somebody's attention, or needed it.

    Attributes:
        id: To acknowledge it by.
        rule: The name of the rule that raised it.
        metric: What the rule looks at.
        subject: What it is about, such as a part or a node of a budget; "" for the whole.
        severity: "info", "warning" or "critical".
        title: What is wrong, in a line.
        detail: What it means, and what can be done.
        value: The last value that was seen; `None` when there was none at the end.
        threshold: The value that it had to pass.
        peak: The worst value so far.
        since: When the condition began to hold, Unix time in seconds.
        raised_at: When it had held for long enough.
        seen_at: When the value was looked at last.
        cleared_at: When it was over; `None` while it is not.
        acknowledged_by: Who has taken it up; `None` for nobody.
        acknowledged_at: When.
        note: What they had to say.
    """

    id: str
    rule: str
    metric: str
    subject: str
    severity: Severity
    title: str
    detail: str
    value: float | None
    threshold: float
    peak: float
    since: float
    raised_at: float
    seen_at: float
    cleared_at: float | None = None
    acknowledged_by: str | None = None
    acknowledged_at: float | None = None
    note: str | None = None

    @property
    def state(self) -> State:
        """ "open", "acknowledged" (somebody has taken it up, and it is not over), or "cleared"."""
        if self.cleared_at is not None:
            return "cleared"
        return "open" if self.acknowledged_by is None else "acknowledged"

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**{each.name: getattr(self, each.name) for each in fields(self)}, "state": self.state}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChanged(Event):
    """An alert was raised or cleared, or is told again. `alert` is its id."""

    alert: str
    rule: str
    subject: str
    severity: Severity
    change: Change
    title: str
    value: float | None
    threshold: float


@dataclass(frozen=True, slots=True)
class Notice:
    """What channels are told: an alert, and what has become of it."""

    change: Change
    alert: Alert

    @property
    def text(self) -> str:
        """One line, without anything that a terminal or a log obeys."""
        alert = self.alert
        if self.change == "cleared":
            return f"cleared: {plain(alert.title)}"
        return f"{alert.severity}: {plain(alert.title)}"

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `text` is what chat services show."""
        return {"text": self.text, "change": self.change, "alert": self.alert.as_json()}


@runtime_checkable
class Channel(Protocol):
    """Where alerts are told. `tell` must be quick; what it raises is logged, and the others are told all the same."""

    def tell(self, notice: Notice) -> None: ...


def plain(text: str, *, most: int = 500) -> str:
    """The text on one line, control and direction signs spelled out, cut off after `most` characters."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"


def number(source: Mapping[str, Any], name: str) -> float | None:
    """A finite number of a mapping; `None` where there is none."""
    value = source.get(name)
    try:
        found = float(value) if value is not None and not isinstance(value, (bool, str)) else None
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found is not None and found - found == 0 else None
