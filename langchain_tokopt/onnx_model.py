"""Embeddings by an exported int8 model: onnxruntime and tokenizers, without torch.

Dynamic quantisation takes its scale from the largest number of a whole batch, so a text's vector would depend on its
company. Texts are therefore run one at a time, which for short ones is no slower: a vector depends on its text alone.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokopt.data_home import data_home
from langchain_tokopt.embedding_quality import SENTENCES, Quality, compare, sentences_digest
from langchain_tokopt.errors import MissingDependencyError, StoreError
from langchain_tokopt.local_model import MAX_CHARACTERS
from langchain_tokopt.onnx_files import RECORD, ExportRecord, export_folder, read_part, read_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]

log = logging.getLogger("langchain_tokopt")

# Embedded whenever an export is opened: on a processor that overflows where the one that made it did not, the vectors
# are far from the original's, and no checksum tells.
_PROBES = 3
_PROBE_SLACK = 0.03


class OnnxEmbeddings(Embeddings):
    """Embeddings of an exported model, on one thread of the CPU. Thread-safe; several threads run side by side.

    Args:
        folder: The folder of an export, as `tokopt embedder export` writes it.

    Attributes:
        record: What the export says of itself.
        name: Identity for persistence; differs from that of the original model.

    Raises:
        StoreError: The export is incomplete, damaged, or gives bad vectors on this machine.
        MissingDependencyError: onnxruntime or tokenizers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        _check_installed()
        self.folder = folder
        self.record, parts = _read(folder)
        self.name = self.record.name
        try:
            self._session = session(parts["model"])
            self._tokenizer = tokenizer(parts["tokenizer"])
            self._reference: Vector = np.load(io.BytesIO(parts["reference"]), allow_pickle=False)
            self._inputs = [each.name for each in self._session.get_inputs()]
            probes = self.vectors(SENTENCES[:_PROBES])
        except Exception as error:
            raise StoreError(f"the export in {str(folder)!r} cannot be run: {type(error).__name__}: {error}") from error
        if probes.shape[1] != self.record.dim:
            raise StoreError(f"the export in {str(folder)!r} gives vectors of another length than its record says")
        if self.record.sentences == sentences_digest():
            nearest = float(np.einsum("ij,ij->i", probes, self._reference[:_PROBES]).min())
            if not nearest >= self.record.quality.cosine_min - _PROBE_SLACK:
                raise StoreError(
                    f"the export in {str(folder)!r} gives bad vectors on this processor (cosine to the original "
                    f"{nearest:.3f}, where it was made at least {self.record.quality.cosine_min:.3f}); make it again "
                    "here, with --seven-bit if that does not help"
                )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in self.vectors(texts)]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def vectors(self, texts: Sequence[str]) -> Vector:
        """Unit vectors of `texts` as float32 `[n, d]`; each the same whatever else is asked for."""
        rows = [run(self._session, self._inputs, self._tokenizer, text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.record.dim), dtype=np.float32)

    def verify(self) -> Quality:
        """How far this export is from its original on this machine; needs neither torch nor the original.

        Raises:
            StoreError: It was made by another version of the package, which compared other sentences.
        """
        if self.record.sentences != sentences_digest():
            raise StoreError(f"the export in {str(self.folder)!r} was made by another version; make it again")
        return compare(self._reference, self.vectors(SENTENCES))


def _read(folder: Path) -> tuple[ExportRecord, dict[str, bytes]]:
    record = read_record(folder)
    try:
        return record, {part: read_part(folder, file) for part, file in record.files.items()}
    except StoreError:
        # A newer export may have taken the place of this one while it was being read.
        again = read_record(folder)
        if again == record:
            raise
        return again, {part: read_part(folder, file) for part, file in again.files.items()}


def _check_installed() -> None:
    for package in ("onnxruntime", "tokenizers"):
        if importlib.util.find_spec(package) is None:
            msg = f'an exported model needs {package}: pip install "langchain-tokopt[onnx]"'
            raise MissingDependencyError(msg)


# --- running it ------------------------------------------------------------------------------------------------------


def session(model: bytes | str) -> Any:
    """An onnxruntime session over `model` (its bytes or its file) that starts no threads of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # its warnings are for those who write graphs
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tokenizer(data: bytes) -> Any:
    """The tokenizer whose JSON is `data`."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(data.decode("utf-8"))


def run(running: Any, inputs: Sequence[str], words: Any, text: str) -> Vector:
    """Unit vector of one text, float32 `[d]`."""
    encoded = words.encode(text[:MAX_CHARACTERS])
    given = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
    (rows,) = running.run(None, {name: np.asarray([given[name]], dtype=np.int64) for name in inputs})
    vector: Vector = rows[0]
    return vector


# --- finding one -----------------------------------------------------------------------------------------------------

# One copy of an export per process, as for other models.
_opened: dict[tuple[Path, str], OnnxEmbeddings] = {}
_refused: set[tuple[Path, str]] = set()
_lock = threading.Lock()


def open_export(folder: Path, *, model: str | None = None, weights: str | None = None) -> OnnxEmbeddings:
    """The export in `folder`; shared by all who ask for it.

    Raises:
        StoreError: It cannot be used, or is of another model than `model` or other weights than `weights`.
        MissingDependencyError: onnxruntime or tokenizers is not installed.
    """
    folder = folder.resolve()
    record = read_record(folder)
    if model is not None and record.model != model:
        raise StoreError(f"the export in {str(folder)!r} is of {record.model}, not of {model}")
    if weights is not None and record.weights != weights:
        raise StoreError(f"the export in {str(folder)!r} is of other weights of {model}; make it again")
    key = (folder, record.to_json())
    with _lock:
        if key not in _opened:
            _opened[key] = OnnxEmbeddings(folder)
        return _opened[key]


def export_folders(model: str, *, weights: str | None, data_dir: Path | None) -> list[Path]:
    """Where an export of `model` is looked for, first place first."""
    places = [data_home()] if data_dir is None else [data_dir, data_home()]
    return [export_folder(place, model, weights) for place in places]


def find_export(model: str, *, weights: str | None = None, data_dir: Path | None = None) -> OnnxEmbeddings | None:
    """An export of `model` that can be used here, or `None`. One that cannot be used is warned of, once."""
    for folder in export_folders(model, weights=weights, data_dir=data_dir):
        if not (folder / RECORD).exists():
            continue
        try:
            return open_export(folder, model=model, weights=weights)
        except (StoreError, MissingDependencyError) as error:
            with _lock:
                told = (folder, str(error)) in _refused
                _refused.add((folder, str(error)))
            if not told:
                log.warning("an exported embedding model is not used: %s", error)
    return None
