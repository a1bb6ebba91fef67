"""Nodes of the hierarchy that a budget is spent in: the path of a call, and what a limit may be written for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from langchain_tokopt.errors import ConfigurationError

GLOBAL = "global"

# The levels of a path, from the root down, as callers are known to every part.
LEVELS = ("project", "task", "agent", "user")

_MOST_SEGMENTS = 16
_LONGEST_SEGMENT = 128
_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(.+)")
_SPECIAL = re.compile(r"[%/*\x00-\x1f\x7f]")
_FORMS = (
    'give segments from the root down, such as "project=shop/agent=writer" or "acme/team-a", each of 1 to '
    f"{_LONGEST_SEGMENT} characters without control characters, at most {_MOST_SEGMENTS}"
)


def shown(node: str) -> str:
    """The node as people read it."""
    return node or GLOBAL


@dataclass(frozen=True, slots=True)
class Path:
    """Where a call stands: its segments from the root down. Without any it is the root alone.

    A segment is "level=value", such as "agent=writer", or a free name, such as "team-a".
    """

    segments: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: object, argument: str = "path") -> Path:
        """The path that a user wrote: segments with "/" between them, or a sequence of segments.

        Raises:
            ConfigurationError: It is no path.
        """
        if isinstance(path, Path):
            return path
        segments = _segments(path, argument)
        if any("*" in segment for segment in segments):
            raise ConfigurationError(argument, path, 'a call stands on one path: write the name instead of "*"')
        return cls(segments)

    @classmethod
    def of(cls, values: Iterable[tuple[str, str | None]]) -> Path:
        """The path of these levels and their values; a level without a value is left out."""
        return cls(tuple(f"{level}={_escaped(value)}" for level, value in values if value))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes on the path, from the root ("") down."""
        return tuple("/".join(self.segments[:depth]) for depth in range(len(self.segments) + 1))

    def __str__(self) -> str:
        return "/".join(self.segments)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a limit is written for: a node, or with "*" in place of names every node of a kind, each for itself.

    Segments of the form "level=value" are found on a path in their order, whatever stands between them: "user=*" is
    every user, in whatever project. A pattern that begins with a free name stands from the root, segment by segment:
    "acme/*" is every child of "acme".
    """

    segments: tuple[str, ...] = ()

    @classmethod
    def read(cls, node: object, argument: str = "limits") -> Pattern:
        """The pattern that a user wrote; "global" and "" are the root.

        Raises:
            ConfigurationError: It is none.
        """
        segments = _segments(node, argument)
        for segment in segments:
            if "*" in segment and segment != "*" and not (_NAMED.fullmatch(segment) and segment.endswith("=*")):
                raise ConfigurationError(argument, node, '"*" stands for a whole name: use "user=*" or "acme/*"')
        named = [_NAMED.fullmatch(segment) is not None for segment in segments]
        if named and named[0] and not all(named):
            remedy = 'a free name stands for its place from the root: it cannot come after "level=value"'
            raise ConfigurationError(argument, node, remedy)
        return cls(segments)

    @property
    def wildcards(self) -> int:
        """How many names are left open."""
        return sum(segment.endswith("*") for segment in self.segments)

    def node_on(self, path: Path) -> str | None:
        """The one node on the path that this means, every name filled in; `None` when there is none."""
        if not self.segments:
            return ""
        anchored = _NAMED.fullmatch(self.segments[0]) is None
        found: list[str] = []
        rest = iter(path.segments)
        for wanted in self.segments:
            for segment in rest:
                if _is(wanted, segment):
                    found.append(segment)
                    break
                if anchored:
                    return None
            else:
                return None
        return "/".join(found)

    def __str__(self) -> str:
        return "/".join(self.segments)


def read_node(node: object, argument: str = "node") -> Pattern:
    """The one node that a user named, with nothing left open.

    Raises:
        ConfigurationError: It is none.
    """
    pattern = Pattern.read(node, argument)
    if pattern.wildcards:
        raise ConfigurationError(argument, node, 'name one node instead of "*"')
    return pattern


def node_path(node: str) -> Path:
    """The path that ends at the node."""
    return Path(tuple(node.split("/")) if node else ())


def _is(wanted: str, segment: str) -> bool:
    if wanted == "*":
        return True
    if wanted.endswith("=*"):
        return segment.startswith(wanted[:-1])
    return wanted == segment


def _segments(path: object, argument: str) -> tuple[str, ...]:
    if isinstance(path, str):
        if path in ("", GLOBAL):
            return ()
        segments: Sequence[object] = path.split("/")
    elif isinstance(path, Sequence) and not isinstance(path, (bytes, bytearray)):
        segments = [_escaped(part, stars=True) if isinstance(part, str) else part for part in path]
    else:
        raise ConfigurationError(argument, path, _FORMS)
    if len(segments) > _MOST_SEGMENTS:
        raise ConfigurationError(argument, path, _FORMS)
    read = []
    for segment in segments:
        if not isinstance(segment, str) or not segment.strip() or len(segment) > _LONGEST_SEGMENT:
            raise ConfigurationError(argument, path, _FORMS)
        if any(sign < " " or sign == "\x7f" for sign in segment):
            raise ConfigurationError(argument, path, _FORMS)
        read.append(segment)
    return tuple(read)


def _escaped(value: str, *, stars: bool = False) -> str:
    """The value as a part of a segment: what separates segments is spelled out, what is too long is shortened."""

    def spelled(found: re.Match[str]) -> str:
        sign = found.group()
        return sign if stars and sign == "*" else f"%{ord(sign):02X}"

    plain = _SPECIAL.sub(spelled, value)
    if len(plain) <= _LONGEST_SEGMENT - 32:
        return plain
    return f"{plain[:48]}~{sha256(value.encode('utf-8', 'replace')).hexdigest()[:32]}"
