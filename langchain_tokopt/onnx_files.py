"""An exported embedding model on disk: which files, where, and whether they are what they say.

A folder `embedder/<model>/` below a data folder holds the model, its tokenizer, the original's vectors of a few
sentences, and a record, `export.json`, that names these three with their checksums. The three carry a digest in their
names and are never changed; the record is replaced in one step. So whoever reads the record finds a whole export,
whatever is being written beside it, and one that was damaged or brought from elsewhere is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from langchain_tokopt.embedding_quality import Quality
from langchain_tokopt.errors import StoreError

RECORD = "export.json"
FORMAT = 1
PARTS = ("model", "tokenizer", "reference")

Recipe = Literal["int8", "int7"]


def export_folder(data_folder: Path, model: str, weights: str | None) -> Path:
    """Where the export of `model` belongs; `weights` tells local models of one name apart."""
    name = model.replace("/", "--") if weights is None else f"{model}--{weights}"
    return data_folder.expanduser().absolute() / "embedder" / name


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFile:
    """One file of an export, by its name in the folder."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """What an export says of itself.

    Attributes:
        model: Hugging Face name of the original, or the name of its folder.
        weights: Digest of the original's weights.
        recipe: "int8", or "int7" for weights of seven bits, which no processor overflows.
        dim: Length of the vectors.
        max_tokens: Tokens of a text beyond which it is cut.
        files: "model" (ONNX), "tokenizer" (JSON) and "reference" (the original's vectors, .npy).
        sentences: Digest of the sentences that the reference vectors belong to.
        quality: What was measured when it was made.
        made_with: Versions of the packages that made it.
    """

    model: str
    weights: str
    recipe: Recipe
    dim: int
    max_tokens: int
    files: Mapping[str, ExportFile]
    sentences: str
    quality: Quality
    made_with: Mapping[str, str]

    @property
    def name(self) -> str:
        """Identity for persistence; never that of the original, whose vectors are others.

        The same weights by the same recipe give vectors that may be compared, whichever machine exported them.
        """
        return f"{self.model}@{self.weights}+{self.recipe}"

    def to_json(self) -> str:
        content: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return json.dumps(content | {"checksum": _checksum(content)}, indent=2, ensure_ascii=False) + "\n"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> ExportRecord:
    """The record of the export in `folder`.

    Raises:
        StoreError: There is none, or it is damaged or from another version; says which.
    """
    file = folder / RECORD
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{str(file)!r} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise StoreError(f"{str(file)!r} is damaged: it is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise StoreError(f"{str(file)!r} has format {found!r}; this version reads format {FORMAT}")
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content):
        raise StoreError(f"{str(file)!r} is damaged: its checksum does not fit")
    try:
        return ExportRecord(
            **{field.name: content[field.name] for field in fields(ExportRecord)}
            | {
                "files": {part: ExportFile(**content["files"][part]) for part in PARTS},
                "quality": Quality(**content["quality"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"{str(file)!r} is incomplete: {error}") from error


def read_part(folder: Path, file: ExportFile) -> bytes:
    """The bytes of one file of an export.

    Raises:
        StoreError: It is not there, or not what the record says.
    """
    if Path(file.name).name != file.name:
        raise StoreError(f"{str(folder / RECORD)!r} names a file outside its folder: {file.name!r}")
    try:
        data = (folder / file.name).read_bytes()
    except OSError as error:
        raise StoreError(f"{str(folder / file.name)!r} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise StoreError(f"{str(folder / file.name)!r} is damaged: its checksum does not fit")
    return data
