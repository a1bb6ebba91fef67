"""The Python files of a corpus, parsed: where every class and function is defined."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus

Defining: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A class or function. `name` is qualified within its file ("Rates.cost"); lines count from 1, both included."""

    name: str
    path: str
    line: int
    end: int
    kind: Literal["class", "function", "method"]
    node: Defining

    @property
    def docstring(self) -> str | None:
        return ast.get_docstring(self.node)

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))


class PythonIndex:
    """Trees and definitions of the .py files in a corpus, made at first use."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of every .py file that can be parsed."""
        trees: dict[str, ast.Module] = {}
        for file in self._corpus.texts:
            if file.suffix == ".py":
                try:
                    trees[file.path] = _parsed(self._corpus.text(file.path))
                except (SyntaxError, ValueError, RecursionError, MemoryError, ToolException):
                    continue
        return trees

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """Every definition, by path and line."""
        return tuple(found for path, tree in self.trees.items() for found in _definitions(tree, path))

    def tree(self, path: str) -> ast.Module:
        """The syntax tree of one file; refuses a file that is not Python or cannot be parsed."""
        located = self._corpus.file(path).path
        if not located.endswith(".py"):
            raise ToolException(f"path={path!r} is not a Python file; name a file that ends in .py")
        if located not in self.trees:
            try:
                _parsed(self._corpus.text(path))
            except (SyntaxError, ValueError) as error:
                raise ToolException(f"path={path!r} cannot be parsed: {error}") from None
            raise ToolException(f"path={path!r} cannot be parsed: it is nested too deeply")
        return self.trees[located]

    def named(self, name: str) -> list[Definition]:
        """The definitions called `name` ("Rates", "cost" or "Rates.cost"), the outermost and shortest path first."""
        tail = name.strip().strip("`").removesuffix("()")
        found = [d for d in self.definitions if d.name == tail or d.name.endswith("." + tail)]
        return sorted(found, key=lambda d: (d.name.count("."), d.path, d.line))

    def one(self, name: str, path: str = "") -> Definition:
        """The definition called `name`, in `path` if given; refuses a name that is not defined."""
        found = self.named(name)
        if path:
            located = self._corpus.locate(path)
            found = [d for d in found if d.path == located]
        if not found:
            where = f" in {path}" if path else ""
            raise ToolException(f"name={name!r} is not defined{where} as a class or function; use search_text")
        return found[0]


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(text)


def _definitions(tree: ast.AST, path: str, outer: str = "", in_class: bool = False) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{outer}.{node.name}" if outer else node.name
            is_class = isinstance(node, ast.ClassDef)
            kind: Literal["class", "function", "method"] = "class" if is_class else "method" if in_class else "function"
            yield Definition(name, path, node.lineno, node.end_lineno or node.lineno, kind, node)
            yield from _definitions(node, path, name, is_class)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _definitions(node, path, outer, in_class)


def header(node: Defining) -> str:
    """The line that introduces a class or function, written out: name, parameters, types, what it returns."""
    if isinstance(node, ast.ClassDef):
        inside = ", ".join([ast.unparse(base) for base in node.bases] + [ast.unparse(k) for k in node.keywords])
        return f"class {node.name}({inside})" if inside else f"class {node.name}"
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{start} {node.name}({ast.unparse(node.args)}){returns}"
