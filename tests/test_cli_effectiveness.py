"""`tokopt effectiveness`: verdicts only where chance alone would hardly make them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.cli import telemetry_options
from langchain_tokopt.cli.effectiveness_rows import effects, interval_of_sum, judged
from langchain_tokopt.database import Database
from langchain_tokopt.events import Decision, Event, Failure, Who
from langchain_tokopt.telemetry.readings import Span
from langchain_tokopt.telemetry.report import Saved
from langchain_tokopt.telemetry.store import EventStore
from tests.cli_events import HOUR, NOW, call, is_harmless, keep, lines, run

DAY = Span(NOW - 24 * HOUR, NOW)
HOSTILE = "x\u202e\x9b[2J[red]y\u200b"


def did(ago: float, part: str, usd: str | None, **fields: Any) -> Decision:
    cost = None if usd is None else Decimal(usd)
    settings: Any = {"action": "applied", "tokens_before": 100, "tokens_after": 60, "saved_usd": cost, **fields}
    return Decision(at=NOW - ago, part=part, **settings)


def left(ago: float, part: str, reason: str) -> Decision:
    return Decision(at=NOW - ago, part=part, action="skipped", reason=reason)


def many(part: str, *usd: str, **fields: Any) -> list[Event]:
    """What a part did, once every half hour."""
    return [did(1800.0 * n + 60, part, amount, **fields) for n, amount in enumerate(usd)]


EVENTS: list[Event] = [
    *many("tools", *["0.01", "0.02"] * 20),
    *many("history", *["-0.01", "-0.03"] * 20),
    *many("prompt", *["0.001"] * 40, mode="shadow"),
    *many("model", *["0.05", "-0.05"] * 20),
    did(60, "cache", "1"),
    *(left(60, "tools", reason) for reason in ("few tools", "few tools", "cached prefix", HOSTILE, "rare")),
    *(Failure(at=NOW - 60, part="tools", error="gone") for _ in range(5)),
]


@pytest.fixture
def store() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


@pytest.fixture
def tokopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)
    keep(EVENTS, tmp_path / "data")
    return lambda *arguments: run("effectiveness", *arguments, "--data-dir", str(tmp_path / "data"))


def verdicts(store: EventStore, *events: Event) -> dict[str, str]:
    store.write(events)
    return {effect.part: effect.verdict for effect in effects(store, DAY).parts}


def test_each_part_has_a_verdict(store: EventStore) -> None:
    assert verdicts(store, *EVENTS) == {
        "tools": "saves",
        "history": "costs more than it saves",
        "prompt": "would save",
        "model": "not enough data",
        "cache": "not enough data",
    }


def test_figures_are_the_sums_of_the_events(store: EventStore) -> None:
    store.write(EVENTS)
    found = {effect.part: effect for effect in effects(store, DAY).parts}
    tools = found["tools"]
    assert tools.figures.real == Saved(applied=40, tokens=1600, usd=Decimal("0.6"))
    assert tools.figures.skipped == 5
    assert tools.reasons == (("few tools", 2), ("cached prefix", 1), ("rare", 1))
    assert tools.errors is not None
    assert (tools.errors.value, tools.errors.count) == (0.1, 50)
    assert tools.net == tools.least == Decimal("0.6")
    assert tools.interval is not None
    assert tools.interval[0] < Decimal("0.6") < tools.interval[1]
    assert found["prompt"].figures.shadow == Saved(applied=40, tokens=1600, usd=Decimal("0.04"))
    assert found["cache"].why == "it did too little, or in too short a time, to tell it from chance"


def test_own_calls_of_nobody_count_against_every_part(store: EventStore) -> None:
    small = call(60, Who(), 10, "0.1", internal=True)
    store.write([*EVENTS, small])
    found = {effect.part: effect for effect in effects(store, DAY).parts}
    assert (found["tools"].net, found["tools"].least) == (None, Decimal("0.5"))
    assert (found["tools"].verdict, found["prompt"].verdict) == ("saves", "would save")
    store.write([call(61, Who(), 10, "0.5", internal=True)])
    found = {effect.part: effect for effect in effects(store, DAY).parts}
    assert found["tools"].verdict == "not enough data"
    assert found["tools"].why.endswith("and the optimiser's own calls for $0.60 may all be for this part")
    assert found["history"].verdict == "costs more than it saves"
    assert effects(store, DAY).net == Decimal("1.6") - Decimal("0.8") - Decimal("0.6")


@pytest.mark.parametrize(
    ("saved", "interval", "settings", "verdict"),
    [
        (Saved(), None, {}, "not enough data"),
        (Saved(applied=9), None, {}, "not enough data"),
        (Saved(applied=9, usd=Decimal(1)), None, {}, "not enough data"),
        (Saved(applied=9, usd=Decimal(1)), ("0", "2"), {}, "not enough data"),
        (Saved(applied=9, usd=Decimal(1)), ("0.1", "2"), {}, "saves"),
        (Saved(applied=9, usd=Decimal(1)), ("0.1", "2"), {"spent": Decimal("0.1")}, "not enough data"),
        (Saved(applied=9, usd=Decimal(1)), ("0.1", "2"), {"unpriced": True}, "not enough data"),
        (Saved(applied=9, usd=Decimal(-1)), ("-2", "0"), {}, "not enough data"),
        (Saved(applied=9, usd=Decimal(-1)), ("-2", "-0.1"), {"unpriced": True}, "costs more than it saves"),
        (Saved(applied=9, usd=Decimal(-1)), ("-2", "-0.1"), {"shadow": True}, "would cost more than it saves"),
    ],
)
def test_a_verdict_needs_a_whole_interval(
    saved: Saved, interval: tuple[str, str] | None, settings: dict[str, Any], verdict: str
) -> None:
    bounds = None if interval is None else (Decimal(interval[0]), Decimal(interval[1]))
    given: Any = {"spent": Decimal(0), "unpriced": False, "shadow": False, **settings}
    assert judged(saved, bounds, **given)[0] == verdict


def test_the_interval_of_a_sum() -> None:
    assert interval_of_sum([Decimal(1)] * 5 + [Decimal(0)] * 19) is None
    assert interval_of_sum([]) is None
    assert interval_of_sum([Decimal("0.5")] * 24) == (Decimal(12), Decimal(12))
    # Ten slices: their sum is 20, its standard error sqrt(10 / 9 * 10), and Student's t with 9 degrees is 2.2622.
    low, high = interval_of_sum([Decimal(1), Decimal(3)] * 5) or (Decimal(0), Decimal(0))
    assert low + high == 40
    assert float(high) == pytest.approx(20 + 2.2622 * 10 / 3, rel=0.001)


def test_a_table_of_the_parts(tokopt: Any) -> None:
    code, out, error = tokopt()
    assert (code, error) == (0, "")
    assert lines(out)[0] == ("Part Applied Left alone Tokens saved Saved 95 % Net Errors 95 % of errors Verdict")
    assert [line.split()[0] for line in lines(out)[1:7]] == ["cache", "tools", "prompt", "model", "history", "all"]
    assert lines(out)[6] == "all 121 4,840 $0.80 $0.80"
    assert lines(out)[2].endswith("10.0% 4.3% to 21.4% saves")
    assert "- tools: few tools (2); cached prefix (1); rare (1)" in out
    assert is_harmless(out)


def test_as_json(tokopt: Any) -> None:
    code, out, _ = tokopt("--json")
    assert code == 0
    found = json.loads(out)
    tools = next(part for part in found["parts"] if part["part"] == "tools")
    assert (tools["verdict"], tools["saved"]["usd"], tools["net_saved_usd"]) == ("saves", "0.6", "0.6")
    assert tools["errors"]["of"] == 50
    assert tools["reasons"][0] == {"reason": "few tools", "count": 2}
    assert found["total"]["net_saved_usd"] == "0.8"
    assert found["total"]["own_calls"]["measured"]["calls"] == 0
    assert (found["since"], found["until"]) == ("2027-01-14T08:00:00+00:00", "2027-01-15T08:00:00+00:00")


def test_nothing_done_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)
    keep([call(60, Who(), 10, "0.1")], tmp_path / "data")
    code, out, error = run("effectiveness", "--data-dir", str(tmp_path / "data"))
    assert (code, out) == (1, "")
    assert error.startswith("No part did anything in the last 24 hours")
    code, out, _ = run("effectiveness", "--data-dir", str(tmp_path / "data"), "--json")
    assert (code, json.loads(out)["parts"]) == (1, [])
