"""Texts and questions as words that can be found again in another form."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from langchain_tokopt.lexical import tokens

# What a common verb or noun of questions ("what kind of thing did she mention") is worth against a word of the subject.
_LIGHT_WEIGHT = 0.4
_SHORTEST_RELATED = 5
_LONGEST_ENDING = 5

_CONTRACTION = re.compile(r"(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))\b", re.IGNORECASE)
# One word a list entry would fill the screen.
_STOP = frozenset(
    """
    a about additionally after again all also although am an and any are as at be because been before being between
    both but by ca can could did do does doing done during each either else even ever few finally for from
    furthermore gets getting go goes going gone got had has have having he hello her here hers hey hi him his how
    however i if in into is it its just let like me meanwhile might mine more moreover most much must my no nor not
    of off oh ok okay on once only onto or other our ours out over own please quite rather really s same shall she
    should since so some still such t than thank thanks that the their theirs them then there therefore these they
    this those though through thus to too up upon us very was we went were what when where whether which while who
    whom whose why will with wo would wow yeah yes yet you your yours
    """.split()  # noqa: SIM905
)
_LIGHT = frozenset(
    """
    able accord ask become begin call come current day date decide describe discuss feel find first get give good great
    happen hear help keep kind know last leave long look lot make many mean mention month name need new old often one
    people person plan put receive recent say see seem share show start talk take tell thing think time try turn type
    use want way week word work year
    """.split()  # noqa: SIM905
)
# Forms that no rule about endings finds, and short names for kin, which people use in turns.
_IRREGULAR = {
    form: base
    for base, forms in {
        "become": "became", "begin": "began begun", "break": "broke broken", "bring": "brought", "build": "built",
        "buy": "bought", "catch": "caught", "child": "children kid kids", "choose": "chose chosen", "come": "came",
        "cost": "costs", "draw": "drew drawn", "drink": "drank drunk", "drive": "drove driven", "eat": "ate eaten",
        "fall": "fell fallen", "feel": "felt", "fight": "fought", "find": "found", "fly": "flew flown",
        "foot": "feet", "forget": "forgot forgotten", "get": "got gotten", "give": "gave given", "grow": "grew grown",
        "hear": "heard", "hold": "held", "keep": "kept", "know": "knew known", "lead": "led", "leave": "left",
        "lend": "lent", "lose": "lost", "make": "made", "man": "men", "mean": "meant", "meet": "met",
        "mother": "mom mum mommy", "father": "dad daddy", "pay": "paid", "ride": "rode ridden", "ring": "rang rung",
        "rise": "rose risen", "run": "ran", "say": "said", "see": "saw seen", "sell": "sold", "send": "sent",
        "shake": "shook shaken", "shoot": "shot", "sing": "sang sung", "sit": "sat", "sleep": "slept",
        "speak": "spoke spoken", "spend": "spent", "stand": "stood", "steal": "stole stolen", "swim": "swam swum",
        "take": "took taken", "teach": "taught", "tell": "told", "think": "thought", "throw": "threw thrown",
        "tooth": "teeth", "understand": "understood", "wake": "woke woken", "wear": "wore worn", "win": "won",
        "woman": "women", "write": "wrote written",
    }.items()
    for form in forms.split()
}  # fmt: skip


def content_words(text: str) -> list[str]:
    """The words of a text that say something, in order, each in its base form; stop words are left out."""
    return [base_form(word) for word in tokens(_CONTRACTION.sub(" ", text)) if word not in _STOP]


def question_words(question: str, *, names: Collection[str] = ()) -> dict[str, float]:
    """What each word of a question is worth, in the order of the question; `names` (base forms) are left out.

    A question of stop words alone is taken word by word: better a poor hint than none.
    """
    found = {word: _LIGHT_WEIGHT if is_light(word) else 1.0 for word in content_words(question) if word not in names}
    return found or {word: 1.0 for word in tokens(question) if word not in names}


def is_light(word: str) -> bool:
    """Whether a word, in its base form, is one that questions about anything have."""
    return word in _LIGHT_FORMS


def related(a: str, b: str) -> bool:
    """Whether two words may be of one family: long, and alike but for their endings."""
    shared = max(_SHORTEST_RELATED, len(a) - 3)
    return len(b) <= len(a) + _LONGEST_ENDING and b[:shared] == a[:shared] and a.isalpha() and b.isalpha()


def family_key(word: str) -> str | None:
    """What related words have in common; `None` for a word that is too short to have a family."""
    return word[:_SHORTEST_RELATED] if len(word) >= _SHORTEST_RELATED else None


@lru_cache(maxsize=65_536)
def base_form(word: str) -> str:
    """A lower-case English word without its ending: `stopped`, `stops` -> `stop`; other words as they are, mostly."""
    word = _IRREGULAR.get(word, word)
    if len(word) <= 3 or not word.isalpha():
        return word
    word = _verb_stem(_singular(word))
    if word.endswith("ly") and len(word) > 5:
        word = word[:-2]
        word = word[:-1] + "y" if word.endswith("i") else word
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _verb_stem(word: str) -> str:
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and any(letter in "aeiouy" for letter in stem):
            doubled = len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz"
            return stem[:-1] if doubled else stem
    return word


_LIGHT_FORMS = frozenset(base_form(word) for word in _LIGHT)
