"""Finds tiktoken's encodings: which one a model uses, and whether its file is on this machine."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from langchain_tokopt.estimate import Encoding

if TYPE_CHECKING:
    import tiktoken

# Where tiktoken fetches its rank files from, and their SHA-256; both as in tiktoken_ext/openai_public.py.
_FILES: Final[dict[Encoding, tuple[str, str]]] = {
    "cl100k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}
_OPENAI: Final = re.compile(r"(?:^|[/:.])(?:ft:)?(?:(?:chat)?gpt-|o[1-9]\b|codex|davinci|text-embedding)")
_O200K: Final = re.compile(
    r"(?:^|[/:.])(?:ft:)?(?:(?:chat)?gpt-(?:4o|4\.[1-9]|[5-9]|\d\d|[a-z])|o[1-9]\b|codex)",
)


@functools.lru_cache(maxsize=1024)
def is_openai(model: str | None) -> bool:
    """Whether the name is that of one of OpenAI's models, wherever it is served."""
    return model is not None and _OPENAI.search(model.lower()) is not None


@functools.lru_cache(maxsize=1024)
def encoding_of(model: str | None) -> Encoding:
    """The encoding that counts a model's tokens.

    Exact for OpenAI's models; for the models of others, whose tokenizers are not public, an approximation.
    """
    return "o200k_base" if model is not None and _O200K.search(model.lower()) else "cl100k_base"


def load(encoding: Encoding, *, download: bool) -> tiktoken.Encoding | None:
    """tiktoken's encoding, or `None` when its file is not on this machine and may not be fetched."""
    if not download and not _on_disk(encoding):
        return None
    try:
        import tiktoken
    except ImportError:
        return None
    try:
        return tiktoken.get_encoding(encoding)
    except Exception:  # no network, a read-only folder: counting goes on with the estimate
        return None


def _on_disk(encoding: Encoding) -> bool:
    """Whether tiktoken would find the whole file; it would fetch one with another content again."""
    url, sha256 = _FILES[encoding]
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    if not folder:
        return False  # an empty name turns tiktoken's cache off
    file = Path(folder) / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
