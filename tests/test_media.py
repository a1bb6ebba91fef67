import base64
from typing import Any

import pytest

from langchain_tokopt.media import is_base64, is_media, media_tokens, opaque_tokens

BYTES = base64.b64encode(bytes(range(256)) * 400).decode()  # 100 kB


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": BYTES, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": "https://a.test/x.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BYTES}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{BYTES}"},
        {"type": "input_image", "image_url": "https://a.test/x.png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": BYTES}},
        {"type": "media", "mime_type": "image/png", "data": BYTES},
        {"type": "file", "mime_type": "image/webp", "base64": BYTES},
    ],
)
def test_images_count_by_the_rule_of_the_provider(block: dict[str, Any]) -> None:
    assert is_media(block)
    assert media_tokens(block, None) == 765
    assert media_tokens(block, "gpt-4o") == 765
    assert media_tokens(block, "us.anthropic.claude-sonnet-4-5-20250929-v1:0") == 1600
    assert media_tokens(block, "gemini-2.5-pro") == 258


def test_image_in_low_detail() -> None:
    assert media_tokens({"type": "image_url", "image_url": {"url": "https://a.test", "detail": "low"}}, "gpt-4o") == 85


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "base64": BYTES, "mime_type": "application/pdf"},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BYTES}", "filename": "a.pdf"}},
        {"type": "input_file", "file_data": f"data:application/pdf;base64,{BYTES}"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BYTES}},
        {"type": "document", "document": {"format": "pdf", "name": "a", "source": {"bytes": bytes(100_000)}}},
    ],
)
def test_documents_count_by_their_size(block: dict[str, Any]) -> None:
    assert media_tokens(block, "gpt-4o") == 4000  # 100 kB: two pages


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        ({"type": "file", "file_id": "file-123"}, 2000),
        ({"type": "document", "source": {"type": "url", "url": "https://a.test/x.pdf"}}, 2000),
        ({"type": "file", "base64": BYTES, "mime_type": "text/csv"}, 25_600),
        ({"type": "audio", "base64": BYTES, "mime_type": "audio/mp3"}, 192),
        ({"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}}, 192),
        ({"type": "video", "base64": BYTES, "mime_type": "video/mp4"}, 295),
    ],
)
def test_other_media(block: dict[str, Any], tokens: int) -> None:
    assert media_tokens(block, "gpt-4o") == tokens


@pytest.mark.parametrize("block", [{"type": "text", "text": "x"}, {"type": "thinking"}, {}])
def test_what_is_no_media(block: dict[str, Any]) -> None:
    assert not is_media(block)


def test_base64_is_told_from_text() -> None:
    assert is_base64(BYTES)
    assert is_base64(f"data:image/png;base64,{BYTES}")
    assert is_base64("\n".join(BYTES[at : at + 76] for at in range(0, 2000, 76)))
    assert not is_base64(BYTES[:100])
    assert not is_base64("word " * 500)
    assert not is_base64("https://example.com/a?b=c&" * 100)


def test_what_is_encrypted_counts_by_its_size() -> None:
    assert opaque_tokens(1600) == 300
    assert opaque_tokens(1) == 1
