from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cache_pairs
from benchmarks.cache_pairs import Pair
from benchmarks.edits import COMMON_OPPOSITES, RARE_OPPOSITES, edits
from langchain_tokopt.cache.guard import difference


def run(out: Path, *arguments: str) -> dict[tuple[str, str, object], float]:
    assert cache_pairs.main(["--embeddings", "hash", "--json", str(out), *arguments]) == 0
    result = json.loads(out.read_text())
    assert result["program"] == "cache_pairs"
    return {(row["method"], row["metric"], row["at"]): row["value"] for row in result["rows"]}


def test_reports_every_figure_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path / "rows.json", "--edits")
    for method in ("cosine", "guards", "ours"):
        assert all(0 <= found[method, "false_hit_rate", recall] <= 1 for recall in (0.3, 0.5, 0.7))
        assert 0 <= found[method, "ap", None] <= 1
    assert found["guards", "edits_served", 0.5] < found["cosine", "edits_served", 0.5]
    assert found["guards", "edits_served", "0.5:date"] == 0.0
    assert "40 pairs scored, 20 of them the same" in capsys.readouterr().out


def test_labels_take_whole_components_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path / "rows.json", "--labels", "20", "--edits")
    assert {method for method, _, _ in found} == {"cosine", "guards", "ours", "ours+labels"}
    assert found["ours+labels", "edits_served", 0.5] < found["cosine", "edits_served", 0.5]
    assert "20 pairs scored, 10 of them the same; 30 edits; learnt from 20 pairs" in capsys.readouterr().out


def test_no_sentence_is_learnt_and_scored() -> None:
    pairs = cache_pairs.read_pairs(cache_pairs.SAMPLE)
    for seed in range(5):
        learnt, scored = cache_pairs.split(pairs, 12, seed)
        assert not {text for pair in learnt for text in (pair.a, pair.b)} & {t for p in scored for t in (p.a, p.b)}
        assert len(learnt) + len(scored) == len(pairs)


def test_figures_are_exact() -> None:
    scores, same = [0.9, 0.8, 0.7, 0.7, 0.6, 0.1], [True, False, True, False, True, False]
    assert cache_pairs.threshold_at(0.3, scores, same) == 0.9
    assert cache_pairs.threshold_at(0.5, scores, same) == 0.7
    assert cache_pairs.threshold_at(1.0, scores, same) == 0.6
    assert cache_pairs.false_hits(0.3, scores, same)[0] == 0.0
    assert cache_pairs.false_hits(0.5, scores, same)[0] == 2 / 4  # of two with one score both are served
    assert cache_pairs.average_precision(scores, same) == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)


def test_what_the_guard_refuses_comes_last_and_in_order() -> None:
    texts = ["send 5", "send 50", "send five", "send 6"]
    vectors = {"send 5": [1, 0], "send 50": [1, 0], "send five": [0.6, 0.8], "send 6": [0.8, 0.6]}
    known = {text: np.array(vectors[text], np.float32) for text in texts}
    pairs = [Pair("send 5", other, same=False) for other in texts[1:]]
    assert cache_pairs.guards(cache_pairs.compare(pairs, known)) == pytest.approx([-1.0, 0.6, -1.2])


def test_ours_learns_what_counts_and_never_serves_what_is_forbidden() -> None:
    texts = {f"{word} {color}": [0.8, 0.6] for word in ("pay", "print") for color in ("red wine", "blue wine")}
    known = {text: np.array(vector, np.float32) for text, vector in texts.items()} | {
        "pay": np.array([1, 0], np.float32),
        "print": np.array([1, 0], np.float32),
        "pay red wine now": np.array([0.8, 0.6], np.float32),
    }
    learnt = [Pair("pay", "pay red wine", same=True), Pair("pay", "print red wine", same=False)] * 30
    pairs = [Pair("print", "print blue wine", same=True), Pair("print", "pay blue wine", same=False)]
    pairs.append(Pair("pay red wine", "pay blue wine", same=False))
    compared = cache_pairs.compare(pairs, known)
    cold = cache_pairs.ours(compared)
    assert cold[0] == pytest.approx(cold[1])  # nothing but the similarity counts yet, and that is the same
    right, wrong, forbidden = cache_pairs.ours(compared, cache_pairs.compare(learnt, known))
    assert right > 0.7 > 0.3 > wrong > 0 > forbidden


def test_edits_are_the_same_for_the_same_seed() -> None:
    pairs = cache_pairs.read_pairs(cache_pairs.SAMPLE)
    assert cache_pairs.edited(pairs, 3) == cache_pairs.edited(pairs, 3)
    assert {pair.kind for pair in cache_pairs.edited(pairs, 3)} >= {"number", "negation", "opposite", "date", "unit"}
    assert not any(pair.same for pair in cache_pairs.edited(pairs, 3))


@pytest.mark.parametrize(
    ("text", "kind", "edited"),
    [
        ("how do I pay", "negation", "how do I not pay"),
        ("I can't pay", "negation", "I can pay"),
        ("is it open", "negation", "is it not open"),
        ("how do I enable alerts", "opposite", "how do I disable alerts"),
        ("an hour before work", "order", "an work before hour"),
        ("from paris to rome", "order", "from rome to paris"),
        ("is it far in km", "unit", "is it far in miles"),
    ],
)
def test_an_edit_changes_one_thing(text: str, kind: str, edited: str) -> None:
    assert edits(text, random.Random(0))[kind] == edited


def test_where_there_is_nothing_to_edit_nothing_is_edited() -> None:
    assert edits("hello world", random.Random(0)) == {}
    assert "unit" not in edits("a few days ago", random.Random(0))


def test_the_rare_opposites_are_unknown_to_the_guard_and_most_common_ones_known() -> None:
    def seen(listed: str) -> list[bool]:
        pairs = [pair.split("/") for pair in listed.split()]
        return [difference(f"please {one} it", f"please {other} it") is not None for one, other in pairs]

    assert not any(seen(RARE_OPPOSITES))
    assert sum(seen(COMMON_OPPOSITES)) >= 0.8 * len(COMMON_OPPOSITES.split())


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (['{"a": "x", "b": "y", "same": true}', "{"], "line 2"),
        (['{"a": "x", "b": "y", "same": 1}'], "line 1"),
        (['{"a": "x", "b": "y"}'], "line 1"),
        (["[]"], "line 1"),
        (['{"a": "x", "b": "y", "same": true}'], "both kinds"),
        ([], "both kinds"),
    ],
)
def test_data_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], told: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines))
    assert cache_pairs.main(["--data", str(path), "--embeddings", "hash"]) == 2
    assert told in capsys.readouterr().err


def test_too_many_labels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cache_pairs.main(["--labels", "40", "--embeddings", "hash"]) == 2
    assert "both kinds on both sides" in capsys.readouterr().err


def test_reads_packed_files_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "pairs.jsonl.gz"
    rows = [{"a": "x", "b": "y", "same": True}, {"a": "x", "b": "z", "same": False}]
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    table = tmp_path / "table.npz"
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    np.savez(table, texts=np.array(["x", "y", "z"]), vectors=vectors)
    out = tmp_path / "rows.json"
    arguments = ["--data", str(packed), "--embeddings", "table", "--table", str(table), "--json", str(out)]
    assert cache_pairs.main(arguments) == 0
    found = {(row["method"], row["metric"]): row["value"] for row in json.loads(out.read_text())["rows"]}
    assert found["cosine", "ap"] == 1.0
    np.savez(table, texts=np.array(["x", "y"]), vectors=vectors[:2])
    assert cache_pairs.main(arguments) == 2
    assert "no vector for 'z'" in capsys.readouterr().err
