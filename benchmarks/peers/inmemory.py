"""LangChain's own in-memory cache, asked as a chat model asks it: by the serialised messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

_MODEL = "[('model', 'gpt-5-mini'), ('stop', None)]"


class InMemoryPeer:
    """`InMemoryCache`; it finds the same prompt only."""

    semantic = False
    first_steps = "from langchain_core.caches import InMemoryCache; from langchain_core.load import dumps"

    def __init__(self, *, embed: Callable[[str], np.ndarray], folder: Path, limit: int, system: str) -> None:
        self._system = SystemMessage(system)
        self._cache = InMemoryCache()

    def fill(self, questions: Sequence[str], answers: Sequence[str]) -> None:
        """Store answers."""
        for question, answer in zip(questions, answers, strict=True):
            self._cache.update(self._prompt(question), _MODEL, [ChatGeneration(message=AIMessage(answer))])

    def ask(self, question: str) -> str | None:
        """The stored answer."""
        found = self._cache.lookup(self._prompt(question), _MODEL)
        return found[0].text if found else None

    def close(self) -> None:
        """Nothing to let go of."""

    def _prompt(self, question: str) -> str:
        messages: list[BaseMessage] = [self._system, HumanMessage(question)]
        return dumps(messages)
