from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import overhead


def test_publishes_a_table_and_tidy_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert overhead.main(["--sizes", "300/5", "--calls", "3", "--json", str(out)]) == 0
    assert "added_p50_ms" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert (result["program"], result["data"]) == ("overhead", "made here")
    found = [(row["method"], row["metric"], row["at"]) for row in result["rows"]]
    assert found == [(m, k, "300/5") for m in ("sync", "async") for k in ("added_p50_ms", "added_p95_ms")]
    assert all(row["value"] > 0 for row in result["rows"])


def test_every_call_is_a_miss_and_keeps_its_size() -> None:
    turns = overhead.requests(overhead.TokenCounter(), 300, 5, 4, seed=0)
    assert len({turn.messages[-1].text for turn in turns}) == 4
    assert len({len(turn.messages) for turn in turns}) == 1
    assert [len(turn.tools) for turn in turns] == [5] * 4
