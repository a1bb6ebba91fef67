"""`tokopt export`: the events themselves, for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.common import DataDir, Db, check_target, nothing, print_json, write_pieces
from langchain_tokopt.cli.telemetry_options import check_hours, now, opened_events
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.events import Event
    from langchain_tokopt.telemetry.store import EventStore

_STDOUT = "-"


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help='Where to; "-" for the standard output.', show_default=False)
    ] = _STDOUT,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="jsonl|csv", help="If not said: as the file's name ends, or jsonl.", show_default=False
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help='Only such events: "ModelCall", "Decision" ...; may be repeated.'),
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", help="Only the last so many hours.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help='Such as "24h" ago, or "2027-01-31".', show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before then; as --since.", show_default=False)] = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Say as JSON what was written to the file.")] = False,
) -> None:
    """Write events as they are, the oldest first: a JSON object a line, or CSV. Amounts are exact decimal text.

    A file is written whole or not at all. Exit code 1 if there is no such event; nothing is written then.
    """
    with opened_events(db, data_dir, hours=hours) as store:
        from langchain_tokopt.cli.export_rows import FORMATS
        from langchain_tokopt.cli.shown import safe

        form = _format(format_, file)
        if json_ and file == _STDOUT:
            raise ConfigurationError("--json", True, "the events go to the standard output: name a file, too")
        target = None if file == _STDOUT else Path(file)
        if target is not None:
            check_target("FILE", target)
        first, last = _bounds(hours, since, until)
        seen = _Seen()
        events = seen.counted(_events(store, _kinds(store, kind), first, last))
        found = next(events, None)
        _tell_what_is_gone(store, first, last)
        if found is None:
            kept = "" if target is None else " Nothing was written."
            nothing(f"There is no such event.{kept}")
        pieces = FORMATS[form](chain((found,), events))
        if target is None:
            _print(pieces)
            return
        write_pieces(target, pieces)
        if json_:
            print_json({"file": str(target), "format": form, "events": seen.count, **seen.times()})
        else:
            typer.echo(safe(f"Wrote {seen.count:,} {'event' if seen.count == 1 else 'events'} to {target}."))


def _print(pieces: Iterator[str]) -> None:
    """Write to the standard output as it is, or so that a terminal obeys nothing of it."""
    import sys

    from langchain_tokopt.cli.shown import console, safe

    if console().is_terminal:
        pieces = (safe(piece, lines=True) for piece in pieces)
    # Not line by line with `typer.echo`, which flushes each.
    sys.stdout.writelines(pieces)
    sys.stdout.flush()


def _tell_what_is_gone(store: EventStore, first: float | None, last: float | None) -> None:
    """Say on stderr from when on there are events, where older ones are kept as sums only."""
    from langchain_tokopt.cli.common import utc
    from langchain_tokopt.telemetry.readings import Readings, Span

    left = Readings(store).singles(Span(first, last)).since
    if left != first:
        typer.echo(f"Events from before {utc(left)} are kept as sums only: they are not in this.", err=True)


class _Seen:
    """What went by."""

    def __init__(self) -> None:
        self.count = 0
        self._first: float | None = None
        self._last: float | None = None

    def counted(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            self.count += 1
            self._first = event.at if self._first is None else self._first
            self._last = event.at
            yield event

    def times(self) -> dict[str, float | None]:
        """Unix times of the first and the last one."""
        return {"first_at": self._first, "last_at": self._last}


def _format(format_: str | None, file: str) -> str:
    from langchain_tokopt.cli.export_rows import FORMATS

    if format_ is None:
        return "csv" if file.lower().endswith(".csv") else "jsonl"
    form = format_.lower()
    if form not in FORMATS:
        raise ConfigurationError("--format", format_, f"use {' or '.join(FORMATS)}; most programs read one of them")
    return form


def _bounds(hours: float | None, since: str | None, until: str | None) -> tuple[float | None, float | None]:
    """From when (inclusive) to when (exclusive), as Unix times; `None` for no bound."""
    from langchain_tokopt.cli.shown import moment

    if hours is not None and since is not None:
        raise ConfigurationError("--since", since, "use either --hours or --since")
    last = None if until is None else moment("--until", until, now=now(), ahead=False)
    if hours is not None:
        check_hours(hours)
        first: float | None = now() - hours * 3600
    else:
        first = None if since is None else moment("--since", since, now=now(), ahead=False)
    if first is not None and last is not None and first >= last:
        raise ConfigurationError("--until", until, "it is not later than the beginning")
    return first, last


def _kinds(store: EventStore, given: Sequence[str] | None) -> list[str] | None:
    """The kinds that are meant, whether they are written ModelCall, model_call or modelcall."""
    if not given:
        return None
    from sqlalchemy import text

    from langchain_tokopt.cli.export_rows import KINDS
    from langchain_tokopt.telemetry.store import TABLE

    with store.database.read() as connection:
        kept = connection.execute(text(f"SELECT DISTINCT kind FROM {TABLE}")).scalars().all()  # noqa: S608 - a name of ours
    known = dict.fromkeys([*(kind.__name__ for kind in KINDS), *sorted(kept)])
    by_letters = {_letters(name): name for name in known}
    for name in given:
        if _letters(name) not in by_letters:
            raise ConfigurationError("--kind", name, f"there are: {', '.join(known)}")
    return list(dict.fromkeys(by_letters[_letters(name)] for name in given))


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _events(store: EventStore, kinds: Sequence[str] | None, first: float | None, last: float | None) -> Iterator[Event]:
    """The events, oldest first, read page by page."""
    from heapq import merge

    wanted: Sequence[str | None] = kinds or [None]
    streams = [store.events(kind=kind, since=first) for kind in wanted]
    events = streams[0] if len(streams) == 1 else merge(*streams, key=lambda event: event.at)
    return iter(events) if last is None else takewhile(lambda event: event.at < last, events)
