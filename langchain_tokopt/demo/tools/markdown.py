"""Tools that know Markdown: headings, sections, links, code blocks, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.tools.output import clipped

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\S*)")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)[^)]*\)")


@dataclass(frozen=True)
class Heading:
    """A heading; `line` counts from 1."""

    level: int
    title: str
    line: int


def headings(lines: list[str]) -> list[Heading]:
    """The headings of a Markdown text; lines inside code fences are none."""
    return [
        Heading(len(match[1]), match[2], number)
        for number, line, in_code in _marked(lines)
        if not in_code and (match := _HEADING.match(line))
    ]


def _marked(lines: list[str]) -> Iterator[tuple[int, str, bool]]:
    fence = ""
    for number, line in enumerate(lines, start=1):
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[1]
            yield number, line, True
        elif match and match[1].startswith(fence) and not match[2]:
            fence = ""
            yield number, line, True
        else:
            yield number, line, bool(fence)


class MarkdownTools:
    """What a Markdown file has, and where."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def outline(self, path: str) -> str:
        """List the headings of a Markdown file with their lines; gives path:line: heading.

        Args:
            path: The Markdown file.
        """
        located = self._corpus.locate(path)
        found = [f"{located}:{h.line}: {'#' * h.level} {h.title}" for h in headings(self._corpus.lines(path))]
        return clipped(found, 150) if found else f"{path} has no headings"

    def table_of_contents(self, path: str, depth: int = 3) -> str:
        """Write a table of contents of a Markdown file as a nested list of its headings.

        Args:
            path: The Markdown file.
            depth: The deepest level of headings to include.
        """
        found = [h for h in headings(self._corpus.lines(path)) if h.level <= depth]
        return clipped([f"{'  ' * (h.level - 1)}- {h.title}" for h in found], 150) if found else f"{path}: no headings"

    def section(self, path: str, heading: str) -> str:
        """Read the section of a Markdown file below a heading, up to the next heading of the same level, numbered.

        Args:
            path: The Markdown file.
            heading: The heading's text; case does not matter.
        """
        lines = self._corpus.lines(path)
        found = headings(lines)
        wanted = heading.strip().lstrip("#").strip().casefold()
        for place, start in enumerate(found):
            if start.title.casefold() == wanted:
                after = [h.line for h in found[place + 1 :] if h.level <= start.level]
                end = after[0] - 1 if after else len(lines)
                shown = [f"{n:>5}| {lines[n - 1]}" for n in range(start.line, end + 1)]
                return f"{self._corpus.locate(path)}, lines {start.line}-{end}\n" + clipped(shown, 200)
        raise ToolException(f"heading={heading!r} is not in {path}; use outline to see its headings")

    def find_headings(self, text: str, folder: str = ".") -> str:
        """Find Markdown headings that contain a text, in all files; gives path:line: heading.

        Args:
            text: The text to look for; case does not matter.
            folder: Where to look, "." for everywhere.
        """
        found = [
            f"{file.path}:{h.line}: {'#' * h.level} {h.title}"
            for file in self._corpus.under(folder, texts=True)
            if file.suffix in (".md", ".markdown")
            for h in headings(self._corpus.lines(file.path))
            if text.casefold() in h.title.casefold()
        ]
        return clipped(found, 60) if found else f"no heading contains {text!r}"

    def markdown_links(self, path: str) -> list[dict[str, Any]] | str:
        """List the links of a Markdown file: text, target, line.

        Args:
            path: The Markdown file.
        """
        found = [
            {"line": number, "text": text, "target": target}
            for number, line, in_code in _marked(self._corpus.lines(path))
            if not in_code
            for text, target in _LINK.findall(line)
        ]
        return found[:100] or f"{path} has no links"

    def code_blocks(self, path: str, language: str = "") -> str:
        """Show the fenced code blocks of a Markdown file with the lines they start on.

        Args:
            path: The Markdown file.
            language: Only blocks in this language, such as "python"; "" for all.
        """
        shown: list[str] = []
        keep = False
        previous = False
        for number, line, in_code in _marked(self._corpus.lines(path)):
            match = _FENCE.match(line)
            if in_code and match and not previous:
                keep = not language or match[2].casefold() == language.casefold()
                previous = True
                if keep:
                    shown.append(f"line {number}: {match[2] or 'no language'}")
            elif in_code and match and not match[2]:
                previous = False
            elif in_code and keep:
                shown.append(f"    {line}")
        return clipped(shown, 200) if shown else f"{path} has no such code block"

    def markdown_tables(self, path: str) -> str:
        """Show the tables of a Markdown file with the lines they start on.

        Args:
            path: The Markdown file.
        """
        shown: list[str] = []
        inside = False
        for number, line, in_code in _marked(self._corpus.lines(path)):
            is_row = not in_code and line.lstrip().startswith("|")
            if is_row and not inside:
                shown.append(f"table at line {number}:")
            if is_row:
                shown.append(line.strip())
            inside = is_row
        return clipped(shown, 200) if shown else f"{path} has no table"
