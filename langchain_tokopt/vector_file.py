"""A vector index in one file: written whole or not at all, and noticed when it is damaged.

Eight bytes that name the format, the length of a JSON header, the header, the parts it lists, and a SHA-256 of all
that. Nothing is taken from a file before its checksum was found right.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from langchain_tokopt.errors import StoreError
from langchain_tokopt.vector_segments import Clustered, Flat, Quantised, Segment, faiss

if TYPE_CHECKING:
    from langchain_tokopt.vector_segments import Rows

_MAGIC = b"TOKOPTV1"
_DIGEST = 32
_BLOCK = 1 << 20


class _Hashed:
    """A stream that is written to, with a digest of what was."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._stream.write(data)
        return len(data)


def write_index(path: Path, about: Mapping[str, Any], parts: Sequence[tuple[Segment, Rows]]) -> None:
    """Write `parts`, each a segment and its living rows, and what `about` says of them.

    Raises:
        StoreError: The file cannot be written; an older one is untouched.
    """
    path = path.expanduser().absolute()
    kinds = [type(segment).__name__ if isinstance(segment, (Quantised, Clustered)) else "Flat" for segment, _ in parts]
    header = {
        **about,
        "parts": [
            {"kind": kind, "rows": len(rows) if kind == "Flat" else segment.count}
            for kind, (segment, rows) in zip(kinds, parts, strict=True)
        ],
    }
    text = json.dumps(header).encode()
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            out = _Hashed(stream)
            out.write(_MAGIC + len(text).to_bytes(8, "little") + text)
            for segment, rows in parts:
                _write_part(out, segment, rows)
            stream.write(out.digest.digest())
        Path(name).replace(path)
        name = None
    except OSError as error:
        raise StoreError(f"{str(path)!r} could not be written ({error.strerror}); nothing was changed") from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _write_part(out: _Hashed, segment: Segment, rows: Rows) -> None:
    if not isinstance(segment, (Quantised, Clustered)):
        out.write(segment.ids[rows].astype("<i8").tobytes())
        for start in range(0, len(rows), 1024):
            out.write(segment.vectors(rows[start : start + 1024]).astype("<f4").tobytes())
        return
    dead = np.ones(segment.count, dtype=np.bool_)
    dead[rows] = False
    out.write(segment.ids.astype("<i8").tobytes())
    out.write(dead.tobytes())
    module = faiss()
    module.write_index(segment.index, module.PyCallbackIOWriter(out.write, _BLOCK))


def read_index(path: Path) -> tuple[dict[str, Any], list[Segment]]:
    """What `write_index` was given, from the file at `path`.

    Raises:
        StoreError: There is none, or it is damaged or from another version; says which.
    """
    path = path.expanduser().absolute()
    try:
        with path.open("rb") as stream:
            _check(path, stream)
            stream.seek(len(_MAGIC))
            about = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            return about, [_read_part(stream, each["kind"], each["rows"], about["dim"]) for each in about.pop("parts")]
    except OSError as error:
        raise StoreError(f"the vector index {str(path)!r} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"the vector index {str(path)!r} is from another version ({error})") from error


def _check(path: Path, stream: BinaryIO) -> None:
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(len(_MAGIC))
    if start != _MAGIC:
        raise StoreError(f"{str(path)!r} is no vector index of this version")
    digest = hashlib.sha256(start)
    left = size - len(_MAGIC) - _DIGEST
    while left > 0:
        block = stream.read(min(_BLOCK, left))
        digest.update(block)
        left -= len(block)
    if left < 0 or stream.read() != digest.digest():
        raise StoreError(f"the vector index {str(path)!r} is damaged: its checksum does not fit")


def _read_part(stream: BinaryIO, kind: str, count: int, dim: int) -> Segment:
    ids = np.frombuffer(stream.read(8 * count), dtype="<i8").astype(np.int64)
    if kind == "Flat":
        rows = np.fromfile(stream, dtype="<f4", count=count * dim).reshape(count, dim)
        return Flat(ids, np.zeros(count, dtype=np.bool_), np.ascontiguousarray(rows, dtype=np.float32))
    dead = np.frombuffer(stream.read(count), dtype=np.bool_).copy()
    module = faiss()
    index = module.read_index(module.PyCallbackIOReader(stream.read, _BLOCK))
    if kind == "Quantised":
        return Quantised(ids, dead, index)
    if kind == "Clustered":
        return Clustered(ids, dead, index)
    msg = f"it has a part {kind!r}"
    raise ValueError(msg)
