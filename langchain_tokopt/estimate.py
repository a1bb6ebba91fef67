"""A token count without a tokenizer: by script, by kind of word, by length.

cl100k and o200k first cut a text into pieces (words, numbers of up to three digits, runs of punctuation, runs of
space) and never merge across them. The cut needs no vocabulary, so it is made here in the same way; only how many
tokens a piece has must be guessed. The coefficients were fitted by least squares, piece by piece, against cl100k on
1,426 excerpts: code in several languages, prose, JSON, XML, logs, chats, program translations in 45 languages,
base64 and hexadecimal digits.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final, Literal

Encoding = Literal["cl100k_base", "o200k_base"]

_PIECES: Final = re.compile(
    r"'(?:[sdmtSDMT]|ll|ve|re|LL|VE|RE)"  # contractions
    r"|(?:[^\w\r\n]|_)?[^\W\d_]+"  # letters, with the one space or mark before them
    r"|\d{1,3}"
    r"| ?(?:[^\s\w]|_)+[\r\n]*"  # punctuation
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
# The same for a text in ASCII only, twice as fast.
_ASCII_PIECES: Final = re.compile(
    r"'(?:[sdmtSDMT]|ll|ve|re|LL|VE|RE)"
    r"|[^a-zA-Z0-9\r\n]?[a-zA-Z]+"
    r"|[0-9]{1,3}"
    r"| ?[^\sa-zA-Z0-9]+[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
    re.ASCII,
)
_HUMPS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_RUNS: Final = re.compile(r"(.)\1{2,}", re.DOTALL)

# Tokens of an ASCII word: a constant, and per letter. By what stands before the word (nothing, a space, another mark)
# and by its shape.
_WORDS: Final = {
    ("", "lower"): (0.62, 0.31),
    ("", "capital"): (0.66, 0.325),
    ("", "upper"): (0.86, 0.216),
    ("", "mixed"): (-0.27, 0.287),
    (" ", "lower"): (0.68, 0.283),
    (" ", "capital"): (0.58, 0.314),
    (" ", "upper"): (1.05, 0.042),
    (" ", "mixed"): (0.23, 0.315),
    (".", "lower"): (0.61, 0.351),
    (".", "capital"): (0.85, 0.394),
    (".", "upper"): (1.22, 0.101),
    (".", "mixed"): (0.19, 0.247),
}
_PER_HUMP: Final = {"": 0.91, " ": 0.46, ".": 1.0}  # camelCase has two humps
# Words are rarely that long; what is (identifiers, random text) has fewer tokens per letter.
_LONG, _VERY_LONG, _PER_LETTER_OF_LONG = 16, 24, 0.08

# What a pair of letters adds to a word's tokens; frequent pairs take some away. One row per first letter ("^" is the
# word's begin), one column per second letter a-z and the word's end; "J" is 0 and each letter after it 0.05 more.
_PAIRS: Final = (
    "IJHIKJJHKIKKJJJILKJIJKIKJJJ",  # ^
    "OFEDNHDHFOKDCFLDTDFEEEEIDGL",  # a
    "FLJMGNJJICLEIKDQOFJLCPONHQJ",  # b
    "FMHMENNCHKCEKNENOCKEDLMIIQL",  # c
    "GHJGEJMPFFMIIMFLPJGJGLRKHOI",  # d
    "DIEDFDEFGLOEEDIEDBDEKGEBGMH",  # e
    "FMKKEFPOEOKGMLFQOFLEFMNMINJ",  # f
    "HKOKDPMCFTSGIHEPKGGEFOIQMNJ",  # g
    "GHOPIOOMHOMLKAEJHIKDFNKMKKJ",  # h
    "FFCDDDCTNOIEGCBBJCEELGQJSBL",  # i
    "IKKIFQQMNMMQQOELNMHNJOQPSQM",  # j
    "NKJMDJFHIOLQNETKNQGQQUENLQI",  # k
    "FKLECDKNEQLGJODEPIFEDILGFOH",  # l
    "DBJHDQHMGMMEEHDDLNFKHONQIRI",  # m
    "HLDEFGEKHIFHIGFGRTEDGHMOINI",  # n
    "FFHGLEFLHGGGFEDFMCIEDICKJGK",  # o
    "FKMFEMIEGLKEINBHOEGEGKOKIMK",  # p
    "LOPPMTONOLPGNJSMMONOCMJLQPL",  # q
    "GMDFEIGMGSHIFGCKPGGHHHKLGQJ",  # r
    "HKGODBOEENGJLKEELGDDFHDMHOH",  # s
    "DGFGEGGCDRPHFKFEQDGFGNFHCOI",  # t
    "FCDGEIIMGORCDEMCQCEENMSHGLK",  # u
    "EPQOCMJMEMMONFEOMZMMOLLNLMJ",  # v
    "FMNOFOODFOONNGDLMEFNPQHPNMJ",  # w
    "GOFJHNNOHMSQGOTELMNHPLROIJJ",  # x
    "ONPRFMKOGNLLIDEGNBCDMNHPOIG",  # y
    "IKLRJKSIHLNKNOJMOTQKMQOLRML",  # z
)
_PAIR_COST: Final = {
    first + second: (ord(_PAIRS[row][column]) - ord("J")) * 0.05
    for row, first in enumerate("^abcdefghijklmnopqrstuvwxyz")
    for column, second in enumerate("abcdefghijklmnopqrstuvwxyz$")
}

# Tokens per character outside ASCII: first code point, cl100k, and how many times fewer tokens o200k needs. The last
# is from https://openai.com/index/hello-gpt-4o/ ("Language tokenization") and was not measured here.
_SCRIPTS: Final = (
    (0x0080, 0.96, 1.2),  # Latin letters with accents
    (0x0250, 2.08, 1.2),  # phonetic letters
    (0x0300, 1.0, 1.0),  # combining accents
    (0x0370, 0.98, 1.7),  # Greek
    (0x0400, 0.41, 1.7),  # Cyrillic
    (0x0530, 2.07, 2.0),  # Armenian
    (0x0590, 1.11, 1.9),  # Hebrew
    (0x0600, 0.75, 2.0),  # Arabic
    (0x0780, 2.58, 2.0),
    (0x0900, 1.16, 2.9),  # Devanagari
    (0x0980, 1.35, 2.9),  # Bengali
    (0x0A00, 1.9, 3.5),  # Gurmukhi, Gujarati
    (0x0B80, 1.49, 3.3),  # Tamil
    (0x0C00, 1.9, 3.5),  # Telugu, Kannada, Malayalam
    (0x0D80, 2.09, 2.0),  # Sinhala
    (0x0E00, 0.94, 1.5),  # Thai
    (0x0E80, 2.58, 2.0),
    (0x1000, 2.07, 2.0),  # Burmese, Georgian
    (0x1100, 2.45, 1.7),  # Hangul letters
    (0x1200, 2.58, 2.0),
    (0x1780, 1.56, 2.0),  # Khmer
    (0x1800, 2.58, 2.0),
    (0x1E00, 0.58, 1.5),  # Vietnamese
    (0x1F00, 2.58, 1.2),
    (0x2000, 1.66, 1.0),  # typographic marks, arrows, boxes
    (0x2C00, 2.58, 1.2),
    (0x2E80, 0.8, 1.0),  # CJK marks
    (0x3040, 0.88, 1.4),  # Kana
    (0x3100, 2.4, 1.4),  # Han
    (0xA000, 2.58, 1.5),
    (0xAC00, 2.45, 1.7),  # Hangul
    (0xD800, 1.0, 1.0),  # halves of a surrogate pair
    (0xE000, 2.58, 1.0),
    (0xF900, 1.5, 1.4),  # full-width forms
    (0x1F000, 2.83, 1.2),  # emoji
    (0x20000, 2.58, 1.2),
)
# Letters of the other Cyrillic languages; they stand for the rarer words, too.
_NOT_RUSSIAN: Final = "іїєґўјљњћђџІЇЄҐЎЈЉЊЋЂЏѓќѕ"
# Characters for which cl100k has a token of their own, often within a longer one.
_HAN: Final = (
    "一万三上下不与专业东两个中串为主么义之也书了事二于五些交产享京人亿今介从他付代以们件价任份企优会传但位体何余"
    "作你使例供価保信修倍值停像元先入全公共关其具内円册再写出击分列则初利别到制前力功加务动動包化北区十午华单南即"
    "历原去县参及友反发取变口只可台右号司合同名后向否含听启告员周命和品哈商問器四回因国图土在地场址型城基報場填增"
    "声处备复外多大天失头女好如始子字存学安宋完定实审客家容密对导将小少尔就局展山岁州工左已市布常平年并广序库应店"
    "度建开异式引张当录形影径待後得微心必志态思性总息您情意感成我或户所手打找技投报拉持指按换据排接推提播支收改放"
    "政效数整文料断新方族无日时明易星是時景更最月有服期木未本机权束条来板构析果查标样核格案检模次款止正此步歳段每"
    "比民気水求江汽没治法注活流海消清游源火点無然片版物特率环现球理生用由电男画界番登的监目直相省看県真知码确示社"
    "票私种科秒称移程稍税稿空立站章端笑符第等签简算管箱米类系素索约级线组经结给络统编网置美老考者而联能自至色节英"
    "藏行表装西要見见规视角解言計記話読计认议记论设证评试话询该详语误说请读调象责败账货购费资起超路身车转软载辑输"
    "达过运近还这进连述退送选通速造連道邮部都配释里重量金钟钮链销错键长開間関门闭问间队阳陆限院除雅集雷需非面音页"
    "项预频题额首验高黑"
)
_HANGUL: Final = (
    "가간값개거게결경고공과구그글기나내는능니다당대도동되된드든들디라래러력로록료류른를름리만메면명목문미버번보복"
    "부분비사산상색생서성세션소수스습시식신아야어에여열오와요용우운원위으은을음의이인일임입자작장재적전정제져조주"
    "지진째체출치크태터턴트튼하한할함해호화환회"
)
_OF_THEIR_OWN: Final = dict.fromkeys(_NOT_RUSSIAN, 2.97) | dict.fromkeys(_HAN, 0.83) | dict.fromkeys(_HANGUL, 0.45)
# ASCII in a piece with other characters: (a letter, the space or mark before the word).
_ASCII_IN_LATIN, _ASCII_IN_OTHER = (0.28, 0.23), (0.08, 0.45)
_SCRIPT_STARTS: Final = tuple(start for start, _, _ in _SCRIPTS)

# Small words of languages in Latin letters. Words of the second group have more tokens than those of the first.
_NEAR_WORDS: Final = (
    "the of and to is for that with as it be are this not or by if you was we will have but has"  # English
    " le la les des et est une dans pour que du pas sur par"  # French
    " el los las del con por uma os da foi mais não"  # Spanish, Portuguese
)
_FAR_WORDS: Final = (
    "der den und ist nicht von mit ein eine auf zu dem für"  # German
    " il di che della sono gli è del nella"  # Italian
    " het een van niet voor er wordt"  # Dutch
    " och att det som av är ikke til af og på ei ja ole"  # Nordic
    " nie jest lub się je nebo není"  # Polish, Czech
    " nem egy az hogy nu cu din este și bir ve bu için ile"  # Hungarian, Romanian, Turkish
    " yang dan untuk tidak dengan dari"  # Indonesian
    " không được của và là các"  # Vietnamese
)
_NEAR: Final = frozenset(f" {word}" for word in _NEAR_WORDS.split())
_FAR: Final = frozenset(f" {word}" for word in _FAR_WORDS.split())
_MORE_IF_FAR: Final[dict[Encoding, float]] = {"cl100k_base": 0.18, "o200k_base": 0.04}

_MEMO_LIMIT: Final = 50_000  # pieces
_SLICE: Final = 1_000_000  # characters at a time, so that a huge text needs no huge list


class _CharacterCosts(dict[str, float]):
    """Tokens per character, worked out at first use."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._encoding = encoding

    def __missing__(self, character: str) -> float:
        _, cost, fewer = _SCRIPTS[bisect_right(_SCRIPT_STARTS, ord(character)) - 1]
        cost = _OF_THEIR_OWN.get(character, cost)
        self[character] = cost = cost / fewer if self._encoding == "o200k_base" else cost
        return cost


class _PieceCosts(dict[str, float]):
    """Tokens per piece, worked out at first use; most pieces of a text occur again and again."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._characters = _CharacterCosts(encoding)

    def __missing__(self, piece: str) -> float:
        cost = max(1.0, self._cost(piece))
        if len(piece) <= 32:
            if len(self) >= _MEMO_LIMIT:
                self.clear()
            self[piece] = cost
        return cost

    def _cost(self, piece: str) -> float:
        if not piece.isascii():
            return self._cost_outside_ascii(piece)
        if piece[-1].isalpha():
            return 1.0 if piece[0] == "'" and len(piece) <= 3 else _word_cost(piece)
        if piece.isspace():
            return len(piece) / 80  # runs of up to 80 spaces are one token
        if piece[-1].isdigit():
            return 1.0
        marks = len(_RUNS.sub(r"\1\1", piece.strip()))  # "-----" is one token
        return 0.53 * marks if piece[0] == " " else 0.55 * marks - 0.6

    def _cost_outside_ascii(self, piece: str) -> float:
        others = [character for character in piece if character > "\x7f"]
        latin = all(character < "\u0250" or "\u1e00" <= character < "\u1f00" for character in others)
        letter, mark = _ASCII_IN_LATIN if latin else _ASCII_IN_OTHER
        inside = len(piece) - len(others)
        marks = min(inside, not piece[0].isalpha() and piece[0] <= "\x7f")
        return sum(map(self._characters.__getitem__, others)) + letter * (inside - marks) + mark * marks


def _word_cost(piece: str) -> float:
    before = "" if piece[0].isalpha() else " " if piece[0] == " " else "."
    word = piece[1:] if before else piece
    length = len(word)
    if word.islower():
        shape = "lower"
    elif length > 1 and word.isupper():
        shape = "upper"
    else:
        shape = "capital" if length == 1 or word[1:].islower() else "mixed"
    constant, per_letter = _WORDS[before, shape]
    cost = constant + per_letter * min(length, _VERY_LONG) + _PER_LETTER_OF_LONG * max(0, length - _LONG)
    if shape == "mixed":
        cost += _PER_HUMP[before] * len(_HUMPS.findall(word))
    if shape != "upper":
        letters = f"^{word[:_VERY_LONG].lower()}$"
        cost += sum(_PAIR_COST[letters[at : at + 2]] for at in range(len(letters) - 1))
    return cost


_COSTS: Final[dict[Encoding, _PieceCosts]] = {
    "cl100k_base": _PieceCosts("cl100k_base"),
    "o200k_base": _PieceCosts("o200k_base"),
}


def estimate(text: str, encoding: Encoding = "cl100k_base") -> int:
    """About how many tokens `text` has in `encoding`; 0 for an empty text, else at least 1.

    Against cl100k, on files that played no part in the fit: mean error 3.9 % (95 % of the files within 10.1 %) on 683
    files of code, documentation, JSON and XML, and 4.6 % (12.7 %) on 286 translations of programs into other languages.
    A quarter of the number of characters is off by 15.5 % (42.6 %) and 37 % (71 %) there.
    """
    total = sum(_tokens(text[start : start + _SLICE], encoding) for start in range(0, len(text), _SLICE))
    return max(1, round(total)) if text else 0


def _tokens(text: str, encoding: Encoding) -> float:
    pieces: list[str] = (_ASCII_PIECES if text.isascii() else _PIECES).findall(text)
    total = sum(map(_COSTS[encoding].__getitem__, pieces))
    return total * (1 + _MORE_IF_FAR[encoding] * _far(pieces))


def _far(pieces: list[str]) -> float:
    """How surely a text is in a language of the second group, by its small words: 0 to 1."""
    far = sum(map(_FAR.__contains__, pieces))
    if not far:
        return 0.0
    near = sum(map(_NEAR.__contains__, pieces))
    return min(1.0, max(0.0, 2 * far / (far + near + 1) - 0.5))
