from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.context.ranking.words import base_form, content_words, is_light, question_words, related


@pytest.mark.parametrize(
    "forms",
    [
        ("stop", "stops", "stopped", "stopping"),
        ("hike", "hikes", "hiked", "hiking"),
        ("city", "cities"),
        ("box", "boxes"),
        ("buy", "bought", "buys", "buying"),
        ("child", "children", "kids"),
        ("mother", "mom"),
        ("quick", "quickly"),
        ("happy", "happily"),
        ("ski", "skiing"),
        ("try", "tries", "tried"),
    ],
)
def test_forms_of_a_word_are_one(forms: tuple[str, ...]) -> None:
    assert len({base_form(form) for form in forms}) == 1


@pytest.mark.parametrize("pair", [("sing", "sin"), ("glass", "glas"), ("bus", "bu"), ("red", "r")])
def test_words_that_only_look_like_forms_are_two(pair: tuple[str, str]) -> None:
    assert base_form(pair[0]) != pair[1]


def test_contractions_and_possessives_leave_the_word() -> None:
    assert content_words("Caroline's dog doesn't bark, they\u2019ve said.") == ["carolin", "dog", "bark", "say"]


def test_words_of_one_family_are_long_and_differ_at_the_end() -> None:
    assert related("adopt", "adoption")
    assert related("photograph", "photographer")
    assert not related("cat", "category")
    assert not related("inter", "internationalism")
    assert not related("20231", "20232")


def test_a_question_weighs_its_words() -> None:
    assert question_words("What kind of art did Caroline make?", names={"carolin"}) == {
        "kind": 0.4,
        "art": 1.0,
        "mak": 0.4,
    }
    assert is_light("kind")


def test_a_question_without_a_telling_word_is_taken_as_it_is() -> None:
    assert question_words("Who are you?") == {"who": 1.0, "are": 1.0, "you": 1.0}
    assert question_words("Ann?", names={"ann"}) == {}


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    for word in content_words(text):
        assert word
        assert base_form(word)
