from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import HumanMessage

from benchmarks import agent_runs
from benchmarks.agent_runs import SAMPLE, main, measure, methods, read_runs
from benchmarks.tools_bills import price_tables


def listing(step: int) -> str:
    """What a search prints; no two have a line in common."""
    files = range(step * 1_000, step * 1_000 + 120)
    return "\n".join(f"src/part_{n}/module_{n}.py: def compute_total_{n}(self, order_id)" for n in files)


def run(name: str, *, calls: int = 12) -> dict[str, Any]:
    """A run that looks through files and edits one that it has seen in the beginning."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You repair programs. " * 120},
        {"role": "user", "content": f"Repair the total of order 77 in shop {name}: it is in module_77."},
    ]
    for step in range(calls):
        last = step == calls - 1
        arguments = {"command": "sed -i s/1/2/ src/part_77/module_77.py" if last else f"grep -rn total src {step}"}
        call = {"name": "bash", "arguments": json.dumps(arguments)}
        calling = {"id": f"c{step}", "type": "function", "function": call}
        messages.append({"role": "assistant", "content": f"Step {step}.", "tool_calls": [calling]})
        said = listing(step) if step % 3 == 0 else "ok"
        messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": said})
    messages.append({"role": "assistant", "content": "Done."})
    return {"id": name, "messages": messages}


def written(folder: Path, *rows: dict[str, Any], packed: bool = False) -> Path:
    path = folder / ("runs.jsonl.gz" if packed else "runs.jsonl")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def figures(out: Path) -> dict[tuple[str, str, Any], float]:
    rows = json.loads(out.read_text())["rows"]
    return {(row["method"], row["metric"], row["at"]): row["value"] for row in rows}


def test_the_sample_gives_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(SAMPLE), "--json", str(tmp_path / "out.json")]) == 0
    found = figures(tmp_path / "out.json")
    for table in agent_runs.TABLES:
        for method in agent_runs.METHODS:
            assert found[method, "violations", table] == 0
            assert 0 < found[method, "billed_input", table] <= 1.1
    assert found["ours", "ms_per_10k_tokens", None] > 0
    assert "agent_runs on agent_runs.jsonl" in capsys.readouterr().out


def test_runs_that_read_much_cost_less_and_keep_what_they_need_within_reach(tmp_path: Path) -> None:
    path = written(tmp_path, run("a"), run("b"), run("c"))
    out = tmp_path / "out.json"
    chosen = ["--tables", "anthropic", "uncached", "--only", "lossless", "ours"]
    assert main(["--data", str(path), *chosen, "--json", str(out)]) == 0
    found = figures(out)
    assert found["ours", "billed_input", "uncached"] < 0.8 * found["lossless", "billed_input", "uncached"]
    assert found["ours", "retrievable", "anthropic"] == found["ours", "retrievable", "uncached"] == 1
    assert found["ours", "identifiers_visible", "anthropic"] > 0.9
    assert found["nothing", "prefix_breaks_per_call", "anthropic"] == 0


def test_what_a_call_needs_is_what_only_results_said() -> None:
    (found,) = read_runs(SAMPLE)[:1]
    for at, needed in found.needs.items():
        before = found.messages[:at]
        assert all(any(name in str(message.text) for message in before if message.type == "tool") for name in needed)
        assert not any(name in str(message.text) for message in before if message.type != "tool" for name in needed)


def test_what_is_left_out_is_within_reach_where_a_note_says_how(tmp_path: Path) -> None:
    runs = read_runs(written(tmp_path, run("a", calls=40)))
    table = next(table for table in price_tables() if table.name == "anthropic")
    within = measure(runs, lambda: agent_runs._ours(max_tokens=6_000), table)
    assert within.violations == 0
    assert within.visible < within.needed == within.retrievable


def test_a_text_whose_handle_leads_nowhere_is_not_within_reach(tmp_path: Path) -> None:
    (found,) = read_runs(written(tmp_path, run("a")))
    at, needed = next((at, names) for at, names in found.needs.items() if names)
    note = HumanMessage('[left out; retrieve_original("1a2b3c4d") has all of it]')
    request = ModelRequest(model=None, messages=[note])  # type: ignore[arg-type]
    for blocks, retrievable in (({}, 0), ({"1a2b3c4d": " ".join(needed)}, len(needed))):
        outcome = agent_runs.Outcome()
        agent_runs._look(outcome, found, at, agent_runs.Sent(request, blocks))
        assert (outcome.needed, outcome.visible, outcome.retrievable) == (len(needed), 0, retrievable)


def test_masks_that_slide_break_the_prefix(tmp_path: Path) -> None:
    (runs,) = [read_runs(written(tmp_path, run("a", calls=30), packed=True))]
    table = next(table for table in price_tables() if table.name == "anthropic")
    nothing = measure(runs, methods(curve=False)["nothing"], table)
    cleared = measure(runs, methods(curve=False)["clear_tool_uses"], table)
    assert nothing.breaks == 0
    assert cleared.breaks > 0


def test_rows_that_are_no_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, run("a"), {"id": "b", "messages": [{"role": "nobody"}]})
    assert main(["--data", str(path)]) == 2
    assert "line 2 is not a run" in capsys.readouterr().err
    assert main(["--data", str(tmp_path / "none.jsonl")]) == 2
