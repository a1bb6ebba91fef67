from __future__ import annotations

from pathlib import Path

import pytest

from langchain_tokopt.data_home import data_home


def test_the_variable_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKOPT_HOME", str(tmp_path))
    assert data_home() == tmp_path
    monkeypatch.setenv("TOKOPT_HOME", "~/there")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_home() == tmp_path / "there"


@pytest.mark.parametrize("value", ["", "  "])
def test_else_it_is_the_users_own(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKOPT_HOME", value)
    assert data_home().name == "tokopt"
    assert data_home().is_absolute()
