"""Variants of gold answers, for `test_grading_report.py`: other ways to write one, wrong ones, hostile ones.

A variant is a function of a gold answer; it gives None, or the answer unchanged, where it does not apply.
"""

import random
import re
import string
from collections.abc import Callable, Iterator
from fractions import Fraction

Variant = Callable[[str], str | None]

INTEGER = re.compile(r"-?\d+|-?\d{1,3}(,\d{3})+")
SIMPLE_FRACTION = re.compile(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}")
UNIT = r"(?<=\d)\s*\\(?:text|mbox)\{\s*([a-z]+)\s*\}(\^2)?$"
BASE = r"^(\d+)_\{?(\d)\}?$"
WORD = r"\\text\{(\(?\w+\)?)\}"


def changed(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Variant:
    """By a regular expression, every match."""
    return lambda gold: re.sub(pattern, replacement, gold)


def integers(pattern: str) -> Variant:
    """Of integers, by a format of `i`, the number without separators; of `gold`, as written."""
    return lambda gold: (
        pattern.format(gold=gold, i=int(gold.replace(",", ""))) if INTEGER.fullmatch(gold) else None
    )


def large_integers(separator: str) -> Variant:
    def vary(gold: str) -> str | None:
        new = f"{int(gold.replace(',', '')):,}" if INTEGER.fullmatch(gold) else ""
        return new.replace(",", separator) if "," in new else None

    return vary


def words(pattern: str) -> Variant:
    """Of answers in words, by a format of the word."""
    return lambda gold: pattern.format(match[1]) if (match := re.fullmatch(WORD, gold)) else None


def everything(pattern: str) -> Variant:
    return lambda gold: pattern.replace("gold", gold)


def elements(gold: str) -> list[str]:
    """Of a list or a set without commas inside its elements; empty of anything else."""
    inner = re.sub(r"^\\\{|\\\}$", "", gold)
    is_list = "," in inner and not INTEGER.fullmatch(gold) and not re.search(r"[\[(]|\\!", inner)
    return inner.split(",") if is_list else []


def value(gold: str) -> Fraction | None:
    match = SIMPLE_FRACTION.fullmatch(gold)
    return Fraction(int(match[1] + match[2]), int(match[3])) if match else None


def is_finite(fraction: Fraction) -> bool:
    return 10**12 % fraction.denominator == 0


def as_decimal(gold: str) -> str | None:
    fraction = value(gold)
    return str(float(fraction)) if fraction is not None and is_finite(fraction) else None


def as_fraction(gold: str) -> str | None:
    if not re.fullmatch(r"\d*\.\d+", gold):
        return None
    return f"\\frac{{{Fraction(gold).numerator}}}{{{Fraction(gold).denominator}}}"


def rounded(digits: int) -> Variant:
    def vary(gold: str) -> str | None:
        fraction = value(gold)
        return None if fraction is None or is_finite(fraction) else f"{float(fraction):.{digits}g}"

    return vary


def printed_by_sympy(gold: str) -> str | None:
    from latex2sympy2_extended import latex2sympy
    from sympy import latex

    if INTEGER.fullmatch(gold) or re.search(r"_|\\text|mbox|\\\$|\\!", gold):
        return None
    try:
        return latex(latex2sympy(gold, is_real=not re.search(r"\di$", gold)))
    except Exception:  # its parser is for clean LaTeX; ours is asked about the rest by other variants
        return None


IN_THE_BOX: dict[str, Variant] = {
    "spaces around": everything(" gold\n"),
    "dollar signs": everything("$gold$"),
    r"\( and \)": everything(r"\(gold\)"),
    "trailing period": everything("gold."),
    r"\displaystyle": everything(r"\displaystyle gold"),
    r"\dfrac": changed(r"\\d?frac", r"\\dfrac"),
    r"\tfrac": changed(r"\\d?frac", r"\\tfrac"),
    r"braces of \frac": changed(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    "a/b": changed(r"^(-?)\\d?frac\{(\d+)\}\{(\d+)\}$", r"\1\2/\3"),
    "minus in the fraction": changed(r"^-\\frac\{(\d+)\}", r"\\frac{-\1}"),
    "decimal of a fraction": as_decimal,
    "seven digits of a fraction": rounded(7),
    "fraction of a decimal": as_fraction,
    "zero before the point": changed(r"^(?=\.)", "0"),
    "no zero before the point": changed(r"^0(?=\.)", ""),
    "zero behind a decimal": changed(r"^(\d*\.\d+)$", r"\g<1>0"),
    ".0": integers("{gold}.0"),
    "leading zeros": changed(r"^(?=\d+$)", "00"),
    "no leading zeros": changed(r"^0+(?=\d)", ""),
    "separators dropped": integers("{i}"),
    "1,234": large_integers(","),
    "1{,}234": large_integers("{,}"),
    r"1\,234": large_integers(r"\,"),
    r"1,\!234": large_integers(r",\!"),
    "1 234": large_integers(" "),
    "bold": integers(r"\mathbf{{{gold}}}"),
    "full-width digits": changed(r"^\d+$", lambda m: m[0].translate({ord(d): 0xFEE0 + ord(d) for d in m[0]})),
    r"unit in \text": integers(r"{gold} \text{{ square units}}"),
    "unit in words": integers("{gold} apples"),
    "unit in Chinese": integers("{gold}个"),
    "dollars": integers(r"\${gold}"),
    "euros": integers("€{gold}"),
    "percent sign": integers(r"{gold}\%"),
    "unit dropped": changed(UNIT, ""),
    r"unit without \text": changed(UNIT, r" \1\2"),
    "currency dropped": changed(r"\\\$", ""),
    "degree sign dropped": changed(r"\^\\circ", ""),
    r"^{\circ}": changed(r"\^\\circ", r"^{\\circ}"),
    "°": changed(r"\^\\circ", "°"),
    "degrees": changed(r"\^\\circ", r"\\text{ degrees}"),
    r"\left and \right dropped": changed(r"\\(left|right)", ""),
    r"\left and \right": changed(r"^([(\[])([^()\[\]]*)([)\]])$", r"\\left\1\2\\right\3"),
    "no spaces": changed(r"\s*([-+=,()\[\]{}&]|\\\\)\s*", r"\1"),
    "wide commas": changed(r",(?!\d{3}|\\!)\s*", r",\\; "),
    "Unicode signs": lambda gold: gold.replace("-", "−").replace(r"\pi", "π").replace(r"\infty", "∞"),
    "x = …": changed(r"^(?!.*[=,a-z]$)(?=(?:\d|-|\\frac|\\sqrt)[^=,]*$)", "x = "),
    "y =, x = or x ∈ dropped": changed(r"^[a-z] ?(=|\\in) ?(?!.*=)", ""),
    r"\text dropped": words("{}"),
    r"\textbf": words(r"\textbf{{{}}}"),
    r"\mathrm": words(r"\mathrm{{{}}}"),
    "capitals": changed(r"(?<=\\text\{)\w+", lambda match: match[0].upper()),
    "choice without brackets": changed(r"\\text\{\((\w)\)\}", r"\1"),
    "choice with its text": changed(r"\\text\{\((\w)\)\}", r"\\text{(\1) the second}"),
    "base in braces": changed(BASE, r"\1_{\2}"),
    "base in words": changed(BASE, r"\1 \\text{ (base } \2)"),
    "base dropped": changed(BASE, r"\1"),
    "list in another order": lambda gold: ",".join(reversed(elements(gold))),
    "list as a set": lambda gold: f"\\{{{gold}\\}}" if elements(gold) and gold[0] != "\\" else None,
    "bmatrix": changed("pmatrix", "bmatrix"),
    "as SymPy prints it": printed_by_sympy,
}
"""Other ways to write the same answer, inside of a box."""

AROUND_THE_BOX: dict[str, Variant] = {
    "in a sentence": everything(r"So it is $\boxed{gold}$."),
    r"\fbox": everything(r"\fbox{gold}"),
    r"space after \boxed": everything(r"\boxed {gold}"),
    "nested boxes": everything(r"\boxed{\boxed{gold}}"),
    "the last of several boxes": everything(r"\boxed{123456}? No, \boxed{gold}."),
    "a box for each element": lambda gold: " and ".join(f"$\\boxed{{{e}}}$" for e in elements(gold)),
    "after thinking": everything("<think>\\boxed{1} hm</think>\n**Answer:** $\\boxed{gold}$"),
    "in a Chinese sentence": everything(r"所以答案是 $\boxed{gold}$。"),
    "no box, ####": everything("It is so.\n#### gold"),
    "no box, last formula": lambda gold: None if "$" in gold else f"The answer is ${gold}$.",
    "no box, last number": integers("It costs ${gold} a day."),
}
"""Other ways to give the same answer."""

WRONG: dict[str, Variant] = {
    "first number + 1": lambda gold: re.sub(r"\d+", lambda match: str(int(match[0]) + 1), gold, count=1),
    "last number + 1": changed(r"\d+(?=\D*$)", lambda match: str(int(match[0]) + 1)),
    "last number - 1": changed(r"[1-9]\d*(?=\D*$)", lambda match: str(int(match[0]) - 1)),
    "last digit + 3": changed(r"\d(?=\D*$)", lambda match: str((int(match[0]) + 3) % 10)),
    "a digit more": changed(r"\d(?=\D*$)", r"\g<0>1"),
    "a digit less": changed(r"(?<=\d)[1-9](?=\D*$)", ""),
    "times ten": changed(r"^([1-9]\d*)$", r"\g<1>0"),
    "plus a millionth": changed(r"^(\d+)$", r"\1.000001"),
    "two digits of a fraction": rounded(2),
    "four digits of a fraction": rounded(4),
    "minus sign": changed(r"^(?=[1-9.]\S*$|\\(d?frac|sqrt|pi))", "-"),
    "minus sign dropped": changed(r"^-", ""),
    "plus for minus": changed(r"(?<=\w) ?\+ ?(?=\w)", " - "),
    "upside down": changed(r"frac\{([^{}]+)\}\{([^{}]+)\}", r"frac{\2}{\1}"),
    "square root dropped": changed(r"\\sqrt\{?(\d+)\}?", r"\1"),
    "pi dropped": changed(r"\\pi", ""),
    "i dropped": changed(r"(?<=\d)i$", ""),
    "exponent": changed(r"\^(\d)", r"^1\1"),
    "squared": changed(r"^(?=[2-9]|1\d)(\d+)$", r"\1^2"),
    "a variable more": changed(r"^([1-9]\d*)$", r"\1x"),
    "another variable": changed(r"\bx\b", "t"),
    "a thousand times": changed(r"^([1-9]\d*)$", r"\1 \\text{ thousand}"),
    "not": changed(r"^(?=[1-9])", r"\\text{not }"),
    "closed interval": changed(r"^\(([^,]*),([^,]*)\)$", r"[\1,\2]"),
    "half-open interval": changed(r"(?<!infty)\)$", "]"),
    "another order": changed(r"^\(([^,()]+),([^,()]+)\)$", r"(\2,\1)"),
    "an element less": changed(r"^(-?\d+), ?(-?\d+)(.*)$", r"\1\3"),
    "an element more": changed(r"^(?!17$)(\d+)$", r"\1,17"),
    "two answers": changed(r"^(?!17$)(\d+)$", r"\1 or 17"),
    "another base": changed(BASE, r"\1_7"),
    "another entry of a matrix": changed(r"\\\\ ", r"\\\\ 1"),
    "transposed vector": lambda gold: gold if "&" in gold else gold.replace(r"\\", "&"),
    "anagram": changed(r"(?<=\\text\{)(\w)(\w)", r"\2\1"),
    "another word": changed(r"\\text\{\w+\}", r"\\text{neither}"),
    "another choice": changed(r"\\text\{\(\w\)\}", r"\\text{(D)}"),
}
"""Changes that make an answer wrong."""

PIECES = [
    *r"}{^_()[]=<>,;190xie!+-*/%$&|é中٣😀",
    *re.findall(
        r"\\[a-z]+{?", r"\boxed{\frac\sqrt\left\right\le\pi\infty\text{\sum\int\lim\log\sin\binom\cup"
    ),
    *(r"\begin{pmatrix}", r"\end{pmatrix}", r"\\", "####", "<think>", "</think>"),
    *("\n", " ", "\u202e", "\x00", "\ud800", "0" * 50, "9" * 50),
]


def _formula(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(["1", "2", "10", "0", "x", "y", "n", r"\pi"])
    a, b = (_formula(rng, depth - 1) for _ in range(2))
    shapes = (
        rf"\frac{{{a}}}{{{b}}}",
        f"{a}^{{{b}}}",
        rf"\sqrt{{{a}}}",
        f"({a}+{b})",
        f"{a}!",
        rf"\log_{{{a}}}{{{b}}}",
        rf"\sum_{{k=1}}^{{{a}}}{b}",
        rf"\int_{{{a}}}^{{{b}}}x",
        rf"\sin({a})\cdot {b}",
    )
    return rng.choice(shapes)


def hostile_strings(count: int, seed: int) -> Iterator[str]:
    """Random and hostile strings: soups of LaTeX and of Unicode, formulas, towers, repetitions, numbers."""
    rng = random.Random(seed)
    repeated = [*"([{-$", r"\frac{", r"\sqrt{", r"\\", "x^{", "9^", "1,", "((1+", "a ", "1 ", "<think>"]

    def soup(pieces, longest: int) -> str:
        return "".join(rng.choices(pieces, k=rng.randint(1, longest)))

    suffixes = ["", "!", "^{9999}", "e999", r"\%"]
    kinds: dict[str, tuple[int, Callable[[], str]]] = {
        "soup of LaTeX": (34, lambda: soup(PIECES, 60)),
        "soup of ASCII": (20, lambda: soup(string.printable, 200)),
        "soup of Unicode": (20, lambda: soup([chr(rng.randrange(0x110000)) for _ in range(80)], 80)),
        "formula": (20, lambda: _formula(rng, rng.randint(1, 4))),
        "repetition": (3, lambda: rng.choice(repeated) * rng.choice([50, 400, 1_900, 20_000])),
        "long number": (2, lambda: rng.choice("123456789") * rng.randint(1, 1_990) + rng.choice(suffixes)),
        "tower": (1, lambda: soup(["2^{", "3^{", "9^{"], 30) + "9" + "}" * 30),
    }
    weights = [weight for weight, _ in kinds.values()]
    for kind in rng.choices(list(kinds), weights, k=count):
        yield kinds[kind][1]()
