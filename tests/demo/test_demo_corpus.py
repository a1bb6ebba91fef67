from __future__ import annotations

import os
from pathlib import Path

import pytest
from langchain_core.tools import ToolException

import langchain_tokopt
from langchain_tokopt.demo.corpus import Corpus, default_folder
from langchain_tokopt.errors import ConfigurationError
from tests.demo.folders import make_folder


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path / "missing", "no such folder"),
        (lambda path: _written(path / "file.txt", "text"), "it is a file"),
        (lambda path: path, "the folder holds no files"),
        (lambda path: _written(path / "picture.bin", b"\0\1\2").parent, "the folder holds no text file"),
    ],
)
def test_a_folder_that_cannot_be_asked_about_is_refused(tmp_path: Path, make: object, reason: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigurationError, match=reason):
        Corpus(make(tmp_path))


def _written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_hidden_files_caches_and_environments_are_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path)
    for folder in (".git", "__pycache__", "node_modules", "my.egg-info"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text("x")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / ".hidden").write_text("x")
    paths = [file.path for file in Corpus(tmp_path).files]
    assert paths == [
        "broken.py",
        "data/picture.bin",
        "data/sales.csv",
        "data/stock.json",
        "docs/copy.txt",
        "docs/guide.md",
        "docs/notes.txt",
        "settings.toml",
        "shop/__init__.py",
        "shop/items.py",
        "shop/prices.py",
    ]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("gr\u00fc\u00df".encode("utf-16"), "gr\u00fc\u00df"),
        ("\ufeffmark".encode(), "mark"),
        ("caf\u00e9 au lait, s'il vous pla\u00eet".encode("latin-1"), "caf\u00e9 au lait, s'il vous pla\u00eet"),
    ],
)
def test_text_is_read_in_its_encoding(tmp_path: Path, raw: bytes, text: str) -> None:
    (tmp_path / "file.txt").write_bytes(raw)
    assert Corpus(tmp_path).text("file.txt") == text


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    for name, content in (("a.txt", "one\ntwo\n"), ("b.txt", "one\ntwo"), ("c.txt", "\n")):
        (tmp_path / name).write_text(content)
    corpus = Corpus(tmp_path)
    assert [corpus.lines(name) for name in ("a.txt", "b.txt", "c.txt")] == [["one", "two"], ["one", "two"], [""]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "broken.py").chmod(0)
    assert "broken.py" not in [file.path for file in Corpus(tmp_path).files]


def test_a_file_that_went_away_is_a_clear_error(tmp_path: Path) -> None:
    corpus = Corpus(make_folder(tmp_path))
    (tmp_path / "docs" / "notes.txt").unlink()
    with pytest.raises(ToolException, match="cannot be read: No such file"):
        corpus.text("docs/notes.txt")


def test_the_default_folder_is_this_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = Path(langchain_tokopt.__file__).parent
    assert default_folder() in (package, package.parent)
    from langchain_tokopt.demo import corpus

    installed = tmp_path / "site-packages" / "langchain_tokopt" / "demo" / "corpus.py"
    monkeypatch.setattr(corpus, "__file__", str(installed))
    assert default_folder() == installed.parent.parent
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "pyproject.toml").write_text("")
    assert default_folder() == installed.parent.parent
    (tmp_path / "site-packages" / ".git").mkdir()
    assert default_folder() == installed.parent.parent.parent
