"""`tokopt cache`: the stored answers, looked at, removed, moved.

Exit codes: 0 for done, 1 for nothing found or rows that failed, 2 for a command that cannot work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.common import DataDir, Db, check_target, clear_errors, named_database
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

app = typer.Typer(help="Look at stored answers, remove them, move them.", no_args_is_help=True)


class _Order(str, Enum):
    used = "used"
    created = "created"
    hits = "hits"
    saved = "saved"
    size = "size"
    expires = "expires"


class _Kind(str, Enum):
    agent = "agent"
    llm = "llm"


_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Query = Annotated[str | None, typer.Option("--query", help="Part of the question.", show_default=False)]
_Tag = Annotated[str | None, typer.Option("--tag", help='A tag, such as "tool:weather".', show_default=False)]
_Scope = Annotated[
    str | None, typer.Option("--scope", help="The scope's digest, or how it begins.", show_default=False)
]
_Tenant = Annotated[str | None, typer.Option("--tenant", help="Whose answers.", show_default=False)]
_User = Annotated[
    str | None, typer.Option("--user", help="Whose answers, where no tenant is named.", show_default=False)
]
_OfKind = Annotated[
    _Kind | None,
    typer.Option("--kind", help="Of agents and wrapped models, or of LangChain's hook.", show_default=False),
]


@contextmanager
def _opened(db: str | None, data_dir: Path | None) -> Iterator[Database]:
    with clear_errors():
        database = named_database(db, data_dir)
        try:
            yield database
        finally:
            database.close()


def _print_json(content: Any) -> None:
    import json

    # ASCII: a terminal obeys some characters beyond it, and these texts are other people's.
    typer.echo(json.dumps(content, indent=2))


def _nothing(said: str) -> None:
    typer.echo(said, err=True)
    raise typer.Exit(1)


@app.command()
def stats(db: Db = None, data_dir: DataDir = None, json_: _Json = False) -> None:
    """Show how many answers there are, how big they are, and what their hits have saved."""
    with _opened(db, data_dir) as database:
        from langchain_tokopt.cache.catalog import Catalog
        from langchain_tokopt.cli.cache_tables import print_totals

        totals = Catalog(database).totals()
        if json_:
            _print_json({"database": database.url, "kinds": [total.as_json() for total in totals]})
            return
        if not totals:
            typer.echo("No answers are stored.")
            return
        print_totals(totals)


@app.command("list")
def list_(
    query: _Query = None,
    tag: _Tag = None,
    scope: _Scope = None,
    tenant: _Tenant = None,
    user: _User = None,
    kind: _OfKind = None,
    order: Annotated[_Order, typer.Option("--order", help="What comes first.")] = _Order.used,
    limit: Annotated[int, typer.Option("--limit", help="The most that are shown.", min=1)] = 20,
    db: Db = None,
    data_dir: DataDir = None,
    json_: _Json = False,
) -> None:
    """List stored answers. Exit code 1 if there is none."""
    with _opened(db, data_dir) as database:
        from langchain_tokopt.cache.catalog import Catalog
        from langchain_tokopt.cli.cache_tables import print_answers

        found = Catalog(database).find(
            query=query,
            tag=tag,
            scope=scope,
            tenant=tenant,
            user=user,
            kind=None if kind is None else kind.value,
            order=order.value,
            limit=limit,
        )
        if json_:
            _print_json([answer.as_json() for answer in found])
            raise typer.Exit(0 if found else 1)
        if not found:
            _nothing("No such answer is stored.")
        print_answers(found)


@app.command()
def show(
    entry_id: Annotated[int, typer.Argument(metavar="ID", help="The answer's id, as `list` shows it.")],
    db: Db = None,
    data_dir: DataDir = None,
    json_: _Json = False,
) -> None:
    """Show one answer with all that is known of it. Exit code 1 if it is not there."""
    with _opened(db, data_dir) as database:
        from langchain_tokopt.cache.catalog import Catalog
        from langchain_tokopt.cli.cache_tables import print_answer

        answer = Catalog(database).get(entry_id)
        if answer is None:
            _nothing(f"There is no answer {entry_id}.")
        elif json_:
            _print_json(answer.as_json())
        else:
            print_answer(answer)


@app.command()
def invalidate(
    ids: Annotated[list[int] | None, typer.Option("--id", help="This answer; may be repeated.")] = None,
    query: _Query = None,
    tag: _Tag = None,
    scope: _Scope = None,
    tenant: _Tenant = None,
    user: _User = None,
    kind: _OfKind = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help='Stored longer ago, such as "30d".', show_default=False)
    ] = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: _Json = False,
) -> None:
    """Remove the answers that all of this is true of. Exit code 1 if there was none."""
    with _opened(db, data_dir) as database:
        from langchain_tokopt.cache.catalog import Catalog
        from langchain_tokopt.cli import shown

        seconds = None if older_than is None else shown.seconds("--older-than", older_than)
        catalog = Catalog(database)
        others = (query, tag, scope, tenant, user, kind, older_than)
        if ids and any(value is not None for value in others):
            raise ConfigurationError("--id", ids, "use either --id or the other options")
        if not ids and all(value is None for value in others):
            remedy = "say which answers: --id, --tag, --scope, --tenant, --user, --query, --kind or --older-than"
            raise ConfigurationError("--id", None, remedy)
        removed = (
            catalog.delete(ids)
            if ids
            else catalog.invalidate(
                query=query,
                tag=tag,
                scope=scope,
                tenant=tenant,
                user=user,
                kind=None if kind is None else kind.value,
                older_than=seconds,
            )
        )
        if json_:
            _print_json({"removed": removed})
        else:
            typer.echo(f"Removed {removed:,} {'answer' if removed == 1 else 'answers'}.")
        raise typer.Exit(0 if removed else 1)


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help='The file to write, or "-" for standard output.')],
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Write the questions' vectors, too: larger, and quick to import.")
    ] = False,
    db: Db = None,
    data_dir: DataDir = None,
    json_: _Json = False,
) -> None:
    """Write all answers to a file, one JSON object a line."""
    with _opened(db, data_dir) as database:
        import sys

        from langchain_tokopt.cache import transfer

        to_stdout = str(target) == "-"
        if to_stdout and json_:
            raise ConfigurationError("--json", True, "standard output holds the answers themselves; name a file")
        if not to_stdout:
            check_target("TARGET", target)
        written = transfer.export(database, sys.stdout if to_stdout else target, vectors=vectors)
        if json_:
            _print_json({"exported": written})
        else:
            typer.echo(f"Wrote {written:,} {'answer' if written == 1 else 'answers'}.", err=to_stdout)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help='A file that `export` wrote, or "-" for standard input.')],
    db: Db = None,
    data_dir: DataDir = None,
    json_: _Json = False,
) -> None:
    """Read answers from a file. Bad rows are named, and the others imported; exit code 1 if there were any.

    Questions without a vector are embedded by the cache that uses the database next.
    """
    with _opened(db, data_dir) as database:
        import sys
        from dataclasses import asdict

        from langchain_tokopt.cache import transfer
        from langchain_tokopt.cli import shown

        done = transfer.import_(database, sys.stdin.buffer if str(source) == "-" else source)
        if json_:
            _print_json(asdict(done))
        else:
            said = [
                f"{done.stored:,} stored",
                *(
                    f"{count:,} {what}"
                    for count, what in (
                        (done.unchanged, "unchanged"),
                        (done.older, "older than what is there"),
                        (done.expired, "expired"),
                        (len(done.failed), "failed"),
                    )
                    if count
                ),
            ]
            typer.echo(f"{', '.join(said)}.")
            for row in done.failed:
                typer.echo(f"line {row.line}: {shown.shortened(row.reason, 300)}", err=True)
        raise typer.Exit(1 if done.failed else 0)


@app.command()
def compact(db: Db = None, data_dir: DataDir = None, json_: _Json = False) -> None:
    """Remove what has expired, and give the room of removed answers back to the disk where it pays."""
    with _opened(db, data_dir) as database:
        from dataclasses import asdict

        from langchain_tokopt.cache.compaction import compact
        from langchain_tokopt.cli import shown

        done = compact(database)
        if json_:
            _print_json({**asdict(done), "freed": done.freed})
            return
        typer.echo(f"Removed {done.expired:,} expired answers and {done.tombstones:,} rows of removed ones.")
        if done.rewritten:
            typer.echo(f"Freed {shown.size(done.freed)}: the file now takes {shown.size(done.bytes_after or 0)}.")
        else:
            typer.echo(f"The file was not written anew: {done.reason}.")
