"""Settings of a `TokenOptimizer` for a purpose."""

from __future__ import annotations

from typing import Any, Literal, get_args

from langchain_tokopt.adapt import SavingsGuard
from langchain_tokopt.cache import SemanticCache
from langchain_tokopt.context import ChatMemory, HistoryCompression
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tools import ToolSelection

Preset = Literal["minimal", "standard", "aggressive", "adaptive"]


def settings(preset: str) -> dict[str, Any]:
    """The arguments of `TokenOptimizer` that make up a preset, with parts of their own each time.

    "standard" has the cache's plain similarity: right from the first question on, and it makes no model call of its
    own. A bounded error takes audits, which are paid for, and learns at first: that is for those who choose it.

    Raises:
        ConfigurationError: There is no such preset.
    """
    if preset == "minimal":
        without_loss = HistoryCompression(max_result_tokens=None, old_result_tokens=None)
        return {"cache": None, "tools": None, "history": without_loss}
    if preset == "standard":
        return {"cache": SemanticCache(), "tools": ToolSelection(), "history": HistoryCompression()}
    if preset == "aggressive":
        return {
            "cache": SemanticCache(max_error=0.02),
            "tools": ToolSelection(max_tools=5, min_tools=10),
            "history": HistoryCompression(max_result_tokens=400, old_result_tokens=40, chat=ChatMemory()),
        }
    if preset == "adaptive":
        return {
            "cache": SemanticCache(max_error=0.01),
            "tools": ToolSelection(),
            "history": HistoryCompression(),
            "savings_guard": SavingsGuard(),
        }
    raise ConfigurationError("preset", preset, f"use one of {', '.join(get_args(Preset))}")
