"""How far off is the forecast of what will be spent by the end of a period, and does its interval hold what it says?

    python -m benchmarks.budget_forecast [--data SPENDING.jsonl] [--series N] [--seed N] [--json OUT]

Each series is cut at a random moment; each method sees some days before it and foretells the total of the days after
it. `ours` is what the package chooses by its own backtest, `seasonal_naive` the one to beat: the same as last week.

* `total_error` (at kind/days ahead): the mean distance of foretold and real total, as a share of the mean real total.
* `daily_error`: the same of single days, 14 days ahead.
* `of_best`: the error of `ours` divided by that of the one method that was best there, which only hindsight knows.
* `coverage`: how often the real total was in the interval, which is to be 0.8; also by days of history.
* `width`: the median width of the interval as a share of what was foretold.

The series made here, of 150 days, most with a week in which Saturday and Sunday differ:

* `weekly`: a week, a slow trend, noise.
* `growth`: 0.4 to 2.5 % more every day.
* `shift`: from one day on 0.4, 1.8 or 3 times as much.
* `intermittent`: nothing on most days.
* `flat`: the same every day, with little noise.
* `outliers`: like `weekly`; one day in 33 takes 4 to 10 times as much.
* `launch`: next to nothing, then a launch with a rush that fades.
* `drift`: the level wanders.
* `hours`: hours instead of days, with working hours and weekends; the days ahead and of history are hours here.

--data: JSONL with `{"id": str, "daily": [number, ...]}` a line, in USD or any other unit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Measure, publish
from langchain_tokopt.budget.planning import Forecast, Series, Step, Stretch, forecast
from langchain_tokopt.budget.planning.backtest import predictions
from langchain_tokopt.budget.planning.past import Past

DAYS = 150
HORIZONS = (1, 7, 14, 30)
HISTORIES = (1, 3, 7, 14, 28, 56, 84)
# With less than this the methods have nothing to differ in, and only the interval is of interest.
COMPARED_FROM = 7
DAILY_AHEAD = 14
NANO = 1e9
START = 1_800_000_000

Floats = NDArray[np.float64]
Rng = np.random.Generator
Maker = Callable[[Rng, Floats, Floats, Floats], Floats]


# --- series ----------------------------------------------------------------------------------------------------------


def weekly(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    return week * (1 + rng.uniform(-0.003, 0.008) * day) * noise


def growth(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    return week ** rng.uniform(0, 1) * np.exp(rng.uniform(0.004, 0.025) * day) * noise


def shift(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    return week ** rng.uniform(0, 1) * np.where(day < rng.integers(20, DAYS - 15), 1, rng.choice([0.4, 1.8, 3])) * noise


def intermittent(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    return (rng.random(len(day)) < rng.uniform(0.12, 0.4)) * np.exp(rng.normal(0, 0.7, len(day)))


def flat(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    return np.exp(rng.normal(0, rng.uniform(0.03, 0.2), len(day)))


def outliers(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    dear = np.where(rng.random(len(day)) < 0.03, rng.uniform(4, 10, len(day)), 1)
    return week * (1 + rng.uniform(-0.002, 0.005) * day) * noise * dear


def launch(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    since = day - rng.integers(10, DAYS - 25)
    rush = rng.uniform(0, 2) * np.exp(-np.maximum(since, 0) / rng.uniform(5, 20))
    return np.where(since < 0, 0.1, 1 + rush) * week**0.5 * noise


def drift(rng: Rng, day: Floats, week: Floats, noise: Floats) -> Floats:
    return week * np.exp(np.cumsum(rng.normal(0, rng.uniform(0.02, 0.08), len(day)))) * noise


DAILY: dict[str, Maker] = {
    made.__name__: made for made in (weekly, growth, shift, intermittent, flat, outliers, launch, drift)
}
KINDS = (*DAILY, "hours")


def made(kind: str, seed: int) -> Floats:
    """One series of a kind."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    weekend = rng.uniform(0.15, 0.7)
    days = np.exp(rng.normal(0, 0.08, 7)) * np.array([1, 1, 1, 1, 1, weekend, weekend * rng.uniform(0.6, 1.1)])
    noise = rng.uniform(0.1, 0.3)
    if kind == "hours":
        work = np.exp(-(((np.arange(24) - rng.uniform(11, 16)) / rng.uniform(3, 6)) ** 2)) + rng.uniform(0.02, 0.2)
        hours = np.arange(28 * 24)
        return work[hours % 24] * days[hours // 24 % 7] * np.exp(rng.normal(0, 2 * noise, len(hours)))
    day = np.arange(DAYS, dtype=float)
    week = days[np.arange(DAYS) % 7] / days.mean()
    return DAILY[kind](rng, day, week, np.exp(rng.normal(0, noise, DAYS)))


def read(path: Path) -> Iterator[Floats]:
    """The series of a file, each divided by its mean, so that dear ones do not outweigh the others."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            daily = np.array([float(value) for value in row["daily"]])
            str(row["id"])
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f'{path}, line {number}: not {{"id": str, "daily": [number, ...]}} ({error})')
        if not np.isfinite(daily).all() or (daily < 0).any() or not daily.any():
            sys.exit(f"{path}, line {number}: amounts must not be negative, nor all 0")
        yield daily / daily.mean()


# --- playing ---------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was foretold and what came, of one kind and horizon."""

    real: list[float] = field(default_factory=list)
    foretold: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    off: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    days: list[float] = field(default_factory=list)

    def error(self, method: str) -> float:
        return float(np.abs(np.array(self.foretold[method]) - self.real).sum() / max(1e-12, sum(self.real)))


@dataclass
class Held:
    """How often the interval held the total, and how wide it was."""

    inside: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """All tallies: by kind and horizon; intervals by what the rows say they are at."""

    tallies: dict[tuple[str, int], Tally] = field(default_factory=lambda: defaultdict(Tally))
    held: dict[str, Held] = field(default_factory=lambda: defaultdict(Held))


def asked(values: Floats, phases: Sequence[int], step: Step, horizon: int) -> Forecast | None:
    """What the package says of the steps after the values, at the first moment after them."""
    seconds, n = (3_600 if step == "hour" else 86_400), len(values)
    ahead = tuple(Stretch(START + (at + 1) * seconds, phases[n + at]) for at in range(horizon))
    whole = tuple(round(value * NANO) for value in values)
    return forecast(Series(step, whole, tuple(phases[:n]), 0, 0.0, START, ahead), spent=0)


def play(kind: str, series: Floats, moment: int, history: int, horizon: int, outcome: Outcome) -> None:
    """One forecast by all methods."""
    step: Step = "hour" if kind == "hours" else "day"
    season, week = (24, 168) if step == "hour" else (7, 7)
    seen, came = series[moment - history : moment], series[moment : moment + horizon]
    phases = [at % week for at in range(moment - history, moment + horizon)]
    said = asked(seen, phases, step, horizon)
    if said is None or not seen.any():
        return
    real = float(came.sum())
    for at in (kind, f"history:{history}{' hours' if step == 'hour' else ''}", "all"):
        outcome.held[at].inside.append(said.low <= real * NANO <= said.high)
        if said.expected:
            outcome.held[at].widths.append((said.high - said.low) / said.expected)
    if history < COMPARED_FROM:
        return
    tally = outcome.tallies[kind, horizon]
    tally.real.append(real)
    past = Past.of(seen, np.array(phases[:history]), season)
    singly = predictions(past, np.array(phases[history:]))
    totals = [point.expected / NANO for point in said.path]
    singly_ours = np.diff([0.0, *totals])
    for method, steps in {**singly, "ours": singly_ours}.items():
        tally.foretold[method].append(float(steps.sum()))
        if horizon == DAILY_AHEAD:
            tally.off[method].append(float(np.abs(steps - came).sum()))
    tally.days.append(real)


def compared(at: str, errors: dict[str, float]) -> list[Measure]:
    """The errors of all methods, and ours beside the best."""
    rows = [Measure(method, "total_error", at, error) for method, error in errors.items()]
    best = min((error for method, error in errors.items() if method != "ours"), default=0.0)
    return [*rows, Measure("ours", "of_best", at, errors["ours"] / best)] if best > 1e-9 else rows


def rows_of(outcome: Outcome) -> list[Measure]:
    """The figures: errors by kind and horizon and their mean over the kinds, then the intervals."""
    rows: list[Measure] = []
    errors: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (kind, horizon), tally in outcome.tallies.items():
        single = {method: tally.error(method) for method in tally.foretold}
        rows += compared(f"{kind}/{horizon}", single)
        if kind != "hours":
            for method, error in single.items():
                errors[horizon][method].append(error)
        if tally.off:
            rows += [
                Measure(method, "daily_error", kind, sum(off) / max(1e-12, sum(tally.days)))
                for method, off in tally.off.items()
            ]
    for horizon, methods in errors.items():
        rows += compared(f"mean/{horizon}", {method: sum(found) / len(found) for method, found in methods.items()})
    for at, held in outcome.held.items():
        rows.append(Measure("ours", "coverage", at, sum(held.inside) / len(held.inside)))
        if held.widths:
            rows.append(Measure("ours", "width", at, float(np.median(held.widths))))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Foretell every series and publish the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget_forecast", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="series of your own instead of those that are made here")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="only these")
    parser.add_argument("--series", type=int, default=20, help="how many of each kind")
    parser.add_argument("--history", nargs="*", type=int, help="days (or hours) before the moment; several by default")
    parser.add_argument("--seed", type=int, default=1_000, help="the first seed; 0 to 99 were used to choose constants")
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    outcome = Outcome()
    if args.data is None:
        sets = [(kind, made(kind, args.seed + n)) for kind in args.kinds for n in range(args.series)]
    else:
        sets = [("data", series) for series in read(args.data)]
    for number, (kind, series) in enumerate(sets):
        rng = np.random.default_rng([args.seed, number])
        histories = args.history or ((48, 168, 336) if kind == "hours" else HISTORIES)
        horizons = (6, 24) if kind == "hours" else HORIZONS
        for history in histories:
            for horizon in horizons:
                if history + horizon <= len(series):
                    moment = int(rng.integers(history, len(series) - horizon + 1))
                    play(kind, series, moment, history, horizon, outcome)
    publish("budget_forecast", "made here" if args.data is None else str(args.data), rows_of(outcome), args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
