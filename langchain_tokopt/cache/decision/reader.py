"""Reads the words of questions, each once."""

from __future__ import annotations

from typing import Final

from langchain_tokopt.cache.reading import Prepared, prepare
from langchain_tokopt.memo import Memo

_QUESTIONS: Final = 4_096  # a stored question is a neighbour many times


class Reader:
    """A function from questions to what was read of them, which remembers those that it read lately. Thread-safe."""

    def __init__(self) -> None:
        self._read: Memo[Prepared] = Memo(limit=_QUESTIONS)

    def __call__(self, question: str) -> Prepared:
        known = self._read.get(question)
        if known is None:
            known = prepare(question)
            self._read.put(question, known)
        return known
