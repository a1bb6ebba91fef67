"""Tools that ask the git history, where the folder is in a checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.tools.output import clipped

_REVISION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/~^-]{0,99}")
# Nothing that a repository configures may run: no hooks, no external diff, no file watcher, no pager.
_SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "--no-pager")


class GitTools:
    """Who changed what, and when."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def git_log(self, path: str = ".", count: int = 10) -> str:
        """List the latest commits that touched a file or folder: hash, date, author, subject.

        Args:
            path: The file or folder, "." for everything.
            count: How many commits to list, at most 100.
        """
        located = self._corpus.locate(path)
        limit = f"-{min(max(count, 1), 100)}"
        return self._git("log", limit, "--date=short", "--format=%h %ad %an: %s", "--", located) or "no commits"

    def git_show_stat(self, revision: str = "HEAD") -> str:
        """Show one commit: author, date, message, and the files it changed with the numbers of lines.

        Args:
            revision: The commit, such as "HEAD", "HEAD~2" or a hash.
        """
        return self._git("show", "--stat", "--no-ext-diff", "--no-textconv", "--date=short", _revision(revision), "--")

    def git_blame_lines(self, path: str, start: int, end: int) -> str:
        """Show who last changed each line in a range of a file, and when.

        Args:
            path: The file.
            start: The first line, counted from 1.
            end: The last line, included.
        """
        located = self._corpus.file(path).path
        if start < 1 or end < start:
            raise ToolException(f"start={start}, end={end}: lines count from 1, and end must not be before start")
        return self._git("blame", "--date=short", f"-L{start},{min(end, start + 199)}", "--", located)

    def git_changed_files(self, since: str, until: str = "HEAD") -> str:
        """List the files that changed between two commits, with what happened to each (A added, M changed, D deleted).

        Args:
            since: The earlier commit, such as "HEAD~5" or a hash.
            until: The later commit.
        """
        span = f"{_revision(since)}..{_revision(until)}"
        return (
            self._git("diff", "--name-status", "--no-ext-diff", "--no-textconv", "--relative", span, "--") or "nothing"
        )

    def _git(self, *arguments: str) -> str:
        if shutil.which("git") is None:
            raise ToolException("git is not installed here; the history cannot be asked")
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C.UTF-8",
        }
        try:
            done = subprocess.run(  # noqa: S603 - fixed program, checked arguments, no shell
                ["git", "-C", str(self._corpus.root), *_SAFE, *arguments],  # noqa: S607 - git is wherever PATH has it
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=20,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolException("git took longer than 20 seconds; ask for less") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()
            if any("not a git repository" in line.casefold() for line in said):
                raise ToolException("this folder is not in a git checkout; there is no history to ask")
            raise ToolException(f"git: {said[-1][:300] if said else 'failed'}")
        return clipped(done.stdout.rstrip().split("\n"), 200) if done.stdout.strip() else ""


def _revision(text: str) -> str:
    if not _REVISION.fullmatch(text) or ".." in text:
        raise ToolException(f'revision={text!r} is not a commit; write it as "HEAD", "HEAD~2" or a hash')
    return text
