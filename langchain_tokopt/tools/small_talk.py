"""Whether a message only greets, thanks, praises or says goodbye: nothing that a tool could help with."""

from __future__ import annotations

import re
import unicodedata

# Who writes more than this wants something.
_MOST_WORDS = 14

_APOSTROPHES = re.compile("['\u2019\u02bc`\u00b4]")
_CHINESE_OR_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")
_WORD = re.compile(r"[^\W_]+")

# Words of which one has to be there: alone, each is a greeting, thanks, a farewell or praise.
_CORE = frozenset(
    """
    hello hi hey hiya howdy greetings yo sup hallo hola bonjour salut ciao ola namaste merhaba selam witaj czesc hoi
    privet zdravstvuyte salam marhaba alo servus moin bye goodbye farewell cya ttyl adios tschuss tchau doei hoscakal
    thanks thank thx ty thankyou cheers appreciate appreciated grateful gracias danke merci obrigado obrigada grazie
    bedankt dank tesekkurler tesekkur dziekuje dzieki spasibo arigato shukran welcome congratulations congrats kudos
    bravo goodnight gm gn
    привет здравствуйте здравствуи спасибо пока благодарю مرحبا شكرا اهلا سلام नमसत धनयवाद नमसकार
    안녕 안녕하세요 감사합니다 고마워 고마워요 고맙습니다
    """.split()  # noqa: SIM905 - one word a list entry would fill the screen
)
# Groups of words that do so together.
_PHRASES = """
good morning, good afternoon, good evening, good night, good day, nice to meet you, good to see you, see you, see ya,
talk to you later, talk soon, take care, have a good, have a great, have a nice, how are you, how are things,
how do you do, how is it going, hows it going, how have you been, whats up, what is up, well done, good job,
great job, nice work, great work, good work, youre the best, you are the best, you rock,
guten tag, guten morgen, guten abend, auf wiedersehen, vielen dank, bis bald, wie gehts,
buenos dias, buenas tardes, buenas noches, hasta luego, muchas gracias, como estas,
bonne nuit, bonne journee, merci beaucoup, au revoir, ca va, comment ca va,
buongiorno, buonasera, arrivederci, come stai, bom dia, boa tarde, boa noite, tudo bem, ate logo,
goedemorgen, tot ziens, dank je wel, dzien dobry, do widzenia, dobranoc, gunaydin, iyi geceler, dobry den
"""
_CORE_PHRASES = [phrase.split() for phrase in _PHRASES.split(",")]
# What goes with them and says nothing by itself.
_AROUND = frozenset(
    """
    a all am and again an are as at be been bit bot buddy but day dear doing done ever everyone everybody evening fine
    folks for friend from going good great guys have help her here how i im is it its ive just later let lot lots lovely
    ma madam maam man many mate me meet morning much my nice night now of oh ok okay one once our out please pal really
    right see sir so soon sure team that thats the them then there things this time to today tomorrow tonight too truly
    u up us very was way we week weekend well were what whats will wonderful work ya yall yeah yes yet you your youre
    afternoon amazing awesome best excellent fantastic perfect super brilliant helpful kind kindly job talk talking
    assistance answer answers support patience effort happy glad pleased enjoy rest cool alright no nope problem worries
    need needed else anything nothing
    sehr und dir ihnen du ja nein mucho muy y tu por todo que tal bien et toi vous tres bien tout e voce muito bem tutto
    molto grazie mille bene tanto je wel u heel hartelijk bardzo ci cok ederim
    """.split()  # noqa: SIM905
)
# Chinese and Japanese are written without spaces: such a text is made of these alone.
_UNSPACED = re.compile(
    "(?:你好|您好|大家好|谢谢|多谢|感谢|再见|拜拜|晚安|早安|早上好|下午好|晚上好|こんにちは|こんばんは|おはよう|ありがとう|"
    "どうも|さようなら|おやすみ|はじめまして|よろしくお願いします|お疲れ様|ございます|ございました|です|でした|なさい|"
    "你|您|大家|了|啊|呀|哦|吗|很|非常|ね|よ)+"
)


# Everything that may be in small talk.
_KNOWN = _CORE | _AROUND | {word for phrase in _CORE_PHRASES for word in phrase}


def is_small_talk(text: str) -> bool:
    """Whether the text is nothing but pleasantries, in one of the languages that are written most.

    Without any pleasantry, or with a word that could ask for something, it is not. A wrong yes leaves a model with the
    tools that are always there, and it has to search; a wrong no costs a few tokens.
    """
    unspaced = _CHINESE_OR_JAPANESE.findall(text)
    if unspaced and not all(_UNSPACED.fullmatch(part) for part in unspaced):
        return False
    words = _words(_CHINESE_OR_JAPANESE.sub(" ", text))
    if len(words) > _MOST_WORDS or not _KNOWN.issuperset(words):
        return False
    return bool(unspaced) or not _CORE.isdisjoint(words) or any(_has(words, phrase) for phrase in _CORE_PHRASES)


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without accents and apostrophes."""
    apart = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text.lower()))
    whole = "".join(mark for mark in apart if not unicodedata.combining(mark))
    return _WORD.findall(unicodedata.normalize("NFKC", whole))


def _has(words: list[str], phrase: list[str]) -> bool:
    """Whether the words of the phrase stand in the text, one after the other."""
    return any(words[at : at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1))
