"""Equal and near-equal questions at the same time: one goes ahead, the others wait, nobody waits for ever."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, HumanMessage

from langchain_tokopt.cache.flights import Flights, Question, Turn
from langchain_tokopt.events import request_scope
from langchain_tokopt.flow import Flow, FlowMiddleware, Pause, adrive, compose, drive, guarded, shadowed
from langchain_tokopt.model import OptimizedChatModel
from tests.fakes import FakeClock, ListSink, ScriptedModel

WAIT = 20.0
PAY, PAID, HOURS = "How do I pay?", "How can I pay?", "When do you open?"
FIFTY, HUNDRED = "Can I pay 50 euros?", "Can I pay 100 euros?"
VECTORS = {PAY: [1.0, 0.0], PAID: [0.98, 0.199], HOURS: [0.0, 1.0], FIFTY: [0.6, 0.8], HUNDRED: [0.6, 0.8]}


def question(text: str) -> Question:
    vector = np.asarray(VECTORS.get(text, [0.5, 0.5]), dtype=np.float32)
    return Question(text, vector / np.linalg.norm(vector))


class Once(FlowMiddleware):
    """A small cache of exact texts that holds equal questions together, and near-equal ones where `near` says so."""

    part = "once"

    def __init__(self, *, near: bool = False, timeout: float = WAIT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flights = Flights(timeout)
        self.near = near
        self.stored: dict[str, str] = {}
        self.keeps: Callable[[str], bool] = lambda _: True
        self.paused: list[str] = []

    def flow(self, request: ModelRequest[Any]) -> Flow:
        text = request.messages[-1].text
        mark = self.flights.mark("scope")
        if text in self.stored:
            return response(self.stored[text])
        near = question(text) if self.near else None
        with self.flights.board("scope", text, question=near, threshold=0.93, mark=mark) as turn:
            while (pause := turn.pause()) is not None:
                self.paused.append(text)
                yield pause
                if text in self.stored:
                    return response(self.stored[text])
            answer = yield request
            if self.keeps(text):
                self.stored[text] = answer.result[0].text
            return answer

    def all_have_paused(self, count: int) -> None:
        """Wait, without a clock, until so many have come to wait."""
        waited = threading.Event()
        while len(self.paused) < count:
            waited.wait(0.001)


def response(text: str) -> ModelResponse[Any]:
    return ModelResponse(result=[AIMessage(text)])


def request(text: str = "a") -> ModelRequest[Any]:
    return ModelRequest(model=ScriptedModel(), messages=[HumanMessage(text)])


def ask(flow: Any, text: str, model: Callable[[str], str]) -> str:
    """One sync call of a flow, in a request scope of its own."""
    outcome = drive(flow, request(text), lambda r: response(model(r.messages[-1].text)))
    return outcome.result[0].text  # type: ignore[union-attr]


class Gated:
    """A model whose answers come when `go` is set; it counts its calls."""

    def __init__(self, *, fails: int = 0) -> None:
        self.go, self.inside = threading.Event(), threading.Event()
        self.calls: list[str] = []
        self.most = self._now = 0
        self._fails = fails
        self._lock = threading.Lock()

    def __call__(self, text: str) -> str:
        with self._lock:
            self.calls.append(text)
            fails = len(self.calls) <= self._fails
            self._now += 1
            self.most = max(self.most, self._now)
        self.inside.set()
        assert self.go.wait(WAIT)
        with self._lock:
            self._now -= 1
        if fails:
            raise ValueError(f"no {text}")
        return f"about {text}"


# --- outside of a flow -----------------------------------------------------------------------------------------------


def test_others_wait_until_the_first_is_done() -> None:
    flights = Flights(30)
    inside, go, log = threading.Event(), threading.Event(), []

    def first() -> None:
        with flights.turn("a"):
            inside.set()
            assert go.wait(10)
            log.append("first")

    def other() -> None:
        with flights.turn("a"):
            log.append("other")

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(10)
    threads += [threading.Thread(target=other) for _ in range(4)]
    for thread in threads[1:]:
        thread.start()
    with flights.turn("b"):
        log.append("b")
    go.set()
    for thread in threads:
        thread.join(10)
    assert log == ["b", "first", "other", "other", "other", "other"]
    assert_empty(flights)


def assert_empty(flights: Flights) -> None:
    assert (flights.under_way, flights._flights, flights._leaders) == (0, {}, Counter())


def test_waiting_is_bounded() -> None:
    flights = Flights(0.01)
    inside, go = threading.Event(), threading.Event()

    def first() -> None:
        with flights.turn("a"):
            inside.set()
            assert go.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with flights.turn("a"):
        assert thread.is_alive()
    go.set()
    thread.join(10)
    assert_empty(flights)


@pytest.mark.parametrize(("timeout", "key"), [(30, None), (0, "a")])
def test_without_a_key_or_a_time_nobody_waits(timeout: float, key: Any) -> None:
    flights = Flights(timeout)
    with flights.turn(key), flights.turn(key):
        assert flights.under_way == 0


def test_nobody_waits_for_himself() -> None:
    flights = Flights(30)
    with flights.turn("a"), flights.turn("a"):
        assert flights.under_way == 1
    assert_empty(flights)


def test_an_error_of_the_first_lets_the_others_go() -> None:
    flights = Flights(30)
    with pytest.raises(ValueError, match="x"), flights.turn("a"):
        raise ValueError("x")
    assert_empty(flights)


async def test_many_async_callers_wait_without_a_thread() -> None:
    flights = Flights(30)
    go, log = asyncio.Event(), []

    async def first() -> None:
        async with flights.aturn("a"):
            await go.wait()
            log.append("first")

    async def other() -> None:
        async with flights.aturn("a"):
            log.append("other")

    tasks = [asyncio.create_task(first())]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(other()) for _ in range(100)]
    await asyncio.sleep(0)
    before = threading.active_count()
    go.set()
    await asyncio.gather(*tasks)
    assert log == ["first"] + ["other"] * 100
    assert threading.active_count() == before


async def test_a_cancelled_first_lets_the_others_go_and_a_cancelled_other_harms_nobody() -> None:
    flights = Flights(30)
    entered = asyncio.Event()

    async def first() -> None:
        async with flights.aturn("a"):
            entered.set()
            await asyncio.sleep(60)

    async def other() -> str:
        async with flights.aturn("a"):
            return "done"

    task = asyncio.create_task(first())
    await entered.wait()
    impatient, patient = asyncio.create_task(other()), asyncio.create_task(other())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    assert await asyncio.wait_for(patient, 10) == "done"
    assert impatient.cancelled()
    assert_empty(flights)


# --- in a flow -------------------------------------------------------------------------------------------------------


WAYS = ["invoke", "ainvoke", "batch", "abatch", "stream", "astream", "agent", "aagent"]


@pytest.mark.parametrize("way", WAYS)
def test_fifty_equal_questions_are_one_call(way: str) -> None:
    once, gated, count = Once(), Gated(), 50
    inner = ScriptedModel(responses=[lambda messages: gated(messages[-1].text)])
    model = OptimizedChatModel.around(inner, compose(once.run_flow))
    agent: Any = create_agent(inner, middleware=[once])
    given = {"messages": [HumanMessage("hi")]}

    def opener() -> None:
        assert gated.inside.wait(WAIT)
        once.all_have_paused(count - 1)
        gated.go.set()

    async def one() -> str:
        if way == "astream":
            return "".join([chunk.text async for chunk in model.astream("hi")])
        if way == "aagent":
            return (await agent.ainvoke(given))["messages"][-1].text
        return (await model.ainvoke("hi")).text

    async def several() -> list[str]:
        if way == "abatch":
            return [message.text for message in await model.abatch(["hi"] * count)]
        return list(await asyncio.gather(*(one() for _ in range(count))))

    def sync(_: int) -> str:
        if way == "stream":
            return "".join(chunk.text for chunk in model.stream("hi"))
        return agent.invoke(given)["messages"][-1].text if way == "agent" else model.invoke("hi").text

    thread = threading.Thread(target=opener)
    thread.start()
    if way == "batch":
        answers = [message.text for message in model.batch(["hi"] * count, {"max_concurrency": count})]
    elif way in ("invoke", "stream", "agent"):
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(sync, range(count)))
    else:
        answers = asyncio.run(several())
    thread.join(WAIT)
    assert answers == ["about hi"] * count
    assert gated.calls == ["hi"]
    assert_empty(once.flights)


def test_a_batch_with_few_threads_does_not_lock_itself_up() -> None:
    once = Once()
    inner = ScriptedModel(responses=[lambda messages: f"about {messages[-1].text}"])
    model = OptimizedChatModel.around(inner, once.run_flow)
    answers = model.batch(["a", "b"] * 25, {"max_concurrency": 2})
    assert [message.text for message in answers] == ["about a", "about b"] * 25
    assert len(inner.calls) == 2


@pytest.mark.parametrize("fails", [1, 3, 9])
def test_when_the_first_fails_one_of_those_who_wait_follows_and_not_all(fails: int) -> None:
    once, gated, count = Once(), Gated(fails=fails), 10

    def one(_: int) -> str:
        try:
            return ask(once.run_flow, "a", gated)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(one, n) for n in range(count)]
        once.all_have_paused(count - 1)
        gated.go.set()
        told = Counter(answer.result(WAIT) for answer in answers)
    assert told == Counter({"no a": fails, "about a": count - fails})
    assert len(gated.calls) == fails + 1
    assert gated.most == 1
    assert_empty(once.flights)


async def test_when_the_first_is_cancelled_one_of_those_who_wait_follows() -> None:
    once, calls, go = Once(), [], asyncio.Event()

    async def answer(r: ModelRequest[Any]) -> ModelResponse[Any]:
        calls.append(r)
        await go.wait()
        return response("done")

    async def one() -> Any:
        return await adrive(once.run_flow, request(), answer)

    first = asyncio.create_task(one())
    while not calls:
        await asyncio.sleep(0)
    others = [asyncio.create_task(one()) for _ in range(5)]
    await asyncio.to_thread(once.all_have_paused, 5)
    others[0].cancel()
    first.cancel()
    while len(calls) < 2:
        await asyncio.sleep(0.001)
    await asyncio.to_thread(once.all_have_paused, 8)  # one leads now, and three wait again
    assert len(calls) == 2
    go.set()
    ended = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(one).__name__ for one in ended] == ["CancelledError", "CancelledError"] + ["ModelResponse"] * 4
    assert len(calls) == 2
    assert_empty(once.flights)


def test_loops_and_threads_wait_for_each_other() -> None:
    once, gated = Once(), Gated()
    inner = ScriptedModel(responses=[lambda messages: gated(messages[-1].text)])
    model = OptimizedChatModel.around(inner, once.run_flow)
    answers: list[str] = []

    async def several() -> None:
        answers.extend(message.text for message in await model.abatch(["hi"] * 10))

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(2)]
    threads += [threading.Thread(target=lambda: answers.append(model.invoke("hi").text)) for _ in range(10)]
    for thread in threads:
        thread.start()
    once.all_have_paused(29)
    gated.go.set()
    for thread in threads:
        thread.join(WAIT)
    assert answers == ["about hi"] * 30
    assert gated.calls == ["hi"]
    assert_empty(once.flights)


def test_an_answer_that_is_not_stored_lets_all_the_others_go_at_once() -> None:
    once, gated = Once(), Gated()
    once.keeps = lambda _: False
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(ask, once.run_flow, "a", gated) for _ in range(5)]
        once.all_have_paused(4)
        gated.go.set()
        assert [answer.result(WAIT) for answer in answers] == ["about a"] * 5
    assert len(gated.calls) == 5
    assert len(once.paused) == 4


def test_who_has_waited_long_enough_goes_on_and_a_hung_first_holds_up_nobody_new() -> None:
    clock = FakeClock()
    flights = Flights(30, clock=clock)

    def turn(caller: str) -> Turn:
        with request_scope(caller):
            found = flights.board("s", "a")
            found.first = found.pause()  # type: ignore[attr-defined]
            return found

    first, second = turn("1"), turn("2")
    assert (first.leads, second.leads) == (True, False)
    pause = second.first  # type: ignore[attr-defined]
    assert (pause.seconds, pause.until.done()) == (30, False)
    clock.advance(12)
    third = turn("3")
    assert third.first.seconds == 30  # type: ignore[attr-defined]
    clock.advance(18)
    assert second.pause() is None
    assert not second.leads
    fourth = turn("4")
    assert fourth.leads
    first.__exit__(None, None, None)
    assert flights.under_way == 1
    fourth.__exit__(None, None, None)
    assert_empty(flights)


def test_an_answer_stored_between_the_look_and_the_turn_is_looked_for_again() -> None:
    flights = Flights(30)
    mark = flights.mark("s")
    with request_scope("1"), flights.board("s", "a") as turn:
        assert turn.pause() is None
    with request_scope("2"), flights.board("s", "a", mark=mark) as turn:
        pause = turn.pause()
        assert isinstance(pause, Pause)
        assert (pause.until.done(), pause.seconds, turn.leads) == (True, 0.0, True)
        assert turn.pause() is None
    with request_scope("3"), flights.board("s", "a", mark=flights.mark("s")) as turn:
        assert turn.pause() is None


# --- near-equal questions --------------------------------------------------------------------------------------------


def test_a_near_equal_question_waits_and_then_goes_on_by_itself_once() -> None:
    once, gated = Once(near=True), Gated()
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask, once.run_flow, PAY, gated)
        assert gated.inside.wait(WAIT)
        others = [pool.submit(ask, once.run_flow, PAID, gated) for _ in range(10)]
        once.all_have_paused(10)
        assert gated.calls == [PAY]
        gated.go.set()
        assert first.result(WAIT) == f"about {PAY}"
        assert [other.result(WAIT) for other in others] == [f"about {PAID}"] * 10
    assert gated.calls == [PAY, PAID]
    assert_empty(once.flights)


@pytest.mark.parametrize(("one", "other"), [(PAY, HOURS), (FIFTY, HUNDRED)])
def test_what_is_far_or_differs_in_a_word_that_matters_does_not_wait(one: str, other: str) -> None:
    once, gated = Once(near=True), Gated()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ask, once.run_flow, text, gated) for text in (one, other)]
        while len(gated.calls) < 2:
            assert gated.inside.wait(WAIT)
        gated.go.set()
        assert [answer.result(WAIT) for answer in answers] == [f"about {one}", f"about {other}"]
    assert once.paused == []


def test_questions_of_different_scopes_or_embedders_are_never_compared() -> None:
    flights = Flights(30)
    short = Question(PAID, np.ones(1, dtype=np.float32))
    with request_scope("1"), flights.board("s", PAY, question=question(PAY), threshold=0.9) as turn:
        assert turn.pause() is None
        for scope, asked in (("other", question(PAID)), ("s", short), ("s", None)):
            with request_scope(f"2{scope}{asked}"):
                other = flights.board(scope, PAID, question=asked, threshold=0.9)
                with other:
                    assert other.pause() is None
        with request_scope("3"), flights.board("s", PAID, question=question(PAID), threshold=0.9) as other:
            assert other.pause() is not None


def test_when_a_near_question_fails_the_next_may_be_waited_for_in_its_place() -> None:
    once, gated, texts = Once(near=True), Gated(fails=1), [PAID, PAID, PAID]

    def one(text: str) -> str:
        try:
            return ask(once.run_flow, text, gated)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(one, PAY)
        assert gated.inside.wait(WAIT)
        others = [pool.submit(one, text) for text in texts]
        once.all_have_paused(3)
        gated.go.set()
        assert first.result(WAIT) == f"no {PAY}"
        assert [other.result(WAIT) for other in others] == [f"about {PAID}"] * 3
    assert gated.calls == [PAY, PAID]
    assert gated.most == 1


# --- no circles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_call_inside_of_a_call_never_waits_for_it(is_async: bool) -> None:
    once = Once()
    depth = itertools.count()
    inner: Any = ScriptedModel(responses=["never"])
    model = OptimizedChatModel.around(inner, once.run_flow)

    class Nesting(FlowMiddleware):
        part = "nesting"

        def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
            return response(model.invoke("hi").text) if next(depth) == 0 else handler(request)

        async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
            return response((await model.ainvoke("hi")).text) if next(depth) == 0 else await handler(request)

        def flow(self, request: ModelRequest[Any]) -> Flow:
            return (yield request)

    agent: Any = create_agent(ScriptedModel(), middleware=[once, Nesting()])
    given = {"messages": [HumanMessage("hi")]}
    state = await asyncio.wait_for(agent.ainvoke(given), WAIT) if is_async else agent.invoke(given)
    assert state["messages"][-1].text == "never"
    assert once.paused == []
    assert_empty(once.flights)


def test_two_who_call_for_each_others_question_do_not_wait_in_a_circle() -> None:
    once = Once()
    once.keeps = lambda _: False
    both = threading.Barrier(2)

    def crossing(text: str) -> str:
        both.wait(WAIT)
        return ask(once.run_flow, "b" if text == "a" else "a", lambda other: f"{other} in {text}")

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ask, once.run_flow, text, crossing) for text in "ab"]
        assert [answer.result(WAIT) for answer in answers] == ["b in a", "a in b"]
    assert once.paused == []
    assert_empty(once.flights)


# --- limits and safety -----------------------------------------------------------------------------------------------


def test_there_are_never_more_than_so_many_and_hung_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_tokopt.cache.flights._MAX_FLIGHTS", 2)
    clock = FakeClock()
    flights = Flights(30, clock=clock)

    def turn(exact: str) -> Turn:
        with request_scope(exact):
            found = flights.board("s", exact)
            assert found.pause() is None
            return found

    turns = [turn("a"), turn("b"), turn("c")]
    assert [one.leads for one in turns] == [True, True, False]
    clock.advance(30)
    late = turn("d")
    assert (late.leads, flights.under_way) == (True, 1)
    for one in (*turns, late):
        one.__exit__(None, None, None)
    assert_empty(flights)


FORK = """
import os, threading
from langchain_tokopt.cache.flights import Flights
from langchain_tokopt.events import request_scope

flights = Flights(60)

def ahead(caller):
    with request_scope(caller):
        turn = flights.board("s", "a")
        return turn, turn.pause()

turn, _ = ahead("parent")
child = os.fork()
who, (other, pause) = ("child" if child == 0 else "parent"), ahead("other")
os.write(1, f"{who} {pause is None} {other.leads}\\n".encode())
turn.__exit__(None, None, None)
other.__exit__(None, None, None)
os.write(1, f"{who} {flights.under_way} {dict(flights._leaders)}\\n".encode())
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_does_not_wait_for_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == [
        "child 0 {}",
        "child True True",
        "parent 0 {}",
        "parent False False",
    ]


def test_in_shadow_nobody_waits_and_a_pause_is_no_answer() -> None:
    once = Once(mode="shadow")
    with request_scope("1"), once.flights.board("scope", "a") as turn:
        assert turn.pause() is None
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(ask, once.run_flow, "a", lambda _: "x").result(WAIT) == "x"

    def fails_after_waiting(req: ModelRequest[Any]) -> Flow:
        yield Pause(_done(), 0.0)
        raise RuntimeError("afterwards")

    failed: list[str] = []
    for wrapper in (guarded, shadowed):
        flow = wrapper(fails_after_waiting, part="x", failed=lambda part, error, stage: failed.append(stage))
        assert ask(flow, "a", lambda _: "real") == "real"
    assert failed == ["request"] * 2


def _done() -> Any:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def test_a_failing_cache_lands_its_flight() -> None:
    sink = ListSink()

    class Broken(Once):
        def flow(self, request: ModelRequest[Any]) -> Flow:
            with self.flights.board("scope", "a") as turn:
                assert turn.pause() is None
                raise RuntimeError("broken")
            yield request

    broken = Broken(sink=sink)
    assert ask(broken.run_flow, "a", lambda text: f"about {text}") == "about a"
    assert_empty(broken.flights)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_happens_everybody_is_answered_and_nothing_is_left(seed: int) -> None:
    """Threads and two loops, failures and cancellations, equal and near questions, all at once."""
    rng = random.Random(seed)
    once = Once(near=True)
    lock = threading.Lock()
    plan = [(rng.choice([PAY, PAID, HOURS, FIFTY]), rng.random() < 0.3) for _ in range(160)]
    calls = itertools.count()
    failing = {n for n in range(400) if rng.random() < 0.3}

    def model(text: str) -> str:
        if next(calls) in failing:
            raise ValueError(text)
        with lock:
            if len(once.stored) == 3:
                once.stored.clear()  # as if everything had expired: it begins anew
        return f"about {text}"

    inner = ScriptedModel(responses=[lambda messages: model(messages[-1].text)])
    wrapped = OptimizedChatModel.around(inner, once.run_flow)

    def one(item: tuple[str, bool]) -> str:
        try:
            return wrapped.invoke(item[0]).text
        except ValueError as error:
            return f"about {error}"

    async def aone(item: tuple[str, bool]) -> str:
        text, cancelled = item
        task = asyncio.create_task(wrapped.ainvoke(text))
        if cancelled:
            await asyncio.sleep(0)
            task.cancel()
        try:
            return (await task).text
        except (ValueError, asyncio.CancelledError):
            return f"about {text}"

    async def several(items: list[tuple[str, bool]]) -> list[str]:
        return list(await asyncio.gather(*(aone(item) for item in items)))

    with ThreadPoolExecutor(12) as pool:
        loops = [pool.submit(asyncio.run, several(plan[:40])), pool.submit(asyncio.run, several(plan[40:80]))]
        plain = list(pool.map(one, plan[80:]))
        answers = [text for loop in loops for text in loop.result(WAIT)] + plain
    assert answers == [f"about {text}" for text, _ in plan]
    assert_empty(once.flights)
