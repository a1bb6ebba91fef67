"""Plans for questions about Python code."""

from __future__ import annotations

import re

from langchain_tokopt.demo import extract
from langchain_tokopt.demo.plans import steps
from langchain_tokopt.demo.plans.steps import Plan, Want
from langchain_tokopt.demo.records import records


def defined(name: str) -> Plan:
    yield [steps.search(rf"\b{re.escape(name)}\b")]
    (found,) = yield [steps.definition(name)]
    at = steps.place(found, name)
    if at is None:
        return steps.unknown(f"where `{name}` is defined")
    yield [steps.read(at.path, at.line - 5, at.line + 60)]
    return f"`{name}` is defined in {at.path}, line {at.line}."


def purpose(name: str) -> Plan:
    yield [steps.search(rf"\b{re.escape(name)}\b", limit=30)]
    (found,) = yield [steps.definition(name)]
    at = steps.place(found, name)
    if at is None:
        return steps.unknown(f"what `{name}` does")
    (read,) = yield [steps.read(at.path, at.line - 10, at.line + 60)]
    (said,) = yield [
        Want(
            "give the docstring of a class or function",
            (("docstring_of", {"name": name, "path": at.path}), ("source_of", {"name": name, "path": at.path})),
        )
    ]
    yield [steps.references(name.rsplit(".", 1)[-1])]
    (again,) = yield [steps.read(at.path, at.line, at.line + 120)]
    text = said.text if said.ok and said.tool == "docstring_of" else None
    if text is None or "has no docstring" in text:
        text = extract.docstring_in(extract.numbered([again.text, said.text, read.text]), at.line)
    if not text:
        return steps.unknown(f"what `{name}` does: it says nothing about itself")
    return f"{extract.sentences(text.split(chr(10) * 2)[0])} ({at.path}, line {at.line})"


def users(name: str) -> Plan:
    yield [steps.search(rf"\b{re.escape(name)}\b")]
    (found,) = yield [steps.references(name.rsplit(".", 1)[-1])]
    using = sorted({hit.path for hit in extract.hits(found.text)})
    if not using:
        return steps.unknown(f"which files use `{name}`")
    first = next(iter(extract.hits(found.text)))
    yield [steps.read(first.path, first.line - 15, first.line + 45)]
    cut = "... and" in found.text
    files = f"{'at least ' if cut else ''}{len(using)} Python file{'s' * (len(using) > 1)}"
    return f"`{name}` is used in {files}: {', '.join(using)}."


def parameters(name: str) -> Plan:
    (found,) = yield [steps.definition(name)]
    at = steps.place(found, name)
    if at is None:
        return steps.unknown(f"which parameters `{name}` takes")
    (read,) = yield [steps.read(at.path, at.line - 5, at.line + 40)]
    args = {"name": name, "path": at.path}
    (said,) = yield [Want("give the signature of a function", (("signature_of", args), ("source_of", args)))]
    lines = extract.numbered([read.text])
    source = "\n".join(lines[number] for number in sorted(lines) if number >= at.line)
    stated = re.sub(r"(?m)^\s*\d+\| ?", "", said.text) if said.ok else ""
    names = extract.parameters(stated) if said.ok else None
    if names is None:
        names = extract.parameters(source)
    if names is None:
        return steps.unknown(f"which parameters `{name}` takes")
    return f"`{name}` takes {extract.listed(names)}." if names else f"`{name}` takes no parameters."


def methods(name: str) -> Plan:
    (found,) = yield [steps.definition(name)]
    at = steps.place(found, name)
    if at is None:
        return steps.unknown(f"which methods `{name}` has")
    (read,) = yield [steps.read(at.path, at.line - 5, at.line + 100)]
    members = Want(
        "list the methods of a class",
        (
            ("class_members", {"name": name, "path": at.path}),
            ("source_of", {"name": name, "path": at.path}),
        ),
    )
    symbols = Want("list the classes and functions of a Python file", (("symbols", {"path": at.path}),))
    said, listing = yield [members, symbols]
    names: list[str] | None = None
    if said.ok and said.tool == "class_members":
        names = [str(row["name"]) for row in records(said.text) if row.get("kind") in ("method", "property")]
    elif listing.ok:
        below = f"{name}."
        rows = [str(row.get("name", "")) for row in records(listing.text)]
        names = [row[len(below) :] for row in rows if row.startswith(below) and "." not in row[len(below) :]]
    if names is None:
        names = extract.methods_in(extract.numbered([read.text, said.text]), at.line)
    public = [each for each in dict.fromkeys(names) if not each.startswith("_")]
    return f"`{name}` has {extract.listed(public)}." if public else f"`{name}` has no public methods."


def imports(path: str) -> Plan:
    yield [steps.find(path)]
    yield [steps.read(path, 1, 60)]
    second = {"pattern": r"^\s*(import|from)\s", "glob": path, "limit": 80}
    (said,) = yield [
        Want("list the modules that a file imports", (("list_imports", {"path": path}), ("search_text", second)))
    ]
    if not said.ok:
        return steps.unknown(f"what `{path}` imports")
    if said.tool == "list_imports":
        modules = [line.strip() for line in said.text.splitlines() if " " not in line.strip()]
    else:
        modules = extract.imports_in(hit.text for hit in extract.hits(said.text))
    return f"`{path}` imports {extract.listed(modules)}." if modules else f"`{path}` imports nothing."
