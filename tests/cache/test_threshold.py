"""The plain decision, alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.cache.decision import Neighbour, Threshold, Verdict, reader
from langchain_tokopt.cache.decision.reader import Reader

VECTOR = np.array([1.0, 0.0], dtype=np.float32)
NEAR = (
    Neighbour(1, 1, "can I pay 60 dollars", 0.99, answer=1),
    Neighbour(2, 2, "may I pay 50 dollars", 0.95, answer=2),
    Neighbour(3, 3, "pay 50 dollars", 0.9, answer=2),
)


def decide(threshold: float, near: Sequence[Neighbour] = NEAR) -> Verdict:
    def vectors() -> Any:
        raise AssertionError("nobody needs them")

    return Threshold(threshold).decide("can I pay 50 dollars", VECTOR, near, vectors)


def test_the_nearest_that_no_word_forbids_is_served() -> None:
    assert decide(0.95) == Verdict(neighbour=NEAR[1], serve=True, near=NEAR)


def test_a_miss_has_its_reason_and_the_nearest() -> None:
    forbidden = "the nearest question differs in numbers"
    assert decide(0.96) == Verdict(neighbour=NEAR[0], reason=forbidden, near=NEAR)
    assert decide(0.995) == Verdict(neighbour=NEAR[0], reason="nothing similar", near=NEAR)
    assert decide(0.9, ()) == Verdict(reason="nothing stored")


def test_a_question_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    prepare = reader.prepare
    monkeypatch.setattr(reader, "prepare", lambda question: read.append(question) or prepare(question))
    threshold = Threshold(0.9)
    for _ in range(3):
        threshold.decide("can I pay 50 dollars", VECTOR, NEAR, lambda: np.zeros((3, 2), dtype=np.float32))
    assert read == ["can I pay 50 dollars", "can I pay 60 dollars", "may I pay 50 dollars"]
    one = Reader()
    assert one("a question") is one("a question")
    assert read[3:] == ["a question"]
