from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from benchmarks import history
from benchmarks.history import Conversation, Kept, Question
from benchmarks.peers.summarization import kept_facts

TEXTS = [
    "My sister Ines moved to Porto last spring.",
    "The weather was grey all day long today.",
    "We painted the kitchen walls in green.",
    "My train was late again in the evening.",
    "The garden is full of weeds this year.",
]


def rows(out: Path, *arguments: str) -> dict[tuple[str, str, object], float]:
    assert history.main(["--json", str(out), *arguments]) == 0
    result = json.loads(out.read_text())
    assert result["program"] == "history"
    return {(row["method"], row["metric"], row["at"]): row["value"] for row in result["rows"]}


def conversation() -> Conversation:
    messages = [HumanMessage(text, id=f"m{at}", name="ab"[at % 2]) for at, text in enumerate(TEXTS)]
    return Conversation(messages, [Question("Where did Ines move?", "Porto", ("m0",))], [10] * len(TEXTS))


def test_reports_every_figure_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(tmp_path / "rows.json", "--embeddings", "hash")
    for method in ("keep_last", "bm25", "summarization", "ours", "ours+embeddings"):
        for metric in ("evidence", "answer"):
            assert all(0 <= found[method, metric, budget] <= 1 for budget in history.BUDGETS)
    assert found["ours", "evidence", 0.6] > found["keep_last", "evidence", 0.6]
    assert "1 conversations" in capsys.readouterr().out


def test_the_newest_that_fit_are_kept_last() -> None:
    talk = conversation()
    keep = history.keep_last(talk)
    assert keep(talk.questions[0], 0.4).ids == {"m3", "m4"}
    assert keep(talk.questions[0], 0.1).ids == frozenset()


def test_what_is_asked_for_is_kept_by_ours_and_by_bm25() -> None:
    talk = conversation()
    for method in (history.ours, history.bm25):
        assert method(talk)(talk.questions[0], 0.2).ids == {"m0"}


def test_figures_are_exact() -> None:
    talk = conversation()
    talk.questions.append(Question("What is green?", "no such words", ("m2", "m4")))

    def method(_: Conversation) -> object:
        return lambda question, budget: Kept(frozenset(("m4",)) if budget < 0.5 else frozenset(("m0", "m4")))

    found = {(row.metric, row.at): row.value for row in history.measure("x", method, [talk])}  # type: ignore[arg-type]
    assert found["evidence", 0.1] == pytest.approx((0 + 0.5) / 2)
    assert found["evidence", 0.6] == pytest.approx((1 + 0.5) / 2)
    assert (found["answer", 0.1], found["answer", 0.6]) == (0.0, 1.0)


def test_a_message_that_is_cut_up_counts_by_what_is_shown_of_it() -> None:
    text = "She moved. To Porto, they say."
    kept = Kept(frozenset(), history.searchable("Ann: She moved."))
    assert kept.share("m", text) == pytest.approx(11 / (11 + 19))
    assert not kept.states(" porto ", "m", text)
    assert kept.states(" moved ", "m", text)
    assert Kept(frozenset(("m",))).share("m", text) == 1.0
    assert Kept(frozenset(("m",))).share("n", text) == 0.0


def test_a_perfect_summary_holds_what_it_was_shown_as_far_as_there_is_room() -> None:
    messages = [HumanMessage(f"message number {at} says nothing of interest", id=f"m{at}") for at in range(80)]
    facts = {"m1": messages[1].text, "m40": messages[40].text, "m79": messages[79].text}
    assert kept_facts(messages, facts, 600) == set(facts)
    assert kept_facts(messages, facts, 100_000) == set(facts)
    many = {f"m{at}": messages[at].text for at in range(60)}
    assert kept_facts(messages, many, 600) < set(many)


@pytest.mark.parametrize(
    "text",
    [
        "no json\n",
        '{"messages": []}\n',
        '{"messages": [{"id": "a"}], "questions": []}\n',
        '{"messages": [], "questions": [{"question": "?", "answer": "x", "evidence": ["b"]}]}\n',
        "",
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    assert history.main(["--data", str(data)]) == 2
    assert "data.jsonl" in capsys.readouterr().err
