"""LangChain's own tests, out of the source distribution of the version that is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

AGENT_TESTS = "tests/unit_tests/agents"


class SdistError(RuntimeError):
    """The source distribution cannot be had, or has no tests of agents in it."""


def installed() -> str:
    """The version of LangChain that is installed."""
    return version("langchain")


def download(langchain: str, folder: Path) -> Path:
    """The source distribution of that version in `folder`; one that is there already is used again.

    Only LangChain is taken as source: pip builds its metadata, and what it needs for that comes as wheels.

    Raises:
        SdistError: pip could not fetch it; its last lines are in the message.
    """
    archive = folder / f"langchain-{langchain}.tar.gz"
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [f"langchain=={langchain}", "--no-deps", "--no-binary", "langchain", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not archive.exists():
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        msg = f"pip could not fetch the source of langchain {langchain}; fetch it yourself and pass --sdist:\n{tail}"
        raise SdistError(msg)
    return archive


def unpack(archive: Path, folder: Path) -> Path:
    """The root of the unpacked source distribution, inside `folder`.

    Raises:
        SdistError: The archive is not one, or has no tests of agents in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as source:
            root = folder / Path(source.getnames()[0]).parts[0]
            shutil.rmtree(root, ignore_errors=True)
            # Not LangChain itself: pytest would import it in the place of the one that is installed.
            wanted = [member for member in source.getmembers() if _is_test(member.name)]
            source.extractall(folder, members=wanted, filter="data")
    except (OSError, tarfile.TarError) as error:
        msg = f"{archive} cannot be unpacked: {error}"
        raise SdistError(msg) from error
    if not (root / AGENT_TESTS).is_dir():
        msg = f"{archive} has no {AGENT_TESTS}"
        raise SdistError(msg)
    return root


def _is_test(name: str) -> bool:
    inside = Path(name).parts[1:]
    return inside[:1] == ("tests",) or inside == ("pyproject.toml",)
