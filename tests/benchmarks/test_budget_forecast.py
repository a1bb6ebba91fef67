from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import budget_forecast

SAMPLE = Path(budget_forecast.__file__).parent / "samples" / "spending.jsonl"
METHODS = ["seasonal_naive", "seasonal_median", "smoothing", "damped_trend", "linear", "moving_average", "combined"]


def rows(out: Path) -> dict[tuple[str, str, str], float]:
    return {(row["method"], row["metric"], row["at"]): row["value"] for row in json.loads(out.read_text())["rows"]}


def test_publishes_a_table_and_tidy_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert budget_forecast.main(["--kinds", "weekly", "hours", "--series", "1", "--json", str(out)]) == 0
    assert "budget_forecast on made here" in capsys.readouterr().out
    found = rows(out)
    assert {at for _, metric, at in found if metric == "total_error"} == {
        *(f"weekly/{ahead}" for ahead in (1, 7, 14, 30)),
        *(f"mean/{ahead}" for ahead in (1, 7, 14, 30)),
        "hours/6",
        "hours/24",
    }
    assert [method for method, metric, at in found if (metric, at) == ("total_error", "weekly/7")] == [*METHODS, "ours"]
    assert {metric for method, metric, _ in found if method == "ours"} == {
        "total_error",
        "daily_error",
        "of_best",
        "coverage",
        "width",
    }
    assert all(0 <= value <= 1 for (_, metric, _), value in found.items() if metric == "coverage")


def test_reads_series_of_ones_own(tmp_path: Path) -> None:
    file, out = tmp_path / "spending.jsonl", tmp_path / "rows.json"
    week = [5, 6, 5, 6, 5, 1, 0]
    file.write_text(json.dumps({"id": "a", "daily": week * 12}) + "\n\n" + json.dumps({"id": "b", "daily": [2] * 80}))
    assert budget_forecast.main(["--data", str(file), "--json", str(out)]) == 0
    found = rows(out)
    assert json.loads(out.read_text())["data"] == str(file)
    assert found["seasonal_naive", "total_error", "data/7"] == pytest.approx(0, abs=1e-9)
    assert found["ours", "total_error", "data/14"] < 0.1


def test_reads_its_sample(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert budget_forecast.main(["--data", str(SAMPLE), "--json", str(out)]) == 0
    assert {at for _, metric, at in rows(out) if metric == "coverage"} >= {"data", "all", "history:84"}


def test_series_are_the_same_for_the_same_seed() -> None:
    for kind in budget_forecast.KINDS:
        first, again, other = (budget_forecast.made(kind, seed) for seed in (1, 1, 2))
        assert np.array_equal(first, again), kind
        assert not np.array_equal(first, other), kind
        assert len(first) == (672 if kind == "hours" else budget_forecast.DAYS), kind
        assert (first >= 0).all(), kind
        assert first.any(), kind


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not"),
        ("[]", "not"),
        ('{"id": "a"}', "not"),
        ('{"daily": [1]}', "not"),
        ('{"id": "a", "daily": ["x"]}', "not"),
        ('{"id": "a", "daily": [1, -1]}', "negative"),
        ('{"id": "a", "daily": [0, 0]}', "all 0"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "spending.jsonl"
    file.write_text(f'{{"id": "a", "daily": [1, 2, 3]}}\n\n{line}\n')
    with pytest.raises(SystemExit, match=rf"spending\.jsonl, line 3: .*{said}"):
        budget_forecast.main(["--data", str(file)])
