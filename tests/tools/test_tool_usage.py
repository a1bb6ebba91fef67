"""What calls teach: sums that add up, quick reads that agree with slow ones, and processes that count nothing twice."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokopt.lexical import terms
from langchain_tokopt.tools import usage as usage_module
from langchain_tokopt.tools.usage import LearnedUsage, ToolUsage
from langchain_tokopt.tools.usage_sums import MAX_PAIRS, MAX_TERMS, MEMORY, UsageSums, lessons_of, term_hashes
from tests.unit_vectors import random_units, unit

A, B, C, D = (name.encode() * 16 for name in "abcd")
TOOLS = (A, B, C, D)
KEPT = 1 - 1 / MEMORY
EAST, NORTH = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
WORDS = ("weather", "flight", "invoice", "refund", "berlin", "ticket", "tomorrow")


def lesson(text: str, called: Sequence[bytes] = (A,), before: Sequence[bytes] = (), vector: Any = None) -> UsageSums:
    return lessons_of(text, vector, called, before)[called[0]]


def counts(sums: UsageSums) -> dict[int, float]:
    return dict(zip(sums.terms.tolist(), sums.counts.tolist(), strict=True))


def same(one: UsageSums, other: UsageSums) -> None:
    assert one.examples == other.examples
    assert one.weight == pytest.approx(other.weight)
    assert counts(one) == pytest.approx(counts(other), rel=1e-4)
    assert dict(one.together) == pytest.approx(dict(other.together))
    assert dict(one.following) == pytest.approx(dict(other.following))
    assert (one.vector is None) == (other.vector is None)
    if one.vector is not None and other.vector is not None:
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)


def sums_of(usage: LearnedUsage) -> dict[bytes, UsageSums]:
    """What is known of each tool, as it is handed to a database of its own."""
    return dict(usage._sums)


QUESTIONS = st.tuples(
    st.sampled_from(["", "refund", "weather in Berlin", "a flight and a ticket", "refund of the ticket", "tomorrow"]),
    st.sampled_from([None, EAST, NORTH, unit([1, 1]), unit([-3, 4])]),
    st.lists(st.sampled_from(TOOLS), max_size=3),
    st.lists(st.sampled_from(TOOLS), max_size=3),
)


# --- sums ------------------------------------------------------------------------------------------------------------


def test_older_examples_of_a_tool_fade_with_every_later_one() -> None:
    first = lesson("weather in Berlin", (A, B), vector=EAST)
    sums = first.then(lesson("weather tomorrow", (A, C), before=(D,), vector=NORTH))
    assert (sums.examples, sums.weight) == (2, KEPT + 1)
    assert sums.vector is not None
    np.testing.assert_allclose(sums.vector, [KEPT, 1], rtol=1e-6)
    weather, berlin, tomorrow = (term_hashes(word)[0] for word in ("weather", "berlin", "tomorrow"))
    assert counts(sums) == pytest.approx({weather: KEPT + 1, berlin: KEPT, tomorrow: 1})
    assert dict(sums.together) == {B: KEPT, C: 1}


def test_a_call_after_another_is_no_example_of_that_one() -> None:
    lessons = lessons_of("and a refund", None, [A], [D, B, C, C])
    assert set(lessons) == {A, C}  # the last two calls count
    assert (lessons[C].examples, lessons[C].weight, dict(lessons[C].following)) == (0, 0, {A: 1})
    assert dict(lessons[A].following) == {}
    before = lesson("x", (C,), vector=EAST)
    assert before.then(lessons[C]).weight == 1
    assert dict(before.then(lessons[C]).following) == {A: 1}


def test_a_tool_that_is_called_again_follows_itself() -> None:
    assert dict(lesson("and tomorrow", before=[A]).following) == {A: 1}


def test_no_call_teaches_nothing() -> None:
    assert lessons_of("weather", EAST, [], [A, B]) == {}


def test_words_are_kept_as_numbers_of_8_bytes_once_each() -> None:
    sums = lesson("Weather weather WEATHER in Kreuzberg")
    assert sums.terms.dtype == np.uint64
    assert counts(sums) == dict.fromkeys(term_hashes("weather kreuzberg"), 1)
    assert b"kreuzberg" not in pickle.dumps((sums.terms, sums.counts, sums.together, sums.following)).lower()


def test_the_lightest_words_go_when_there_are_too_many() -> None:
    many = " ".join(f"word{n}x" for n in range(MAX_TERMS))
    sums = lesson(many)
    assert len(sums.terms) == MAX_TERMS
    later = sums.then(lesson("something new"))
    gone = term_hashes("word0x word1x")
    assert len(later.terms) == len(set(later.terms.tolist())) == MAX_TERMS
    assert set(later.terms.tolist()) == set(term_hashes(many)) - set(gone) | set(term_hashes("something new"))
    kept = later.terms == sums.terms
    assert kept.sum() == MAX_TERMS - 2  # a word keeps its place
    np.testing.assert_allclose(later.counts[kept], KEPT, rtol=1e-5)
    np.testing.assert_array_equal(later.counts[~kept], [1, 1])


def test_the_heaviest_and_of_these_the_latest_pairs_are_kept() -> None:
    others = [bytes([n]) * 16 for n in range(MAX_PAIRS + 5)]
    sums = lesson("a", (A, *others[:MAX_PAIRS]))
    assert set(lesson("a", (A, *others)).together) == set(others[:MAX_PAIRS])
    sums = sums.then(lesson("b", (A, others[-1], others[0])))
    assert len(sums.together) == MAX_PAIRS
    assert sums.together[others[-1]] == 1
    assert sums.together[others[0]] == KEPT + 1


def test_a_vector_of_another_length_replaces_what_was_summed() -> None:
    longer = np.array([0, 0, 1], dtype=np.float32)
    sums = lesson("a", vector=EAST).then(lesson("b", vector=longer))
    np.testing.assert_array_equal(sums.vector, longer)  # type: ignore[arg-type]
    assert sums.examples == 2


def test_a_vector_that_is_not_finite_is_left_out() -> None:
    assert lesson("a", vector=np.array([np.nan, 1], dtype=np.float32)).vector is None


@given(st.lists(QUESTIONS, max_size=10), st.integers(0, 10))
def test_sums_may_be_put_together_in_any_grouping(asked: list[Any], cut: int) -> None:
    lessons = [lessons_of(text, vector, [A, *called], before)[A] for text, vector, called, before in asked]
    one_by_one = UsageSums()
    for each in lessons:
        one_by_one = one_by_one.then(each)
    halves = [UsageSums(), UsageSums()]
    for at, each in enumerate(lessons):
        halves[at >= cut] = halves[at >= cut].then(each)
    same(halves[0].then(halves[1]), one_by_one)


@given(st.lists(QUESTIONS, max_size=8), st.lists(QUESTIONS, max_size=8))
def test_the_order_of_two_processes_hardly_matters(mine: list[Any], theirs: list[Any]) -> None:
    sides = [UsageSums(), UsageSums()]
    for side, asked in enumerate((mine, theirs)):
        for text, vector, called, before in asked:
            sides[side] = sides[side].then(lessons_of(text, vector, [A, *called], before)[A])
    one, other = sides[0].then(sides[1]), sides[1].then(sides[0])
    assert one.examples == other.examples
    assert one.weight == pytest.approx(other.weight)
    faded = (1 - KEPT**8) * 8  # what 8 examples may fade 8 others by
    for term, count in counts(one).items():
        assert abs(count - counts(other)[term]) <= faded
    for pair, count in one.together.items():
        assert abs(count - other.together[pair]) <= faded


# --- reading ---------------------------------------------------------------------------------------------------------


def words_by_the_book(examples: Sequence[tuple[str, bytes]], query: str, tool: bytes) -> float:
    """The formula, word by word, from the examples of all tools in order."""
    by_tool: dict[bytes, list[set[str]]] = {}
    for text, called in examples:
        by_tool.setdefault(called, []).append(set(terms(text)))
    faded = {name: [KEPT ** (len(texts) - 1 - n) for n in range(len(texts))] for name, texts in by_tool.items()}
    total = sum(sum(weights) for weights in faded.values())
    score = 0.0
    for term in dict.fromkeys(terms(query)):
        k = {
            name: sum(weight for weight, text in zip(faded[name], texts, strict=True) if term in text)
            for name, texts in by_tool.items()
        }
        p = (sum(k.values()) + 0.5) / (total + 1)
        if tool in by_tool and k[tool]:
            score += max(0.0, math.log(((k[tool] + 0.5 * p) / (sum(faded[tool]) + 0.5)) / p))
    return score


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), st.sampled_from(TOOLS[:3]))),
    st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join),
)
def test_the_words_speak_for_a_tool_as_the_formula_says(examples: list[tuple[str, bytes]], query: str) -> None:
    usage = LearnedUsage()
    for text, tool in examples:
        usage.observe(text, None, [tool])
    scores = usage.for_tools(TOOLS).word_scores(query)
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([words_by_the_book(examples, query, tool) for tool in TOOLS], abs=1e-4)
    assert scores[3] == 0


def test_a_centroid_moves_from_the_text_to_the_questions() -> None:
    usage = LearnedUsage()
    view = usage.for_tools(TOOLS)
    base = np.stack([EAST, EAST, NORTH, NORTH])
    np.testing.assert_array_equal(view.centroids(base), base)
    usage.observe("q", NORTH, [B])
    np.testing.assert_allclose(view.centroids(base)[1], unit([2 / 3, 1 / 3]), rtol=1e-6)
    usage.observe("q", NORTH, [B])
    share = (KEPT + 1) / (KEPT + 3)
    np.testing.assert_allclose(view.centroids(base)[1], unit([1 - share, share]), rtol=1e-6)
    np.testing.assert_array_equal(view.centroids(base)[[0, 2, 3]], base[[0, 2, 3]])
    assert view.weights.tolist() == pytest.approx([0, KEPT + 1, 0, 0])


def test_without_a_vector_only_words_and_pairs_are_learned() -> None:
    usage = LearnedUsage()
    view = usage.for_tools(TOOLS)
    usage.observe("refund", None, [A])
    np.testing.assert_allclose(view.centroids(np.stack([EAST] * 4)), [[1, 0]] * 4)
    assert view.word_scores("refund")[0] > 0


def test_an_embedder_of_another_dimension_finds_the_tools_where_their_texts_are() -> None:
    usage = LearnedUsage()
    view = usage.for_tools(TOOLS)
    usage.observe("q", NORTH, [A])
    base = random_units(4, 3)
    np.testing.assert_allclose(view.centroids(base), base, rtol=1e-6)


def test_what_is_called_together_and_one_after_the_other() -> None:
    usage = LearnedUsage()
    view = usage.for_tools(TOOLS)
    usage.observe("q", None, [A, B])
    usage.observe("q", None, [C], [A, B])
    usage.observe("q", None, [A, C], [C])
    c = KEPT + 1  # the weight of A and of C after two examples each
    np.testing.assert_allclose(view.neighbours([0]), [0, KEPT / (c + 1), 1 / (c + 1), 0], rtol=1e-6)
    np.testing.assert_allclose(view.neighbours(np.array([0, 1])), [1 / 2, KEPT / (c + 1), 1 / (c + 1), 0], rtol=1e-6)
    np.testing.assert_allclose(view.after([1]), [0, 0, 1 / 2, 0], rtol=1e-6)
    np.testing.assert_allclose(view.after([2, 3]), [1 / (c + 1), 0, 1 / (c + 1), 0], rtol=1e-6)
    assert view.after([]).tolist() == [0, 0, 0, 0]


def test_a_tool_is_known_in_every_registry_and_a_changed_one_starts_anew() -> None:
    usage = LearnedUsage()
    usage.observe("refund", EAST, [A, D])
    other = usage.for_tools([C, A])
    assert other.weights.tolist() == [0, 1]
    assert other.word_scores("refund")[0] == 0
    assert other.neighbours([1]).tolist() == [0, 0]  # D is not in this registry
    assert usage.for_tools([bytes(16)]).weights.tolist() == [0]


def test_two_tools_with_one_digest_are_known_alike() -> None:
    usage = LearnedUsage()
    view = usage.for_tools([A, B, A])
    usage.observe("refund", NORTH, [A, B])
    assert view.weights.tolist() == [1, 1, 1]
    assert view.neighbours([1]).tolist() == [0.5, 0, 0.5]
    np.testing.assert_allclose(view.centroids(np.stack([EAST] * 3)), [unit([2 / 3, 1 / 3])] * 3, rtol=1e-6)


def test_a_registry_without_tools_has_no_scores() -> None:
    view = LearnedUsage().for_tools([])
    assert view.weights.shape == view.word_scores("a").shape == view.after([]).shape == (0,)


def state(view: ToolUsage, base: Any) -> list[Any]:
    return [
        view.weights,
        view.centroids(base),
        view.similarity(base, base[:3]),
        view.word_scores(" ".join(WORDS)),
        view.neighbours(range(len(base))),
        view.after(range(len(base))),
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(QUESTIONS, max_size=12), st.sets(st.integers(0, 11)))
def test_reading_in_between_changes_nothing(asked: list[Any], read_after: set[int]) -> None:
    usage = LearnedUsage()
    often, base = usage.for_tools(TOOLS), random_units(4, 2)
    for at, (text, vector, called, before) in enumerate(asked):
        usage.observe(text, vector, called, before)
        if at in read_after:
            state(often, base)
    for incremental, anew in zip(state(often, base), state(usage.for_tools(TOOLS), base), strict=True):
        np.testing.assert_allclose(incremental, anew, atol=1e-5)


def test_many_tools_are_kept_apart() -> None:
    count = 700  # more than a block, and than the rows that the index begins with
    digests = [n.to_bytes(16, "big") for n in range(count)]
    base, vectors = random_units(count, 8, seed=1), random_units(count, 8, seed=2)
    usage = LearnedUsage()
    view = usage.for_tools(digests)
    order = np.random.default_rng(0).permutation(count)
    for at in order[:600]:
        usage.observe(f"number{at}x shared", vectors[at], [digests[at]])
        if at % 50 == 0:
            view.similarity(base, vectors[:2])
    learned = np.zeros(count, dtype=bool)
    learned[order[:600]] = True
    expected = np.where(learned[:, None], unit(2 / 3 * base + 1 / 3 * vectors), base)
    np.testing.assert_allclose(view.centroids(base), expected, atol=1e-6)
    np.testing.assert_allclose(view.similarity(base, vectors[:3]), vectors[:3] @ expected.T, atol=1e-6)
    assert view.weights.tolist() == learned.astype(float).tolist()
    for at in (order[0], order[599], order[650]):
        assert np.flatnonzero(view.word_scores(f"number{at}x")).tolist() == ([at] if learned[at] else [])


def test_words_that_were_dropped_are_not_found_any_more() -> None:
    usage = LearnedUsage()
    view = usage.for_tools([A, B])
    usage.observe("invoice", None, [B])
    usage.observe("refund", None, [A])
    assert view.word_scores("refund").tolist() == [pytest.approx(math.log((1.25 / 1.5) / 0.5)), 0]
    usage.observe(" ".join(f"word{n}x" for n in range(MAX_TERMS)), None, [A])
    assert view.word_scores("refund").tolist() == [0, 0]
    assert len(view._words._places) == MAX_TERMS + 1  # with "invoice"; nothing is left of "refund"
    assert view.word_scores("word7x")[0] > 0


def test_what_was_read_never_changes() -> None:
    usage = LearnedUsage()
    view, base = usage.for_tools(TOOLS), random_units(4, 2)
    usage.observe("refund", EAST, [A, B])
    _, blocks = view._moved(base)
    weights = view.weights
    before = [block.copy() for block in blocks], weights.copy()
    usage.observe("refund", NORTH, [A, B])
    assert view.weights.tolist() != weights.tolist()
    view.similarity(base, base)
    np.testing.assert_array_equal(blocks[0], before[0][0])
    np.testing.assert_array_equal(weights, before[1])
    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 1


def test_readers_see_all_that_a_question_taught_or_nothing_of_it() -> None:
    usage = LearnedUsage()
    view = usage.for_tools(TOOLS)
    base = np.stack([EAST] * 4)
    torn: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            a, b, _, _ = view.weights
            scores, centroids, near = view.word_scores("refund"), view.centroids(base), view.neighbours([0, 1])
            if a != b or scores[0] != scores[1] or centroids[0].tolist() != centroids[1].tolist() or near[0] != near[1]:
                torn.append("half an update")

    def write() -> None:
        for n in range(100):
            usage.observe("refund" if n % 3 else "refund of a ticket", NORTH, [A, B], [A, B])

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write) for _ in range(3)]
    for thread in [*readers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert torn == []
    assert view.weights[0] == pytest.approx(MEMORY * (1 - KEPT**300), rel=1e-5)


# --- processes -------------------------------------------------------------------------------------------------------


class Shelf:
    """What a database does, without one."""

    def __init__(self) -> None:
        self.rows: dict[bytes, UsageSums] = {}
        self.revision = 0

    def add(self, new: Mapping[bytes, UsageSums]) -> dict[bytes, UsageSums]:
        self.revision += 1
        kept = {}
        for digest, sums in new.items():
            known = self.rows.get(digest, UsageSums())
            told = known.then(sums)
            kept[digest] = UsageSums(
                **{name: getattr(told, name) for name in UsageSums.__slots__ if name != "revision"},
                revision=self.revision,
            )
        self.rows.update(kept)
        return kept


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["observe", "flush", "merge"]), QUESTIONS), max_size=15))
def test_processes_end_up_with_the_same_and_count_nothing_twice(steps: list[Any]) -> None:
    shelf, processes = Shelf(), [LearnedUsage() for _ in range(3)]
    called_in_all: dict[bytes, int] = {}
    for who, what, (text, vector, called, before) in steps:
        if what == "flush":
            processes[who].flush(shelf.add)
        elif what == "merge":
            processes[who].merge(shelf.rows)
        else:
            processes[who].observe(text, vector, called, before)
            for tool in set(called):
                called_in_all[tool] = called_in_all.get(tool, 0) + 1
    for process in processes:
        process.flush(shelf.add)
    for process in processes:
        process.merge(shelf.rows)
        assert process.waiting == 0
        for digest, sums in sums_of(process).items():
            assert sums.examples == called_in_all.get(digest, 0)
            assert sums.weight == pytest.approx(MEMORY * (1 - KEPT**sums.examples))
            same(sums, shelf.rows[digest])


def test_a_flush_that_fails_loses_nothing() -> None:
    usage, shelf = LearnedUsage(), Shelf()
    usage.observe("refund", EAST, [A])

    def fail(new: Mapping[bytes, UsageSums]) -> dict[bytes, UsageSums]:
        usage.observe("ticket", EAST, [A])  # another thread goes on learning
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        usage.flush(fail)
    assert usage.waiting == 2
    usage.flush(shelf.add)
    assert shelf.rows[A].examples == 2
    same(sums_of(usage)[A], shelf.rows[A])
    usage.flush(fail)  # there is nothing to write
    assert usage.waiting == 0


def test_what_is_observed_during_a_flush_counts_on_top() -> None:
    usage, shelf = LearnedUsage(), Shelf()
    view = usage.for_tools(TOOLS)
    usage.observe("refund", EAST, [A])

    def slowly(new: Mapping[bytes, UsageSums]) -> dict[bytes, UsageSums]:
        usage.observe("refund", EAST, [A])
        return shelf.add(new)

    usage.flush(slowly)
    assert shelf.rows[A].examples == 1
    assert sums_of(usage)[A].examples == 2
    assert view.weights[0] == pytest.approx(KEPT + 1)
    usage.flush(shelf.add)
    assert shelf.rows[A].examples == sums_of(usage)[A].examples == 2


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_read_during_a_flush_is_taken_up_after_it(fails: bool) -> None:
    usage, other, shelf = LearnedUsage(), LearnedUsage(), Shelf()
    other.observe("refund", EAST, [A, B])
    other.flush(shelf.add)
    usage.observe("refund", EAST, [A])

    def slowly(new: Mapping[bytes, UsageSums]) -> dict[bytes, UsageSums]:
        usage.merge(shelf.rows)
        kept = {} if fails else shelf.add(new)
        usage.merge(shelf.rows)  # as read by another thread, before this one knows that it is written
        if fails:
            raise OSError("no space left")
        return kept

    if fails:
        with pytest.raises(OSError, match="no space left"):
            usage.flush(slowly)
    else:
        usage.flush(slowly)
    assert {digest: sums.examples for digest, sums in sums_of(usage).items()} == {A: 2, B: 1}
    usage.flush(shelf.add)
    assert {digest: sums.examples for digest, sums in shelf.rows.items()} == {A: 2, B: 1}


def test_rows_that_are_older_than_what_is_known_are_not_taken_up() -> None:
    usage, shelf = LearnedUsage(), Shelf()
    usage.observe("refund", EAST, [A])
    usage.flush(shelf.add)
    old = dict(shelf.rows)
    usage.observe("refund", EAST, [A])
    usage.flush(shelf.add)
    version = usage.version
    usage.merge(old)
    assert sums_of(usage)[A].examples == 2
    assert usage.version == version
    usage.merge(shelf.rows)
    assert sums_of(usage)[A].examples == 2


def test_the_version_grows_with_what_is_learned() -> None:
    usage, other, shelf = LearnedUsage(), LearnedUsage(), Shelf()
    assert usage.version == 0
    usage.observe("hello", EAST, [])
    assert (usage.version, usage.waiting) == (0, 0)
    usage.observe("refund", EAST, [A])
    assert (usage.version, usage.waiting) == (1, 1)
    usage.flush(shelf.add)
    other.merge(shelf.rows)
    assert other.version == 1
    other.merge({})
    assert other.version == 1


def test_the_child_of_a_fork_does_not_write_what_its_parent_will() -> None:
    usage, shelf = LearnedUsage(), Shelf()
    view = usage.for_tools(TOOLS)
    usage.observe("refund", EAST, [A])
    scores = view.word_scores("refund")
    usage.before_fork()
    usage._lock.acquire()  # by a thread that will not be there
    view._lock.acquire()
    usage.after_fork_in_child()
    usage.flush(shelf.add)
    assert shelf.rows == {}
    assert view.word_scores("refund").tolist() == scores.tolist()
    usage.observe("refund", EAST, [A])
    usage.flush(shelf.add)
    assert shelf.rows[A].examples == 1


def test_of_tools_that_no_registry_holds_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "_MAX_TOOLS", 10)
    usage = LearnedUsage()
    usage._sweep_above = 10
    view = usage.for_tools([A])
    usage.observe("refund", None, [A])
    for n in range(100):
        usage.observe("x", None, [n.to_bytes(16, "big")])
    assert view.weights.tolist() == [1]
    known = sums_of(usage)
    assert A in known
    assert len(known) <= 16
    assert (99).to_bytes(16, "big") in known
    written: list[bytes] = []
    usage.flush(lambda new: written.extend(new) or {})  # type: ignore[func-returns-value]
    assert written == [n.to_bytes(16, "big") for n in range(90, 100)]
