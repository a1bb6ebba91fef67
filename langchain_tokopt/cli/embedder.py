"""`tokopt embedder`: the embedding model without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.common import clear_errors

if TYPE_CHECKING:
    from langchain_tokopt.embedding_quality import Quality
    from langchain_tokopt.model_choice import Candidate
    from langchain_tokopt.onnx_model import OnnxEmbeddings

app = typer.Typer(help="Make the embedding model small and quick, and see which one is used.", no_args_is_help=True)

_Model = Annotated[
    str | None,
    typer.Argument(
        help="Hugging Face name or folder of a sentence-transformers model; by default all-MiniLM-L6-v2.",
        show_default=False,
    ),
]
_DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The data_dir of a TokenOptimizer; by default TOKOPT_HOME or your own data folder.",
        show_default=False,
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def export(
    model: _Model = None,
    data_dir: _DataDir = None,
    seven_bit: Annotated[
        bool, typer.Option("--seven-bit", help="For processors without 8-bit dot products (before about 2019).")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Make it even if a good one is there.")] = False,
    json_: _Json = False,
) -> None:
    """Write the model as int8 ONNX once; from then on it is used without torch.

    Measures how far the vectors are from the original's, and keeps no export that is bad.
    """
    with clear_errors():
        from langchain_tokopt.onnx_export import export_model

        done = export_model(model, data_dir=data_dir, seven_bit=seven_bit, again=again)
        if json_:
            _print_json(_told(done.embeddings) | {"made": done.made})
            return
        said = "Wrote" if done.made else "There is already"
        typer.echo(f"{said} {done.embeddings.name} in {done.embeddings.folder}")
        typer.echo(str(done.embeddings.record.quality))


@app.command()
def info(
    model: _Model = None,
    data_dir: _DataDir = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Measure the export again on this machine; exit code 1 if it is bad.")
    ] = False,
    json_: _Json = False,
) -> None:
    """Show which embedder would be used, and why no other."""
    with clear_errors():
        from langchain_tokopt.errors import ConfigurationError
        from langchain_tokopt.model_choice import first_usable, named_model

        wanted = named_model(model)
        candidates = wanted.candidates(data_dir)
        used = first_usable(candidates)
        exported = used.export if used else None
        if verify and exported is None:
            raise ConfigurationError("--verify", True, "no export would be used; `tokopt embedder info` says why")
        quality = exported.verify() if verify and exported else None
        if json_:
            told: dict[str, Any] = {"model": wanted.name, "used": used.source if used else None}
            told["export"] = _told(exported) if exported else None
            told["verified"] = _figures(quality) if quality else None
            told["candidates"] = [_row(each) | {"used": each is used} for each in candidates]
            _print_json(told)
        else:
            _show(wanted.name, candidates, used, quality)
        if quality is not None and not quality.acceptable:
            raise typer.Exit(1)


def _show(name: str, candidates: list[Candidate], used: Candidate | None, quality: Quality | None) -> None:
    # Lines and no table: paths are long, and whoever copies one wants it whole.
    typer.echo(f"Embedder for {name}, best first")
    for each in candidates:
        state = "used" if each is used else "no" if each.problem else "ready"
        said = "; ".join(filter(None, (each.location, each.problem)))
        typer.echo(f"  {state:<6} {each.source:<19} {said}")
    if used is None:
        typer.echo("None can be used: only equal texts will be recognised.")
    elif used.export is not None:
        typer.echo(f"{used.export.name}\n{used.export.record.quality}")
    if quality is not None:
        typer.echo(f"measured now: {'good' if quality.acceptable else 'BAD'}; {quality}")


def _row(candidate: Candidate) -> dict[str, Any]:
    return {"source": candidate.source, "location": candidate.location, "problem": candidate.problem}


def _told(embeddings: OnnxEmbeddings) -> dict[str, Any]:
    record = embeddings.record
    return {
        "name": record.name,
        "folder": str(embeddings.folder),
        "model": record.model,
        "recipe": record.recipe,
        "dim": record.dim,
        "max_tokens": record.max_tokens,
        "quality": _figures(record.quality),
        "made_with": dict(record.made_with),
    }


def _figures(quality: Quality) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(quality) | {"acceptable": quality.acceptable}


def _print_json(content: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
