"""The demo's figures for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from langchain_tokopt.demo.figures import PARTS, Pair, Totals
from langchain_tokopt.demo.outcome import Outcome
from langchain_tokopt.demo.run import Answer

_EXAMPLES = 3


def show(outcome: Outcome, console: Console) -> None:
    """Print the table, a few answers and what the figures do and do not prove."""
    console.print(escape(outcome.setting), highlight=False)
    console.print(table(outcome.pairs))
    for line in notes(outcome):
        console.print(escape(line), highlight=False)
    for one, two in examples(outcome.pairs[0]):
        again = "" if one.asked.repeats is None else " (asked before in other words)"
        console.print(f"\n[bold]Q{escape(again)}[/bold] {_line(one.asked.text)}", highlight=False)
        if one.text == two.text:
            console.print(f"[bold]A[/bold] {_line(one.text)}", highlight=False)
        else:
            console.print(f"[bold]A bare[/bold] {_line(one.text)}", highlight=False)
            console.print(f"[bold]A optimised[/bold] {_line(two.text)}", highlight=False)
    console.print()
    console.print(escape(outcome.caveat), highlight=False)


def table(pairs: Sequence[Pair]) -> Table:
    """One column for each price table, one line for each figure. Fits into 80 columns with three tables."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("")
    shown.add_column("")
    for pair in pairs:
        each = pair.bare_run.table
        shown.add_column(escape(f"{each.provider_title}\n{each.model_title}\n{each.caching}"), justify="right")

    def both(name: str, text: Callable[[Totals], str], *, end: bool = False) -> None:
        shown.add_row(name, "bare", *(text(pair.bare) for pair in pairs))
        shown.add_row("", "optimised", *(text(pair.optimised) for pair in pairs), end_section=end)

    both("model calls", lambda totals: f"{totals.calls:,}")
    both("input tokens", lambda totals: f"{totals.input_tokens:,}")
    both("of them cached", lambda totals: f"{totals.cache_read_tokens:,}")
    both("output tokens", lambda totals: f"{totals.output_tokens:,}", end=True)
    both("billed, USD", lambda totals: usd(totals.cost_usd))
    shown.add_row("difference", "measured", *(f"[bold]{percent(pair.difference)}[/bold]" for pair in pairs))
    for number, part in enumerate(PARTS):
        cells = (usd(pair.saved[number].usd) for pair in pairs)
        shown.add_row(f"saved: {part}", "estimate", *cells, end_section=part == PARTS[-1])
    shown.add_row("cache hits", "", *(f"{pair.cache_hits}" for pair in pairs))
    shown.add_row("added per call", "p50", *(milliseconds(pair.added_p50_seconds) for pair in pairs))
    shown.add_row("", "p95", *(milliseconds(pair.added_p95_seconds) for pair in pairs))
    shown.add_row("answers equal", "", *(f"[bold]{pair.equal}/{len(pair.both)}[/bold]" for pair in pairs))
    return shown


def notes(outcome: Outcome) -> list[str]:
    """What a reader of the table has to know."""
    found = [
        (
            "Estimates are what each part reckons that it saved, call by call; they need not add up to the measured"
            " difference of the two bills."
        ),
        *outcome.notes,
    ]
    for pair in outcome.pairs:
        found += [f"Stepped aside under {pair.bare_run.table.title}: {reason}" for reason in pair.aside]
        unknown = pair.bare.estimated_calls + pair.optimised.estimated_calls
        if unknown:
            found.append(f"{unknown} calls under {pair.bare_run.table.title} came without usage; theirs is estimated.")
    return found


def examples(pair: Pair) -> list[tuple[Answer, Answer]]:
    """A few questions with both answers: different ones first, then the first ones, one that was asked before."""
    both = pair.both
    differing = [each for each in both if each[0].text != each[1].text]
    again = [each for each in both if each[0].asked.repeats is not None]
    chosen = [*differing, *both[:1], *again[:1], *both[-1:], *both]
    distinct: list[tuple[Answer, Answer]] = []
    for each in chosen:
        if all(each is not other for other in distinct):
            distinct.append(each)
    return distinct[:_EXAMPLES]


def _line(text: str) -> str:
    """A text from a file for the terminal: on one line, not too long, nothing in it that a terminal would obey."""
    printable = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return escape(printable if len(printable) <= 600 else printable[:600] + " ...")


def usd(amount: Decimal | None) -> str:
    """An amount in USD with four places; "unknown" for `None`."""
    return "unknown" if amount is None else f"{amount:.4f}"


def percent(share: Decimal | None) -> str:
    """A share as "-31.2 %"."""
    return "unknown" if share is None else f"{share * 100:+.1f} %"


def milliseconds(seconds: float | None) -> str:
    """A time as "1.2 ms"."""
    return "none" if seconds is None else f"{seconds * 1000:.1f} ms"
