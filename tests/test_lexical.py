from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.lexical import BM25, terms, tokens


def test_terms_are_lower_case_split_stemmed_and_without_stop_words() -> None:
    assert terms("Please list the createdInvoices of my_customers") == ["list", "creat", "invoic", "customer"]


def test_forms_of_a_word_are_one_term() -> None:
    assert {term for form in ("create", "creates", "created", "creating") for term in terms(form)} == {"creat"}


def test_short_words_keep_their_ending() -> None:
    assert terms("bus ring") == ["bus", "ring"]


def test_words_that_ask_say_nothing() -> None:
    assert terms("Could you please just let me know what I want, then?") == ["know"]


def test_text_without_spaces_is_read_in_pairs() -> None:
    assert terms("查询天气 now") == ["查询", "询天", "天气", "now"]
    assert terms("天") == ["天"]


def test_a_score_is_the_formula() -> None:
    index = BM25(["red apple", "green pear tree", "pear"])
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean = 2.0
    expected = [0.0] + [idf * 2.2 / (1 + 1.2 * (0.6 + 0.4 * length / mean)) for length in (3, 1)]
    assert index.scores("a pear") == pytest.approx(expected)


def test_a_word_asked_twice_counts_once() -> None:
    index = BM25(["red apple", "green pear"])
    assert index.scores("pear pear pears").tolist() == index.scores("pear").tolist()


def test_no_texts_and_no_words_give_no_score() -> None:
    assert BM25([]).scores("pear").tolist() == []
    assert BM25(["", "the"]).scores("the").tolist() == [0.0, 0.0]


@given(st.lists(st.text(), max_size=8), st.text())
def test_any_text_gives_one_finite_score_per_text(texts: list[str], query: str) -> None:
    scores = BM25(texts).scores(query)
    assert scores.shape == (len(texts),)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_tokens_are_all_words_as_they_are_written() -> None:
    assert tokens("Please list the createdInvoices") == ["please", "list", "the", "created", "invoices"]
    assert tokens("\u67e5\u8be2\u5929 now") == ["\u67e5\u8be2", "\u8be2\u5929", "now"]
