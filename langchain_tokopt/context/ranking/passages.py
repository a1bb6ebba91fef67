"""What is ranked: a piece of text and where it stands."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that is kept as a whole or not at all: a turn, a sentence, a paragraph.

    Attributes:
        text: The text itself.
        group: What it stands together with: a session, a turn, a paragraph. Passages that follow each other and have
            the same group are neighbours.
        label: Who says it, or what it is headed with.
        id: Id of the message that it is from, for whoever reads the scores.
    """

    text: str
    group: Hashable = None
    label: str = ""
    id: str | None = None
