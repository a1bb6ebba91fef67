"""Binding the tools that a thread needs instead of all of them."""

from langchain_tokopt.tools.index import ToolIndex
from langchain_tokopt.tools.middleware import ToolSelectionMiddleware
from langchain_tokopt.tools.search import is_search_result
from langchain_tokopt.tools.selection import Selection, ToolSelection

__all__ = ["Selection", "ToolIndex", "ToolSelection", "ToolSelectionMiddleware", "is_search_result"]
