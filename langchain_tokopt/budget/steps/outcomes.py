"""Where a call begins to climb, and what can come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.refusals import CallRefusedError
from langchain_tokopt.events import Who

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

    from langchain_tokopt.budget.nodes import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands and whose it is: its path, the run and the thread that it belongs to."""

    path: Path
    who: Who = field(default_factory=Who)
    run: str | None = None
    thread: str | None = None


@dataclass(frozen=True, slots=True)
class Climbed:
    """A call that may be made: send `request`. `remark` is what has to be said when it is booked."""

    request: ModelRequest[Any]
    hold: Hold
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ends with these messages in the place of an answer."""

    messages: list[BaseMessage]
    error: CallRefusedError
