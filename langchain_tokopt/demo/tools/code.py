"""Tools that know how Python files hang together: imports, calls, raises, constants."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.python_index import PythonIndex, header
from langchain_tokopt.demo.tools.output import MOST, clipped

_MOST_IN_GRAPH = 100


class CodeTools:
    """Relations between the parts of a Python program."""

    def __init__(self, corpus: Corpus, index: PythonIndex) -> None:
        self._corpus = corpus
        self._index = index

    def list_imports(self, path: str) -> str:
        """List the modules that a Python file imports, one a line, sorted.

        Args:
            path: The Python file.
        """
        modules = sorted(set(_imported(self._index.tree(path))))
        return clipped(modules, 100) if modules else f"{path} imports nothing"

    def import_graph(self, folder: str = ".") -> dict[str, list[str]]:
        """Give for each Python file below a folder the other Python files here that it imports.

        Args:
            folder: Where to look, "." for everywhere.
        """
        # In a folder that is itself a package, its own name comes first in every import.
        package = self._corpus.root.name + "." if "__init__.py" in self._index.trees else ""
        modules = {(package + _module(path)).removesuffix(".__init__"): path for path in self._index.trees}
        graph: dict[str, list[str]] = {}
        files = [file for file in self._corpus.under(folder) if file.path in self._index.trees]
        if len(files) > _MOST_IN_GRAPH:
            raise ToolException(
                f"folder={folder!r} has {len(files)} Python files; name one with {_MOST_IN_GRAPH} at most"
            )
        for file in files:
            names = set(_imported(self._index.trees[file.path]))
            graph[file.path] = sorted({modules[name] for name in names if name in modules} - {file.path})
        return graph

    def importers_of(self, module: str) -> str:
        """List the Python files that import a module, with the line of the first import; gives path:line: text.

        Args:
            module: The module's dotted name, such as "json" or "shop.cart"; the modules inside it count too.
        """
        found: list[str] = []
        for path, tree in self._index.trees.items():
            for node in ast.walk(tree):
                names = list(_names(node))
                if any(name == module or name.startswith(module + ".") for name in names):
                    found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
                    break
        return clipped(found, 80) if found else f"no Python file imports {module!r}"

    def function_calls(self, name: str, path: str = "") -> str:
        """List what a Python function or class calls, with how often, most frequent first.

        Args:
            name: The function, method or class.
            path: The file in which it is defined, when the name alone is not enough.
        """
        found = self._index.one(name, path)
        calls = Counter(ast.unparse(n.func) for n in ast.walk(found.node) if isinstance(n, ast.Call))
        ranked = sorted(calls.items(), key=lambda item: (-item[1], item[0]))
        return clipped([f"{called}: {n}" for called, n in ranked], 60) if ranked else f"{found.name} calls nothing"

    def exceptions_raised(self, path: str) -> str:
        """List the exceptions that a Python file raises; gives path:line: text.

        Args:
            path: The Python file.
        """
        located = self._corpus.locate(path)
        raises = [n for n in ast.walk(self._index.tree(path)) if isinstance(n, ast.Raise) and n.exc is not None]
        found = [
            f"{located}:{node.lineno}: raise {ast.unparse(node.exc)[:160]}"
            for node in sorted(raises, key=lambda n: n.lineno)
            if node.exc is not None
        ]
        return clipped(found, 60) if found else f"{path} raises nothing by itself"

    def constants_of(self, path: str) -> str:
        """List the module-level constants (names in capitals) of a Python file with their values.

        Args:
            path: The Python file.
        """
        found: list[str] = []
        for node in self._index.tree(path).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            for target in targets:
                if isinstance(target, ast.Name) and target.id.strip("_").isupper() and isinstance(value, ast.expr):
                    found.append(f"{node.lineno}: {target.id} = {ast.unparse(value)[:200]}")
        return clipped(found, 60) if found else f"{path} has no constants"

    def decorated(self, decorator: str, folder: str = ".") -> str:
        """List the Python classes and functions that carry a decorator; gives path:line: text.

        Args:
            decorator: The decorator's name without "@" and arguments, such as "property".
            folder: Where to look, "." for everywhere.
        """
        paths = {file.path for file in self._corpus.under(folder)}
        found = [
            f"{d.path}:{d.line}: {header(d.node)}"
            for d in self._index.definitions
            if d.path in paths and any(_decorator(item) == decorator for item in d.node.decorator_list)
        ]
        return clipped(found, 60) if found else f"nothing carries @{decorator}"

    def longest_functions(self, folder: str = ".", count: int = 10) -> list[dict[str, Any]] | str:
        """List the longest Python functions and methods below a folder, longest first, with their number of lines.

        Args:
            folder: Where to look, "." for everywhere.
            count: How many to list.
        """
        paths = {file.path for file in self._corpus.under(folder)}
        found = [d for d in self._index.definitions if d.kind != "class" and d.path in paths]
        ranked = sorted(found, key=lambda d: (d.line - d.end, d.path, d.line))[: min(max(count, 1), MOST)]
        return [
            {"name": d.name, "path": d.path, "line": d.line, "lines": d.end - d.line + 1} for d in ranked
        ] or "no functions"


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _module(path: str) -> str:
    dotted = Path(path).with_suffix("").as_posix().replace("/", ".")
    return dotted.removeprefix("src.").removesuffix(".__init__")


def _decorator(node: ast.expr) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(called).rsplit(".", 1)[-1]
