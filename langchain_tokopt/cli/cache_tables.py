"""Stored answers in a terminal: a table of many, and one with all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from langchain_tokopt.cli.common import utc
from langchain_tokopt.cli.shown import age, console, safe, shortened, size
from langchain_tokopt.telemetry.findings import money

if TYPE_CHECKING:
    from langchain_tokopt.cache.catalog import StoredAnswer, Totals


def print_totals(totals: Sequence[Totals]) -> None:
    """Print a line for each kind of answers."""
    now = time.time()
    table = _table("Kind", "Answers", "Served", "Hits", "Saved", "Size", "Scopes", "Oldest", "Last used", "Expired")
    for total in totals:
        table.add_row(
            total.kind,
            f"{total.entries:,}",
            f"{total.used:,}",
            f"{total.hits:,}",
            money(total.saved_usd),
            size(total.bytes),
            f"{total.scopes:,}",
            "" if total.oldest is None else age(now - total.oldest),
            "" if total.last_used is None else age(now - total.last_used),
            f"{total.expired:,}",
        )
    console().print(table)


def print_answers(found: Sequence[StoredAnswer]) -> None:
    """Print a line for each answer."""
    now = time.time()
    table = _table("Id", "Question", "Answer", "Hits", "Saved", "Age", "Left", "Model", left=(1, 2, 7))
    for number, share in ((1, 3), (2, 3), (7, 1)):
        column = table.columns[number]
        column.ratio, column.no_wrap, column.overflow = share, True, "ellipsis"
    table.expand = True
    for answer in found:
        table.add_row(
            str(answer.id),
            Text(shortened(answer.question, 200) or "(only exactly the same)"),
            Text("(cannot be read)" if answer.answer is None else shortened(answer.answer, 200)),
            f"{answer.hits:,}",
            "" if answer.saved_usd is None else money(answer.saved_usd),
            age(now - answer.created_at),
            "" if answer.expires_at is None else age(answer.expires_at - now),
            Text(shortened(answer.model or "", 60)),
        )
    console().print(table)


def _table(*names: str, left: tuple[int, ...] = (0,)) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number in left else "right", no_wrap=True)
    return table


def print_answer(answer: StoredAnswer) -> None:
    """Print all that is known of an answer."""
    now = time.time()
    expires = "never"
    if answer.expires_at is not None:
        expires = f"{utc(answer.expires_at)} (in {age(answer.expires_at - now)})"
    vector = "none: found by its exact text only" if answer.embedder is None else answer.embedder
    facts = {
        "id": str(answer.id),
        "kind": answer.kind,
        "model": " ".join(filter(None, (answer.provider, answer.model))) or "unknown",
        "given by": answer.source,
        "hits": f"{answer.hits:,}",
        "saved": f"{money(answer.saved_usd)} ({money(answer.value_usd)} a hit)",
        "stored": f"{utc(answer.created_at)} ({age(now - answer.created_at)} ago)",
        "last used": f"{utc(answer.used_at)} ({age(now - answer.used_at)} ago)",
        "expires": expires,
        "size": size(answer.bytes),
        "tags": ", ".join(answer.tags) or "none",
        "vector": vector,
        "same answer as": "" if answer.group == answer.id else str(answer.group),
        "scope": answer.scope,
        "owner": answer.owner,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(safe(value)))
    screen = console()
    screen.print(table)
    for title, said in (("Question", answer.question), ("Answer", answer.answer)):
        screen.print(Text(f"\n{title}", style="bold"))
        unknown = "(not kept)" if title == "Question" else "(cannot be read)"
        screen.print(Text(safe(said, lines=True) if said else unknown), soft_wrap=True)
