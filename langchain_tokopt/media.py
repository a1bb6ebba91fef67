"""Tokens of images, files, sound and film: rules of thumb of the providers, never the characters of their base64."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

Kind = Literal["image", "audio", "video", "document"]

_KINDS: Final[dict[str, Kind]] = {
    "image": "image",
    "image_url": "image",
    "image_file": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "file": "document",
    "input_file": "document",
    "document": "document",
    "media": "document",
}

# A 1024 x 1024 image in high detail; 85 in low detail. https://developers.openai.com/api/docs/guides/images-vision
_IMAGE_OPENAI: Final = 765
_IMAGE_LOW_DETAIL: Final = 85
# The largest image that is not scaled down (width x height / 750 at 1.15 megapixels).
# https://platform.claude.com/docs/en/build-with-claude/vision
_IMAGE_CLAUDE: Final = 1600
# One tile of up to 768 x 768. https://ai.google.dev/gemini-api/docs/tokens
_IMAGE_GEMINI: Final = 258
# https://ai.google.dev/gemini-api/docs/tokens: 32 a second of sound (OpenAI: 10) and 263 a second of film.
_PER_SECOND: Final[dict[Kind, int]] = {"audio": 32, "video": 295}
_BYTES_PER_SECOND: Final[dict[Kind, int]] = {"audio": 16_000, "video": 250_000}  # 128 kbit/s, 2 Mbit/s
# 1,500 to 3,000 tokens of text a page, and its image. https://platform.claude.com/docs/en/build-with-claude/pdf-support
_PER_PAGE: Final = 2000
_BYTES_PER_PAGE: Final = 50_000
_BYTES_PER_TOKEN: Final = 4

_DATA_URL: Final = re.compile(r"data:([\w.+/-]*)(?:;[\w=.-]*)*;base64,")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
_LONG: Final = 512


def is_media(block: Mapping[str, Any]) -> bool:
    """Whether a content block is an image, a file, sound or film."""
    kind = block.get("type")
    return isinstance(kind, str) and kind in _KINDS


def media_tokens(block: Mapping[str, Any], model: str | None) -> int:
    """About how many tokens a block of media has. Sizes are told from the base64, a link counts as one page."""
    mime, size = _payload(block)
    kind = _kind(block, mime)
    if kind == "image":
        return _image_tokens(block, model)
    if kind == "document":
        if mime.startswith("text/") or mime in ("application/json", "application/xml"):
            return max(1, size // _BYTES_PER_TOKEN)
        return max(1, round(size / _BYTES_PER_PAGE)) * _PER_PAGE
    return max(1, size // _BYTES_PER_SECOND[kind]) * _PER_SECOND[kind]


def opaque_tokens(characters: int) -> int:
    """About how many tokens stand behind so many characters of base64 or of something encrypted."""
    return max(1, characters * 3 // 4 // _BYTES_PER_TOKEN)


def is_base64(text: str) -> bool:
    """Whether a text is long and looks like base64."""
    if len(text) < _LONG:
        return False
    if text.startswith("data:") and _DATA_URL.match(text):
        return True
    # Prose has a space every few characters; base64 has at most line ends.
    return " " not in text[:_LONG] and _BASE64.fullmatch(text) is not None


def _kind(block: Mapping[str, Any], mime: str) -> Kind:
    family = mime.partition("/")[0]
    if family in ("image", "audio", "video"):
        return family  # type: ignore[return-value]  # one of the three
    return _KINDS[block["type"]]


def _image_tokens(block: Mapping[str, Any], model: str | None) -> int:
    image = block.get("image_url")
    detail = image.get("detail") if isinstance(image, Mapping) else block.get("detail")
    if detail == "low":
        return _IMAGE_LOW_DETAIL
    name = (model or "").lower()
    if "claude" in name:
        return _IMAGE_CLAUDE
    return _IMAGE_GEMINI if "gemini" in name else _IMAGE_OPENAI


def _payload(block: Mapping[str, Any]) -> tuple[str, int]:
    """MIME type and size in bytes of what a block carries, in the form of any provider; 0 for a link."""
    mime, size = "", 0
    waiting: list[Any] = [block]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            mime = mime or next((str(value[key]) for key in ("mime_type", "media_type") if value.get(key)), "")
            # `image` and `document` are Bedrock's; the others are blocks within blocks.
            inner = (
                "data",
                "base64",
                "file_data",
                "bytes",
                "source",
                "image_url",
                "input_audio",
                "file",
                "image",
                "url",
            )
            waiting += [value[key] for key in (*inner, "document", "video", "audio") if value.get(key)]
        elif isinstance(value, (bytes, bytearray)):
            size = max(size, len(value))
        elif isinstance(value, str):
            header = _DATA_URL.match(value)
            if header:
                mime = mime or header[1]
                size = max(size, (len(value) - header.end()) * 3 // 4)
            elif not value.startswith(("http:", "https:", "gs:", "s3:", "file-", "file:")):
                size = max(size, len(value) * 3 // 4)
    return mime.lower(), size
