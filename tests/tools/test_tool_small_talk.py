from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.tools.small_talk import _patterns, is_small_talk


@pytest.mark.parametrize(
    "text",
    [
        "Hello!",
        "hey there",
        "Good morning, everyone :)",
        "How are you doing today?",
        "Thank you so much for your help!",
        "thanks, that's all for now",
        "You're the best",
        "Good night",
        "See you tomorrow!",
        "No thanks",
        "heyyy, what's up?",
        "Hi :D",
        "OK great, thanks!",
        "hello, how has your week been",
        "It was nice talking to you, bye!",
        "sorry about that",
        "Can you tell me your name?",
        "who made you",
        "are you a robot or a real person?",
        "What do you do for fun?",
        "hola! thanks, спасибо",
        "¿Hola, cómo estás?",
        "Merci beaucoup !",
        "Vielen Dank",
        "Tschüß",
        "Hoe gaat het met je?",
        "Dzień dobry! Dziękuję bardzo",
        "İyi akşamlar",
        "Obrigado!",
        "Grazie mille",
        "Привет",
        "Çok teşekkür ederim",
        "مرحبا",
        "नमस्ते",
        "안녕하세요",
        "안녕히 가세요",
        "你好",
        "你好, 最近怎么样",
        "谢谢你",
        "ありがとうございます",
        "こんにちは、お元気ですか",
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
        "Good morning, how is my day today?",
        "thanks, and how was the job today",
        "what can you do?",
        "tell me a joke",
        "what's new?",
        "and how is it tomorrow?",
        "and for this?",
        "or not",
        "morning",
        "where are you located?",
        "can you tell me",
        "call me later",
        "so, everyone",
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
    assert is_small_talk("thanks " * 28)
    assert not is_small_talk("thanks " * 29)


@given(st.from_regex(_patterns()[0], fullmatch=True), st.from_regex(_patterns()[1], fullmatch=True))
def test_every_phrase_is_small_talk_also_with_what_goes_around_it(phrase: str, around: str) -> None:
    assert is_small_talk(phrase)
    assert is_small_talk(f"{around}, {phrase.upper()}!")
    assert is_small_talk(f"{phrase} {around}")
    assert not is_small_talk(f"{phrase} {around} invoice")


@given(st.from_regex(_patterns()[1], fullmatch=True))
def test_what_goes_around_is_nothing_by_itself(around: str) -> None:
    assert not is_small_talk(around) or _patterns()[0].fullmatch(around)


@given(st.text())
def test_any_text_has_an_answer_that_case_does_not_change(text: str) -> None:
    assert is_small_talk(text) in (True, False)
    assert is_small_talk(f"Hello {text}") is is_small_talk(f"HELLO {text}")
