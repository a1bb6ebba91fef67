"""How much of what a question needs is still there when a conversation has a share of its tokens?

    python -m benchmarks.history --data CONVERSATIONS.jsonl [--only METHOD ...] [--embeddings real] [--json OUT]

Rows are conversations: {"id", "messages": [{"id", "role", "name"?, "content"}], "questions": [{"question", "answer",
"evidence": [message id]}]}. A budget of 0.2 is a fifth of the tokens of the conversation.

* `evidence`: the share of a question's evidence that is kept, averaged over the questions. Where messages are cut up, a
  part of one counts by its length.
* `answer`: of the questions whose answer stands in the evidence word for word, the share for which it is still there.

* `keep_last`: LangChain's `trim_messages`, the newest messages.
* `bm25`: the messages that share the rarest words with the question.
* `summarization`: LangChain's SummarizationMiddleware, which looks at the growing conversation, with a model that knows
  all the questions beforehand: its summaries hold just the evidence that it is shown (see benchmarks/peers).
* `headroom`: the published package, if it is installed.
* `ours`: the messages that `langchain_tokopt.context.ranking` has for the best, without a model;
  `ours+embeddings` with vectors (`--embeddings`, see benchmarks/vectors).

What the conversation costs with the provider's prompt cache, `chat_cost`, is explained in benchmarks/history_cost.

Nothing is learned from the rows that are scored.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, trim_messages

from benchmarks.peers.headroom import HeadroomPeer, is_installed
from benchmarks.peers.summarization import kept_facts
from benchmarks.rows import Measure, publish
from benchmarks.tools import read_rows
from benchmarks.tools_vectors import KeptVectors, open_vectors
from langchain_tokopt import TokenCounter
from langchain_tokopt.context.ranking import Passage, Ranking, best_within
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.lexical import BM25

BUDGETS = (0.1, 0.2, 0.4, 0.6)
METHODS = ("keep_last", "bm25", "summarization", "headroom", "ours", "ours+embeddings")
SAMPLE = Path(__file__).parent / "samples" / "history.jsonl"

COUNTER = TokenCounter()
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and which messages hold what is needed for the answer."""

    text: str
    answer: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """Messages with their ids, and what is asked at their end. `sizes`: tokens of each message."""

    messages: list[AnyMessage]
    questions: list[Question]
    sizes: list[int]

    @property
    def texts(self) -> dict[str, str]:
        """Each message's text by its id."""
        return {str(message.id): message.text for message in self.messages}


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What is left of a conversation: whole messages by their ids, and of others the words that are shown."""

    ids: frozenset[str]
    words: str = ""

    def share(self, name: str, text: str) -> float:
        """How much of a message is there, by the words of its sentences: of a message with an id all or nothing."""
        if name in self.ids or not self.words:
            return float(name in self.ids)
        parts = [searchable(part) for part in sentences(text)]
        return sum(len(part) for part in parts if part in self.words) / max(1, sum(map(len, parts)))

    def states(self, answer: str, name: str, text: str) -> bool:
        """Whether the part of a message that states the answer is there."""
        if name in self.ids:
            return answer in searchable(text)
        parts = [searchable(part) for part in (text, *sentences(text))]
        return any(answer in part and part in self.words for part in parts)


# Of a conversation what a question at a budget, a share of its tokens, leaves of it.
Method = Callable[[Conversation], Callable[[Question, float], Kept]]


# --- methods ---------------------------------------------------------------------------------------------------------


def keep_last(talk: Conversation) -> Callable[[Question, float], Kept]:
    """The newest messages that fit, whatever is asked."""
    kept = {
        budget: Kept(frozenset(str(message.id) for message in _trimmed(talk, int(budget * sum(talk.sizes)))))
        for budget in BUDGETS
    }
    return lambda _, budget: kept[budget]


def _trimmed(talk: Conversation, max_tokens: int) -> list[Any]:
    sizes = {id(message): size for message, size in zip(talk.messages, talk.sizes, strict=True)}
    # It hands over copies of no message, and asks for the size of lists of them.
    count = partial(_sum_of, sizes)
    return list(trim_messages(talk.messages, max_tokens=max_tokens, token_counter=count, strategy="last"))


def _sum_of(sizes: dict[int, int], messages: Sequence[Any]) -> int:
    return sum(sizes.get(id(message), 0) or COUNTER.message(message) for message in messages)


def bm25(talk: Conversation) -> Callable[[Question, float], Kept]:
    """The messages with the best BM25."""
    index = BM25([message.text for message in talk.messages])
    return lambda question, budget: _best(talk, index.scores(question.text), budget)


def summarization(talk: Conversation) -> Callable[[Question, float], Kept]:
    """What a perfect summary and the messages after it hold."""
    needed = {name for question in talk.questions for name in question.evidence}
    facts = {name: text for name, text in talk.texts.items() if name in needed}
    kept = {
        budget: Kept(frozenset(kept_facts(talk.messages, facts, max(1, int(budget * sum(talk.sizes))))))
        for budget in BUDGETS
    }
    return lambda _, budget: kept[budget]


def headroom(talk: Conversation) -> Callable[[Question, float], Kept]:
    """What the package leaves of the conversation as one text, a message a line."""
    peer = HeadroomPeer()
    text = "\n".join(f"{message.name or message.type}: {message.text}" for message in talk.messages)
    return lambda question, budget: Kept(frozenset(), searchable(peer(text, question.text, budget)))


def ours(talk: Conversation, embeddings: MemoEmbeddings | None = None) -> Callable[[Question, float], Kept]:
    """The messages that the ranking has for the best."""
    passages = [Passage(m.text, label=m.name or m.type, id=str(m.id)) for m in talk.messages]
    scores = lru_cache(maxsize=1)(Ranking(passages, embeddings=embeddings).scores)
    return lambda question, budget: _best(talk, scores(question.text), budget)


def _best(talk: Conversation, scores: Any, budget: float) -> Kept:
    chosen = best_within(scores, talk.sizes, int(budget * sum(talk.sizes)))
    return Kept(frozenset(str(talk.messages[at].id) for at in chosen))


def methods(wanted: Sequence[str], known: KeptVectors | None) -> Iterator[tuple[str, Method]]:
    """The methods that are wanted and can run here; why another one cannot is said."""
    plain = {"keep_last": keep_last, "bm25": bm25, "summarization": summarization, "headroom": headroom, "ours": ours}
    for name in wanted:
        if name == "headroom" and not is_installed():
            continue
        if name in plain:
            yield name, plain[name]
        elif known is not None:
            # What is kept is the vectors' own business, so a small memo does.
            yield name, partial(ours, embeddings=MemoEmbeddings(known))


# --- figures ---------------------------------------------------------------------------------------------------------


def measure(name: str, method: Method, talks: Sequence[Conversation]) -> Iterator[Measure]:
    """Evidence and answers that one method keeps, at each budget."""
    evidence: dict[float, list[float]] = {budget: [] for budget in BUDGETS}
    answers: dict[float, list[float]] = {budget: [] for budget in BUDGETS}
    for talk in talks:
        keep, texts = method(talk), talk.texts
        for question in talk.questions:
            answer = searchable(question.answer)
            stating = [name for name in question.evidence if answer.strip() and answer in searchable(texts[name])]
            for budget in BUDGETS:
                kept = keep(question, budget)
                evidence[budget].append(statistics.fmean(kept.share(name, texts[name]) for name in question.evidence))
                if stating:
                    answers[budget].append(any(kept.states(answer, name, texts[name]) for name in stating))
    for metric, found in (("evidence", evidence), ("answer", answers)):
        for budget in BUDGETS:
            if found[budget]:
                yield Measure(name, metric, budget, statistics.fmean(found[budget]))


def searchable(text: str) -> str:
    """The words of a text, one space around each, so that words are found as a whole."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


# --- data ------------------------------------------------------------------------------------------------------------


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a file. A question whose evidence is not in its conversation is left out.

    Raises:
        ValueError: A row is no conversation, or there is no question; says where.
    """
    talks = []
    for number, row in enumerate(read_rows(path, messages=list, questions=list), 1):
        try:
            messages = [_message(said) for said in row["messages"]]
            ids = {message.id for message in messages}
            asked = [
                Question(q["question"], str(q["answer"]), tuple(e for e in dict.fromkeys(q["evidence"]) if e in ids))
                for q in row["questions"]
            ]
        except (KeyError, TypeError) as error:
            msg = f"{path}: line {number} is no conversation: {error!r}"
            raise ValueError(msg) from error
        sizes = [COUNTER.message(message) for message in messages]
        talks.append(Conversation(messages, [question for question in asked if question.evidence], sizes))
    if not any(talk.questions for talk in talks):
        msg = f"{path}: no question has evidence in its conversation"
        raise ValueError(msg)
    return talks


def _message(said: dict[str, Any]) -> AnyMessage:
    kind = AIMessage if said["role"] in {"assistant", "ai"} else HumanMessage
    return kind(said["content"], id=said["id"], name=said.get("name"))


# --- the whole -------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Measure and publish. Exit code 2: the data cannot be used."""
    args = _arguments(argv)
    try:
        talks = read_conversations(args.data)
        known = None if args.embeddings == "none" else open_vectors(args)
        rows = [row for name, method in methods(args.only, known) for row in measure(name, method, talks)]
        if args.cost:
            from benchmarks import history_cost  # which reads what is defined here

            rows += history_cost.rows(talks)
        if known is not None:
            if args.table is not None and args.embeddings == "real":
                known.save(args.table)
            known.check()
    except (OSError, ValueError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    asked = sum(len(talk.questions) for talk in talks)
    tokens = sum(sum(talk.sizes) for talk in talks)
    print(f"{len(talks)} conversations, {tokens} tokens ({COUNTER.source()}), {asked} questions")
    publish("history", args.data.name, rows, args.json)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="conversations; the sample by default")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--no-cost", dest="cost", action="store_false", help="leave out what the conversation costs")
    parser.add_argument("--seed", type=int, default=0, help="nothing is drawn: for likeness with the others")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--embeddings", choices=["none", "real", "table", "hash"], default="none")
    parser.add_argument("--table", type=Path, metavar="NPZ", help="where vectors are read from, or with `real` written")
    parser.add_argument("--model", help="another embedder than the default one: a name or a folder")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
