"""Learns from answers: compares stored ones with the model's, and with each other, where nobody waits for it."""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokopt.cache.answers import UnreadableError, read
from langchain_tokopt.cache.decision import Neighbour, Verdict
from langchain_tokopt.cache.decision.evidence import propose
from langchain_tokopt.cache.decision.learned import Learned
from langchain_tokopt.cache.decision.record import Label
from langchain_tokopt.cache.judging import Bench, same_text
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from langchain_tokopt.cache.chores import Chores
    from langchain_tokopt.cache.store import AnswerStore

_WAITING: Final = 2_000  # comparisons; when more are waiting, the oldest are given up
_REHEARSED: Final = 600  # stored questions that are asked again in one rehearsal
_DOUBTFUL: Final = 0.5  # risk from which two answers are taken to differ without a comparison
_STRANGERS: Final = 0.05  # of all comparisons another one is made, of answers that should differ
_UNRELATED: Final = 0.3  # similarity of two questions whose answers should differ


class Comparing:
    """Compares answers in the background and tells the decision what came of it.

    Args:
        store: Where the answers are.
        learned: Is told.
        bench: Judges.
        chores: Does the work.
        candidates: With how many different answers a new one is compared at most.
        seed: Of the lot.

    Attributes:
        given_up: Comparisons that were not made because too many were waiting.
    """

    def __init__(
        self,
        *,
        store: AnswerStore,
        learned: Learned,
        bench: Bench,
        chores: Chores,
        candidates: int,
        seed: int | None = None,
    ) -> None:
        self._store = store
        self._learned = learned
        self._bench = bench
        self._chores = chores
        self._candidates = candidates
        self._lot = random.Random(seed)  # noqa: S311 - no secret
        self._numbers = np.random.default_rng(seed)
        self.given_up = 0
        self._start_anew()
        follow_forks(self)

    def _start_anew(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    # --- what is compared --------------------------------------------------------------------------------------------

    def stored(self, question: str, verdict: Verdict, entry: int, answer: str) -> None:
        """The model was asked, and its `answer` stored as `entry`: does a near question have the same one?"""
        if verdict.near:
            self._soon(lambda: self._after_a_miss(question, verdict, entry, answer))

    def audited(self, question: str, verdict: Verdict, given: str, answer: str, wrong: Callable[[], None]) -> None:
        """The stored answer `given` was served and the model asked beside; `wrong` is called if it says otherwise."""

        def work() -> None:
            same = self._bench.same(question, given, answer)
            if same is None:
                return
            self._learned.compared(verdict, same=same)
            if not same:
                wrong()

        self._soon(work)

    def twins(self, question: str, one: str, other: str) -> None:
        """Two answers to the very same question: if the judge tells them apart, that is its error."""

        def work() -> None:
            same = self._bench.same(question, one, other)
            if same is not None:
                self._learned.judged_twins(same=same)

        self._soon(work)

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Whether all comparisons that were asked for are made, within this time."""
        return self._chores.settle(timeout_seconds)

    # --- the work ----------------------------------------------------------------------------------------------------

    def _soon(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append(work)
            if len(self._waiting) > _WAITING:
                self._waiting.popleft()
                self.given_up += 1
        self._chores.ask("comparing answers", self._work_off)

    def _work_off(self) -> None:
        try:
            while self._chores.wanted and (work := self._next()) is not None:
                work()
        finally:  # one that fails does not keep the others from being made
            with self._lock:
                left = bool(self._waiting)
            if left:
                self._chores.ask("comparing answers", self._work_off)

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _after_a_miss(self, question: str, verdict: Verdict, entry: int, answer: str) -> None:
        candidates = _one_of_each(verdict)[: self._candidates]
        texts = self._texts([neighbour.id for neighbour in candidates])
        for place, neighbour in enumerate(candidates):
            text = texts.get(neighbour.id)
            same = None if text is None else self._bench.same(question, text, answer)
            if same is None:
                return
            if place == 0 and verdict.neighbour is not None and neighbour.answer == verdict.neighbour.answer:
                self._learned.compared(verdict, same=same)
            if same:
                self._store.set_answer(entry, neighbour.answer)
                break
        if self._lot.random() < _STRANGERS:
            self._compare_strangers(question, verdict, answer)

    def _compare_strangers(self, question: str, verdict: Verdict, answer: str) -> None:
        far = verdict.near[-1]
        if far.similarity < _UNRELATED:
            text = self._texts([far.id]).get(far.id)
            if text is None or same_text(question, text, answer):
                return  # one answer to two questions that look unrelated: the judge would be right
            same = self._bench.same(question, text, answer)
            if same is not None:
                self._learned.judged_strangers(same=same)

    def _texts(self, ids: Sequence[int]) -> dict[int, str]:
        return {
            entry: text
            for entry, payload in self._store.answer_texts(ids).items()
            if (text := answer_text(payload)) is not None
        }

    # --- rehearsal ---------------------------------------------------------------------------------------------------

    def rehearse(self) -> list[Label]:
        """Labels of stored questions, each looked for as if it were asked now and were not stored.

        Whether the proposed answer is its own is known without the model. Where it is another one that seems sure,
        their texts are compared: they may be the same answer, stored twice, and are one from then on. Only our own
        judges are quick enough for that.
        """
        if not self._bench.quick:
            return []
        labels = []
        moved: dict[int, int] = {}
        read_question = self._learned.read_question
        for one in self._store.neighbourhoods(_REHEARSED, self._numbers):
            if not one.near:
                continue
            proposal = propose(read_question(one.text), one.vector, one.near, one.vectors, read_question)
            proposed = _now(moved, proposal.neighbour.answer)
            own = _now(moved, one.answer)
            same = proposed == own
            if not same and self._learned.risk(proposal.features) < _DOUBTFUL:
                texts = self._texts([one.id, proposal.neighbour.id])
                if len(texts) == 2 and self._bench.same(one.text, texts[proposal.neighbour.id], texts[one.id]):
                    self._store.regroup(own, proposed)
                    moved[own] = proposed
                    same = True
            labels.append(Label(proposal.features, same))
        return labels

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Nothing to do: the chores come to rest, and what waits is the parent's to compare."""

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """What is waiting would be learned twice."""
        self._start_anew()


def _one_of_each(verdict: Verdict) -> list[Neighbour]:
    """The nearest neighbour with each answer, the proposed answer first."""
    first = [verdict.neighbour] if verdict.neighbour is not None else []
    found = {neighbour.answer: neighbour for neighbour in reversed([*first, *verdict.near])}
    order = dict.fromkeys(neighbour.answer for neighbour in [*first, *verdict.near])
    return [found[answer] for answer in order]


def _now(moved: dict[int, int], answer: int) -> int:
    while answer in moved:
        answer = moved[answer]
    return answer


def answer_text(payload: str) -> str | None:
    """What a stored answer says, `None` if it cannot be read."""
    try:
        found = read(payload, [AIMessage, ToolMessage, Generation, ChatGeneration])
    except UnreadableError:
        return None
    first = found[0] if isinstance(found, list) and found else None
    if isinstance(first, ChatGeneration):
        first = first.message
    if isinstance(first, AIMessage):
        return first.text or json.dumps([call["args"] for call in first.tool_calls], sort_keys=True, default=str)
    return first.text if isinstance(first, Generation) else None
