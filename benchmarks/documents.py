"""How much of what a question needs is still there when retrieved documents have a fraction of their tokens?

    python -m benchmarks.documents --data DOCUMENTS.jsonl [--only METHOD ...] [--embeddings real] [--json OUT]

Rows are questions with what was retrieved for them: {"question", "answer", "paragraphs": [{"title", "sentences":
[str]}], "support": [[title, index of the sentence]]}.

* `support`: the share of a question's supporting sentences that are kept, whole, averaged over the questions.
* `answer`: of the questions whose answer stands in the documents word for word, the share for which it is still there.

* `truncate`: the documents in their order until the budget is spent.
* `bm25`: the sentences that share the rarest words with the question.
* `headroom`: the published package, if it is installed.
* `ours`: `langchain_tokopt.context.documents.compress_documents`, without a model; `ours+embeddings` with vectors
  (`--embeddings`, see benchmarks/vectors), and then `cosine` too: the sentences nearest to the question.

Nothing is learned from the rows that are scored.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from benchmarks.history import COUNTER, searchable
from benchmarks.peers.headroom import HeadroomPeer, is_installed
from benchmarks.rows import Measure, publish
from benchmarks.tools import read_rows
from benchmarks.tools_vectors import KeptVectors, open_vectors
from langchain_tokopt.context.documents import compress_documents
from langchain_tokopt.context.ranking import best_within
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.lexical import BM25

FACTORS = (2, 3, 5)
METHODS = ("truncate", "bm25", "headroom", "ours", "cosine", "ours+embeddings")
SAMPLE = Path(__file__).parent / "samples" / "documents.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A question, its documents, and which sentences of which title answer it."""

    question: str
    answer: str
    documents: list[Document]
    support: list[tuple[str, str]]

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return sum(COUNTER.text(document.page_content) for document in self.documents)


# Of a case at a number of tokens, what is left: texts by title, or under "" what is not told apart.
Method = Callable[[Case, int], dict[str, str]]


# --- methods ---------------------------------------------------------------------------------------------------------


def truncate(case: Case, max_tokens: int) -> dict[str, str]:
    """The first sentences that fit."""
    kept: list[tuple[str, str]] = []
    left = max_tokens
    for title, sentence in _sentences(case):
        left -= COUNTER.text(sentence)
        if left < 0:
            break
        kept.append((title, sentence))
    return _by_title(kept)


def bm25(case: Case, max_tokens: int) -> dict[str, str]:
    """The sentences with the best BM25."""
    cut = _sentences(case)
    return _best(cut, BM25([sentence for _, sentence in cut]).scores(case.question), max_tokens)


def headroom(case: Case, max_tokens: int) -> dict[str, str]:
    """What the package leaves of the documents as one text, each under its title."""
    text = "\n\n".join(f"{document.metadata['title']}\n{document.page_content}" for document in case.documents)
    return {"": HeadroomPeer()(text, case.question, max_tokens / case.tokens)}


def ours(case: Case, max_tokens: int, embeddings: MemoEmbeddings | None = None) -> dict[str, str]:
    """What `compress_documents` leaves."""
    kept = compress_documents(
        case.question, case.documents, max_tokens=max_tokens, embeddings=embeddings, size=COUNTER.text
    )
    return _by_title([(document.metadata["title"], document.page_content) for document in kept])


def cosine(case: Case, max_tokens: int, embeddings: MemoEmbeddings) -> dict[str, str]:
    """The sentences, with their titles before them, whose vectors are nearest to the question's."""
    cut = _sentences(case)
    vectors = embeddings.vectors([f"{title}: {sentence}" for title, sentence in cut])
    return _best(cut, vectors @ embeddings.vector(case.question), max_tokens)


def _sentences(case: Case) -> list[tuple[str, str]]:
    """Titles and sentences."""
    return [(d.metadata["title"], sentence) for d in case.documents for sentence in sentences(d.page_content)]


def _best(cut: Sequence[tuple[str, str]], scores: Any, max_tokens: int) -> dict[str, str]:
    chosen = best_within(scores, [COUNTER.text(sentence) for _, sentence in cut], max_tokens)
    return _by_title([cut[at] for at in chosen])


def _by_title(kept: Sequence[tuple[str, str]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for title, text in kept:
        texts[title] = f"{texts.get(title, '')}\n{text}"
    return texts


def methods(wanted: Sequence[str], known: KeptVectors | None) -> Iterator[tuple[str, Method]]:
    """The methods that are wanted and can run here; why another one cannot is said."""
    plain: dict[str, Method] = {"truncate": truncate, "bm25": bm25, "headroom": headroom, "ours": ours}
    for name in wanted:
        if name == "headroom" and not is_installed():
            continue
        if name in plain:
            yield name, plain[name]
        elif known is not None:
            yield name, partial(cosine if name == "cosine" else ours, embeddings=MemoEmbeddings(known))


# --- figures ---------------------------------------------------------------------------------------------------------


def measure(name: str, method: Method, cases: Sequence[Case]) -> Iterator[Measure]:
    """Support and answers that one method keeps, at each factor."""
    for factor in FACTORS:
        support: list[float] = []
        answers: list[bool] = []
        for case in cases:
            kept = {title: searchable(text) for title, text in method(case, case.tokens // factor).items()}
            held = [searchable(text) in kept.get("", kept.get(title, "")) for title, text in case.support]
            support.append(statistics.fmean(held))
            answer = searchable(case.answer)
            if any(answer in searchable(document.page_content) for document in case.documents):
                answers.append(any(answer in text for text in kept.values()))
        yield Measure(name, "support", factor, statistics.fmean(support))
        if answers:
            yield Measure(name, "answer", factor, statistics.fmean(answers))


# --- data ------------------------------------------------------------------------------------------------------------


def read_cases(path: Path) -> list[Case]:
    """The questions of a file. Support that is not in the documents is left out, and so is a question without any.

    Raises:
        ValueError: A row is no such row, or no question has support; says where.
    """
    cases = []
    for number, row in enumerate(read_rows(path, question=str, paragraphs=list, support=list), 1):
        try:
            by_title = {paragraph["title"]: paragraph["sentences"] for paragraph in row["paragraphs"]}
            documents = [
                Document(" ".join(s.strip() for s in p["sentences"] if s.strip()), metadata={"title": p["title"]})
                for p in row["paragraphs"]
            ]
            support = [(t, by_title[t][at]) for t, at in row["support"] if at < len(by_title.get(t, ()))]
            case = Case(row["question"], str(row["answer"]), documents, support)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"{path}: line {number} is no question with its documents: {error!r}"
            raise ValueError(msg) from error
        if support:
            cases.append(case)
    if not cases:
        msg = f"{path}: no question has support in its documents"
        raise ValueError(msg)
    return cases


# --- the whole -------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Measure and publish. Exit code 2: the data cannot be used."""
    args = _arguments(argv)
    try:
        cases = read_cases(args.data)
        known = None if args.embeddings == "none" else open_vectors(args)
        rows = [row for name, method in methods(args.only, known) for row in measure(name, method, cases)]
        if known is not None:
            if args.table is not None and args.embeddings == "real":
                known.save(args.table)
            known.check()
    except (OSError, ValueError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    print(f"{len(cases)} questions, {sum(case.tokens for case in cases)} tokens of documents ({COUNTER.source()})")
    publish("documents", args.data.name, rows, args.json)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="questions with documents; the sample by default")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0, help="nothing is drawn: for likeness with the others")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--embeddings", choices=["none", "real", "table", "hash"], default="none")
    parser.add_argument("--table", type=Path, metavar="NPZ", help="where vectors are read from, or with `real` written")
    parser.add_argument("--model", help="another embedder than the default one: a name or a folder")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
