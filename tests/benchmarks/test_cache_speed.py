from __future__ import annotations

import importlib.util
import json
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from benchmarks import cache_speed
from benchmarks.cache_speed import Questions
from benchmarks.peers import PEERS, GPTCachePeer, Peer
from langchain_tokopt.cache.guard import difference

HAS_GPTCACHE = importlib.util.find_spec("gptcache") is not None


def run(tmp_path: Path, *arguments: str) -> dict[str, list[tuple[str, object, float]]]:
    out = tmp_path / "rows.json"
    small = ["--entries", "30", "60", "--calls", "3", "--imports", "0", "--json", str(out)]
    assert cache_speed.main([*small, *arguments]) == 0
    result = json.loads(out.read_text())
    assert (result["program"], result["data"]) == ("cache_speed", "made here")
    found: dict[str, list[tuple[str, object, float]]] = {}
    for row in result["rows"]:
        found.setdefault(row["method"], []).append((row["metric"], row["at"], row["value"]))
    return found


def test_reports_every_time_at_every_size(tmp_path: Path) -> None:
    found = run(tmp_path, "--methods", "ours", "inmemory")
    times = ("exact_p50_ms", "hit_p50_ms", "hit_p95_ms", "miss_p50_ms")
    ours = {(metric, at) for metric, at, _ in found["ours"] if metric != "bytes_per_entry"}
    assert ours == {(metric, at) for metric in times for at in (30, 60)} | {
        ("decision_p50_ms", None),
        ("decision_p50_ms", "unread"),
    }
    inmemory = {(metric, at) for metric, at, _ in found["inmemory"] if metric != "bytes_per_entry"}
    assert inmemory == {(metric, at) for metric in ("exact_p50_ms", "miss_p50_ms") for at in (30, 60)}
    assert all(value > 0 for rows in found.values() for metric, _, value in rows if metric.endswith("_ms"))
    assert {"bytes_per_entry"} <= {metric for metric, _, _ in found["ours"]} or sys.platform != "linux"


@pytest.mark.skipif(not HAS_GPTCACHE, reason="GPTCache is not installed: pip install -e .[bench]")
def test_gptcache_is_run_the_same_way(tmp_path: Path) -> None:
    found = run(tmp_path, "--methods", "gptcache")
    assert {metric for metric, _, _ in found["gptcache"]} >= {"exact_p50_ms", "hit_p50_ms", "miss_p50_ms"}


@pytest.mark.skipif(not HAS_GPTCACHE, reason="GPTCache is not installed: pip install -e .[bench]")
def test_gptcache_installs_nothing(tmp_path: Path) -> None:
    peer = GPTCachePeer(embed=lambda _: np.ones(384, np.float32), folder=tmp_path, limit=10, system="")
    utils = sys.modules["gptcache.utils"]
    with pytest.raises(ModuleNotFoundError, match="a benchmark installs nothing"):
        utils.import_pymilvus()
    peer.close()


def test_a_peer_that_is_missing_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(**_: object) -> Peer:
        msg = "No module named 'gptcache'"
        raise ImportError(msg)

    monkeypatch.setitem(PEERS, "gptcache", absent)
    found = run(tmp_path, "--methods", "gptcache", "inmemory")
    assert set(found) == {"inmemory"}
    assert "gptcache is missing (No module named 'gptcache')" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ours", "inmemory"])
def test_a_peer_gives_what_it_was_given(name: str, tmp_path: Path) -> None:
    questions = Questions(5, 2, seed=0)
    embed = questions.vectors.__getitem__
    peer = PEERS[name](embed=embed, folder=tmp_path, limit=10, system="be brief")
    peer.fill(questions.stored, questions.answers)
    assert peer.ask(questions.stored[3]) == questions.answers[3]
    asked = questions.reworded(1)[0]
    assert peer.ask(asked) == (questions.answers[0] if PEERS[name].semantic else None)
    assert peer.ask(questions.new()[0]) is None
    peer.close()


def test_questions_lie_as_they_are_said_to() -> None:
    questions = Questions(40, 5, seed=1)
    stored = np.stack([questions.vectors[question] for question in questions.stored])
    for asked in questions.reworded(40):
        near = stored @ questions.vectors[asked]
        assert near.max() == pytest.approx(0.97, abs=0.01)
        assert difference(asked, questions.stored[int(near.argmax())]) is None
    for asked in questions.new():
        assert (stored @ questions.vectors[asked]).max() < 0.7


def test_a_hit_where_there_should_be_none_is_no_time() -> None:
    class Always:
        semantic = True

        def fill(self, questions: object, answers: object) -> None:
            pass

        def ask(self, question: str) -> str:
            return "the same"

        def close(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="20 of 20 new questions were hits"):
        cache_speed.timed(Always(), "always", Questions(30, 2, seed=0), 30)


def test_a_fresh_interpreter_imports_beside_what_is_there() -> None:
    assert 0 < cache_speed.import_seconds("import json.tool", beside="import json", runs=1) < 60


def test_nothing_connects() -> None:
    with cache_speed.offline(), socket.socket() as one, pytest.raises(OSError, match="connects to nothing"):
        one.connect(("127.0.0.1", 9))


def test_with_an_embedder_each_question_is_embedded_in_rows_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Noting(Embeddings):
        def embed_query(self, text: str) -> list[float]:
            asked.append(text)
            return [1.0]

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise NotImplementedError

    monkeypatch.setattr(cache_speed, "chosen_embedder", lambda *_: Noting())
    found = run(tmp_path, "--methods", "ours", "inmemory", "--embedder", "onnx")
    times = {(metric, at) for metric, at, _ in found["ours"] if str(at).endswith("+embedder")}
    names = ("exact_p50_ms", "hit_p50_ms", "hit_p95_ms", "miss_p50_ms")
    assert times == {(name, f"{count}+embedder") for name in names for count in (30, 60)}
    assert not any(str(at).endswith("+embedder") for _, at, _ in found["inmemory"])
    # No stored question, which is found by its text alone; and every other one once.
    assert len(asked) == len(set(asked)) > 4 * (cache_speed.WARM_UP + 3)


def test_an_export_is_made_beside_the_benchmark_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKOPT_HOME", str(tmp_path / "home"))
    started: list[list[str]] = []
    monkeypatch.setattr(cache_speed.subprocess, "run", lambda command, check: started.append(command))
    with pytest.raises(RuntimeError, match="cannot be used"):
        cache_speed.chosen_embedder("onnx", tmp_path)
    assert started[0][-1] == str(tmp_path)
    assert "export_model" in started[0][2]


def test_what_an_index_does_in_the_background_is_waited_for() -> None:
    go, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert go.wait(30)
        ended.set()

    worker = threading.Thread(target=work, name="tokopt-vectors")
    worker.start()
    cache_speed.rest(0.0)
    assert not ended.is_set()
    go.set()
    cache_speed.rest()
    assert ended.is_set()
