"""Tools that look for text in the files."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.tools.output import MOST, clipped

# A repeated group that itself repeats or branches can take exponential time on an unlucky line.
_SLOW = re.compile(r"\((?:[^()\\]|\\.)*[+*|}](?:[^()\\]|\\.)*\)\s*(?:[+*]|\{\d*,)")
_SEARCHES_KEPT = 200
_MARKS = ("TODO", "FIXME", "XXX", "HACK")


class SearchTools:
    """Lines and files that match."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._found: dict[tuple[str, str, str, bool], list[tuple[str, int, str]]] = {}

    def search_text(
        self, pattern: str, folder: str = ".", glob: str = "*", ignore_case: bool = True, limit: int = 40
    ) -> str:
        """Search the lines of all files for a regular expression; gives path:line: text.

        Args:
            pattern: The regular expression, Python syntax.
            folder: Where to search, "." for everywhere.
            glob: Only files whose name matches this, such as "*.py".
            ignore_case: Whether upper and lower case count as the same.
            limit: How many lines to show at most.
        """
        found = [f"{path}:{n}: {line.strip()}" for path, n, line in self._matching(pattern, folder, glob, ignore_case)]
        return clipped(found, limit) if found else f"no line matches {pattern!r}"

    def files_with_match(self, pattern: str, folder: str = ".", glob: str = "*") -> str:
        """List the files that have a line matching a regular expression, with the number of such lines.

        Args:
            pattern: The regular expression, Python syntax; upper and lower case count as the same.
            folder: Where to search, "." for everywhere.
            glob: Only files whose name matches this, such as "*.md".
        """
        counts: dict[str, int] = {}
        for path, _, _ in self._matching(pattern, folder, glob, ignore_case=True):
            counts[path] = counts.get(path, 0) + 1
        return clipped([f"{p}: {n}" for p, n in counts.items()], 100) if counts else f"no file matches {pattern!r}"

    def count_matches(self, pattern: str, path: str) -> str:
        """Count how often a regular expression matches in one file, and on how many lines.

        Args:
            pattern: The regular expression, Python syntax; upper and lower case count as the same.
            path: The file.
        """
        compiled = _compiled(pattern, ignore_case=True)
        hits = [len(compiled.findall(line[:2000])) for line in self._corpus.lines(path)]
        located = self._corpus.locate(path)
        return f"{located}: {sum(hits)} matches of {pattern!r} on {sum(map(bool, hits))} lines"

    def lines_around(self, pattern: str, path: str, context: int = 3) -> str:
        """Show each match of a regular expression in one file with the lines before and after it, numbered.

        Args:
            pattern: The regular expression, Python syntax; upper and lower case count as the same.
            path: The file.
            context: How many lines to show before and after each match.
        """
        compiled = _compiled(pattern, ignore_case=True)
        lines = self._corpus.lines(path)
        context = min(max(context, 0), 50)
        wanted: set[int] = set()
        for number, line in enumerate(lines):
            if compiled.search(line[:2000]):
                wanted.update(range(max(number - context, 0), min(number + context + 1, len(lines))))
        if not wanted:
            return f"no line of {path} matches {pattern!r}"
        return clipped([f"{number + 1:>5}| {lines[number]}" for number in sorted(wanted)], 200)

    def todo_comments(self, folder: str = ".") -> str:
        """List comments marked TODO, FIXME, XXX or HACK; gives path:line: text.

        Args:
            folder: Where to look, "." for everywhere.
        """
        pattern = r"(?:#|//|<!--|;|%).*\b(?:" + "|".join(_MARKS) + r")\b"
        found = [f"{p}:{n}: {line.strip()}" for p, n, line in self._matching(pattern, folder, "*", ignore_case=False)]
        return clipped(found, 100) if found else "no TODO, FIXME, XXX or HACK comments"

    def longest_lines(self, path: str, count: int = 5) -> str:
        """Show the longest lines of a file with their lengths in characters.

        Args:
            path: The file.
            count: How many lines.
        """
        lines = sorted(enumerate(self._corpus.lines(path), start=1), key=lambda item: (-len(item[1]), item[0]))
        return clipped(
            [f"{n}: {len(line)} characters: {line.strip()[:160]}" for n, line in lines[: min(max(count, 1), MOST)]], 50
        )

    def _matching(self, pattern: str, folder: str, glob: str, ignore_case: bool) -> list[tuple[str, int, str]]:
        """Path, number and text of every line that matches; found once, since the files are taken not to change."""
        asked = (pattern, folder, glob, ignore_case)
        if asked not in self._found:
            if len(self._found) >= _SEARCHES_KEPT:
                self._found.clear()
            self._found[asked] = list(self._search(*asked))
        return self._found[asked]

    def _search(self, pattern: str, folder: str, glob: str, ignore_case: bool) -> Iterator[tuple[str, int, str]]:
        compiled = _compiled(pattern, ignore_case)
        for file in self._corpus.under(folder, texts=True):
            if fnmatch.fnmatchcase(Path(file.path).name, glob) or fnmatch.fnmatchcase(file.path, glob):
                for number, line in enumerate(self._corpus.lines(file.path), start=1):
                    if compiled.search(line[:2000]):
                        yield file.path, number, line


def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    if not pattern or len(pattern) > 300:
        raise ToolException("pattern must have between 1 and 300 characters")
    if _SLOW.search(pattern):
        raise ToolException(f"pattern={pattern!r} repeats a group that itself repeats or branches; write it flat")
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise ToolException(f"pattern={pattern!r} is not a regular expression: {error}") from None
