"""What the commands share: options, errors in one line, the database that is named, files written whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from langchain_tokopt.cli.shown import safe
from langchain_tokopt.errors import ConfigurationError, StoreError, TokOptError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

# A file's name has 255 bytes at most, and what makes a temporary one unique has to fit, too.
_SHORT_NAME = 40

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


@contextmanager
def named_by_options(options: Mapping[str, str]) -> Iterator[None]:
    """Turns the argument that an error names into the option that it was given with.

    `options` has those that are not spelled like the argument.
    """
    try:
        yield
    except ConfigurationError as error:
        argument = error.argument
        if not argument.startswith("--") and not argument.isupper():
            argument = options.get(argument, f"--{argument.replace('_', '-')}")
        raise ConfigurationError(argument, error.value, error.remedy) from None


def named_database(db: str | None, data_dir: Path | None, *, lock_timeout_seconds: float = 30.0) -> Database:
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
        return Database(db, lock_timeout_seconds=lock_timeout_seconds)
    if not file.is_file():
        raise StoreError(f"there is no database {str(file)!r}; name the data_dir that your TokenOptimizer was given")
    named = db if db is not None and "://" in db else file
    return Database(named, lock_timeout_seconds=lock_timeout_seconds)


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
    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


# --- answers ---------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The same with `Decimal` as text and times as ISO: what JSON can hold without losing anything."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"  # the same text for the same amount, however it was summed
    return value.isoformat() if isinstance(value, datetime) else value


def print_json(content: Any) -> None:
    """Print JSON for people and programs. ASCII: a terminal obeys some characters beyond it, and names are others'."""
    import json

    typer.echo(json.dumps(content, indent=2))


def nothing(said: str) -> NoReturn:
    """Say that nothing was found: exit code 1."""
    typer.echo(safe(said), err=True)
    raise typer.Exit(1)


# --- writing files ---------------------------------------------------------------------------------------------------


def check_target(option: str, target: Path) -> None:
    """Refuses a file that cannot be written, before anything is run."""
    folder = target.expanduser().absolute().parent
    if target.expanduser().is_dir():
        raise ConfigurationError(option, str(target), "it is a folder; name a file")
    if target.expanduser().exists() and not target.expanduser().is_file():
        raise ConfigurationError(option, str(target), "it is a device or a pipe, which would be replaced; name a file")
    if not folder.is_dir():
        raise ConfigurationError(option, str(target), f"there is no folder {str(folder)!r}; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(option, str(target), f"its folder cannot be written to ({error.strerror})") from None


def write_text(target: Path, text: str) -> None:
    """Write the whole file or nothing of it."""
    write_pieces(target, [text])


def write_pieces(target: Path, pieces: Iterable[str]) -> None:
    """Write the whole file, piece after piece, or nothing of it, also when a piece cannot be had.

    Raises:
        StoreError: It could not be written.
    """
    target = target.expanduser().absolute()
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:_SHORT_NAME]}.")
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as stream:
            stream.writelines(pieces)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise StoreError(f"{str(target)!r} could not be written ({error.strerror}); nothing was left behind") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
