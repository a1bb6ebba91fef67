from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_tokopt import onnx_export
from langchain_tokopt.embedding_quality import Quality
from langchain_tokopt.embeddings import find_embeddings
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError
from langchain_tokopt.local_model import SentenceTransformerEmbeddings, weights_digest
from langchain_tokopt.onnx_export import export_model
from langchain_tokopt.onnx_files import RECORD, export_folder, read_record
from langchain_tokopt.onnx_model import OnnxEmbeddings
from tests.tiny_models import make_tiny_model

for package in ("torch", "sentence_transformers", "onnx", "onnxruntime"):
    pytest.importorskip(package)

QUESTIONS = ["How do I reset my password?", "What is the capital of Norway?", "my card"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def whole(folder: Path) -> set[str]:
    return {RECORD, *(file.name for file in read_record(folder).files.values())}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_models_own_pooling_is_exported(pooling: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / pooling, pooling=pooling)
    done = export_model(str(model), data_dir=tmp_path / "data")
    assert done.made
    original = SentenceTransformerEmbeddings(model, name=pooling)
    cosines = np.einsum("ij,ij->i", done.embeddings.vectors(QUESTIONS), original.vectors(QUESTIONS))
    assert cosines.min() > 0.99
    recipe = done.embeddings.record.recipe  # seven bits where the processor cuts sums of eight off
    assert done.embeddings.name == f"{pooling}@{weights_digest(model)}+{recipe}"
    assert done.embeddings.record.max_tokens == 64
    assert names(done.embeddings.folder) == whole(done.embeddings.folder)
    assert find_embeddings(str(model), data_dir=tmp_path / "data") is done.embeddings


def test_it_is_made_once_and_again_only_when_asked(tiny: Path, tmp_path: Path) -> None:
    first = export_model(str(tiny), data_dir=tmp_path)
    second = export_model(str(tiny), data_dir=tmp_path)
    assert (first.made, second.made) == (True, False)
    assert second.embeddings is first.embeddings
    seven = export_model(str(tiny), data_dir=tmp_path, seven_bit=True)
    other = first.embeddings.record.recipe != "int7"  # which depends on the processor
    assert (seven.made, seven.embeddings.record.recipe) == (other, "int7")
    assert (seven.embeddings.name != first.embeddings.name) is other
    assert not export_model(str(tiny), data_dir=tmp_path, seven_bit=True).made
    assert export_model(str(tiny), data_dir=tmp_path, again=True).embeddings.name == first.embeddings.name


def test_a_damaged_one_is_made_again(tiny: Path, tmp_path: Path) -> None:
    folder = export_model(str(tiny), data_dir=tmp_path).embeddings.folder
    (folder / RECORD).write_text("{}")
    assert export_model(str(tiny), data_dir=tmp_path).made
    assert OnnxEmbeddings(folder).verify().acceptable


def test_seven_bits_are_taken_where_eight_overflow(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnx_export.compare
    seen: list[Quality] = []

    def overflowing(*rows: Any) -> Quality:
        seen.append(real(*rows))
        if len(seen) > 1:
            return seen[-1]
        return Quality(sentences=98, cosine_min=0.91, cosine_median=0.975, neighbours=0.9)

    monkeypatch.setattr(onnx_export, "compare", overflowing)
    done = export_model(str(tiny), data_dir=tmp_path)
    assert done.embeddings.record.recipe == "int7"
    assert done.embeddings.record.quality == seen[1]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"pooling": "max"}, "its pooling is 'max'; only mean and cls"),
        ({"dense": True}, "it consists of Transformer, Pooling, Dense, Normalize"),
    ],
)
def test_a_model_of_another_kind_is_refused(shape: dict[str, Any], reason: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "other", **shape)
    with pytest.raises(ConfigurationError, match=reason):
        export_model(str(model), data_dir=tmp_path / "data")
    assert list((tmp_path / "data").rglob("*.*")) == []


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="it is no sentence-transformers model"):
        export_model(str(tmp_path / "empty"), data_dir=tmp_path / "data")


def test_a_bad_export_does_not_take_the_place_of_a_good_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_model(str(tiny), data_dir=tmp_path).embeddings.folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    bad = Quality(sentences=98, cosine_min=0.2, cosine_median=0.99, neighbours=0.95)
    monkeypatch.setattr(onnx_export, "compare", lambda *_: bad)
    with pytest.raises(ConfigurationError, match=r"too far from it .*lowest 0.2000"):
        export_model(str(tiny), data_dir=tmp_path, again=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_leaves_the_old_one(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_model(str(tiny), data_dir=tmp_path).embeddings.folder

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(StoreError, match=r"could not be written .*No space left"):
            export_model(str(tiny), data_dir=tmp_path, again=True)
    assert names(folder) == whole(folder)
    assert OnnxEmbeddings(folder).verify().acceptable


def test_a_place_that_is_a_file_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written to"):
        export_model(str(tiny), data_dir=tmp_path / "data")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else real(name, *rest))
    with pytest.raises(MissingDependencyError, match=r'needs onnx: pip install "langchain-tokopt\[onnx-export\]"'):
        export_model(data_dir=tmp_path)


def test_leftovers_are_swept_when_they_are_old(tiny: Path, tmp_path: Path) -> None:
    folder = export_folder(tmp_path, tiny.name, weights_digest(tiny))
    folder.mkdir(parents=True)
    (folder / ".export-dead").mkdir()
    for name in (".export-dead/graph.onnx", "model-old.onnx", "model-new.onnx", "notes.txt"):
        (folder / name).write_text("x")
    for name in (".export-dead", "model-old.onnx", "notes.txt"):
        os.utime(folder / name, (time.time() - 7200,) * 2)
    export_model(str(tiny), data_dir=tmp_path)
    assert names(folder) == whole(folder) | {"model-new.onnx", "notes.txt"}


def test_two_processes_that_export_at_once_do_no_harm(tiny: Path, tmp_path: Path) -> None:
    program = (
        "import sys, torch, sentence_transformers; from langchain_tokopt.onnx_export import export_model;"
        "print('ready', flush=True); sys.stdin.readline();"
        "export_model(sys.argv[1], data_dir=sys.argv[2], again=True)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tiny), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        export_model(str(tiny), data_dir=tmp_path, again=True)
        assert other.wait(120) == 0
    folder = export_folder(tmp_path, tiny.name, weights_digest(tiny))
    assert names(folder) == whole(folder)
    assert OnnxEmbeddings(folder).verify().acceptable
