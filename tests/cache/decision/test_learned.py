"""The learned decision holds the error that the user sets, and loses nothing of what it learned."""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.cache.decision import steering
from langchain_tokopt.cache.decision.evidence import FEATURES
from langchain_tokopt.cache.decision.learned import Learned, check_settings
from langchain_tokopt.cache.decision.record import DatabaseRecord, Label, MemoryRecord
from langchain_tokopt.cache.decision.steering import Sums
from langchain_tokopt.cache.decision.verdict import Neighbour, Verdict
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from tests.cache.decision import streams
from tests.cache.decision.streams import Asked, ask, decide, play, share


def near(similarity: float, *, seed: int = 0, stored: str | None = None) -> Asked:
    """A question whose nearest neighbour is this near."""
    rng = random.Random(seed)
    while True:
        asked = ask(rng, stored=stored)
        if abs(asked.near[0].similarity - similarity) < 0.004:
            return asked


def trained(seed: int = 0, *, requests: int = 1_500, **settings: Any) -> Learned:
    learned = Learned(settings.pop("max_error", 0.02), seed=seed, **settings)
    play(learned, random.Random(seed), requests)
    assert learned.limit > 0.0
    return learned


# --- the beginning ---------------------------------------------------------------------------------------------------


def test_nothing_is_served_while_it_only_watches() -> None:
    learned = Learned(0.5, warm_up=300, seed=0)
    outcomes = play(learned, random.Random(0), 299, lambda _: 0.1)
    assert not any(one.served for one in outcomes)
    assert learned.limit == 0.0
    assert decide(learned, near(0.99)).reason == "not enough is known yet"
    assert any(one.served for one in play(learned, random.Random(1), 100, lambda _: 0.1))


def test_nothing_is_served_before_anything_was_compared() -> None:
    learned = Learned(0.5, warm_up=0)
    rng = random.Random(0)
    assert not any(decide(learned, ask(rng)).serve for _ in range(500))


def test_what_is_surely_right_is_served_afterwards_and_what_is_not_is_not() -> None:
    learned = trained()
    assert decide(learned, near(0.995)).serve
    far = decide(learned, near(0.6))
    assert (far.serve, far.audit, far.audit_rate) == (False, False, 0.0)
    assert far.reason == "the risk of a wrong answer is too high"
    assert far.risk is not None
    assert far.risk > 0.5


def test_it_also_serves_where_no_answer_was_ever_wrong() -> None:
    learned = Learned(0.02, seed=0)
    outcomes = play(learned, random.Random(0), 600, lambda _: 0.0)
    assert share(outcomes[300:], "served") > 0.8


def test_nothing_is_served_where_no_answer_was_ever_right() -> None:
    learned = Learned(0.02, seed=0)
    assert share(play(learned, random.Random(0), 800, lambda _: 1.0), "served") == 0.0


def test_a_question_with_nothing_near_is_no_proposal() -> None:
    learned = trained()
    asked = near(0.99)
    before = learned.sums.proposals
    assert decide(learned, replace(asked, near=[])).reason == "nothing stored"
    far = [replace(one, similarity=0.1) for one in asked.near]
    verdict = decide(learned, replace(asked, near=far))
    assert (verdict.reason, verdict.neighbour, verdict.serve) == ("nothing similar", None, False)
    learned.compared(verdict, same=True)  # there is nothing to learn from it
    assert learned.sums.proposals == before


@pytest.mark.parametrize("similarity", [float("nan"), float("-inf")])
def test_a_similarity_that_is_no_number_serves_nothing(similarity: float) -> None:
    learned = trained()
    asked = near(0.99)
    broken = [replace(one, similarity=similarity) for one in asked.near]
    assert not decide(learned, replace(asked, near=broken)).serve


def test_vectors_that_are_no_numbers_serve_nothing() -> None:
    learned = trained()
    asked = near(0.99)
    assert not decide(learned, replace(asked, vectors=asked.vectors * np.nan)).serve


@pytest.mark.parametrize(
    ("stored", "differs"),
    [
        ("please tell me about 3 harbours", "numbers"),
        ("please never tell me about the harbour", "negation"),
    ],
)
def test_what_the_words_forbid_is_never_served(stored: str, differs: str) -> None:
    learned = trained(max_error=0.3)
    question = "please tell me about the harbour"
    for seed in range(20):
        asked = replace(near(0.995, seed=seed, stored=stored), question=question)
        alone = replace(asked, near=asked.near[:1], vectors=asked.vectors[:1])
        verdict = decide(learned, alone)
        assert not verdict.serve
        assert verdict.reason == f"the nearest question differs in {differs}"
        learned.compared(verdict, same=True)  # not even if it would have been right every time
    learned.learn()
    assert not decide(learned, alone).serve


# --- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_error", [0.01, 0.05])
def test_the_error_stays_within_the_bound_at_any_time(max_error: float) -> None:
    errors, hits = [], []
    for seed in range(3):
        learned = Learned(max_error, seed=seed)
        outcomes = play(learned, random.Random(seed), 2_000)
        wrong = np.cumsum([one.wrong for one in outcomes])
        requests = np.arange(1, len(wrong) + 1)
        # Of n answers that are wrong with probability p each, np +- sqrt(np) are; three of these are left to chance.
        assert (wrong <= max_error * requests + 3.0 * np.sqrt(max_error * requests)).all()
        errors.append(share(outcomes, "wrong"))
        hits.append(share(outcomes, "served"))
        assert errors[-1] <= max_error
    assert float(np.mean(errors)) > max_error / 6  # and what is allowed is made use of
    assert min(hits) > 0.15


def test_more_is_served_where_more_errors_are_accepted() -> None:
    strict, loose = (share(play(Learned(e, seed=3), random.Random(3), 1_500), "served") for e in (0.005, 0.1))
    assert strict < loose


def test_a_judge_that_errs_costs_hits_and_not_correctness() -> None:
    for seed in range(2):
        lot = random.Random(seed)

        def judge(right: bool, lot: random.Random = lot) -> bool:
            return right and lot.random() >= 0.1

        unaware = play(Learned(0.02, seed=seed), random.Random(seed), 2_000, judge=judge)
        aware = Learned(0.02, seed=seed)
        for _ in range(300):
            aware.judged_twins(same=judge(True))
        outcomes = play(aware, random.Random(seed), 2_000, judge=judge)
        assert share(unaware, "wrong") <= 0.02
        assert share(outcomes, "wrong") <= 0.02
        assert share(unaware[1_000:], "served") < 0.1  # every tenth answer seems to be wrong
        assert share(outcomes[1_000:], "served") > share(unaware[1_000:], "served") + 0.05


def found_until_sure(rate: float, allowed: float) -> int:
    """How many wrong answers audits of this rate must find until it is sure that more than `allowed` were given."""
    for found in itertools.count(1):
        weights = np.full(found, 1.0 / rate)
        if steering.surely(np.full(found, rate / found), weights, np.ones(found), steering.Noise()) >= allowed:
            return found
    raise AssertionError


def changed(similarity: float) -> float:
    """What was surest is wrong every other time."""
    return 0.5 if similarity > 0.9 else streams.wrong_by_distance(similarity)


def test_when_right_answers_become_wrong_it_stops_as_soon_as_audits_can_tell() -> None:
    wrong, bounds = [], []
    for seed in range(2):
        learned = Learned(0.02, audit_rate=0.05, seed=seed)
        rng = random.Random(seed)
        before = play(learned, rng, 1_500)
        after = play(learned, rng, 1_750, changed)
        given = [one for one in after if one.wrong]
        rate = sum(one.audit_rate for one in given) / len(given)
        # It stops at the latest when audits show for sure that more was spent than is allowed over all requests and
        # the horizon: that takes `found` of them, which are `found / rate` wrong answers, give or take chance.
        found = found_until_sure(rate, 0.02 * (len(before) + len(after) + steering.HORIZON))
        assert len(given) <= (found + 3.0 * math.sqrt(found)) / rate
        wrong.append(len(given))
        bounds.append(found / rate)
        assert share(before[-500:], "served") > 0.2
        assert share(after[-250:], "served") < 0.02
    assert sum(wrong) <= sum(bounds)


def test_it_serves_again_when_the_change_is_learned() -> None:
    learned = Learned(0.05, audit_rate=0.1, seed=1)
    rng = random.Random(1)
    play(learned, rng, 800)
    shut = play(learned, rng, 1_500, lambda similarity: 1.0 - streams.wrong_by_distance(similarity - 0.15))
    assert share(shut[-300:], "served") < 0.05
    again = play(learned, rng, 4_000, lambda similarity: 0.0 if similarity < 0.8 else 1.0)
    assert share(again[-1_000:], "served") > 0.1
    assert share(again, "wrong") < 0.05


# --- audits ----------------------------------------------------------------------------------------------------------


def test_audits_are_drawn_as_often_as_the_verdicts_say() -> None:
    learned = Learned(0.05, seed=5)
    rng = random.Random(5)
    bands: dict[int, list[tuple[float, bool]]] = {}
    for _ in range(6_000):
        asked = ask(rng)
        verdict = decide(learned, asked)
        if verdict.serve:
            assert 0.0 < verdict.audit_rate <= 1.0
            bands.setdefault(int(math.log2(verdict.audit_rate)), []).append((verdict.audit_rate, verdict.audit))
        if not verdict.serve or verdict.audit:
            learned.compared(verdict, same=asked.right)
    assert len(bands) > 2
    squares = [
        (sum(drawn for _, drawn in band) - sum(rate for rate, _ in band)) ** 2
        / max(1e-9, sum(rate * (1.0 - rate) for rate, _ in band))
        for band in bands.values()
        if len(band) > 50
    ]
    # Chi-square with so many degrees of freedom: its mean and three standard deviations.
    assert sum(squares) < len(squares) + 3.0 * math.sqrt(2.0 * len(squares))


def test_audits_become_fewer() -> None:
    outcomes = play(Learned(0.02, seed=6), random.Random(6), 5_000)
    parts = [[one for one in part if one.served] for part in (outcomes[:800], outcomes[2_000:2_800], outcomes[-800:])]
    shares = [share(part, "audited") for part in parts]
    assert shares[0] > shares[1] > shares[2] > 0.0


def test_the_risky_are_audited_more_often() -> None:
    learned = trained(requests=2_500)
    rng = random.Random(7)
    asked = [ask(rng) for _ in range(400)]
    verdicts = [learned.decide(one.question, one.vector, one.near, lambda one=one: one.vectors) for one in asked]
    rates = [rate for _, rate in sorted((one.risk, one.audit_rate) for one in verdicts if one.serve)]
    assert rates == sorted(rates)
    assert rates[-1] > 1.5 * rates[0]


def test_the_same_seed_draws_the_same_audits() -> None:
    first, second = (play(Learned(0.02, seed=9), random.Random(9), 800) for _ in "ab")
    assert first == second


# --- being told ------------------------------------------------------------------------------------------------------


def served(learned: Learned, *, audited: bool = False, similarity: float = 0.99) -> Any:
    for seed in range(500):
        verdict = decide(learned, near(similarity, seed=seed))
        if verdict.serve and verdict.audit == audited:
            return verdict
    pytest.fail("nothing was served")


def test_a_complaint_counts_as_a_wrong_answer() -> None:
    learned = trained()
    verdict = served(learned)
    before = learned.sums
    learned.told(verdict, correct=False)
    after = learned.sums
    assert after.known_wrong == before.known_wrong + 1
    assert after.pending_risk == pytest.approx(before.pending_risk - verdict.risk)
    assert after.audits == before.audits  # it is no sample
    learned.told(verdict, correct=True)
    assert learned.sums == after


def test_complaints_close_the_gate() -> None:
    learned = trained()
    limit = learned.limit
    verdict = served(learned)
    for _ in range(60):
        learned.told(verdict, correct=False)
    for _ in range(8):
        learned.learn()
    assert learned.limit < limit / 4


def test_complaints_teach_what_to_leave_alone() -> None:
    learned = trained()
    asked = near(0.99)
    risk = decide(learned, asked).risk
    for seed in range(40):
        learned.told(decide(learned, near(0.99, seed=seed)), correct=False)
    learned.learn()
    assert decide(learned, asked).risk > risk


def test_an_audit_replaces_the_estimate_by_what_it_found() -> None:
    learned = trained()
    for same in (True, False):
        verdict = served(learned, audited=True)
        before = learned.sums
        learned.compared(verdict, same=same)
        after = learned.sums
        assert after.audits == before.audits + 1
        assert after.known_wrong == before.known_wrong + (not same)
        assert after.pending_risk == pytest.approx(before.pending_risk - verdict.risk)
        assert after.weight == pytest.approx(before.weight + 1 / verdict.audit_rate)
        assert after.weight_wrong == pytest.approx(before.weight_wrong + (not same) / verdict.audit_rate)


def test_an_answer_that_is_taken_back_leaves_no_trace() -> None:
    learned = trained()
    before = learned.sums
    verdict = decide(learned, near(0.99))
    assert verdict.serve
    learned.withdrawn(verdict)
    after = learned.sums
    assert after.served == before.served
    assert after.pending_risk == pytest.approx(before.pending_risk)


# --- threads ---------------------------------------------------------------------------------------------------------


def test_threads_that_decide_compare_and_learn_lose_no_count() -> None:
    learned = Learned(0.05, warm_up=100, seed=0)
    play(learned, random.Random(99), 400)
    before = learned.sums
    everybody = threading.Barrier(8)
    failures: list[BaseException] = []
    counted: list[tuple[int, int, int, int]] = []

    def work(thread: int) -> None:
        rng = random.Random(thread)
        given = audits = wrong = 0
        try:
            everybody.wait()
            for n in range(150):
                asked = ask(rng)
                verdict = decide(learned, asked)
                given += verdict.serve
                if not verdict.serve or verdict.audit:
                    learned.compared(verdict, same=asked.right)
                    audits += verdict.audit
                    wrong += verdict.audit and not asked.right
                if n % 40 == thread:
                    learned.learn()
                if n % 25 == thread:
                    learned.stats()
            counted.append((150, given, audits, wrong))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    after = learned.sums
    asked, given, audits, wrong = (sum(column) for column in zip(*counted, strict=True))
    assert after.requests - before.requests == asked == 1_200
    assert after.proposals - before.proposals == asked
    assert after.served - before.served == given
    assert after.audits - before.audits == audits
    assert after.known_wrong - before.known_wrong == wrong
    learned.flush()
    assert learned.sums == learned._record.read(0)[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_and_writes_nothing_twice() -> None:
    learned = Learned(0.02, warm_up=10_000)
    play(learned, random.Random(0), 30)
    learned.asked()
    learned._lock.acquire()  # some thread was just inside
    child = os.fork()
    if child == 0:
        status = 1
        try:
            known = learned.sums
            learned.asked()
            unwritten = (learned._new.requests, len(learned._new_labels))
            status = 0 if unwritten == (1.0, 0) and learned.sums.requests == known.requests + 1 else 2
        finally:
            os._exit(status)
    learned._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    learned.flush()
    assert learned.sums.requests == 31
    assert len(learned._labels) == 30


# --- sharing and restarts --------------------------------------------------------------------------------------------


def on(database: Database) -> DatabaseRecord:
    return DatabaseRecord(database, book="agent|mini", width=len(FEATURES))


def test_two_on_one_database_share_what_they_learned(database: Database) -> None:
    busy, idle = Learned(0.02, record=on(database), seed=0), Learned(0.02, record=on(database), seed=1)
    asked = near(0.995)
    assert not decide(idle, asked).serve
    play(busy, random.Random(0), 1_200)
    idle.learn()
    busy.learn()
    assert idle.sums == busy.sums
    assert idle.sums.requests == 1_201
    assert idle.limit == pytest.approx(busy.limit, rel=0.7)
    assert decide(idle, asked).serve
    play(idle, random.Random(1), 200)
    idle.flush()
    busy.flush()
    assert busy.sums == idle.sums
    assert busy.sums.requests == 1_402


def test_after_a_restart_it_goes_on_with_the_first_question(database: Database) -> None:
    before = Learned(0.02, record=on(database), seed=0)
    play(before, random.Random(0), 1_500)
    before.learn()
    after = Learned(0.02, record=on(database), seed=0)
    verdict = decide(after, near(0.995))
    assert verdict.serve
    assert after.limit == pytest.approx(before.limit, rel=0.7)
    assert verdict.risk == pytest.approx(before.risk(verdict.features), rel=0.5)
    assert after.stats()["labels"] == before.stats()["labels"]


def test_restarts_again_and_again_serve_as_much_as_none(tmp_path: Path) -> None:
    database = Database(tmp_path / "tokopt.db")
    rng, outcomes = random.Random(4), []
    for _ in range(20):
        learned = Learned(0.02, record=on(database), seed=4)
        outcomes += play(learned, rng, 125)
        learned.flush()
    database.close()
    steady = play(Learned(0.02, seed=4), random.Random(4), 2_500)
    assert share(outcomes, "served") == pytest.approx(share(steady, "served"), rel=0.25)
    assert share(outcomes, "wrong") <= 0.02


def test_rehearsed_labels_do_not_stand_for_what_is_asked(tmp_path: Path) -> None:
    """After a restart the limit is made from the labels of real questions."""
    database = Database(tmp_path / "tokopt.db")
    before = Learned(0.02, record=on(database), seed=0)
    play(before, random.Random(0), 1_500)
    before.learn()
    hopeless = [Label(decide(before, near(0.5, seed=n)).features, False) for n in range(100)]
    after = Learned(0.02, record=on(database), rehearse=lambda: hopeless * 20, seed=0)
    decide(after, near(0.995))
    database.close()
    assert after.limit > 0.0
    assert len(after._recent) == after.stats()["labels"] + 1


def test_a_lesson_is_held_where_the_background_says(database: Database) -> None:
    due: dict[str, Callable[[], object]] = {}
    learned = Learned(0.02, record=on(database), background=due.setdefault, seed=0)
    rng = random.Random(0)
    play(learned, rng, 400)
    assert learned.limit == 0.0
    assert len(due) == 1
    due.popitem()[1]()
    assert learned.limit > 0.0
    play(learned, rng, 400)
    assert len(due) == 1


def test_a_lesson_that_was_never_held_is_asked_for_again() -> None:
    asked_for: list[str] = []
    learned = Learned(0.02, background=lambda name, _: asked_for.append(name))
    for _ in range(500):
        learned.asked()
    assert 5 <= len(asked_for) <= 12


def test_old_requests_that_count_half_do_not_put_rehearsals_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_tokopt.cache.decision.record._MEMORY", 3_000)
    rehearsals: list[float] = []

    def rehearse() -> Sequence[Label]:
        rehearsals.append(learned.sums.requests)
        return ()

    learned = Learned(0.02, warm_up=10, rehearse=rehearse)
    for _ in range(8_000):
        learned.asked()
    assert len(rehearsals) >= 10
    assert max(rehearsals) <= 3_000


# --- a record that fails ---------------------------------------------------------------------------------------------


class Failing(MemoryRecord):
    """A record whose database can be switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[str] = set()

    def add(self, labels: Sequence[Label], sums: Sums) -> None:
        if "add" in self.down:
            raise StoreError("the database is away")
        super().add(labels, sums)

    def read(self, after: int) -> tuple[int, list[Label], Sums]:
        if "read" in self.down:
            raise StoreError("the database is away")
        return super().read(after)


@pytest.mark.parametrize("down", [{"add"}, {"read"}, {"add", "read"}])
def test_while_the_database_is_away_it_goes_on_and_nothing_is_lost(
    down: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    record = Failing()
    learned = Learned(0.02, record=record, seed=0)
    rng = random.Random(0)
    outcomes = play(learned, rng, 1_000)
    record.down = down
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        away = play(learned, rng, 600)
    assert [one.message for one in caplog.records] == [
        "the cache could not learn what may be served: StoreError: the database is away"
    ]
    assert share(away, "served") > 0.15
    assert learned.sums.requests == 1_600
    record.down = set()
    outcomes += away + play(learned, rng, 200)
    learned.flush()
    written = record.read(0)[2]
    assert learned.sums == written
    assert written.requests == 1_800
    assert written.served == sum(one.served for one in outcomes)
    assert written.audits == sum(one.audited for one in outcomes)
    assert written.known_wrong == sum(one.wrong and one.audited for one in outcomes)
    compared = sum(one.audited or not one.served for one in outcomes)
    assert len(record.read(0)[1]) == compared == learned.stats()["labels"]


def test_a_database_that_is_away_from_the_beginning_serves_what_it_can_learn() -> None:
    record = Failing()
    record.down = {"add", "read"}
    learned = Learned(0.02, record=record, seed=0)
    outcomes = play(learned, random.Random(0), 800)
    assert share(outcomes[400:], "served") > 0.1
    with pytest.raises(StoreError):
        learned.flush()
    record.down = set()
    learned.flush()
    assert record.read(0)[2] == learned.sums


def test_labels_that_cannot_be_written_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_tokopt.cache.decision.learned.KEPT", 200)
    record = Failing()
    record.down = {"add"}
    learned = Learned(0.02, record=record, seed=0)
    play(learned, random.Random(0), 900)
    assert len(learned._new_labels) < 300
    record.down = set()
    learned.flush()
    assert learned.sums.requests == record.read(0)[2].requests == 900


def test_a_rehearsal_that_fails_does_not_end_learning(caplog: pytest.LogCaptureFixture) -> None:
    def rehearse() -> Sequence[Label]:
        raise RuntimeError("no such entry")

    learned = Learned(0.02, rehearse=rehearse, seed=0)
    rng = random.Random(0)
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        play(learned, rng, 700)
        lessons = learned._lessons
        play(learned, rng, 300)
    assert len(caplog.records) == 1
    assert learned._lessons > lessons
    assert learned.limit > 0.0


# --- telling ---------------------------------------------------------------------------------------------------------


def test_the_figures_agree_with_what_happened() -> None:
    learned = Learned(0.02, seed=2)
    outcomes = play(learned, random.Random(2), 3_000)
    stats = learned.stats()
    assert stats["requests"] == 3_000
    assert stats["audits"] == sum(one.audited for one in outcomes)
    assert stats["audit_share"] == pytest.approx(share(outcomes, "audited"))
    assert stats["risk_limit"] == learned.limit
    assert stats["audited_error_low"] <= share(outcomes, "wrong") <= stats["audited_error_high"]
    assert stats["estimated_error"] <= stats["estimated_error_high"]
    assert stats["estimated_error_high"] <= 0.02


def test_before_anything_was_asked_nothing_is_claimed() -> None:
    stats = Learned(0.01).stats()
    assert (stats["requests"], stats["audited_error"], stats["risk_limit"], stats["labels"]) == (0, None, 0.0, 0)


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"max_error": 0}, "max_error"),
        ({"max_error": 1}, "max_error"),
        ({"max_error": True}, "max_error"),
        ({"max_error": "0.1"}, "max_error"),
        ({"max_error": float("nan")}, "max_error"),
        ({"audit_rate": 0}, "audit_rate"),
        ({"audit_rate": 1.5}, "audit_rate"),
        ({"warm_up": -1}, "warm_up"),
        ({"warm_up": 1.5}, "warm_up"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], argument: str) -> None:
    given = {"max_error": 0.01, "audit_rate": 0.03, "warm_up": 150, **settings}
    with pytest.raises(ConfigurationError) as caught:
        check_settings(**given)
    assert caught.value.argument == argument
    with pytest.raises(ConfigurationError):
        Learned(given.pop("max_error"), **given)


def test_a_verdict_names_the_neighbours() -> None:
    learned = trained()
    asked = near(0.995)
    verdict = decide(learned, asked)
    assert verdict.near == tuple(asked.near)
    assert isinstance(verdict.neighbour, Neighbour)
    assert verdict.neighbour.id == 1
    assert verdict.features is not None
    assert verdict.features.shape == (len(FEATURES),)
    assert streams.wrong_by_distance(0.75) == 0.5


def test_what_others_learned_is_used_where_nothing_can_be_written() -> None:
    class ReadOnly(MemoryRecord):
        def add(self, labels: Sequence[Label], sums: Sums) -> None:
            raise StoreError("read-only")

    record = ReadOnly()
    teacher = MemoryRecord()
    play(Learned(0.02, record=teacher, seed=1), random.Random(1), 1_200)
    record._labels, record._sums = teacher._labels, teacher._sums
    reader = Learned(0.02, record=record, seed=1)
    reader.asked()
    with pytest.raises(StoreError, match="read-only"):
        reader.learn()
    assert reader.limit > 0.0
    assert reader.stats()["labels"] > 50


def test_an_answer_that_is_audited_and_complained_about_counts_once() -> None:
    learned = Learned(0.02, seed=1)
    verdict = Verdict(serve=True, audit=True, audit_rate=0.5, risk=0.1, features=np.zeros(len(FEATURES)))
    learned.told(verdict, correct=False)
    learned.compared(verdict, same=False)
    assert learned.sums.known_wrong == 1
    assert learned.sums.pending_risk == pytest.approx(-0.1)
