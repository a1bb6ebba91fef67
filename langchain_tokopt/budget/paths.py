"""Where a call stands: its path, as whoever called says it in the context, the config or its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.caller import call_sources, call_value, call_who
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Who

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

# The key under which a caller may say the whole path, in the context, `configurable` or `metadata`.
PATH_KEY = "budget_path"

_KNOWN = ("tenant", "project", "task", "agent", "user", "thread", "run", "node")


def read_levels(levels: object) -> tuple[str, ...]:
    """The names of the levels, from the root down.

    Raises:
        ConfigurationError: They are no names, or one is there twice.
    """
    remedy = 'name what a path is made of, from the root down, such as ("project", "agent", "user")'
    if isinstance(levels, str) or not isinstance(levels, Sequence) or len(levels) > 16:
        raise ConfigurationError("levels", levels, remedy)
    for level in levels:
        if not isinstance(level, str) or not level.isidentifier():
            raise ConfigurationError("levels", levels, remedy)
    if len(set(levels)) < len(levels):
        raise ConfigurationError("levels", levels, f"{remedy}; one is there twice")
    return tuple(levels)


def path_of(who: Who, levels: Sequence[str]) -> Path:
    """The path of a caller."""
    return Path.of((level, getattr(who, level) if level in _KNOWN else None) for level in levels)


def call_path(request: ModelRequest[Any], levels: Sequence[str]) -> Path:
    """The path of a request: what the caller says under `PATH_KEY`, else the levels that are known of it.

    Raises:
        ConfigurationError: What the caller says is no path.
    """
    for source in call_sources(request):
        said = source.get(PATH_KEY) if isinstance(source, Mapping) else getattr(source, PATH_KEY, None)
        if said is not None:
            return Path.read(said, PATH_KEY)
    who = call_who(request)
    return Path.of(
        (level, getattr(who, level) if level in _KNOWN else call_value(request, level, f"{level}_id"))
        for level in levels
    )
