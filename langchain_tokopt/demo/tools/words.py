"""Tools that count and compare the words of files."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.tools.output import MOST, clipped

_WORD = re.compile(r"[^\W\d_][\w'-]*")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
a an and are as at be but by for from has have if in into is it its no not of on one only or so than that the their then
there they this to was were what when which with you your
""",
    )
)


class WordTools:
    """Words, lines and sentences in numbers."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def count_words(self, path: str) -> str:
        """Count the words of a file, separated by white space.

        Args:
            path: The file.
        """
        return f"{self._corpus.locate(path)}: {len(self._corpus.text(path).split())} words"

    def count_lines(self, path: str) -> str:
        """Count the lines of a file, and those that are not blank.

        Args:
            path: The file.
        """
        lines = self._corpus.lines(path)
        return f"{self._corpus.locate(path)}: {len(lines)} lines, {sum(bool(x.strip()) for x in lines)} not blank"

    def compare_word_counts(self, first: str, second: str) -> dict[str, Any]:
        """Compare how many words two files have.

        Args:
            first: One file.
            second: The other file.
        """
        counts = [len(self._corpus.text(path).split()) for path in (first, second)]
        return {"first": counts[0], "second": counts[1], "difference": counts[0] - counts[1]}

    def top_words(self, path: str, count: int = 10) -> list[dict[str, Any]] | str:
        """List the most frequent words of a file, common English words left out.

        Args:
            path: The file.
            count: How many words to list.
        """
        words = Counter(w for w in _WORD.findall(self._corpus.text(path).casefold()) if len(w) > 1)
        ranked = sorted(((w, n) for w, n in words.items() if w not in _COMMON), key=lambda item: (-item[1], item[0]))
        return [{"word": word, "count": n} for word, n in ranked[: min(max(count, 1), MOST)]] or f"{path} has no words"

    def text_statistics(self, path: str) -> dict[str, Any]:
        """Give a file's numbers of characters, words, lines, sentences and paragraphs, and the mean word length.

        Args:
            path: The file.
        """
        text = self._corpus.text(path)
        words = text.split()
        return {
            "characters": len(text),
            "words": len(words),
            "lines": len(self._corpus.lines(path)),
            "sentences": len(_SENTENCE_END.findall(text)),
            "paragraphs": len([p for p in re.split(r"\n\s*\n", text) if p.strip()]),
            "mean_word_length": round(sum(map(len, words)) / len(words), 2) if words else None,
        }

    def shared_words(self, first: str, second: str, count: int = 20) -> str:
        """List the words that two files share, those most frequent in both first, common English words left out.

        Args:
            first: One file.
            second: The other file.
            count: How many words to list.
        """
        one, two = (Counter(_WORD.findall(self._corpus.text(path).casefold())) for path in (first, second))
        shared = [(w, min(one[w], two[w])) for w in one.keys() & two.keys() if w not in _COMMON and len(w) > 2]
        ranked = sorted(shared, key=lambda item: (-item[1], item[0]))[: min(max(count, 1), MOST)]
        return clipped([f"{word}: {n}" for word, n in ranked], 100) if ranked else "no shared words"

    def sentences_with(self, words: str, folder: str = ".", limit: int = 12) -> str:
        """Find the sentences in Markdown and plain text files that hold all the given words; gives path: sentence.

        Args:
            words: One or more words, separated by spaces; case does not matter.
            folder: Where to look, "." for everywhere.
            limit: How many sentences to show at most.
        """
        wanted = words.casefold().split()
        if not wanted:
            raise ToolException("words is empty; give at least one word")
        found = [
            f"{file.path}: {' '.join(sentence.split())}"
            for file in self._corpus.under(folder, texts=True)
            if file.suffix in (".md", ".markdown", ".txt", ".rst")
            for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", self._corpus.text(file.path))
            if all(word in sentence.casefold() for word in wanted)
        ]
        return clipped(found, limit) if found else f"no sentence holds all of {words!r}"

    def acronyms(self, path: str) -> str:
        """List the acronyms (words in capitals) of a file with how often each occurs.

        Args:
            path: The file.
        """
        found = Counter(re.findall(r"\b[A-Z][A-Z0-9]{1,9}\b", self._corpus.text(path)))
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        return clipped([f"{word}: {n}" for word, n in ranked], 40) if ranked else f"{path} has no acronyms"
