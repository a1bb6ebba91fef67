from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from langchain_tokopt.adapt import SavingsGuard
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Decision
from tests.fakes import FakeClock, ListSink


def decided(saved: str | None, part: str = "tools", **kwargs: Any) -> Decision:
    return Decision(part=part, action="applied", saved_usd=None if saved is None else Decimal(saved), **kwargs)


def test_a_part_that_costs_more_than_it_saves_is_set_aside_and_tried_again() -> None:
    clock, sink = FakeClock(), ListSink()
    guard = SavingsGuard(window=3, pause_seconds=60, clock=clock)
    watching = guard.watching(sink)
    for saved in ("0.5", "-1", "-1"):
        assert guard.allows("tools")
        watching.emit(decided(saved))
    assert not guard.allows("tools")
    assert guard.allows("history")
    assert sink.of(Decision)[-1].reason == "set aside for 60 s: its last 3 decisions cost 1.5 USD"
    clock.advance(59)
    assert not guard.allows("tools")
    clock.advance(1)
    assert guard.allows("tools")
    watching.emit(decided("-9"))
    assert guard.allows("tools"), "nothing is concluded from fewer decisions than the window"


def test_a_part_that_pays_on_the_whole_stays() -> None:
    guard = SavingsGuard(window=2)
    for saved in ("-1", "1", "-1", "1"):
        assert guard.note(decided(saved)) is None
    assert guard.allows("tools")


def test_unknown_prices_and_shadow_decisions_do_not_count() -> None:
    guard = SavingsGuard(window=1)
    assert guard.note(decided(None)) is None
    assert guard.note(decided("-1", mode="shadow")) is None
    assert guard.allows("tools")


def test_every_event_is_passed_on_once() -> None:
    sink = ListSink()
    watching = SavingsGuard().watching(sink)
    events = [CacheLookup(outcome="miss"), decided("1")]
    for event in events:
        watching.emit(event)
    assert sink.events == events


@pytest.mark.parametrize("bad", [{"window": 0}, {"pause_seconds": 0}, {"pause_seconds": float("nan")}])
def test_settings_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        SavingsGuard(**bad)
