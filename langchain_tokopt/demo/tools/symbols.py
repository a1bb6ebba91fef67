"""Tools that know the classes and functions of Python files."""

from __future__ import annotations

import ast
import re
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.python_index import PythonIndex, header
from langchain_tokopt.demo.tools.output import clipped


class SymbolTools:
    """Where a name is defined and used, and what its definition says."""

    def __init__(self, corpus: Corpus, index: PythonIndex) -> None:
        self._corpus = corpus
        self._index = index

    def find_definition(self, name: str) -> str:
        """Find where a Python class, function or method is defined; gives path:line: text.

        Args:
            name: The name, such as "Invoice" or "Invoice.total".
        """
        found = self._index.named(name)
        if not found:
            raise ToolException(f"name={name!r} is not defined as a class or function; use search_text")
        return clipped([f"{d.path}:{d.line}: {self._corpus.lines(d.path)[d.line - 1].strip()}" for d in found], 20)

    def find_references(self, name: str, folder: str = ".") -> str:
        """Find every line of the Python files that uses a name, definitions included; gives path:line: text.

        Args:
            name: The name, without dots.
            folder: Where to look, "." for everywhere.
        """
        word = re.compile(rf"\b{re.escape(name)}\b")
        found = [
            f"{file.path}:{number}: {line.strip()}"
            for file in self._corpus.under(folder, texts=True)
            if file.suffix == ".py"
            for number, line in enumerate(self._corpus.lines(file.path), start=1)
            if word.search(line)
        ]
        return clipped(found, 80) if found else f"no Python file uses {name!r}"

    def symbols(self, path: str) -> list[dict[str, Any]] | str:
        """List the classes, functions and methods of a Python file with their lines.

        Args:
            path: The Python file.
        """
        self._index.tree(path)
        located = self._corpus.locate(path)
        found = [d for d in self._index.definitions if d.path == located]
        return [{"name": d.name, "kind": d.kind, "line": d.line, "end": d.end} for d in found[:150]] or "no symbols"

    def docstring_of(self, name: str, path: str = "") -> str:
        """Give the docstring of a Python class, function, method, or of a module when only a path is given.

        Args:
            name: The name, such as "Invoice" or "Invoice.total"; "" for the module itself.
            path: The file in which it is defined, when the name alone is not enough.
        """
        if not name:
            if not path:
                raise ToolException("name and path are both empty; give one of them")
            text = ast.get_docstring(self._index.tree(path))
            return text or f"{path} has no docstring"
        found = self._index.one(name, path)
        return found.docstring or f"{found.name} ({found.path}:{found.line}) has no docstring"

    def signature_of(self, name: str, path: str = "") -> str:
        """Give the signature of a Python function or method; for a class the one of its __init__.

        Args:
            name: The name, such as "total" or "Invoice.total".
            path: The file in which it is defined, when the name alone is not enough.
        """
        found = self._index.one(name, path)
        node = found.node
        if isinstance(node, ast.ClassDef):
            inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            if not inits:
                fields = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]
                shown = header(node) + "".join(f"\n    {field}" for field in fields)
                return f"{found.path}:{found.line}: {shown}"
            node = inits[0]
        return f"{found.path}:{node.lineno}: {header(node)}"

    def class_members(self, name: str, path: str = "") -> list[dict[str, Any]] | str:
        """List the methods and annotated fields of a Python class with their lines.

        Args:
            name: The class.
            path: The file in which it is defined, when the name alone is not enough.
        """
        node = self._class(name, path)
        members: list[dict[str, Any]] = []
        for item in node.body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
                decorators = {ast.unparse(d) for d in item.decorator_list}
                kind = "property" if decorators & {"property", "cached_property"} else "method"
                members.append({"name": item.name, "kind": kind, "line": item.lineno})
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                members.append({"name": item.target.id, "kind": "field", "line": item.lineno})
        return members or f"{name} has no members of its own"

    def subclasses_of(self, name: str) -> str:
        """List the Python classes that name a class as their base; gives path:line: text.

        Args:
            name: The base class, without dots.
        """
        found = [
            f"{d.path}:{d.line}: {header(d.node)}"
            for d in self._index.definitions
            if isinstance(d.node, ast.ClassDef) and any(_last(base) == name for base in d.node.bases)
        ]
        return clipped(found, 60) if found else f"no class has {name!r} as its base"

    def source_of(self, name: str, path: str = "") -> str:
        """Give the whole source of a Python class or function, lines numbered. At most 200 lines.

        Args:
            name: The name, such as "Invoice" or "Invoice.total".
            path: The file in which it is defined, when the name alone is not enough.
        """
        found = self._index.one(name, path)
        lines = self._corpus.lines(found.path)
        shown = [f"{n:>5}| {lines[n - 1]}" for n in range(found.line, found.end + 1)]
        return f"{found.path}, lines {found.line}-{found.end}\n" + clipped(shown, 200)

    def undocumented(self, folder: str = ".") -> str:
        """List public Python classes and functions without a docstring; gives path:line: name.

        Args:
            folder: Where to look, "." for everywhere.
        """
        paths = {file.path for file in self._corpus.under(folder)}
        found = [
            f"{d.path}:{d.line}: {d.name}"
            for d in self._index.definitions
            if d.path in paths and d.is_public and d.docstring is None
        ]
        return clipped(found, 80) if found else "every public class and function has a docstring"

    def _class(self, name: str, path: str) -> ast.ClassDef:
        for found in self._index.named(name):
            if isinstance(found.node, ast.ClassDef) and (not path or found.path == self._corpus.locate(path)):
                return found.node
        raise ToolException(f"name={name!r} is not a class here; use find_definition")


def _last(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        base = base.value
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
