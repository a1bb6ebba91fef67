from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import cache_prediction


def test_publishes_a_table_and_tidy_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert cache_prediction.main(["--requests", "200", "--kinds", "order1", "shuffled", "--json", str(out)]) == 0
    assert "next_in_top1" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert {row["at"] for row in rows} == {"order1", "shuffled"}
    assert {row["metric"] for row in rows if row["method"] == "ours"} >= {"next_in_top3", "net_usd", "asked_p50_us"}


def test_the_same_questions_come_shuffled() -> None:
    one, other = (list(cache_prediction.stream(kind, 500, 3)) for kind in ("order1", "shuffled"))
    assert [user for user, _ in one] == [user for user, _ in other]
    assert Counter(question for _, question in one) == Counter(question for _, question in other)
    assert one != other
    assert one == list(cache_prediction.stream("order1", 500, 3))
