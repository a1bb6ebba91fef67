"""`OtelSink`: events as OpenTelemetry metrics and spans, in the user's own providers."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages.ai import UsageMetadata
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from langchain_tokopt.events import (
    CacheLookup,
    Decision,
    Event,
    Failure,
    LimitAlert,
    ModelCall,
    Reservation,
    Who,
    request_scope,
)
from langchain_tokopt.telemetry.otel import OtelSink

USAGE: UsageMetadata = {
    "input_tokens": 1000,
    "output_tokens": 50,
    "total_tokens": 1050,
    "input_token_details": {"cache_read": 600, "cache_creation": 100},
    "output_token_details": {"reasoning": 20},
}
WHO = Who(tenant="acme", project="shop", agent="writer", user="7", thread="t1", run="r1")
CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
OWN = {"tokopt.call.internal": False}
ABOUT = {"tokopt.project": "shop", "gen_ai.agent.name": "writer"}


def call(**changes: Any) -> ModelCall:
    fields: dict[str, Any] = {
        "who": WHO,
        "model": "gpt-4o-mini",
        "provider": "openai",
        "usage": USAGE,
        "usage_source": "provider",
        "cost_usd": Decimal("0.00216"),
        "latency_seconds": 1.5,
        "at": 1_800_000_000.0,
    }
    return ModelCall(**{**fields, **changes})


class Otel:
    """A meter and a tracer provider that keep what they are given."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracers.get_tracer("test")

    def sink(self, **settings: Any) -> OtelSink:
        return OtelSink(meter_provider=self.meters, tracer_provider=self.tracers, **settings)

    def points(self) -> dict[str, dict[frozenset[Any], Any]]:
        """Every metric: its points by attributes; of a histogram the sum."""
        data = self.reader.get_metrics_data()
        found: dict[str, dict[frozenset[Any], Any]] = {}
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = {
                        frozenset((point.attributes or {}).items()): point.value
                        if hasattr(point, "value")
                        else point.sum
                        for point in metric.data.data_points
                    }
        return found

    def units(self) -> dict[str, str]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics]
        return {metric.name: metric.unit for metric in metrics}

    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())

    def close(self) -> None:
        self.meters.shutdown()
        self.tracers.shutdown()


@pytest.fixture
def otel() -> Iterator[Otel]:
    otel = Otel()
    yield otel
    otel.close()


def points(*pairs: tuple[dict[str, Any], Any]) -> dict[frozenset[Any], Any]:
    return {frozenset(attributes.items()): value for attributes, value in pairs}


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_a_call_is_measured_by_the_conventions(otel: Otel) -> None:
    otel.sink(conventions="1.41").emit(call())
    found = otel.points()
    about = {**CALL, **OWN, **ABOUT}
    assert found["gen_ai.client.token.usage"] == points(
        ({**about, "gen_ai.token.type": "input"}, 1000), ({**about, "gen_ai.token.type": "output"}, 50)
    )
    assert found["gen_ai.client.operation.duration"] == points((about, 1.5))
    assert found["tokopt.cost"] == points((about, 0.00216))
    assert found["tokopt.calls"] == points((about, 1))
    kinds = {"cache_read": 600, "cache_write": 100, "reasoning": 20}
    assert found["tokopt.tokens.subset"] == points(
        *(({**about, "tokopt.token.kind": kind}, count) for kind, count in kinds.items())
    )


def test_a_call_is_measured_by_the_later_conventions(otel: Otel) -> None:
    otel.sink(conventions="genai-0.1").emit(call())
    found = otel.points()
    about = {**CALL, **OWN, **ABOUT}
    used = {
        name.removeprefix("gen_ai.client.inference.usage."): metric
        for name, metric in found.items()
        if name.startswith("gen_ai.client.inference.usage.")
    }
    tokens = {
        "input_tokens": 1000,
        "output_tokens": 50,
        "cache_read.input_tokens": 600,
        "cache_write.input_tokens": 100,
        "reasoning.output_tokens": 20,
    }
    assert used == {
        name: points(({**about, "gen_ai.token.modality": "unknown"}, count)) for name, count in tokens.items()
    }
    assert found["gen_ai.client.inference.operation.input_tokens"] == points((about, 1000))
    assert found["gen_ai.client.inference.duration"] == points((about, 1.5))
    assert "gen_ai.client.token.usage" not in found


@pytest.mark.parametrize(
    ("opted_in", "name"),
    [
        ("", "gen_ai.client.operation.duration"),
        ("http, gen_ai_latest_experimental", "gen_ai.client.inference.duration"),
    ],
)
def test_the_environment_chooses_the_conventions(
    otel: Otel, monkeypatch: pytest.MonkeyPatch, opted_in: str, name: str
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opted_in)
    otel.sink().emit(call())
    assert {found for found in otel.points() if found.endswith(".duration")} == {name}


def test_an_estimate_is_kept_apart_from_what_is_measured(otel: Otel) -> None:
    otel.sink(who=()).emit(call(usage_source="estimate"))
    found = otel.points()
    about = {**CALL, **OWN}
    assert found["tokopt.tokens.estimated"] == points(
        ({**about, "tokopt.token.kind": "input"}, 1000), ({**about, "tokopt.token.kind": "output"}, 50)
    )
    assert found["tokopt.cost.estimated"] == points((about, 0.00216))
    assert not {"gen_ai.client.token.usage", "tokopt.cost", "tokopt.tokens"} & set(found)


def test_what_is_unknown_is_not_recorded_as_0(otel: Otel) -> None:
    otel.sink(who=()).emit(
        call(usage=None, usage_source=None, cost_usd=None, latency_seconds=None, model=None, provider=None)
    )
    about = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "unknown", **OWN}
    assert otel.points() == {"tokopt.calls": points((about, 1)), "tokopt.calls.unpriced": points((about, 1))}


def test_a_failed_call_says_how(otel: Otel) -> None:
    otel.sink(who=()).emit(call(usage=None, usage_source=None, cost_usd=None, error="ConnectionError"))
    about = {**CALL, **OWN, "error.type": "ConnectionError"}
    found = otel.points()
    assert found["gen_ai.client.operation.duration"] == points((about, 1.5))
    assert found["tokopt.calls"] == points((about, 1))


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("azure", "azure.ai.openai"),
        ("google_genai", "gcp.gemini"),
        ("amazon_bedrock", "aws.bedrock"),
        ("mine", "mine"),
        (None, "unknown"),
    ],
)
def test_providers_have_the_names_of_the_conventions(otel: Otel, provider: str | None, name: str) -> None:
    otel.sink().emit(call(provider=provider))
    (attributes,) = otel.points()["tokopt.calls"]
    assert dict(attributes)["gen_ai.provider.name"] == name


def test_savings_may_be_negative_and_those_of_shadow_mode_are_kept_apart(otel: Otel) -> None:
    sink = otel.sink(who=())
    for saved, mode in (("0.5", "optimize"), ("-0.75", "optimize"), ("9", "shadow")):
        sink.emit(
            Decision(
                part="history",
                action="applied",
                tokens_before=100,
                tokens_after=60,
                saved_usd=Decimal(saved),
                mode=mode,  # type: ignore[arg-type]
                seconds=0.002,
            )
        )
    sink.emit(Decision(part="history", action="skipped", saved_usd=Decimal(7), tokens_before=9, tokens_after=1))
    sink.emit(Decision(part="budget", action="applied", saved_usd=Decimal(7), tokens_before=9, tokens_after=1))
    found, history = otel.points(), {"tokopt.part": "history"}
    assert found["tokopt.saved.cost"] == points((history, -0.25))
    assert found["tokopt.saved.tokens"] == points((history, 80))
    assert found["tokopt.shadow.saved.cost"] == points((history, 9))
    assert found["tokopt.shadow.saved.tokens"] == points((history, 40))
    assert found["tokopt.part.duration"] == points((history, 0.006))
    optimize, shadow = {"tokopt.mode": "optimize"}, {"tokopt.mode": "shadow"}
    assert found["tokopt.decisions"] == points(
        ({**history, "tokopt.action": "applied", **optimize}, 2),
        ({**history, "tokopt.action": "applied", **shadow}, 1),
        ({**history, "tokopt.action": "skipped", **optimize}, 1),
        ({"tokopt.part": "budget", "tokopt.action": "applied", **optimize}, 1),
    )


def test_lookups_failures_and_alerts_are_counted(otel: Otel) -> None:
    sink = otel.sink(who=())
    saved = {"saved_input_tokens": 40, "saved_output_tokens": 2, "saved_usd": Decimal("0.01")}
    sink.emit(CacheLookup(outcome="semantic", similarity=0.97, seconds=0.01, **saved))  # type: ignore[arg-type]
    sink.emit(CacheLookup(outcome="miss"))
    sink.emit(Failure(part="tools", error="ValueError: no such thing as 4711", stage="request"))
    sink.emit(LimitAlert(budget="default", path="user=7", per="day", unit="usd", share=0.8, limit=10, spent=9))
    found = otel.points()
    assert found["tokopt.cache.lookups"] == points(
        ({"tokopt.cache.outcome": "semantic", "tokopt.mode": "optimize"}, 1),
        ({"tokopt.cache.outcome": "miss", "tokopt.mode": "optimize"}, 1),
    )
    assert found["tokopt.saved.tokens"] == points(({"tokopt.part": "cache"}, 42))
    assert found["tokopt.failures"] == points(
        ({"tokopt.part": "tools", "tokopt.stage": "request", "error.type": "ValueError"}, 1)
    )
    named = {"tokopt.budget.name": "default", "tokopt.budget.per": "day", "tokopt.budget.unit": "usd"}
    assert found["tokopt.budget.alerts"] == points(({**named, "tokopt.budget.share": 0.8}, 1))


def test_what_is_reserved_goes_down_when_a_call_is_settled(otel: Otel) -> None:
    sink = otel.sink(who=())
    for name in "ab":
        sink.emit(Reservation(action="reserved", reservation=name, usd=Decimal("0.5"), seconds=0.001))
    named = {"tokopt.budget.name": "default"}
    assert otel.points()["tokopt.budget.reserved"] == points((named, 1.0))
    sink.emit(Reservation(action="settled", reservation="a", usd=Decimal("0.125")))
    sink.emit(Reservation(action="overage", reservation="a", usd=Decimal("0.25")))
    sink.emit(Reservation(action="released", reservation="b", usd=Decimal("0.5")))
    sink.emit(Reservation(action="expired", reservation="of another process", usd=Decimal("0.5")))
    found = otel.points()
    assert found["tokopt.budget.reserved"] == points((named, 0.0))
    assert found["tokopt.budget.spent"] == points((named, 0.375))
    assert sum(found["tokopt.budget.reservations"].values()) == 6


def test_ids_are_attributes_of_metrics_only_if_asked_for(otel: Otel) -> None:
    otel.sink(who=("thread", "user", "tenant")).emit(call())
    (attributes,) = otel.points()["tokopt.calls"]
    assert dict(attributes) == {
        **CALL,
        **OWN,
        "gen_ai.conversation.id": "t1",
        "user.id": "7",
        "tokopt.tenant": "acme",
    }


def test_units_are_ucum(otel: Otel) -> None:
    sink = otel.sink(conventions="1.41")
    sink.emit(call())
    sink.emit(Decision(part="history", action="applied", saved_usd=Decimal(1), seconds=0.1))
    units = otel.units()
    assert units["gen_ai.client.token.usage"] == "{token}"
    assert units["gen_ai.client.operation.duration"] == units["tokopt.part.duration"] == "s"
    assert units["tokopt.cost"] == units["tokopt.saved.cost"] == "{USD}"


def test_metrics_of_the_conventions_can_be_left_to_another_instrumentation(otel: Otel) -> None:
    otel.sink(genai_metrics=False).emit(call())
    assert not [name for name in otel.points() if name.startswith("gen_ai.")]


def test_hostile_texts_are_cut_and_made_fit_for_utf_8(otel: Otel) -> None:
    otel.sink(spans=True, who=("agent",)).emit(call(model="x\ud800" + "y" * 5000, who=Who(agent="\udfff")))
    (attributes,) = otel.points()["tokopt.calls"]
    assert dict(attributes)["gen_ai.request.model"] == "x?" + "y" * 254
    assert dict(attributes)["gen_ai.agent.name"] == "?"
    (span,) = otel.spans()
    assert span.name == "chat x?" + "y" * 254


# --- spans -----------------------------------------------------------------------------------------------------------

REQUEST: tuple[Event, ...] = (
    CacheLookup(outcome="miss", similarity=0.5, threshold=0.9, reason="too far"),
    Decision(part="history", action="applied", tokens_before=100, tokens_after=60, saved_usd=Decimal("0.1")),
    Reservation(action="reserved", reservation="r", path="user=7", usd=Decimal("0.5")),
    call(),
    Reservation(action="settled", reservation="r", path="user=7", usd=Decimal("0.00216")),
)

DID = {
    "tokopt.cache.outcome": "miss",
    "tokopt.cache.mode": "optimize",
    "tokopt.cache.similarity": 0.5,
    "tokopt.cache.threshold": 0.9,
    "tokopt.cache.reason": "too far",
    "tokopt.history.action": "applied",
    "tokopt.history.mode": "optimize",
    "tokopt.history.tokens_before": 100,
    "tokopt.history.tokens_after": 60,
    "tokopt.history.saved.tokens": 40,
    "tokopt.history.saved.cost": 0.1,
    "tokopt.history.saved.cost.exact": "0.1",
    "tokopt.saved.cost": 0.1,
    "tokopt.saved.cost.exact": "0.1",
    "tokopt.budget.action": "settled",
    "tokopt.budget.name": "default",
    "tokopt.budget.path": "user=7",
    "tokopt.budget.reserved.cost": 0.5,
    "tokopt.budget.reserved.cost.exact": "0.5",
    "tokopt.budget.settled.cost": 0.00216,
    "tokopt.budget.settled.cost.exact": "0.00216",
    "tokopt.calls": 1,
    "tokopt.cost": 0.00216,
    "tokopt.cost.exact": "0.00216",
    "tokopt.tokens.input": 1000,
    "tokopt.tokens.output": 50,
    "tokopt.tokens.cache_read": 600,
    "tokopt.tokens.cache_write": 100,
    "tokopt.tokens.reasoning": 20,
}


def tell(sink: OtelSink, events: tuple[Event, ...] = REQUEST) -> None:
    from dataclasses import replace

    with request_scope() as scope:
        for event in events:
            sink.emit(replace(event, request=scope))


def test_the_active_span_says_what_each_part_did(otel: Otel) -> None:
    with otel.tracer.start_as_current_span("agent"):
        tell(otel.sink())
    (span,) = otel.spans()
    assert (span.name, dict(span.attributes)) == ("agent", DID)


def test_a_span_of_several_requests_has_their_sums_to_the_nano_usd(otel: Otel) -> None:
    sink = otel.sink()
    with otel.tracer.start_as_current_span("agent"):
        for _ in range(3):
            sink.emit(call(cost_usd=Decimal("0.1")))
    (span,) = otel.spans()
    assert span.attributes["tokopt.calls"] == 3
    assert span.attributes["tokopt.cost.exact"] == "0.3"
    assert span.attributes["tokopt.cost"] == 0.3
    assert span.attributes["tokopt.tokens.input"] == 3000


def test_each_call_has_a_span_of_its_own_if_asked_for(otel: Otel) -> None:
    with otel.tracer.start_as_current_span("agent") as parent:
        tell(otel.sink(spans=True))
    span, outer = otel.spans()
    assert (span.name, span.kind.name, span.parent.span_id) == ("chat gpt-4o-mini", "CLIENT", parent.context.span_id)
    assert (span.start_time, span.end_time) == (1_799_999_998_500_000_000, 1_800_000_000_000_000_000)
    assert dict(span.attributes) == {
        **DID,
        **CALL,
        **OWN,
        **ABOUT,
        "tokopt.tenant": "acme",
        "tokopt.run": "r1",
        "user.id": "7",
        "gen_ai.conversation.id": "t1",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.cache_creation.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 20,
    }
    assert dict(outer.attributes) == {}


def test_a_span_by_the_later_conventions_says_cache_write(otel: Otel) -> None:
    otel.sink(spans=True, conventions="genai-0.1").emit(call())
    (span,) = otel.spans()
    assert span.attributes["gen_ai.usage.cache_write.input_tokens"] == 100


def test_an_answer_from_the_cache_is_a_span_without_a_model(otel: Otel) -> None:
    tell(otel.sink(spans=True), (CacheLookup(outcome="exact", saved_usd=Decimal("0.01"), seconds=0.25, at=1000.0),))
    (span,) = otel.spans()
    assert (span.name, span.start_time, span.end_time) == ("tokopt cache hit", 999_750_000_000, 1_000_000_000_000)
    assert not [key for key in span.attributes if key.startswith("gen_ai.")]
    assert span.attributes["tokopt.cache.saved.cost.exact"] == "0.01"


def test_a_retry_within_a_request_is_a_span_of_its_own(otel: Otel) -> None:
    sink = otel.sink(spans=True)
    tell(sink, (*REQUEST[:3], call(error="TimeoutError", usage=None, cost_usd=None), *REQUEST[2:]))
    sink.close()
    first, second = otel.spans()
    assert (first.status.status_code.name, first.attributes["error.type"]) == ("ERROR", "TimeoutError")
    assert first.attributes["tokopt.history.action"] == "applied"
    assert second.status.status_code.name == "UNSET"
    assert second.attributes["tokopt.cost.exact"] == "0.00216"


def test_calls_of_the_optimiser_are_spans_beside_the_request(otel: Otel) -> None:
    tell(otel.sink(spans=True), (*REQUEST[:2], call(internal=True), *REQUEST[2:]))
    internal, user = otel.spans()
    assert internal.attributes["tokopt.call.internal"] is True
    assert "tokopt.history.action" not in internal.attributes
    assert user.attributes["tokopt.calls"] == 1
    assert user.attributes["tokopt.history.action"] == "applied"


def test_a_request_that_a_budget_refuses_is_an_error_and_another_model_may_be_asked(otel: Otel) -> None:
    sink = otel.sink(spans=True)
    refused = Reservation(action="refused", usd=Decimal(9), reason="over the limit of the day", at=1000.0, seconds=0.5)
    tell(sink, (*REQUEST[:2], refused, *REQUEST[2:]))
    first, second = otel.spans()
    assert (first.name, first.status.status_code.name, first.status.description) == (
        "tokopt refusal",
        "ERROR",
        "over the limit of the day",
    )
    assert (first.start_time, first.end_time) == (999_500_000_000, 1_000_000_000_000)
    assert first.attributes["tokopt.history.action"] == "applied"
    assert not [key for key in first.attributes if key.startswith("gen_ai.")]
    assert second.attributes["tokopt.budget.settled.cost.exact"] == "0.00216"


def test_what_comes_when_a_span_has_ended_is_not_on_the_next_one(otel: Otel) -> None:
    overage = Reservation(action="overage", reservation="r", usd=Decimal(1))
    tell(otel.sink(spans=True), (*REQUEST, overage, *(replace_hold(event) for event in REQUEST[2:])))
    first, second = otel.spans()
    assert "tokopt.budget.overage.cost" not in {**first.attributes, **second.attributes}
    assert second.attributes["tokopt.budget.reserved.cost"] == 0.5


def replace_hold(event: Event) -> Event:
    from dataclasses import replace

    return replace(event, reservation="r2") if isinstance(event, Reservation) else event


def test_a_span_that_waits_for_its_settlement_ends_when_the_sink_is_closed(otel: Otel) -> None:
    sink = otel.sink(spans=True)
    tell(sink, REQUEST[:4])
    assert otel.spans() == []
    sink.close()
    assert [span.end_time for span in otel.spans()] == [1_800_000_000_000_000_000]


def test_requests_that_never_come_to_a_call_do_not_pile_up(otel: Otel) -> None:
    sink = otel.sink(spans=True)
    for _ in range(5000):
        tell(sink, REQUEST[:1])
    assert len(sink._spans._requests) == 4096  # type: ignore[union-attr]


# --- together, apart, and without ------------------------------------------------------------------------------------


def test_threads_lose_nothing(otel: Otel) -> None:
    sink = otel.sink(who=())

    def work() -> None:
        with otel.tracer.start_as_current_span("agent"):
            for _ in range(200):
                sink.emit(call())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert otel.points()["tokopt.calls"] == points(({**CALL, **OWN}, 800))
    assert [span.attributes["tokopt.calls"] for span in otel.spans()] == [200] * 4


async def test_tasks_tell_their_own_spans(otel: Otel) -> None:
    sink = otel.sink()

    async def work(n: int) -> None:
        with otel.tracer.start_as_current_span(f"agent {n}"):
            for _ in range(n):
                sink.emit(call())
                await asyncio.sleep(0)

    await asyncio.gather(*(work(n) for n in (1, 2, 3)))
    assert {span.name: span.attributes["tokopt.calls"] for span in otel.spans()} == {
        "agent 1": 1,
        "agent 2": 2,
        "agent 3": 3,
    }


def test_without_a_provider_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    for spans in (False, True):
        sink = OtelSink(spans=spans)
        tell(sink)
        sink.close()
    assert caplog.records == []


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingDependencyError, match=r"langchain-tokopt\[otel\]"):
        OtelSink()


@pytest.mark.parametrize(
    ("argument", "settings"),
    [("who", {"who": ("colour",)}), ("who", {"who": "agent"}), ("conventions", {"conventions": "1.0"})],
)
def test_settings_that_cannot_work_are_refused(argument: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{argument}="):
        OtelSink(**settings)


def test_an_event_that_cannot_be_passed_on_is_logged_once(otel: Otel, caplog: pytest.LogCaptureFixture) -> None:
    sink = otel.sink()
    for _ in range(3):
        sink.emit(call(usage={"output_tokens": 5}))
    assert [record.getMessage() for record in caplog.records] == [
        "an event could not be passed on to OpenTelemetry: KeyError: 'input_tokens'; the agent goes on"
    ]


def test_an_event_of_another_kind_is_passed_over(otel: Otel) -> None:
    otel.sink(spans=True).emit(Event())
    assert otel.points() == {}
    assert otel.spans() == []
