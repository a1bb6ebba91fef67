"""Short names for texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from langchain_tokopt.context.handles import handle
from tests.strategies import odd_texts


@pytest.mark.parametrize(("text", "name"), [("", "1271cf25"), ("hello", "ea6706f7")])
def test_a_name_is_the_same_in_every_process(text: str, name: str) -> None:
    assert handle(text) == name


def test_texts_that_are_told_apart_have_names_of_their_own() -> None:
    assert len({handle(f"text {n}") for n in range(1_000)}) == 1_000


@given(odd_texts())
def test_any_text_has_a_name_of_eight_digits(text: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", handle(text))
    assert handle(text) == handle(str(text))
