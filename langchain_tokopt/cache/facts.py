"""What a process knows of many entries beside their vectors, in little memory."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np


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
    def of(cls, columns: Mapping[str, Any]) -> Facts:
        """The facts that `columns` gave.

        Raises:
            ValueError: They are no such columns.
        """
        facts = cls()
        facts._texts = list(columns["texts"])
        for name, to in (("revisions", facts._revisions), ("answers", facts._answers), ("expiries", facts._expiries)):
            to.frombytes(_numbers(columns[name], to.typecode).tobytes())
        ids = _numbers(columns["ids"], "q").tolist()
        if not len(facts._texts) == len(facts._revisions) == len(facts._answers) == len(facts._expiries) == len(ids):
            msg = "columns differ in length"
            raise ValueError(msg)
        facts._slots = dict(zip(ids, range(len(ids)), strict=True))
        return facts

    def columns(self) -> dict[str, Any]:
        """All facts for a file, as JSON can hold them: `texts` as a list, the numbers as text. For the writer only."""
        slots = np.fromiter(self._slots.values(), dtype=np.int64, count=len(self._slots))
        numbers = {"revisions": self._revisions, "answers": self._answers, "expiries": self._expiries}
        return {
            "ids": _written(np.fromiter(self._slots, dtype=np.int64, count=len(self._slots))),
            "texts": [self._texts[slot] for slot in slots],
            **{name: _written(np.array(column)[slots]) for name, column in numbers.items()},
        }

    def __len__(self) -> int:
        return len(self._slots)

    def ids(self) -> Iterable[int]:
        """The ids of all facts."""
        return self._slots.keys()

    def get(self, key: int) -> Fact | None:
        """The fact with this id, `None` if there is none. May be called while another thread writes."""
        slot = self._slots.get(key)
        while slot is not None:
            found = Fact(key, self._texts[slot], self._revisions[slot], self._expiries[slot], self._answers[slot])
            before, slot = slot, self._slots.get(key)
            if slot == before:
                return found
            # The slot may have been given to another meanwhile.
        return None

    def put(self, fact: Fact) -> None:
        """Note a fact; one with the same id is replaced: whoever reads it meanwhile finds the one or the other."""
        before = self._slots.get(fact.id)
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
        if before is not None:
            self._release(before)

    def drop(self, keys: Iterable[int]) -> None:
        """Forget these ids, where they are known."""
        for key in keys:
            slot = self._slots.pop(key, None)
            if slot is not None:
                self._release(slot)

    def _release(self, slot: int) -> None:
        self._texts[slot] = ""
        self._free.append(slot)


def _written(numbers: Any) -> str:
    little = numbers.astype(numbers.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def _numbers(written: str, typecode: str) -> Any:
    return np.frombuffer(base64.b64decode(written, validate=True), dtype=f"<{typecode}").astype(typecode)


def until(expires_at: float | None) -> float:
    """An expiry as a number."""
    return math.inf if expires_at is None else expires_at
