"""The whole demo: a folder, its questions, a pair of runs for each price table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from langchain_core.embeddings import Embeddings

from langchain_tokopt.demo.corpus import Corpus, default_folder
from langchain_tokopt.demo.figures import Pair, pair, rows
from langchain_tokopt.demo.prices import PriceTable, live_table, price_tables
from langchain_tokopt.demo.python_index import PythonIndex
from langchain_tokopt.demo.questions import Thread, make_threads
from langchain_tokopt.demo.run import live_model, ready_embeddings, run
from langchain_tokopt.demo.tools import corpus_tools
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tokens import TokenCounter

QUESTIONS = 24
_MOST_QUESTIONS = 500

SCRIPTED = (
    "The model here is a scripted policy, not a language model: it chooses its next step from the question, the tools"
    " that are bound and the results in its prompt. So this proves that the protocol holds, that the accounting is"
    " right and what it costs under these prices; it never proves anything about the quality of a real model's answers."
)
LIVE = (
    "The model is a live one, and it may answer the same question in other words each time: answers count as equal"
    " only when they have the same words, so few equal answers do not mean worse ones. Read both."
)


class Progress(Protocol):
    """Who is told how far the demo is."""

    def start(self, title: str, total: int) -> None: ...

    def tick(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that the demo found.

    Attributes:
        pairs: One for each price table.
        setting: What was asked about what, in one sentence.
        notes: What a reader has to know.
        caveat: What the figures do and do not prove.
    """

    pairs: tuple[Pair, ...]
    setting: str
    notes: tuple[str, ...]
    caveat: str

    def as_json(self) -> dict[str, Any]:
        """The figures as tidy rows, and every question with its answers."""
        return {
            "setting": self.setting,
            "notes": [*self.notes, self.caveat],
            "figures": rows(self.pairs),
            "answers": [
                {
                    "prices": each.key,
                    "thread": bare.thread,
                    "question": bare.asked.text,
                    "asked_before": bare.asked.repeats is not None,
                    "bare": bare.text,
                    "optimised": optimised.text,
                }
                for each in self.pairs
                for bare, optimised in each.both
            ],
        }


def play(
    *,
    path: str | Path | None = None,
    model: str | None = None,
    questions: int = QUESTIONS,
    seed: int = 0,
    embeddings: Embeddings | None = None,
    progress: Progress | None = None,
    tables: Callable[[], Sequence[PriceTable]] = price_tables,
) -> Outcome:
    """Run the demo.

    Args:
        path: The folder to ask about; by default this project's own.
        model: A live model "provider:name" instead of the scripted one.
        questions: How many questions are asked.
        seed: Chooses the questions.
        embeddings: For the optimiser; by default all-MiniLM-L6-v2 when this machine has it.
        progress: Is told how far it is.
        tables: Gives the price tables of the scripted model.

    Raises:
        ConfigurationError: The folder or a setting cannot be used.
        LiveModelError: The live model cannot be made or called.
    """
    if not 1 <= questions <= _MOST_QUESTIONS:
        raise ConfigurationError("questions", questions, f"ask between 1 and {_MOST_QUESTIONS}")
    corpus = Corpus(default_folder() if path is None else path)
    index = PythonIndex(corpus)
    tools = corpus_tools(corpus, index)
    threads = make_threads(corpus, questions, seed, index)
    if not threads:
        raise ConfigurationError("path", str(corpus.root), "its files are too short to be asked about")
    asked = [question for thread in threads for question in thread.questions]
    played = tables() if model is None else (live_table(model),)
    live = None if model is None else live_model(model)
    if progress is not None:
        progress.start("getting ready", 2 * len(played) * len(asked))
    missing = None
    if embeddings is None:
        embeddings, missing = ready_embeddings()
    counter = TokenCounter()
    pairs: list[Pair] = []
    for table in played:
        runs = []
        for optimised in (False, True):
            if progress is not None:
                progress.start(f"{table.title}, {'optimised' if optimised else 'bare'}", 0)
            tick = progress.tick if progress is not None else (lambda: None)
            arguments: dict[str, Any] = {"embeddings": embeddings, "model": live, "counter": counter, "tick": tick}
            runs.append(run(table, tools, threads, optimised=optimised, **arguments))
        pairs.append(pair(*runs))
    again = sum(question.repeats is not None for question in asked)
    setting = (
        f"{len(asked)} questions in {len(threads)} threads about {len(corpus.files)} files in {corpus.root.name}/, with"
        f" {len(tools)} tools ({counter.tools(tools):,} tokens of schemas). Asked before by another thread in other"
        f" words: {again}."
    )
    return Outcome(
        pairs=tuple(pairs),
        setting=setting,
        notes=tuple(_notes(corpus, threads, questions, missing, counter, played[0].model)),
        caveat=SCRIPTED if model is None else LIVE,
    )


def _notes(
    corpus: Corpus,
    threads: Sequence[Thread],
    wanted: int,
    missing: str | None,
    counter: TokenCounter,
    model: str,
) -> list[str]:
    asked = sum(len(thread.questions) for thread in threads)
    found = [
        (
            "The files do not change while the demo runs, so its reading tools are declared cacheable"
            " (cacheable_tools=..., ttl_seconds=3600); without that, answers that come from tools are never cached."
        )
    ]
    if counter.source(model) == "estimate":
        found.append("Tokens are counted by the built-in estimator: tiktoken's file is not on this machine.")
    if corpus.is_cut:
        found.append(f"The folder has more files; only {len(corpus.files):,} of them were used.")
    if missing is not None:
        found.append(f"No embeddings here, so only equal words match: {missing}")
    if asked < wanted:
        found.append(f"The folder has enough in it for {asked} questions only, in {len(threads)} threads.")
    return found
