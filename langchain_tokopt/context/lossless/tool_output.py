"""A tool's text with fewer tokens and the same meaning, looking at nothing but the text itself.

What goes, byte by byte:

- terminal control sequences: colours, cursor moves, window titles (not hyperlinks, which hold an address; nothing in a
  diff, where colour may be the only sign of what changed);
- what a carriage return wrote over on its own line: of a progress bar its last state stays;
- in prose, logs and listings, never in code or diffs: spaces and tabs (and the `\\r` of a `\\r\\n`) at the ends of
  lines, blank lines beyond one in a row, blank lines at the start and the end.

Leading indentation, numbers and every other character stay. Long rulers (`=====`) stay too: a tokenizer has one token
for 64 of them. JSON has its own module.
"""

from __future__ import annotations

import re

from langchain_tokopt.context.lossless.json_shapes import looks_like_json, shorter_json
from langchain_tokopt.context.lossless.size import Size

# ECMA-48: CSI sequences; OSC 0-2 (titles); other two-character escapes except OSC, DCS, SOS, PM and APC strings.
_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][012];[^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-OQ-WYZ\\]|[()][0-9A-Za-z])"
)
_DIFF = re.compile(r"^(?:diff --git |@@ -\d|\*\*\* \S|--- \S.*\n\+\+\+ \S)", re.MULTILINE)
_LISTING = re.compile(r"^[ \t]*\d+ ?[\t:|\u2192]", re.MULTILINE)
_INDENTED = re.compile(r"^(?: {2}|\t) *\S", re.MULTILINE)
_CODE_LINE = re.compile(
    r"^[ \t]*(?:(?:def|class|import|from|return|if|elif|else|for|while|try|except|with|func|fn|let|const|var|package"
    r"|using|public|private|protected|static|struct|enum|interface|export|impl|namespace|template|SELECT|INSERT)\b"
    r"|#!|#include|//|/\*|</?\w|@\w)|[{};][ \t\r]*$",
    re.MULTILINE,
)
_BLANK_RUN = re.compile(r"\n{3,}")


def shorter_text(text: str, size: Size, min_tokens: int, *, json: bool, whitespace: bool) -> tuple[str, str | None]:
    """The text in its shortest form and what was done to it ("json", "whitespace", `None` when nothing was won).

    `size` gives a text's tokens; a change has to save at least `min_tokens` and has to make the text shorter.
    """
    if looks_like_json(text):
        shape = shorter_json(text, size, min_tokens) if json else None
        if shape is not None:
            return shape, "json"
    if not whitespace:
        return text, None
    tidied = tidy(text)
    if not tidied or len(tidied) >= len(text) or size(text) - size(tidied) < min_tokens:
        return text, None
    return tidied, "whitespace"


def tidy(text: str) -> str:
    """The text as a terminal would show it at the end, without the whitespace that nobody sees."""
    tidied = _tidy_once(text)
    # What remains of broken escapes may join to a new one; such a text is left alone.
    return tidied if tidied == text or _tidy_once(tidied) == tidied else text


def _tidy_once(text: str) -> str:
    if "\x1b" in text and not _DIFF.search(text):
        text = _TERMINAL.sub("", text)
    if "\r" in text:
        text = "\n".join(_last_state(line) for line in text.split("\n"))
    if looks_like_code(text):
        return text
    # Not `[ \t\r]+$` as a pattern: that takes quadratic time on a long run of spaces.
    lines = "\n".join([line.rstrip(" \t\r") for line in text.split("\n")])
    return _BLANK_RUN.sub("\n\n", lines).strip("\n")


def _last_state(line: str) -> str:
    """The line after its carriage returns: each later part lies over what was there. A `\\r` before `\\n` stays."""
    body = line.rstrip("\r")
    if "\r" not in body:
        return line
    shown = ""
    for part in body.split("\r"):
        shown = part + shown[len(part) :]
    return shown + line[len(body) :]


def looks_like_code(text: str) -> bool:
    """Whether blank lines and line ends may matter: diffs, fenced blocks, numbered listings, source code, markup."""
    if "```" in text or _DIFF.search(text):
        return True
    lines = max(1, text.count("\n") + 1)
    if len(_LISTING.findall(text)) * 2 > lines or len(_INDENTED.findall(text)) * 3 > lines:
        return True
    return len(_CODE_LINE.findall(text)) * 8 > lines
