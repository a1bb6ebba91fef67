from __future__ import annotations

import re
from pathlib import Path

import pytest

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.plans import plan_for
from langchain_tokopt.demo.plans.documents import topic
from langchain_tokopt.demo.questions import make_threads
from tests.demo.folders import make_folder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(make_folder(tmp_path))


@pytest.mark.parametrize("count", [1, 4, 7, 12])
def test_as_many_questions_as_asked_for(corpus: Corpus, count: int) -> None:
    threads = make_threads(corpus, count)
    assert sum(len(thread.questions) for thread in threads) == count
    assert len({thread.id for thread in threads}) == len(threads)


def test_a_small_folder_gives_fewer_questions(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One\n\n" + "Words about nothing. " * 20)
    threads = make_threads(Corpus(tmp_path), 50)
    assert 0 < sum(len(thread.questions) for thread in threads) < 10


def test_the_same_seed_gives_the_same_questions(corpus: Corpus) -> None:
    assert make_threads(corpus, 12, seed=3) == make_threads(corpus, 12, seed=3)
    assert make_threads(corpus, 12, seed=3) != make_threads(corpus, 12, seed=4)


def test_some_threads_open_with_a_question_of_an_earlier_thread_in_other_words(corpus: Corpus) -> None:
    threads = make_threads(corpus, 12)
    again = [(n, asked) for n, thread in enumerate(threads) for asked in thread.questions if asked.repeats is not None]
    assert again
    for number, asked in again:
        assert asked is threads[number].questions[0]
        assert asked.repeats is not None
        first = threads[asked.repeats].questions[0]
        assert asked.repeats < number
        assert asked.text != first.text
        assert set(re.findall("`[^`]+`", asked.text)) == set(re.findall("`[^`]+`", first.text))


def test_both_wordings_are_understood(corpus: Corpus) -> None:
    """The policy has a plan for every question that is asked, not only the one for "anything else"."""
    texts = [a.text for seed in range(6) for thread in make_threads(corpus, 30, seed) for a in thread.questions]
    assert len(set(texts)) > 20
    anything = topic.__code__
    assert [text for text in texts if plan_for(text).gi_code is anything] == []
