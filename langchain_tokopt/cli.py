"""The command line: `tokopt demo`, `tokopt report`, `tokopt status`.

What a command needs is imported inside it, so that `tokopt --help` answers at once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.errors import ConfigurationError, StoreError, TokOptError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

app = typer.Typer(
    help="Spend fewer tokens and less money with LangChain agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turns an error of this package into one line on stderr and exit code 2."""
    try:
        yield
    except TokOptError as error:
        typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def _version(wanted: bool) -> None:
    if wanted:
        from langchain_tokopt import __version__

        typer.echo(f"langchain-tokopt {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Spend fewer tokens and less money with LangChain agents."""


@app.command()
def demo(
    path: Annotated[
        Path | None, typer.Option(help="Folder to ask about; by default this project's own files.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help='A live model, such as "openai:gpt-5-mini"; costs money.', show_default=False)
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, as JSON.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page to this file.", show_default=False)
    ] = None,
    questions: Annotated[int, typer.Option(help="How many questions to ask.", min=1, max=500)] = 24,
    seed: Annotated[int, typer.Option(help="Chooses the questions.")] = 0,
) -> None:
    """Run an agent over a folder, bare and optimised, and show what each cost.

    Needs no API key: without --model a scripted policy plays the model under three price tables.
    """
    with _clear_errors():
        for option, target in (("--json", json_), ("--html", html)):
            if target is not None:
                _check_target(option, target)
        import json

        from rich.console import Console

        from langchain_tokopt.demo.outcome import play
        from langchain_tokopt.demo.page import page
        from langchain_tokopt.demo.progress import shown_progress
        from langchain_tokopt.demo.show import show

        with _quiet(), shown_progress() as progress:
            outcome = play(path=path, model=model, questions=questions, seed=seed, progress=progress)
        show(outcome, Console())
        if json_ is not None:
            _write(json_, json.dumps(outcome.as_json(), indent=2, ensure_ascii=False) + "\n")
        if html is not None:
            _write(html, page(outcome))


def _utc(at: float | None) -> str | None:
    """A Unix time as people and programs read it."""
    from datetime import datetime, timezone

    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


@contextmanager
def _quiet() -> Iterator[None]:
    """What a part has to say is in the figures; lines in between would break the progress bar."""
    import logging

    log = logging.getLogger("langchain_tokopt")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


_Db = Annotated[
    str | None, typer.Option("--db", help="URL of the database, such as postgresql://host/name.", show_default=False)
]
_DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The data_dir of a TokenOptimizer.", show_default=False)
]


@app.command()
def report(
    hours: Annotated[float | None, typer.Option(help="Only the last so many hours.", show_default=False)] = None,
    db: _Db = None,
    data_dir: _DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Show what was spent and saved, from a database that an optimiser writes to."""
    with _clear_errors():
        if json_ and markdown:
            raise ConfigurationError("--markdown", True, "use either --json or --markdown")
        from langchain_tokopt.telemetry import Telemetry

        database = _database(db, data_dir)
        telemetry = Telemetry(database=database)
        try:
            found = telemetry.report(hours)
        finally:
            telemetry.close()
            database.close()
        if json_:
            typer.echo(found.to_json())
        elif markdown:
            typer.echo(found.to_markdown())
        else:
            from rich.console import Console

            Console().print(found)


@app.command()
def status(
    db: _Db = None,
    data_dir: _DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what this installation has: embeddings, token counting, prices, and a database if one is named."""
    with _clear_errors():
        import json

        found = _status(db, data_dir)
        if json_:
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in found.items():
            table.add_row(name.replace("_", " "), "" if value is None else str(value))
        Console().print(table, markup=False)


def _status(db: str | None, data_dir: Path | None) -> dict[str, Any]:
    import importlib.metadata
    import platform

    from langchain_tokopt import __version__
    from langchain_tokopt.tokens import TokenCounter

    found: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "tokens": TokenCounter().source("gpt-4o"),
    }
    for package in ("langchain", "langchain-core", "langgraph", "genai-prices", "faiss-cpu", "sentence-transformers"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if db is None and data_dir is None:
        return found
    from langchain_tokopt.telemetry import Telemetry

    database = _database(db, data_dir)
    telemetry = Telemetry(database=database)
    try:
        told = telemetry.report()
        found |= {"database": database.url, "events": told.events}
        found |= {"first": _utc(told.first), "last": _utc(told.last)}
    finally:
        telemetry.close()
        database.close()
    return found


def _database(db: str | None, data_dir: Path | None) -> Database:
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
        file = Path(db.removeprefix("sqlite:///").split("?")[0])
    else:
        return Database(db)
    if not file.is_file():
        raise StoreError(f"there is no database {str(file)!r}; name the data_dir that your TokenOptimizer was given")
    return Database(file)


# --- writing files ---------------------------------------------------------------------------------------------------


def _check_target(option: str, target: Path) -> None:
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


def _write(target: Path, text: str) -> None:
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
