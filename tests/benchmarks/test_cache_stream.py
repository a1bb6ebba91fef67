from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cache_stream
from benchmarks.cache_stream import Row, Run, static

METHODS = {"static@0.8", "static@0.95", "ours@0.01", "ours@0.02"}


def run(out: Path, *arguments: str) -> dict[tuple[str, str, object], dict[str, float]]:
    assert cache_stream.main(["--embeddings", "hash", "--json", str(out), *arguments]) == 0
    result = json.loads(out.read_text())
    assert result["program"] == "cache_stream"
    return {(row["method"], row["metric"], row["at"]): row for row in result["rows"]}


def test_reports_every_figure_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path / "rows.json", "--thresholds", "0.8", "0.95")
    assert {method for method, _, _ in found} == METHODS
    count = len(cache_stream.SAMPLE.read_text().splitlines())
    assert 60 <= count <= 80
    for method in METHODS:
        rates = {metric: found[method, metric, None] for metric in ("hit_rate", "error_rate", "audit_rate")}
        assert 0 <= rates["error_rate"]["value"] <= rates["hit_rate"]["value"] <= 1
        assert rates["error_rate"]["low"] <= rates["error_rate"]["value"] <= rates["error_rate"]["high"]
        saved = rates["hit_rate"]["value"] - rates["audit_rate"]["value"]
        assert found[method, "saved_rate", None]["value"] == pytest.approx(saved)
        assert found[method, "hit_rate_by", count] == {**rates["hit_rate"], "metric": "hit_rate_by", "at": count}
        assert found[method, "error_rate_by", count]["value"] == rates["error_rate"]["value"]
        assert (method, "worst_error_rate", None) not in found  # too short a stream to say so
    assert found["static@0.8", "hit_rate", None]["value"] >= found["static@0.95", "hit_rate", None]["value"]
    # A cold cache is still watching: it takes longer than the sample to know what may be served.
    assert found["ours@0.01", "hit_rate", None]["value"] == found["ours@0.01", "audit_rate", None]["value"] == 0
    assert f"stream.jsonl, {count} requests" in capsys.readouterr().out


def test_the_sample_is_of_a_dozen_labels_with_no_question_twice() -> None:
    rows = [json.loads(line) for line in cache_stream.SAMPLE.read_text().splitlines()]
    assert {row.keys() == {"text", "label"} for row in rows} == {True}
    assert len({row["label"] for row in rows}) == 12
    assert len({row["text"].casefold() for row in rows}) == len(rows)


def test_ours_serves_once_it_has_seen_enough_and_stays_within_the_bound(tmp_path: Path) -> None:
    # Ten labels, each with a direction of its own, and every question a little off it.
    random = np.random.default_rng(0)
    words = ("harbour", "violin", "cactus", "glacier", "lantern", "meadow", "pepper", "saddle", "tunnel", "velvet")
    centres = np.eye(len(words), 48)
    texts, vectors, lines = [], [], []
    for number in range(500):
        label = int(random.integers(len(words)))
        text = f"please tell me about the {words[label]} {'o' * (number % 25 + 1)}h {'a' * (number // 25)}h"
        vector = centres[label] + 0.05 * random.normal(size=48)
        texts.append(text)
        vectors.append(vector / np.linalg.norm(vector))
        lines.append(json.dumps({"text": text, "label": words[label]}))
    data, table = tmp_path / "stream.jsonl.gz", tmp_path / "table.npz"
    data.write_bytes(gzip.compress("\n".join(lines).encode()))
    np.savez(table, texts=np.array(texts), vectors=np.array(vectors, np.float32))
    out = tmp_path / "rows.json"
    arguments = ["--data", str(data), "--embeddings", "table", "--table", str(table), "--json", str(out)]
    assert cache_stream.main([*arguments, "--bounds", "0.02", "--thresholds"]) == 0
    found = {(row["metric"], row["at"]): row["value"] for row in json.loads(out.read_text())["rows"]}
    assert found["hit_rate_by", 125] == 0
    assert found["hit_rate", None] > 0.3
    assert found["error_rate", None] <= 0.02
    assert 0 < found["audit_rate", None] < found["hit_rate", None]


def test_several_seeds_are_several_streams(tmp_path: Path) -> None:
    arguments = ["--thresholds", "0.8", "--bounds", "0.02", "--seed", "1", "2", "--requests", "30"]
    found = run(tmp_path / "rows.json", *arguments)
    methods = {f"{way} seed {seed}" for way in ("static@0.8", "ours@0.02") for seed in (1, 2)}
    assert {method for method, _, _ in found} == methods
    assert {at for _, metric, at in found if metric == "hit_rate_by"} >= {30}


def test_a_stream_is_in_an_order_of_its_seed() -> None:
    one, again, other = (cache_stream.read_stream(cache_stream.SAMPLE, 20, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one) == 20


def test_static_figures_are_exact() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.8, 0.6], "c": [0.0, 1.0], "d": [0.6, 0.8]}
    known = {text: np.array(vector, np.float32) for text, vector in vectors.items()}
    rows = [Row("a", "x"), Row("b", "x"), Row("c", "y"), Row("d", "x")]
    # b is served by a (0.8), c is stored (0.6 to b, which is not), d is nearest to c (0.8) and gets its answer.
    found = static(rows, known, 0.79)
    assert (found.served, found.wrong) == ([False, True, False, True], [False, False, False, True])
    assert static(rows, known, 0.97).served == [False] * 4


def test_measures_are_exact() -> None:
    found = Run()
    found.add(served=False)
    found.add(served=True, audited=True)
    found.add(served=True, wrong=True)
    found.add(served=True)
    measures = {(row.metric, row.at): row for row in found.measures("m")}
    assert measures["hit_rate", None].value == 0.75
    assert measures["error_rate", None].value == 0.25
    assert measures["audit_rate", None].value == 0.25
    assert measures["saved_rate", None].value == 0.5
    assert [measures["hit_rate_by", at].value for at in (1, 2, 3, 4)] == [0.0, 0.5, 2 / 3, 0.75]
    assert [measures["error_rate_by", at].value for at in (1, 2, 3, 4)] == [0.0, 0.0, 1 / 3, 0.25]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (['{"text": "x", "label": "y"}', "{"], "line 2"),
        (['{"text": "x"}'], "line 1"),
        (["[]"], "line 1"),
        (["3"], "line 1"),
        ([], "there are no rows"),
    ],
)
def test_data_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], told: str
) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text("\n".join(lines))
    assert cache_stream.main(["--data", str(path), "--embeddings", "hash"]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache_stream.main(["--data", str(tmp_path / "none.jsonl"), "--embeddings", "hash"]) == 2
    assert "none.jsonl" in capsys.readouterr().err
