"""Streams of questions of which the truth is known: how near the best answer lies says how likely it is right."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from langchain_tokopt.cache.decision.learned import Learned
from langchain_tokopt.cache.decision.verdict import Neighbour, Verdict

WIDTH = 8
_TOPICS = ("harbour", "violin", "cactus", "glacier", "lantern", "meadow", "pepper", "saddle", "tunnel", "velvet")


def wrong_by_distance(similarity: float) -> float:
    """Probability that an answer is wrong: even odds at 0.75, 1 in 100 at 0.9."""
    return 1.0 / (1.0 + math.exp(30.6 * (similarity - 0.75)))


@dataclass(frozen=True)
class Asked:
    """A question beside what is stored."""

    question: str
    vector: np.ndarray
    near: list[Neighbour]
    vectors: np.ndarray
    right: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a question."""

    served: bool
    wrong: bool
    audited: bool
    audit_rate: float


def ask(rng: random.Random, wrong: Callable[[float], float] = wrong_by_distance, *, stored: str | None = None) -> Asked:
    """A question with two neighbours that have different answers; `stored`: the text of the nearer one."""
    topic = rng.choice(_TOPICS)
    similarity = rng.uniform(0.45, 0.999)
    other = similarity - rng.uniform(0.02, 0.3)
    near = [
        Neighbour(1, 1, stored or f"tell me about the {topic}", similarity, 1),
        Neighbour(2, 1, f"what is the {topic} for", other, 2),
    ]
    vector = np.eye(WIDTH, dtype=np.float32)[0]
    return Asked(
        f"please tell me about the {topic}",
        vector,
        near,
        np.array([_towards(similarity, 1), _towards(other, 2)], dtype=np.float32),
        rng.random() >= wrong(similarity),
    )


def _towards(similarity: float, axis: int) -> list[float]:
    row = [similarity] + [0.0] * (WIDTH - 1)
    row[axis] = math.sqrt(max(0.0, 1.0 - similarity * similarity))
    return row


def decide(learned: Learned, asked: Asked) -> Verdict:
    """The verdict on a question, which is counted."""
    verdict = learned.decide(asked.question, asked.vector, asked.near, lambda: asked.vectors)
    learned.asked()
    return verdict


def play(
    learned: Learned,
    rng: random.Random,
    requests: int,
    wrong: Callable[[float], float] = wrong_by_distance,
    *,
    judge: Callable[[bool], bool] = bool,
) -> list[Outcome]:
    """What becomes of so many questions; misses and audits are compared by `judge`, which is given the truth."""
    outcomes = []
    for _ in range(requests):
        asked = ask(rng, wrong)
        verdict = decide(learned, asked)
        if not verdict.serve or verdict.audit:
            learned.compared(verdict, same=judge(asked.right))
        outcomes.append(Outcome(verdict.serve, verdict.serve and not asked.right, verdict.audit, verdict.audit_rate))
    return outcomes


def share(outcomes: list[Outcome], what: str) -> float:
    """How many of `outcomes` were "served", "wrong" or "audited"."""
    return sum(getattr(one, what) for one in outcomes) / max(1, len(outcomes))
