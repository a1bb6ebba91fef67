"""Each known set is recognised and becomes rows of its format; the rest is refused with a remedy."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import convert

SAMPLES = Path(convert.__file__).parent / "samples"


def converted(source: Path, out: Path, *extra: str) -> list[dict[str, Any]]:
    assert convert.main([str(source), "--out", str(out), *extra]) == 0
    return list(convert.read_jsonl(out))


def saved(path: Path, value: Any) -> Path:
    text = json.dumps(value) if not isinstance(value, list) or path.suffix == ".json" else ""
    path.write_text(text or "".join(json.dumps(row) + "\n" for row in value), encoding="utf-8")
    return path


def test_questions_with_their_intent(tmp_path: Path) -> None:
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "category"], ["Where is my card, please?", "card_arrival"]])
    assert converted(tmp_path / "train.csv", tmp_path / "out.jsonl") == [
        {"text": "Where is my card, please?", "label": "card_arrival"}
    ]


def test_a_question_out_of_scope_is_like_no_other(tmp_path: Path) -> None:
    source = saved(tmp_path / "full.json", {"train": [["hi", "greeting"]], "oos_test": [["a", "oos"], ["b", "oos"]]})
    rows = converted(source, tmp_path / "out.jsonl.gz")
    assert [row["label"] for row in rows] == ["oos_test-0", "oos_test-1", "greeting"]


def test_unequal_pairs_share_words(tmp_path: Path) -> None:
    pairs = [
        {"origin": "reset my password", "similar": "change my password"},
        {"origin": "reset my router", "similar": "restart my router"},
        {"origin": "bake bread", "similar": "making bread"},
    ]
    rows = converted(saved(tmp_path / "mock.json", pairs), tmp_path / "out.jsonl")
    assert {"a": "reset my password", "b": "restart my router", "same": False} in rows
    assert sum(row["same"] for row in rows) == 3


def test_metatool(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "all_clean_data.csv").write_text("Query,Tool\nfind papers,Papers\nwhat,Unknown\n")
    saved(folder / "plugin_des.json", {"Papers": "Finds papers."})
    saved(folder / "big_tool_des.json", {"News": "Reads news."})
    saved(folder / "multi_tool_query_golden.json", [{"query": "papers in the news", "tool": ["Papers", "News"]}])
    assert convert.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert [row["name"] for row in convert.read_jsonl(tmp_path / "out" / "registry.jsonl")] == ["Papers", "News"]
    assert list(convert.read_jsonl(tmp_path / "out" / "single.jsonl")) == [
        {"query": "find papers", "tools": ["Papers"]}
    ]
    assert [r["tools"] for r in convert.read_jsonl(tmp_path / "out" / "double.jsonl")] == [["Papers", "News"]]


def test_bfcl_types_become_those_of_json_schema(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "multi_turn_func_doc").mkdir(parents=True)
    (folder / "possible_answer").mkdir()
    schema = {"type": "dict", "properties": {"type": {"type": "float"}, "any": {"type": "any", "description": "x"}}}
    saved(
        folder / "BFCL_v4_simple.jsonl",
        [
            {
                "id": "s0",
                "question": [[{"role": "user", "content": "area?"}]],
                "function": [{"name": "f.a", "parameters": schema}],
            }
        ],
    ).rename(folder / "BFCL_v4_simple.json")
    saved(folder / "a.jsonl", [{"id": "s0", "ground_truth": [{"f.a": {}}]}]).rename(
        folder / "possible_answer" / "BFCL_v4_simple.json"
    )
    saved(folder / "b.jsonl", [{"name": "cd", "description": "change folder", "parameters": schema}]).rename(
        folder / "multi_turn_func_doc" / "fs.json"
    )
    base = "BFCL_v4_multi_turn_base.json"
    saved(folder / "c.jsonl", [{"id": "m0", "question": [[{"role": "user", "content": "go to docs"}], []]}]).rename(
        folder / base
    )
    saved(folder / "d.jsonl", [{"id": "m0", "ground_truth": [["cd(folder='docs')", "cd('x')"], []]}]).rename(
        folder / "possible_answer" / base
    )
    assert convert.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    (tool,) = convert.read_jsonl(tmp_path / "out" / "registry.jsonl")
    assert tool["parameters"] == {
        "type": "object",
        "properties": {"type": {"type": "number"}, "any": {"description": "x"}},
    }
    assert list(convert.read_jsonl(tmp_path / "out" / "single.jsonl")) == [{"query": "area?", "tools": ["f.a"]}]
    assert list(convert.read_jsonl(tmp_path / "out" / "dialogs.jsonl")) == [
        {"query": "go to docs", "tools": ["cd"], "dialog": "m0", "turn": 0}
    ]


def test_locomo_keeps_questions_that_can_be_answered(tmp_path: Path) -> None:
    talk = {
        "speaker_a": "Ada",
        "session_10": [{"speaker": "Ada", "dia_id": "D10:1", "text": "later"}],
        "session_2": [
            {"speaker": "Ben", "dia_id": "D2:1", "text": "look", "blip_caption": "a cat"},
            {"speaker": "Ada", "dia_id": "D2:2", "text": "nice"},
        ],
        "session_2_date_time": "today",
    }
    qa = [
        {"question": "what?", "answer": 7, "evidence": ["D2:1; D:10:01"], "category": 1},
        {"question": "never said", "answer": "x", "evidence": ["D2:1"], "category": 5},
        {"question": "elsewhere", "answer": "x", "evidence": ["D9:1"], "category": 1},
    ]
    (row,) = converted(saved(tmp_path / "l.json", [{"qa": qa, "conversation": talk}]), tmp_path / "out.jsonl")
    assert [(m["id"], m["role"]) for m in row["messages"]] == [
        ("D2:1", "user"),
        ("D2:2", "assistant"),
        ("D10:1", "assistant"),
    ]
    assert row["messages"][0]["content"] == "look [shares photo: a cat]"
    assert row["questions"] == [{"question": "what?", "answer": "7", "evidence": ["D10:1", "D2:1"]}]


def test_musique_marks_the_sentence_with_the_answer_of_the_hop(tmp_path: Path) -> None:
    item = {
        "question": "q",
        "answer": "Hall",
        "paragraphs": [
            {"idx": 0, "title": "A", "paragraph_text": "Nothing here. The maker was Hall. End.", "is_supporting": True},
            {"idx": 1, "title": "B", "paragraph_text": "Not this.", "is_supporting": False},
        ],
        "question_decomposition": [{"answer": "hall", "paragraph_support_idx": 0}],
    }
    (row,) = converted(saved(tmp_path / "m.json", [item]), tmp_path / "out.jsonl")
    assert row["support"] == [["A", 1]]
    assert row["paragraphs"][0]["sentences"] == ["Nothing here.", "The maker was Hall.", "End."]


def test_hotpotqa_and_tau_bench_keep_their_rows(tmp_path: Path) -> None:
    hotpot = [{"question": "q", "answer": "a", "context": [["T", ["s1", "s2"]]], "supporting_facts": [["T", 1]]}]
    (row,) = converted(saved(tmp_path / "h.json", hotpot), tmp_path / "h.jsonl")
    assert row["paragraphs"] == [{"title": "T", "sentences": ["s1", "s2"]}]
    tau = [{"task_id": 3, "trial": 1, "traj": [{"role": "assistant", "content": None, "tool_calls": []}]}]
    (row,) = converted(saved(tmp_path / "t.json", tau), tmp_path / "t.jsonl")
    assert row == {"id": "tau-3-1", "messages": [{"role": "assistant", "tool_calls": []}]}


def test_a_coding_runs_commands_become_calls_with_their_results(tmp_path: Path) -> None:
    run = {
        "instance_id": "r",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "fix"},
            {"role": "assistant", "content": "First.\n```bash\nls\n```"},
            {"role": "user", "content": "a.py"},
            {"role": "assistant", "content": "no command"},
            {"role": "user", "content": "go on"},
            {"role": "assistant", "content": "```bash\nexit\n```"},
        ],
    }
    (tmp_path / "runs.jsonl.gz").write_bytes(gzip.compress(json.dumps(run).encode()))
    (row,) = converted(tmp_path / "runs.jsonl.gz", tmp_path / "out.jsonl")
    assert [m["role"] for m in row["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    call = row["messages"][2]["tool_calls"][0]
    assert (call["id"], json.loads(call["function"]["arguments"])) == ("call_1", {"command": "ls\n"})
    assert row["messages"][3] == {"role": "tool", "tool_call_id": "call_1", "content": "a.py"}
    assert "tool_calls" not in row["messages"][-1], "a last command that nothing answers is no call"


@pytest.mark.parametrize(
    ("name", "content"), [("x.json", "{}"), ("x.csv", "a,b\n"), ("x.jsonl", '{"a": 1}\n'), ("x.jsonl", "not json\n")]
)
def test_what_is_not_known_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    assert convert.main([str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    assert str(tmp_path / name) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_samples_are_rows_of_their_formats() -> None:
    keys = {path.name: set(next(convert.read_jsonl(path))) for path in SAMPLES.glob("*.jsonl")}
    assert keys == {
        "pairs.jsonl": {"a", "b", "same"},
        "stream.jsonl": {"text", "label"},
        "trace.jsonl": {"key", "bytes", "usd"},
        "registry.jsonl": {"name", "description", "parameters"},
        "queries.jsonl": {"query", "tools"},
        "history.jsonl": {"id", "messages", "questions"},
        "documents.jsonl": {"question", "answer", "paragraphs", "support"},
        "agent_runs.jsonl": {"id", "messages"},
        "spending.jsonl": {"id", "daily"},
    }
