"""How a budget's keys in Redis are named, and how accounts are."""

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
