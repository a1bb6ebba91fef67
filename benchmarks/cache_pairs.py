"""How often is a wrong answer served, if a given share of the paraphrases is to be served?

    python -m benchmarks.cache_pairs --data PAIRS.jsonl [--labels N] [--edits] [--seed N] [--json OUT]

Every method gives each pair of questions a score. At a recall of 0.5 the score is taken from which on half of the pairs
with the same answer are served; `false_hit_rate` is the share of wrong ones in all that is served there, with a 95 %
Wilson interval. `ap` is the average precision over all scores.

* `cosine`: the similarity of the embeddings.
* `guards`: the same, but what the lexical guard refuses comes last.
* `ours`: the learned decision before it has seen a label; it has one neighbour to look at here, not ten.
* `ours+labels`: the same after N labelled pairs, as audits would bring them. With `--labels` every method is scored on
  what is left, and no sentence is on both sides: pairs that share a sentence go to the same side.

`--edits` makes questions with another answer out of those that have the same (benchmarks/edits.py) and reports as
`edits_served` how many of them would be served at 50 % recall, over all and by kind of edit. An edit is compared with
the question that it was made from and with its paraphrase.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import vectors
from benchmarks.edits import edits
from benchmarks.rows import Measure, publish
from langchain_tokopt.cache.decision import Neighbour
from langchain_tokopt.cache.decision.evidence import Proposal, propose
from langchain_tokopt.cache.decision.scorer import fit, unlearned
from langchain_tokopt.cache.guard import Prepared, difference, prepare

RECALLS = (0.3, 0.5, 0.7)
SAMPLE = Path(__file__).parent / "samples" / "pairs.jsonl"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether one answer does for both; `kind` of the edit that the second one was made by."""

    a: str
    b: str
    same: bool
    kind: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A pair, read and embedded; vectors are float32 `[d]` of unit norm."""

    a: Prepared
    b: Prepared
    at_a: np.ndarray
    at_b: np.ndarray
    same: bool

    @property
    def similarity(self) -> float:
        """Cosine similarity of the two."""
        return float(self.at_a @ self.at_b)


# --- methods ---------------------------------------------------------------------------------------------------------
# Each gives the first argument's pairs their scores, after it has seen the second's, and which are the same of those.


def cosine(pairs: Sequence[Compared], learnt: Sequence[Compared] = ()) -> list[float]:
    """The similarity."""
    return [pair.similarity for pair in pairs]


def guards(pairs: Sequence[Compared], learnt: Sequence[Compared] = ()) -> list[float]:
    """The similarity; what the guard refuses comes after everything else, in the same order."""
    return [pair.similarity - (0.0 if difference(pair.a, pair.b) is None else 2.0) for pair in pairs]


def ours(pairs: Sequence[Compared], learnt: Sequence[Compared] = ()) -> list[float]:
    """The probability that the answer is right, as the learned decision sees it; what is forbidden comes last."""
    scorer = unlearned()
    if learnt:
        known = np.stack([_proposal(pair).features for pair in learnt])
        scorer = fit(known, np.array([float(pair.same) for pair in learnt]))
    proposals = [_proposal(pair) for pair in pairs]
    if not proposals:
        return []
    right = 1.0 - scorer.risk(np.stack([proposal.features for proposal in proposals]))
    forbidden = [proposal.forbidden is not None for proposal in proposals]
    return [float(score) - float(is_forbidden) for score, is_forbidden in zip(right, forbidden, strict=True)]


def _proposal(pair: Compared) -> Proposal:
    """The decision's view of a question with a single neighbour."""
    neighbour = Neighbour(id=1, revision=1, text=pair.b.text, similarity=pair.similarity, answer=1)
    return propose(pair.a, pair.at_a, [neighbour], pair.at_b[None, :], lambda _: pair.b)


METHODS = {"cosine": cosine, "guards": guards, "ours": ours}


# --- figures ---------------------------------------------------------------------------------------------------------


def threshold_at(recall: float, scores: Sequence[float], same: Sequence[bool]) -> float:
    """The highest score from which on at least `recall` of the pairs with the same answer are served."""
    right = sorted((score for score, is_same in zip(scores, same, strict=True) if is_same), reverse=True)
    return right[max(0, math.ceil(recall * len(right)) - 1)]


def false_hits(recall: float, scores: Sequence[float], same: Sequence[bool]) -> tuple[float, float, float]:
    """Share of wrong ones in what is served at `recall`, and its 95 % interval."""
    bound = threshold_at(recall, scores, same)
    served = [is_same for score, is_same in zip(scores, same, strict=True) if score >= bound]
    return _share(len(served) - sum(served), len(served))


def average_precision(scores: Sequence[float], same: Sequence[bool]) -> float:
    """Mean precision over the pairs with the same answer; pairs of equal score are served together."""
    by_score: dict[float, list[bool]] = defaultdict(list)
    for score, is_same in zip(scores, same, strict=True):
        by_score[score].append(is_same)
    served = right = 0
    total = 0.0
    for score in sorted(by_score, reverse=True):
        found = by_score[score]
        served += len(found)
        right += sum(found)
        total += sum(found) * right / served
    return total / right if right else 0.0


def _share(part: int, whole: int) -> tuple[float, float, float]:
    """A share and its 95 % Wilson interval."""
    if not whole:
        return 0.0, 0.0, 1.0
    z = 1.959964
    share = part / whole
    middle = (share + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    return share, max(0.0, middle - half), min(1.0, middle + half)


# --- data ------------------------------------------------------------------------------------------------------------


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, each once.

    Raises:
        ValueError: A row is not what it should be; says in which line. Or one kind of pairs is missing.
    """
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8").splitlines()
    found: dict[Pair, None] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pair = Pair(row["a"], row["b"], row["same"])
        except (ValueError, KeyError, TypeError) as error:
            msg = f'line {number}: needs {{"a": str, "b": str, "same": bool}} ({error!r})'
            raise ValueError(msg) from error
        if not (isinstance(pair.a, str) and isinstance(pair.b, str) and isinstance(pair.same, bool)):
            msg = f'line {number}: needs {{"a": str, "b": str, "same": bool}}'
            raise ValueError(msg)
        found[pair] = None
    if {pair.same for pair in found} != {True, False}:
        msg = "needs pairs of both kinds, same and not"
        raise ValueError(msg)
    return list(found)


def components(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs in groups that share no sentence."""
    root: dict[str, str] = {}

    def find(text: str) -> str:
        while root.setdefault(text, text) != text:
            root[text] = root[root[text]]
            text = root[text]
        return text

    for pair in pairs:
        root[find(pair.a)] = find(pair.b)
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[find(pair.a)].append(pair)
    return list(groups.values())


def split(pairs: Sequence[Pair], labels: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """At most `labels` pairs to learn from, and the others, that share no sentence with them.

    Raises:
        ValueError: Too few pairs, or they hang together so that they cannot be taken apart.
    """
    groups = components(pairs)
    random.Random(seed).shuffle(groups)
    learnt: list[Pair] = []
    scored: list[Pair] = []
    for group in groups:
        # A component that is too big is scored; the next ones may fit.
        (learnt if len(learnt) + len(group) <= labels else scored).extend(group)
    if {pair.same for pair in learnt} != {True, False} or {pair.same for pair in scored} != {True, False}:
        msg = (
            f"--labels {labels} leaves no pairs of both kinds on both sides: {len(pairs)} pairs, {len(groups)} groups "
            f"of them without a sentence in common, the biggest of {max(map(len, groups))}"
        )
        raise ValueError(msg)
    random.Random(seed).shuffle(learnt)
    return learnt, scored


def edited(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Pairs with another answer, made by an edit of pairs with the same one."""
    made: dict[Pair, None] = {}
    for pair in pairs:
        if not pair.same:
            continue
        # Drawn by the text alone: a table of vectors that was written for all pairs then does for some of them.
        for kind, text in edits(pair.b, random.Random(f"{seed}/{pair.b}")).items():
            for other in (pair.a, pair.b):
                if other != text:
                    made[Pair(other, text, same=False, kind=kind)] = None
    return list(made)


def compare(pairs: Sequence[Pair], known: dict[str, np.ndarray]) -> list[Compared]:
    """The pairs, read and embedded."""
    read = {text: prepare(text) for pair in pairs for text in (pair.a, pair.b)}
    return [Compared(read[p.a], read[p.b], known[p.a], known[p.b], p.same) for p in pairs]


# --- the whole -------------------------------------------------------------------------------------------------------


def measure(
    method: str, scores: Sequence[float], pairs: Sequence[Pair], edit_scores: Sequence[float], made: Sequence[Pair]
) -> list[Measure]:
    """All figures of one method. `scores` of `pairs`, `edit_scores` of the edited pairs `made`, if there are any."""
    same = [pair.same for pair in pairs]
    rows = [Measure(method, "false_hit_rate", recall, *false_hits(recall, scores, same)) for recall in RECALLS]
    rows.append(Measure(method, "ap", None, average_precision(scores, same)))
    if made:
        bound = threshold_at(0.5, scores, same)
        by_kind: dict[str, list[bool]] = defaultdict(list)
        for score, pair in zip(edit_scores, made, strict=True):
            by_kind[str(pair.kind)].append(score >= bound)
        every = [served for kind in by_kind.values() for served in kind]
        rows.append(Measure(method, "edits_served", 0.5, *_share(sum(every), len(every))))
        for kind, served in sorted(by_kind.items()):
            rows.append(Measure(method, "edits_served", f"0.5:{kind}", *_share(sum(served), len(served))))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Score the pairs by each method and publish the figures. Exit code 2: the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_pairs", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="pairs of questions; the sample by default")
    parser.add_argument(
        "--labels", type=int, default=0, metavar="N", help="learn from at most N pairs, score the others"
    )
    parser.add_argument("--edits", action="store_true", help="report answer-changing edits that would be served")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    vectors.add_options(parser)
    args = parser.parse_args(argv)
    try:
        pairs = read_pairs(args.data)
        learnt, scored = split(pairs, args.labels, args.seed) if args.labels else ([], pairs)
        made = edited(scored, args.seed) if args.edits else []
        known = vectors.vectors([text for pair in [*pairs, *made] for text in (pair.a, pair.b)], args)
    except (OSError, ValueError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    print(
        f"{len(scored)} pairs scored, {sum(pair.same for pair in scored)} of them the same; {len(made)} edits", end=""
    )
    print(f"; learnt from {len(learnt)} pairs" if learnt else "")
    compared, edit_compared, labelled = compare(scored, known), compare(made, known), compare(learnt, known)
    rows: list[Measure] = []
    for name, method in METHODS.items():
        rows += measure(name, method(compared), scored, method(edit_compared), made)
    if labelled:
        rows += measure("ours+labels", ours(compared, labelled), scored, ours(edit_compared, labelled), made)
    publish("cache_pairs", args.data.name, rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
