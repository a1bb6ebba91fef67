"""Which limits a call is under."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from langchain_tokopt.budget.ledgers.words import Account, Cap, StoredLimit
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.budget.rules import Rules
from langchain_tokopt.errors import ConfigurationError

NOON = datetime(2027, 3, 10, 12, tzinfo=timezone.utc).timestamp()
DAY = int(datetime(2027, 3, 10, tzinfo=timezone.utc).timestamp())
BERLIN_DAY = DAY - 3600
MONTH = int(datetime(2027, 3, 1, tzinfo=timezone.utc).timestamp())
ANN = Path.read("project=shop/agent=writer/user=ann")


def caps(rules: Rules, path: Path = ANN, now: float = NOON, run: str = "r", thread: str = "t") -> dict[Account, Cap]:
    return {cap.account: cap for cap in rules.terms(path, now, run=run, thread=thread).caps}


def test_every_node_is_counted_in_every_period_that_a_limit_is_for() -> None:
    rules = Rules({"global": Limit(usd=50, per="day"), "project=shop": Limit(tokens=1000, per="month")})
    found = caps(rules)
    assert set(found) == {
        Account(node, per, start) for node in ANN.nodes for per, start in (("day", DAY), ("month", MONTH))
    }
    assert found[Account("", "day", DAY)] == Cap(Account("", "day", DAY), nano=50 * 10**9)
    assert found[Account("project=shop", "month", MONTH)].tokens == 1000
    assert found[Account("project=shop", "day", DAY)] == Cap(Account("project=shop", "day", DAY))


def test_a_limit_for_each_user_counts_whatever_the_project() -> None:
    rules = Rules({"user=*": Limit(calls=3, per="day")})
    found = caps(rules)
    assert found[Account("user=ann", "day", DAY)].calls == 3
    assert {account.node for account in found} == {*ANN.nodes, "user=ann"}


def test_an_exact_name_stands_before_one_left_open() -> None:
    rules = Rules({"user=*": Limit(usd=1, per="day"), "user=ann": Limit(usd=100, per="day")})
    assert caps(rules)[Account("user=ann", "day", DAY)].nano == 100 * 10**9
    bob = Path.read("user=bob")
    assert caps(rules, bob)[Account("user=bob", "day", DAY)].nano == 10**9


def test_limits_of_one_node_for_several_periods_hold_beside_each_other() -> None:
    rules = Rules({"global": [Limit(usd=1, per="hour"), Limit(usd=5, per="day"), Limit(calls=9)]})
    hour = DAY + 12 * 3600
    assert {(a.per, a.period): (c.nano, c.calls) for a, c in caps(rules, Path()).items()} == {
        ("hour", hour): (10**9, None),
        ("day", DAY): (5 * 10**9, None),
        ("forever", 0): (None, 9),
    }


def test_two_time_zones_have_days_of_their_own() -> None:
    rules = Rules({"global": Limit(usd=5, per="day"), "user=*": Limit(usd=1, per="day", timezone="Europe/Berlin")})
    found = caps(rules, Path.read("user=ann"))
    assert found[Account("", "day", DAY)].nano == 5 * 10**9
    assert found[Account("", "day", BERLIN_DAY)].nano is None
    assert found[Account("user=ann", "day", BERLIN_DAY)].nano == 10**9


def test_a_limit_for_each_run_is_counted_for_it_alone() -> None:
    rules = Rules({"global": Limit(calls=5, per="run"), "agent=*": Limit(tokens=9, per="thread")})
    found = caps(rules)
    assert found[Account("", "run", 0, "r")].calls == 5
    assert found[Account("agent=writer", "thread", 0, "t")].tokens == 9
    assert {account for account in found if not account.scope} == {Account(node, "forever") for node in ANN.nodes}


def test_a_soft_limit_caps_nothing_and_is_known() -> None:
    rules = Rules({"global": Limit(usd=5, hard=False)})
    terms = rules.terms(Path(), NOON, run="", thread="")
    assert terms.caps == (Cap(Account("", "forever")),)
    assert [ruled.rule.limit.hard for ruled in terms.ruled] == [False]


# --- what is kept with the ledger ---


def test_what_is_set_stands_instead_of_the_code_and_what_is_allocated_beside_it() -> None:
    rules = Rules({"agent=writer": Limit(usd=5, per="day"), "global": Limit(usd=50, per="day")})
    account = Account("agent=writer", "day", DAY)
    rules.lay_over([StoredLimit("agent=writer", "day", nano=7 * 10**9)])
    assert caps(rules)[account].nano == 7 * 10**9
    rules.lay_over([StoredLimit("agent=writer", "day", nano=7 * 10**9, source="allocated")])
    assert caps(rules)[account].nano == 5 * 10**9
    rules.lay_over([StoredLimit("agent=writer", "day", nano=3 * 10**9, source="allocated")])
    assert caps(rules)[account].nano == 3 * 10**9
    rules.lay_over([])
    assert caps(rules)[account].nano == 5 * 10**9


def test_what_is_set_for_all_stands_before_an_exact_name_in_the_code() -> None:
    rules = Rules({"user=ann": Limit(usd=100, per="day")})
    rules.lay_over([StoredLimit("user=*", "day", nano=10**9)])
    assert caps(rules)[Account("user=ann", "day", DAY)].nano == 10**9


def test_what_is_granted_is_added_until_it_ends() -> None:
    rules = Rules({"global": Limit(usd=5, tokens=10, per="day")})
    rules.lay_over([StoredLimit("", "day", nano=10**9, source="granted", until=NOON + 60)])
    account = Account("", "day", DAY)
    assert (caps(rules)[account].nano, caps(rules)[account].tokens) == (6 * 10**9, 10)
    assert caps(rules, now=NOON + 60)[account].nano == 5 * 10**9


def test_what_is_granted_to_one_run_is_not_given_to_another() -> None:
    rules = Rules({"global": Limit(calls=5, per="run")})
    rules.lay_over([StoredLimit("", "run", calls=2, source="granted", scope="r")])
    assert caps(rules)[Account("", "run", 0, "r")].calls == 7
    assert caps(rules, run="other")[Account("", "run", 0, "other")].calls == 5


def test_a_limit_that_was_set_may_end_by_itself() -> None:
    rules = Rules({"global": Limit(usd=5, per="day")})
    rules.lay_over([StoredLimit("", "day", nano=10**9, until=NOON + 60)])
    account = Account("", "day", DAY)
    assert caps(rules)[account].nano == 10**9
    assert caps(rules, now=NOON + 60)[account].nano == 5 * 10**9


# --- what cannot work ---


@pytest.mark.parametrize(
    "limits",
    [
        {},
        [],
        {"global": 5},
        {"global": []},
        {"global": [5]},
        {"global": "5"},
        {"a//b": Limit(usd=1)},
        {"global": Limit(usd=1), "": Limit(usd=2)},
        {"global": [Limit(usd=1), Limit(tokens=2)]},
    ],
)
def test_limits_that_cannot_be_read_are_refused(limits: Any) -> None:
    with pytest.raises(ConfigurationError, match="limits="):
        Rules(limits)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"usd": 0},
        {"usd": -1},
        {"usd": "1e12"},
        {"usd": "NaN"},
        {"usd": 0.1 + 0.2},
        {"tokens": 0},
        {"tokens": 2.5},
        {"calls": -3},
        {"calls": True},
        {"usd": 1, "per": "year"},
        {"usd": 1, "timezone": "Mars/Olympus"},
        {"usd": 1, "hard": "yes"},
        {"usd": 1, "alert_at": 0.8},
        {"usd": 1, "alert_at": [0]},
        {"usd": 1, "alert_at": ["a"]},
    ],
)
def test_a_limit_that_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Limit(**settings)


def test_a_limit_says_what_it_is() -> None:
    assert str(Limit(usd=0.25, tokens=1000, per="day")) == "$0.25 and 1,000 tokens per day"
    assert str(Limit(calls=1)) == "1 call in all"
    assert Limit(usd=5) == Limit(usd="5.00")
