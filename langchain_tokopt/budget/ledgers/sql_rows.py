"""How a ledger's words become rows of a SQL database, and the other way round."""

# ruff: noqa: S608 - the names in these statements are all our own

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.machine import Kept
from langchain_tokopt.budget.ledgers.words import NOTHING, Account, Balance, Entry, StoredLimit

V = TypeVar("V")
Route: TypeAlias = tuple[str, tuple[Account, ...]]  # a path, and the accounts that its calls are counted on

_MOST_VALUES = 256

AMOUNTS = "spent_nano, spent_tokens, spent_calls, held_nano, held_tokens, held_calls"


# --- ids ---
#
# 128 bits of a hash stand for what an account or a route is. They need no look-up before they can be written, no cache
# that could be wrong after a rollback or a restored backup, and are the same order of locks in every process.


@functools.lru_cache(maxsize=1 << 15)
def account_id(budget: str, account: Account) -> bytes:
    return _id([budget, account.node, account.per, account.period, account.scope])


@functools.lru_cache(maxsize=1 << 13)
def route_id(budget: str, path: str, accounts: tuple[Account, ...]) -> bytes:
    return _id([budget, path, accounts_text(accounts)])


def _id(parts: Sequence[object]) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


# --- many values ---


def chunks(values: Iterable[V], *, padded: bool = True) -> Iterator[list[V]]:
    """The values in lists that one statement can take.

    Padded, each is as long as a power of two, by repeating the last value: so that few different statements are
    prepared.
    """
    values = list(values)
    for start in range(0, len(values), _MOST_VALUES):
        chunk = values[start : start + _MOST_VALUES]
        yield chunk + chunk[-1:] * ((1 << (len(chunk) - 1).bit_length()) - len(chunk)) if padded else chunk


def marks(values: Sequence[object]) -> str:
    return f"({', '.join('?' * len(values))})"


# --- accounts of a route ---


def accounts_text(accounts: Iterable[Account]) -> str:
    return json.dumps([[one.node, one.per, one.period, one.scope] for one in accounts], ensure_ascii=False)


@functools.lru_cache(maxsize=1 << 13)
def read_accounts(text: str) -> tuple[Account, ...]:
    return tuple(Account(*parts) for parts in json.loads(text))


# --- rows ---


def read_balance(row: Sequence[Any]) -> Balance:
    """From the columns `AMOUNTS`. PostgreSQL sums whole numbers up to decimal ones."""
    return Balance(Amount(*map(int, row[:3])), Amount(*map(int, row[3:6])))


def balance_row(balance: Balance) -> tuple[int, ...]:
    spent, held = balance.spent, balance.held
    return spent.nano, spent.tokens, spent.calls, held.nano, held.tokens, held.calls


def account_row(budget: str, account: Account, added: Balance, opened_at: float) -> tuple[Any, ...]:
    key = account.node, account.per, account.period, account.scope
    return account_id(budget, account), budget, *key, *balance_row(added), opened_at


def route_row(budget: str, path: str, accounts: tuple[Account, ...]) -> tuple[Any, ...]:
    return route_id(budget, path, accounts), path, accounts_text(accounts)


def node_rows(budget: str, path: str, accounts: tuple[Account, ...]) -> list[tuple[Any, ...]]:
    """The nodes by which the journal finds a route: those of its accounts, and its own for what is set on that."""
    route = route_id(budget, path, accounts)
    nodes = dict.fromkeys(account.node for account in accounts) or [path]
    return [(budget, node, route) for node in nodes]


KEPT = (
    "SELECT r.id, t.path, t.accounts, r.nano, r.tokens, r.calls, r.state, r.expires_at "
    "FROM tokopt_ledger_reservations r JOIN tokopt_ledger_routes t ON t.id = r.route"
)


def read_kept(row: Sequence[Any]) -> tuple[str, Kept]:
    """A reservation's id, and what is kept of it, from the columns of `KEPT`."""
    name, path, accounts, nano, tokens, calls, state, expires_at = row
    return name, Kept(path, read_accounts(accounts), Amount(nano, tokens, calls), state, expires_at)


def reservation_row(budget: str, name: str, kept: Kept) -> tuple[Any, ...]:
    amount = kept.amount
    route = route_id(budget, kept.path, kept.accounts)
    return budget, name, route, amount.nano, amount.tokens, amount.calls, kept.state, kept.expires_at


ENTRIES = (
    f"SELECT j.id, j.at, j.action, t.path, j.reservation, t.accounts, {AMOUNTS}, j.reason "
    "FROM {lines} j JOIN tokopt_ledger_routes t ON t.id = j.route"
)


def read_entry(row: Sequence[Any]) -> Entry:
    """From the columns of `ENTRIES`."""
    number, at, action, path, reservation, accounts = row[:6]
    added = read_balance(row[6:12])
    return Entry(str(number), at, action, path, reservation, read_accounts(accounts), added.spent, added.held, row[12])


def entry_row(budget: str, entry: Entry) -> tuple[Any, ...]:
    """The columns of the journal without its id."""
    added = balance_row(Balance(entry.spent, entry.held)) if entry.spent or entry.held else _NOTHING
    route = route_id(budget, entry.path, entry.accounts)
    return budget, entry.at, entry.action, route, entry.reservation, *added, entry.reason


_NOTHING = balance_row(Balance(NOTHING, NOTHING))

LIMIT = "node, per, source, scope, nano, tokens, calls, timezone, hard, at, until"


def read_limit(row: Sequence[Any]) -> StoredLimit:
    """From the columns `LIMIT`."""
    node, per, source, scope, nano, tokens, calls, timezone, hard, at, until = row
    return StoredLimit(node, per, nano, tokens, calls, timezone, bool(hard), source, scope, at, until)


def limit_row(budget: str, one: StoredLimit) -> tuple[Any, ...]:
    """The budget and the columns `LIMIT`."""
    amounts = one.nano, one.tokens, one.calls
    return budget, one.node, one.per, one.source, one.scope, *amounts, one.timezone, int(one.hard), one.at, one.until
