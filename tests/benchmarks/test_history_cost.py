from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from benchmarks import history_cost
from benchmarks.history import COUNTER, Conversation, Question
from benchmarks.history_cost import PriceTable, costs_so_far
from langchain_tokopt.prefix import Segment
from langchain_tokopt.rates import Rates
from tests.context.memory.threads import FACTS, chat

RATES = Rates(
    input=Decimal(10), output=Decimal(10), cache_read=Decimal(1), cache_write=Decimal("12.5"), caching="explicit"
)


def prompt(*names: str) -> tuple[Segment, ...]:
    """A prompt of messages with these names, a million tokens each."""
    return tuple(Segment(name.encode(), 1_000_000) for name in names)


def costs(*prompts: str, only_ends: bool = False) -> list[Decimal]:
    return costs_so_far([prompt(*one) for one in prompts], PriceTable("x", RATES, only_ends))


def a_talk(turns: int = 60) -> Conversation:
    messages: list[AnyMessage] = [
        message.model_copy(update={"id": str(number)})  # type: ignore[misc]
        for number, message in enumerate(chat(turns)[1:])
    ]
    where = next(str(message.id) for message in messages if FACTS[3] in message.text)
    asked = Question("Which passport number do I have?", "X4471293", (where,))
    return Conversation(messages, [asked], [COUNTER.message(message) for message in messages])


def test_reports_every_method_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert history_cost.main(["--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["program"] == "history_cost"
    found = {(row["method"], row["metric"], row["at"]): row["value"] for row in result["rows"]}
    for method in history_cost.METHODS:
        for table in ("anthropic", "anthropic-end", "openai", "uncached"):
            assert found[method, "chat_cost", table] == 1  # far too short for anybody to change it
        assert found[method, "chat_tokens", None] == found[method, "chat_evidence", None] == 1
    assert "1 conversations, 2 calls" in capsys.readouterr().out


def test_an_answer_is_a_call_with_all_that_was_said_before() -> None:
    said: list[AnyMessage] = [AIMessage("Hi"), HumanMessage("a"), AIMessage("b"), AIMessage("c"), HumanMessage("d")]
    talk = Conversation(said, [], [1] * 5)
    assert list(history_cost.prompts_of(talk, history_cost.everything)) == [said[:2], said[:3]]


def test_what_was_sent_before_is_read_and_the_rest_is_written() -> None:
    assert costs("ab", "abcd") == [Decimal(25), Decimal(25 + 2 + 25)]
    assert costs("ab", "xb") == [Decimal(25), Decimal(50)]


def test_where_only_ends_are_marked_what_was_put_in_before_the_end_costs_the_next_call() -> None:
    # "r" stands before the newest message once, and is gone again.
    assert costs("ab", "abcrd", "abcdef") == [Decimal(25), Decimal("64.5"), Decimal("64.5") + 3 + Decimal("37.5")]
    assert costs("ab", "abcrd", "abcdef", only_ends=True)[-1] == Decimal("64.5") + 2 + 50


def test_an_end_is_not_found_from_further_than_twenty_blocks() -> None:
    long = "ab" + "cdefghijklmnopqrstuvwxyz"
    assert costs("ab", long, only_ends=True)[-1] == Decimal(25) + Decimal("12.5") * 26


def test_a_window_keeps_the_newest_messages_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = a_talk(10)
    monkeypatch.setattr(history_cost, "WINDOW", sum(talk.sizes[-3:]))
    assert history_cost.window(talk.messages) == talk.messages[-3:]
    monkeypatch.setattr(history_cost, "WINDOW", 1)
    assert history_cost.window(talk.messages) == talk.messages[-1:]


def test_a_long_conversation_costs_less_and_still_finds_what_was_said() -> None:
    rows = list(
        history_cost.rows([a_talk()], ["window", "ours"], pays=None, block_tokens=800, keep_tokens=300, ratio=0.02)
    )
    found = {(row.method, row.metric, row.at): row for row in rows}
    cost = found["ours", "chat_cost", "uncached"]
    assert cost.value < 0.5
    assert cost.low == cost.high == cost.value
    assert found["ours", "chat_tokens", None].value == pytest.approx(cost.value)
    # A prompt that is kept so small is never cached.
    assert found["ours", "chat_cost", "openai"].value > 1
    assert found["ours", "chat_evidence", None].value > 0.4  # its sentence, and not all of its message
    assert found["ours", "chat_answer", None].value == 1
    assert found["ours", "cost_so_far", "uncached"].value == 1
    assert found["window", "chat_evidence", None].value == 0


def test_data_that_cannot_be_used_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("{}\n")
    assert history_cost.main(["--data", str(data)]) == 2
    assert str(data) in capsys.readouterr().err
