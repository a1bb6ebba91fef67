"""How a budget's keys in Redis are named, what they hold, and how accounts are named in them.

All keys of a budget begin with `{prefix:budget:name}`, and all that a script touches are declared when it is run.

=======================  ======  ===================================================================================
key                      type    what it holds
=======================  ======  ===================================================================================
version                  string  of these keys
balances                 hash    account -> spent nano-USD, tokens and calls, held nano-USD, tokens and calls
accounts:<per>:<period>  zset    the accounts of a period, in the order in which they were opened
reservations             hash    id -> state and amount, ids of its lines in the journal, accounts, path: a line each
leases                   zset    the reservations that are held, by when their leases run out
journal                  stream  every change: action, at, path, reservation, accounts, spent, held, reason
carried                  hash    account -> what lines that are no longer kept add up to; "until", the last of them
recounting               string  there while counters are rebuilt: the journal is not shortened then; expires
hours                    hash    hour of the callers' clock -> first and last id of its lines in the journal
spent:<hour>             hash    path -> nano-USD, tokens and calls that were booked in the hour
limits                   hash    node, per, source and scope -> limit (JSON)
claim:<task>             string  until when it is claimed, and by whom; expires
values                   zset    reports of what answers were worth, by time
=======================  ======  ===================================================================================
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from langchain_tokopt.budget.ledgers.words import Account
from langchain_tokopt.budget.periods import read_per
from langchain_tokopt.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one budget. All of them have one hash tag, so that a cluster keeps them in one slot.

    Attributes:
        base: What all of them begin with, the hash tag.
    """

    base: str

    def __call__(self, *parts: str) -> str:
        return ":".join((self.base, *parts))

    def index(self, name: str) -> str:
        """Where an account is listed: under its kind of period and the period."""
        per, period, _ = name.split(":", 2)
        return f"{self.base}:accounts:{per}:{period}"


def keys_of(budget: str, prefix: str) -> Keys:
    """The keys of a budget.

    Raises:
        ConfigurationError: The name or the prefix cannot be in a hash tag.
    """
    _check("budget", budget)
    _check("prefix", prefix)
    return Keys(f"{{{prefix}:budget:{budget}}}")


def registry(prefix: str) -> str:
    """The set of the names of all budgets with that prefix. It belongs to none of them, and is in a slot of its own.

    Raises:
        ConfigurationError: The prefix cannot be in a hash tag.
    """
    _check("prefix", prefix)
    return f"{prefix}:budgets"


def _check(argument: str, value: object) -> None:
    if not isinstance(value, str) or not value or "{" in value or "}" in value:
        raise ConfigurationError(argument, value, "use a name without { and }, such as 'default'")


@functools.lru_cache(maxsize=4096)
def name_of(account: Account) -> str:
    """The account's name: "per:period:scope:node". Only a node may have a colon in it; a scope's are escaped."""
    scope = account.scope.replace("%", "%25").replace(":", "%3A")
    return f"{account.per}:{account.period}:{scope}:{account.node}"


@functools.lru_cache(maxsize=4096)
def account_of(name: str) -> Account:
    """The account of that name."""
    per, period, scope, node = name.split(":", 3)
    return Account(node, read_per(per), int(period), scope.replace("%3A", ":").replace("%25", "%"))


def as_json(value: object) -> str:
    """JSON as the scripts compare it: nothing is escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@functools.lru_cache(maxsize=1024)
def accounts_in(text: str) -> tuple[Account, ...]:
    """The accounts that are listed in a journal's line or a reservation."""
    return tuple(account_of(name) for name in json.loads(text))


def distinct(items: Iterable[str]) -> list[str]:
    """The items, each once, in their order."""
    return list(dict.fromkeys(items))


def pages(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, at most `size` at a time: a long script would keep everybody else waiting."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
