from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.tools.small_talk import is_small_talk


@pytest.mark.parametrize(
    "text",
    [
        "Hello!",
        "hey there",
        "Good morning, everyone :)",
        "How are you doing today?",
        "heyyy",
        "It was nice talking to you, bye!",
        "Thank you so much for your help!",
        "thanks, that's all for now",
        "You're the best",
        "Good night",
        "See you tomorrow!",
        "No thanks",
        "¿Hola, cómo estás?",
        "Merci beaucoup !",
        "Vielen Dank",
        "Tschüss",
        "Obrigado!",
        "Grazie mille",
        "Привет",
        "Çok teşekkür ederim",
        "مرحبا",
        "नमस्ते",
        "안녕하세요",
        "你好",
        "谢谢你",
        "ありがとうございます",
    ],
)
def test_pleasantries_are_small_talk(text: str) -> None:
    assert is_small_talk(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "ok",
        "yes please",
        "Hi, what is the weather in Oslo?",
        "Thanks, now book it",
        "good morning, read my mail",
        "How is the server doing today?",
        "Hello, what time is it?",
        "Good morning, how is my day today?",
        "thanks, and how was the job today?",
        "Thanks, and tomorrow?",
        "hey, what was the answer",
        "Hi! I need help",
        "who made you",
        "hello world program",
        "say thank you to Ada",
        "Good, and the other one?",
        "今天天气怎么样",
        "你好, 帮我订票",
        "ありがとう、次に予約して",
    ],
)
def test_what_may_ask_for_something_is_not(text: str) -> None:
    assert not is_small_talk(text)


def test_a_long_text_is_not() -> None:
    assert is_small_talk("thanks " * 14)
    assert not is_small_talk("thanks " * 15)


@given(st.text())
def test_any_text_has_an_answer_that_case_does_not_change(text: str) -> None:
    assert is_small_talk(text) in (True, False)
    assert is_small_talk(f"Hello {text}") is is_small_talk(f"HELLO {text}")
