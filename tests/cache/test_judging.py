"""Whether two answers say the same: our judges, a model as judge, and judges that raise, hang or mumble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage

from langchain_tokopt.cache import ModelJudge, SimilarAnswers
from langchain_tokopt.cache.judging import Bench, find_judge, same_text
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from tests.fakes import ScriptedModel, TableEmbeddings

WAIT = 20.0


# --- the same text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("By card.", "by card", True),
        ("**By** card\n", "  By card!", True),
        ("\u201cYes\u201d \u2014 by card\u2026", "Yes: by card", True),
        ("- by card\n- in cash", "* by card\n* in cash", True),
        ("50 %", "50%", True),
        ("By card.", "By cheque.", False),
        ("1.5 l", "15 l", False),
        ("1.5 l", "1 5 l", False),
        ("It is -5 degrees.", "It is 5 degrees.", False),
        ("5 $", "5 \u20ac", False),
        ("a < b", "a > b", False),
        ("a = b", "a != b", False),
        ("C++", "C#", False),
        ("\U0001f44d", "\U0001f44e", False),
        ("?", "!", False),  # no word in common
        ("?", "?", True),
        ("", "", True),
        ("\ud800", "\ud800", True),
        ("", "By card.", False),
    ],
)
def test_the_same_text_but_for_case_spaces_and_the_punctuation_of_sentences(one: str, other: str, same: bool) -> None:
    assert same_text("How?", one, other) is same
    assert same_text("How?", other, one) is same


# --- similar answers -------------------------------------------------------------------------------------------------

LONG = "Payment is possible in many ways, and this one is explained at length. " * 8


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("By card.", "With your card.", True),
        ("By card.", "In the shop.", False),
        ("By card.", "BY CARD!", True),  # never embedded
        ("It takes 3 days.", "It takes 4 days.", False),
        ("It takes 3 days.", "It takes three days.", True),
        ("You can pay by card.", "You cannot pay by card.", False),
        (f"{LONG} It takes 3 days.", f"{LONG} It takes 4 days.", True),  # in long answers other numbers are common
        ("By card.", "", False),
        ("", " ", False),
    ],
)
def test_similar_answers_are_the_same_unless_short_ones_differ_in_a_number_or_a_negation(
    one: str, other: str, same: bool
) -> None:
    table = TableEmbeddings({"In the shop.": [0.0, 1.0]})
    for text in ("By card.", "With your card.", "It takes 3 days.", "It takes 4 days.", "It takes three days."):
        table.table[text] = [1.0, 0.3]
    for text in ("You can pay by card.", "You cannot pay by card.", *(f"{LONG} It takes {n} days." for n in (3, 4))):
        table.table[text] = [1.0, 0.3]
    judge = SimilarAnswers(MemoEmbeddings(table))
    assert judge("How?", one, other) is same
    assert judge("How?", other, one) is same


def test_the_threshold_is_of_the_cosine_similarity_and_long_answers_are_cut() -> None:
    table = TableEmbeddings({"a": [1.0, 0.0], "b": [0.8, 0.6], "x" * 1_200: [0.6, 0.8]})
    assert SimilarAnswers(MemoEmbeddings(table), threshold=0.8)("?", "a", "b") is True
    assert SimilarAnswers(MemoEmbeddings(table), threshold=0.81)("?", "a", "b") is False
    assert SimilarAnswers(MemoEmbeddings(table), threshold=0.9)("?", "b", "x" * 2_000) is True


@pytest.mark.parametrize("threshold", [0, 1.1, float("nan"), "0.9", True, None])
def test_a_threshold_that_is_none_is_refused(threshold: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        SimilarAnswers(MemoEmbeddings(TableEmbeddings()), threshold=threshold)
    assert raised.value.argument == "threshold"


# --- a model ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "same"),
    [
        ("SAME", True),
        ("same.", True),
        ("**SAME**", True),
        (" Different: the fee is another one", False),
        ("DIFFERENT", False),
    ],
)
def test_a_model_judges_with_one_word(reply: str, same: bool) -> None:
    model = ScriptedModel(responses=[reply])
    assert ModelJudge(model)("How do I pay?", "By card.", "With your card.") is same
    (call,) = model.calls
    assert "How do I pay?" in call.messages[1].text
    assert call.messages[1].text.index("By card.") < call.messages[1].text.index("With your card.")


@pytest.mark.parametrize("reply", ["", "Well, they are not the SAME", "SAMENESS", "I cannot say", "yes"])
def test_a_model_that_says_something_else_has_no_opinion(reply: str) -> None:
    judge = ModelJudge(ScriptedModel(responses=[reply]))
    with pytest.raises(ValueError, match="neither SAME nor DIFFERENT"):
        judge("?", "a", "b")
    bench = Bench(judge, timeout_seconds=WAIT, quick=False)
    assert bench.same("?", "a", "b") is None
    assert bench.failures == 1


def test_a_model_judge_is_nobodys_stream_and_no_cache_answers_for_it() -> None:
    seen = []
    given = ScriptedModel(responses=["SAME"], tags=["mine"])
    judge = ModelJudge(given)
    seen.append((judge._model.tags, judge._model.cache, given.tags, given.cache))
    assert seen == [(["mine", "nostream"], False, ["mine"], None)]


@pytest.mark.parametrize("model", [None, "gpt-4o-mini", ScriptedModel().bind(stop=["."])])
def test_a_model_judge_takes_a_chat_model_only(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass a chat model"):
        ModelJudge(model)


# --- which judge -----------------------------------------------------------------------------------------------------


async def coroutine_judge(question: str, stored: str, new: str) -> bool:
    return stored == new


class CallsLater:
    async def __call__(self, question: str, stored: str, new: str) -> bool:
        return stored == new


@pytest.mark.parametrize(
    ("judge", "remedy"),
    [
        ("llm", 'use "similarity", "text", or a function'),
        (None, 'use "similarity", "text", or a function'),
        (True, 'use "similarity", "text", or a function'),
        ([], 'use "similarity", "text", or a function'),
        (ScriptedModel(), "ModelJudge(model)"),
        (coroutine_judge, "not async"),
        (CallsLater(), "not async"),
    ],
)
def test_what_cannot_judge_is_refused(judge: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        find_judge(judge, lambda: MemoEmbeddings(TableEmbeddings()))
    assert raised.value.argument == "judge"
    assert remedy in str(raised.value)


def test_judges_are_found_by_name_and_functions_are_taken_as_they_are() -> None:
    embeddings = MemoEmbeddings(TableEmbeddings())
    assert isinstance(find_judge("similarity", lambda: embeddings), SimilarAnswers)
    assert find_judge("text", lambda: embeddings) is same_text
    mine = ModelJudge(ScriptedModel())
    assert find_judge(mine, lambda: embeddings) is mine


# --- the bench -------------------------------------------------------------------------------------------------------


class Hangs:
    """A judge that comes back when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)

    def __call__(self, question: str, stored: str, new: str) -> bool:
        self.asked.release()
        assert self.go.wait(WAIT)
        return True


@pytest.fixture
def hangs() -> Iterator[Hangs]:
    judge = Hangs()
    yield judge
    judge.go.set()


def raises(question: str, stored: str, new: str) -> bool:
    raise KeyError(question)


def mumbles(question: str, stored: str, new: str) -> Any:
    return "SAME"


def out_of_time(question: str, stored: str, new: str) -> bool:
    raise TimeoutError("the provider did not answer")


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    ("judge", "problem"),
    [
        (raises, "KeyError: '?'"),
        (mumbles, "it returned str, not a bool"),
        (out_of_time, "TimeoutError: the provider did not answer"),
    ],
)
def test_a_judge_that_fails_has_no_opinion_and_is_logged_once(
    judge: Callable[[str, str, str], bool], problem: str, quick: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(judge, timeout_seconds=WAIT, quick=quick)
    assert [bench.same("?", "a", "b") for _ in range(3)] == [None] * 3
    assert bench.failures == 3
    assert [record.message for record in caplog.records] == [
        f"the cache's judge gave no opinion, and nothing was learned from it: {problem}"
    ]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(("given", "expected"), [(True, True), (np.bool_(False), False)])
def test_an_opinion_is_a_bool_numpys_too(given: Any, expected: bool, quick: bool) -> None:
    assert Bench(lambda *_: given, timeout_seconds=WAIT, quick=quick).same("?", "a", "b") is expected


def test_a_judge_that_hangs_has_no_opinion_and_only_few_are_let_hang(
    hangs: Hangs, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(hangs, timeout_seconds=0.001, quick=False)
    before = threading.active_count()
    assert [bench.same("?", "a", "b") for _ in range(20)] == [None] * 20
    assert threading.active_count() - before == 4
    assert bench.failures == 20
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["no answer within 0.001 s"]
    hung = [thread for thread in threading.enumerate() if thread.name == "tokopt-judge"]
    hangs.go.set()
    for thread in hung:
        thread.join(WAIT)
    assert Bench(hangs, timeout_seconds=WAIT, quick=False).same("?", "a", "b") is True
    assert bench._under_way == set()


def test_a_hung_judge_is_not_waited_for_when_nobody_wants_its_opinion(hangs: Hangs) -> None:
    wanted = [True]
    said: list[bool | None] = []
    bench = Bench(hangs, timeout_seconds=1_000.0, quick=False, wanted=lambda: wanted[0])
    waiting = threading.Thread(target=lambda: said.append(bench.same("?", "a", "b")))
    waiting.start()
    assert hangs.asked.acquire(timeout=WAIT)
    wanted[0] = False
    waiting.join(WAIT)
    assert said == [None]
    assert bench.failures == 0  # it is not the judge's fault


def test_a_child_of_a_fork_does_not_count_what_hangs_in_the_parent(hangs: Hangs) -> None:
    bench = Bench(hangs, timeout_seconds=0.001, quick=False)
    assert [bench.same("?", "a", "b") for _ in range(4)] == [None] * 4
    bench.after_fork_in_child()
    hangs.go.set()
    assert Bench(lambda *_: True, timeout_seconds=WAIT, quick=False).same("?", "a", "b") is True
    bench._timeout = WAIT
    assert bench.same("?", "a", "b") is True


def test_an_answer_of_a_model_judge_counts() -> None:
    bench = Bench(ModelJudge(ScriptedModel(responses=[AIMessage("DIFFERENT")])), timeout_seconds=WAIT, quick=False)
    assert bench.same("?", "a", "b") is False
    assert bench.failures == 0
