from __future__ import annotations

import io
import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tools.intent import IntentClassifier
from tests.fakes import TableEmbeddings
from tests.unit_vectors import random_units, unit

FRUIT = {"an apple": [1, 0.1], "a pear": [1, -0.1], "a train": [0.1, 1], "a bus": [-0.1, 1], "a plum": [0.9, 0.2]}


def by_table() -> IntentClassifier:
    return IntentClassifier(TableEmbeddings(FRUIT, dim=2))


def labelled(groups: int, each: int, *, dim: int = 16, noise: float = 0.6, seed: int = 0) -> tuple[Any, list[str]]:
    """Vectors around the middle of as many groups, in turn, and their labels."""
    random = np.random.default_rng(seed)
    middle = random_units(groups, dim, seed=1)
    where = np.tile(np.arange(groups), each)
    return unit(middle[where] + noise * random.normal(size=(len(where), dim)) / dim**0.5), [f"g{n}" for n in where]


def taught(vectors: Any, labels: list[str], **settings: Any) -> IntentClassifier:
    classifier = IntentClassifier(TableEmbeddings(), **settings)
    for vector, label in zip(vectors, labels, strict=True):
        classifier.learn_vector(vector, label)
    return classifier


def accuracy(classifier: IntentClassifier, vectors: Any, labels: list[str]) -> float:
    found = [classifier.probabilities(vector) for vector in vectors]
    return float(np.mean([max(one, key=one.__getitem__) == label for one, label in zip(found, labels, strict=True)]))


# --- learning and asking ---------------------------------------------------------------------------------------------


def test_a_text_gets_the_label_of_those_it_is_near() -> None:
    classifier = by_table()
    classifier.learn_many(["an apple", "a pear", "a train", "a bus"], ["fruit", "fruit", "vehicle", "vehicle"])
    assert classifier.labels == ("fruit", "vehicle")
    (best, probability), (other, rest) = classifier.predict("a plum", k=5)
    assert (best, other) == ("fruit", "vehicle")
    assert probability > 0.9
    assert probability + rest == pytest.approx(1)
    assert classifier.predict("a plum") == [("fruit", probability)]


def test_nothing_is_probable_before_anything_is_known_and_nothing_is_embedded_for_it() -> None:
    embeddings = TableEmbeddings()
    classifier = IntentClassifier(embeddings)
    assert (classifier.predict("anything", k=3), classifier.probabilities([1.0, 0.0]), classifier.labels) == (
        [],
        {},
        (),
    )
    assert embeddings.asked == []


def test_a_single_label_is_certain() -> None:
    classifier = by_table()
    classifier.learn("an apple", "fruit")
    assert classifier.predict("a train", k=2) == [("fruit", 1.0)]


def test_vectors_need_no_embedder_and_no_unit_norm() -> None:
    classifier = IntentClassifier("/no/such/folder")
    classifier.learn_vector([2, 0], "x")
    classifier.learn_vector(np.array([0.0, 0.5]), "y")
    assert classifier.probabilities([9, 1]) == classifier.probabilities([0.9, 0.1])
    assert max(classifier.probabilities([9, 1]).items(), key=lambda one: one[1])[0] == "x"


@pytest.mark.parametrize("each", [1, 2, 3, 20])
def test_well_separated_labels_are_told_apart_from_the_first_example_on(each: int) -> None:
    vectors, labels = labelled(40, each, dim=64, noise=0.5)
    asked, wanted = labelled(40, 5, dim=64, noise=0.5, seed=9)
    assert accuracy(taught(vectors, labels), asked, wanted) == 1.0


def test_directions_in_which_every_label_varies_count_less() -> None:
    # Labels differ in one direction only, and texts vary widely in another one: the nearest mean is often wrong.
    random = np.random.default_rng(3)

    def draw(count: int) -> tuple[Any, list[str]]:
        where = np.tile([0, 1], count)
        rows = np.stack([0.3 * (2 * where - 1), 1.5 * random.normal(size=len(where)), np.ones(len(where))], axis=1)
        return unit(rows + 0.02 * random.normal(size=rows.shape)), ["left" if n == 0 else "right" for n in where]

    classifier = taught(*draw(40))
    assert accuracy(classifier, *draw(200)) > 0.95


def test_examples_that_would_be_mistaken_move_the_border() -> None:
    # `odd` lies near to `common`, in a direction of its own: the means alone would give it to `common`.
    common, rare, odd = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.9, 0.1, 0.4, 0.0]
    classifier = taught([common, rare] * 40, ["common", "rare"] * 40)
    assert classifier.probabilities(odd)["rare"] < 0.01
    for _ in range(15):
        classifier.learn_vector(odd, "rare")
    assert classifier.probabilities(odd)["rare"] > 0.5
    assert classifier.probabilities(common)["common"] > 0.9
    assert classifier.probabilities(rare)["rare"] > 0.9


def test_a_label_seen_a_hundred_times_does_not_drown_one_seen_twice() -> None:
    vectors, labels = labelled(2, 100)
    classifier = taught([*vectors[::2], *vectors[1:5:2]], [*labels[::2], *labels[1:5:2]])
    asked, wanted = labelled(2, 100, seed=5)
    assert accuracy(classifier, asked, wanted) > 0.98


def test_examples_that_come_label_by_label_teach_as_well() -> None:
    vectors, labels = labelled(30, 10, dim=64)
    order = np.argsort(labels, kind="stable")
    asked, wanted = labelled(30, 10, dim=64, seed=7)
    assert accuracy(taught(vectors[order], [labels[n] for n in order]), asked, wanted) == 1.0


def test_equal_examples_give_no_direction_and_no_error() -> None:
    classifier = taught([[1.0, 0.0]] * 6, ["a", "b"] * 3)
    assert classifier.probabilities([1.0, 0.0]) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.3)
    assert classifier.probabilities([0.0, 1.0]) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.3)


def test_what_is_said_depends_on_the_examples_only_and_not_on_when_it_was_asked() -> None:
    vectors, labels = labelled(5, 12)
    asked_often = IntentClassifier(TableEmbeddings())
    for vector, label in zip(vectors, labels, strict=True):
        asked_often.learn_vector(vector, label)
        asked_often.probabilities(vector)
        asked_often.save()
    assert asked_often.probabilities(vectors[0]) == taught(vectors, labels).probabilities(vectors[0])


def test_vectors_too_long_for_a_metric_are_told_apart() -> None:
    vectors, labels = labelled(10, 5, dim=1000, noise=0.5)
    classifier = taught(vectors, labels)
    asked, wanted = labelled(10, 5, dim=1000, noise=0.5, seed=4)
    assert accuracy(classifier, asked, wanted) == 1.0
    assert len(classifier.save()) < 200_000


# --- fading and forgetting -------------------------------------------------------------------------------------------


def test_with_a_half_life_a_new_habit_takes_over_sooner() -> None:
    text, rest = [1.0, 0.2, 0.0], [0.0, 0.2, 1.0]
    history = [(text, "old"), (rest, "new")] * 100 + [(text, "new")] * 12
    vectors, labels = [vector for vector, _ in history], [label for _, label in history]
    lasting, fading = taught(vectors, labels), taught(vectors, labels, half_life=10)
    assert fading.probabilities(text)["new"] > 0.9
    assert lasting.probabilities(text)["new"] < fading.probabilities(text)["new"]


def test_a_label_that_is_seen_no_more_fades() -> None:
    vectors, labels = labelled(3, 1)
    classifier = taught(vectors, labels, half_life=2)
    fresh = classifier.probabilities(vectors[0])["g0"]
    for _ in range(100):  # far beyond where its weight can be told from 0
        classifier.learn_vector(vectors[1], "g1")
        classifier.learn_vector(vectors[2], "g2")
    faded = classifier.probabilities(vectors[0])
    assert faded["g0"] < 0.7 < fresh
    assert sum(faded.values()) == pytest.approx(1)


def test_long_use_with_a_half_life_stays_finite() -> None:
    vectors, labels = labelled(4, 200)
    classifier = taught(vectors, labels, half_life=1)
    assert sum(classifier.probabilities(vectors[0]).values()) == pytest.approx(1)
    assert accuracy(classifier, *labelled(4, 20, seed=2)) > 0.9


def test_a_forgotten_label_is_gone_and_the_others_stay() -> None:
    vectors, labels = labelled(3, 10)
    classifier = taught(vectors, labels)
    before = classifier.probabilities(vectors[0])
    classifier.forget("g1")
    classifier.forget("never seen")
    assert classifier.labels == ("g0", "g2")
    after = classifier.probabilities(vectors[0])
    assert after["g0"] / after["g2"] == pytest.approx(before["g0"] / before["g2"], rel=1e-4)


def test_labels_that_come_and_go_end_where_they_began() -> None:
    classifier = by_table()
    for round_ in range(30):
        classifier.learn("an apple", f"fruit {round_}")
        classifier.learn("a train", f"vehicle {round_}")
        assert classifier.predict("a pear")[0][0] == f"fruit {round_}"
        classifier.forget(f"fruit {round_}")
        classifier.forget(f"vehicle {round_}")
    assert classifier.predict("a pear") == []
    classifier.learn("an apple", "fruit")
    assert classifier.predict("a pear") == [("fruit", 1.0)]


def test_new_labels_are_told_apart_where_the_old_ones_were_elsewhere() -> None:
    middle = random_units(1, 16)[0]
    old, new = unit(middle + 0.2 * random_units(30, 16)), unit(0.3 * random_units(3, 16, seed=2) - middle)
    classifier = taught([*old] * 6, [f"old {n}" for n in range(30)] * 6)
    for number in range(30):
        classifier.forget(f"old {number}")
    for number, vector in enumerate(new):
        classifier.learn_vector(vector, f"new {number}")
    assert [classifier.probabilities(vector)[f"new {number}"] > 0.99 for number, vector in enumerate(new)] == [True] * 3


# --- keeping it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life", [None, 7])
def test_what_was_saved_goes_on_as_if_nothing_had_happened(half_life: float | None) -> None:
    vectors, labels = labelled(6, 20)
    first = taught(vectors[:77], labels[:77], half_life=half_life)
    second = IntentClassifier.load(first.save(), TableEmbeddings())
    assert second.labels == first.labels
    assert second.probabilities(vectors[100]) == pytest.approx(first.probabilities(vectors[100]), rel=1e-4)
    for classifier in (first, second):
        for vector, label in zip(vectors[77:], labels[77:], strict=True):
            classifier.learn_vector(vector, label)
    assert second.probabilities(vectors[100]) == pytest.approx(first.probabilities(vectors[100]), rel=1e-3)


def test_nothing_learned_can_be_saved_too() -> None:
    classifier = IntentClassifier.load(IntentClassifier(half_life=5).save(), TableEmbeddings(FRUIT, dim=2))
    assert classifier.predict("an apple") == []
    classifier.learn("an apple", "fruit")
    assert classifier.predict("an apple") == [("fruit", 1.0)]


def test_a_state_holds_no_pickle_and_equal_ones_are_equal_bytes() -> None:
    classifier = by_table()
    classifier.learn("an apple", "fruit\x00 ünïcode")
    state = classifier.save()
    with np.load(io.BytesIO(state), allow_pickle=False) as saved:
        assert all(saved[name].dtype.kind in "fu" for name in saved.files)
    assert state == classifier.save()
    assert IntentClassifier.load(state).labels == ("fruit\x00 ünïcode",)


@pytest.mark.parametrize("state", [b"", b"nonsense", b"PK\x03\x04"])
def test_bytes_that_are_no_state_are_refused(state: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"state='\d+ bytes' cannot be used: pass what IntentClassifier\.save"):
        IntentClassifier.load(state)


def test_a_state_of_another_format_or_with_labels_missing_is_refused() -> None:
    classifier = by_table()
    classifier.learn_many(["an apple", "a bus"], ["fruit", "vehicle"])
    with np.load(io.BytesIO(classifier.save())) as saved:
        arrays = dict(saved)
    header = json.loads(arrays["header"].tobytes())
    for change in ({"format": 2}, {"labels": ["fruit"]}, {"dim": 3}):
        out = io.BytesIO()
        arrays["header"] = np.frombuffer(json.dumps({**header, **change}).encode(), dtype=np.uint8)
        np.savez(out, **arrays)
        with pytest.raises(ConfigurationError, match="state"):
            IntentClassifier.load(out.getvalue())


def test_texts_of_another_embedder_are_refused_after_loading() -> None:
    classifier = by_table()
    classifier.learn("an apple", "fruit")

    class Other(TableEmbeddings):
        pass

    other = IntentClassifier.load(classifier.save(), Other(dim=2))
    with pytest.raises(ConfigurationError, match="learned with TableEmbeddings/2"):
        other.predict("an apple")
    assert IntentClassifier.load(other.save(), TableEmbeddings(dim=2)).predict("an apple") == [("fruit", 1.0)]


# --- what cannot work ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life", [0, -1, 0.5, float("nan"), float("inf")])
def test_a_half_life_that_cannot_work_is_refused(half_life: float) -> None:
    with pytest.raises(ConfigurationError, match="half_life"):
        IntentClassifier(half_life=half_life)


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [[1.0, 0.0]], 3.0])
def test_a_vector_without_direction_is_refused_and_changes_nothing(vector: Any) -> None:
    classifier = IntentClassifier()
    for use in (lambda: classifier.learn_vector(vector, "x"), lambda: classifier.probabilities(vector)):
        with pytest.raises(ConfigurationError, match="vector"):
            use()
    assert classifier.labels == ()


def test_another_dimension_is_refused_and_changes_nothing() -> None:
    classifier = IntentClassifier()
    classifier.learn_vector([1.0, 0.0], "x")
    with pytest.raises(ConfigurationError, match="vector='3 numbers' cannot be used: those learned have 2"):
        classifier.learn_vector([1.0, 0.0, 0.0], "y")
    with pytest.raises(ConfigurationError, match="those learned have 2"):
        classifier.probabilities([1.0, 0.0, 0.0])
    assert classifier.probabilities([1.0, 0.0]) == {"x": 1.0}


def test_labels_that_are_missing_or_no_strings_are_refused() -> None:
    classifier = by_table()
    with pytest.raises(ConfigurationError, match=r"labels='1 labels' .* 2 texts"):
        classifier.learn_many(["an apple", "a pear"], ["fruit"])
    not_a_string: Any = 7
    with pytest.raises(ConfigurationError, match="label=7"):
        classifier.learn_vector([1.0, 0.0], not_a_string)
    assert classifier.labels == ()


@pytest.mark.parametrize("k", [0, -1, True, 1.5])
def test_a_k_that_cannot_work_is_refused(k: Any) -> None:
    with pytest.raises(ConfigurationError, match="k="):
        by_table().predict("an apple", k=k)


# --- many threads, any input -----------------------------------------------------------------------------------------


def test_threads_that_learn_ask_and_forget_at_once_lose_nothing() -> None:
    vectors, labels = labelled(8, 10)
    classifier = IntentClassifier()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for vector, label in zip(vectors, labels, strict=True):
                classifier.learn_vector(vector, f"{label} {number}")
                found = classifier.probabilities(vector)
                assert abs(sum(found.values()) - 1) < 1e-6
            classifier.forget(f"g0 {number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(classifier.labels) == sorted(f"g{group} {number}" for group in range(1, 8) for number in range(4))


VECTORS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3).filter(
    lambda row: any(abs(x) > 1e-3 for x in row)
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["learn", "learn", "forget"]), VECTORS, st.sampled_from("abcd")), max_size=30
)


@settings(max_examples=40, deadline=None)
@given(STEPS, VECTORS, st.sampled_from([None, 1.0, 5.0]))
def test_any_sequence_gives_probabilities_that_add_up_to_one(
    steps: list[tuple[str, list[float], str]], asked: list[float], half_life: float | None
) -> None:
    classifier = IntentClassifier(half_life=half_life)
    known: dict[str, None] = {}
    for step, vector, label in steps:
        if step == "learn":
            classifier.learn_vector(vector, label)
            known[label] = None
        else:
            classifier.forget(label)
            known.pop(label, None)
    found = classifier.probabilities(asked)
    assert tuple(found) == classifier.labels == tuple(known)
    assert all(0 <= value <= 1 for value in found.values())
    assert sum(found.values()) == pytest.approx(1 if known else 0)
    assert IntentClassifier.load(classifier.save()).probabilities(asked) == pytest.approx(found, abs=1e-3)
