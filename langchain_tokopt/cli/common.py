"""What the commands share: options, errors in one line, the database that is named, files written whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.shown import safe
from langchain_tokopt.errors import ConfigurationError, StoreError, TokOptError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

Db = Annotated[
    str | None, typer.Option("--db", help="URL of the database, such as postgresql://host/name.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The data_dir of a TokenOptimizer.", show_default=False)
]


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns an error of this package into one line on stderr and exit code 2."""
    try:
        yield
    except TokOptError as error:
        typer.echo(f"Error: {safe(str(error))}", err=True)
        raise typer.Exit(2) from None


def named_database(db: str | None, data_dir: Path | None) -> Database:
    """The database that is named; none is made where there is none."""
    if (db is None) == (data_dir is None):
        given = None if db is None else db
        raise ConfigurationError("--data-dir", given, "name the database with either --data-dir or --db")
    from langchain_tokopt.database import Database
    from langchain_tokopt.optimizer import DATABASE_FILE

    if data_dir is not None:
        file = data_dir.expanduser() / DATABASE_FILE
    elif db is not None and "://" not in db:
        file = Path(db).expanduser()
    elif db is not None and db.startswith("sqlite:///"):
        file = Path(db.removeprefix("sqlite:///").removeprefix("file:").split("?")[0])
    else:
        return Database(db)
    if not file.is_file():
        raise StoreError(f"there is no database {str(file)!r}; name the data_dir that your TokenOptimizer was given")
    return Database(db if db is not None and "://" in db else file)


@contextmanager
def named_store(db: str | None, data_dir: Path | None) -> Iterator[Database | str]:
    """Where a budget is kept: the database that is named, or the URL of a Redis server."""
    if db is not None and data_dir is None:
        from langchain_tokopt.budget.ledgers.opening import is_redis

        if is_redis(db):
            yield db
            return
    database = named_database(db, data_dir)
    try:
        yield database
    finally:
        database.close()


def utc(at: float | None) -> str | None:
    """A Unix time as people and programs read it."""
    from datetime import datetime, timezone

    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


# --- writing files ---------------------------------------------------------------------------------------------------


def check_target(option: str, target: Path) -> None:
    """Refuses a file that cannot be written, before anything is run."""
    folder = target.expanduser().absolute().parent
    if target.expanduser().is_dir():
        raise ConfigurationError(option, str(target), "it is a folder; name a file")
    if not folder.is_dir():
        raise ConfigurationError(option, str(target), f"there is no folder {str(folder)!r}; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(option, str(target), f"its folder cannot be written to ({error.strerror})") from None


def write_text(target: Path, text: str) -> None:
    """Write the whole file or nothing of it."""
    target = target.expanduser().absolute()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise StoreError(f"{str(target)!r} could not be written ({error.strerror}); nothing was left behind") from error
