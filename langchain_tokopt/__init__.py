"""Spend fewer tokens and less money with the LangChain agents and chains that you already have.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_tokopt.adapt import SavingsGuard
    from langchain_tokopt.binder import ToolBinder
    from langchain_tokopt.budget import Allocation, Budget, BudgetMiddleware, Limit
    from langchain_tokopt.cache import Precompute, SemanticCache, SemanticCacheMiddleware, SemanticLLMCache
    from langchain_tokopt.context import (
        ChatMemory,
        ExtractiveSummarizer,
        HistoryCompression,
        HistoryCompressionMiddleware,
        Importance,
        MessageImportance,
        compress_documents,
        compress_messages,
    )
    from langchain_tokopt.database import Database
    from langchain_tokopt.errors import (
        BudgetExceededError,
        ConfigurationError,
        ContextTooLargeError,
        MissingDependencyError,
        NoChatModelError,
        StoreError,
        TokOptError,
    )
    from langchain_tokopt.flow import Flow, FlowMiddleware, compose, internal_call
    from langchain_tokopt.optimizer import TokenOptimizer
    from langchain_tokopt.pricing import Pricing, Rates
    from langchain_tokopt.telemetry import OtelSink, Report, Telemetry, UsageCallback, UsageMiddleware, tokopt_usage
    from langchain_tokopt.tokens import TokenCounter
    from langchain_tokopt.tools import IntentClassifier, ToolIndex, ToolSelection, ToolSelectionMiddleware

__version__ = "0.1.0"

_HOMES = {
    "adapt": ("SavingsGuard",),
    "binder": ("ToolBinder",),
    "budget": ("Allocation", "Budget", "BudgetMiddleware", "Limit"),
    "cache": ("Precompute", "SemanticCache", "SemanticCacheMiddleware", "SemanticLLMCache"),
    "context": (
        "ChatMemory",
        "ExtractiveSummarizer",
        "HistoryCompression",
        "HistoryCompressionMiddleware",
        "Importance",
        "MessageImportance",
        "compress_documents",
        "compress_messages",
    ),
    "database": ("Database",),
    "errors": (
        "BudgetExceededError",
        "ConfigurationError",
        "ContextTooLargeError",
        "MissingDependencyError",
        "NoChatModelError",
        "StoreError",
        "TokOptError",
    ),
    "flow": ("Flow", "FlowMiddleware", "compose", "internal_call"),
    "optimizer": ("TokenOptimizer",),
    "pricing": ("Pricing", "Rates"),
    "telemetry": ("OtelSink", "Report", "Telemetry", "UsageCallback", "UsageMiddleware", "tokopt_usage"),
    "tokens": ("TokenCounter",),
    "tools": ("IntentClassifier", "ToolIndex", "ToolSelection", "ToolSelectionMiddleware"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Allocation",
    "Budget",
    "BudgetExceededError",
    "BudgetMiddleware",
    "ChatMemory",
    "ConfigurationError",
    "ContextTooLargeError",
    "Database",
    "ExtractiveSummarizer",
    "Flow",
    "FlowMiddleware",
    "HistoryCompression",
    "HistoryCompressionMiddleware",
    "Importance",
    "IntentClassifier",
    "Limit",
    "MessageImportance",
    "MissingDependencyError",
    "NoChatModelError",
    "OtelSink",
    "Precompute",
    "Pricing",
    "Rates",
    "Report",
    "SavingsGuard",
    "SemanticCache",
    "SemanticCacheMiddleware",
    "SemanticLLMCache",
    "StoreError",
    "Telemetry",
    "TokOptError",
    "TokenCounter",
    "TokenOptimizer",
    "ToolBinder",
    "ToolIndex",
    "ToolSelection",
    "ToolSelectionMiddleware",
    "UsageCallback",
    "UsageMiddleware",
    "__version__",
    "compose",
    "compress_documents",
    "compress_messages",
    "internal_call",
    "tokopt_usage",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
