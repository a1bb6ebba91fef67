"""Which eviction policy keeps most of what a cache could save, and does the adaptive one keep up with the best of them?

    python -m benchmarks.cache_eviction [--data TRACE.jsonl] [--requests N] [--seeds N] [--store] [--json OUT]

Every policy sees the same requests, with room for 5, 10 and 20 % of the distinct keys (with --data: of their bytes).
`hit_value` is the value of the hits as a share of the value of all requests, on average over the seeds; `of_best` is
what the adaptive policy saved as a share of what the best fixed one did, in the seed where that was worst.

`bound` is what no policy can exceed, not even one that knows the future: of all the times between two uses of a key
those are kept that bring most for their room, as if room could be cut up (PFOO-U; Berger, Beckmann and Harchol-Balter,
"Practical Bounds on Optimal Caching with Variable Object Sizes", 2018).

The traces made here:

* `popular`: Zipf, always the same keys.
* `shifting`: Zipf, and every tenth of the time other keys are the popular ones.
* `scans`: Zipf, interrupted by long runs of keys that never come again.
* `one_hit`: Zipf, and two of five requests are for a key that never comes again.
* `circle`: a circle of keys a fifth longer than the cache, and every fourth request one of a few popular keys.
* `worth`: Zipf; sizes and values of the answers differ by orders of magnitude, and the limit is in bytes.
* `recent`: seven of ten requests repeat one of the last few hundred.
* `expiring`: Zipf; half of the answers are good for a short time only.
* `phases`: `recent`, then `popular`, then `scans`.

--data: JSONL with `{"key": str, "bytes": int, "usd": number}` a line, in the order of the requests. --store replays the
requests through the cache's own tables (SQLite in memory) instead of a simulation; use fewer --requests with it.
--rephrase does so too, and asks every question in new words: the cache knows it again by its meaning alone.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import text

from benchmarks.rows import Measure, publish
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.eviction import POLICIES, Access, Adaptive, Limits, Room, SimulatedCache
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.database import Database

KEYS = 6_000
SHARES = (0.05, 0.1, 0.2)
START = 1_800_000_000.0
DIMENSIONS = 64
Trace = list[Access]
Maker = Callable[[random.Random, int, float], Trace]


# --- traces ----------------------------------------------------------------------------------------------------------


def uses(keys: Sequence[int | str]) -> Trace:
    """One use a second, all of the same size and value."""
    return [Access(key=str(key), at=START + at, bytes=1_000, value=1_000.0) for at, key in enumerate(keys)]


def zipf(rng: random.Random, keys: int, count: int, skew: float = 0.9) -> list[int]:
    """Keys by their rank, drawn with a probability that falls with it."""
    return rng.choices(range(keys), [(rank + 1) ** -skew for rank in range(keys)], k=count)


def popular(rng: random.Random, count: int, share: float) -> Trace:
    """The same keys all the time."""
    return uses(zipf(rng, KEYS, count))


def shifting(rng: random.Random, count: int, share: float) -> Trace:
    """Other popular keys in every tenth of the time."""
    keys: list[int] = []
    for _ in range(10):
        names = rng.sample(range(KEYS), KEYS)
        keys += [names[rank] for rank in zipf(rng, KEYS, count // 10, 1.0)]
    return uses(keys)


def scans(rng: random.Random, count: int, share: float) -> Trace:
    """Runs of keys that never come again."""
    keys: list[int | str] = []
    while len(keys) < count:
        keys += zipf(rng, KEYS // 2, 1_500)
        keys += [f"scan {len(keys) + n}" for n in range(700)]
    return uses(keys[:count])


def one_hit(rng: random.Random, count: int, share: float) -> Trace:
    """Many keys that come once."""
    known = zipf(rng, KEYS // 2, count)
    return uses([f"once {at}" if rng.random() < 0.4 else key for at, key in enumerate(known)])


def circle(rng: random.Random, count: int, share: float) -> Trace:
    """Round and round, a little too far for the cache."""
    length = int(1.2 * share * KEYS)
    known = zipf(rng, max(4, length // 50), count)
    return uses([f"popular {known[at]}" if at % 4 == 3 else (at - at // 4) % length for at in range(count)])


def worth(rng: random.Random, count: int, share: float) -> Trace:
    """Sizes and values that differ widely."""
    sizes = [int(math.exp(rng.gauss(7.0, 1.2))) + 50 for _ in range(KEYS)]
    values = [1_000.0 * math.exp(rng.gauss(0.0, 1.5)) for _ in range(KEYS)]
    names = rng.sample(range(KEYS), KEYS)
    keys = [names[rank] for rank in zipf(rng, KEYS, count, 0.8)]
    return [replace(use, bytes=sizes[key], value=values[key]) for use, key in zip(uses(keys), keys, strict=True)]


def recent(rng: random.Random, count: int, share: float) -> Trace:
    """What was asked lately is asked again."""
    keys: list[int] = []
    for at in range(count):
        back = int(rng.expovariate(1 / 400)) + 1
        keys.append(keys[-back] if back <= at and rng.random() < 0.7 else at)
    return uses(keys)


def expiring(rng: random.Random, count: int, share: float) -> Trace:
    """Some answers are good for ever, some for the time of a thousand requests."""
    keys = zipf(rng, KEYS, count)
    return [replace(use, ttl_seconds=1_000.0 if key % 2 else None) for use, key in zip(uses(keys), keys, strict=True)]


def phases(rng: random.Random, count: int, share: float) -> Trace:
    """Three kinds of requests one after the other."""
    found: Trace = []
    for made in (recent, popular, scans):
        part = made(rng, count // 3, share)
        found += [
            replace(use, key=f"{made.__name__} {use.key}", at=START + len(found) + n) for n, use in enumerate(part)
        ]
    return found


MADE: dict[str, Maker] = {
    made.__name__: made for made in (popular, shifting, scans, one_hit, circle, worth, recent, expiring, phases)
}


def read(path: Path) -> Trace:
    """The requests of a file."""
    found: Trace = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            use = Access(key=str(row["key"]), at=START + number, bytes=int(row["bytes"]), value=float(row["usd"]) * 1e9)
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f'{path}, line {number}: not {{"key": str, "bytes": int, "usd": number}} ({error})')
        found.append(use)
    return found


def limits_for(name: str, trace: Trace, share: float) -> Limits:
    """Room for this share of what the trace asks for."""
    if name == "circle":
        return Limits(entries=int(share * KEYS))
    sizes = {use.key: use.bytes for use in trace}
    if len(set(sizes.values())) > 1:
        return Limits(bytes=max(1, int(share * sum(sizes.values()))))
    return Limits(entries=max(1, int(share * len(sizes))))


# --- playing ---------------------------------------------------------------------------------------------------------


def simulated(name: str, limits: Limits, trace: Trace) -> float:
    """The value of the hits of a cache that makes room at each request."""
    policy = POLICIES[name](limits)
    cache = SimulatedCache(policy, limits)
    below = 2**64
    if isinstance(policy, Adaptive):
        below = int(policy.share * 2**64)
    saved = 0.0
    for use in trace:
        if isinstance(policy, Adaptive) and int(text_digest(use.key)[:16], 16) < below:
            before = policy.followed
            policy.observe(use)
            if policy.followed != before:
                cache.reorder()
        saved += cache.access(use) * use.value
    return saved


def stored(name: str, limits: Limits, trace: Trace, *, rephrased: bool = False) -> float:
    """The same through the cache's tables: room is made a little late and for several at once, as in use."""
    database = Database()
    entries = Entries(database, kind="agent")
    room = Room(entries, Removal(database, kind="agent"), policy=POLICIES[name](limits), limits=limits)
    rng = np.random.default_rng(0)
    held: dict[str, tuple[int, float]] = {}
    used: dict[int, tuple[float, int]] = {}
    meanings: dict[str, np.ndarray] = {}
    until_full = 0
    saved = 0.0
    for at, use in enumerate(trace):
        entry, good_until = held.get(use.key, (0, 0.0))
        if use.at < good_until:
            saved += use.value
            used[entry] = (use.at, used.get(entry, (0.0, 0))[1] + 1)
            continue
        if room.fits(use.bytes):
            vector = None
            if rephrased:
                meaning = meanings.setdefault(use.key, rng.normal(size=DIMENSIONS))
                said = meaning + 0.2 * rng.normal(size=DIMENSIONS)  # cosine about 0.96 between two phrasings
                vector = (said / np.linalg.norm(said)).astype("<f4").tobytes()
            new = NewEntry(
                scope="scope",
                owner="",
                exact=text_digest(f"{use.key} {at}" if rephrased else use.key),
                question="",
                payload="x" * use.bytes,
                vector=vector,
                embedder="e" if rephrased else None,
                expires_at=None if use.ttl_seconds is None else use.at + use.ttl_seconds,
                value_nano_usd=int(use.value),
            )
            held[use.key] = entries.put(new, use.at), math.inf if new.expires_at is None else new.expires_at
            until_full -= 1
        if until_full < 0:
            entries.touch(used)
            used = {}
            Removal(database, kind="agent").remove_expired(use.at)
            room.make(use.at)
            there = living(database)
            held = {key: fact for key, fact in held.items() if fact[0] in there}
            until_full = room.until_full(at_most=64)
    database.close()
    return saved


def living(database: Database) -> set[int]:
    """The entries that are there."""
    with database.read() as connection:
        query = text("SELECT id FROM tokopt_cache_entries WHERE alive = 1")
        return {int(key) for key in connection.execute(query).scalars()}


def bound(limits: Limits, trace: Trace) -> float:
    """What no policy can exceed."""
    last: dict[str, tuple[int, Access]] = {}
    kept: list[tuple[float, float]] = []
    for at, use in enumerate(trace):
        before = last.get(use.key)
        if before is not None and (use.ttl_seconds is None or use.at - before[1].at < use.ttl_seconds):
            room = use.bytes if limits.entries is None else 1
            kept.append((room * (at - before[0]), use.value))
        last[use.key] = (at, use)
    left = float((limits.bytes if limits.entries is None else limits.entries) or 0) * len(trace)
    saved = 0.0
    for room, value in sorted(kept, key=lambda interval: interval[0] / max(interval[1], 1e-12)):
        saved += value * min(1.0, left / room)
        left -= room
        if left <= 0:
            break
    return saved


def compare(
    name: str, share: float, traces: Sequence[Trace], play: Callable[[str, Limits, Trace], float]
) -> list[Measure]:
    """Every policy on the traces of one kind."""
    at = f"{name}/{share:g}"
    shares: dict[str, list[float]] = {method: [] for method in (*POLICIES, "bound")}
    for trace in traces:
        limits = limits_for(name, trace, share)
        whole = sum(use.value for use in trace) or 1.0
        for method in POLICIES:
            shares[method].append(play(method, limits, trace) / whole)
        shares["bound"].append(bound(limits, trace) / whole)
    rows = [Measure(method, "hit_value", at, sum(found) / len(found)) for method, found in shares.items()]
    fixed = [max(found) for found in zip(*(shares[method] for method in POLICIES if method != "adaptive"), strict=True)]
    ratios = [mine / best for mine, best in zip(shares["adaptive"], fixed, strict=True) if best > 0]
    return [*rows, Measure("adaptive", "of_best", at, min(ratios, default=1.0))]


def main(argv: list[str] | None = None) -> int:
    """Play every trace and publish the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_eviction", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a trace of your own instead of those that are made here")
    parser.add_argument("--traces", nargs="*", choices=MADE, default=list(MADE), help="only these")
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES, help="room, as shares of what is asked for")
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--store", action="store_true", help="replay through the cache's own tables")
    parser.add_argument("--rephrase", action="store_true", help="the same, with every question in new words")
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    play = partial(stored, rephrased=args.rephrase) if args.store or args.rephrase else simulated
    rows: list[Measure] = []
    for share in args.shares:
        if args.data is not None:
            rows += compare(args.data.stem, share, [read(args.data)], play)
            continue
        for name in args.traces:
            seeds = range(args.seed, args.seed + args.seeds)
            traces = [MADE[name](random.Random(seed), args.requests, share) for seed in seeds]
            rows += compare(name, share, traces, play)
    rows.sort(key=lambda row: row.metric)
    publish("cache_eviction", str(args.data or "made here"), rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
