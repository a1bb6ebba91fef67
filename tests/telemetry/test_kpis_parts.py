"""KPIs of what the parts themselves say, in an agent: no wording of theirs is missed."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool

from langchain_tokopt.context import HistoryCompression, HistoryCompressionMiddleware
from langchain_tokopt.database import Database
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry.kpis import Kpi, kpis
from langchain_tokopt.telemetry.readings import Readings
from langchain_tokopt.telemetry.store import EventStore
from langchain_tokopt.tokens import TokenCounter
from tests.fakes import ListSink, ScriptedModel, ai

LOG = "\n".join(f"{n}: the log has a line like this one, and {n * 7919} is its number" for n in range(400))


@tool
def read_log() -> str:
    """Read the log."""
    return LOG


@pytest.fixture
def store() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


def told(store: EventStore, sink: ListSink) -> dict[str, Kpi]:
    store.write(sink.events)
    last = max(event.at for event in sink.events)
    return {kpi.name: kpi for kpi in kpis(Readings(store), now=last + 1)}


def test_a_call_that_asks_for_what_was_left_out_counts_against_the_history(store: EventStore) -> None:
    sink = ListSink()
    rates = Rates(input=Decimal(1), output=Decimal(4))
    history = HistoryCompression(max_result_tokens=400).attach(
        counter=TokenCounter(), pricing=Pricing(overrides={"scripted": rates})
    )
    reading = ai("", tool_calls=[{"name": "read_log", "args": {}, "id": "a"}])
    asking = ai("", tool_calls=[{"name": "retrieve_original", "args": {"id": "00000000"}, "id": "b"}])
    model = ScriptedModel(responses=[reading, asking, "done"], model_name="scripted", provider="test")
    agent = create_agent(model, tools=[read_log], middleware=[HistoryCompressionMiddleware(history, sink=sink)])
    agent.invoke({"messages": [("human", "Read it.")]})
    found = told(store, sink)
    assert len(model.calls) == 3
    evidence, compression = found["quality.evidence"], found["tokens.compression"]
    assert (evidence.value, evidence.count) == (0.5, 2)
    assert isinstance(compression.value, float)
    assert 0 < compression.value < 2, "what was asked for again counts in full"
