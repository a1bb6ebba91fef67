"""Has the decider choose among the neighbours of a question, and reads the answer that it chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.cache.decision import Decider, Neighbour, Verdict
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.cache.entries import Entries, Entry
    from langchain_tokopt.cache.replica import Replica

_CHARACTERS: Final = 4_000_000  # of hot answers kept in memory


class _RemovedError(Exception):
    """A neighbour was removed after it was found; its id."""


class Choosing:
    """Answers that are chosen for questions; the hot ones are kept in memory. Thread-safe.

    Args:
        entries: The database's side.
        decider: Chooses.
        neighbours: How many near questions it is shown.
    """

    def __init__(self, entries: Entries, decider: Decider, *, neighbours: int) -> None:
        self._entries = entries
        self._decider = decider
        self._neighbours = neighbours
        self.forget()

    def choose(
        self, replica: Replica, question: str, vector: NDArray[np.float32], now: float
    ) -> tuple[Verdict, Entry | None]:
        """The verdict on the question's neighbours, and the entry that is served, `None` if none is.

        If the chosen entry is gone by now, the verdict says that it is not served, and the decider is told.
        """
        verdict = self._decided(replica, question, vector, now)
        chosen = verdict.neighbour
        if chosen is None or not verdict.serve:
            return verdict, None
        entry = None
        try:
            entry = self._read(chosen)
        finally:
            if entry is None:
                self.withdraw(verdict)
        if entry is None:
            verdict = replace(verdict, serve=False, audit=False, reason="removed in the meantime")
        return verdict, entry

    def withdraw(self, verdict: Verdict) -> None:
        """Tell the decider that what it let be given was not given."""
        withdrawn = getattr(self._decider, "withdrawn", None)
        if withdrawn is not None:
            withdrawn(verdict)

    def _decided(self, replica: Replica, question: str, vector: NDArray[np.float32], now: float) -> Verdict:
        near = replica.nearest(vector, self._neighbours, now)
        while True:
            try:
                verdict = self._decider.decide(question, vector, near, partial(_vectors, replica, near))
            except _RemovedError as gone:
                near = [neighbour for neighbour in near if neighbour.id != gone.args[0]]
            else:
                return verdict if verdict.near else replace(verdict, near=tuple(near))

    def _read(self, chosen: Neighbour) -> Entry | None:
        """The entry at this revision. One from memory is as good: any change would have made a new revision."""
        hot = self._hot.get((chosen.id, chosen.revision))
        if hot is None:
            hot = self._entries.read(chosen.id, chosen.revision)
            if hot is not None:
                self.remember(hot)
        return hot

    def remember(self, entry: Entry) -> None:
        """Keep an entry in memory, for as long as there is room."""
        self._hot.put((entry.id, entry.revision), entry, weight=len(entry.payload))

    def forget(self) -> None:
        """Keep none of those that are in memory."""
        self._hot: WeightedMemo[Entry] = WeightedMemo(weight_limit=_CHARACTERS)


def _vectors(replica: Replica, near: Sequence[Neighbour]) -> NDArray[np.float32]:
    try:
        return replica.vectors([neighbour.id for neighbour in near])
    except KeyError as error:
        raise _RemovedError(*error.args) from None
