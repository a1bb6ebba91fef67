"""A light stemmer for English."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

_IRREGULAR_FORMS = """
bought=buy sold=sell sent=send paid=pay gave=give given=give took=take taken=take lost=lose won=win
began=begin begun=begin lent=lend hid=hide hidden=hide left=left fell=fall fallen=fall rose=rise risen=rise
wrote=write written=write shown=show withdrew=withdraw withdrawn=withdraw forgot=forget forgotten=forget
froze=freeze frozen=frozen built=build children=child men=man women=woman people=person made=make went=go
gone=go found=find came=come held=hold kept=keep meant=mean met=meet said=say saw=see seen=see spent=spend
stole=steal stolen=steal thought=think told=tell understood=understand broke=break broken=break chose=choose
chosen=choose drove=drive driven=drive flew=fly flown=fly ate=eat eaten=eat knew=know known=know grew=grow
grown=grow felt=feel got=get daily=day yearly=year annual=year annually=year cancellation=cancel ran=run
cancelation=cancel payment=pay purchased=purchase
"""
_IRREGULAR = dict(pair.split("=") for pair in _IRREGULAR_FORMS.split())
_LONGEST_WORD = 40  # what is longer is no English word


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A lower-case word without its English inflection; "cancelled", "cancels", "cancelling" and "cancel" have one.

    Not always a word itself ("activat"). Much lighter than Porter's stemmer: what makes a noun of a verb stays, save
    for "-ion".
    """
    word = _IRREGULAR.get(word, word)
    size = len(word)
    if size < 4 or size > _LONGEST_WORD or not word.isascii():
        return word
    if word.endswith("ies") and size > 4:
        word = word[:-3] + "i"
    elif word.endswith(("sses", "xes", "ches", "shes", "zes", "oes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, shortest in (("ing", 6), ("ed", 4)):
        if word.endswith(ending) and len(word) >= shortest and not word.endswith("eed"):
            bare = word[: -len(ending)]
            word = bare if _has_vowel(bare) else word
            break
    else:
        if word.endswith("ly") and len(word) > 5 and not word.endswith(("ply", "ily")):
            word = word[:-2]
        elif word.endswith(("tion", "sion")) and len(word) > 6:
            word = word[:-3]
    if len(word) < 3:
        return word
    if word[-1] == "e" or (word[-1] == word[-2] and word[-1] not in "aeiou"):
        return word[:-1]
    return word[:-1] + "i" if word[-1] == "y" and word[-2] not in "aeiou" else word


def _has_vowel(part: str) -> bool:
    return any(letter in "aeiouy" for letter in part)


def stems(words: Iterable[str]) -> list[str]:
    """The stem of each word."""
    return [stem(word) for word in words]
