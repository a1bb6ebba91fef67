"""Which pieces of an output matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.context.trimming.identifiers import identifiers
from langchain_tokopt.context.trimming.relevance import Wanted, relevance
from tests.strategies import odd_texts

FILLER = [f"nothing of interest in the long line of filler {word}" for word in "abcdefghijklmnopqrstuvwxyz"]


def best(line: str, wanted: Wanted = Wanted(), *, seen: frozenset[str] = frozenset()) -> bool:  # noqa: B008 - frozen
    """Whether a line in the middle of a long output is the one that matters most."""
    texts = [*FILLER, line, *FILLER]
    return int(relevance(texts, wanted, seen).argmax()) == len(FILLER)


@pytest.mark.parametrize(
    "line",
    [
        "ERROR the disk is full",
        "Traceback (most recent call last):",
        "FileNotFoundException was thrown",
        "the request timed out",
        "permission Denied",
        "3 tests FAILED",
    ],
)
def test_what_went_wrong_matters(line: str) -> None:
    assert best(line)


@pytest.mark.parametrize(
    "line",
    [
        "def run(request):",
        "  12:     class Order:",
        "src/app.py:12: class Order(Base):",
        "    export async function load() {",
        "#include <stdio.h>",
        "import json",
    ],
)
def test_definitions_matter(line: str) -> None:
    assert best(line)


def test_what_was_asked_for_matters() -> None:
    line = "refunds are handled by the billing desk"
    assert not best(line)
    assert best(line, Wanted(call="search refund policy"))
    assert best(line, Wanted(task="How are refunds handled?"))


def test_words_of_the_call_weigh_more_than_those_of_the_task() -> None:
    texts = [*FILLER, "all about refunds there", *FILLER, "all about tickets here", *FILLER]
    scores = relevance(texts, Wanted(call="refund", task="ticket"))
    assert scores[len(FILLER)] > scores[2 * len(FILLER) + 1]


def test_words_are_found_in_names_and_in_other_forms() -> None:
    assert best("value of getRefundPolicies here", Wanted(call="policy refunds"))


def test_new_names_matter_and_known_ones_do_not() -> None:
    texts = [*FILLER, "see job/000017 there", *FILLER]
    new, known = relevance(texts, Wanted()), relevance(texts, Wanted(), frozenset({"job/000017"}))
    assert new[len(FILLER)] > known[len(FILLER)] + 0.4


def test_a_name_is_new_once() -> None:
    texts = [*FILLER, "see job/000017 there", *FILLER, "see job/000017 there", *FILLER]
    scores = relevance(texts, Wanted())
    assert scores[len(FILLER)] > scores[2 * len(FILLER) + 1] + 0.4


def test_neighbours_of_what_matters_matter_more() -> None:
    texts = [*FILLER, "ERROR the disk is full", *FILLER]
    scores, plain = relevance(texts, Wanted()), relevance([*FILLER, *FILLER, FILLER[0]], Wanted())
    assert scores[len(FILLER) + 1] > plain[len(FILLER) + 1]
    assert scores[len(FILLER) - 1] > plain[len(FILLER) - 1]


def test_the_beginning_and_the_end_matter() -> None:
    scores = relevance(FILLER * 4, Wanted())
    assert scores[1] > scores[50]
    assert scores[-2] > scores[50]


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "x" * 1_000_000, " " * 100_000, "İ" * 50, "漢字" * 50])
def test_odd_pieces_have_a_score(text: str) -> None:
    scores = relevance([text, "ERROR here", text], Wanted(text, text))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores[1] == scores.max() or len(text) > 1_000


def test_letters_that_are_longer_in_lower_case_move_nothing() -> None:
    assert best("İİİİ but then an error came")


def test_no_pieces_have_no_scores() -> None:
    assert relevance([], Wanted("a", "b")).shape == (0,)


@given(st.lists(odd_texts(), max_size=20), odd_texts(), odd_texts())
def test_every_piece_has_a_score_and_names_may_be_given(texts: list[str], call: str, task: str) -> None:
    wanted = Wanted(call, task)
    scores = relevance(texts, wanted)
    assert scores.shape == (len(texts),)
    assert np.isfinite(scores).all()
    known = relevance(texts, wanted, names=[tuple(identifiers(text)) for text in texts])
    assert known.tobytes() == scores.tobytes()
