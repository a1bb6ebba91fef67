"""`tokopt demo`: what an agent costs bare and optimised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from langchain_tokopt.cli.common import check_target, clear_errors, write_text


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
    with clear_errors():
        for option, target in (("--json", json_), ("--html", html)):
            if target is not None:
                check_target(option, target)
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
            write_text(json_, json.dumps(outcome.as_json(), indent=2, ensure_ascii=False) + "\n")
        if html is not None:
            write_text(html, page(outcome))


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
