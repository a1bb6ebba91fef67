"""The rules of a ledger: whatever is asked in whatever order, and however much of it at once, the books are right."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.machine import Command, Expire, Machine, Release, Renew, Reserve, Settle
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.budget.ledgers.words import NOTHING, Account, Balance, Cap, Expired, Granted, Refusal
from langchain_tokopt.database import Database

ROOT = Account("", "day")
TEAMS = [Account(f"team={name}", "day") for name in "ab"]
USERS = [Account(f"{team.node}/user={name}", "day") for team in TEAMS for name in "12"]
LIMITS = {ROOT: Amount(200, 90, 6), TEAMS[0]: Amount(120, 50, 4), USERS[0]: Amount(60, 40, 2)}
SECONDS = 60.0

amounts = st.builds(
    Amount, st.sampled_from([0, 1, 5, 20, 60]), st.sampled_from([0, 1, 10, 40]), st.sampled_from([0, 1, 1, 2])
)
users = st.sampled_from(USERS)
names = st.integers(0, 30).map(str)


def way(user: Account) -> tuple[Account, ...]:
    """The accounts that a user's calls are counted on, from the root down."""
    return ROOT, Account(user.node.partition("/")[0], "day"), user


def cap(account: Account) -> Cap:
    limit = LIMITS.get(account)
    return Cap(account) if limit is None else Cap(account, limit.nano, limit.tokens, limit.calls)


def total(amounts: Any) -> Amount:
    return sum(amounts, NOTHING)


class Books(RuleBasedStateMachine):
    """The machine and a ledger on a database get the same commands; a plain account of it all says what is right."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.database = Database()
        self.ledger = SqlLedger(self.database)
        self.now = 0.0
        self.waiting: list[tuple[Command[Any], object]] = []
        self.made: dict[str, tuple[Account, Amount]] = {}
        self.held: dict[str, float] = {}
        self.settled: set[str] = set()
        self.spent = dict.fromkeys(USERS, NOTHING)
        self.over = dict.fromkeys(USERS, NOTHING)

    def teardown(self) -> None:
        self.database.close()

    def ask(self, command: Command[Any]) -> Any:
        """The machine's answer; the ledger is asked together with what comes before the next look at the books."""
        answer = command.decide(self.machine)
        self.waiting.append((command, answer))
        return answer

    def taken(self, account: Account) -> Amount:
        """What is spent and held under an account."""
        held = total(amount for name, (user, amount) in self.made.items() if name in self.held and account in way(user))
        return held + total(spent for user, spent in self.spent.items() if account in way(user))

    @rule(name=names, user=users, amount=amounts)
    def reserve(self, name: str, user: Account, amount: Amount) -> None:
        caps = tuple(map(cap, way(user)))
        known = name in self.made
        short = [
            one
            for one in caps
            for taken, asked, limit in zip(
                as_tuple(self.taken(one.account)), as_tuple(amount), (one.nano, one.tokens, one.calls), strict=True
            )
            if limit is not None and asked and taken + asked > limit
        ]
        answer = self.ask(Reserve(name, caps, amount, user.node, self.now, self.now + SECONDS))
        if known or not short:
            assert isinstance(answer, Granted)
        else:
            assert isinstance(answer, Refusal)
            assert [one.cap for one in answer.short] == list(dict.fromkeys(short))
            assert [one.balance.taken for one in answer.short] == [self.taken(one.cap.account) for one in answer.short]
        if not known and not short:
            self.made[name] = (user, amount)
            self.held[name] = self.now + SECONDS

    @rule(name=names, user=users, actual=amounts)
    def settle(self, name: str, user: Account, actual: Amount) -> None:
        self._settle(name, user, actual)

    @rule(name=names, user=users, much=st.integers(-1, 1))
    def settle_about_what_was_reserved(self, name: str, user: Account, much: int) -> None:
        reserved = self.made[name][1] if name in self.made else NOTHING
        self._settle(name, user, Amount(*(max(0, one + much) for one in as_tuple(reserved))))

    def _settle(self, name: str, user: Account, actual: Amount) -> None:
        answer = self.ask(Settle(name, actual, way(user), user.node, self.now))
        if name in self.settled:
            assert (answer.outcome, answer.over) == ("again", NOTHING)
            return
        held = self.held.pop(name, None) is not None
        user, reserved = self.made.setdefault(name, (user, NOTHING))
        over = actual.beyond(reserved) if held else actual
        assert (answer.outcome, answer.over) == ("settled" if held else "late", over)
        self.settled.add(name)
        self.spent[user] += actual
        self.over[user] += over

    @rule(name=names)
    def release(self, name: str) -> None:
        held = self.held.pop(name, None) is not None
        assert self.ask(Release(name, self.now)) == (self.made[name][1] if held else None)

    @rule(name=names)
    def renew(self, name: str) -> None:
        assert self.ask(Renew(name, self.now + 2 * SECONDS)) is (name in self.held)
        if name in self.held:
            self.held[name] = self.now + 2 * SECONDS

    @rule(seconds=st.sampled_from([0.5, 29.5, 30.0, SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.waiting)
    @rule()
    def sweep(self) -> None:
        expected = [
            Expired(name, self.made[name][0].node, self.made[name][1])
            for name, until in sorted(self.held.items())
            if until <= self.now
        ]
        assert [Expire(one.reservation, self.now).decide(self.machine) for one in expected] == expected
        assert sorted(self.ledger.sweep(now=self.now), key=lambda one: one.reservation) == expected
        for one in expected:
            del self.held[one.reservation]

    @rule()
    def look(self) -> None:
        """The ledger does in one transaction what the machine did one by one."""
        answers = self.ledger._serve([command for command, _ in self.waiting])
        assert answers == [answer for _, answer in self.waiting]
        self.waiting.clear()
        accounts = [ROOT, *TEAMS, *USERS]
        assert self.ledger.balances(accounts) == self.machine.of(accounts)
        assert self.ledger.reconcile(now=self.now) == []

    @invariant()
    def no_limit_is_passed_but_by_what_was_booked_as_overage(self) -> None:
        for account, limit in LIMITS.items():
            balance = self.machine.of([account])[account]
            over = total(over for user, over in self.over.items() if account in way(user))
            assert balance.taken.beyond(limit + over) == NOTHING
            assert balance.taken == self.taken(account)

    @invariant()
    def parents_have_the_sums_of_their_children(self) -> None:
        balances = self.machine.of([ROOT, *TEAMS, *USERS])
        for parent in (ROOT, *TEAMS):
            below = [balances[user] for user in USERS if parent in way(user)]
            assert balances[parent] == Balance(total(one.spent for one in below), total(one.held for one in below))

    @invariant()
    def the_journal_has_the_sums_of_the_counters(self) -> None:
        for account, balance in self.machine.of([ROOT, *TEAMS, *USERS]).items():
            lines = [line for line in self.machine.lines if account in line.accounts]
            assert Balance(total(line.spent for line in lines), total(line.held for line in lines)) == balance
            overage = total(line.spent for line in lines if line.action == "overage")
            assert overage == total(over for user, over in self.over.items() if account in way(user))


def as_tuple(amount: Amount) -> tuple[int, int, int]:
    return amount.nano, amount.tokens, amount.calls


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
