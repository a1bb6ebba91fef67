"""Tables that fit: in a narrow terminal the columns that matter least are left out. Bars; drawing anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# Between two columns, and at both edges together.
_GAP = 2
_EDGES = 2
_BAR = 10


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its header.
        justify: Where its cells stand.
        rank: The lower, the sooner there is room for it; 0 for always.
        least: Its cells are folded, to not less than this width; `None` for cells that stay on one line.
    """

    name: str
    justify: Literal["left", "right"] = "right"
    rank: int = 0
    least: int | None = None


def fitted(columns: Sequence[Column], rows: Sequence[Mapping[str, Text]], screen: Console) -> Table:
    """A table of the rows, as wide as the screen at most. A column that is empty in all rows is left out, too.

    In a pipe, where nobody can widen it, the screen is made as wide as the table: each row stays on one line.
    """
    filled = [column for column in columns if any(column.name in row and row[column.name].plain for row in rows)]
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen.width = max(screen.width, _width(filled, rows, folded=False))
    chosen: list[Column] = []
    for column in sorted(filled, key=lambda column: column.rank):
        if not column.rank or _width([*chosen, column], rows, folded=True) <= screen.width:
            chosen.append(column)
    kept = [column for column in filled if column in chosen]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in kept:
        stays = column.least is None
        table.add_column(
            column.name,
            justify=column.justify,
            no_wrap=stays,
            overflow="ellipsis" if stays else "fold",
            min_width=None if stays else _least(column, rows, folded=True),
        )
    for row in rows:
        table.add_row(*(row.get(column.name, Text()) for column in kept))
    return table


def _width(columns: Sequence[Column], rows: Sequence[Mapping[str, Text]], *, folded: bool) -> int:
    """How wide the table is at least."""
    return sum(_least(column, rows, folded=folded) for column in columns) + _GAP * (len(columns) - 1) + _EDGES


def _least(column: Column, rows: Sequence[Mapping[str, Text]], *, folded: bool) -> int:
    longest = max(len(column.name), *(row[column.name].cell_len for row in rows if column.name in row))
    return min(longest, column.least) if folded and column.least is not None else longest


def bar(share: float | Decimal, screen: Console) -> str:
    """A bar that is filled to that share, from 0 to 1; nothing in a pipe, where it says no more than the figure."""
    if not screen.is_terminal:
        return ""
    full, empty = ("#", ".") if screen.options.ascii_only else ("\u2588", "\u2591")
    filled = min(_BAR, max(0, int(_BAR * share)))
    return full * filled + empty * (_BAR - filled)


def keep_drawing(
    draw: Callable[[], RenderableType], screen: Console, *, seconds: float, sleep: Callable[[float], None]
) -> None:
    """Draw it again and again in its place, until the user has seen enough (Ctrl-C)."""
    from rich.live import Live

    try:
        with Live(draw(), console=screen, auto_refresh=False) as live:
            while True:
                sleep(seconds)
                live.update(draw(), refresh=True)
    except KeyboardInterrupt:
        return
