"""Which tools are found for what a user says, how fast, and what binding only those costs.

    python -m benchmarks.tools [--registry REGISTRY] [--data QUERIES] [--feedback N] [--seed N ...] [--json OUT]

`recall` at k: the share of queries whose tools are *all* among the k that rank first.

* `cosine`: similarity of the query to "name: description", with the package's own embedder.
* `bm25`: words in common with the same text.
* `langgraph-bigtool`: the search of its agent, with the same embedder.
* `ours`: `ToolIndex`, cold.
* `ours+feedback`: the same after it learned from N dialogs (N queries where the data has no dialogs), turn by turn.
  They are drawn by the seed, and with `--feedback` every method is scored on the others only. It knows which tools the
  dialog has used before, as an agent does.

`schema_tokens` at k: tokens of the schemas of the k first tools. Times: see `tools_speed`. Costs: see `tools_cost`.
Several seeds give the mean, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tools_cost, tools_speed, vectors
from benchmarks.peers.bigtool import BigtoolPeer
from benchmarks.rows import Measure, publish
from benchmarks.tools_threads import Turn
from benchmarks.tools_vectors import KeptVectors, open_vectors
from langchain_tokopt import TokenCounter, __version__
from langchain_tokopt.lexical import BM25, words
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.encoder import Encoder

SAMPLES = Path(__file__).parent / "samples"
PARTS = ("recall", "speed", "cost")
KS = (1, 3, 5, 10, 20)
_PATIENCE_SECONDS = 600.0
_TIMED = 200

Rank = Callable[[Turn], Sequence[str]]


def read_rows(path: Path, **types: type) -> list[dict[str, Any]]:
    """The rows of a JSONL file.

    Raises:
        ValueError: A row lacks a key, or its value is of another type; says which.
    """
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                wrong = [key for key, kind in types.items() if not isinstance(row[key], kind)]
            except (ValueError, KeyError, TypeError) as error:
                msg = f"{path}: line {number} is no row of this data: {error!r}"
                raise ValueError(msg) from None
            if wrong:
                msg = f"{path}: line {number}: {wrong[0]!r} is no {types[wrong[0]].__name__}"
                raise ValueError(msg)
            rows.append(row)
    if not rows:
        msg = f"{path}: there are no rows"
        raise ValueError(msg)
    return rows


def read_turns(path: Path, names: Iterable[str]) -> list[Turn]:
    """Queries with their tools, in the order of the file.

    Raises:
        ValueError: A row is no such row, or needs a tool that is not in the registry.
    """
    known = set(names)
    turns: list[Turn] = []
    called: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(read_rows(path, query=str, tools=list), 1):
        lacking = [name for name in row["tools"] if name not in known]
        if lacking or not row["tools"]:
            msg = f"{path}: line {number} needs {lacking or 'no tool'}, which the registry has not"
            raise ValueError(msg)
        wanted, dialog = tuple(dict.fromkeys(row["tools"])), row.get("dialog")
        before = called.get(dialog, ())
        turns.append(Turn(row["query"], wanted, dialog, before))
        if dialog is not None:
            called[dialog] = (*before, *wanted)
    return turns


# --- recall ----------------------------------------------------------------------------------------------------------


def divided(turns: Sequence[Turn], feedback: int, seed: int) -> tuple[list[Turn], list[Turn]]:
    """Those to learn from, whole dialogs in order, and the others. A query without a dialog is one of its own."""
    dialogs: dict[str, list[Turn]] = {}
    for number, turn in enumerate(turns):
        dialogs.setdefault(turn.dialog or f" {number}", []).append(turn)
    order = sorted(dialogs)
    random.Random(seed).shuffle(order)
    first, rest = order[:feedback], set(order[feedback:])
    scored = [turn for number, turn in enumerate(turns) if (turn.dialog or f" {number}") in rest]
    return [turn for name in first for turn in dialogs[name]], scored


def rankers(
    registry: Sequence[Mapping[str, Any]], known: KeptVectors, learn: Sequence[Turn]
) -> Iterator[tuple[str, Rank]]:
    """Each method with what it ranks first for a query. What is not installed is named."""
    names = [row["name"] for row in registry]
    texts = [f"{words(row['name'])}: {row['description']}" for row in registry]
    tools, lexical = known.matrix(texts), BM25(texts)
    yield "cosine", lambda turn: _best(names, tools @ known.matrix([turn.text])[0])
    yield "bm25", lambda turn: _best(names, lexical.scores(turn.text))
    known.matrix([f"{row['name']}: {row['description']}" for row in registry])  # at once, not one by one
    try:
        peer = BigtoolPeer(registry, embeddings=known, dim=tools.shape[1], k=KS[-1])
        yield "langgraph-bigtool", lambda turn: peer(turn.text)
    except ImportError:
        print("langgraph-bigtool is not installed: its figures are missing", file=sys.stderr)
    yield "ours", _ours(registry, known, [])
    if learn:
        yield "ours+feedback", _ours(registry, known, learn)


def _best(names: Sequence[str], scores: np.ndarray) -> list[str]:
    return [names[at] for at in np.argsort(-scores, kind="stable")[: KS[-1]]]


def _ours(registry: Sequence[Mapping[str, Any]], known: KeptVectors, learn: Sequence[Turn]) -> Rank:
    tools = [{"type": "function", "function": row} for row in registry]
    index = ToolIndex(tools, embeddings=Encoder(known, timeout_seconds=_PATIENCE_SECONDS))
    index.warm()
    if not learn:
        return lambda turn: index.top(turn.text, KS[-1])
    for turn in learn:
        index.learn(turn.text, turn.tools, before=turn.before)
    return lambda turn: index.top(turn.text, KS[-1], before=turn.before)


def recall(
    registry: Sequence[Mapping[str, Any]], learn: Sequence[Turn], turns: Sequence[Turn], known: KeptVectors
) -> Iterator[Measure]:
    """Recall and schema tokens of every method on `turns`."""
    known.matrix([turn.text for turn in (*learn, *turns)])
    counter = TokenCounter()
    weights = {row["name"]: counter.tool({"type": "function", "function": row}) for row in registry}
    yield Measure("everything", "schema_tokens", len(registry), sum(weights.values()))
    for method, rank in rankers(registry, known, learn):
        found, tokens = dict.fromkeys(KS, 0), dict.fromkeys(KS, 0)
        for turn in turns:
            best = rank(turn)
            for k in KS:
                found[k] += set(turn.tools) <= set(best[:k])
                tokens[k] += sum(weights[name] for name in best[:k])
        for k in KS:
            yield Measure(method, "recall", k, found[k] / len(turns))
        for k in KS:
            yield Measure(method, "schema_tokens", k, tokens[k] / len(turns))


# --- program ---------------------------------------------------------------------------------------------------------


def pooled(runs: Sequence[Sequence[Measure]]) -> list[Measure]:
    """One run's figures as they are; of several the mean of each figure, with the lowest and the highest."""
    if len(runs) == 1:
        return list(runs[0])
    values: dict[tuple[str, str, Any], list[float]] = {}
    for row in (row for run in runs for row in run):
        values.setdefault((row.method, row.metric, row.at), []).append(row.value)
    return [Measure(*key, statistics.fmean(found), min(found), max(found)) for key, found in values.items()]


def main(argv: list[str] | None = None) -> int:
    """Measure and publish. Exit code 2: the data cannot be used."""
    args = _arguments(argv)
    try:
        registry = read_rows(args.registry, name=str, description=str, parameters=dict)
        turns = read_turns(args.data, (row["name"] for row in registry))
        known = open_vectors(args)
        parts = list(_parts(args, registry, turns, known))
        if args.table is not None and args.embeddings == "real":
            known.save(args.table)
        known.check()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    data = f"{args.data.name} over {args.registry.name}"
    for title, rows in parts:
        publish("tools", f"{data}: {title}", [row for row in rows if _shown(row)], None)
    if args.json is not None:
        _write(data, [row for _, rows in parts for row in rows], args.json)
    return 0


def _parts(
    args: argparse.Namespace, registry: list[dict[str, Any]], turns: list[Turn], known: KeptVectors
) -> Iterator[tuple[str, list[Measure]]]:
    """A title and the figures of each part that is asked for."""
    if "recall" in args.only:
        runs = [_recall_run(args, registry, turns, known, seed) for seed in args.seed]
        yield f"{runs[0][0]} queries, {len(registry)} tools", pooled([rows for _, rows in runs])
    if "speed" in args.only:
        # No text twice, and the embedder without its memo: what is remembered takes no time.
        asked = [f"{turns[at % len(turns)].text} ({at})" for at in range(_TIMED)]
        embedder = None if known.source is None else known.source.source()
        yield "times", list(tools_speed.measures(registry, asked, embedder=embedder, sizes=args.sizes))
    if "cost" in args.only:
        costs = [
            list(
                tools_cost.regimes(
                    registry,
                    turns,
                    embeddings=known,
                    sizes=args.regimes,
                    threads=args.threads,
                    methods=args.methods,
                    seed=seed,
                )
            )
            for seed in args.seed
        ]
        rows = pooled(costs)
        yield "costs, relative to binding everything", [*rows, *tools_cost.worst(rows)]


def _recall_run(
    args: argparse.Namespace, registry: list[dict[str, Any]], turns: list[Turn], known: KeptVectors, seed: int
) -> tuple[int, list[Measure]]:
    learn, scored = divided(turns, args.feedback, seed)
    if args.queries is not None:
        scored = random.Random(seed).sample(scored, min(args.queries, len(scored)))
    if not scored:
        msg = f"--feedback {args.feedback} --queries {args.queries} leave nothing to score"
        raise ValueError(msg)
    return len(scored), list(recall(registry, learn, scored, known))


def _shown(row: Measure) -> bool:
    """Whether the printed table has room for it: the JSON has more."""
    return row.metric != "total_cost" and not str(row.at).endswith(" cold")


def _write(data: str, rows: Sequence[Measure], out: Path) -> None:
    tidy = [{key: value for key, value in asdict(row).items() if value is not None or key == "at"} for row in rows]
    result = {"program": "tools", "version": __version__, "data": data, "rows": tidy}
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tools", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--registry", type=Path, default=SAMPLES / "registry.jsonl", help="tools; the sample by default"
    )
    parser.add_argument("--data", type=Path, default=SAMPLES / "queries.jsonl", help="queries with the tools they need")
    parser.add_argument(
        "--feedback", type=int, default=0, metavar="N", help="dialogs, or queries, that are learned from"
    )
    parser.add_argument("--queries", type=int, metavar="N", help="how many are scored for recall; all by default")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of all that is drawn; several are averaged")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", type=int, nargs="+", default=tools_speed.SIZES, help="numbers of tools, for times")
    parser.add_argument("--regimes", type=int, nargs="+", default=tools_cost.SIZES, help="numbers of tools, for costs")
    parser.add_argument(
        "--threads", type=int, default=tools_cost.THREADS, help="threads that are billed in each regime"
    )
    parser.add_argument("--methods", nargs="+", choices=tools_cost.KNOWN_METHODS, default=tools_cost.METHODS)
    parser.add_argument("--json", type=Path, metavar="OUT")
    vectors.add_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
