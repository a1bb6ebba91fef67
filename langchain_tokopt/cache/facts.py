"""What a process knows of many entries beside their vectors, in little memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Fact(NamedTuple):
    """A stored question. `expires_at`: Unix time, infinite for one that stays; `answer`: number of its group."""

    id: int
    text: str
    revision: int
    expires_at: float
    answer: int


class Facts:
    """Facts by id: an object for each would weigh four times as much as these columns. For one writer at a time."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._texts: list[str] = []
        self._revisions = array("q")
        self._answers = array("q")
        self._expiries = array("d")

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]]) -> Facts:
        """The facts that `columns` gave."""
        facts = cls()
        facts._texts = list(columns["texts"])
        facts._revisions = array("q", columns["revisions"])
        facts._answers = array("q", columns["answers"])
        facts._expiries = array("d", columns["expiries"])
        facts._slots = dict(zip(columns["ids"], range(len(facts._texts)), strict=True))
        if not len(facts._texts) == len(facts._revisions) == len(facts._answers) == len(facts._expiries):
            msg = "columns differ in length"
            raise ValueError(msg)
        return facts

    def columns(self) -> dict[str, list[Any]]:
        """All facts as lists of equal length, in any order: ids, texts, revisions, answers, expiries."""
        ids, slots = list(self._slots), list(self._slots.values())
        return {
            "ids": ids,
            "texts": [self._texts[slot] for slot in slots],
            "revisions": [self._revisions[slot] for slot in slots],
            "answers": [self._answers[slot] for slot in slots],
            "expiries": [self._expiries[slot] for slot in slots],
        }

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Fact]:
        for key in list(self._slots):
            fact = self.get(key)
            if fact is not None:
                yield fact

    def get(self, key: int) -> Fact | None:
        """The fact with this id, `None` if there is none. May be called while another thread writes."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        found = Fact(key, self._texts[slot], self._revisions[slot], self._expiries[slot], self._answers[slot])
        # The slot may have been given to another meanwhile.
        return found if self._slots.get(key) == slot else None

    def put(self, fact: Fact) -> None:
        """Note a fact; one with the same id is replaced."""
        self.drop([fact.id])
        if self._free:
            slot = self._free.pop()
            self._texts[slot] = fact.text
            self._revisions[slot] = fact.revision
            self._answers[slot] = fact.answer
            self._expiries[slot] = fact.expires_at
        else:
            slot = len(self._texts)
            self._texts.append(fact.text)
            self._revisions.append(fact.revision)
            self._answers.append(fact.answer)
            self._expiries.append(fact.expires_at)
        self._slots[fact.id] = slot

    def drop(self, keys: Iterable[int]) -> None:
        """Forget these ids, where they are known."""
        for key in keys:
            slot = self._slots.pop(key, None)
            if slot is not None:
                self._texts[slot] = ""
                self._free.append(slot)


def until(expires_at: float | None) -> float:
    """An expiry as a number."""
    return math.inf if expires_at is None else expires_at
