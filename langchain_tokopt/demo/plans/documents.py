"""Plans for questions about documents and data files, and for those that no other plan fits."""

from __future__ import annotations

import re

from langchain_tokopt.demo import extract
from langchain_tokopt.demo.plans import steps
from langchain_tokopt.demo.plans.steps import Plan, Want


def _outline(path: str) -> Want:
    second = {"pattern": r"^#{1,6}\s", "glob": path, "limit": 80}
    return Want("list the headings of a Markdown file", (("outline", {"path": path}), ("search_text", second)))


def section(path: str, heading: str) -> Plan:
    yield [steps.find(path)]
    (outline,) = yield [_outline(path)]
    places = [hit for hit in extract.hits(outline.text) if hit.text.lstrip("#").strip() == heading]
    start = places[0].line if places else 1
    (read,) = yield [steps.read(path, start - 5, start + 60)]
    args = {"path": path, "heading": heading}
    (said,) = yield [
        Want("read a section of a Markdown file", (("section", args), steps.read(path, start, start + 80).calls[0]))
    ]
    (again,) = yield [steps.read(path, start, start + 25)]
    lines = extract.numbered([read.text, again.text, said.text])
    body: list[str] = []
    in_code = False
    for number in range(start + 1, start + 60):
        line = lines.get(number, "").strip()
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code and (line.startswith("#") or (body and not line)):
            break
        elif line and not in_code and not line.startswith(("|", "[!", "<")):
            body.append(line)
    return (
        f"{extract.sentences(' '.join(body), 2)} ({path}, line {start})"
        if body
        else steps.unknown(f'what "{heading}" says')
    )


def sections(path: str) -> Plan:
    yield [steps.find(path)]
    yield [steps.read(path, 1, 40)]
    (outline,) = yield [_outline(path)]
    titles = [hit.text.lstrip("#").strip() for hit in extract.hits(outline.text) if hit.text.startswith("#")]
    if not titles:
        return steps.unknown(f"which sections `{path}` has")
    return f"`{path}` has {len(titles)} headings: {'; '.join(titles)}."


def occurrences(path: str, word: str) -> Plan:
    pattern = rf"\b{re.escape(word)}\b"
    (found,) = yield [steps.search(pattern, limit=60)]
    second = {"pattern": pattern, "glob": path, "limit": 200}
    (said,) = yield [
        Want(
            "count how often a text occurs in a file",
            (("count_matches", {"pattern": pattern, "path": path}), ("search_text", second)),
        )
    ]
    count = extract.number_of(said.text, "matches") if said.tool == "count_matches" else None
    if count is None:
        lines = [hit.text for hit in extract.hits((said if said.ok else found).text) if hit.path == path]
        count = sum(len(re.findall(pattern, line, re.IGNORECASE)) for line in lines)
    return f'The word "{word}" occurs {count} time{"s" * (count != 1)} in `{path}`.'


def value(path: str, key: str) -> Plan:
    yield [steps.find(path)]
    (read,) = yield [steps.read(path, 1, 120)]
    kind = "toml_query" if path.endswith(".toml") else "json_query"
    (said,) = yield [Want(f"read a value from a {kind[:4].upper()} file", ((kind, {"path": path, "query": key}),))]
    if said.ok:
        return f"`{key}` is {said.text.strip()}."
    last = key.rsplit(".", 1)[-1]
    for line in extract.numbered([read.text]).values():
        if match := re.match(rf'\s*"?{re.escape(last)}"?\s*[=:]\s*(.+?),?$', line):
            return f"`{key}` is {match[1]}."
    return steps.unknown(f"what `{key}` is in `{path}`")


_PLAIN = """
about after also and any are does from have how into its many more most much say says that the their there these they
this those was were what when where which who why will with would documents document files file
"""


def topic(question: str) -> Plan:
    words = [w for w in dict.fromkeys(re.findall(r"[a-z][\w-]{3,}", question.lower())) if w not in _PLAIN.split()]
    if not words:
        return "I do not understand the question."
    (found,) = yield [steps.search("|".join(map(re.escape, words[:8])), limit=60)]
    hits = extract.hits(found.text)

    def score(text: str) -> int:
        lowered = text.lower()
        return sum(word in lowered for word in words)

    if not hits:
        return steps.unknown("anything about this in the files")
    best = max(hits, key=lambda hit: (score(hit.text), -len(hit.path)))
    (read,) = yield [steps.read(best.path, best.line - 20, best.line + 30)]
    yield [steps.read(best.path, best.line - 5, best.line + 60)]
    lines = extract.numbered([read.text])
    near = max(lines, key=lambda number: (score(lines[number]), -number), default=None)
    if near is None:
        return f"{best.text} ({best.path}, line {best.line})"
    return f"{lines[near].strip()} ({best.path}, line {near})"
