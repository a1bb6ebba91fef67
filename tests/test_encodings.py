import hashlib
from pathlib import Path

import pytest
import tiktoken

from langchain_tokopt import encodings
from langchain_tokopt.encodings import encoding_of, is_openai, load


@pytest.mark.parametrize(
    ("model", "encoding", "openai"),
    [
        ("gpt-4o-mini", "o200k_base", True),
        ("gpt-4.1", "o200k_base", True),
        ("gpt-5.6-sol", "o200k_base", True),
        ("gpt-6-luna", "o200k_base", True),
        ("gpt-10", "o200k_base", True),
        ("o3-mini", "o200k_base", True),
        ("chatgpt-4o-latest", "o200k_base", True),
        ("gpt-oss-120b", "o200k_base", True),
        ("ft:gpt-4o-2024-08-06:acme::x", "o200k_base", True),
        ("openai/gpt-5", "o200k_base", True),
        ("global.openai.gpt-6-sol", "o200k_base", True),
        ("gpt-4", "cl100k_base", True),
        ("gpt-4-turbo-2024-04-09", "cl100k_base", True),
        ("gpt-3.5-turbo", "cl100k_base", True),
        ("claude-opus-4-1", "cl100k_base", False),
        ("gemini-2.5-pro", "cl100k_base", False),
        ("llama-3.3-70b", "cl100k_base", False),
        ("solar-pro1", "cl100k_base", False),
        (None, "cl100k_base", False),
    ],
)
def test_encoding_by_model_name(model: str | None, encoding: str, openai: bool) -> None:
    assert encoding_of(model) == encoding
    assert is_openai(model) is openai


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where cl100k's file would be; a small one is taken for the whole."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    monkeypatch.setitem(encodings._FILES, "cl100k_base", (url, hashlib.sha256(b"ranks").hexdigest()))
    return tmp_path / hashlib.sha1(url.encode()).hexdigest()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    """An encoding that tiktoken has in memory, so that it needs no file."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("tiny", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", encoding)
    return encoding


def test_without_the_file_nothing_is_loaded(file: Path) -> None:
    assert not file.exists()
    assert load("cl100k_base", download=False) is None


def test_with_the_file_the_encoding_is_loaded(file: Path, tiny: tiktoken.Encoding) -> None:
    file.write_bytes(b"ranks")
    assert load("cl100k_base", download=False) is tiny


def test_broken_file_is_not_used_and_not_removed(file: Path) -> None:
    file.write_bytes(b"half of the ra")
    assert load("cl100k_base", download=False) is None
    assert file.read_bytes() == b"half of the ra"


def test_download_is_left_to_tiktoken_when_it_is_allowed(file: Path, tiny: tiktoken.Encoding) -> None:
    assert load("cl100k_base", download=True) is tiny
    assert not file.exists()


def test_older_name_of_the_folder_is_honoured(
    file: Path, tiny: tiktoken.Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(b"ranks")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(file.parent))
    assert load("cl100k_base", download=False) is tiny


def test_default_folder_of_tiktoken(file: Path, tiny: tiktoken.Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(file.parent))
    assert load("cl100k_base", download=False) is None
    (file.parent / "data-gym-cache").mkdir()
    (file.parent / "data-gym-cache" / file.name).write_bytes(b"ranks")
    assert load("cl100k_base", download=False) is tiny


def test_cache_that_is_turned_off_has_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(b"ranks")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert load("cl100k_base", download=False) is None


def test_failing_download_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", fail)
    assert load("cl100k_base", download=True) is None
    assert not file.exists()
