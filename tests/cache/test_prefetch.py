"""What is likely next is loaded or answered ahead: only where it pays, within a budget, and never in anybody's way."""

from __future__ import annotations

import logging
import math
import os
import random
import subprocess
import sys
import threading
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import HumanMessage
from langchain_core.messages.ai import UsageMetadata

from benchmarks.cache_prediction import simulate
from langchain_tokopt.cache.precompute import Known, Precompute
from langchain_tokopt.cache.prediction import EVERYBODY, Likely, Place, Successions
from langchain_tokopt.cache.prediction_store import SuccessionStore
from langchain_tokopt.cache.prefetch import Prefetch
from langchain_tokopt.cache.track_record import Band, TrackRecord
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError, StoreError
from langchain_tokopt.flow import Flow, FlowMiddleware
from langchain_tokopt.later import Later
from langchain_tokopt.pricing import Pricing, Rates
from tests.fakes import FakeClock, ScriptedModel, ai

WAIT = 20.0
CENT = Decimal("0.01")
USAGE = UsageMetadata(input_tokens=10_000, output_tokens=0, total_tokens=10_000)
PRICES = Pricing(overrides={"gpt-4o-mini": Rates(input=Decimal(1), output=Decimal(1))})  # USAGE costs a cent


class Bench:
    """A prefetch at work on sessions of "abc", with a scripted model behind an agent."""

    def __init__(self, database: Database | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.database = database or Database()
        self.loads: list[tuple[str, list[str]]] = []
        self.stored: list[str] = []
        self.fresh: dict[str, float] = {}
        self.storable = True
        self.usage: UsageMetadata | None = USAGE
        self.prefetch = Prefetch(
            **{"database": lambda: self.database, "pricing": PRICES, "clock": self.clock, **settings}  # type: ignore[arg-type]
        )

    def preload(self, scope: str, wanted: Any) -> list[str]:
        self.loads.append((scope, list(wanted)))
        return list(wanted)

    def session(self, questions: str = "abc", user: str = "ada", *, times: int = 1) -> None:
        for _ in range(times):
            for question in questions:
                self.prefetch.asked(user, "s", question, hit=False)
                assert self.prefetch.drain(WAIT)
            self.clock.advance(7_200)

    def known(self, question: str) -> Known | None:
        return Known(text=f"text of {question}", fresh_until=self.fresh.get(question), usage=self.usage)

    def store(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> bool:
        self.stored.append(f"{request.messages[-1].text}: {response.result[0].text}")
        return self.storable

    def ahead(self, request: ModelRequest[Any], likely: list[Likely]) -> list[Later]:
        def request_for(text: str) -> ModelRequest[Any]:
            return request.override(messages=[HumanMessage(text)])

        return list(self.prefetch.ahead("s", likely, known=self.known, request_for=request_for, store=self.store))

    def middleware(self) -> Any:
        bench = self

        class Middleware(FlowMiddleware):
            part = "cache"

            def flow(self, request: ModelRequest[Any]) -> Flow:
                question = request.messages[-1].text
                response = yield request
                yield from bench.ahead(request, bench.prefetch.asked("ada", "s", question, hit=False))
                return response

        return Middleware()


def bare(text: str = "hi") -> ModelRequest[Any]:
    return ModelRequest(model=ScriptedModel(), messages=[HumanMessage(text)])


# --- loading ahead ---------------------------------------------------------------------------------------------------


def test_entries_are_loaded_ahead_once_that_has_proved_its_worth() -> None:
    bench = Bench()
    bench.prefetch._preload = bench.preload
    bench.session(times=12)
    assert bench.loads == []
    assert bench.prefetch.report().predictions == 22  # from the second session on, "b" after "a" and "c" after "b"
    bench.session(times=12)
    assert ("s", ["c"]) in bench.loads
    told = bench.prefetch.report()
    assert (told.preloaded, told.preloaded_used) == (sum(len(wanted) for _, wanted in bench.loads), told.preloaded)
    assert told.predictions_used == told.predictions == 46


def test_nothing_is_loaded_where_nothing_comes_true() -> None:
    bench = Bench()
    bench.prefetch._preload = bench.preload
    rng = random.Random(0)
    for _ in range(600):
        bench.prefetch.asked("ada", "s", f"q{rng.randrange(97)}", hit=False)
    assert bench.prefetch.drain(WAIT)
    assert bench.loads == []


@pytest.mark.parametrize(
    ("user", "scope", "question"), [(None, "s", "a"), ("", "s", "a"), ("u", "s", ""), ("u", "s", "x" * 65)]
)
def test_who_or_what_is_not_known_teaches_nothing(user: str | None, scope: str, question: str) -> None:
    bench = Bench()
    for _ in range(3):
        assert bench.prefetch.asked(user, scope, question, hit=False) == []
    assert bench.prefetch._successions.unwritten() == 0


# --- answers ahead ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_likely_answer_is_made_in_the_background_of_an_agent_and_used(is_async: bool) -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1)))
    bench.session(times=30)
    middleware = bench.middleware()
    model = ScriptedModel(responses=[ai("the answer", input_tokens=20_000)])
    agent: Any = create_agent(model, middleware=[middleware])
    given = {"messages": [HumanMessage("a")]}
    state = await agent.ainvoke(given) if is_async else agent.invoke(given)
    assert state["messages"][-1].text == "the answer"
    assert await middleware.background.adrain(WAIT)
    assert sorted(bench.stored) == ["text of b: the answer"]
    told = bench.prefetch.report()
    assert (told.precomputed, told.precomputed_used, told.spent_usd, told.estimated_usd) == (1, 0, 2 * CENT, 0)
    assert told.net_usd == -2 * CENT
    day = datetime.fromtimestamp(bench.clock(), timezone.utc).date().isoformat()
    assert SuccessionStore(bench.database).spent(day) == (2 * CENT, Decimal(0))
    bench.prefetch.asked("bob", "s", "b", hit=False)  # not served from the cache: nothing was saved
    assert bench.prefetch.report().precomputed_used == 0
    bench.prefetch.asked("bob", "s", "b", hit=True)
    bench.prefetch.asked("bob", "s", "b", hit=True)
    told = bench.prefetch.report()
    assert (told.precomputed_used, told.saved_usd, told.net_usd) == (1, 2 * CENT, 0)
    assert told.saved_seconds > 0


def test_what_is_stored_and_stays_so_is_not_made_again_and_what_expires_soon_is() -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1), before_expiry_seconds=60))
    bench.session(times=30)
    likely = [Likely("b", 0.9)]
    for until, made in ((math.inf, 0), (bench.clock() + 61, 0), (bench.clock() + 60, 1), (None, 1)):
        bench.fresh = {} if until is None else {"b": until}
        laters = bench.ahead(bare(), likely)
        assert len(laters) == made
        for later in laters:
            assert bench.ahead(bare(), likely) == []  # it is under way
            later.abandon("enough")
    assert bench.prefetch.report().refused == {"enough": 2}


def test_the_days_budget_is_a_limit_and_the_next_day_has_its_own() -> None:
    bench = Bench(precompute=Precompute(usd_per_day="0.025"))  # type: ignore[arg-type]
    bench.session(times=30)
    middleware = bench.middleware()
    model = ScriptedModel(responses=[ai("x", input_tokens=10_000)])
    agent: Any = create_agent(model, middleware=[middleware])

    def ask() -> None:
        agent.invoke({"messages": [HumanMessage("a")]})
        assert middleware.background.drain(WAIT)
        bench.clock.advance(1_000)

    bench.clock.now = 1_800_000_000.0 - 1_800_000_000.0 % 86_400 + 86_400 * 9
    for _ in range(4):
        ask()
        bench.prefetch.asked("ada", "s", "b", hit=True)
        bench.clock.advance(2_000)
    told = bench.prefetch.report()
    assert (told.precomputed, told.spent_usd) == (2, 2 * CENT)
    assert told.refused["today's budget for answers made ahead is used up"] == 2
    bench.clock.advance(86_400)
    ask()
    assert bench.prefetch.report().precomputed == 3


@pytest.mark.parametrize("usage", [None, USAGE])
def test_an_unknown_price_is_refused(usage: UsageMetadata | None) -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1)), pricing=PRICES if usage is None else Pricing())
    bench.usage = usage
    bench.session(times=30)
    middleware = bench.middleware()
    agent: Any = create_agent(
        ScriptedModel(model_name="gpt-4o-mini" if usage is None else "home"), middleware=[middleware]
    )
    agent.invoke({"messages": [HumanMessage("a")]})
    assert middleware.background.drain(WAIT)
    assert (bench.stored, bench.prefetch.report().spent_usd) == ([], 0)
    assert bench.prefetch.report().refused["what it costs is not known"] == 1
    assert middleware.background.stats().failed == 0


@pytest.mark.parametrize(
    ("answer", "spent", "estimated", "refused"),
    [
        ("no usage", CENT, CENT, {}),
        (ValueError("overloaded"), CENT, CENT, {"the call failed": 1}),
        (BudgetExceededError("no", limit=1, spent=1, needed=1, unit="tokens"), 0, 0, {"the call failed": 1}),
    ],
)
def test_what_is_not_reported_is_booked_as_estimated(answer: Any, spent: Any, estimated: Any, refused: Any) -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1)))
    bench.session(times=30)
    before = bench.prefetch.report().refused
    middleware = bench.middleware()
    agent: Any = create_agent(ScriptedModel(responses=["ok", answer]), middleware=[middleware])
    agent.invoke({"messages": [HumanMessage("a")]})
    assert middleware.background.drain(WAIT)
    told = bench.prefetch.report()
    assert (told.spent_usd, told.estimated_usd) == (spent, estimated)
    assert {key: n for key, n in told.refused.items() if key not in before} == refused


def test_an_answer_that_is_not_to_be_stored_is_spent_and_not_counted_as_made() -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1)))
    bench.storable = False
    bench.session(times=30)
    (later,) = bench.ahead(bare(), [Likely("b", 0.9)])
    later.then(ModelResponse(result=[ai("x")]))
    assert bench.prefetch.report().precomputed == 0
    assert len(bench.ahead(bare(), [Likely("b", 0.9)])) == 1


def test_it_is_off_until_it_pays_and_what_it_is_worth_decides() -> None:
    dear, cheap = (Bench(precompute=Precompute(usd_per_day=Decimal(1), worth=worth)) for worth in (0.25, 3.0))
    for bench in (dear, cheap):
        assert bench.ahead(bare(), [Likely("b", 0.9)]) == []
        rng = random.Random(0)
        for _ in range(80):
            bench.session(rng.choice(["ab", "ac"]))
        assert len(bench.ahead(bare(), [Likely("b", 0.45)])) == (1 if bench is cheap else 0)


def test_what_the_application_gives_may_fail_and_nobody_notices(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1)))
    bench.session(times=30)
    bench.known = lambda _: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    for _ in range(2):
        assert bench.ahead(bare(), [Likely("b", 0.9)]) == []
    assert [record.message for record in caplog.records] == [
        "predicting goes on in memory only: ZeroDivisionError: division by zero"
    ]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("usd_per_day", value) for value in (0, -1, 0.5, True, "much", "NaN", "1e-10", None)),
        *(("worth", value) for value in (0, -1, math.nan, "1")),
        *(("before_expiry_seconds", value) for value in (-1, math.inf, None)),
    ],
)
def test_a_setting_that_cannot_work_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{argument}="):
        Precompute(**{"usd_per_day": Decimal(1), argument: value})


# --- keeping it ------------------------------------------------------------------------------------------------------


def test_what_was_learned_is_there_after_a_restart(database: Database) -> None:
    first = Bench(database)
    first.session(times=30)
    first.prefetch.close()
    second = Bench(database, precompute=Precompute(usd_per_day=Decimal(1)))
    second.clock.now = first.clock.now
    assert second.prefetch.asked("ada", "s", "x", hit=False) == []  # it is being read meanwhile
    assert second.prefetch.drain(WAIT)
    likely = second.prefetch.asked("ada", "s", "a", hit=False)
    assert likely[0].id == "b"
    assert len(second.ahead(bare(), likely[:1])) == 1


def test_processes_add_to_each_others_counts(database: Database) -> None:
    clock = FakeClock()
    stores = [SuccessionStore(database) for _ in range(2)]
    models = [Successions(clock=clock) for _ in range(2)]
    records = [TrackRecord() for _ in range(2)]
    for n, model in enumerate(models):
        for question in "ab":
            model.observe(f"u{n}", "s", question)
        records[n].predicted("u", "s", [Likely("b", 0.9)])
        records[n].asked("u", "s", "b")
    threads = [threading.Thread(target=stores[n].write, args=(models[n], records[n])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    places, bands = stores[0].load(EVERYBODY, "s")
    assert {place: known.counts for place, known in places.items()} == {Place("s", EVERYBODY, ("a",)): {"b": 2.0}}
    assert bands[Band("s", 6)].used == pytest.approx(2, abs=0.01)
    assert set(stores[0].load("u1", "s")[0]) == {Place("s", "u1", ("a",))}
    stores[0].forget(user="u1")
    assert stores[0].load("u1", "s") == ({}, {})
    assert stores[0].load(EVERYBODY, "s")[0] != {}
    stores[0].forget(scope="s")
    assert stores[0].load(EVERYBODY, "s") == ({}, {})


def test_money_is_set_aside_by_one_statement_for_all(database: Database) -> None:
    stores = [SuccessionStore(database) for _ in range(4)]
    held: list[bool] = []

    def hold(store: SuccessionStore) -> None:
        held.extend(store.hold("2027-01-15", CENT, Decimal("0.05")) for _ in range(5))

    threads = [threading.Thread(target=hold, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(held) == [False] * 15 + [True] * 5
    stores[0].settle("2027-01-15", CENT, 3 * CENT)
    assert stores[1].spent("2027-01-15") == (3 * CENT, 4 * CENT)
    assert not stores[1].hold("2027-01-15", CENT, Decimal("0.05"))
    assert stores[1].spent("2027-01-16") == (0, 0)


def test_what_is_old_or_too_much_leaves_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_tokopt.cache.prediction_store._TIDY_EVERY", 1)
    monkeypatch.setattr("langchain_tokopt.cache.prediction_store._KEPT_PLACES", 3)
    clock, record = FakeClock(), TrackRecord()
    store, model = SuccessionStore(Database()), Successions(clock=clock, half_life_seconds=86_400)

    def ask(questions: str) -> int:
        for question in questions:
            model.observe(EVERYBODY, "s", question)
            clock.advance(1)
        store.write(model, record)
        return len(store.load(EVERYBODY, "s")[0])

    assert ask("ab") == 1
    clock.advance(9 * 86_400)
    assert ask("cd") == 1
    assert ask("efgh") == 2  # of three; those of one moment go together


def test_a_database_that_cannot_be_used_is_logged_once_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    database = Database()
    bench = Bench(database, precompute=Precompute(usd_per_day=Decimal(1)))
    database.close()
    with caplog.at_level(logging.WARNING):
        bench.session(times=40)
        bench.prefetch.flush()
    assert [record.message[:35] for record in caplog.records] == ["predicting goes on in memory only: "]
    assert bench.prefetch._successions.unwritten() > 64
    assert bench.prefetch._successions.predict("ada", "s", ["a"])[0].id == "b"
    with pytest.raises(StoreError):
        bench.prefetch.forget(user="ada")
    assert bench.prefetch._successions.predict("ada", "s", ["a"]) == bench.prefetch._successions.predict(
        "x", "s", ["a"]
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_writes_only_what_it_has_seen_itself(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from langchain_tokopt.cache.prefetch import Prefetch
from langchain_tokopt.cache.prediction_store import SuccessionStore
from langchain_tokopt.database import Database

database = Database(Path({str(tmp_path)!r}) / "t.db")
prefetch = Prefetch(database=lambda: database)
for question in "ab":
    prefetch.asked("ada", "s", question, hit=False)
prefetch.drain(20)
child = os.fork()
if child == 0:
    for question in "cd":
        prefetch.asked("ada", "s", question, hit=False)
    prefetch.close()
    os._exit(0)
os.waitpid(child, 0)
prefetch.close()
places, _ = SuccessionStore(database).load("ada", "s")
print(sorted((place.after, round(known.total)) for place, known in places.items()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[(('a',), 1), (('a', 'b'), 1), (('b',), 1), (('b', 'c'), 1), (('c',), 1)]"


def test_observations_are_written_in_batches_in_the_background() -> None:
    bench = Bench()
    bench.session()  # what the database knows has been read
    bench.session(times=10)  # of three questions: two continuations of one, one of two, each for the user and for all
    assert bench.prefetch._successions.unwritten() < 64
    store = SuccessionStore(bench.database)
    assert len(store.load("ada", "s")[0]) == 3
    bench.prefetch.close()
    assert store.load("ada", "s")[0][Place("s", "ada", ("a", "b"))].total > 10


# --- on sessions whose structure is known ----------------------------------------------------------------------------


def test_it_acts_on_structure_and_leaves_chance_alone() -> None:
    settings = Precompute(usd_per_day=Decimal(10))
    run, world, prefetch = simulate("order2", 3_000, 1, settings)
    told = prefetch.report()
    assert told.precomputed > 100
    assert told.precomputed_used / told.precomputed > 0.75
    assert told.net_usd < 0 < told.saved_usd
    assert told.spent_usd == told.precomputed * Decimal("0.00065")
    assert told.predictions_used / told.predictions > 0.2
    without = simulate("order2", 3_000, 1, None)[1]
    assert world.hits > without.hits
    shuffled = simulate("shuffled", 1_500, 1, settings)[2].report()
    assert (shuffled.precomputed, shuffled.spent_usd) == (0, 0)
    assert shuffled.predictions_used / shuffled.predictions < 0.1
    assert run.guessed["top1"] / run.followed > 0.4


def test_it_stops_when_the_structure_is_gone() -> None:
    bench = Bench(precompute=Precompute(usd_per_day=Decimal(1)))

    def made(sessions: list[str]) -> int:
        count = 0
        for session in sessions:
            for question in session:
                for later in bench.ahead(bare(), bench.prefetch.asked("ada", "s", question, hit=False)):
                    later.abandon("enough")
                    count += 1
            bench.clock.advance(7_200)
        return count

    rng = random.Random(0)
    assert made(["abc"] * 60) > 60
    chance = ["".join(rng.sample("abcdefghij", 3)) for _ in range(400)]
    assert made(chance[:100]) < 65  # of 200 questions that had a next one
    assert made(chance[100:200]) < 5
    assert made(chance[200:]) == 0
    assert bench.prefetch.drain(WAIT)
