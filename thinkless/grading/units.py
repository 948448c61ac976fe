"""Which words after a number are its unit, and how units convert; any other word makes another answer.

A plural may be a unit (5 apples), but not a word that changes the number (5 halves, 5 or 6, 5 squared).
"""

import re
from fractions import Fraction

from thinkless.grading.values import Unit

SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
CURRENCIES = {"$": "dollar", "\\$": "dollar", "€": "euro", "£": "£", "¥": "yen", "₹": "rupee"}
BEHIND = {"old", "long", "wide", "tall", "high", "deep", "each", "left"}
"""Words that may follow a unit: 5 years old."""
BARE = {*"msghNJWVAKCFLl"}
"""Letters that are a unit without being upright where no variable is asked for: 5 N."""

_CONVERTING = """
length 1 meter m metre; length 1000 kilometer km kilometre; length 1/100 centimeter cm centimetre;
length 1/1000 millimeter mm; length 127/5000 inch in inches; length 381/1250 foot ft feet;
length 1143/1250 yard yd; length 201168/125 mile mi; mass 1 gram g gm; mass 1000 kilogram kg kilo;
mass 1/1000 milligram mg; mass 1000000 tonne; mass 45359237/100000 pound lb; mass 45359237/1600000 ounce oz;
time 1 second s sec; time 60 minute min; time 3600 hour h hr; time 86400 day; time 604800 week wk;
length3 1/1000 liter l L litre; length3 1/1000000 milliliter ml mL cc;
length3 473176473/125000000000 gallon gal;
angle 1 degree ° deg; money 1 dollar $ USD buck; money 1/100 cent c ¢"""
"""A dimension, a size in it, and the unit's spellings."""
_OTHER = """
month; year yr; mph; kph kmph; newton N kN; joule J kJ; watt W kW; volt V; ampere A amp; ohm \\Omega;
pascal Pa kPa; hertz Hz kHz MHz; kelvin K; mole mol; coulomb C; farad F; radian rad; nm; euro € EUR; yen ¥
yuan RMB;
£ GBP; ₹ rupee; unit; percentage point; people person men women children sheep fish mice geese"""
"""Spellings of units that are not converted."""
_TABLE = [(words[0], words[1], words[2:]) for words in map(str.split, _CONVERTING.split(";"))]
_SIZES = {names[0]: (dimension, Fraction(size)) for dimension, size, names in _TABLE}
_SPELLINGS = [*(names for _, _, names in _TABLE), *map(str.split, _OTHER.split(";"))]
_NAMES = {spelling: names[0] for names in _SPELLINGS for spelling in names}

_CHANGING = frozenset(
    re.findall(
        r"\w+",
        """or and not no nor none neither either both than then more less fewer most least at about around if
        but is are was were be has have does as plus minus times squared cubed half halves third thirds
        quarter quarters fourths fifths sixths eighths tenths hundredths thousandths tens hundreds thousands
        millions billions dozens pairs twice thrice mod factorial root roots sqrt log logs over under above
        below between to from until except without zero one two three four five six seven eight nine ten
        eleven twelve twenty thirty forty fifty sixty seventy eighty
        ninety wrong incorrect false this his always sometimes perhaps maybe unless powers digits yes""",
    )
)
_CHANGING_ABROAD = {*"百千万億亿兆十半或和与不非余多以上下и", "или", "не"}


def unit_name(word: str) -> str | None:
    """The name of the unit that a word is; None if it can be none."""
    word = word.removeprefix("micro")
    for spelling in (word, word.lower(), word.lower().removesuffix("s") if len(word) > 2 else word):
        if spelling in _NAMES:
            return _NAMES[spelling]
    if not word.isascii():
        return word if word.isalpha() and not _CHANGING_ABROAD & {*word, word.lower()} else None
    return word.lower() if len(word) > 3 and word.endswith("s") and may_describe(word) else None


def may_describe(word: str) -> bool:
    """Whether a word can stand before a plural without changing the number: 5 red apples."""
    return word.isascii() and word.isalpha() and len(word) > 2 and word.lower() not in _CHANGING | set(SCALES)


def conversion(a: Unit, b: Unit) -> Fraction | None:
    """The factor from unit `a` to unit `b`; 1 where one is not known, None if they cannot convert."""
    if any(name not in _SIZES for name, _ in a + b):
        return Fraction(1)
    factor, dimensions = Fraction(1), dict[str, int]()
    for unit, sign in ((a, 1), (b, -1)):
        for name, exponent in unit:
            dimension, scale = _SIZES[name]
            dimension, power = dimension.rstrip("3"), 3 if dimension.endswith("3") else 1
            factor *= scale ** (sign * max(-9, min(9, exponent)))
            dimensions[dimension] = dimensions.get(dimension, 0) + sign * exponent * power
    return None if any(dimensions.values()) else factor
