from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tools, tools_cost
from benchmarks.overhead import AtOnce
from benchmarks.rows import Measure
from benchmarks.tools_bills import Bill, Biller, PriceTable
from benchmarks.tools_threads import Conversation, Turn, as_tools, specs_of
from langchain_tokopt import Pricing, Rates, TokenCounter
from langchain_tokopt.prefix import segments

pytest.importorskip("langchain_anthropic")
pytest.importorskip("langchain_openai")

TABLES = ("anthropic", "anthropic+inline", "openai", "openai+inline", "uncached")
SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}}
TOOLS = as_tools([{"name": name, "description": f"Do {name}.", "parameters": SCHEMA} for name in "abcd"])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, Any], float]:
    """The figures of a small run on the sample."""
    out = tmp_path_factory.mktemp("costs") / "rows.json"
    methods = ("ours:off", *tools_cost.METHODS)
    arguments = ["--embeddings", "hash", "--only", "cost", "--regimes", "15", "60", "--threads", "2"]
    assert tools.main([*arguments, "--methods", *methods, "--json", str(out)]) == 0
    return {(row["method"], row["metric"], row["at"]): row["value"] for row in json.loads(out.read_text())["rows"]}


def test_doing_nothing_costs_what_binding_everything_costs(found: dict[tuple[str, str, Any], float]) -> None:
    costs = {at: cost for (method, metric, at), cost in found.items() if method == "ours:off" and "_cost" in metric}
    kinds = {f"{table}:{size}{kind}" for table in TABLES for size in (15, 60) for kind in ("", " cold")}
    assert set(costs) == kinds - {"uncached:15 cold", "uncached:60 cold"} | {"cached:15", "cached:60"}
    assert set(costs.values()) == {1.0}


def test_left_to_choose_it_never_costs_more_than_a_little(found: dict[tuple[str, str, Any], float]) -> None:
    costs = {at: cost for (method, metric, at), cost in found.items() if (method, metric) == ("ours", "input_cost")}
    assert {at: cost for at, cost in costs.items() if cost > 1.05} == {}
    assert costs["uncached:60"] < 0.9


def test_everything_that_is_needed_can_be_reached_where_there_is_a_search(
    found: dict[tuple[str, str, Any], float],
) -> None:
    for method in ("ours:off", "ours", "ours:rebind", "ours:inline", "ours:proxy", "llm_tool_selector"):
        assert [found[method, "reached", size] for size in (15, 60)] == [1.0, 1.0]
    assert found["fresh", "reached", 60] < 1.0
    assert found["ours:off", "searches_per_turn", 60] == found["fresh", "searches_per_turn", 60] == 0
    assert found["ours:rebind", "searches_per_turn", 60] > 0


def test_inline_has_figures_for_models_that_can_be_told_of_tools(found: dict[tuple[str, str, Any], float]) -> None:
    ats = {at for method, metric, at in found if (method, metric) == ("ours:inline", "input_cost")}
    assert {str(at).partition(":")[0] for at in ats} == {"anthropic+inline", "openai+inline", "cached"}


def test_a_constant_list_of_tools_costs_less_than_one_that_changes(found: dict[tuple[str, str, Any], float]) -> None:
    for method in ("ours:inline", "ours:proxy"):
        assert found[method, "input_cost", "cached:60"] < found["ours:rebind", "input_cost", "cached:60"]


def test_a_list_that_changes_costs_more_where_a_cache_is_in_use(found: dict[tuple[str, str, Any], float]) -> None:
    assert found["fresh", "input_cost", "uncached:60"] < 1 < found["fresh", "input_cost", "anthropic:60"]
    costs = [found["fresh", "input_cost", f"{table}:60"] for table in TABLES if table != "uncached"]
    assert found["fresh", "input_cost", "cached:60"] == max(costs)


def test_the_selector_s_own_calls_are_counted(found: dict[tuple[str, str, Any], float]) -> None:
    assert 300 < found["llm_tool_selector", "selector_tokens", 15] < found["llm_tool_selector", "selector_tokens", 60]
    assert ("fresh", "selector_tokens", 60) not in found
    assert found["llm_tool_selector", "input_cost", "uncached:15"] > found["fresh", "input_cost", "uncached:15"]


def test_no_tools_at_all_cost_least_where_there_is_no_cache(found: dict[tuple[str, str, Any], float]) -> None:
    for size in (15, 60):
        costs = {
            method: found[method, "input_cost", f"uncached:{size}"]
            for method in tools_cost.METHODS
            if method != "ours:inline"
        }
        assert min(costs, key=lambda method: costs[method]) == "none"
    assert found["none", "reached", 60] == 0.0


def test_the_worst_regime_is_named(found: dict[tuple[str, str, Any], float]) -> None:
    for name in ("fresh", "append", "ours:rebind"):
        ((at, cost),) = [
            (at, cost) for (method, metric, at), cost in found.items() if (method, metric) == (name, "worst")
        ]
        assert found[name, "input_cost", at] == cost > 1
    rows = [Measure("m", "input_cost", "a:5", 0.9, 0.5, 1.5), Measure("m", "input_cost", "b:5", 1.2)]
    assert list(tools_cost.worst([*rows, Measure("m", "input_cost", "cached:5", 9.0)])) == [
        Measure("m", "worst", "a:5", 1.5)
    ]


def test_sizes_without_data_and_modes_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools_cost, "KNOWN_METHODS", ("ours:none",))
    out = tmp_path / "rows.json"
    arguments = ["--embeddings", "hash", "--only", "cost", "--methods", "ours:none", "--regimes", "1", "1000"]
    data = tmp_path / "q.jsonl"
    data.write_text(json.dumps({"query": "x", "tools": ["get_weather", "send_email"]}))
    assert tools.main([*arguments, "--data", str(data), "--json", str(out)]) == 0
    told = capsys.readouterr().err
    assert "ours:none is left out: mode='none'" in told
    assert "costs with 1 tools: left out, no query can do with so few" in told
    assert "costs with 1000 tools: left out, the registry is smaller" in told
    assert json.loads(out.read_text())["rows"] == []


def test_bills_are_exact() -> None:
    counter = TokenCounter()
    rates = Rates(input=Decimal(10), output=Decimal(50), cache_read=Decimal(1), caching="automatic")
    pricing = Pricing(overrides={"gpt-5-mini": rates})
    table = PriceTable("mine", AtOnce())
    threads = []
    for name in ("one", "two"):
        thread = Conversation(name, [Turn(name, ("a",))], TOOLS, specs_of(TOOLS), table.model, {})
        thread.run(tools_cost.everything(thread))
        threads.append(thread.sent)
    warm, cold = Biller(table, counter, pricing).bills(threads)
    prompts = [[segments(sent.request, counter) for sent in thread] for thread in threads]
    shared = sum(segment.tokens for segment in prompts[0][0][: len(TOOLS) + 1])  # tools and system prompt
    expected = Bill()
    for thread, sent in zip(prompts, threads, strict=True):
        output = sum(counter.message(call.answer, "gpt-5-mini") for call in sent)
        total = [sum(segment.tokens for segment in prompt) for prompt in thread]
        read = total[0] + total[1]
        expected += Bill(Decimal(10 * (sum(total) - read) + read) / 1_000_000, Decimal(50 * output) / 1_000_000)
    assert cold == expected
    assert warm == Bill(expected.input - Decimal(2 * 9 * shared) / 1_000_000, expected.output)
