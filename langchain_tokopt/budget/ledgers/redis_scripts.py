"""The ledger's commands: Lua scripts that the server runs one at a time."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the SHA-1 by which the server knows it once it has seen it."""

    text: bytes
    sha: str


@functools.cache
def script(name: str) -> Script:
    """The script of that name, with what is common to all of them before it."""
    folder = resources.files("langchain_tokopt.budget.ledgers") / "lua"
    text = (folder / "common.lua").read_bytes() + (folder / f"{name}.lua").read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())
