"""What the optimiser and the models did: kept, counted, and reported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from langchain_tokopt.telemetry.snapshots import Snapshot
    from langchain_tokopt.telemetry.telemetry import Telemetry
    from langchain_tokopt.telemetry.totals import CallTotals
    from langchain_tokopt.telemetry.tracking import tokopt_usage
    from langchain_tokopt.telemetry.usage import UsageMiddleware

# Loaded when first used: some of them bring LangChain's agents with them, which a look at events does not need.
_HOMES = {
    "callback": ("UsageCallback",),
    "fan_out": ("FanOut",),
    "otel": ("OtelSink",),
    "recommendation": ("Recommendation",),
    "report": (
        "CacheReport",
        "FailureReport",
        "ModelUsage",
        "PartReport",
        "Percentiles",
        "Report",
        "Repriced",
        "Saved",
        "Usage",
    ),
    "report_details": ("AgentSpend", "BudgetLine", "Slice", "SpanBefore", "TokenShares"),
    "rows": ("StoredEvent",),
    "run_metadata": ("RunMetadata",),
    "sightings": ("Sightings",),
    "snapshots": ("Snapshot",),
    "telemetry": ("Telemetry",),
    "totals": ("CallTotals",),
    "tracking": ("tokopt_usage",),
    "usage": ("UsageMiddleware",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

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
    "Snapshot",
    "SpanBefore",
    "StoredEvent",
    "Telemetry",
    "TokenShares",
    "Usage",
    "UsageCallback",
    "UsageMiddleware",
    "tokopt_usage",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
