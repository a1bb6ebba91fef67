"""What is proposed, and what speaks for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.decision.evidence import FEATURES, GEOMETRY, Proposal, propose
from langchain_tokopt.cache.decision.verdict import Neighbour
from langchain_tokopt.cache.reading import prepare

DIMENSION = 4
QUESTION = np.eye(DIMENSION, dtype=np.float32)[0]


def stored(*entries: tuple[float, int, str]) -> tuple[list[Neighbour], np.ndarray]:
    """Neighbours of given similarity, answer and text, each in a direction of its own, and their vectors."""
    near = [Neighbour(n, 1, text, similarity, answer) for n, (similarity, answer, text) in enumerate(entries, 1)]
    rows = np.zeros((len(near), DIMENSION), dtype=np.float32)
    for n, (similarity, _, _) in enumerate(entries):
        rows[n, 0] = similarity
        rows[n, 1 + n % (DIMENSION - 1)] = math.sqrt(1.0 - similarity**2)
    return near, rows


def proposed(question: str, *entries: tuple[float, int, str]) -> Proposal:
    near, rows = stored(*entries)
    return propose(prepare(question), QUESTION, near, rows, prepare)


def told(proposal: Proposal) -> dict[str, float]:
    return dict(zip(FEATURES, proposal.features, strict=True))


def test_a_single_neighbour_is_proposed() -> None:
    found = proposed("how do I reset my pin", (0.9, 7, "how can I reset my pin"))
    assert found.neighbour.id == 1
    assert found.forbidden is None
    numbers = told(found)
    assert numbers["similarity"] == pytest.approx(0.9)
    assert numbers["closeness"] == pytest.approx(-math.log(0.12))
    assert numbers["margin"] == pytest.approx(0.9)
    assert (numbers["vote"], numbers["share"], numbers["nearest"]) == (1.0, 1.0, 1.0)
    assert numbers["density"] == pytest.approx(0.9)
    assert numbers["centre"] == pytest.approx(0.9)
    assert numbers["centre_margin"] == pytest.approx(0.9)


def test_many_neighbours_outvote_the_nearest() -> None:
    found = proposed("open a shop", (0.80, 1, "a shop"), (0.78, 2, "open shop"), (0.76, 2, "opening a shop"))
    assert found.neighbour.id == 2  # the nearest one with the answer of the two
    numbers = told(found)
    votes = [(similarity - 0.3) ** 2 for similarity in (0.80, 0.78, 0.76)]
    assert numbers["vote"] == pytest.approx(sum(votes[1:]) / sum(votes))
    assert numbers["share"] == pytest.approx(2 / 3)
    assert numbers["nearest"] == 0.0
    assert numbers["margin"] == pytest.approx(-0.02)
    assert numbers["density"] == pytest.approx(0.78)
    # The centre of two in different directions is nearer than either.
    middle = np.array([0.78 + 0.76, math.sqrt(1 - 0.78**2), math.sqrt(1 - 0.76**2)])
    assert numbers["centre"] == pytest.approx(middle[0] / np.linalg.norm(middle))
    assert numbers["centre_margin"] == pytest.approx(middle[0] / np.linalg.norm(middle) - 0.80)


def test_a_forbidden_neighbour_is_passed_over_for_one_with_the_same_answer() -> None:
    found = proposed("send 5 euros", (0.95, 1, "send 50 euros"), (0.9, 1, "send 5 euros now"))
    assert (found.neighbour.id, found.forbidden) == (2, None)
    assert told(found)["similarity"] == pytest.approx(0.95)  # how near the answer is, whoever gives it
    assert told(found)["numbers_differ"] == 0.0  # the words are those of the one that is used


def test_when_all_are_forbidden_the_nearest_one_says_why() -> None:
    found = proposed("send 5 euros", (0.95, 1, "send 50 euros"), (0.9, 1, "never send 5 euros"))
    assert (found.neighbour.id, found.forbidden) == (1, "numbers")
    assert told(found)["numbers_differ"] == 1.0


def test_a_neighbour_with_another_answer_does_not_stand_in() -> None:
    found = proposed("send 5 euros", (0.95, 1, "send 50 euros"), (0.5, 2, "send 5 euros"))
    assert (found.neighbour.id, found.forbidden) == (1, "numbers")


def test_neighbours_that_are_not_related_have_no_vote() -> None:
    numbers = told(proposed("a b c", (0.2, 2, "x y z"), (0.1, 1, "u v w")))
    assert numbers["vote"] == 0.0
    assert numbers["similarity"] == pytest.approx(0.2)


def test_a_similarity_above_one_is_borne() -> None:
    """Compressed vectors have no exact length."""
    near, rows = stored((1.0, 1, "hello"))
    beyond = [Neighbour(1, 1, "hello", 1.05, 1)]
    numbers = propose(prepare("hello"), QUESTION, beyond, rows, prepare).features
    assert np.isfinite(numbers).all()
    same = propose(prepare("hello"), QUESTION, near, rows, prepare).features
    assert numbers[FEATURES.index("closeness")] == pytest.approx(same[FEATURES.index("closeness")])


def test_vectors_of_no_length_are_borne() -> None:
    near, rows = stored((0.9, 1, "hello"), (0.8, 2, "bye"))
    assert np.isfinite(propose(prepare("hi"), QUESTION, near, rows * 0.0, prepare).features).all()


def test_a_stored_question_is_read_only_when_it_is_needed() -> None:
    near, rows = stored((0.9, 1, "one way"), (0.8, 1, "other way"), (0.7, 2, "third way"))
    read: list[str] = []

    def reading(text: str) -> object:
        read.append(text)
        return prepare(text)

    propose(prepare("one way"), QUESTION, near, rows, reading)  # type: ignore[arg-type]
    assert read == ["one way"]


@given(
    st.lists(
        st.tuples(st.floats(-1.0, 1.0), st.integers(1, 4), st.sampled_from(["send 5", "send 6", "go home", ""])),
        min_size=1,
        max_size=12,
    )
)
def test_any_neighbours_give_finite_numbers_and_a_neighbour_of_theirs(entries: list[tuple[float, int, str]]) -> None:
    entries = sorted(entries, reverse=True)
    near, rows = stored(*entries)
    found = propose(prepare("send 5"), QUESTION, near, rows, prepare)
    assert found.features.shape == (len(FEATURES),)
    assert np.isfinite(found.features).all()
    assert found.neighbour in near
    numbers = told(found)
    assert 0.0 <= numbers["vote"] <= 1.0
    assert 0.0 < numbers["share"] <= 1.0
    mine = [one for one in near if one.answer == found.neighbour.answer]
    assert numbers["similarity"] == max(one.similarity for one in mine)


def test_features_have_names_of_their_own() -> None:
    assert len(set(FEATURES)) == len(FEATURES)
    assert FEATURES[: len(GEOMETRY)] == GEOMETRY
