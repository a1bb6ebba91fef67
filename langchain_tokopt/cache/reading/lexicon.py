"""English words that questions are read with: function words, numbers, units, closed classes. Collected by hand.

A *closed class* has few members, of which a question names one or another (months, currencies, countries). Lists are
strings, because a table of a thousand quoted words cannot be read. They become dictionaries at the first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from langchain_tokopt.cache.reading.stems import stems


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# --- words that carry no content of their own ------------------------------------------------------------------------

STOP_WORDS = _set(
    "a an the this that these those i me my mine myself you your yours yourself he him his she her hers it its we us "
    "our ours they them their theirs one ones who whom whose what which when where why how is am are was were be been "
    "being do does did doing done have has had having can could will would shall should may might must ought need "
    "please kindly hi hello hey dear thanks thank of to in on at by for from with about into onto out up as if or and "
    "but so than then there here just also too very really some any each every all both such own same other only "
    "again still yet ever let lets get gets got getting want wants wanted would like i'm i'd i'll i've it's that's "
    "what's there's you're we're they're who's how's where's when's let's im ive id ill whats hows wheres id's able "
    "possible tell know show give explain say way ways"
)
PRONOUNS = {"i": "i", "me": "i", "you": "you", "he": "he", "him": "he", "she": "she", "her": "she", "we": "we"} | {
    "us": "we",
    "they": "they",
    "them": "they",
}
# Capitals that are common nouns: "my PIN" is what "my pin code" is, and no name.
GENERIC_CAPITALS = _set("i a ok asap faq pin atm id tv pc sms vs q no yes am pm etc eg ie")

NEGATIONS = _set(
    "not no never none nobody nothing neither nor cannot without isnt arent wasnt werent dont doesnt didnt cant "
    "couldnt wont wouldnt shouldnt hasnt havent hadnt aint unable except nowhere"
)

# No paraphrase turns one of these into another. It does so with the other question words: "why is there a fee", "where
# does the fee come from", "what is the fee for".
ASKS_FOR = _set("who when where")

# --- numbers ---------------------------------------------------------------------------------------------------------

_SMALL = (
    "zero=0 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 thirteen=13 "
    "fourteen=14 fifteen=15 sixteen=16 seventeen=17 eighteen=18 nineteen=19 twenty=20 thirty=30 forty=40 fifty=50 "
    "sixty=60 seventy=70 eighty=80 ninety=90 twice=2"
)
SMALL_NUMBERS = {word: int(value) for word, _, value in (pair.partition("=") for pair in _SMALL.split())}
LARGE_NUMBERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PLACES = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
ORDINALS = {word: str(place) for place, word in enumerate(_PLACES.split(), 1)}
MULTIPLIERS = {"k": 1000, "bn": 10**9}

# --- units -----------------------------------------------------------------------------------------------------------

_UNITS = """
length     km=kilometer,kilometre,kilometers,kilometres,kms m=meter,metre,meters,metres
length     cm=centimeter,centimetre,centimeters,centimetres mm=millimeter,millimetre,millimeters,millimetres
length     mile=miles,mi ft=foot,feet inch=inches yd=yard,yards nm=nanometer,nanometre,nanometers,nanometres
length     lightyear=lightyears
mass       kg=kilogram,kilograms,kilo,kilos,kgs g=gram,grams mg=milligram,milligrams lb=lbs oz=ounce,ounces
mass       ton=tons,tonne,tonnes
volume     l=liter,litre,liters,litres ml=milliliter,millilitre,milliliters,millilitres gal=gallon,gallons pint=pints
volume     cup=cups tsp=teaspoon,teaspoons tbsp=tablespoon,tablespoons quart=quarts
heat       celsius=centigrade fahrenheit= kelvin=
data       kb=kilobyte,kilobytes mb=megabyte,megabytes gb=gigabyte,gigabytes tb=terabyte,terabytes bit=bits
data       byte=bytes
speed      kmh=kph,km/h mph= knot=knots
energy     kwh= kcal=calorie,calories joule=joules watt=watts kw=kilowatt,kilowatts volt=volts amp=amps
area       acre=acres hectare=hectares,ha sqft= sqm=
angle      radian=radians degree=degrees
share      %=percent,percentage,pct
clock      am=a.m pm=p.m
currency   usd=$,dollar,dollars,bucks eur=\u20ac,euro,euros gbp=\u00a3,sterling,quid jpy=\u00a5,yen
currency   inr=\u20b9,rupee,rupees chf= franc=francs cny=yuan,renminbi,rmb aud= cad= nzd= sek= nok= dkk= krona=kronor
currency   krone=kroner pln=zloty,zlotys czk=koruna huf=forint,forints rub=\u20bd,ruble,rubles,rouble,roubles try=
currency   lira=liras brl=reais mxn= peso=pesos zar=rand krw= sgd= hkd= thb=baht ils=shekel,shekels
currency   aed=dirham,dirhams sar=riyal,riyals btc=bitcoin,bitcoins eth=ether,ethereum cent=cents pound=pounds
currency   vnd=dong php= idr=rupiah uah=hryvnia ron= bgn= ngn=naira
time       second=seconds,sec,secs minute=minutes,min,mins hour=hours,hr,hrs day=days week=weeks month=months
time       year=years,yr,yrs decade=decades ms=millisecond,milliseconds
"""
# What these mean without a number before them is open ("second", "try", "a cup", "won"): only after a number a unit.
_ONLY_AFTER_NUMBER = _set(
    "m g l t second min sec try cup pound mi ft oz am pm bit cent amp knot degree foot feet yard yards cups pounds "
    "bits degrees seconds mins secs minute minutes hour hours hr hrs day days week weeks month months year years yr "
    "yrs decade decades ha rand ton tons ms nm ether ron dong mm quid a.m p.m pint pints bucks franc real"
)


@cache
def units() -> Mapping[str, tuple[str, str]]:
    """Unit by word: (what it measures, the unit)."""
    found: dict[str, tuple[str, str]] = {}
    for line in _UNITS.strip().splitlines():
        dimension, *entries = line.split()
        for entry in entries:
            name, _, aliases = entry.partition("=")
            for word in (name, *aliases.split(",")):
                if word:
                    found[word] = (dimension, name)
    return found


@cache
def units_by_themselves() -> Mapping[str, tuple[str, str]]:
    """Those that are units without a number, too."""
    return {word: unit for word, unit in units().items() if word not in _ONLY_AFTER_NUMBER}


# --- closed classes --------------------------------------------------------------------------------------------------

# Naming one of these where the other question names none changes the answer, too.
_ENTITIES = """
months     january=jan february=feb march april=apr may june=jun july=jul august=aug september=sep,sept october=oct
months     november=nov december=dec
weekdays   monday=mondays tuesday=tuesdays,tues wednesday=wednesdays thursday=thursdays,thurs friday=fridays
weekdays   saturday=saturdays sunday=sundays
places     africa=african europe=european asia=asian america=usa,united_states oceania antarctica afghanistan albania
places     algeria andorra angola argentina armenia australia austria azerbaijan bahamas bahrain bangladesh barbados
places     belarus belgium belize benin bhutan bolivia bosnia botswana brazil brunei bulgaria burundi cambodia
places     cameroon canada chad chile china colombia congo costa_rica croatia cuba cyprus czechia=czech_republic
places     denmark dominica ecuador egypt el_salvador eritrea estonia ethiopia fiji finland france gabon gambia
places     georgia germany ghana greece grenada guatemala guinea guyana haiti honduras hungary iceland india
places     indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan kenya kosovo kuwait kyrgyzstan
places     laos latvia lebanon lesotho liberia libya liechtenstein lithuania luxembourg madagascar malawi malaysia
places     maldives mali malta mauritania mauritius mexico moldova monaco mongolia montenegro morocco mozambique
places     myanmar namibia nepal netherlands=holland new_zealand nicaragua niger nigeria north_korea norway oman
places     pakistan palestine panama paraguay peru philippines poland portugal qatar romania russia rwanda samoa
places     saudi_arabia senegal serbia singapore slovakia slovenia somalia south_africa south_korea=korea spain
places     sri_lanka sudan suriname sweden switzerland syria taiwan tajikistan tanzania thailand togo tonga tunisia
places     turkey=turkiye turkmenistan uganda ukraine emirates=uae,united_arab
places     uk=united_kingdom,britain,great_britain uruguay uzbekistan vanuatu venezuela vietnam yemen zambia zimbabwe
places     england scotland wales northern_ireland california texas florida hawaii alaska ohio oregon colorado
places     arizona nevada utah michigan illinois virginia massachusetts new_york=nyc los_angeles san_francisco
places     san_diego chicago houston boston seattle miami denver dallas atlanta philadelphia las_vegas new_orleans
places     toronto montreal vancouver mexico_city london manchester liverpool edinburgh glasgow dublin paris lyon
places     marseille berlin munich hamburg frankfurt cologne stuttgart vienna zurich geneva basel rome milan naples
places     venice florence madrid barcelona seville lisbon porto amsterdam rotterdam brussels antwerp copenhagen
places     stockholm oslo helsinki warsaw krakow prague budapest bucharest sofia athens istanbul ankara moscow
places     kyiv=kiev minsk riga vilnius tallinn cairo casablanca lagos nairobi johannesburg cape_town dubai abu_dhabi
places     doha riyadh tehran baghdad jerusalem tel_aviv karachi lahore delhi=new_delhi mumbai=bombay bangalore
places     kolkata=calcutta dhaka bangkok hanoi jakarta manila kuala_lumpur hong_kong shanghai beijing tokyo osaka
places     kyoto seoul sydney melbourne brisbane perth auckland buenos_aires rio_de sao_paulo bogota lima santiago
places     caracas havana
tongues    english french german spanish italian portuguese dutch swedish norwegian danish finnish icelandic polish
tongues    czech slovak hungarian romanian bulgarian greek turkish russian ukrainian arabic hebrew persian=farsi
tongues    hindi urdu bengali tamil punjabi chinese mandarin cantonese japanese korean vietnamese thai indonesian
tongues    malay swahili latin esperanto croatian serbian catalan irish welsh
"""
# Of these both questions must name one for them to differ: "in the morning" may be left out, but not "at night".
_KINDS = """
seasons    spring summer winter autumn
dayparts   morning=mornings afternoon=afternoons evening=evenings night=nights midnight noon=midday
days       today tomorrow yesterday
periods    hourly=per_hour,an_hour,each_hour,every_hour daily=per_day,a_day,each_day,every_day
periods    weekly=per_week,a_week,each_week,every_week monthly=per_month,a_month,each_month,every_month
periods    quarterly=per_quarter,every_quarter yearly=annually,annual,per_year,a_year,each_year,every_year,per_annum
turns      last=last_week,last_month,last_year,last_time,last_quarter
turns      next=next_week,next_month,next_year,next_time,next_quarter
turns      this=this_week,this_month,this_year,this_time,this_quarter
meals      breakfast lunch dinner=supper brunch
colours    red blue green yellow orange purple pink brown black white gray=grey
compass    north=northern south=southern east=eastern west=western northeast northwest southeast southwest
accounts   checking=current_account savings=saving_account joint_account
cards      visa mastercard amex=american_express maestro paypal
formats    pdf csv xlsx=excel,xls docx=word_document json xml yaml html png jpg=jpeg gif mp3 mp4 wav zip
systems    windows macos=mac,osx linux android ios=iphone,ipad chromeos
browsers   chrome firefox safari edge_browser
languages  python java javascript typescript rust golang ruby php kotlin scala perl haskell c++ c#
databases  mysql postgresql=postgres sqlite mongodb oracle redis
relatives  mother=mom,mum,mothers father=dad,fathers sister=sisters brother=brothers daughter=daughters son=sons aunt
relatives  uncle grandmother=grandma grandfather=grandpa wife husband niece nephew
sizes      small=smaller,smallest medium large=larger,largest
people     child=children,kid,kids adult=adults teenager=teenagers,teen,teens senior=seniors
schools    kindergarten high_school university=college
planets    mercury venus mars jupiter saturn uranus neptune pluto
"""


@cache
def _class_members(table: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in table.strip().splitlines():
        name, *members = line.split()
        for member in members:
            word, _, aliases = member.partition("=")
            for spelling in (word, *aliases.split(",")):
                if spelling:
                    found[spelling.replace("_", " ")] = f"{name}:{word}"
    return found


def entities() -> Mapping[str, str]:
    """ "class:member" by word, or by two words; a question must name the same ones."""
    return _class_members(_ENTITIES)


def kinds() -> Mapping[str, str]:
    """ "class:member" by word, or by two words; of a class that both questions name they must name the same."""
    return _class_members(_KINDS)


@cache
def first_of_two() -> frozenset[str]:
    """Words that two-word members of classes begin with."""
    members = [*entities(), *kinds()]
    return frozenset(word.partition(" ")[0] for word in members if " " in word)


# Words of classes that are more often something else: they count after these words, or with a capital.
AMBIGUOUS_MONTHS = frozenset({"may", "march"})
BEFORE_MONTH = _set("in of on by until till since this next last early late mid from before after during")

# Words that the one who gives and the one who gets stand around: turned round, they mean another thing.
CONNECTORS = _set("to into before after than over against instead from by minus versus causes beats owes")
SYMMETRIC = _set("and or vs versus nor with")
# After these "to" is a direction; else it is more often the start of "to reset".
_MOVING = (
    "flight fly travel train bus go drive trip ticket route direct transfer send translate translation convert "
    "conversion exchange change move ship deliver commute walk ferry journey migrate upgrade switch distance"
)


@cache
def moving() -> frozenset[str]:
    """Stems of words after which "to" is a direction."""
    return frozenset(stems(_MOVING.split()))


DETERMINERS = _set("the a an my your his her its our their this that these those some any another all")
