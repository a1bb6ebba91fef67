"""`tokopt budget allocate`: the children of a node share its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated

import typer

from langchain_tokopt.cli.budget_options import Json, MaybePer, MaybeUnit, Name, Node, Store, opened, print_json
from langchain_tokopt.cli.common import DataDir
from langchain_tokopt.errors import ConfigurationError


class _Strategy(str, Enum):
    equal = "equal"
    proportional = "proportional"
    priority = "priority"
    performance = "performance"
    predictive = "predictive"


def allocate(
    node: Node = "global",
    strategy: Annotated[_Strategy, typer.Option("--strategy", help="How it is shared.")] = _Strategy.proportional,
    per: MaybePer = None,
    unit: MaybeUnit = None,
    child: Annotated[
        list[str] | None, typer.Option("--child", help='Who shares, such as "agent=writer"; may be repeated.')
    ] = None,
    floor: Annotated[
        list[str] | None, typer.Option("--floor", help='The least of a child: "agent=writer=1.00"; may be repeated.')
    ] = None,
    cap: Annotated[
        list[str] | None, typer.Option("--cap", help='The most of a child: "agent=writer=5.00"; may be repeated.')
    ] = None,
    priority: Annotated[
        list[str] | None, typer.Option("--priority", help='How much more than 1: "agent=writer=2"; may be repeated.')
    ] = None,
    rebalance: Annotated[
        bool, typer.Option("--rebalance", help="Move only what pays, from who needs less to who needs more.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Keep the plan; else it is only shown.")] = False,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Share the limit of a node among its children. Without --apply, only show how it would be."""
    with opened(db, data_dir, name) as budget:
        from langchain_tokopt.budget import Allocation
        from langchain_tokopt.cli.budget_words import plain, plan_json

        allocation = Allocation(
            strategy=strategy.value,
            per=None if per is None else per.value,
            unit=None if unit is None else unit.value,
            children=child or None,
            floors=_amounts("--floor", floor),
            caps=_amounts("--cap", cap),
            priorities=_numbers("--priority", priority),
        )
        share = budget.rebalance if rebalance else budget.allocate
        try:
            plan = share(node, allocation, apply=apply)
        except ConfigurationError as error:
            if error.argument == "children":
                remedy = "nobody has spent on it yet: name those who share with --child"
                raise ConfigurationError("NODE", node, remedy) from None
            if error.argument == "floor":
                remedy = "together they are more than there is to share: lower some, or share more"
                raise ConfigurationError("--floor", floor, remedy) from None
            raise
        if json_:
            print_json(plain({"name": budget.name, "node": node or "global", "applied": apply, **plan_json(plan)}))
            return
        from langchain_tokopt.cli.budget_reports import print_plan

        print_plan(plan)
        typer.echo("\nIt is kept." if apply else "\nNothing was changed: add --apply to keep it.")


def _amounts(option: str, given: Sequence[str] | None) -> Mapping[str, object]:
    """Amounts by child: whole numbers as `int`, USD as they were written."""
    found: dict[str, object] = {}
    for child, amount in _pairs(option, given, "1.00"):
        found[child] = int(amount) if amount.isdecimal() else 0 if amount.strip("0") == "." else amount
    return found


def _numbers(option: str, given: Sequence[str] | None) -> Mapping[str, float]:
    found = {}
    for child, number in _pairs(option, given, "2"):
        try:
            found[child] = float(number)
        except ValueError:
            raise ConfigurationError(option, f"{child}={number}", 'use a number, such as "agent=writer=2"') from None
    return found


def _pairs(option: str, given: Sequence[str] | None, example: str) -> list[tuple[str, str]]:
    pairs = []
    for text in given or ():
        child, found, amount = text.rpartition("=")
        if not found or not child or not amount:
            raise ConfigurationError(option, text, f'name a child and its amount, such as "agent=writer={example}"')
        pairs.append((child, amount))
    return pairs
