"""How the counters of a budget in Redis are rebuilt from its journal, while others go on spending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from langchain_tokopt.budget.ledgers.redis_keys import Keys, account_of, accounts_in, distinct, name_of
from langchain_tokopt.budget.ledgers.redis_replies import amount_of, balances_of, text
from langchain_tokopt.budget.ledgers.redis_server import RedisServer
from langchain_tokopt.budget.ledgers.words import Account, Balance, Correction

_LINES_A_PAGE = 1000
_ACCOUNTS_A_STEP = 200
# Renewed with each page; without it a long journal could be shortened again and again before its end is reached.
_PAUSE_MILLISECONDS = 60_000
# What a script may have to add by itself; when more was written since the last page, that is read first.
_LINES_A_STEP = 500


@dataclass(slots=True)
class Recount:
    """What all lines of the journal, up to some line, add up to.

    A script that summed up the whole journal would keep the server busy for as long as that takes. The sums are made
    here instead, and a script that corrects a few accounts first adds the lines that were written since: for these
    accounts that is one step, and each account's counter has to agree with the journal for itself alone.
    """

    server: RedisServer
    keys: Keys
    after: str = "-"
    carried: str = ""
    sums: dict[Account, Balance] = field(default_factory=dict)

    def corrections(self) -> list[Correction]:
        """The counters that were wrong and are right now, in the order of their accounts."""
        corrected: dict[Account, Correction] = {}
        while not self._correct_all(corrected):
            pass
        self.server.run("recounted", [self.keys("recounting")], [])
        return [corrected[account] for account in sorted(corrected)]

    def _correct_all(self, corrected: dict[Account, Correction]) -> bool:
        """Whether it came to the end: no line was carried forward since it began."""
        self._begin()
        self._read()
        for name in self._names():
            self.sums.setdefault(account_of(name), Balance())
        accounts = sorted(self.sums)
        for start in range(0, len(accounts), _ACCOUNTS_A_STEP):
            corrections = self._correct(accounts[start : start + _ACCOUNTS_A_STEP])
            if corrections is None:
                return False
            corrected.update((one.account, one) for one in corrections)
        return True

    def _begin(self) -> None:
        """Begin with what earlier lines add up to that are no longer kept."""
        self.after, self.sums, cursor = "-", {}, "0"
        keys = [self.keys("carried"), self.keys("recounting")]
        while True:
            raw, until, found = self.server.run("carried", keys, [cursor, _PAUSE_MILLISECONDS])
            if cursor == "0":
                self.carried = text(until)
            cursor = text(raw)
            for name, sums in zip(found[::2], found[1::2], strict=True):
                if name != b"until":
                    self.sums[account_of(text(name))] = balances_of(sums)[0]
            if cursor == "0":
                return

    def _read(self) -> None:
        """Add up what was written since the last time."""
        keys = [self.keys("journal"), self.keys("recounting")]
        while True:
            lines = self.server.run("history", keys, [self.after, _LINES_A_PAGE, _PAUSE_MILLISECONDS])
            for _, accounts, spent, held in lines:
                change = Balance(amount_of(spent), amount_of(held))
                for account in accounts_in(text(accounts)):
                    sum_ = self.sums.get(account, Balance())
                    self.sums[account] = Balance(sum_.spent + change.spent, sum_.held + change.held)
            if lines:
                self.after = f"({text(lines[-1][0])}"
            if len(lines) < _LINES_A_PAGE:
                return

    def _names(self) -> Iterator[str]:
        """The accounts that were ever used, also those that the journal has nothing about."""
        cursor = "0"
        while True:
            raw, names = self.server.run("names", [self.keys("balances")], [cursor])
            yield from map(text, names)
            cursor = text(raw)
            if cursor == "0":
                return

    def _correct(self, accounts: Sequence[Account]) -> list[Correction] | None:
        """What was wrong with some accounts; `None` when the sums have to be made anew."""
        names = [name_of(account) for account in accounts]
        fixed = [self.keys("journal"), self.keys("balances"), self.keys("carried")]
        keys = [*fixed, *distinct(map(self.keys.index, names))]
        while True:
            arguments: list[str | float] = [self.keys.base, self.after, _LINES_A_STEP, self.carried]
            for name, account in zip(names, accounts, strict=True):
                spent, held = self.sums[account].spent, self.sums[account].held
                amounts = (spent.nano, spent.tokens, spent.calls, held.nano, held.tokens, held.calls)
                arguments += [name, " ".join(map(str, amounts))]
            wrong = self.server.run("correct", keys, arguments)
            if wrong == b"shortened":
                return None
            if wrong != b"behind":
                return [
                    Correction(account_of(text(name)), balances_of(before)[0], balances_of(after)[0])
                    for name, before, after in wrong
                ]
            self._read()
