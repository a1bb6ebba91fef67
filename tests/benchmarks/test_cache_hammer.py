"""A short version of the hammer, on every database that processes can share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cache_hammer import main
from tests.databases import database_url


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_nothing_is_lost_or_mixed_up(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    with database_url(kind, tmp_path) as url:
        assert url is not None
        sizes = ["--seconds", "1.5", "--threads", "4", "--processes", "2"]
        code = main([*sizes, "--database", url, "--json", str(out)])
    assert (code, capsys.readouterr().err) == (0, "")
    rows = {row["metric"]: row["value"] for row in json.loads(out.read_text())["rows"]}
    assert [rows[name] for name in ("error", "foreign", "lost", "unequal")] == [0, 0, 0, 0]
    assert rows["kept"] > 0
