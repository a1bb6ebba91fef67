"""The folder that the demo asks about: which files it has, and the only way to their text.

Everything that a tool reads goes through `Corpus`, so that nothing outside the folder can be reached.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langchain_core.tools import ToolException

from langchain_tokopt.errors import ConfigurationError

MAX_FILES = 2_000
MAX_BYTES = 2_000_000
_KEPT_CHARACTERS = 50_000_000
_SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages", "dist", "build", "htmlcov"}


@dataclass(frozen=True)
class File:
    """One file of a corpus. `path` is relative to the folder, with forward slashes; `size` in bytes."""

    path: str
    size: int
    modified: float
    is_text: bool

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix.lower()


class Corpus:
    """The readable files below one folder.

    Hidden folders, caches, virtual environments and links that lead out of the folder are left out. The list of files
    is made once, at most `MAX_FILES`; texts are kept after the first read, up to a bound.

    Args:
        root: The folder.

    Raises:
        ConfigurationError: The folder does not exist, is not a folder, cannot be read, or holds no text file.
    """

    def __init__(self, root: str | Path) -> None:
        given = Path(root).expanduser()
        if not given.exists():
            raise ConfigurationError("path", str(root), "no such folder; name an existing one")
        if not given.is_dir():
            raise ConfigurationError("path", str(root), "it is a file; name the folder it is in")
        self.root = given.resolve()
        try:
            with os.scandir(self.root):
                pass
        except OSError as error:
            raise ConfigurationError("path", str(root), f"it cannot be read ({error.strerror})") from None
        self.files: tuple[File, ...] = tuple(sorted(self._found(), key=lambda file: file.path))
        self.is_cut = len(self.files) >= MAX_FILES
        if not self.files:
            raise ConfigurationError("path", str(root), "the folder holds no files to ask about; name another one")
        if not self.texts:
            raise ConfigurationError("path", str(root), "the folder holds no text file; name one with text in it")
        self._by_path = {file.path: file for file in self.files}
        self._texts: dict[str, str] = {}
        self._kept = 0

    @property
    def texts(self) -> tuple[File, ...]:
        """The files that hold text and can be read whole."""
        return tuple(file for file in self.files if file.is_text and file.size <= MAX_BYTES)

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder that has a file somewhere below it, "." first."""
        found = {"."}
        for file in self.files:
            found.update(p.as_posix() for p in Path(file.path).parents)
        return tuple(sorted(found))

    def _found(self) -> Iterator[File]:
        pending = [self.root]
        count = 0
        while pending:
            try:
                with os.scandir(pending.pop()) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if not _skipped(Path(entry.path)):
                            pending.append(Path(entry.path))
                        continue
                    if not entry.is_file() or entry.name.startswith(".") or not self._inside(Path(entry.path)):
                        continue
                    stat = entry.stat()
                    path = Path(entry.path).relative_to(self.root).as_posix()
                    path.encode("utf-8")
                    is_text = _holds_text(Path(entry.path))
                except (OSError, UnicodeEncodeError):
                    continue
                yield File(path, stat.st_size, stat.st_mtime, is_text)
                count += 1
                if count >= MAX_FILES:
                    return

    def _inside(self, path: Path) -> bool:
        try:
            return path.resolve(strict=True).is_relative_to(self.root)
        except (OSError, RuntimeError):
            return False

    # --- what tools call: every refusal is a ToolException that says what to do -------------------------------------

    def locate(self, path: str) -> str:
        """The path as this corpus writes it. Refuses whatever leads out of the folder."""
        if "\0" in path:
            raise ToolException("the path holds a NUL character")
        try:
            target = (self.root / (path.strip() or ".")).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ToolException(f"path={path!r} cannot be resolved: {error}") from None
        if not target.is_relative_to(self.root):
            raise ToolException(f"path={path!r} is outside the folder; use a path below it, such as 'README.md'")
        # A link inside the folder to a file inside it keeps the name that it is listed under.
        written = Path(os.path.normpath(self.root / (path.strip() or ".")))
        if written.is_relative_to(self.root):
            listed = written.relative_to(self.root).as_posix()
            if listed in self._by_path:
                return listed
        return target.relative_to(self.root).as_posix()

    def file(self, path: str) -> File:
        """The file at `path`."""
        located = self.locate(path)
        found = self._by_path.get(located)
        if found is not None:
            return found
        if located in self.folders:
            raise ToolException(f"path={path!r} is a folder; use list_files to see what is in it")
        name = Path(located).name
        near = [file.path for file in self.files if Path(file.path).name == name][:3]
        remedy = f"did you mean {' or '.join(near)}?" if near else "use find_files to look for it"
        raise ToolException(f"path={path!r}: no such file; {remedy}")

    def folder(self, path: str) -> str:
        """The folder at `path`, "." for the whole corpus."""
        located = self.locate(path)
        if located in self._by_path:
            raise ToolException(f"folder={path!r} is a file; name the folder it is in")
        if located not in self.folders:
            raise ToolException(f"folder={path!r}: no such folder, or nothing in it; use list_files or tree")
        return located

    def under(self, folder: str, *, texts: bool = False) -> list[File]:
        """The files below `folder`; with `texts` only those that can be read."""
        located = self.folder(folder)
        files = self.texts if texts else self.files
        return [file for file in files if located == "." or file.path.startswith(located + "/")]

    def text(self, path: str) -> str:
        """The whole text of a file, line ends as "\\n"."""
        file = self.file(path)
        if not file.is_text:
            raise ToolException(f"path={path!r} is a binary file ({file.size} bytes); it has no text to read")
        if file.size > MAX_BYTES:
            raise ToolException(
                f"path={path!r} is too large to be read whole ({file.size} bytes); read a range of it with read_file"
            )
        if file.path not in self._texts:
            try:
                raw = (self.root / file.path).read_bytes()
            except OSError as error:
                raise ToolException(f"path={path!r} cannot be read: {error.strerror}") from None
            text = _decode(raw)
            self._kept += len(text)
            if self._kept > _KEPT_CHARACTERS:
                return text
            self._texts[file.path] = text
        return self._texts[file.path]

    def lines(self, path: str) -> list[str]:
        """The lines of a file without their ends."""
        return self.text(path).split("\n")[:-1] if self.text(path).endswith("\n") else self.text(path).split("\n")

    def line_range(self, path: str, start: int, end: int) -> tuple[list[str], int]:
        """Lines `start` to `end` (counted from 1, both included) and how many there are in all.

        A huge file is read only as far as it has to be; its number of lines is then given as 0.
        """
        file = self.file(path)
        if not file.is_text or file.size <= MAX_BYTES:
            lines = self.lines(path)
            return lines[start - 1 : end], len(lines)
        found: list[str] = []
        try:
            with (self.root / file.path).open(encoding="utf-8", errors="replace") as stream:
                for number, line in enumerate(iter(lambda: stream.readline(MAX_BYTES), ""), start=1):
                    if number > end:
                        break
                    if number >= start:
                        found.append(line.rstrip("\n"))
        except OSError as error:
            raise ToolException(f"path={path!r} cannot be read: {error.strerror}") from None
        return found, 0


def _skipped(folder: Path) -> bool:
    name = folder.name
    return (
        name.startswith(".")
        or name in _SKIPPED_FOLDERS
        or name.endswith(".egg-info")
        or (folder / "pyvenv.cfg").is_file()
    )


def _holds_text(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(8192)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut in two by the end of the sample is not an error; Latin-1 prose has few odd bytes.
        odd = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
        return error.start > len(head) - 4 or odd * 20 < len(head)
    return True


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = raw.decode("utf-16", errors="replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def default_folder() -> Path:
    """The checkout that this package runs from, or else the folder of the installed package."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent
    return checkout if (checkout / "pyproject.toml").is_file() and (checkout / ".git").exists() else package
