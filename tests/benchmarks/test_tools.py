from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tools, tools_vectors
from benchmarks.rows import Measure
from benchmarks.tools_threads import Turn
from benchmarks.tools_vectors import KeptVectors
from langchain_tokopt.embeddings import MemoEmbeddings
from tests.fakes import TableEmbeddings

REGISTRY = tools.SAMPLES / "registry.jsonl"
METHODS = ("cosine", "bm25", "ours")

Figures = dict[tuple[str, str, Any], dict[str, float]]


def run(out: Path, *arguments: str) -> Figures:
    assert tools.main(["--embeddings", "hash", "--json", str(out), *arguments]) == 0
    result = json.loads(out.read_text())
    assert result["program"] == "tools"
    return {(row["method"], row["metric"], row["at"]): row for row in result["rows"]}


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reports_recall_and_schema_tokens_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path / "rows.json", "--only", "recall")
    for method in METHODS:
        recall = [found[method, "recall", k]["value"] for k in tools.KS]
        tokens = [found[method, "schema_tokens", k]["value"] for k in tools.KS]
        assert 0 < recall[0] <= recall[1] <= recall[2] <= recall[3] <= recall[4] <= 1
        assert tokens == sorted(tokens)
        assert tokens[-1] < found["everything", "schema_tokens", 60]["value"]
    assert found["ours", "recall", 10]["value"] > found["cosine", "recall", 10]["value"]
    assert "57 queries, 60 tools" in capsys.readouterr().out


def test_a_tool_that_is_named_is_found_first(tmp_path: Path) -> None:
    names = [json.loads(line)["name"] for line in REGISTRY.read_text().splitlines()]
    queries = [{"query": f"Please use {name} for this", "tools": [name]} for name in names]
    found = run(tmp_path / "rows.json", "--only", "recall", "--data", str(written(tmp_path / "q.jsonl", queries)))
    assert found["ours", "recall", 1]["value"] == 1.0


def test_all_of_a_query_s_tools_must_be_found() -> None:
    registry = [
        {"name": name, "description": text, "parameters": {"type": "object", "properties": {}}}
        for name, text in (("alpha", "first"), ("beta", "second"), ("gamma", "third"), ("delta", "fourth"))
    ]
    near = {"alpha: first": (1, 0), "beta: second": (0.8, 0.6), "gamma: third": (0.6, 0.8), "delta: fourth": (0, 1)}
    known = KeptVectors(MemoEmbeddings(TableEmbeddings({**near, "one": (1, 0), "two": (0, 1)})))
    turns = [Turn("one", ("alpha", "beta")), Turn("two", ("delta",))]
    found = {(row.method, row.metric, row.at): row.value for row in tools.recall(registry, [], turns, known)}
    assert [found["cosine", "recall", k] for k in (1, 3)] == [0.5, 1.0]
    assert found["cosine", "schema_tokens", 20] == found["everything", "schema_tokens", 4]
    assert found["cosine", "schema_tokens", 1] < found["cosine", "schema_tokens", 3]


def test_what_was_learned_moves_tools_up() -> None:
    registry = [
        {"name": name, "description": name, "parameters": {"type": "object", "properties": {}}}
        for name in ("alpha", "beta", "gamma", "delta")
    ]
    known = KeptVectors(MemoEmbeddings(TableEmbeddings({f"how cold is it {n}": (1, n / 100) for n in range(9)})))
    learn = [Turn(f"how cold is it {n}", ("gamma",)) for n in range(8)]
    measures = tools.recall(registry, learn, [Turn("how cold is it 8", ("gamma",))], known)
    found = {(row.method, row.metric, row.at): row.value for row in measures}
    assert found["ours+feedback", "recall", 1] == 1.0


def test_a_vector_that_the_table_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.npz"
    np.savez(table, texts=np.array(["something else"]), vectors=np.ones((1, 8), np.float32))
    assert tools.main(["--only", "recall", "--embeddings", "table", "--table", str(table)]) == 2
    assert "the table has no vector for 'Will it rain in Oslo tomorrow?'" in capsys.readouterr().err


def test_a_table_grows_by_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Counting(tools_vectors.HashEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            made.extend(texts)
            return super().embed_documents(texts)

    monkeypatch.setattr(tools_vectors, "MemoEmbeddings", lambda _: MemoEmbeddings(Counting()))
    table = tmp_path / "table.npz"
    arguments = ["--only", "recall", "--table", str(table)]
    assert tools.main(arguments) == 0
    first = len(made)
    assert first == len(set(made)) > 57
    assert tools.main(arguments) == 0
    assert len(made) == first
    assert tools.main([*arguments, "--embeddings", "table"]) == 0


def test_times_are_measured_by_number_of_tools(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.json", "--only", "speed", "--sizes", "40", "100")
    for size in (40, 100):
        for name in ("select", "rank"):
            p50, p95 = (found["ours", f"{name}_{percentile}_ms", size]["value"] for percentile in ("p50", "p95"))
            assert 0 < p50 <= p95


def test_a_registry_is_repeated_under_new_names() -> None:
    rows = tools.tools_speed.repeated([{"name": "a", "x": 1}, {"name": "b", "x": 2}], 5)
    assert [(row["name"], row["x"]) for row in rows] == [("a", 1), ("b", 2), ("a_1", 1), ("b_1", 2), ("a_2", 1)]


def test_dialogs_are_learned_from_whole_and_others_are_scored() -> None:
    turns = [
        Turn("a", ("x",), "one"),
        Turn("b", ("x",), "two"),
        Turn("c", ("x",), "one"),
        Turn("d", ("x",)),
        Turn("e", ("x",), "two"),
    ]
    splits = [tools.divided(turns, 1, seed) for seed in range(20)]
    assert {"".join(turn.text for turn in learned) for learned, _ in splits} == {"ac", "be", "d"}
    for learned, scored in splits:
        assert [turn for turn in turns if turn not in learned] == scored
    assert tools.divided(turns, 0, 0) == ([], turns)


def test_several_runs_are_pooled_with_their_range() -> None:
    one, two = [Measure("m", "recall", 5, 0.5)], [Measure("m", "recall", 5, 1.0)]
    assert tools.pooled([one]) == one
    assert tools.pooled([one, two]) == [Measure("m", "recall", 5, 0.75, 0.5, 1.0)]


def test_a_peer_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "langgraph_bigtool.tools", None)
    found = run(tmp_path / "rows.json", "--only", "recall")
    assert not [method for method, _, _ in found if method == "langgraph-bigtool"]
    assert "langgraph-bigtool is not installed" in capsys.readouterr().err


def test_the_peer_ranks_by_its_own_search(tmp_path: Path) -> None:
    pytest.importorskip("langgraph_bigtool")
    found = run(tmp_path / "rows.json", "--only", "recall")
    # The same embedder over almost the same text.
    theirs, cosine = (found[method, "recall", 10]["value"] for method in ("langgraph-bigtool", "cosine"))
    assert theirs == pytest.approx(cosine, abs=0.1)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"query": "x", "tools": ["get_weather"]}, {"query": "y"}], "line 2"),
        ([{"query": "x", "tools": "get_weather"}], "line 1"),
        ([{"query": "x", "tools": ["no_such_tool"]}], "no_such_tool"),
        ([{"query": "x", "tools": []}], "no tool"),
        ([], "there are no rows"),
    ],
)
def test_data_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], told: str
) -> None:
    assert tools.main(["--embeddings", "hash", "--data", str(written(tmp_path / "q.jsonl", rows))]) == 2
    assert told in capsys.readouterr().err


def test_feedback_that_leaves_nothing_to_score_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(["--embeddings", "hash", "--only", "recall", "--feedback", "1000"]) == 2
    assert "--feedback 1000" in capsys.readouterr().err


def test_each_question_is_embedded_in_each_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Counting(tools_vectors.HashEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            asked.append(text)
            return super().embed_query(text)

    monkeypatch.setattr(tools_vectors, "HashEmbeddings", Counting)
    monkeypatch.setattr(tools, "_TIMED", 10)
    monkeypatch.setitem(sys.modules, "langgraph_bigtool.tools", None)
    run(tmp_path / "rows.json", "--only", "speed", "--sizes", "40", "50")
    assert len(set(asked)) == 10
    assert {text: asked.count(text) for text in set(asked)} == dict.fromkeys(asked, 2)
