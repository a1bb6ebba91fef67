"""Writes a sentence-transformers model as int8 ONNX, once, so that it can be used without torch.

The graph holds the transformer, the pooling that the model's own configuration names, and the normalisation. Weights
are quantised per output channel, activations while running (https://onnxruntime.ai/docs/performance/
model-optimizations/quantization.html). An export that is far from its original is not written.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from langchain_tokopt.data_home import data_home
from langchain_tokopt.embedding_quality import SENTENCES, Quality, compare, sentences_digest
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError
from langchain_tokopt.local_model import from_sources, open_model, short, weights_digest
from langchain_tokopt.model_choice import named_model
from langchain_tokopt.onnx_files import PARTS, RECORD, ExportFile, ExportRecord, Recipe, export_folder
from langchain_tokopt.onnx_model import OnnxEmbeddings, open_export, run, session, tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_NEEDED = ("torch", "sentence_transformers", "onnx", "onnxruntime", "tokenizers")
_OPERATOR_SET = 17  # of ONNX: has all that the graph needs, and every onnxruntime of the last years reads it
# Below this a processor without 8-bit dot products may have overflowed: seven-bit weights cannot, and are tried.
_SUSPICIOUS_MEDIAN = 0.985
# What another process may still be about to name in its record is left alone for so long.
_LEAVE_ALONE_SECONDS = 3600.0
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Export:
    """What `export_model` did.

    Attributes:
        embeddings: The export, opened.
        made: Whether it was made now; `False` if a good one was there.
    """

    embeddings: OnnxEmbeddings
    made: bool


def export_model(
    model: str | None = None,
    *,
    data_dir: str | Path | None = None,
    seven_bit: bool = False,
    again: bool = False,
) -> Export:
    """The int8 export of `model` in `data_dir`, made now unless it is there.

    Args:
        model: A Hugging Face name or a folder; `None` for all-MiniLM-L6-v2.
        data_dir: The data folder; by default the user's (`TOKOPT_HOME`).
        seven_bit: Weights of seven bits, for processors without 8-bit dot products. Chosen by itself if this
            processor is one.
        again: Make it even if a good one is there.

    Raises:
        ConfigurationError: The model cannot be exported, or its export is too far from it; nothing was changed.
        MissingDependencyError: A package or the model is not on this machine.
        StoreError: The folder cannot be written.
    """
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            msg = f'the export needs {package}: pip install "langchain-tokopt[onnx-export]"'
            raise MissingDependencyError(msg)
    wanted = named_model(model)
    recipe: Recipe | None = "int7" if seven_bit else None

    source = wanted.folder or from_sources(wanted.name, _with_weights)
    weights = weights_digest(source)
    folder = export_folder(Path(data_dir) if data_dir is not None else data_home(), wanted.name, wanted.weights)
    if not again and (there := _there(folder, wanted.name, weights, recipe)) is not None:
        return Export(there, made=False)
    with _scratch(folder) as scratch:
        record = _make(source, wanted.name, weights, recipe, scratch)
        _publish(scratch, folder, record)
    return Export(open_export(folder), made=True)


def _with_weights(folder: Path) -> Path:
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        msg = "it holds no weights"
        raise FileNotFoundError(msg)
    return folder


def _there(folder: Path, model: str, weights: str, recipe: Recipe | None) -> OnnxEmbeddings | None:
    try:
        found = open_export(folder, model=model, weights=weights)
    except StoreError:
        return None
    return found if recipe in (None, found.record.recipe) else None


# --- making it -------------------------------------------------------------------------------------------------------


def _make(source: Path, name: str, weights: str, recipe: Recipe | None, scratch: Path) -> ExportRecord:
    """Write the three files of an export into `scratch`; returns its record."""
    try:
        original = open_model(source, attention="eager")  # the others do not trace into plain operators
    except Exception as error:
        raise ConfigurationError("model", name, f"it is no sentence-transformers model ({short(error)})") from error
    pooling = _pooling(original, name)
    words = _words(original, name)
    reference = np.stack([_embedded(original, text) for text in SENTENCES])
    graph = scratch / "graph.onnx"
    with _silence():
        _trace(original, pooling, words, graph)
    first: Recipe = recipe or "int8"
    measured = {first: _quantised(graph, first, _inputs(original), words, reference)}
    good = measured[first].acceptable and measured[first].cosine_median >= _SUSPICIOUS_MEDIAN
    if recipe is None and not good:  # some processors cut sums of eight-bit numbers off
        measured["int7"] = _quantised(graph, "int7", _inputs(original), words, reference)
    best = max(measured, key=lambda each: (measured[each].acceptable, measured[each].cosine_median))
    quality = measured[best]
    if not quality.acceptable:
        raise ConfigurationError("model", name, f"its {best} export is too far from it ({quality}); use it as it is")
    graph.with_name(best).replace(scratch / "model")
    (scratch / "tokenizer").write_text(words.to_str(), encoding="utf-8")
    with (scratch / "reference").open("wb") as stream:
        np.save(stream, reference)
    suffixes = {"model": ".onnx", "tokenizer": ".json", "reference": ".npy"}
    digests = {part: hashlib.sha256((scratch / part).read_bytes()).hexdigest() for part in PARTS}
    return ExportRecord(
        model=name,
        weights=weights,
        recipe=best,
        dim=int(reference.shape[1]),
        max_tokens=int(words.truncation["max_length"]),
        files={
            part: ExportFile(name=f"{part}-{digests[part][:12]}{suffixes[part]}", sha256=digests[part])
            for part in PARTS
        },
        sentences=sentences_digest(),
        quality=quality,
        made_with={package: importlib.metadata.version(package) for package in _NEEDED},
    )


def _pooling(model: Any, name: str) -> str:
    """ "mean" or "cls"; refuses every other model, since its vectors would not be the same."""
    kinds = [type(module).__name__ for module in model]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        problem = f"it consists of {', '.join(kinds)}; only Transformer, Pooling and Normalize can be exported"
        raise ConfigurationError("model", name, problem)
    mode = model[1].get_config_dict().get("pooling_mode")
    if mode not in ("mean", "cls"):
        raise ConfigurationError("model", name, f"its pooling is {mode!r}; only mean and cls can be exported")
    if getattr(model, "default_prompt_name", None):
        raise ConfigurationError("model", name, "it puts a prompt before each text, which cannot be exported")
    return str(mode)


def _words(model: Any, name: str) -> Any:
    """The model's tokenizer as it will be used: one text at a time, cut where the model cuts."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigurationError("model", name, "its tokenizer has no tokenizer.json form; use the model as it is")
    words = tokenizer(backend.to_str().encode())
    words.no_padding()
    words.enable_truncation(int(model.max_seq_length or model.tokenizer.model_max_length))
    for text in SENTENCES:
        ids = model.tokenizer(text, truncation=True, max_length=words.truncation["max_length"])["input_ids"]
        if not ids or words.encode(text).ids != ids:
            problem = f"its tokenizer reads {text[:40]!r} otherwise when it runs by itself; use the model as it is"
            raise ConfigurationError("model", name, problem)
    return words


def _embedded(model: Any, text: str) -> Floats:
    # Alone, because the original's vector depends a little on what it is padded to.
    row = model.encode([text], show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True)[0]
    return np.asarray(row, dtype=np.float32)


def _inputs(model: Any) -> list[str]:
    return [name for name in _INPUTS if name in model.tokenizer.model_input_names]


def _trace(model: Any, pooling: str, words: Any, target: Path) -> None:
    import torch

    names = _inputs(model)

    class Embedder(torch.nn.Module):
        """From token ids to unit vectors, for the tracer."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = model[0].auto_model

        def forward(self, *given: Any) -> Any:
            named = dict(zip(names, given, strict=True))
            states = self.transformer(**named, return_dict=True).last_hidden_state
            if pooling == "cls":
                pooled = states[:, 0]
            else:
                mask = named["attention_mask"].unsqueeze(-1).to(states.dtype)
                pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, p=2.0, dim=1)

    encoded = words.encode("How do I reset my password?")
    given = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
    # Two rows: what is traced with one row may be taken for a constant.
    example = tuple(torch.tensor([given[name], given[name]]) for name in names)
    with torch.no_grad():
        torch.onnx.export(
            Embedder().eval(),
            example,
            str(target),
            input_names=names,
            output_names=["embedding"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names} | {"embedding": {0: "texts"}},
            opset_version=_OPERATOR_SET,
            dynamo=False,
        )


def _quantised(graph: Path, recipe: Recipe, inputs: list[str], words: Any, reference: Floats) -> Quality:
    """What is lost by `recipe`; leaves the quantised graph beside `graph`, in a file named after it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = graph.with_name(recipe)
    with _silence():
        quantize_dynamic(graph, file, weight_type=QuantType.QInt8, per_channel=True, reduce_range=recipe == "int7")
    running = session(str(file))
    return compare(reference, np.stack([run(running, inputs, words, text) for text in SENTENCES]))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Tracing and quantising warn of what was looked into here, or is measured afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# --- putting it in its place -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder of our own on the same disk, gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise StoreError(f"{str(folder)!r} cannot be written to ({error.strerror})") from error
    try:
        yield made
    except OSError as error:
        raise StoreError(f"the export could not be written to {str(folder)!r} ({error.strerror})") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is in it


def _publish(scratch: Path, folder: Path, record: ExportRecord) -> None:
    for part, file in record.files.items():
        (scratch / part).replace(folder / file.name)
    (scratch / RECORD).write_text(record.to_json(), encoding="utf-8")
    (scratch / RECORD).replace(folder / RECORD)
    _sweep(folder, record)


def _sweep(folder: Path, record: ExportRecord) -> None:
    """Remove what earlier exports left behind."""
    kept = {RECORD, *(file.name for file in record.files.values())}
    ours = (".export-", *(f"{part}-" for part in PARTS))
    for path in folder.iterdir():
        if path.name in kept or not path.name.startswith(ours):
            continue
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < _LEAVE_ALONE_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
