"""A progress bar while the demo runs; silent where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bar:
    """One bar for the whole demo."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def start(self, title: str, total: int) -> None:
        """Say what is done now; the first time also how much there is in all."""
        if self._task is None:
            self._task = self._progress.add_task(escape(title), total=total)
        else:
            self._progress.update(self._task, description=escape(title))

    def tick(self) -> None:
        """One answer more."""
        if self._task is not None:
            self._progress.advance(self._task)


@contextmanager
def shown_progress() -> Iterator[Bar]:
    """A bar on stderr that goes away at the end."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress)
