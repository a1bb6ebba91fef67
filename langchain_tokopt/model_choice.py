"""Which embedding model a name means, and everything that could serve it on this machine, best first."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError
from langchain_tokopt.local_model import DEFAULT_MODEL, LOCAL_SOURCES, SOURCES, short, weights_digest
from langchain_tokopt.onnx_files import RECORD
from langchain_tokopt.onnx_model import export_folders, find_export, open_export

if TYPE_CHECKING:
    from langchain_tokopt.onnx_model import OnnxEmbeddings


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that somebody asked for.

    Attributes:
        name: Its Hugging Face name, or the name of its folder.
        folder: Its folder, if it is a local one.
        weights: Digest of the weights of a local model: a name of a folder says little.
    """

    name: str
    folder: Path | None = None
    weights: str | None = None

    def exported(self, data_dir: Path | None) -> OnnxEmbeddings | None:
        """An export of it that can be used here, or `None`."""
        return find_export(self.name, weights=self.weights, data_dir=data_dir)

    def candidates(self, data_dir: Path | None) -> list[Candidate]:
        """All that could serve it, in the order in which they are tried. Loads exports, but no torch."""
        found = [self._export(folder) for folder in export_folders(self.name, weights=self.weights, data_dir=data_dir)]
        missing = None
        if importlib.util.find_spec("sentence_transformers") is None:
            missing = "sentence-transformers is not installed"
        if self.folder is not None:
            return [*found, Candidate("folder", str(self.folder), missing)]
        for source, find in SOURCES.items():
            if source not in LOCAL_SOURCES:
                found.append(Candidate(source, f"{self.name}, not asked now", missing))
                continue
            try:
                place = find(self.name)
            except FileNotFoundError as error:
                found.append(Candidate(source, None, str(error)))
            except Exception as error:  # a source that fails is one that cannot be used, whatever it raises
                found.append(Candidate(source, None, short(error)))
            else:
                found.append(Candidate(source, str(place), missing))
        return found

    def _export(self, folder: Path) -> Candidate:
        if not (folder / RECORD).exists():
            return Candidate("export", str(folder), "there is none; `tokopt embedder export` makes it")
        try:
            return Candidate("export", str(folder), None, open_export(folder, model=self.name, weights=self.weights))
        except (StoreError, MissingDependencyError) as error:
            return Candidate("export", str(folder), str(error))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that could serve a model.

    Attributes:
        source: "export", "folder" or one of `SOURCES`.
        location: Its folder, if it is known.
        problem: Why it cannot be used; `None` if it can.
        export: The opened export.
    """

    source: str
    location: str | None
    problem: str | None
    export: OnnxEmbeddings | None = None


def first_usable(candidates: Sequence[Candidate]) -> Candidate | None:
    """The one that is used."""
    return next((each for each in candidates if each.problem is None), None)


def named_model(name: str | None) -> NamedModel:
    """The model that `name` means: a local folder, a Hugging Face name, or `None` for all-MiniLM-L6-v2.

    Raises:
        ConfigurationError: It is no string, or looks like a folder that is not there.
    """
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError("embeddings", name, "pass a LangChain Embeddings, a model name or a folder")
    if name is None:
        return NamedModel(DEFAULT_MODEL)
    folder = Path(name).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        return NamedModel(folder.name, folder, weights_digest(folder))
    if name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1:
        raise ConfigurationError("embeddings", name, "there is no such folder; pass a folder, a model name or nothing")
    return NamedModel(name if "/" in name else f"sentence-transformers/{name}")
