from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import documents
from benchmarks.documents import Case


def rows(out: Path, *arguments: str) -> dict[tuple[str, str, object], float]:
    assert documents.main(["--json", str(out), *arguments]) == 0
    result = json.loads(out.read_text())
    assert result["program"] == "documents"
    return {(row["method"], row["metric"], row["at"]): row["value"] for row in result["rows"]}


def the_case() -> Case:
    (case,) = documents.read_cases(documents.SAMPLE)
    return case


def test_reports_every_figure_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(tmp_path / "rows.json", "--embeddings", "hash")
    for method in ("truncate", "bm25", "ours", "cosine", "ours+embeddings"):
        for metric in ("support", "answer"):
            assert all(0 <= found[method, metric, factor] <= 1 for factor in documents.FACTORS)
    assert "1 questions" in capsys.readouterr().out


def test_support_is_read_as_sentences_of_their_titles() -> None:
    case = the_case()
    assert case.support == [
        ("Clock maker", "The clock maker was born in Celle."),
        ("Celle", "The river Aller runs through it."),
    ]
    assert [document.metadata["title"] for document in case.documents] == ["Clock maker", "Celle", "Bread"]


def test_truncation_keeps_the_first_sentences() -> None:
    kept = documents.truncate(the_case(), 12)
    assert list(kept) == ["Clock maker"]
    assert kept["Clock maker"].split() == ["The", "clock", "maker", "was", "born", "in", "Celle."]


def test_figures_are_exact() -> None:
    def method(case: Case, max_tokens: int) -> dict[str, str]:
        return {"Celle": "The river Aller runs through it."} if max_tokens > case.tokens / 4 else {"": "The clock"}

    found = {(row.metric, row.at): row.value for row in documents.measure("x", method, [the_case()])}
    assert (found["support", 2], found["support", 5]) == (0.5, 0.0)
    assert (found["answer", 3], found["answer", 5]) == (1.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "{}\n",
        '{"question": "?", "answer": "x", "paragraphs": [{"title": "A"}], "support": []}\n',
        '{"question": "?", "answer": "x", "paragraphs": [{"title": "A", "sentences": ["B"]}], "support": [["A", 7]]}\n',
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    assert documents.main(["--data", str(data)]) == 2
    assert "data.jsonl" in capsys.readouterr().err
