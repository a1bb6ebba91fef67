from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from langchain_tokopt.context.ranking import Passage, Ranking, best_within, rank
from langchain_tokopt.context.ranking.cues import answers_to, told_share
from langchain_tokopt.context.ranking.windows import Places
from langchain_tokopt.embeddings import MemoEmbeddings

FILLER = [
    "The weather was grey all day.",
    "I fixed the old fence behind the house.",
    "There was a long queue at the bank.",
    "Lunch was soup again, as always.",
    "My train was late in the end.",
    "The radio was on all night.",
    "We painted the kitchen walls.",
    "A neighbour lent me his ladder.",
    "The garden is full of weeds.",
    "I read half of that novel.",
]


def best(query: str, passages: list[Passage]) -> int:
    return int(np.argmax(rank(query, passages)))


def talk(*lines: tuple[str, str], group: object = None) -> list[Passage]:
    return [Passage(text, group=group, label=name) for name, text in lines]


def test_the_passage_with_the_rare_word_is_first() -> None:
    assert (
        best("Where is the accordion?", [Passage(text) for text in [*FILLER, "The accordion is in the attic."]]) == 10
    )


def test_an_answer_is_found_by_the_question_before_it() -> None:
    passages = [Passage(text) for text in FILLER[:5]]
    passages += [Passage("Which instrument do you play?"), Passage("The tuba, since school.")]
    passages += [Passage(text) for text in FILLER[5:]]
    scores = rank("instrument", passages)
    assert scores[6] > max(np.delete(scores, [5, 6]))


def test_neighbours_count_only_within_their_group() -> None:
    def second(group: str) -> float:
        texts = [*FILLER[:4], "The accordion is here.", FILLER[4], *FILLER[5:]]
        groups = ["a"] * 5 + [group] + ["b"] * 5
        return float(rank("accordion", [Passage(t, group=g) for t, g in zip(texts, groups, strict=True)])[5])

    assert second("a") > second("b")


def test_who_is_asked_about_is_who_speaks() -> None:
    passages = talk(
        *((name, text) for text in FILLER[:3] for name in ("Ann", "Ben")),
        ("Ann", "I went sailing on the lake."),
        ("Ben", "I went sailing on the lake."),
        *((name, text) for text in FILLER[3:6] for name in ("Ann", "Ben")),
    )
    scores = rank("Where did Ben go sailing?", passages)
    assert scores[7] > scores[6]
    scores = rank("Where did Ann go sailing?", passages)
    assert scores[6] > scores[7]


def test_names_of_speakers_are_no_words_of_the_subject() -> None:
    passages = talk(
        *((name, text) for text in FILLER[:3] for name in ("Ann", "Ben")),
        ("Ann", "Ben, Ben, Ben!"),
        ("Ben", "I baked a cake."),
        *((name, text) for text in FILLER[3:6] for name in ("Ann", "Ben")),
    )
    assert best("What did Ben bake?", passages) == 7


def test_names_of_roles_say_nothing_about_who_is_meant() -> None:
    passages = talk(
        *((name, text) for text in FILLER[:4] for name in ("user", "assistant")),
        ("assistant", "The user table has ten columns."),
        ("user", "Thanks a lot for that."),
    )
    assert best("How many columns has the user table?", passages) == 8


def test_the_user_is_who_says_i() -> None:
    lines = [("user", "The bicycle is green."), ("assistant", "The bicycle is green.")]
    around = [(name, text) for text in FILLER for name in ("user", "assistant")]
    scores = rank("What colour is my bicycle?", talk(*around, *lines))
    assert scores[-2] > scores[-1]


def test_the_best_passages_lead_to_others() -> None:
    texts = [*FILLER[:5], "Ines works for the Zephyr company.", *FILLER[5:], *FILLER, "Zephyr makes sails of hemp."]
    scores = rank("What does the company of Ines make?", [Passage(text) for text in texts])
    assert scores[-1] > max(scores[15:21])


@pytest.mark.parametrize(
    ("question", "text", "held"),
    [
        ("When did she move?", "She moved last spring, in May.", True),
        ("When did she move?", "She moved to Porto.", False),
        ("How many cats are there?", "She has two cats.", True),
        ("Where does he live?", "He lives in Porto.", True),
        ("Where does he live?", "he lives there.", False),
    ],
)
def test_a_question_says_what_kind_of_answer_it_wants(question: str, text: str, held: bool) -> None:
    assert [holds(text) for holds in answers_to(question)] == [held]


def test_a_question_without_a_kind_wants_nothing_special() -> None:
    assert answers_to("Does he like tea?") == []


def test_how_much_is_told_and_not_asked() -> None:
    assert told_share("I did.") == 1.0
    assert told_share("Did you?") == 0.0
    assert told_share("I did. And you?") == pytest.approx(6 / 15)
    assert told_share("") == 1.0


def test_a_heading_counts_as_a_word_and_a_named_section_is_found() -> None:
    sections = {
        "Clock maker": ["He was born in Celle.", "He made forty clocks."],
        "Bread": ["It is made of flour.", "Water is added, too."],
        "Porto": ["A city in Portugal.", "It has a harbour."],
        "Celle": ["A town in Germany.", "The river Aller runs through it."],
        "Tiles": ["They are made of clay.", "Old ones are blue."],
    }
    passages = [Passage(s, group=title, label=title) for title, lines in sections.items() for s in lines]
    scores = rank("Which river is at the town where the clock maker was born?", passages)
    assert sorted(np.argsort(-scores)[:4].tolist()) == [0, 1, 6, 7]


def test_windows_sum_what_is_near_within_the_group() -> None:
    places = Places(["a", "a", "a", "b", "b", "a"])
    row = np.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])
    assert places.around(row, 1).tolist() == [[3.0, 7.0, 6.0, 24.0, 24.0, 32.0]]
    assert places.around(row, 9).tolist() == [[7.0, 7.0, 7.0, 24.0, 24.0, 32.0]]
    assert places.fading(row, 1).tolist() == [[2.0, 4.5, 5.0, 16.0, 20.0, 32.0]]


def test_what_grows_scores_as_if_it_had_been_there_at_once() -> None:
    passages = [Passage(text, label=name) for text in FILLER for name in ("Ann", "Ben")]
    grown = Ranking(passages[:1])
    for start in range(1, len(passages), 3):
        grown.scores("ladder")
        grown.extend(passages[start : start + 3])
    query = "Who lent Ann a ladder?"
    assert grown.scores(query).tolist() == Ranking(passages).scores(query).tolist()


def test_a_question_that_is_a_long_text_is_answered() -> None:
    words = [f"word{number}x" for number in range(3000)]
    passages = [Passage(" ".join(words[start : start + 3])) for start in range(0, 90, 3)]
    scores = rank(" ".join(words), passages)
    assert scores.shape == (30,)
    assert np.isfinite(scores).all()


def test_scores_are_the_same_in_another_process() -> None:
    lines = [*FILLER, "Ines moved to Porto.", "It has old tiles."]
    program = (
        "import json, sys\nfrom langchain_tokopt.context.ranking import Passage, rank\n"
        "print(json.dumps(rank('Where are the tiles of Ines?', [Passage(t) for t in json.load(sys.stdin)]).tolist()))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert len(json.loads(found[0])) == len(lines)


def test_no_passage_has_no_score() -> None:
    assert rank("anything", []).shape == (0,)
    assert best_within(rank("anything", []), [], 10) == []


@given(
    st.text(),
    st.lists(
        st.builds(Passage, st.text(), group=st.integers(0, 2), label=st.sampled_from(["", "A", "Bo"])), max_size=8
    ),
)
def test_any_passages_have_one_finite_score_each(query: str, passages: list[Passage]) -> None:
    scores = rank(query, passages)
    assert scores.shape == (len(passages),)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_what_fits_is_filled_best_first_and_given_back_in_order() -> None:
    scores = np.array([1.0, 5.0, 3.0, 3.0, 2.0], dtype=np.float32)
    assert best_within(scores, [4, 6, 3, 3, 1], 10) == [1, 2, 4]
    assert best_within(scores, [4, 6, 3, 3, 1], 0) == []
    assert best_within(np.zeros(3, dtype=np.float32), [1, 1, 1], 2) == [0, 1]


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.integers(0, 20)), max_size=12), st.integers(0, 60))
def test_what_is_filled_never_exceeds_the_budget(rows: list[tuple[float, int]], budget: int) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float32)
    sizes = [size for _, size in rows]
    kept = best_within(scores, sizes, budget)
    assert sum(sizes[at] for at in kept) <= budget
    assert all(a < b for a, b in pairwise(kept))
    left = budget - sum(sizes[at] for at in kept)
    assert all(sizes[at] > left for at in range(len(rows)) if at not in kept)


class Table(Embeddings):
    """Vectors from a table; remembers what it was asked for."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors
        self.asked: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        return [self.vectors[text] for text in texts]


def test_vectors_find_what_shares_no_word_and_each_passage_is_embedded_once() -> None:
    table = Table({text: [1.0, 0.0] for text in FILLER} | {"My cello!": [0.0, 1.0], "instrument": [0.0, 1.0]})
    ranking = Ranking([Passage(text) for text in FILLER[:5]], embeddings=MemoEmbeddings(table))
    ranking.scores("instrument")
    ranking.extend([Passage("My cello!"), *(Passage(text) for text in FILLER[5:])])
    assert int(np.argmax(ranking.scores("instrument"))) == 5
    assert sorted(table.asked) == sorted([*FILLER, "My cello!", "instrument"])


def test_an_embedder_that_fails_leaves_the_words(caplog: pytest.LogCaptureFixture) -> None:
    passages = [Passage(text) for text in FILLER]
    ranking = Ranking(passages, embeddings=MemoEmbeddings(Table({})))
    for _ in range(2):
        assert ranking.scores("ladder").tolist() == rank("ladder", passages).tolist()
    assert len(caplog.records) == 1


def test_many_threads_may_ask_at_once() -> None:
    passages = [
        Passage(f"{text} {number}", label=name) for number, text in enumerate(FILLER) for name in ("Ann", "Ben")
    ]
    queries = ["When did Ann read?", "Who lent a ladder?", "How many weeds?", "Where is the bank?"] * 10
    ranking = Ranking(passages)
    with ThreadPoolExecutor(8) as pool:
        found = [scores.tolist() for scores in pool.map(ranking.scores, queries)]
    assert found == [rank(query, passages).tolist() for query in queries]
