"""How alike the words of two questions are, as numbers that a learned decision can weigh."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection

from langchain_tokopt.cache.guard import (
    names_differ,
    negation_differs,
    numbers_differ,
    odd_class,
    opposed,
    quotes_differ,
    swapped,
    units_differ,
)
from langchain_tokopt.cache.reading import Prepared

FEATURE_NAMES = (
    "word_jaccard",
    "content_jaccard",
    "trigram_jaccard",
    "length_ratio",
    "numbers_differ",
    "any_number",
    "negation_differs",
    "opposites",
    "entities_differ",
    "units_differ",
    "question_words_differ",
    "unmatched_content",
    "content_order",
    "swapped",
)


def features(a: Prepared, b: Prepared, idf: Callable[[str], float] | None = None) -> tuple[float, ...]:
    """One number in [0, 1] for each of `FEATURE_NAMES`; the same both ways round.

    `idf` weighs the stem of a content word in "unmatched_content", with a number of at least 0; by default all weigh
    the same. "content_order" is the longest common subsequence of the content words that both have, as a share of them.
    """
    ours, theirs = a.content_set, b.content_set
    shared = len(ours & theirs)
    content = len(ours) + len(theirs) - shared
    either = (a.trigrams | b.trigrams).bit_count()
    short, long = sorted((len(a.words), len(b.words)))
    return (
        _jaccard(a.vocabulary, b.vocabulary),
        shared / content if content else 1.0,
        (a.trigrams & b.trigrams).bit_count() / either if either else 1.0,
        short / long if long else 1.0,
        float(numbers_differ(a.amounts, b.amounts)),
        float(bool(a.amounts.numbers or b.amounts.numbers)),
        float(negation_differs(a, b)),
        float(opposed(a, b)),
        float(names_differ(a, b) or quotes_differ(a, b) or odd_class(a, b) is not None),
        float(units_differ(a.amounts, b.amounts)),
        float(a.asks != b.asks),
        _unmatched(ours ^ theirs, ours | theirs, idf) if idf is not None else (content - shared) / max(1, content),
        _order(a.content, b.content) if shared > 1 else 1.0,
        float(swapped(a, b)),
    )


def _jaccard(ours: frozenset[str], theirs: frozenset[str]) -> float:
    shared = len(ours & theirs)
    union = len(ours) + len(theirs) - shared
    return shared / union if union else 1.0


def _unmatched(unmatched: Collection[str], union: Collection[str], idf: Callable[[str], float]) -> float:
    # Sorted, or the order of the sum and with it the last digit would change from process to process.
    whole = sum(idf(word) for word in sorted(union))
    return min(1.0, sum(idf(word) for word in sorted(unmatched)) / whole) if whole > 0 else 0.0


def _order(ours: tuple[str, ...], theirs: tuple[str, ...]) -> float:
    """For words that occur once, a common subsequence is a run of rising places: O(n log n) by patience sorting."""
    if ours == theirs:
        return 1.0
    place = {word: at for at, word in reversed(list(enumerate(theirs)))}
    places = [place[word] for word in dict.fromkeys(ours) if word in place]
    tails: list[int] = []
    for at in places:
        slot = bisect_left(tails, at)
        tails[slot : slot + 1] = [at]
    return len(tails) / len(places)
