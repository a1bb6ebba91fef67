"""Tools that say which files there are and read them."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import time
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.tools.output import MOST, clipped, when

MAX_LINES = 400


class FileTools:
    """What is in the folder, and the text of a file."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def list_files(self, folder: str = ".", limit: int = 100) -> str:
        """List the files directly in a folder and the folders in it, with sizes in bytes.

        Args:
            folder: The folder to list, "." for the top.
            limit: How many entries to show at most.
        """
        base = self._corpus.folder(folder)
        prefix = "" if base == "." else base + "/"
        files: list[str] = []
        folders: dict[str, int] = defaultdict(int)
        for file in self._corpus.under(base):
            rest = file.path[len(prefix) :]
            if "/" in rest:
                folders[rest.split("/", 1)[0]] += 1
            else:
                files.append(f"{prefix}{rest}  {file.size}")
        return clipped([f"{prefix}{name}/  {count} files" for name, count in sorted(folders.items())] + files, limit)

    def find_files(self, pattern: str, limit: int = 100) -> str:
        """Find files whose path or name matches a glob pattern such as "*.md" or "docs/**/index.*".

        Args:
            pattern: The glob pattern; without a slash it is matched against the file's name.
            limit: How many paths to show at most.
        """
        if "/" in pattern:
            globbed = pattern.replace("**/", "*")
            found = [f.path for f in self._corpus.files if fnmatch.fnmatchcase(f.path, globbed)]
        else:
            found = [f.path for f in self._corpus.files if fnmatch.fnmatchcase(Path(f.path).name, pattern)]
        return clipped(found, limit) if found else f"no file matches {pattern!r}"

    def tree(self, folder: str = ".", depth: int = 2) -> str:
        """Show the folders and files below a folder as an indented tree.

        Args:
            folder: Where to start, "." for the top.
            depth: How many levels to show.
        """
        base = self._corpus.folder(folder)
        prefix = "" if base == "." else base + "/"
        shown: dict[str, None] = {}
        for file in self._corpus.under(base):
            parts = file.path[len(prefix) :].split("/")
            for level in range(min(len(parts), max(depth, 1))):
                last = level == len(parts) - 1
                shown["/".join(parts[: level + 1]) + ("" if last else "/")] = None
        lines = [base + "/"]
        for path in sorted(shown, key=lambda p: p.rstrip("/").split("/")):
            bare = path.rstrip("/")
            lines.append("  " * (bare.count("/") + 1) + bare.rsplit("/", 1)[-1] + ("/" if path.endswith("/") else ""))
        return clipped(lines, 200)

    def file_info(self, path: str) -> dict[str, Any]:
        """Give a file's size in bytes, number of lines and words, time of the last change, kind and SHA-256.

        Args:
            path: The file.
        """
        file = self._corpus.file(path)
        info: dict[str, Any] = {
            "path": file.path,
            "bytes": file.size,
            "modified": when(file.modified),
            "kind": (file.suffix or "no suffix") + (", text" if file.is_text else ", binary"),
        }
        if file in self._corpus.texts:
            info["lines"] = len(self._corpus.lines(path))
            info["words"] = len(self._corpus.text(path).split())
        digest = hashlib.sha256()
        with (self._corpus.root / file.path).open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        info["sha256"] = digest.hexdigest()
        return info

    def largest_files(self, folder: str = ".", count: int = 10) -> list[dict[str, Any]]:
        """List the largest files below a folder, largest first, with their sizes in bytes.

        Args:
            folder: Where to look, "." for everywhere.
            count: How many files to list.
        """
        ranked = sorted(self._corpus.under(folder), key=lambda f: (-f.size, f.path))
        return [{"path": f.path, "bytes": f.size} for f in ranked[: min(max(count, 1), MOST)]]

    def recent_files(self, folder: str = ".", count: int = 10) -> list[dict[str, Any]]:
        """List the files below a folder that were changed last, newest first.

        Args:
            folder: Where to look, "." for everywhere.
            count: How many files to list.
        """
        ranked = sorted(self._corpus.under(folder), key=lambda f: (-f.modified, f.path))
        return [{"path": f.path, "modified": when(f.modified)} for f in ranked[: min(max(count, 1), MOST)]]

    def files_changed_since(self, date: str, folder: str = ".") -> str:
        """List the files below a folder that were changed on or after a date.

        Args:
            date: The date as YYYY-MM-DD, in UTC.
            folder: Where to look, "." for everywhere.
        """
        try:
            since = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            raise ToolException(f"date={date!r} is not a date; write it as YYYY-MM-DD") from None
        if since > time.time():
            raise ToolException(f"date={date!r} is in the future")
        found = [f"{f.path}  {when(f.modified)}" for f in self._corpus.under(folder) if f.modified >= since]
        return clipped(found, 100) if found else f"no file was changed since {date}"

    def folder_summary(self, folder: str = ".") -> list[dict[str, Any]]:
        """Count the files below a folder by their suffix, with their total size in bytes, most frequent first.

        Args:
            folder: Where to count, "." for everywhere.
        """
        sizes: dict[str, list[int]] = defaultdict(list)
        for file in self._corpus.under(folder):
            sizes[file.suffix or "(none)"].append(file.size)
        ranked = sorted(sizes.items(), key=lambda item: (-len(item[1]), item[0]))
        return [{"suffix": suffix, "files": len(found), "bytes": sum(found)} for suffix, found in ranked]

    def duplicate_files(self, folder: str = ".") -> str:
        """List groups of files below a folder that have exactly the same content.

        Args:
            folder: Where to look, "." for everywhere.
        """
        by_size: dict[int, list[str]] = defaultdict(list)
        for file in self._corpus.under(folder, texts=True):
            if file.size:
                by_size[file.size].append(file.path)
        groups: dict[str, list[str]] = defaultdict(list)
        for paths in by_size.values():
            for path in paths if len(paths) > 1 else ():
                groups[self._corpus.text(path)].append(path)
        lines = [" = ".join(paths) for paths in groups.values() if len(paths) > 1]
        return clipped(sorted(lines), 50) if lines else "no two files have the same content"

    def read_file(self, path: str, start: int = 1, end: int = 0) -> str:
        """Read lines of a file, numbered. At most 400 lines at a time.

        Args:
            path: The file.
            start: The first line, counted from 1.
            end: The last line, included; 0 for as many as can be shown.
        """
        if start < 1 or end < 0 or (end and end < start):
            raise ToolException(f"start={start}, end={end}: lines count from 1, and end must not be before start")
        last = min(end or start + MAX_LINES - 1, start + MAX_LINES - 1)
        lines, total = self._corpus.line_range(path, start, last)
        if not lines:
            raise ToolException(f"start={start} is behind the end of {path!r}, which has {total or 'fewer'} lines")
        shown = [f"{number:>5}| {line[:2000]}" for number, line in enumerate(lines, start=start)]
        of = f" of {total}" if total else ""
        name = self._corpus.locate(path)
        return f"{name}, lines {start}-{start + len(lines) - 1}{of}\n" + "\n".join(shown)

    def file_head(self, path: str, lines: int = 20) -> str:
        """Read the first lines of a file, numbered.

        Args:
            path: The file.
            lines: How many lines.
        """
        return self.read_file(path, 1, max(lines, 1))

    def file_tail(self, path: str, lines: int = 20) -> str:
        """Read the last lines of a file, numbered.

        Args:
            path: The file.
            lines: How many lines.
        """
        total = len(self._corpus.lines(path))
        return self.read_file(path, max(total - max(lines, 1) + 1, 1), max(total, 1))

    def diff_files(self, first: str, second: str) -> str:
        """Show how two text files differ, as a unified diff.

        Args:
            first: One file.
            second: The other file.
        """
        before, after = self._corpus.lines(first), self._corpus.lines(second)
        if max(len(before), len(after)) > 5000:
            raise ToolException("these files are too long to compare; compare at most 5,000 lines each")
        lines = list(difflib.unified_diff(before, after, first, second, lineterm="", n=2))
        return clipped(lines, MOST) if lines else f"{first} and {second} are the same"
