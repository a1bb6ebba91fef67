"""English opposites: pairs of words, prefixes, particles. Collected by hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

from langchain_tokopt.cache.reading.stems import stem, stems

_OPPOSITES = """
enable activate / disable deactivate
buy purchase / sell
buyer purchaser / seller vendor
deposit / withdraw withdrawal
debit / credit
debtor / creditor
lend / borrow
lender / borrower
send / receive
sender / receiver recipient
payer / payee
import / export
upload / download
upgrade / downgrade
increase raise / decrease reduce lower
add insert / remove delete subtract
start begin launch / stop end finish quit
open reopen / close shut
accept approve / reject decline deny refuse
allow permit / forbid prohibit block ban
arrive arrival / depart departure leave
win / lose
winner / loser
pass / fail
succeed / fail
success / failure
push / pull pop
encrypt encryption / decrypt decryption
encode encoder / decode decoder
compress zip / decompress unzip
serialize serialization / deserialize deserialization
attach / detach
include inclusive / exclude exclusive
hire / fire
join enter / leave exit
entrance entry / exit
show display reveal / hide
expand / collapse shrink
create build / delete destroy demolish
merge / split
assemble / disassemble
inhale / exhale
love / hate
rise / fall drop
ascend ascending / descend descending
attack / defend
borrowed / lent
employer / employee
landlord / tenant
teacher / student
doctor / patient
client / server
parent / child
host / guest
predecessor / successor
ancestor / descendant
input / output
inbound incoming / outbound outgoing
inside indoor indoors interior / outside outdoor outdoors exterior
internal / external
inner / outer
read / write
lock / unlock
earlier / later
early earliest / late latest
first / last
next / previous
past / future
new newer newest / old older oldest
young younger youngest / old older oldest
big bigger biggest large larger largest / small smaller smallest little
high higher highest / low lower lowest
tall taller tallest long longer longest / short shorter shortest
hot hotter hottest warm warmer / cold colder coldest cool cooler
fast faster fastest quick quicker quickest / slow slower slowest
cheap cheaper cheapest / expensive pricey costly
rich richer richest / poor poorer poorest
strong stronger strongest / weak weaker weakest
heavy heavier heaviest / light lighter lightest
bright brighter / dark darker dim
wet / dry
full / empty
near nearer nearest close closest / far farther farthest further furthest
wide wider / narrow narrower
thick thicker / thin thinner
deep deeper / shallow shallower
hard harder hardest difficult / easy easier easiest simple
loud louder / quiet quieter silent
clean / dirty
safe safer safest / dangerous risky
public / private
domestic national / international foreign
local / remote global
online / offline
wired / wireless
physical / virtual
maximum max maximal / minimum min minimal
maximize / minimize
best / worst
better / worse
good / bad
more / less fewer
most / least fewest
major / minor
majority / minority
true / false
wrong / right
correct / wrong
above over / below under beneath
top / bottom
front / back
left / right
forward / backward backwards
upstairs / downstairs
upstream / downstream
positive / negative
plus / minus
multiply / divide
profit gain / loss
asset / liability
income revenue / expense
advantage benefit pro / disadvantage drawback con
cause / effect
permanent / temporary
manual manually / automatic automatically
single / married
odd / even
horizontal / vertical
synchronous sync / asynchronous async
gross / net
fixed / variable
personal / business corporate
singular / plural
male man boy men boys / female woman girl women girls
prepaid / postpaid
weekday weekdays / weekend weekends
day / night
sunrise / sunset
born birth / died death
alive living / dead
wake awake / sleep asleep
login signin / logout signout
hardware / software
junior / senior
ancient / modern
urban / rural
guilty / innocent
optional / mandatory required compulsory
supply / demand
cooked / raw
frozen / fresh
vegetarian vegan / meat
acid / alkaline base
inflation / deflation
overpay overpaid / underpay underpaid
overweight / underweight
overestimate / underestimate
clockwise / counterclockwise anticlockwise
"""


@cache
def opposites() -> Mapping[str, frozenset[str]]:
    """Stems of the opposites of a stem."""
    found: dict[str, set[str]] = {}
    for line in _OPPOSITES.strip().splitlines():
        left, right = ([stem(word) for word in side.split()] for side in line.split("/"))
        for words, others in ((left, right), (right, left)):
            for word in words:
                found.setdefault(word, set()).update(others)
    return {word: frozenset(others - {word}) for word, others in found.items()}


# "lock" and "unlock": a word and the same with one of these before it are opposites ...
_OPPOSING_PREFIXES = ("un", "non", "dis", "in", "im", "il", "ir", "mis")
# ... but not these, which only look so.
_NOT_OPPOSED = (
    "inform import impress impart improve imprint impact impose implant discover discard discount dispatch display "
    "dispose disclose discord discourse disease inside income input install instal intend intent invest invent "
    "increase invoice indeed insure indent inline intake insight instead unit uniform union unique until unless under "
    "mission mistake nonce none inland instant instance internal interest intern inbound inbox index"
)


@cache
def _not_opposed() -> frozenset[str]:
    return frozenset(stems(_NOT_OPPOSED.split()))


@lru_cache(maxsize=4096)
def without_prefix(word: str) -> str | None:
    """The stem of what a word with an opposing prefix is the opposite of: "lock" for "unlock"."""
    for prefix in _OPPOSING_PREFIXES:
        if word.startswith(prefix) and len(word) >= len(prefix) + 4 and stem(word) not in _not_opposed():
            return stem(word[len(prefix) :])
    return None


# Particles that turn a verb round: "log in" and "log out". Only after these verbs may other words stand between.
PARTICLES = {"on": "off", "off": "on", "in": "out", "out": "in", "up": "down", "down": "up"}
SEPARABLE = frozenset(["turn", "switch", "power", "log", "sign", "opt", "check", "put", "go", "come", "move", "scroll"])
