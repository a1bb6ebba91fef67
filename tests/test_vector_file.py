from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.errors import StoreError
from langchain_tokopt.vector_segments import Clustered, Open, Quantised
from langchain_tokopt.vectors import VectorIndex
from tests.test_vector_segments import kinds, settled
from tests.unit_vectors import around_centres

MODES: dict[str, tuple[dict[str, Any], list[type]]] = {
    "exact": ({}, [Open]),
    "quantised": ({"storage": "int8", "exact_rows": None}, [Quantised, Open]),
    "clustered": ({"exact_rows": 1024}, [Clustered, Open]),
    "both": ({"storage": "int8", "exact_rows": 1024}, [Clustered, Open]),
}


def filled(mode: str) -> tuple[VectorIndex, Any]:
    rows = around_centres(8200, 16, 50)
    index = VectorIndex(16, **MODES[mode][0])
    index.add(range(8200 if mode == "quantised" else 2000), rows[: 8200 if mode == "quantised" else 2000])
    index.remove(range(0, 100, 3))
    index.add([5, 5000], rows[6000:6002])
    return settled(index), rows


@pytest.mark.parametrize("mode", MODES)
def test_what_was_saved_is_loaded(mode: str, tmp_path: Path) -> None:
    index, rows = filled(mode)
    assert {*kinds(index)} >= {*MODES[mode][1]}
    index.save(tmp_path / "index", note={"revision": 7, "embedder": "naïve"})
    loaded = VectorIndex.load(tmp_path / "index")
    assert loaded.note == {"revision": 7, "embedder": "naïve"}
    assert (loaded.dim, loaded.storage, loaded.exact_rows) == (index.dim, index.storage, index.exact_rows)
    assert sorted(loaded.ids()) == sorted(index.ids())
    assert np.array_equal(loaded.vectors(index.ids()), index.vectors(index.ids()))
    for query in rows[:50]:
        assert dict(loaded.search(query, 10)) == pytest.approx(dict(index.search(query, 10)), abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    # And it is an index like any other.
    loaded.add([3, 9999], rows[7000:7002])
    assert loaded.remove([9, 6]) == 0
    assert loaded.remove([7]) == 1
    assert loaded.search(rows[7001], 1)[0][0] == 9999
    settled(loaded).rebuild()
    assert len(loaded) == len(index) + 1


def test_an_empty_index_is_saved_and_loaded(tmp_path: Path) -> None:
    VectorIndex(3).save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index")
    assert (len(loaded), loaded.dim, loaded.note) == (0, 3, {})


def test_removed_rows_of_an_inverted_file_stay_removed(tmp_path: Path) -> None:
    index, rows = filled("clustered")
    index.remove([1, 2])
    index.save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index")
    assert 1 not in loaded
    assert 1 not in dict(loaded.search(rows[1], 50))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", [0, 12, 60, 0.3, 0.6, 0.99, -1])
def test_one_wrong_bit_is_noticed(mode: str, where: float, tmp_path: Path) -> None:
    filled(mode)[0].save(tmp_path / "index")
    data = bytearray((tmp_path / "index").read_bytes())
    data[int(where * len(data)) if isinstance(where, float) else where] ^= 1
    (tmp_path / "index").write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"damaged|no vector index of this version"):
        VectorIndex.load(tmp_path / "index")


@pytest.mark.parametrize("length", [0, 5, 8, 20, 39, 40, 5000, -1])
def test_a_file_that_was_cut_off_is_noticed(length: int, tmp_path: Path) -> None:
    filled("both")[0].save(tmp_path / "index")
    data = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(data[:length])
    with pytest.raises(StoreError, match=r"damaged|no vector index of this version"):
        VectorIndex.load(tmp_path / "index")


@pytest.mark.parametrize("name", ["gone", "folder"])
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=f"{name}' cannot be read"):
        VectorIndex.load(tmp_path / name)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = filled("exact")
    index.save(tmp_path / "index")
    before = (tmp_path / "index").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    index.remove([1])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="No space left on device"):
            index.save(tmp_path / "index")
    assert (tmp_path / "index").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    with pytest.raises(StoreError, match="could not be written"):
        index.save(tmp_path / "no folder" / "index")


def test_a_note_that_json_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        VectorIndex(2).save(tmp_path / "index", note={"revision": object()})
    assert list(tmp_path.iterdir()) == []
