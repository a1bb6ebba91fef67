"""What a text is about: which of many labels it belongs to, learned from one example at a time."""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tools.prototypes import Prototypes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FORMAT = 1


class IntentClassifier:
    """Says how probable each label is for a text. Learns online; many threads may share one.

    What it says depends on the examples and their order only, not on when it was asked. No text and no vector is kept.
    Labels that were often seen and labels that were rarely seen are treated alike: how often is not how probable.

    Learning and asking take time in proportion to labels x dimension and to the square of the dimension (beyond 768
    dimensions only to the former, at somewhat lower accuracy): about a millisecond for 1,000 labels and 384 dimensions,
    beside the embedding of the text. At times, ever more rarely, learning an example takes some ten milliseconds more.

    Args:
        embeddings: A LangChain `Embeddings`, a model name or folder, a function that gives an `Embeddings`, or `None`
            for all-MiniLM-L6-v2. Not used where only vectors are passed.
        half_life: Number of examples after which an example counts half, so that old habits fade; `None` for never.
    """

    def __init__(
        self,
        embeddings: Embeddings | str | Callable[[], Embeddings] | None = None,
        *,
        half_life: float | None = None,
    ) -> None:
        if half_life is not None and not (half_life >= 1 and math.isfinite(half_life)):
            raise ConfigurationError("half_life", half_life, "use a number of examples of at least 1, or None")
        self._embed = embeddings if isinstance(embeddings, MemoEmbeddings) else MemoEmbeddings(embeddings)
        self._half_life = half_life
        self._positions: dict[str, int] = {}
        self._prototypes: Prototypes | None = None
        self._embedder: str | None = None  # which one a saved state was learned with
        self._lock = threading.Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are known, in the order in which they were first learned."""
        with self._lock:
            return tuple(self._positions)

    def learn(self, text: str, label: str) -> None:
        """Learn that the text belongs to the label, which may be new."""
        self.learn_vector(self._vector(text), label)

    def learn_many(self, texts: Iterable[str], labels: Iterable[str]) -> None:
        """Learn many examples, one after the other.

        Raises:
            ConfigurationError: There are more texts than labels, or fewer; nothing was learned then.
        """
        given, wanted = list(texts), list(labels)
        if len(given) != len(wanted):
            raise ConfigurationError("labels", f"{len(wanted)} labels", f"pass one for each of the {len(given)} texts")
        for text, label in zip(given, wanted, strict=True):
            self.learn(text, label)

    def learn_vector(self, vector: ArrayLike, label: str) -> None:
        """Learn an example whose vector `[d]` is known.

        Raises:
            ConfigurationError: The vector has no direction, or another dimension than those learned before; or the
                label is no string.
        """
        if not isinstance(label, str):
            raise ConfigurationError("label", label, "use a string")
        example = _unit(vector)
        with self._lock:
            if self._prototypes is None:
                self._prototypes = Prototypes(len(example), half_life=self._half_life)
            _check_dimension(example, self._prototypes.dim)
            self._prototypes.learn(example, self._positions.setdefault(label, len(self._positions)))

    def predict(self, text: str, k: int = 1) -> list[tuple[str, float]]:
        """The `k` most probable labels with their probabilities, best first; fewer only when fewer are known.

        The probabilities of all labels together are 1, so a single label is certain. Empty while nothing is known.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigurationError("k", k, "use a whole number of at least 1")
        if not self._positions:
            return []
        found = self.probabilities(self._vector(text))
        return sorted(found.items(), key=lambda one: -one[1])[:k]

    def probabilities(self, vector: ArrayLike) -> dict[str, float]:
        """How probable each label is for a text with this vector `[d]`; together 1. Empty while nothing is known.

        Raises:
            ConfigurationError: The vector has no direction, or another dimension than those learned.
        """
        example = _unit(vector)
        with self._lock:
            if self._prototypes is None or not self._positions:
                return {}
            _check_dimension(example, self._prototypes.dim)
            return dict(zip(self._positions, self._prototypes.probabilities(example).tolist(), strict=True))

    def forget(self, label: str) -> None:
        """Drop a label and its examples; nothing happens if it is not known.

        What its examples taught about other labels, and about how texts of one label differ, stays.
        """
        with self._lock:
            position = self._positions.pop(label, None)
            if position is not None and self._prototypes is not None:
                self._prototypes.remove(position)
                self._positions = {label: at for at, label in enumerate(self._positions)}

    # --- keeping it --------------------------------------------------------------------------------------------------

    def save(self) -> bytes:
        """What was learned, for `load`: an `.npz` without pickles and without texts other than the labels.

        Its size is 8 bytes x dimension for each label, and 4 bytes x the square of the dimension: 0.6 MB for 384.
        """
        with self._lock:
            numbers, arrays = ({}, {}) if self._prototypes is None else self._prototypes.state()
            header = {
                "format": _FORMAT,
                "labels": list(self._positions),
                "dim": None if self._prototypes is None else self._prototypes.dim,
                "embedder": self._embedder or (self._embed.name if self._embed.loaded else None),
                "half_life": self._half_life,
                **numbers,
            }
        out = io.BytesIO()
        written = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        np.savez(out, allow_pickle=False, header=written, **arrays)
        return out.getvalue()

    @classmethod
    def load(
        cls, state: bytes, embeddings: Embeddings | str | Callable[[], Embeddings] | None = None
    ) -> IntentClassifier:
        """A classifier that knows what the one that was saved knew, and goes on from there.

        Raises:
            ConfigurationError: `state` was not made by `save`. At the first text: the embedder is another one than
                that with which was learned.
        """
        self = cls(embeddings)
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as saved:
                arrays = dict(saved)
            header = json.loads(arrays.pop("header").tobytes())
            if header["format"] != _FORMAT:
                msg = f"format {header['format']}"
                raise ValueError(msg)
            self._half_life, self._embedder = header["half_life"], header["embedder"]
            self._positions = {label: position for position, label in enumerate(header["labels"])}
            if header["dim"] is not None:
                self._prototypes = Prototypes(header["dim"], half_life=self._half_life)
                self._prototypes.restore(header, arrays)
            if len(self._positions) != len(self._prototypes or ()):
                msg = f"{len(self._positions)} labels"
                raise ValueError(msg)
        except Exception as error:  # bytes from elsewhere may be wrong in any way
            remedy = f"pass what IntentClassifier.save gave ({type(error).__name__}: {error})"
            raise ConfigurationError("state", f"{len(state)} bytes", remedy) from error
        return self

    def _vector(self, text: str) -> NDArray[np.float32]:
        # As a query, also when it is learned: some embedders treat documents differently.
        vector = self._embed.vector(text)
        if self._embedder is not None and self._embed.name != self._embedder:
            remedy = f"what is known was learned with {self._embedder}; use that one, or learn anew"
            raise ConfigurationError("embeddings", self._embed.name, remedy)
        return vector


def _unit(vector: ArrayLike) -> NDArray[np.float32]:
    """The vector with unit norm."""
    given = np.asarray(vector, dtype=np.float64)
    norm = float(np.linalg.norm(given)) if given.ndim == 1 else math.nan
    if not (norm > 0 and math.isfinite(norm)):
        remedy = "pass one vector of finite numbers that are not all 0"
        raise ConfigurationError("vector", f"array of shape {given.shape}", remedy)
    return np.asarray(given / norm, dtype=np.float32)


def _check_dimension(vector: NDArray[np.float32], dim: int) -> None:
    if len(vector) != dim:
        raise ConfigurationError("vector", f"{len(vector)} numbers", f"those learned have {dim}; use one embedder")
