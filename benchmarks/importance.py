"""Does the classifier of messages know which ones will be needed?

    python -m benchmarks.importance --data DATA.jsonl [--held-out] [--questions N] [--every N] [--seed N] [--json OUT]

DATA is in the format of `history` or of `agent_runs`. What is needed is told by the data:

* conversations with questions: a message is needed (`at` = "any question") when it is evidence for one of the
  questions; with the question as the request (`at` = "question"), when it is evidence for that one. N questions each
  are drawn.
* agent runs: a tool result is needed (`at` = "later calls") when an identifier that came up first in it stands in a
  call that the model makes later; `at` = "first uses" counts an identifier only when the model has not said it before.
  The classifier sees the messages up to a call and no further; every Nth call is judged.

`auc` and `ap` (average precision) judge the score; `share`, `precision`, `recall` and `accuracy` what is at a level or
above. The baselines are `recency` (the newer the more important) and `role` (what the user says comes first, then the
model, then tools); for a level they take as many messages as the classifier has there.

`--held-out` scores every second conversation or run only: the classifier's weights were fitted on the others of LoCoMo,
of tau-bench and of SWE-bench runs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages

from benchmarks.rows import Measure, publish
from langchain_tokopt.context.importance import MessageImportance

SAMPLE = Path(__file__).parent / "samples" / "history.jsonl"
LEVELS = ("critical", "important", "supporting", "background")
ROLES = {"system": 3, "human": 2, "ai": 1, "tool": 0}
# The end of a run is known to nobody: the first messages have nothing to choose from.
FIRST_CALL = 3
LONGEST_ARGUMENTS = 1500

_NAME = re.compile(r"[A-Za-z0-9_][\w\-]*(?:[./][\w\-]+)*")


@dataclass
class Judged:
    """Messages that were judged: whether each was needed, and what each method says of it."""

    needed: list[bool] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: {"recency": [], "role": [], "ours": []})

    def add(self, message: BaseMessage, age: int, level: str, score: float, *, needed: bool) -> None:
        """One message that is `age` messages old."""
        self.needed.append(needed)
        self.levels.append(level)
        self.scores["recency"].append(-age)
        self.scores["role"].append(ROLES.get(message.type, 0))
        self.scores["ours"].append(score)


# --- what is needed ---------------------------------------------------------------------------------------------------


def judge_conversation(
    row: dict[str, Any], importance: MessageImportance, questions: int, seed: int, judged: dict[str, Judged]
) -> None:
    """A conversation with questions, judged without a request and with each question as one."""
    messages = convert_to_messages(
        [{key: value for key, value in message.items() if value is not None} for message in row["messages"]]
    )
    evidence = {name for question in row["questions"] for name in question["evidence"]}
    drawn = list(row["questions"])
    random.Random(f"{seed}/{row['id']}").shuffle(drawn)
    requests = [
        (None, evidence),
        *((question["question"], set(question["evidence"])) for question in drawn[:questions]),
    ]
    for query, needed in requests:
        target = judged.setdefault("any question" if query is None else "question", Judged())
        for at, found in enumerate(importance.classify(messages, query)):
            age = len(messages) - 1 - at
            target.add(messages[at], age, found.level, found.score, needed=messages[at].id in needed)


def judge_run(row: dict[str, Any], importance: MessageImportance, every: int, judged: dict[str, Judged]) -> None:
    """An agent run, judged before every `every`-th call of the model."""
    messages = convert_to_messages([{"content": "", **message} for message in row["messages"]])
    used = list(uses(messages))
    calls = [at for at, message in enumerate(messages) if isinstance(message, AIMessage) and at >= FIRST_CALL]
    for call in calls[::every]:
        later = {result for at, result, _ in used if at >= call}
        first = {result for at, result, is_first in used if at >= call and is_first}
        history = messages[:call]
        for at, found in enumerate(importance.classify(history)):
            if not isinstance(history[at], ToolMessage):
                continue
            for name, needed in (("later calls", later), ("first uses", first)):
                target = judged.setdefault(name, Judged())
                target.add(history[at], call - 1 - at, found.level, found.score, needed=at in needed)


def uses(messages: Sequence[BaseMessage]) -> Iterator[tuple[int, int, bool]]:
    """`(call, result, first)`: a message of the model that calls with an identifier, the tool result that had it first,
    and whether neither the model nor the user said it before.

    What the user or the model said before any tool is nobody's result.
    """
    first: dict[str, int] = {}
    said: set[str] = set()
    for at, message in enumerate(messages):
        if isinstance(message, AIMessage):
            written = "\n".join(_values([call["args"] for call in message.tool_calls]))[:LONGEST_ARGUMENTS]
            for name in identifiers(written):
                if isinstance(messages[first.setdefault(name, at)], ToolMessage):
                    yield at, first[name], name not in said
                said.add(name)
        for name in identifiers(str(message.text)):
            first.setdefault(name, at)
            if not isinstance(message, ToolMessage):
                said.add(name)


def identifiers(text: str) -> dict[str, None]:
    """Paths, snake_case and camelCase names, ids of letters and digits; each once."""
    return {
        name: None
        for name in _NAME.findall(text)
        if (len(name) >= 6 and re.search(r"[_./]|[a-z][A-Z]", name))
        or (len(name) >= 4 and re.search(r"\d", name) and re.search(r"[A-Za-z]", name))
    }


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _values(item)
    else:
        yield str(value)


# --- figures ----------------------------------------------------------------------------------------------------------


def auc(scores: Sequence[float], needed: Sequence[bool]) -> float:
    """How often a needed message has a higher score than one that is not needed; equal scores count half."""
    values, positive = np.asarray(scores, dtype=float), np.asarray(needed, dtype=bool)
    distinct, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    n = int(positive.sum())
    pairs = n * (len(distinct[place]) - n)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / pairs) if pairs else 0.5


def average_precision(scores: Sequence[float], needed: Sequence[bool]) -> float:
    """Mean precision over the needed messages, from the highest score down; equal scores come together."""
    values, positive = np.asarray(scores, dtype=float), np.asarray(needed, dtype=bool)
    _, place = np.unique(-values, return_inverse=True)
    taken = np.cumsum(np.bincount(place))
    right = np.bincount(place, weights=positive)
    return float((right * np.cumsum(right) / taken).sum() / max(1, positive.sum()))


def at_level(judged: Judged, method: str, level: str) -> list[Measure]:
    """Share, precision, recall and accuracy of what a method puts at `level` or above."""
    above = np.array([LEVELS.index(own) <= LEVELS.index(level) for own in judged.levels])
    if method != "ours":
        best = np.argsort(-np.asarray(judged.scores[method]), kind="stable")[: int(above.sum())]
        above = np.isin(np.arange(len(above)), best)
    needed = np.asarray(judged.needed)
    right = int((above & needed).sum())
    return [
        Measure(method, "share", level, float(above.mean())),
        Measure(method, "precision", level, right / max(1, int(above.sum()))),
        Measure(method, "recall", level, right / max(1, int(needed.sum()))),
        Measure(method, "accuracy", level, float((above == needed).mean())),
    ]


def measure(judged: dict[str, Judged]) -> list[Measure]:
    """All figures of all methods."""
    rows: list[Measure] = []
    for name, found in judged.items():
        for method, scores in found.scores.items():
            rows.append(Measure(method, "needed", name, float(np.mean(found.needed))))
            rows.append(Measure(method, "auc", name, auc(scores, found.needed)))
            rows.append(Measure(method, "ap", name, average_precision(scores, found.needed)))
            for level in LEVELS[:-1]:
                for row in at_level(found, method, level):
                    rows.append(Measure(method, row.metric, f"{name}: {level}", row.value))
    return rows


# --- the whole --------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file.

    Raises:
        ValueError: A row is not what it should be; says in which line.
    """
    raw = path.read_bytes()
    rows = []
    for number, line in enumerate((gzip.decompress(raw) if path.name.endswith(".gz") else raw).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row["messages"], list):
                raise TypeError("messages")
            row["id"] = str(row["id"])
        except (ValueError, KeyError, TypeError) as error:
            msg = f'line {number}: needs {{"id": str, "messages": [...]}} ({error!r})'
            raise ValueError(msg) from error
        rows.append(row)
    if not rows:
        msg = "has no rows"
        raise ValueError(msg)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Judge the messages and publish the figures. Exit code 2: the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.importance", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="conversations or agent runs; the sample by default")
    parser.add_argument("--held-out", action="store_true", help="every second row only")
    parser.add_argument("--questions", type=int, default=40, metavar="N", help="questions of each conversation")
    parser.add_argument("--every", type=int, default=3, metavar="N", help="judge a run before every Nth call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    importance = MessageImportance()
    judged: dict[str, Judged] = {}
    try:
        rows = read_rows(args.data)
        for row in rows[1::2] if args.held_out else rows:
            if "questions" in row:
                judge_conversation(row, importance, args.questions, args.seed, judged)
            else:
                judge_run(row, importance, max(1, args.every), judged)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    publish(
        "importance",
        args.data.name,
        measure({name: found for name, found in judged.items() if found.needed}),
        args.json,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
