"""Messages by how much is lost when they are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from langchain_core.messages import BaseMessage

from langchain_tokopt.context.importance.reading import Readings
from langchain_tokopt.context.importance.signals import Signals, read
from langchain_tokopt.context.importance.weights import probability
from langchain_tokopt.errors import ConfigurationError

Level = Literal["critical", "important", "supporting", "background"]

# Names and terms of messages that were read already: about 100 bytes each.
REMEMBERED: Final = 400_000

# Bounds that no data set said: what a message is for comes before how it reads.
_INSTRUCTION: Final = 0.95
_DECISION: Final = 0.5
_ERROR: Final = 0.5
_SMALL_TALK: Final = 0.1
_SUPERSEDED: Final = 0.4
_HIGHEST: Final = 0.9
_LIKE: Final = 2.0  # standard deviations above the mean
_MANY_FACTS: Final = 3


@dataclass(frozen=True, slots=True)
class Importance:
    """How important a message is.

    Attributes:
        level: "critical": the task, the rules, what is asked now. "important": more typical of what is needed later
            than of what is not. "supporting": may be shortened. "background": may go.
        score: 0 to 1; grows with the level.
        reasons: Short codes: "system", "first task", "newest request", "instruction", "decision", "identifiers used
            later", "identifiers", "error", "error resolved", "superseded", "facts", "answer", "like the request",
            "small talk", "calls". The first one weighs most.
    """

    level: Level
    score: float
    reasons: tuple[str, ...]


class MessageImportance:
    """Says of each message of a history how important it is. Needs no model; the same answer in any process.

    A call and its results are one unit: a message that calls tools is at least as important as what it got.

    Args:
        critical: Scores above this are critical; what a message reads like gives at most 0.9.
        important: Scores above this are important.
        supporting: Scores above this are supporting; the others are background.
        remember: Keep what was read in each message, within bounds, so that a growing history is not read again.
    """

    def __init__(
        self, *, critical: float = 0.9, important: float = 0.45, supporting: float = 0.2, remember: bool = True
    ) -> None:
        bounds = {"supporting": supporting, "important": important, "critical": critical}
        for argument, bound in bounds.items():
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 0 <= bound <= 1:
                raise ConfigurationError(argument, bound, "use a score between 0 and 1")
        if not supporting <= important <= critical:
            raise ConfigurationError("important", important, "keep supporting <= important <= critical")
        self._bounds: tuple[tuple[Level, float], ...] = (
            ("critical", critical),
            ("important", important),
            ("supporting", supporting),
        )
        self._readings = Readings(REMEMBERED if remember else 0)

    def classify(self, messages: Sequence[BaseMessage], query: str | None = None) -> list[Importance]:
        """The importance of each message, as far as the messages that are there can tell.

        `query`: what is being asked; messages that are like it gain. Without it, what is likely to be asked about.
        """
        found = read(messages, self._readings, query)
        for_request = query is not None and bool(query.strip())
        scored = [self._scored(signals, for_request) for signals in found]
        self._join(found, scored)
        return [Importance(self._level(score), score, tuple(reasons)) for score, reasons in scored]

    def _level(self, score: float) -> Level:
        return next((level for level, bound in self._bounds if score > bound), "background")

    def _scored(self, signals: Signals, for_request: bool) -> tuple[float, list[str]]:
        pinned = _pinned(signals)
        if pinned:
            return 1.0, pinned
        # Only what a message is for makes it critical, never how it reads.
        score = round(probability(signals, for_request=for_request) * _HIGHEST, 4)
        reasons = _reasons(signals)
        if "instruction" in reasons:
            return max(score, _INSTRUCTION), reasons
        if "superseded" in reasons:
            return min(score, _SUPERSEDED), reasons
        if "small talk" in reasons:
            return min(score, _SMALL_TALK), reasons
        if "decision" in reasons:
            score = max(score, _DECISION)
        if "error" in reasons:
            score = max(score, _ERROR)
        return score, reasons

    def _join(self, found: Sequence[Signals], scored: list[tuple[float, list[str]]]) -> None:
        """Raises what calls tools to the score of its best result."""
        caller: int | None = None
        for index, signals in enumerate(found):
            if signals.kind != "result":
                caller = index if signals.calls else None
            elif caller is not None and scored[index][0] > scored[caller][0]:
                scored[caller] = (scored[index][0], [*(r for r in scored[caller][1] if r != "calls"), "calls"])


def _pinned(signals: Signals) -> list[str]:
    if signals.kind == "system":
        return ["system"]
    return [
        *(["first task"] if signals.first_task else []),
        *(["newest request"] if signals.newest else []),
        *(["instruction"] if signals.reading.instruction and (signals.first_task or signals.newest) else []),
    ]


def _reasons(signals: Signals) -> list[str]:
    reading = signals.reading
    seen = {
        "instruction": reading.instruction,
        "superseded": signals.superseded,
        # "Yes" after a question is an answer.
        "small talk": signals.small_talk and not signals.answers,
        "decision": reading.decision,
        "error": signals.error and not signals.resolved,
        "error resolved": signals.resolved,
        "identifiers used later": signals.used > 0,
        "like the request": signals.likeness >= _LIKE,
        "answer": signals.answers,
        "facts": sum(reading.facts) >= _MANY_FACTS,
        "identifiers": signals.kind == "result" and signals.brought > signals.used,
    }
    return [reason for reason, is_so in seen.items() if is_so]
