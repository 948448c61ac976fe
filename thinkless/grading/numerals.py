"""Numbers in words: twenty-five, one hundred and five, three quarters, two and a half."""

from fractions import Fraction

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_PARTS = "half third quarter fourth fifth sixth seventh eighth ninth tenth"
NUMERALS = {word: number for number, word in enumerate(_SMALL.split())}
NUMERALS |= {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
_THOUSANDS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_DIVISORS = dict(zip(_PARTS.split(), (2, 3, 4, 4, 5, 6, 7, 8, 9, 10), strict=True))
_DIVISORS |= {f"{word}s": divisor for word, divisor in _DIVISORS.items()} | {"halves": 2}
LONGEST = 24
"""Words and hyphens of a numeral."""


def read_numeral(words: list[str]) -> tuple[Fraction, int] | None:
    """The number that words, in lower case, begin with, and how many of them it takes; None if with none.

    Each part is smaller than the one before it: one hundred five is 105, five one is no number.
    """
    if words[:1] == ["a"] and words[1:2] and words[1] in {"hundred", "dozen", *_THOUSANDS, *_DIVISORS}:
        words = ["one", *words[1:]]
    total, hundreds, read = 0, 0, 0
    room, scale = 100, 10**15  # what comes next must be smaller
    while read < len(words):
        joint = read + (read > 0 and (words[read] == "-" or (words[read] == "and" and hundreds % 100 == 0)))
        word = words[joint] if joint < len(words) else ""
        if (
            joint > read
            and words[read] == "-"
            and word in NUMERALS
            and not 0 < NUMERALS[word] < min(room, 10)
        ):
            return None
        value = NUMERALS.get(word, room)
        if value < room and (value or not read):
            hundreds, room = hundreds + value, (10 if value >= 20 else 1)
        elif word == "hundred" and joint == read and 0 < hundreds < 100:
            hundreds, room = hundreds * 100, 100
        elif joint == read and hundreds and _THOUSANDS.get(word, scale) < scale:
            scale = _THOUSANDS[word]
            total, hundreds, room = total + hundreds * scale, 0, 100
        else:
            break
        read = joint + 1
    return _with_part(Fraction(total + hundreds), words[read : read + 3], read)


def _with_part(whole: Fraction, behind: list[str], read: int) -> tuple[Fraction, int] | None:
    """With a fraction behind it: three quarters, two-thirds, two and a half; or half alone."""
    if not read:
        return (Fraction(1, 2), 1) if behind[:1] == ["half"] else None
    for joint, sign in ((0, []), (1, ["-"])):
        if behind[:joint] == sign and joint < len(behind) and behind[joint] in _DIVISORS:
            return whole / _DIVISORS[behind[joint]], read + joint + 1
    if behind[:1] == ["and"] and len(behind) == 3 and behind[2] in _DIVISORS:
        count = 1 if behind[1] == "a" else NUMERALS.get(behind[1])
        if count:
            return whole + Fraction(count, _DIVISORS[behind[2]]), read + 3
    return whole, read
