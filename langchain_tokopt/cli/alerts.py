"""`tokopt alerts`: what needs somebody's attention.

Exit codes: 0 for nothing critical, 1 for a critical alert that nobody has taken up (`list`, `check`) or nothing found
(`history`), 2 for a command that cannot work, such as an id that there is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.common import DataDir, Db, clear_errors, nothing, print_json
from langchain_tokopt.cli.telemetry_options import Json, has_events, now, opened_database
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database
    from langchain_tokopt.telemetry.alerts import Alert, Alerts

app = typer.Typer(invoke_without_command=True)

_CRITICAL = "critical"


@app.callback()
def alerts(context: typer.Context, db: Db = None, data_dir: DataDir = None, json_: Json = False) -> None:
    """See what needs attention, and take it up. Without a command: list what is not over.

    Exit code 1 if a critical alert is open.
    """
    if context.invoked_subcommand is None:
        list_(db, data_dir, json_)
    elif db is not None or data_dir is not None or json_:
        given = {"--db": db, "--data-dir": None if data_dir is None else str(data_dir), "--json": json_ or None}
        name, value = next((name, value) for name, value in given.items() if value is not None)
        with clear_errors():
            raise ConfigurationError(name, value, f"put it after {context.invoked_subcommand!r}")


@app.command("list")
def list_(db: Db = None, data_dir: DataDir = None, json_: Json = False) -> None:
    """List what is not over. Exit code 1 if a critical alert is open: nobody has taken it up."""
    with opened_database(db, data_dir) as database:
        found: list[Alert] | None = None
        if _looked(database):
            with _alerts(database) as kept:
                found = kept.active()
        if json_:
            print_json({"looked": found is not None, "alerts": [alert.as_json() for alert in found or ()]})
        elif found is None:
            typer.echo("Nobody has looked for alerts here yet: run `tokopt alerts check`.")
        elif not found:
            typer.echo("There are no alerts.")
        else:
            from langchain_tokopt.cli.alerts_tables import print_alerts

            print_alerts(found, now())
        raise typer.Exit(_code(found or ()))


@app.command()
def check(db: Db = None, data_dir: DataDir = None, json_: Json = False) -> None:
    """Look once, by the usual rules, at the figures and at the budgets of this database.

    What was raised is kept, and cleared by a later look. Exit code 1 if a critical alert is open.
    """
    with opened_database(db, data_dir) as database:
        from langchain_tokopt.cli.telemetry_budgets import kept_budgets

        if not has_events(database):
            nothing(f"No events were ever kept in {database.url}.")
        with kept_budgets(database) as budgets, _alerts(database, budgets.status, budgets.forecast) as kept:
            changed = kept.check()
            standing = kept.active()
        if json_:
            told = {"changed": [alert.as_json() for alert in changed], "alerts": [one.as_json() for one in standing]}
            print_json(told)
        else:
            from langchain_tokopt.cli.alerts_tables import print_check

            print_check(changed, standing, now())
        raise typer.Exit(_code(standing))


@app.command()
def ack(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the first digits of it, 6 or more.")],
    by: Annotated[str | None, typer.Option("--by", help="Who takes it up.", show_default=False)] = None,
    note: Annotated[str | None, typer.Option("--note", help="What there is to say.", show_default=False)] = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Take an alert up: it is not told again until it is over."""
    with opened_database(db, data_dir) as database:
        from langchain_tokopt.cli.shown import safe, shortened

        if by is None:
            raise ConfigurationError("--by", None, "say who takes the alert up, such as a name")
        if not _looked(database):
            raise ConfigurationError("ID", id_, "there are no alerts in this database")
        with _alerts(database) as kept:
            try:
                alert = kept.acknowledge(id_, by, note)
            except ConfigurationError as error:
                name = {"id": "ID", "by": "--by", "note": "--note"}.get(error.argument, error.argument)
                raise ConfigurationError(name, error.value, error.remedy) from None
        if json_:
            print_json(alert.as_json())
            return
        typer.echo(f"{safe(alert.id[:8])}: {shortened(alert.title, 300)}. Taken up by {shortened(by, 100)}.")


@app.command()
def history(
    limit: Annotated[int, typer.Option("--limit", help="The newest so many.", min=1, max=10_000)] = 50,
    since: Annotated[
        str | None,
        typer.Option("--since", help='Not over before "24h" ago, or "2027-01-31".', show_default=False),
    ] = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """List the last alerts, the newest first, those that are over with them. Exit code 1 if there was none."""
    with opened_database(db, data_dir) as database:
        from langchain_tokopt.cli.shown import moment

        first = None if since is None else moment("--since", since, now=now(), ahead=False)
        found: Sequence[Alert] = ()
        if _looked(database):
            with _alerts(database) as kept:
                found = kept.history(limit=limit, since=first)
        if json_:
            print_json({"alerts": [alert.as_json() for alert in found]})
            raise typer.Exit(0 if found else 1)
        if not found:
            nothing("There were no alerts.")
        from langchain_tokopt.cli.alerts_tables import print_history

        print_history(found, now())


@app.command()
def rules(json_: Json = False) -> None:
    """List the usual rules: what raises an alert, for how long it has to be so, and what can be done."""
    from langchain_tokopt.telemetry.alerts import DEFAULT_RULES

    if json_:
        from dataclasses import asdict

        print_json({"rules": [asdict(rule) for rule in DEFAULT_RULES]})
        return
    from langchain_tokopt.cli.alerts_tables import print_rules

    print_rules(DEFAULT_RULES)


def _looked(database: Database) -> bool:
    """Whether there is a table of alerts: looking at it must not make it."""
    from langchain_tokopt.cli.schemas import schemas

    return "alerts" in schemas(database)


@contextmanager
def _alerts(
    database: Database,
    budgets: Callable[[], list[dict[str, Any]]] | None = None,
    forecasts: Callable[[str], Any] | None = None,
) -> Iterator[Alerts]:
    from langchain_tokopt.cli.telemetry_views import audits_of
    from langchain_tokopt.telemetry.alerts import Alerts
    from langchain_tokopt.telemetry.store import EventStore

    store = EventStore(database)
    yield Alerts(store, budgets=budgets, forecasts=forecasts, audits=lambda: audits_of(store), clock=now)


def _code(standing: Sequence[Alert]) -> int:
    return 1 if any(alert.severity == _CRITICAL and alert.state == "open" for alert in standing) else 0
