"""Where vectors of texts come from: the user's `Embeddings`, or all-MiniLM-L6-v2 on this machine.

Nothing heavy is imported before the first text is embedded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from langchain_tokopt.local_model import (
    DEFAULT_MODEL,
    SentenceTransformerEmbeddings,
    from_sources,
    load,
    remedy,
    short,
)
from langchain_tokopt.model_choice import named_model
from langchain_tokopt.onnx_model import OnnxEmbeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]
    Key: TypeAlias = tuple[str, str | bytes]

_RETRY_AFTER_SECONDS = 60.0
# They embed queries and documents alike, give arrays, and know their own names.
_OURS = (SentenceTransformerEmbeddings, OnnxEmbeddings)


def find_embeddings(embeddings: Embeddings | str | None = None, *, data_dir: str | Path | None = None) -> Embeddings:
    """An embedder that is ready to use; a model that was loaded before is shared.

    An `Embeddings` is returned as it is. A string is a local folder or a Hugging Face name. `None` is
    all-MiniLM-L6-v2. An export of the model that `tokopt embedder export` made is preferred, from `data_dir`, else from
    the user's data folder (`TOKOPT_HOME`): it needs no torch and is several times as fast. Otherwise the model comes
    from the Hugging Face cache, else from the offline package, else from the hub. Models run on the CPU, one text batch
    at a time; for a GPU pass your own `Embeddings`.

    Raises:
        ConfigurationError: `embeddings` is neither of these, or a folder that holds no model.
        MissingDependencyError: The model or sentence-transformers is not on this machine; says what to install.
    """
    if isinstance(embeddings, Embeddings):
        return embeddings
    wanted = named_model(embeddings)
    exported = wanted.exported(None if data_dir is None else Path(data_dir))
    if exported is not None:
        return exported
    if importlib.util.find_spec("sentence_transformers") is None:
        msg = f"embeddings={embeddings!r} needs sentence-transformers, which is not installed: {remedy(DEFAULT_MODEL)}"
        raise MissingDependencyError(msg)
    if wanted.folder is None:
        return from_sources(wanted.name, lambda folder: load(folder, wanted.name))
    try:
        return load(wanted.folder, wanted.name)
    except Exception as error:
        problem = f"the folder holds no sentence-transformers model ({short(error)})"
        raise ConfigurationError("embeddings", embeddings, problem) from error


# --- memo ------------------------------------------------------------------------------------------------------------


class MemoEmbeddings(Embeddings):
    """Embeddings that remember: each text is embedded once, however many parts and threads ask for it.

    The embedder is found at the first use. Texts may be anything: lone surrogates and NUL are replaced before they
    reach the embedder. Vectors come back with unit norm.

    Args:
        embeddings: An `Embeddings`, a model name or folder, a function that gives an `Embeddings`, or `None` for
            all-MiniLM-L6-v2 (see `find_embeddings`).
        size: How many vectors are remembered; the least recently used goes first.
        name: What identifies the embedder where vectors are stored; by default its class and model name.
        data_dir: A folder in which an export of the model is looked for first (see `find_embeddings`).
    """

    def __init__(
        self,
        embeddings: Embeddings | str | Callable[[], Embeddings] | None = None,
        *,
        size: int = 4096,
        name: str | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        if embeddings is not None and not isinstance(embeddings, (Embeddings, str)) and not callable(embeddings):
            raise ConfigurationError("embeddings", embeddings, "pass a LangChain Embeddings, a model name or a folder")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigurationError("size", size, "use a whole number of at least 1")
        self._given = embeddings
        self._size = size
        self._name = name
        self._data_dir = data_dir
        self._source: Embeddings | None = None
        self._failure: tuple[float, Exception] | None = None
        self._dim: int | None = None
        self._memo: OrderedDict[Key, Vector] = OrderedDict()
        self._flights: dict[Key, Future[Vector]] = {}
        self._lock = threading.Lock()
        self._finding = threading.Lock()

    @property
    def name(self) -> str:
        """Identity for persistence: embedder, model and dimension. Vectors of different names must never be compared.

        Embeds one word if nothing was embedded before, because only that tells the dimension.
        """
        source = self.source()
        if self._dim is None:
            self.vector("dimension")
        return f"{self._name or _describe(source)}/{self._dim}"

    @property
    def loaded(self) -> bool:
        """Whether the embedder was used, so that `name` and `dim` cost nothing."""
        return self._dim is not None

    @property
    def dim(self) -> int:
        """Length of the vectors; embeds one word if nothing was embedded before."""
        if self._dim is None:
            self.vector("dimension")
        return self._dim or 0

    def source(self) -> Embeddings:
        """The embedder underneath, found now if it was not needed before.

        A failure is remembered for a minute, so that a hub that does not answer is not waited for at every call.
        """
        if self._source is not None:
            return self._source
        with self._finding:
            if self._source is None:
                if self._failure is not None and time.monotonic() < self._failure[0]:
                    raise self._failure[1].with_traceback(None)  # or it grows with every caller
                try:
                    given = self._given
                    found = given() if callable(given) and not isinstance(given, Embeddings) else given
                    self._source = find_embeddings(found, data_dir=self._data_dir)
                except Exception as error:
                    self._failure = (time.monotonic() + _RETRY_AFTER_SECONDS, error)
                    raise
            return self._source

    def vector(self, text: str) -> Vector:
        """Unit vector of one text, embedded as a query: float32 `[d]`, read-only."""
        return self._vectors([text], "query")[0]

    def queries(self, texts: Sequence[str]) -> list[Vector]:
        """Unit vectors of texts embedded as queries, each float32 `[d]`, read-only; all at once if it is `local`."""
        return self._vectors(list(texts), "query")

    @property
    def local(self) -> bool:
        """Whether the embedder runs on this machine and takes many texts at once, so that one more costs little."""
        return isinstance(self.source(), _OURS)

    def vectors(self, texts: Sequence[str]) -> Vector:
        """Unit vectors of `texts`, embedded as documents: float32 `[n, d]`; `[0, 0]` for no texts."""
        rows = self._vectors(list(texts), "document")
        return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in self.vectors(texts)]

    def embed_query(self, text: str) -> list[float]:
        return [float(x) for x in self.vector(text)]

    def _vectors(self, texts: list[str], kind: Literal["query", "document"]) -> list[Vector]:
        source = self.source()
        side: str = "both" if isinstance(source, _OURS) else kind
        clean = [_printable(text) for text in texts]
        keys = [(side, _memo_key(text)) for text in clean]
        found: dict[Key, Vector] = {}
        mine: dict[Key, str] = {}
        waiting: dict[Key, Future[Vector]] = {}
        with self._lock:
            for key, text in zip(keys, clean, strict=True):
                if key in self._memo:
                    self._memo.move_to_end(key)
                    found[key] = self._memo[key]
                elif key in self._flights and key not in mine:
                    waiting[key] = self._flights[key]
                elif key not in mine:
                    self._flights[key] = Future()
                    mine[key] = text
        if mine:
            found.update(self._fly(source, mine, kind))
        for key, flight in waiting.items():
            try:
                found[key] = flight.result()
            except Exception:  # the other caller's batch failed, perhaps over another text: try alone
                found[key] = self._vectors([clean[keys.index(key)]], kind)[0]
        return [found[key] for key in keys]

    def _fly(self, source: Embeddings, mine: dict[Key, str], kind: Literal["query", "document"]) -> dict[Key, Vector]:
        """Embed what nobody else is embedding, and let those who wait for it know."""
        try:
            rows = self._embed(source, list(mine.values()), kind)
        except BaseException as error:
            with self._lock:
                flights = [self._flights.pop(key) for key in mine]
            for flight in flights:
                # Not `error` itself: a KeyboardInterrupt is for the thread that it hit.
                flight.set_exception(RuntimeError(f"embedding failed in another thread: {short(error)}"))
            raise
        new = dict(zip(mine, rows, strict=True))
        with self._lock:
            flights = [self._flights.pop(key) for key in mine]
            self._memo.update(new)
            while len(self._memo) > self._size:
                self._memo.popitem(last=False)
        for flight, row in zip(flights, rows, strict=True):
            flight.set_result(row)
        return new

    def _embed(self, source: Embeddings, texts: list[str], kind: Literal["query", "document"]) -> list[Vector]:
        given: Any
        if isinstance(source, _OURS):
            given = source.vectors(texts)
        elif kind == "query":
            given = [source.embed_query(text) for text in texts]
        else:
            given = source.embed_documents(texts)
        return self._checked(given, len(texts))

    def _checked(self, given: Any, count: int) -> list[Vector]:
        try:
            rows = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self._bad("its vectors differ in length or are not numbers") from error
        if rows.ndim != 2 or rows.shape[0] != count or rows.shape[1] == 0:
            raise self._bad(f"it gave an array of shape {rows.shape} for {count} texts, not ({count}, dimension)")
        norms = np.linalg.norm(rows, axis=1)
        if not np.isfinite(norms).all():
            raise self._bad("it gave NaN or infinite numbers")
        if not (norms > 0).all():
            raise self._bad("it gave a vector of zeros, which has no direction")
        with self._lock:
            expected = self._dim = self._dim or int(rows.shape[1])
        if rows.shape[1] != expected:
            raise self._bad(f"it gave {rows.shape[1]} numbers for a text and {expected} for an earlier one")
        unit = (rows / norms[:, None]).astype(np.float32)
        copies = [row.copy() for row in unit]  # a view would keep the whole batch alive
        for row in copies:
            row.setflags(write=False)
        return copies

    def _bad(self, problem: str) -> ConfigurationError:
        return ConfigurationError("embeddings", type(self._source).__name__, f"{problem}; use one embedder that works")


def _printable(text: str) -> str:
    """The text without what tokenizers and JSON refuse: lone surrogates and NUL."""
    return text.replace("\x00", " ").encode("utf-8", "replace").decode("utf-8")


def _memo_key(text: str) -> str | bytes:
    return text if len(text) <= 512 else hashlib.blake2b(text.encode(), digest_size=16).digest()


def _describe(source: Embeddings) -> str:
    """Class and model of an embedder, from the attributes that LangChain's integrations use."""
    if isinstance(source, _OURS):
        return source.name
    if isinstance(source, MemoEmbeddings):
        return source.name.rpartition("/")[0]
    for attribute in ("model", "model_name", "model_id", "deployment", "repo_id"):
        value = getattr(source, attribute, None)
        if isinstance(value, str) and value:
            return f"{type(source).__name__}:{value}"
    return type(source).__name__
