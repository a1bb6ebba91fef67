"""Real tools over the files of one folder, for the demo's agent to choose among."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.python_index import PythonIndex
from langchain_tokopt.demo.tools.code import CodeTools
from langchain_tokopt.demo.tools.data import DataTools
from langchain_tokopt.demo.tools.files import FileTools
from langchain_tokopt.demo.tools.git import GitTools
from langchain_tokopt.demo.tools.markdown import MarkdownTools
from langchain_tokopt.demo.tools.searching import SearchTools
from langchain_tokopt.demo.tools.sums import SumTools
from langchain_tokopt.demo.tools.symbols import SymbolTools
from langchain_tokopt.demo.tools.words import WordTools


def corpus_tools(corpus: Corpus, index: PythonIndex | None = None) -> list[BaseTool]:
    """Every tool of the demo, bound to `corpus`. All of them only read; a refusal is an error text for the model."""
    index = index or PythonIndex(corpus)
    kinds = (
        FileTools(corpus),
        SearchTools(corpus),
        SymbolTools(corpus, index),
        CodeTools(corpus, index),
        MarkdownTools(corpus),
        DataTools(corpus),
        WordTools(corpus),
        GitTools(corpus),
        SumTools(),
    )
    return [_tool(function) for kind in kinds for function in _public(kind)]


def _public(kind: object) -> list[Callable[..., Any]]:
    """The public methods of a group of tools, in the order in which they are written."""
    return [getattr(kind, name) for name, member in vars(type(kind)).items() if _is_tool(name, member)]


def _is_tool(name: str, member: object) -> bool:
    return not name.startswith("_") and inspect.isfunction(member)


def _tool(function: Callable[..., Any]) -> BaseTool:
    return StructuredTool.from_function(
        function,
        name=function.__name__,
        parse_docstring=True,
        handle_tool_error=_refusal,
        handle_validation_error=_bad_arguments,
    )


def _refusal(error: ToolException) -> str:
    return f"Error: {error}"


def _bad_arguments(error: Any) -> str:
    wrong = "; ".join(f"{'.'.join(str(part) for part in e['loc']) or 'input'}: {e['msg']}" for e in error.errors())
    return f"Error: the arguments do not fit: {wrong}"
