"""Amounts, limits and times of a budget: in words for people, and as JSON has them."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_tokopt.budget.nodes import shown
from langchain_tokopt.cli.common import plain as plain
from langchain_tokopt.rates import from_nano
from langchain_tokopt.telemetry.findings import money

if TYPE_CHECKING:
    from langchain_tokopt.budget.amounts import Amount, Unit
    from langchain_tokopt.budget.ledgers.words import Correction, Entry
    from langchain_tokopt.budget.limits import Limit
    from langchain_tokopt.budget.planning import Forecast, Plan


# --- in words --------------------------------------------------------------------------------------------------------


def exact(usd: Decimal) -> str:
    """USD to the last digit that is not 0, and at least two: a limit is never rounded."""
    whole, _, part = f"{usd:f}".partition(".")
    return f"${int(whole):,}.{part.rstrip('0'):0<2}"


def spoken(value: Decimal | int, unit: str) -> str:
    """An amount without its unit, but for USD; USD rounded as `money` does."""
    return money(Decimal(value)) if unit == "usd" else f"{value:,}"


def limit_in_words(limit: Limit) -> str:
    """Such as "$5.00 and 100 calls per day in Europe/Berlin, soft"."""
    parts = [
        *([exact(from_nano(limit.nano))] if limit.nano is not None else []),
        *([f"{limit.tokens:,} tokens"] if limit.tokens is not None else []),
        *([f"{limit.calls:,} {'call' if limit.calls == 1 else 'calls'}"] if limit.calls is not None else []),
    ]
    per = "in all" if limit.per == "forever" else f"per {limit.per}"
    zone = "" if limit.scoped or limit.per == "forever" or limit.timezone == "UTC" else f" in {limit.timezone}"
    return f"{' and '.join(parts)} {per}{zone}{'' if limit.hard else ', soft'}"


# --- as JSON ---------------------------------------------------------------------------------------------------------


def time_of(at: float | None) -> str | None:
    """A Unix time as ISO in UTC, with all of its digits."""
    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat()


def in_unit(whole: int, unit: Unit) -> Decimal | int:
    """USD for nano-USD; tokens and calls as they are."""
    return from_nano(whole) if unit == "usd" else whole


def amount_json(amount: Amount) -> dict[str, Any]:
    return {"usd": amount.usd, "tokens": amount.tokens, "calls": amount.calls}


def limit_json(limit: Limit) -> dict[str, Any]:
    """What `set` and `drop` say of a limit."""
    return {
        "usd": None if limit.nano is None else from_nano(limit.nano),
        "tokens": limit.tokens,
        "calls": limit.calls,
        "per": limit.per,
        "timezone": limit.timezone,
        "hard": limit.hard,
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """One line of the journal."""
    return {
        "id": entry.id,
        "at": time_of(entry.at),
        "action": entry.action,
        "path": shown(entry.path),
        "reservation": entry.reservation or None,
        "spent": amount_json(entry.spent),
        "held": amount_json(entry.held),
        "accounts": [
            {"node": shown(one.node), "per": one.per, "since": time_of(one.period or None), "scope": one.scope or None}
            for one in entry.accounts
        ],
        "reason": entry.reason,
    }


def correction_json(one: Correction) -> dict[str, Any]:
    """One counter that was wrong."""
    return {
        "node": shown(one.account.node),
        "per": one.account.per,
        "since": time_of(one.account.period or None),
        "scope": one.account.scope or None,
        **{
            when: {"spent": amount_json(balance.spent), "held": amount_json(balance.held)}
            for when, balance in (("before", one.before), ("after", one.after))
        },
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, its amounts in its unit."""

    def amount(whole: int) -> Decimal | int:
        return in_unit(whole, plan.unit)

    return {
        "strategy": plan.strategy,
        "unit": plan.unit,
        "total": amount(plan.total),
        "shares": [
            {"node": one.name, "before": amount(one.before), "after": amount(one.after), "reason": one.reason}
            for one in plan.shares
        ],
        "moves": [
            {"from": one.source, "to": one.target, "amount": amount(one.amount), "reason": one.reason}
            for one in plan.moves
        ],
        "unallocated": amount(plan.unallocated),
        "overspent": amount(plan.overspent),
        "notes": list(plan.notes),
    }


def forecast_json(found: Forecast) -> dict[str, Any]:
    """A forecast, its amounts in its unit."""

    def amount(whole: int | None) -> Decimal | int | None:
        return None if whole is None else in_unit(whole, found.unit)

    return {
        "says": found.explain(),
        "unit": found.unit,
        "spent": amount(found.spent),
        "expected": amount(found.expected),
        "low": amount(found.low),
        "high": amount(found.high),
        "coverage": found.coverage,
        "limit": amount(found.limit),
        "runs_out_at": time_of(found.runs_out_at),
        "runs_out_earliest": time_of(found.runs_out_earliest),
        "ends_at": time_of(found.ends_at),
        "method": found.method,
        "beats_naive": found.beats_naive,
        "errors": [{"method": one.method, "error": one.error, "bias": one.bias} for one in found.errors],
        "backtests": found.backtests,
        "seen": {"steps": found.steps, "step": found.step},
        "path": [
            {
                "at": time_of(point.at),
                "expected": amount(point.expected),
                "low": amount(point.low),
                "high": amount(point.high),
            }
            for point in found.path
        ],
    }
