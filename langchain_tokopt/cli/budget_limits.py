"""`tokopt budget set` and `drop`: limits that are kept in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.budget_options import (
    Json,
    Name,
    Pattern,
    PerName,
    Store,
    now,
    opened_with_store,
    print_json,
)
from langchain_tokopt.cli.common import DataDir, utc
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.budget import Limit
    from langchain_tokopt.database import Database

_Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal.", show_default=False)]
_Per = Annotated[PerName, typer.Option("--per", help="What the limit is for.")]


def set_(
    node: Pattern,
    usd: Annotated[str | None, typer.Option("--usd", help='Such as "5.00".', show_default=False)] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Input and output.", show_default=False)] = None,
    calls: Annotated[int | None, typer.Option("--calls", help="Model calls.", show_default=False)] = None,
    per: _Per = PerName.forever,
    timezone: Annotated[str, typer.Option("--timezone", help='Whose calendar counts: "Europe/Berlin".')] = "UTC",
    soft: Annotated[bool, typer.Option("--soft", help="Only alert; never stop a call.")] = False,
    until: Annotated[
        str | None, typer.Option("--until", help='When it ends: "3d" from now, or "2027-01-31".', show_default=False)
    ] = None,
    reason: _Reason = None,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Set a limit on a node, instead of what the code says, for all processes within a few seconds."""
    with opened_with_store(db, data_dir, name) as (budget, store):
        from langchain_tokopt.budget import Limit
        from langchain_tokopt.budget.nodes import Pattern as Written
        from langchain_tokopt.cli.budget_words import limit_in_words, limit_json, plain, time_of
        from langchain_tokopt.cli.shown import moment, safe

        if usd is None and tokens is None and calls is None:
            remedy = "give a limit: --usd 5.00, --tokens 100000, --calls 50, or several of them"
            raise ConfigurationError("--usd", None, remedy)
        limit = Limit(usd=usd, tokens=tokens, calls=calls, per=per.value, timezone=timezone, hard=not soft)
        pattern = Written.read(node, "NODE")
        ends = None if until is None else moment("--until", until, now=now(), ahead=True, zone=limit.zone)
        if ends is not None and ends <= now():
            raise ConfigurationError("--until", until, "it is over: name a moment that is still to come")
        before = _held(store, budget.name, str(pattern), limit.per)
        budget.set_limit(node, limit, until=ends, reason=reason)
        known = [one["node"] for one in budget.status()["nodes"] if any(one[unit]["spent"] for unit in _UNITS)]
        if json_:
            said = {**limit_json(limit), "until": time_of(ends)}
            old = None if before is None else {**limit_json(before[0]), "origin": before[1]}
            print_json(plain({"name": budget.name, "node": str(pattern) or "global", "limit": said, "before": old}))
            return
        lasts = "" if ends is None else f", until {utc(ends)}"
        was = "no limit" if before is None else f"{limit_in_words(before[0])} ({_ORIGINS[before[1]]})"
        typer.echo(safe(f"{str(pattern) or 'global'}: {limit_in_words(limit)}{lasts}. Before: {was}."))
        if known and not _met(str(pattern), known):
            typer.echo(safe(f"Nothing was spent there in the current periods{nearest(node, known)}"), err=True)


def drop(
    node: Pattern,
    per: _Per = PerName.forever,
    reason: _Reason = None,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Drop what was set, allocated or granted on a node: what the code says holds again.

    Exit code 1 if there was nothing.
    """
    with opened_with_store(db, data_dir, name) as (budget, store):
        from langchain_tokopt.budget.nodes import Pattern as Written
        from langchain_tokopt.cli.budget_words import limit_in_words, limit_json, plain
        from langchain_tokopt.cli.shown import safe

        written = str(Written.read(node, "NODE"))
        kept = [one for one in _kept(store, budget.name) if one.node == written and one.source != "code"]
        gone = [one for one in kept if one.per == per.value]
        dropped = budget.drop_limit(node, per.value, reason=reason)
        holds = _held(store, budget.name, written, per.value)
        if json_:
            told = {
                "name": budget.name,
                "node": written or "global",
                "per": per.value,
                "dropped": [{**limit_json(_limit(one)), "origin": one.source} for one in gone],
                "now": None if holds is None else {**limit_json(holds[0]), "origin": holds[1]},
            }
            print_json(plain(told))
            raise typer.Exit(0 if dropped else 1)
        if not dropped:
            others = sorted({one.per for one in kept})
            hint = f"; there are limits per {', '.join(others)}: use --per" if others else ""
            typer.echo(safe(f"No limit per {per.value} is kept for {written or 'global'}{hint}."), err=True)
            raise typer.Exit(1)
        was = " and ".join(f"{limit_in_words(_limit(one))} ({_ORIGINS[one.source]})" for one in gone)
        remains = "no limit" if holds is None else f"{limit_in_words(holds[0])} ({_ORIGINS[holds[1]]})"
        typer.echo(safe(f"{written or 'global'}: dropped {was}. Now: {remains}."))


_UNITS = ("usd", "tokens", "calls")
_ORIGINS = {"code": "in the code", "set": "set", "allocated": "allocated", "granted": "granted"}


def _kept(store: Database | str, name: str) -> list[Any]:
    """The limits that are kept in the store."""
    from langchain_tokopt.budget.ledgers.opening import open_ledger

    ledger, _ = open_ledger(store, budget=name)
    try:
        return ledger.limits()
    finally:
        ledger.close()


def _limit(stored: Any) -> Limit:
    from langchain_tokopt.budget import Limit

    return Limit.stored(stored)


def _held(store: Database | str, name: str, node: str, per: str) -> tuple[Limit, str] | None:
    """The limit that holds for a node or a pattern just now, beside what was allocated, and who made it."""
    from langchain_tokopt.budget.nodes import Pattern as Written
    from langchain_tokopt.budget.nodes import node_path
    from langchain_tokopt.budget.rules import Rules

    kept = _kept(store, name)
    if Written.read(node).wildcards:
        own = [one for one in kept if (one.node, one.per) == (node, per) and one.source in ("set", "code")]
        lasting = [one for one in own if one.until is None or one.until > now()]
        return next(((_limit(one), one.source) for one in reversed(lasting)), None)  # "set" stands after "code"
    said: dict[str, list[Limit]] = {}
    for one in kept:
        if one.source == "code":
            said.setdefault(one.node, []).append(_limit(one))
    rules = Rules(said)
    rules.lay_over(one for one in kept if one.source != "code")
    on = [rule for rule in rules.on(node_path(node), now()) if rule.node == node and rule.limit.per == per]
    return next(((rule.limit, rule.origin) for rule in on if rule.origin != "allocated"), None)


def _met(pattern: str, nodes: Sequence[str]) -> bool:
    from langchain_tokopt.budget.nodes import GLOBAL, node_path
    from langchain_tokopt.budget.nodes import Pattern as Written

    read = Written.read(pattern)
    return any(read.node_on(node_path("" if node == GLOBAL else node)) is not None for node in nodes)


def nearest(node: str, known: Sequence[str]) -> str:
    """How a sentence ends that the node is not found in: with the names that may have been meant."""
    from difflib import get_close_matches

    names = get_close_matches(node, dict.fromkeys(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else "."
