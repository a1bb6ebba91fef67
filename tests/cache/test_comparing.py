"""What is learned from answers: which are compared, what the decision is told, and that nothing holds it up."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation

import langchain_tokopt.cache.comparing as comparing_module
from langchain_tokopt.cache.chores import Chores
from langchain_tokopt.cache.comparing import Comparing, answer_text
from langchain_tokopt.cache.decision import Neighbour, Verdict
from langchain_tokopt.cache.decision.evidence import FEATURES
from langchain_tokopt.cache.judging import Bench, same_text
from langchain_tokopt.cache.neighbourhoods import Neighbourhood
from langchain_tokopt.cache.reading import prepare

WAIT = 20.0
ROW = np.zeros(len(FEATURES))


def payload(text: str) -> str:
    return dumps([AIMessage(text)])


@dataclass
class Store:
    """Holds answers by id, and notes which were put together."""

    answers: dict[int, str] = field(default_factory=dict)
    around: list[Neighbourhood] = field(default_factory=list)
    put: list[tuple[int, int]] = field(default_factory=list)
    merged: list[tuple[int, int]] = field(default_factory=list)

    def answer_texts(self, ids: Any) -> dict[int, str]:
        return {one: payload(self.answers[one]) for one in ids if one in self.answers}

    def set_answer(self, entry: int, answer: int) -> bool:
        self.put.append((entry, answer))
        return True

    def regroup(self, answer: int, into: int) -> int:
        self.merged.append((answer, into))
        return 1

    def neighbourhoods(self, count: int, rng: np.random.Generator) -> list[Neighbourhood]:
        return self.around[:count]


@dataclass
class Told:
    """What the decision was told."""

    compared_: list[tuple[Verdict, bool]] = field(default_factory=list)
    twins: list[bool] = field(default_factory=list)
    strangers: list[bool] = field(default_factory=list)
    known_risk: float = 0.1

    def compared(self, verdict: Verdict, *, same: bool) -> None:
        self.compared_.append((verdict, same))

    def judged_twins(self, *, same: bool) -> None:
        self.twins.append(same)

    def judged_strangers(self, *, same: bool) -> None:
        self.strangers.append(same)

    def risk(self, features: Any) -> float:
        return self.known_risk

    def read_question(self, question: str) -> Any:
        return prepare(question)


class Setting:
    """Comparisons with all that they need, made when they are settled."""

    def __init__(
        self,
        judge: Callable[[str, str, str], Any] = same_text,
        *,
        quick: bool = True,
        candidates: int = 8,
        **answers: str,
    ) -> None:
        self.store = Store({int(key[1:]): text for key, text in answers.items()})
        self.told = Told()
        self.chores = Chores()
        self.asked: list[tuple[str, str]] = []

        def noting(question: str, stored: str, new: str) -> Any:
            self.asked.append((stored, new))
            return judge(question, stored, new)

        self.bench = Bench(noting, timeout_seconds=WAIT, quick=quick)
        self.comparing = Comparing(
            store=self.store,  # type: ignore[arg-type]
            learned=self.told,  # type: ignore[arg-type]
            bench=self.bench,
            chores=self.chores,
            candidates=candidates,
            seed=0,
        )
        self.strangers(False)

    def strangers(self, wanted: bool) -> None:
        self.comparing._lot.random = lambda: 0.0 if wanted else 1.0  # type: ignore[method-assign]

    def settle(self) -> None:
        assert self.comparing.settle(WAIT)


def near(*groups: int, last: float = 0.7) -> tuple[Neighbour, ...]:
    """Neighbours 1, 2, ... that hold the answers of these groups, the nearest first."""
    step = (0.95 - last) / max(1, len(groups) - 1)
    return tuple(Neighbour(n, 1, f"question {n}", 0.95 - step * (n - 1), group) for n, group in enumerate(groups, 1))


def verdict(neighbours: Sequence[Neighbour], proposed: int = 0, **fields: Any) -> Verdict:
    return Verdict(neighbour=neighbours[proposed], near=tuple(neighbours), features=ROW, **fields)


# --- after a miss ----------------------------------------------------------------------------------------------------


def test_a_new_answer_is_compared_with_the_proposed_one_and_joins_its_group() -> None:
    setting = Setting(_1="By card.", _2="In cash.")
    given = verdict(near(1, 2))
    setting.comparing.stored("How?", given, 9, "by card")
    setting.settle()
    assert setting.asked == [("By card.", "by card")]
    assert setting.told.compared_ == [(given, True)]
    assert setting.store.put == [(9, 1)]


def test_it_is_compared_with_the_others_until_one_is_the_same_and_only_the_proposed_one_is_a_label() -> None:
    setting = Setting(_1="By card.", _2="By card.", _3="In cash.", _4="By cheque.")
    given = verdict(near(1, 1, 3, 4), proposed=1)
    setting.comparing.stored("How?", given, 9, "In cash.")
    setting.settle()
    assert setting.asked == [("By card.", "In cash."), ("In cash.", "In cash.")]
    assert setting.told.compared_ == [(given, False)]
    assert setting.store.put == [(9, 3)]


def test_the_proposed_answer_comes_first_wherever_it_lies() -> None:
    setting = Setting(_1="In cash.", _2="By card.", _3="By card.")
    given = verdict(near(1, 2, 2), proposed=2)
    setting.comparing.stored("How?", given, 9, "Not at all.")
    setting.settle()
    assert setting.asked == [("By card.", "Not at all."), ("In cash.", "Not at all.")]
    assert setting.told.compared_ == [(given, False)]
    assert setting.store.put == []


def test_only_so_many_are_compared() -> None:
    setting = Setting(candidates=2, _1="a", _2="b", _3="new")
    setting.comparing.stored("How?", verdict(near(1, 2, 3)), 9, "new")
    setting.settle()
    assert [stored for stored, _ in setting.asked] == ["a", "b"]
    assert setting.store.put == []


def test_where_nothing_is_near_nothing_is_compared() -> None:
    setting = Setting()
    setting.comparing.stored("How?", Verdict(reason="nothing stored"), 9, "new")
    setting.settle()
    assert (setting.asked, setting.told.compared_) == ([], [])


@pytest.mark.parametrize("gone", [True, False])
def test_without_an_opinion_or_an_answer_there_is_no_label(gone: bool) -> None:
    setting = Setting(lambda *_: "who knows", **({} if gone else {"_1": "By card."}))
    setting.comparing.stored("How?", verdict(near(1, 2)), 9, "By card.")
    setting.settle()
    assert len(setting.asked) == (0 if gone else 1)
    assert (setting.told.compared_, setting.store.put) == ([], [])


def test_a_verdict_without_a_proposal_groups_and_teaches_nothing() -> None:
    setting = Setting(_1="By card.")
    setting.comparing.stored("How?", Verdict(reason="nothing similar", near=near(1)), 9, "By card.")
    setting.settle()
    assert (setting.told.compared_, setting.store.put) == ([], [(9, 1)])


# --- audits and the judge's own errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "same"), [("By card!", True), ("In cash.", False)])
def test_an_audit_is_a_label_and_a_wrong_answer_is_put_right(answer: str, same: bool) -> None:
    setting, wrong = Setting(), []
    given = verdict(near(1), serve=True, audit=True, audit_rate=0.5, risk=0.01)
    setting.comparing.audited("How?", given, "By card.", answer, lambda: wrong.append(answer))
    setting.settle()
    assert setting.told.compared_ == [(given, same)]
    assert wrong == ([] if same else [answer])


def test_an_audit_without_an_opinion_puts_nothing_right() -> None:
    setting, wrong = Setting(lambda *_: None), []
    setting.comparing.audited("How?", verdict(near(1)), "a", "b", lambda: wrong.append("b"))
    setting.settle()
    assert (setting.told.compared_, wrong, setting.bench.failures) == ([], [], 1)


@pytest.mark.parametrize(("other", "same"), [("a", True), ("b", False)])
def test_two_answers_to_one_question_show_what_the_judge_errs_on(other: str, same: bool) -> None:
    setting = Setting()
    setting.comparing.twins("How?", "a", other)
    setting.settle()
    assert setting.told.twins == [same]
    assert setting.told.compared_ == []


def test_one_text_for_two_unrelated_questions_is_no_error_of_the_judge() -> None:
    setting = Setting(_1="By card.", _2="At nine.")
    setting.strangers(True)
    setting.comparing.stored("How?", verdict(near(1, 2, last=0.2)), 9, "At nine.")
    setting.settle()
    assert setting.told.strangers == []


@pytest.mark.parametrize(("last", "seen"), [(0.29, [False]), (0.3, [])])
def test_now_and_then_answers_to_unrelated_questions_are_compared(last: float, seen: list[bool]) -> None:
    setting = Setting(_1="By card.", _2="At nine.")
    setting.strangers(True)
    setting.comparing.stored("How?", verdict(near(1, 2, last=last)), 9, "By card.")
    setting.settle()
    assert setting.told.strangers == seen


# --- the queue -------------------------------------------------------------------------------------------------------


def test_when_too_many_wait_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing_module, "_WAITING", 3)
    go, begun = threading.Event(), threading.Event()

    def judge(question: str, stored: str, new: str) -> bool:
        begun.set()
        assert go.wait(WAIT)
        return True

    setting = Setting(judge)
    setting.comparing.twins("?", "first", "")
    assert begun.wait(WAIT)  # it is being compared, and waits no longer
    for number in range(5):
        setting.comparing.twins("?", str(number), "")
    assert setting.comparing.given_up == 2
    go.set()
    setting.settle()
    assert [stored for stored, _ in setting.asked] == ["first", "2", "3", "4"]


def test_a_comparison_that_fails_does_not_keep_the_others_from_being_made(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()

    def fails() -> None:
        raise OSError("disk full")

    for number in range(3):
        setting.comparing.audited("?", verdict(near(1)), "a", f"b{number}", fails)
    setting.settle()
    assert len(setting.told.compared_) == 3
    assert setting.chores.failures == 3
    assert [record.message for record in caplog.records] == [
        "the cache could not do a chore (comparing answers): OSError: disk full"
    ]


def test_what_waits_when_it_is_closed_is_not_compared() -> None:
    setting = Setting()
    setting.chores.close()
    setting.comparing.twins("?", "a", "b")
    setting.settle()
    assert setting.asked == []


def test_the_child_of_a_fork_does_not_compare_again_what_waits_in_the_parent() -> None:
    setting = Setting()
    setting.chores.before_fork()
    setting.comparing.twins("?", "parent's", "")
    setting.chores.after_fork_in_child()
    setting.comparing.after_fork_in_child()
    setting.comparing.twins("?", "child's", "")
    setting.settle()
    assert setting.asked == [("child's", "")]


def test_what_was_asked_for_during_a_fork_is_compared_after_it_in_the_parent() -> None:
    setting = Setting()
    setting.chores.before_fork()
    setting.comparing.twins("?", "a", "")
    setting.chores.after_fork_in_parent()
    setting.settle()
    assert setting.asked == [("a", "")]


# --- rehearsal -------------------------------------------------------------------------------------------------------


def around(entry: int, answer: int, neighbours: Sequence[Neighbour]) -> Neighbourhood:
    vectors = np.eye(max(2, len(neighbours)), 4, dtype=np.float32)[: len(neighbours)]
    return Neighbourhood(
        scope="s",
        id=entry,
        text=f"question {entry}",
        answer=answer,
        vector=np.eye(4, dtype=np.float32)[0],
        near=tuple(neighbours),
        vectors=vectors,
    )


def test_a_rehearsal_knows_whether_the_proposed_answer_is_its_own() -> None:
    setting = Setting()
    setting.told.known_risk = 0.9  # doubtful: no texts are compared
    setting.store.around = [around(5, 1, near(1)), around(6, 6, near(1)), around(7, 7, ())]
    labels = setting.comparing.rehearse()
    assert [(label.same, label.weight, label.risk) for label in labels] == [(True, 1.0, None), (False, 1.0, None)]
    assert labels[0].features.shape == (len(FEATURES),)
    assert setting.asked == []


def test_answers_that_turn_out_to_be_the_same_are_one_from_then_on() -> None:
    setting = Setting(_1="By card.", _6="by card", _7="By card!", _8="In cash.")
    # 6 joins the group of 1; 7 was in the group of 6, and 8 says something else.
    setting.store.around = [around(6, 6, near(1)), around(7, 6, near(1)), around(8, 8, near(1))]
    assert [label.same for label in setting.comparing.rehearse()] == [True, True, False]
    assert setting.store.merged == [(6, 1)]
    assert setting.asked == [("By card.", "by card"), ("By card.", "In cash.")]


def test_a_judge_that_costs_something_is_not_asked_in_a_rehearsal() -> None:
    setting = Setting(quick=False, _1="By card.", _6="by card")
    setting.store.around = [around(6, 6, near(1))]
    assert setting.comparing.rehearse() == []
    assert setting.asked == []


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (dumps([AIMessage("By card.")]), "By card."),
        (dumps([AIMessage([{"type": "text", "text": "By "}, {"type": "text", "text": "card."}])]), "By card."),
        (dumps([ChatGeneration(message=AIMessage("one")), ChatGeneration(message=AIMessage("two"))]), "one"),
        (dumps([Generation(text="By card.")]), "By card."),
        ("[]", None),
        ("[1]", None),
        ("{", None),
        ("", None),
        (dumps([HumanMessage("By card.")]), None),
        (dumps([ToolMessage("x", tool_call_id="1")]), None),
    ],
)
def test_what_a_stored_answer_says(stored: str, text: str | None) -> None:
    assert answer_text(stored) == text


def test_a_structured_answer_says_its_values_in_any_order() -> None:
    one, other = (
        dumps([AIMessage("", tool_calls=[{"name": "V", "args": args, "id": "1", "type": "tool_call"}])])
        for args in ({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    )
    assert answer_text(one) == answer_text(other) == json.dumps([{"a": 1, "b": [2]}])
