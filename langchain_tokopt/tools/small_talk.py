"""Whether a message only greets, thanks, praises or says goodbye: nothing that a tool could help with."""

from __future__ import annotations

import functools
import re
import unicodedata

# Who writes more than this wants something.
_MOST_CHARACTERS = 200
_MOST_WORDS = 14
_LONGEST_PHRASE = 7  # in words

_APOSTROPHES = re.compile("['\u2019\u02bc`\u00b4]")
_DRAWN_OUT = re.compile(r"([a-z])\1{2,}")  # heyyy, soooo
_CHINESE_OR_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")
_WORD = re.compile(r"[^\W_]+")

# Each of these is a greeting, thanks, a farewell or praise by itself. A text has to be made of whole phrases: the same
# words in another order may ask for something ("Hello, how is my day?").
_TALK = """
hello, hi, hey, hiya, howdy, greetings, yo, sup, wassup, gday, aloha, good morning, good afternoon, good evening, good
day, nice to meet you, good to see you, great to see you, good to meet you, pleased to meet you, long time no see, how
are you, how are you doing, how are you today, how are you doing today, how are you feeling, how are you feeling
today, how are you this morning, how are you this evening, how you doing, how r u, how are u, how are things, how are
things going, how is it going, hows it going, how is everything, how is everything going, hows everything, how is
life, hows life, how do you do, how have you been, how are you doing this morning, how goes it, hows it hanging, how
was your day, how is your day, hows your day, how is your day going, hows your day going, how has your day been, how
was your weekend, whats up, what is up, are you there, anybody there, anyone there, is anyone there, are you ok, are
you okay, im fine, i am fine, im good, i am good, im doing well, i am doing well, hope you are well, i hope you are
well, hope youre well, hope you are doing well, i hope youre doing well, happy new year, happy birthday, merry
christmas, happy holidays,
thanks, thank you, thank u, thx, ty, tysm, thankyou, cheers, many thanks, much appreciated, i appreciate it,
appreciate it, i appreciate that, i appreciate your help, i really appreciate it, i really appreciate your help, much
obliged, i am grateful, im grateful, thank you kindly, i thank you, thank ya, i want to thank you, i would like to
thank you, that helps, that helped, that helped a lot, that was helpful, that is helpful, very helpful, so helpful,
that is all, thats all, thats all i need, that is all i need, thatll be all, that will be all, thats all i needed, no
thanks, no thank you,
bye, goodbye, good bye, bye bye, bye now, goodbye now, farewell,
cya, ttyl, see you, see ya, see you later, see ya later, see you soon, see
you tomorrow, see you next time, see you again, see you around, see you then, catch you later, talk to you later, talk
to you soon, talk later, talk soon, speak to you later, until next time, till next time, so long, take care, good
night, goodnight, gn, sleep well, sweet dreams, have a good day, have a great day, have a nice day, have a good one,
have a great one, have a good night, have a great night, have a nice night, have a good evening, have a nice evening,
have a great evening, have a good weekend, have a great weekend, have a nice weekend, have a wonderful day, have a
lovely day, enjoy your day, enjoy the rest of your day, have a great week, have a good week, i have to go, ive got to
go, i gotta go, i got to go, gotta go, i must go, i need to go, i should go, it was nice talking to you, nice talking
to you, it was great talking to you, great talking to you, good talking to you, it was nice chatting with you, nice
chatting with you, nice talking with you, it was nice to talk to you, it was a pleasure talking to you,
well done, good job, great job, nice job, nice work, great work, good work, awesome work, you rock, good bot, bravo,
kudos, congratulations, congrats, keep it up, keep up the good work, you are the best, youre the best, you are
awesome, youre awesome, you are great, youre great, you are amazing, youre amazing, you are wonderful, youre
wonderful, you are so kind, youre so kind, you are very kind, youre very kind, you are very helpful, youre very
helpful, you are so helpful, youre so helpful, you are helpful, youve been very helpful, you have been very helpful,
youve been so helpful, youve been a great help, you have been a great help, youve been a big help, you are a star,
youre a star, youre a lifesaver, you are a lifesaver, you are a genius, you made my day, i love you, love you, love
it, i love it, thats great, that is great, thats awesome, that is awesome, thats perfect, that is perfect, thats
amazing, thats wonderful, that was great, thats nice, thats very kind, glad to hear that, good to know, great to hear,
sorry, im sorry, my bad, no problem, no worries, you are welcome, youre welcome, welcome, my pleasure, likewise, you
too, lol, haha, hahaha,
hola, buenas, buenos dias, buenas tardes, buenas noches, que tal, como estas, como esta usted, gracias, muchas
gracias, mil gracias, gracias por todo, gracias por tu ayuda, gracias por su ayuda, adios, chao, hasta luego, hasta
manana, hasta pronto, nos vemos, cuidate, de nada, mucho gusto, feliz navidad, que tengas un buen dia,
bonjour, salut, bonsoir, coucou, bonne nuit, bonne journee, bonne soiree, ca va, comment ca va, comment allez vous,
comment vas tu, merci, merci beaucoup, merci bien, merci pour tout, merci pour votre aide, merci pour ton aide, au
revoir, a bientot, a plus, a demain, de rien, enchante,
hallo, moin, servus, gruss gott, guten tag, guten morgen, guten abend, gute nacht, wie gehts, wie geht es dir, wie
geht es ihnen, danke, danke schon, dankeschon, danke sehr, vielen dank, besten dank, herzlichen dank, tausend dank,
danke fur deine hilfe, danke fur ihre hilfe, danke fur die hilfe, danke fur alles, tschuss, tschau, auf wiedersehen,
bis bald, bis dann, bis morgen, bis spater, machs gut, schonen tag, schonen tag noch, schonen abend, gern geschehen,
ola, oi, bom dia, boa tarde, boa noite, tudo bem, como vai, como esta, obrigado, obrigada, muito obrigado, muito
obrigada, valeu, tchau, adeus, ate logo, ate mais, ate amanha, prazer,
ciao, salve, buongiorno, buonasera, buona sera, buonanotte, buona notte, buona giornata, come stai, come sta, come va,
grazie, grazie mille, molte grazie, tante grazie, arrivederci, a presto, a domani, ci vediamo, prego, piacere,
hoi, goedemorgen, goedemiddag, goedenavond, dag, doei, hoe gaat het, hoe gaat het met je, bedankt, dank je, dank je
wel, dank u, dank u wel, dankjewel, hartelijk dank, tot ziens, tot straks, tot morgen, tot later, graag gedaan,
czesc, hej, witaj, witam, dzien dobry, dobry wieczor, dobry den, dobranoc, jak sie masz, co slychac, dziekuje, dzieki,
dziekuje bardzo, bardzo dziekuje, do widzenia, do zobaczenia, na razie, nie ma za co,
merhaba, selam, gunaydin, iyi gunler, iyi aksamlar, iyi geceler, nasilsin, nasilsiniz, ne haber, tesekkurler, tesekkur
ederim, cok tesekkurler, cok tesekkur ederim, sag ol, sagol, hosca kal, hoscakal, gorusuruz, gule gule, rica ederim,
привет, здравствуйте, здравствуй, добрый день, доброе утро, добрый вечер, спокойной ночи, как дела, спасибо, большое
спасибо, спасибо большое, спасибо за помощь, благодарю, пока, до свидания, до встречи, увидимся, пожалуйста,
مرحبا, اهلا, اهلا وسهلا, السلام عليكم, سلام, صباح الخير, مساء الخير, كيف حالك, شكرا, شكرا جزيلا, شكرا لك, مع السلامة,
नमस्ते, नमस्कार, धन्यवाद, शुक्रिया, namaste, namaskar, dhanyavad, shukriya, annyeong, arigato, arigatou, konnichiwa,
sayonara, privet, spasibo, shukran, marhaba, salam,
안녕, 안녕하세요, 안녕하십니까, 안녕히 가세요, 안녕히 계세요, 반갑습니다, 감사합니다, 정말 감사합니다, 고마워, 고마워요,
고맙습니다, 잘 가, 잘 자, 좋은 아침, 좋은 하루 되세요, 수고하세요
"""
# What goes with them, and says nothing by itself. No times and no question words: "Thanks, and tomorrow?" asks.
_AROUND = """
there, everyone, everybody, all, guys, folks, friend, my friend, buddy, pal, mate, man, dude, sir, madam, maam, dear,
team, bot, assistant, again, too, as well, so much, very much, so very much, a lot, a bunch, a ton, a million, for
that, for this, for everything, for all, for it, for your help, for all your help, for the help, for all of your help,
for your time, for your assistance, for your support, for helping, for helping me, for helping me out, for the info,
for the information, for the quick reply, for the quick response, for your patience, for now, kindly, for the answer,
for your answer, for answering, for answering my question, for letting me know, for being so helpful, for being so
kind, for talking, for talking to me, for chatting, for today, in advance, really, truly, indeed, oh, ah, wow, well,
so, and, ok, okay, k, alright, great, perfect, awesome, excellent, cool, nice, good, amazing, wonderful, fantastic,
lovely, brilliant, super, got it, i see, anyway, very, to you, to you too, with you, amigo, por favor, mon ami, et
vous, et toi, und dir, und ihnen
"""
# Chinese and Japanese are written without spaces: such a text is made of these alone.
_UNSPACED = re.compile(
    "(?:你好|您好|大家好|谢谢|多谢|感谢|再见|拜拜|晚安|早安|早上好|下午好|晚上好|こんにちは|こんばんは|おはよう|ありがとう|"
    "どうも|さようなら|おやすみ|はじめまして|よろしくお願いします|お疲れ様|ございます|ございました|です|でした|なさい|"
    "你|您|大家|了|啊|呀|哦|吗|很|非常|ね|よ)+"
)


def is_small_talk(text: str) -> bool:
    """Whether the text is made of pleasantries alone, in one of the languages that are written most.

    Without any pleasantry, or with a word that could ask for something, it is not. A wrong yes leaves a model with the
    tools that are always there, and it has to search; a wrong no costs a few tokens.
    """
    if len(text) > _MOST_CHARACTERS:
        return False
    unspaced = _CHINESE_OR_JAPANESE.findall(text)
    if unspaced and not all(_UNSPACED.fullmatch(part) for part in unspaced):
        return False
    words = _words(_CHINESE_OR_JAPANESE.sub(" ", text))
    if len(words) > _MOST_WORDS:
        return False
    phrases = _phrases()
    says, at = bool(unspaced), 0
    while at < len(words):
        # The longest phrase that begins here.
        ends = range(min(at + _LONGEST_PHRASE, len(words)), at, -1)
        end = next((end for end in ends if tuple(words[at:end]) in phrases), None)
        if end is None:
            return False
        says = says or phrases[tuple(words[at:end])]
        at = end
    return says


@functools.cache
def _phrases() -> dict[tuple[str, ...], bool]:
    """All phrases by their words, with whether they say something."""
    around = dict.fromkeys((tuple(_words(phrase)) for phrase in _AROUND.split(",")), False)
    return around | dict.fromkeys((tuple(_words(phrase)) for phrase in _TALK.split(",")), True)


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without accents and apostrophes."""
    apart = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text.lower()))
    whole = "".join(mark for mark in apart if not unicodedata.combining(mark)).replace("\u0131", "i")
    return _WORD.findall(_DRAWN_OUT.sub(r"\1", unicodedata.normalize("NFKC", whole)))
