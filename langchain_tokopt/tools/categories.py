"""What kind of tool each tool is: by the server that it comes from, by its tags, by its name, or by its meaning."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.tools import BaseTool

from langchain_tokopt.lexical import terms, words
from langchain_tokopt.tools.schema import ToolSpec, spec_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The category of a tool of which nothing is known.
OTHER = "other"

# Where adapters of MCP servers, and people, write down where a tool comes from.
_SOURCES = ("server", "server_name", "mcp_server", "namespace", "toolkit")
_SEPARATORS = re.compile(r"__|[.:/]")
_PROTOCOL = re.compile(r"mcp(?:__|[.:/])")  # some clients write it before the server
_LETTERS = re.compile(r"[^\W_]+")
_FIRST_WORD = re.compile(r"[^_-]+(?=[_-])")
# So many names must begin with a word for it to say where they belong.
_SHARED_BY = 3
# Words that many names begin with, and that say what is done and not where.
_VERBS = frozenset(
    """
    add analyze apply approve archive assign book build calculate call cancel change check clear close compare compute
    configure connect convert copy count create deactivate delete describe disable download edit enable execute explain
    export extract fetch filter find fix format generate get import insert is list load lock log lookup make manage
    merge modify move open order parse pause pay place play post predict process publish pull push put query read
    recommend register remove rename replace report request reset resolve restart restore resume retrieve return run
    save scan schedule search select send set share show sort start stop store submit subscribe summarize suspend sync
    tag track translate turn unlock unsubscribe update upload use validate verify view write
    """.split()  # noqa: SIM905 - one word a list entry would fill the screen
)
_ROUNDS = 20


def categories_of(tools: Sequence[Any], vectors: NDArray[np.float32] | None = None) -> dict[str, str]:
    """The category of each function tool, by its name; the same in any process.

    A tool's category is the server or namespace in its metadata; else its first tag; else what stands before `__`, `.`,
    `:` or `/` in its name, or a first word that three names share and that is no verb (`github_create_issue`). The rest
    is grouped by meaning where there are `vectors` (float32 `[n, d]`, unit norm, one for each function tool), in groups
    that are named after the word that tells them apart; and is "other" where there are none.
    """
    specs = [(tool, spec) for tool in tools if (spec := spec_of(tool)) is not None]
    shared = Counter(first for _, spec in specs if (first := _first_word(spec.name)))
    found = {spec.name: _source(tool) or _from_name(spec.name, shared) for tool, spec in specs}
    left = [at for at, (_, spec) in enumerate(specs) if not found[spec.name]]
    if left:
        rest = [specs[at][1] for at in left]
        found.update(zip((spec.name for spec in rest), _grouped(rest, vectors, left), strict=True))
    return {name: category or OTHER for name, category in found.items()}


def _source(tool: Any) -> str:
    """What the tool itself says of where it comes from."""
    metadata = (tool.metadata or {}) if isinstance(tool, BaseTool) else tool
    if isinstance(metadata, Mapping):
        for key in _SOURCES:
            if isinstance(value := metadata.get(key), str) and value:
                return value
    tags = tool.tags if isinstance(tool, BaseTool) else None
    return tags[0] if tags else ""


def _from_name(name: str, shared: Mapping[str, int]) -> str:
    bare = _PROTOCOL.sub("", name, count=1) if _PROTOCOL.match(name) else name
    before, separator = _SEPARATORS.split(bare, maxsplit=1)[0], _SEPARATORS.search(bare)
    if separator and before:
        return before
    first = _first_word(name)
    return first if shared.get(first, 0) >= _SHARED_BY else ""


def _first_word(name: str) -> str:
    found = _FIRST_WORD.match(name)
    return found[0].lower() if found and found[0].lower() not in _VERBS else ""


def _grouped(specs: Sequence[ToolSpec], vectors: NDArray[np.float32] | None, rows: Sequence[int]) -> list[str]:
    if vectors is None or len(specs) < 2 * _SHARED_BY:
        return [OTHER] * len(specs)
    groups = _clusters(vectors[rows], max(2, round(math.sqrt(len(specs)))))
    names = _names(specs, groups)
    return [names[group] for group in groups]


def _clusters(vectors: NDArray[np.float32], k: int) -> list[int]:
    """The group of each vector: spherical k-means from seeds that are far apart, without chance."""
    seeds = [int(np.argmax(vectors @ vectors.mean(axis=0)))]
    nearest = vectors @ vectors[seeds[0]]
    while len(seeds) < k:
        seeds.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, vectors @ vectors[seeds[-1]])
    centres = vectors[seeds]
    groups = np.argmax(vectors @ centres.T, axis=1)
    for _ in range(_ROUNDS):
        sums = np.stack([vectors[groups == group].sum(axis=0) for group in range(k)])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres)
        before, groups = groups, np.argmax(vectors @ centres.T, axis=1)
        if np.array_equal(before, groups):
            break
    return [int(group) for group in groups]


def _names(specs: Sequence[ToolSpec], groups: Sequence[int]) -> dict[int, str]:
    """For each group the word that is most its own: in many of its tools, best in their names, and in few others."""
    said = [dict.fromkeys(terms(spec.text), 1) | dict.fromkeys(terms(spec.name), 2) for spec in specs]
    everywhere: Counter[str] = Counter()
    inside: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for weights, group in zip(said, groups, strict=True):
        everywhere.update(weights)
        inside[group].update(weights)
    names: dict[int, str] = {}
    for group in sorted(inside, key=lambda one: (-groups.count(one), one)):
        counted = inside[group]
        best = sorted(counted, key=lambda word: (-(counted[word] ** 2) / everywhere[word], word))
        texts = [spec.text for spec, of in zip(specs, groups, strict=True) if of == group]
        free = (name for word in best if (name := _written(word, texts)) not in names.values())
        names[group] = next(free, f"group {group}")
    return names


def _written(term: str, texts: Sequence[str]) -> str:
    """The word of the texts that a term of `terms` most often stands for."""
    found = (word for text in texts for word in _LETTERS.findall(words(text).lower()) if word.startswith(term))
    counted = Counter(word for word in found if terms(word) == [term])
    return min(counted, key=lambda word: (-counted[word], word), default=term)
