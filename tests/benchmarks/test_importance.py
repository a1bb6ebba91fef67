"""The benchmark of message importance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from benchmarks.importance import Judged, at_level, auc, average_precision, main, uses

SAMPLES = Path(__file__).parents[2] / "benchmarks" / "samples"


def test_auc_is_the_share_of_pairs_in_order() -> None:
    assert auc([3, 2, 1, 0], [True, True, False, False]) == 1.0
    assert auc([0, 1, 1, 2], [True, True, False, False]) == 0.125
    assert auc([1, 1], [True, False]) == 0.5
    assert auc([1, 2], [False, False]) == 0.5


def test_average_precision_takes_equal_scores_together() -> None:
    assert average_precision([3, 2, 1], [True, False, True]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([1, 1], [True, False]) == 0.5
    assert average_precision([1], [False]) == 0.0


def test_baselines_take_as_many_as_the_classifier() -> None:
    judged = Judged()
    for age, (level, needed) in enumerate([("critical", True), ("background", True), ("important", False)]):
        judged.add(HumanMessage("x"), age, level, 1.0 - age / 10, needed=needed)
    ours = {row.metric: row.value for row in at_level(judged, "ours", "important")}
    recency = {row.metric: row.value for row in at_level(judged, "recency", "important")}
    assert ours == pytest.approx({"share": 2 / 3, "precision": 0.5, "recall": 0.5, "accuracy": 1 / 3})
    assert recency == pytest.approx({"share": 2 / 3, "precision": 1.0, "recall": 1.0, "accuracy": 1.0})


def test_a_use_belongs_to_the_result_that_had_the_identifier_first() -> None:
    def calling(number: int, path: str) -> AIMessage:
        return AIMessage("", tool_calls=[{"name": "read", "args": {"path": path}, "id": f"c{number}"}])

    messages = [
        HumanMessage("Look at src/known.py"),
        calling(1, "src"),
        ToolMessage("src/known.py src/found.py", tool_call_id="c1"),
        calling(2, "src/found.py"),
        ToolMessage("see src/found.py", tool_call_id="c2"),
        calling(3, "src/found.py src/known.py"),
    ]
    assert list(uses(messages)) == [(3, 2, True), (5, 2, False)]


@pytest.mark.parametrize(
    ("sample", "at"),
    [("history.jsonl", ["any question", "question"]), ("agent_runs.jsonl", ["later calls", "first uses"])],
)
def test_samples_are_judged(sample: str, at: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["--data", str(SAMPLES / sample), "--every", "1", "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["program"] == "importance"
    found = {(row["method"], row["at"]): row["value"] for row in written["rows"] if row["metric"] == "auc"}
    assert set(found) == {(method, name) for method in ("recency", "role", "ours") for name in at}
    assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize(
    "content", ["", "{}\n", "no json\n", '{"id": "a", "messages": 3}\n', '{"id": "a", "messages": [{}]}\n']
)
def test_data_of_another_form_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    assert main(["--data", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
