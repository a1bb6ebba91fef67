"""What the optimiser and the models did: kept, counted, and reported."""

from langchain_tokopt.telemetry.callback import UsageCallback
from langchain_tokopt.telemetry.fan_out import FanOut
from langchain_tokopt.telemetry.otel import OtelSink
from langchain_tokopt.telemetry.recommendation import Recommendation
from langchain_tokopt.telemetry.report import (
    CacheReport,
    FailureReport,
    ModelUsage,
    PartReport,
    Percentiles,
    Report,
    Repriced,
    Saved,
    Usage,
)
from langchain_tokopt.telemetry.report_details import AgentSpend, BudgetLine, Slice, SpanBefore, TokenShares
from langchain_tokopt.telemetry.rows import StoredEvent
from langchain_tokopt.telemetry.run_metadata import RunMetadata
from langchain_tokopt.telemetry.sightings import Sightings
from langchain_tokopt.telemetry.telemetry import Telemetry
from langchain_tokopt.telemetry.totals import CallTotals
from langchain_tokopt.telemetry.tracking import tokopt_usage
from langchain_tokopt.telemetry.usage import UsageMiddleware

__all__ = [
    "AgentSpend",
    "BudgetLine",
    "CacheReport",
    "CallTotals",
    "FailureReport",
    "FanOut",
    "ModelUsage",
    "OtelSink",
    "PartReport",
    "Percentiles",
    "Recommendation",
    "Report",
    "Repriced",
    "RunMetadata",
    "Saved",
    "Sightings",
    "Slice",
    "SpanBefore",
    "StoredEvent",
    "Telemetry",
    "TokenShares",
    "Usage",
    "UsageCallback",
    "UsageMiddleware",
    "tokopt_usage",
]
