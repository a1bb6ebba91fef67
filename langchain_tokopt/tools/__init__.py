"""Showing a thread the tools that it needs instead of all of them."""

from langchain_tokopt.tools.index import ToolIndex
from langchain_tokopt.tools.intent import IntentClassifier
from langchain_tokopt.tools.middleware import ToolSelectionMiddleware
from langchain_tokopt.tools.search import is_search_result
from langchain_tokopt.tools.selected import Selection
from langchain_tokopt.tools.selection import ToolSelection

__all__ = [
    "IntentClassifier",
    "Selection",
    "ToolIndex",
    "ToolSelection",
    "ToolSelectionMiddleware",
    "is_search_result",
]
