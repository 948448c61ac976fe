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
CURRENCIES = {"$": "dollar", "\\$": "dollar", "€": "euro", "£": "£", "¥": "yen", "₹": "rupee", "₩": "won"}
CURRENCIES |= {"₽": "rouble"}
TEMPERATURES = {"C": "celsius", "Celsius": "celsius", "F": "fahrenheit", "Fahrenheit": "fahrenheit"}
BEHIND = {"old", "long", "wide", "tall", "high", "deep", "each", "left"}
"""Words that may follow a unit: 5 years old."""
BARE = {*"msghNJWVAKCFLl"}
"""Letters that are a unit without being upright where no variable is asked for: 5 N."""

_MEASURES = """
length 1 meter m metre; length .0254 inch in inches; length .3048 foot ft feet; length .9144 yard yd;
length 1609.344 mile mi; length2 10000 hectare; length2 4046.8564224 acre; length3 .001 liter l L litre;
length3 .003785411784 gallon gal; length3 .000946352946 quart; length3 .000473176473 pint;
mass 1 gram g gm; mass 1e6 tonne; mass 907184.74 ton; mass 453.59237 pound lb; mass 28.349523125 ounce oz;
time 1 second s sec; time 60 minute min; time 3600 hour h hr; time 86400 day; time 604800 week wk;
months 1 month; months 12 year yr; months 120 decade; months 1200 century;
length.time-1 .44704 mph; length.time-1 5/18 kph kmph; time-1 1 hertz Hz; mass.length.time-2 1000 newton N;
mass.length2.time-2 1000 joule J; mass.length2.time-3 1000 watt W; mass.length-1.time-2 1000 pascal Pa;
current 1 ampere A amp; current.time 1 coulomb C; mass.length2.time-3.current-1 1000 volt V;
mass.length2.time-3.current-2 1000 ohm \\Omega; mass-1.length-2.time4.current2 .001 farad F;
kelvin 1 kelvin K; celsius 1 celsius; fahrenheit 1 fahrenheit; amount 1 mole mol; degree 1 degree ° deg;
radian 1 radian rad; dollar 1 dollar $ USD buck; dollar .01 cent c ¢; euro 1 euro € EUR; yen 1 yen ¥;
yuan 1 yuan RMB; pounds 1 £ GBP; rupee 1 rupee ₹; data 1 bit; data 8 byte;
mass.length2.time-2 4184 calorie cal; won 1 won ₩; rouble 1 rouble ruble ₽; aud 1 AUD; cad 1 CAD"""
"""Dimensions, a size in them, and the unit's spellings."""
_PREFIXES = {"nano": "1e-9", "micro": "1e-6", "milli": ".001", "centi": ".01"}
_PREFIXES |= {"kilo": "1e3", "mega": "1e6", "giga": "1e9"}
_SHORT = """
kilometer km; centimeter cm; millimeter mm; nanometer nm; kilogram kg kilo; milligram mg; milliliter mL ml cc;
kilonewton kN; kilojoule kJ; kilowatt kW; kilopascal kPa; kilohertz kHz; megahertz MHz; kilocalorie kcal;
kilobyte KB kB; megabyte MB; gigabyte GB; kilowatthour kWh; electronvolt eV; decibel dB; atmosphere atm;
rpm; mpg; tesla; weber Wb;
unit; percentage point; people person men women children sheep fish mice geese"""
"""Spellings of units with a prefix, and of what is counted."""
_TABLE = [(words[0], words[1], words[2:]) for words in map(str.split, _MEASURES.split(";"))]
_SIZES = {names[0]: (dimensions, Fraction(size)) for dimensions, size, names in _TABLE}
_SIZES |= {
    f"{prefix}{name}": (dimensions, size * Fraction(factor))
    for prefix, factor in _PREFIXES.items()
    for name, (dimensions, size) in tuple(_SIZES.items())
}
_SPELLINGS = [*(names for _, _, names in _TABLE), *map(str.split, _SHORT.split(";"))]
_NAMES = {spelling: names[0] for names in _SPELLINGS for spelling in names}

_CHANGING = frozenset(
    re.findall(
        r"\w+",
        """or and not no nor none neither either both than then more less fewer most least at about
        around if but is are was were be has have does as plus minus times squared cubed half halves
        third thirds quarter quarters fourths fifths sixths eighths tenths sevenths ninths elevenths
        twelfths twentieths millionths hundredths thousandths tens hundreds thousands millions
        billions dozens pairs twice thrice mod factorial root roots sqrt log logs over under above
        below between to from until except without zero one two three four five six seven eight nine
        ten eleven twelve twenty thirty forty fifty sixty seventy eighty ninety gross factorials ones
        twos threes fours fives sixes sevens eights nines wrong incorrect false this his always
        sometimes perhaps maybe unless powers digits yes""",
    )
)
_CHANGING_ABROAD = {*"百千万億亿兆十半或和与不非余多以上下и", "или", "не"}


def unit_name(word: str) -> str | None:
    """The name of the unit that a word is; None if it can be none."""
    for spelling in (word, word.lower(), word.lower().removesuffix("s") if len(word) > 2 else word):
        if spelling in _NAMES:
            return _NAMES[spelling]
    for prefix in _PREFIXES:
        if word.startswith(prefix) and (name := f"{prefix}{unit_name(word.removeprefix(prefix))}") in _SIZES:
            return name
    if not word.isascii():
        return word if word.isalpha() and not _CHANGING_ABROAD & {*word, word.lower()} else None
    return word.lower() if len(word) > 3 and word.endswith("s") and may_describe(word) else None


def may_describe(word: str) -> bool:
    """Whether a word can stand before a plural without changing the number: 5 red apples."""
    return word.isascii() and word.isalpha() and len(word) > 2 and word.lower() not in _CHANGING | set(SCALES)


def conversion(a: Unit, b: Unit) -> Fraction | None:
    """The factor from unit `a` to unit `b`; None if there is none. All things that are counted are alike."""
    names = {name for name, _ in a + b}
    if "unit" in names or ("degree" in names and names & {"celsius", "fahrenheit"}):
        return Fraction(1)
    factor, dimensions = Fraction(1), dict[str, int]()
    for unit, sign in ((a, 1), (b, -1)):
        for name, exponent in unit:
            parts, scale = _SIZES.get(name, ("thing", Fraction(1)))
            factor *= scale ** (sign * max(-9, min(9, exponent)))
            for dimension, power in re.findall(r"([a-z]+)(-?\d*)", parts):
                dimensions[dimension] = dimensions.get(dimension, 0) + sign * exponent * int(power or 1)
    return None if any(dimensions.values()) else factor
