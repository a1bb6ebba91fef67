from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks import cache_eviction
from langchain_tokopt.cache.eviction import POLICIES, Access, Limits

SAMPLE = Path(cache_eviction.__file__).parent / "samples" / "trace.jsonl"
METHODS = [*POLICIES, "bound"]


@pytest.mark.parametrize("how", [[], ["--store"], ["--rephrase"]])
def test_publishes_a_table_and_tidy_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: list[str]) -> None:
    out = tmp_path / "rows.json"
    assert cache_eviction.main(["--data", str(SAMPLE), "--shares", "0.2", "--json", str(out), *how]) == 0
    assert "hit_value" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert (result["program"], result["data"]) == ("cache_eviction", str(SAMPLE))
    found = {(row["method"], row["metric"], row["at"]): row["value"] for row in result["rows"]}
    assert list(found) == [(name, "hit_value", "trace/0.2") for name in METHODS] + [
        ("adaptive", "of_best", "trace/0.2")
    ]
    values = [found[name, "hit_value", "trace/0.2"] for name in METHODS]
    assert all(0 < value <= values[-1] <= 1 for value in values)


def test_traces_of_its_own_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, made in cache_eviction.MADE.items():
        first, again, other = (made(random.Random(seed), 600, 0.05) for seed in (1, 1, 2))
        assert first == again, name
        assert len(first) == 600, name
        assert [use.at for use in first] == sorted(use.at for use in first), name
        if name != "scans":
            assert len({use.key for use in first}) > 4, name
        assert first != other, name


def test_runs_on_traces_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    arguments = ["--traces", "circle", "--requests", "3000", "--seeds", "1", "--shares", "0.05", "--json", str(out)]
    assert cache_eviction.main(arguments) == 0
    rows = {row["method"]: row["value"] for row in json.loads(out.read_text())["rows"] if row["metric"] == "hit_value"}
    assert rows["adaptive"] > 2 * rows["lru"]


def test_nothing_saves_more_than_the_bound() -> None:
    trace = [Access(key=key, at=float(at)) for at, key in enumerate("abacabadabacaba")]
    assert cache_eviction.bound(Limits(entries=15), trace) == 15 - 4
    assert cache_eviction.bound(Limits(entries=1), trace) == pytest.approx(7 + 1 / 4)


@pytest.mark.parametrize("line", ["{", "[]", '{"key": "a"}', '{"key": "a", "bytes": "x", "usd": 1}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(f'{{"key": "a", "bytes": 1, "usd": 1}}\n\n{line}\n')
    with pytest.raises(SystemExit, match=r"trace\.jsonl, line 3: not"):
        cache_eviction.main(["--data", str(file)])
