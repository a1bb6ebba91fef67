"""Made-up questions of which it is known what they ask for, with vectors that lie about as those of a good embedder."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import PrivateAttr

from langchain_tokopt.cache import SemanticCache
from tests.fakes import Call, ScriptedModel, ai

WAIT = 20.0

TOPICS = ("harbour", "violin", "cactus", "glacier", "lantern", "meadow", "pepper", "saddle", "tunnel", "velvet")
_LEADS = (
    "please tell me about the",
    "I want to hear about the",
    "can you explain the",
    "say something about the",
    "could you describe the",
    "I would like to read about the",
    "help me understand the",
    "let me know about the",
)
_TAILS = ("", " please", " in short", " in simple words", " if you can", " in a few lines", " for a beginner", " today")
_DIM = 48


def wordings(topic: str) -> list[str]:
    """64 questions about a topic, all with the same answer."""
    return [f"{lead} {topic}{tail}" for lead, tail in itertools.product(_LEADS, _TAILS)]


def topic_of(question: str) -> str:
    """What a question is about."""
    return next(topic for topic in TOPICS if topic in question)


def answer_to(question: str) -> str:
    """The right answer to a question."""
    return f"This is all about the {topic_of(question)}."


def stream(count: int, *, seed: int = 0) -> Iterator[str]:
    """Questions in a random order, some of them more than once."""
    rng = random.Random(seed)
    for _ in range(count):
        yield rng.choice(wordings(rng.choice(TOPICS)))


class TopicEmbeddings(Embeddings):
    """Questions about one topic are about 0.9 similar, others hardly; answers are embedded likewise.

    Questions about a tunnel and about velvet are as similar as those about one topic: only their words differ.
    """

    def embed_query(self, text: str) -> list[float]:
        topic = next((topic for topic in TOPICS if topic in text), text)
        vector = _direction("tunnel" if topic == "velvet" else topic) + 0.33 * _direction(text)
        return [float(x) for x in vector / np.linalg.norm(vector)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def _direction(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=_DIM)
    return vector / np.linalg.norm(vector)


def right(question: str) -> AIMessage:
    """What a good model says."""
    return ai(answer_to(question), input_tokens=100, output_tokens=20)


class Knowing(ScriptedModel):
    """A model that answers rightly, or as it is told to. Can be held up, and records the tags of its calls, too.

    What it is told is none of its parameters: a cache finds the answers of any other.
    """

    _say: Callable[[str], AIMessage] = PrivateAttr(default_factory=lambda: right)
    _held: threading.Event | None = PrivateAttr(default=None)
    _tags: list[list[str]] = PrivateAttr(default_factory=list)

    def to_say(self, say: Callable[[str], AIMessage] | str) -> Knowing:
        self._say = say if callable(say) else lambda question: ai(say, input_tokens=100, output_tokens=20)
        return self

    def _next(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        self._calls.append(Call(list(messages), [], kwargs))
        if self._held is not None:
            assert self._held.wait(WAIT)
        return self._say(messages[-1].text)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self._tags.append(run_manager.tags if run_manager is not None else [])
        return super()._generate(messages, stop, run_manager, **kwargs)

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self._tags.append(run_manager.tags if run_manager is not None else [])
        return super()._stream(messages, stop, run_manager, **kwargs)


def teach(cache: SemanticCache, questions: Iterable[str]) -> None:
    """Have a cache learn from questions and their right answers, as if a model had been asked through it."""
    for question in questions:
        request = ModelRequest(model=Knowing(), messages=[HumanMessage(question)])
        key = cache.key(request)
        assert key is not None
        look = cache.look(key)
        response = ModelResponse[Any](result=[right(question)])
        if look.hit is None:
            cache.store(key, response, look)
        elif look.audit:
            cache.audited(key, look, response)
        assert cache.settle(WAIT)


def unasked(cache: SemanticCache, topic: str = "harbour", *, kind: str = "agent") -> Iterator[str]:
    """Wordings that the database does not hold."""
    stored = {entry.question for entry in cache.catalog.find(kind=kind, limit=None)}
    return iter([question for question in wordings(topic) if question not in stored])


def audit(cache: SemanticCache, rate: float) -> None:
    """From now on this share of the answers that are given by meaning is audited."""
    learned = cache.desk.learned
    assert learned is not None
    learned._rate = lambda risk, policy: rate  # type: ignore[method-assign]
