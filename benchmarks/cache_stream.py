"""What a semantic cache serves, and how much of it is wrong, when questions arrive one after the other.

    python -m benchmarks.cache_stream [--data STREAM] [--requests N] [--seed N ...] [--bounds 0.01 0.02] [--json OUT]

The cache starts empty. A question that it does not answer goes to the "model", which answers with the question's
label; that answer is stored. Right is an answer with the same label. Nothing is tuned on the stream: what is learned is
learned while it runs.

* `static@T`: the nearest stored question from cosine similarity T on, as most caches do. No words are looked at.
* `ours@B`: `SemanticCache(max_error=B)`, as an application uses it, with answers compared by their text.

`hit_rate`: share of requests that were answered from the cache. `error_rate`: wrong answers as a share of *all*
requests, with Wilson's interval. `audit_rate`: share of requests that were answered from the cache while the model was
asked beside. `saved_rate`: hits less audits, which is what is saved in calls. `error_rate_by` and `hit_rate_by` are the
same up to a request, `worst_error_rate` the highest of the former from request 1,000 on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage

from benchmarks import vectors
from benchmarks.overhead import AtOnce
from benchmarks.rows import Measure, publish
from langchain_tokopt import SemanticCache
from langchain_tokopt.cache.decision.steering import wilson

SAMPLE = Path(__file__).parent / "samples" / "stream.jsonl"
THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
BOUNDS = (0.01, 0.02)
SETTLED = 1_000  # requests after which a share of errors says something
CURVE = 8  # points


@dataclass(frozen=True)
class Row:
    """A question, and what tells its answer from others."""

    text: str
    label: str


@dataclass
class Run:
    """What became of each request of one stream."""

    served: list[bool] = field(default_factory=list)
    wrong: list[bool] = field(default_factory=list)
    audited: list[bool] = field(default_factory=list)

    def add(self, *, served: bool, wrong: bool = False, audited: bool = False) -> None:
        self.served.append(served)
        self.wrong.append(wrong)
        self.audited.append(audited)

    def measures(self, method: str) -> Iterator[Measure]:
        served, wrong, audited = (np.array(part, dtype=float) for part in (self.served, self.wrong, self.audited))
        count = len(served)
        yield Measure(method, "hit_rate", None, float(served.mean()))
        yield Measure(method, "error_rate", None, float(wrong.mean()), *wilson(float(wrong.sum()), count))
        yield Measure(method, "audit_rate", None, float(audited.mean()))
        yield Measure(method, "saved_rate", None, float((served - audited).mean()))
        by = np.cumsum(wrong) / np.arange(1, count + 1)
        if count > SETTLED:
            yield Measure(method, "worst_error_rate", None, float(by[SETTLED - 1 :].max()))
        hits = np.cumsum(served) / np.arange(1, count + 1)
        for place in sorted({max(1, count * part // CURVE) for part in range(1, CURVE + 1)}):
            yield Measure(method, "hit_rate_by", place, float(hits[place - 1]))
            yield Measure(method, "error_rate_by", place, float(by[place - 1]))


class Table(Embeddings):
    """Embeddings that were made before."""

    def __init__(self, known: dict[str, np.ndarray]) -> None:
        self._known = known

    def embed_query(self, text: str) -> list[float]:
        return [float(x) for x in self._known[text]]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def read_stream(path: Path, requests: int | None, seed: int) -> list[Row]:
    """The rows of a stream in an order drawn by `seed`, at most `requests` of them.

    Raises:
        ValueError: A row is no such row; says which.
    """
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append(Row(str(row["text"]).strip(), str(row["label"])))
            except (ValueError, KeyError, TypeError) as error:
                msg = f'line {number} is no {{"text": str, "label": str}}: {error!r}'
                raise ValueError(msg) from None
    random.Random(seed).shuffle(rows)
    return rows[:requests]


def static(rows: Sequence[Row], known: dict[str, np.ndarray], threshold: float) -> Run:
    """The nearest stored question, if it is near enough."""
    run = Run()
    stored = np.zeros((len(rows), len(known[rows[0].text])), dtype=np.float32)
    labels: list[str] = []
    for row in rows:
        vector = known[row.text]
        if labels:
            similarities = stored[: len(labels)] @ vector
            nearest = int(similarities.argmax())
            if similarities[nearest] >= threshold:
                run.add(served=True, wrong=labels[nearest] != row.label)
                continue
        run.add(served=False)
        stored[len(labels)] = vector
        labels.append(row.label)
    return run


def ours(rows: Sequence[Row], known: dict[str, np.ndarray], bound: float, seed: int) -> Run:
    """The learned cache, used as the middleware uses it."""
    run = Run()
    model = AtOnce()
    cache = SemanticCache(
        max_error=bound, judge="text", embeddings=Table(known), max_entries=len(rows) + 1, wait_seconds=0, seed=seed
    )
    try:
        for row in rows:
            request = ModelRequest(model=model, messages=[HumanMessage(row.text)])
            answer = ModelResponse(result=[AIMessage(row.label)])
            key = cache.key(request)
            if key is None:  # nothing that a cache may answer, such as a question without a letter
                run.add(served=False)
                continue
            look = cache.look(key)
            if look.hit is None:
                run.add(served=False)
                cache.store(key, answer, look)
            else:
                wrong = look.hit.response.result[0].text != row.label
                run.add(served=True, wrong=wrong, audited=look.audit)
                if look.audit:
                    cache.audited(key, look, answer)
            cache.settle()  # between two real requests there is time to learn
    finally:
        cache.close()
    return run


def main(argv: list[str] | None = None) -> int:
    """Run the stream through each method and publish the figures. Exit code 2: the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_stream", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="questions with labels; the sample by default")
    parser.add_argument("--requests", type=int, metavar="N", help="how many of them; all by default")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of the order; several make several runs")
    parser.add_argument("--thresholds", type=float, nargs="*", default=THRESHOLDS)
    parser.add_argument("--bounds", type=float, nargs="*", default=BOUNDS)
    parser.add_argument("--json", type=Path, metavar="OUT")
    vectors.add_options(parser)
    args = parser.parse_args(argv)
    try:
        streams = {seed: read_stream(args.data, args.requests, seed) for seed in args.seed}
        if not all(streams.values()):
            print(f"{args.data}: there are no rows", file=sys.stderr)
            return 2
        known = vectors.vectors([row.text for rows in streams.values() for row in rows], args)
    except (OSError, ValueError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    rows: list[Measure] = []
    for seed, stream in streams.items():
        of = f" seed {seed}" if len(streams) > 1 else ""
        for threshold in args.thresholds:
            rows += static(stream, known, threshold).measures(f"static@{threshold:g}{of}")
        for bound in args.bounds:
            rows += ours(stream, known, bound, seed).measures(f"ours@{bound:g}{of}")
    publish("cache_stream", f"{args.data.name}, {len(next(iter(streams.values())))} requests", rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
