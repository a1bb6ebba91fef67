"""A tool's output shown in part: the lines that matter, and for those that are left out the new names in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.trimming.blobs import without_blobs
from langchain_tokopt.context.trimming.identifiers import identifiers
from langchain_tokopt.context.trimming.pieces import Piece, joined, pieces
from langchain_tokopt.context.trimming.relevance import Wanted, relevance

# Of what is left out, so large a part may be spent on naming what was in it, and so many characters in all: a log of a
# million lines has an id in each.
NAMED_SHARE: Final = 0.3
MOST_NAMED: Final = 8_000
# So few characters are shown rather than counted.
LEAST_LEFT_OUT: Final = 32
# Of longer outputs only so many pieces are looked at: the first and last ones. Bounds the time for odd ones.
MOST_PIECES: Final = 20_000
# So many names that count on are shown as one.
LEAST_COUNTED: Final = 4
_LAST_NUMBER: Final = re.compile(r"(.*?)([0-9]{1,9})([^0-9]*)", re.DOTALL)
# A change has to be worth its marks.
LEAST_SAVED: Final = 24


@dataclass(frozen=True, slots=True)
class Trimmed:
    """An output as it is shown in part.

    Attributes:
        text: What is shown.
        tokens: About how many tokens that is.
        handle: What the whole output is asked for by; see `retrieve_original`.
    """

    text: str
    tokens: int
    handle: str


def trimmed(
    text: str,
    tokens: int,
    *,
    wanted: Wanted | None = None,
    seen: Collection[str] = frozenset(),
    tool: str | None = "retrieve_original",
    original: str | None = None,
    size: int | None = None,
) -> Trimmed | None:
    """The output in about `tokens` tokens, whole lines in their order; `None` when that would save next to nothing.

    Where lines are left out stands how many, and which identifiers they have that are shown nowhere else. That comes on
    top of `tokens`: at most three tenths of what is left out, and some 2,000 tokens in all. Names are cheap and what
    agents come back for.

    Args:
        text: What is shown now.
        tokens: About how many tokens the lines may have that stay.
        wanted: What the output is read for.
        seen: Identifiers that are shown elsewhere.
        tool: The tool that the last line refers to; `None` where the model has none.
        original: What the tool gave, where `text` is a shorter form of it: what the handle is for.
        size: The tokens of `text`, where they are known.
    """
    whole = text_size(text) if size is None else size
    name = handle(text if original is None else original)
    ask = tool and f'{tool}("{name}")'
    bare = without_blobs(text)
    now = whole if bare is text or bare == text else text_size(bare)
    if now <= tokens + LEAST_SAVED:
        shown = None if now == whole else f"{bare}\n{_mark(ask)}"
    else:
        shown = _lines(bare, tokens, now / max(1, len(bare)), wanted or Wanted(), seen, ask)
    if shown is None:
        return None
    after = text_size(shown)
    return Trimmed(shown, after, name) if after + LEAST_SAVED <= whole else None


def _lines(
    text: str, tokens: int, per_character: float, wanted: Wanted, seen: Collection[str], ask: str | None
) -> str | None:
    """The lines that matter; `None` if all of them fit."""
    parts = pieces(text)
    if len(parts) > MOST_PIECES:
        parts = _ends(text, parts)
    names = [tuple(identifiers(part.text)) for part in parts]
    scores = relevance([part.text for part in parts], wanted, seen, names=names)
    kept = _chosen(parts, scores, max(0, tokens), per_character)
    if len(kept) == len(parts):
        return None
    return _rendered(parts, names, kept, seen, ask)


def _ends(text: str, parts: list[Piece]) -> list[Piece]:
    half = MOST_PIECES // 2
    middle = joined(parts[half:-half])
    return [*parts[:half], Piece(middle, ends_line=True), *parts[-half:]]


def _chosen(parts: Sequence[Piece], scores: NDArray[np.float32], tokens: int, per_character: float) -> set[int]:
    """The pieces to keep: the most relevant ones that fit."""
    room = float(tokens)
    kept: set[int] = set()
    for index in np.argsort(-scores, kind="stable").tolist():
        cost = (len(parts[index].text) + 1) * per_character
        if cost <= room:
            kept.add(index)
            room -= cost
        if room < per_character:
            break
    return kept


def _rendered(
    parts: list[Piece], names: Sequence[Sequence[str]], kept: set[int], seen: Collection[str], ask: str | None
) -> str:
    shown: list[Piece] = []
    named = {name for index in kept for name in names[index]}
    left_out = sum(len(part.text) + 1 for index, part in enumerate(parts) if index not in kept)
    share = min(NAMED_SHARE, MOST_NAMED / max(1, left_out))
    index = 0
    while index < len(parts):
        if index in kept:
            shown.append(parts[index])
            index += 1
            continue
        end = index
        while end < len(parts) and end not in kept:
            end += 1
        gap, inside = parts[index:end], names[index:end]
        index = end
        if sum(len(part.text) + 1 for part in gap) <= LEAST_LEFT_OUT:
            shown += gap
            continue
        if shown and not shown[-1].ends_line:
            shown.append(Piece(" ", ends_line=False))
        shown.append(Piece(_gap(gap, inside, seen, named, share), ends_line=gap[-1].ends_line))
    shown.append(Piece(_mark(ask), ends_line=True))
    if not shown[-2].ends_line:
        shown[-2] = Piece(shown[-2].text, ends_line=True)
    return joined(shown)


def _mark(ask: str | None) -> str:
    """The last line of what is shown in part."""
    return f"[shown in part; {ask} has all of it]" if ask else "[shown in part]"


def _gap(
    gap: list[Piece], inside: Sequence[Sequence[str]], seen: Collection[str], named: set[str], share: float
) -> str:
    """What stands for pieces that are left out; the names in it are `named` from then on."""
    new = []
    for name in (name for own in inside for name in own):
        if name not in seen and name not in named:
            named.add(name)
            new.append(name)
    room = share * sum(len(part.text) + 1 for part in gap)
    names = []
    for name in _counted(new):
        if len(name) < room:
            names.append(name)
            room -= len(name) + 1
    count = sum(part.ends_line for part in gap)
    left_out = f"{count} lines" if count > 1 else "1 line" if count else f"{sum(len(p.text) for p in gap)} characters"
    return f"[{left_out}: {' '.join(names)}]" if names else f"[{left_out}]"


def _counted(names: Sequence[str]) -> Iterator[str]:
    """The names; of those that only count on, from `part_1` to `part_9`, there is one: `part_1..9`."""
    at = 0
    while at < len(names):
        end = at + 1
        while end < len(names) and _counts_on(names[end - 1], names[end]):
            end += 1
        last = _LAST_NUMBER.fullmatch(names[end - 1])
        if end - at >= LEAST_COUNTED and last is not None:
            yield f"{names[at]}..{last[2]}{last[3]}"
        else:
            yield from names[at:end]
        at = end


def _counts_on(name: str, following: str) -> bool:
    """Whether the last number in a name is one more in the following one, and nothing else differs."""
    before, after = _LAST_NUMBER.fullmatch(name), _LAST_NUMBER.fullmatch(following)
    if before is None or after is None or (before[1], before[3]) != (after[1], after[3]):
        return False
    return len(after[2]) <= 9 and int(after[2]) == int(before[2]) + 1
