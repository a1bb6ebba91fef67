"""Who or what spends most: figures by whatever they are told apart, ranked, the rest added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_tokopt.cli.common import plain, utc
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.readings import DIMENSIONS, CallFigures, PartFigures, Place, Readings, Span
from langchain_tokopt.telemetry.report import Saved, Usage

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.store import EventStore

Key = tuple["str | None", ...]
_T = TypeVar("_T", Usage, Saved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Whom or what the figures belong to, and these. `key` has a value for each dimension, `None` if not known."""

    key: Key = ()
    calls: CallFigures
    parts: PartFigures

    @property
    def net(self) -> Decimal | None:
        """What was saved for real, less the optimiser's own calls: an estimate; `None` if that is not known."""
        return net_saved(self.parts.real, self.calls.own_measured, self.calls.own_estimated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The first few, the others added up (`None` without any), and all together.

    `groups` is how many there are, shown or not.
    """

    by: tuple[str, ...]
    sort: str
    span: Span
    groups: int
    rows: tuple[Ranked, ...]
    others: Ranked | None
    total: Ranked

    @property
    def _not_told(self) -> tuple[str, ...]:
        """What no event says of what is told apart."""
        if "part" in self.by:
            return "measured", "estimated", "own", "failed_calls", "net_saved_usd", "share_of_measured"
        return () if self.saved_known else ("saved", "saved_in_shadow", "left_alone", "net_saved_usd")

    @property
    def saved_known(self) -> bool:
        """Whether events say to whom savings belong: what a part does is not noted by model."""
        return not {"model", "provider"} & set(self.by)

    def share(self, row: Ranked, *, measured: bool) -> float | None:
        """The part of all that is this row's, of what it is sorted by; `None` where there is none."""
        whole = _amounts(self.total, self.by, self.sort)[0 if measured else 1]
        part = _amounts(row, self.by, self.sort)[0 if measured else 1]
        return None if not whole or whole < 0 or part is None or part < 0 else float(part / whole)

    def as_json(self) -> dict[str, Any]:
        def row(one: Ranked) -> dict[str, Any]:
            told: dict[str, Any] = {
                "measured": values(one.calls.measured),
                "estimated": values(one.calls.estimated),
                "own": {"measured": values(one.calls.own_measured), "estimated": values(one.calls.own_estimated)},
                "failed_calls": one.calls.failed,
                "saved": values(one.parts.real),
                "saved_in_shadow": values(one.parts.shadow),
                "left_alone": one.parts.skipped,
                "net_saved_usd": plain(one.net),
                "share_of_measured": self.share(one, measured=True),
                "share_of_estimated": self.share(one, measured=False),
            }
            return {name: value for name, value in told.items() if name not in self._not_told}

        return {
            "since": utc(self.span.since),
            "until": utc(self.span.until),
            "by": list(self.by),
            "sort": self.sort,
            "groups": self.groups,
            "rows": [{**dict(zip(self.by, one.key, strict=True)), **row(one)} for one in self.rows],
            "others": None if self.others is None else row(self.others),
            "total": row(self.total),
        }


def dimensions(by: str) -> tuple[str, ...]:
    """The dimensions that are named, with commas between them.

    Raises:
        ConfigurationError: One of them is none.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in by.split(",")))
    for name in names:
        if name not in DIMENSIONS:
            near = get_close_matches(name, DIMENSIONS, n=1)
            meant = f"did you mean {near[0]!r}? There are " if near else "use one of "
            raise ConfigurationError("--by", name, f"{meant}{', '.join(DIMENSIONS)}")
    return names


def ranking(store: EventStore, *, by: Sequence[str], span: Span, sort: str, limit: int) -> Ranking:
    """The first `limit` by what they are sorted by: "cost", "tokens", "calls" or "saved".

    By a part there are no figures of calls, and by a model or provider none of savings: no event has both.

    Raises:
        StoreError: The database cannot be read.
    """
    readings = Readings(store)
    not_by_part = {"model", "provider"} & set(by) and "part" not in by
    with store.reading():  # one state of the database for all of them
        calls: Mapping[Place, CallFigures] = {} if "part" in by else readings.calls(span, by=by)
        parts: Mapping[Place, PartFigures] = {} if not_by_part else readings.parts(span, by=by)
    rows = [
        Ranked(key=place.key, calls=calls.get(place, CallFigures()), parts=parts.get(place, PartFigures()))
        for place in {**calls, **parts}
    ]

    def rank(row: Ranked) -> tuple[bool, Decimal, str]:
        known = [Decimal(amount) for amount in _amounts(row, by, sort) if amount is not None]
        # Beside each other, never as a sum: the bigger one says where a row stands.
        unknown_last = " ".join("\uffff" if name is None else name for name in row.key)
        return not known, -max(known, default=Decimal(0)), unknown_last

    rows.sort(key=rank)
    first, rest = rows[:limit], rows[limit:]
    return Ranking(
        by=tuple(by),
        sort=sort,
        span=span,
        groups=len(rows),
        rows=tuple(first),
        others=_together(rest) if rest else None,
        total=_together(rows),
    )


def _amounts(row: Ranked, by: Sequence[str], sort: str) -> tuple[Decimal | int | None, Decimal | int | None]:
    """What a row is sorted by: as measured, and as estimated."""
    if "part" in by:
        saved = row.parts.real
        return None, {"saved": saved.usd, "tokens": saved.tokens, "calls": saved.applied}[sort]
    if sort == "saved":
        return None, row.net
    amount: Callable[[Usage], Decimal | int | None] = {
        "cost": lambda usage: usage.cost_usd,
        "tokens": tokens,
        "calls": lambda usage: usage.calls or None,
    }[sort]
    return amount(row.calls.measured), amount(row.calls.estimated)


# --- sums of figures -------------------------------------------------------------------------------------------------


def tokens(usage: Usage) -> int | None:
    """Input and output together; `None` when neither is known."""
    known = [count for count in (usage.input_tokens, usage.output_tokens) if count is not None]
    return sum(known) if known else None


def net_saved(saved: Saved, *own: Usage) -> Decimal | None:
    """What was saved less what the optimiser's own calls cost: an estimate; `None` if one of these is not known."""
    if any(usage.unpriced for usage in own):
        return None
    spent = sum((usage.cost_usd or Decimal(0) for usage in own), Decimal(0))
    if saved.usd is None and (saved.applied or not spent):
        return None
    return (saved.usd or Decimal(0)) - spent


def summed(figures: Iterable[_T], empty: _T) -> _T:
    """All of them together; what none of them knows stays `None`."""
    given = list(figures)
    sums: dict[str, Any] = {}
    for each in fields(empty):
        known = [value for value in (getattr(one, each.name) for one in given) if value is not None]
        sums[each.name] = sum(known, known[0] * 0) if known else getattr(empty, each.name)
    return type(empty)(**sums)


def values(figures: Usage | Saved) -> dict[str, Any]:
    """The figures as JSON has them."""
    return {each.name: plain(getattr(figures, each.name)) for each in fields(figures)}


def _together(rows: Sequence[Ranked]) -> Ranked:
    return Ranked(
        calls=CallFigures(
            measured=summed((row.calls.measured for row in rows), Usage()),
            estimated=summed((row.calls.estimated for row in rows), Usage()),
            own_measured=summed((row.calls.own_measured for row in rows), Usage()),
            own_estimated=summed((row.calls.own_estimated for row in rows), Usage()),
            failed=sum(row.calls.failed for row in rows),
        ),
        parts=PartFigures(
            real=summed((row.parts.real for row in rows), Saved()),
            shadow=summed((row.parts.shadow for row in rows), Saved()),
            skipped=sum(row.parts.skipped for row in rows),
        ),
    )
