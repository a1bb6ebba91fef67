"""This project's `SemanticCache` on a SQLite file, from the request of an agent to the messages of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata

from benchmarks.overhead import AtOnce
from langchain_tokopt import SemanticCache


class Precomputed(Embeddings):
    """Gives the vectors that a function knows."""

    def __init__(self, embed: Callable[[str], np.ndarray]) -> None:
        self._embed = embed

    def embed_query(self, text: str) -> Any:
        return self._embed(text)

    def embed_documents(self, texts: list[str]) -> Any:
        return [self._embed(text) for text in texts]


class OursPeer:
    """`SemanticCache`: `key(request)`, then `lookup(key)`."""

    semantic = True
    first_steps = "from langchain_tokopt import SemanticCache; import faiss, sqlalchemy; SemanticCache"

    def __init__(self, *, embed: Callable[[str], np.ndarray], folder: Path, limit: int, system: str) -> None:
        self.cache = SemanticCache(
            threshold=0.93, embeddings=Precomputed(embed), database=folder / "cache.db", max_entries=limit
        )
        self._model = AtOnce()
        self._system = SystemMessage(system)

    def fill(self, questions: Sequence[str], answers: Sequence[str]) -> None:
        """Store answers, one by one as they come."""
        usage = UsageMetadata(input_tokens=400, output_tokens=40, total_tokens=440)
        for question, answer in zip(questions, answers, strict=True):
            key = self.cache.key(self._request(question))
            told = AIMessage(answer, usage_metadata=usage, response_metadata={"model_name": "gpt-5-mini"})
            if key is None or not self.cache.store(key, ModelResponse(result=[told])):
                msg = f"not stored: {question!r}"
                raise RuntimeError(msg)

    def ask(self, question: str) -> str | None:
        """The stored answer."""
        key = self.cache.key(self._request(question))
        hit = self.cache.lookup(key) if key is not None else None
        return hit.response.result[-1].text if hit is not None else None

    def close(self) -> None:
        """Close the database."""
        self.cache.close()

    def _request(self, question: str) -> ModelRequest[Any]:
        return ModelRequest(model=self._model, messages=[HumanMessage(question)], system_message=self._system, tools=[])
