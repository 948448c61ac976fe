"""Figures of the grader: gold answers against themselves, against rewritings, against wrong answers.

Run on a sample:      python -m pytest tests/test_grading_report.py
Run on all 1,849 rows and on 10,000 hostile strings, with the tables:
                      THINKLESS_ALL_ROWS=1 python -m pytest -s tests/test_grading_report.py

A rewriting keeps the meaning of an answer; where it does not apply to one, it gives None.
"""

import os
import random
import re
import resource
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
from benchmarks import benchmark_rows

from thinkless import grading, verifier
from thinkless.grading import final_answer, is_correct

ALL_ROWS = bool(os.environ.get("THINKLESS_ALL_ROWS"))
HOSTILE_STRINGS = 10_000 if ALL_ROWS else 150


def gold_answers(name: str) -> list[str]:
    """Gold answers of `math_500`, `aime_2024` or `gsm8k_test`; outside a full run, every ninth."""
    golds = [row["answer"] for row in benchmark_rows(f"{name}.jsonl")]
    golds = [final_answer(gold) for gold in golds] if name == "gsm8k_test" else golds
    return golds if ALL_ROWS else golds[::9]


SETS = ("aime_2024", "math_500", "gsm8k_test")


@pytest.mark.parametrize("name", SETS)
def test_gold_equals_itself(name):
    """In a box, in a sentence, and where there is no box: GSM8K's own solutions."""
    golds = gold_answers(name)
    assert [gold for gold in golds if not is_correct(f"So it is $\\boxed{{{gold}}}$.", gold)] == []
    if name == "gsm8k_test":
        solutions = [row["answer"] for row in benchmark_rows("gsm8k_test.jsonl")]
        assert all(is_correct(solution, final_answer(solution)) for solution in solutions)


# Rewritings


def is_integer(gold: str) -> bool:
    return re.fullmatch(r"-?\d+|-?\d{1,3}(,\d{3})+", gold) is not None


def integer(gold: str) -> int | None:
    return int(gold.replace(",", "")) if is_integer(gold) else None


def decimal(gold: str) -> str | None:
    """The finite decimal of a plain fraction."""
    match = re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", gold)
    value = Fraction(int(match[2]), int(match[3])) if match else Fraction(0)
    for digits in range(1, 12):
        if match and (value * 10**digits).denominator == 1:
            return f"{match[1]}{float(value):.{digits}f}"
    return None


def fraction(gold: str) -> str | None:
    """The fraction of a decimal."""
    if not re.fullmatch(r"\d*\.\d+", gold):
        return None
    value = Fraction(gold)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def printed_by_sympy(gold: str) -> str | None:
    from latex2sympy2_extended import latex2sympy
    from sympy import latex

    if "_" in gold or "\\text" in gold or "mbox" in gold or "\\$" in gold or is_integer(gold):
        return None
    try:
        return latex(latex2sympy(gold, is_real=False if re.search(r"\di$", gold) else None))
    except Exception:
        return None


def as_list(gold: str) -> list[str] | None:
    """The elements of a list or set, if no element has a comma of its own."""
    inner = re.sub(r"^\\\{|\\\}$", "", gold)
    if "," not in inner or is_integer(gold) or re.search(r"[\[(]|\\!", inner):
        return None
    return inner.split(",")


def changed(pattern: str, replacement: str) -> Callable[[str], str | None]:
    """A rewriting by a regular expression; it applies where it changes something."""

    def rewrite(gold: str) -> str | None:
        new = re.sub(pattern, replacement, gold)
        return new if new != gold else None

    return rewrite


UNIT = r"(?<=\d)\s*\\(?:text|mbox)\{\s*([a-z]+)\s*\}(\^2)?$"
INSIDE: dict[str, Callable[[str], str | None]] = {
    "spaces around": lambda gold: f" {gold}\n",
    "dollar signs": lambda gold: f"${gold}$",
    "\\( … \\)": lambda gold: f"\\({gold}\\)",
    "trailing period": lambda gold: f"{gold}.",
    "\\displaystyle": lambda gold: f"\\displaystyle {gold}",
    "bold": lambda gold: f"\\mathbf{{{gold}}}" if is_integer(gold) else None,
    "\\dfrac": changed(r"\\d?frac", r"\\dfrac"),
    "\\tfrac": changed(r"\\d?frac", r"\\tfrac"),
    "braces of \\frac": changed(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    "a/b": changed(r"^(-?)\\d?frac\{(\d+)\}\{(\d+)\}$", r"\1\2/\3"),
    "minus inside the fraction": changed(r"^-\\frac\{(\d+)\}", r"\\frac{-\1}"),
    "decimal": decimal,
    "fraction": fraction,
    "zero before or after the point": changed(r"^(?:0(?=\.)|(?=\.))|(?<=\.\d)$|(?<=\.\d\d)$", "0"),
    ".0": lambda gold: f"{gold}.0" if is_integer(gold) else None,
    "leading zeros": lambda gold: f"0{gold}" if re.fullmatch(r"\d+", gold) else None,
    "no leading zeros": changed(r"^0+(?=\d)", ""),
    "1,234": lambda gold: f"{integer(gold):,}" if is_integer(gold) else None,
    "1{,}234": lambda gold: f"{integer(gold):,}".replace(",", "{,}") if is_integer(gold) else None,
    "1\\,234": lambda gold: f"{integer(gold):,}".replace(",", "\\,") if is_integer(gold) else None,
    "1 234": lambda gold: f"{integer(gold):,}".replace(",", " ") if is_integer(gold) else None,
    "1234": changed(r"^(\\\$)?(\d+),(?:\\!\s*)?(\d{3})(?:,\\!\s*(\d{3}),\\!\s*(\d{3}))?$", r"\2\3\4\5"),
    "full-width digits": lambda gold: (
        gold.translate({ord(d): ord(d) - 0x30 + 0xFF10 for d in string.digits}) if is_integer(gold) else None
    ),
    "unit in \\text": lambda gold: f"{gold} \\text{{ square units}}" if is_integer(gold) else None,
    "unit in words": lambda gold: f"{gold} apples" if is_integer(gold) else None,
    "unit in Chinese": lambda gold: f"{gold}个" if is_integer(gold) else None,
    "dollars": lambda gold: f"\\${gold}" if is_integer(gold) else None,
    "euros": lambda gold: f"€{gold}" if is_integer(gold) else None,
    "percent": lambda gold: f"{gold}\\%" if is_integer(gold) else None,
    "no unit": changed(UNIT, ""),
    "unit without \\text": changed(UNIT, r" \1\2"),
    "no currency": changed(r"\\\$", ""),
    "\\circ dropped": changed(r"\^\\circ", ""),
    "{\\circ}": changed(r"\^\\circ", r"^{\\circ}"),
    "°": changed(r"\^\\circ", "°"),
    "degrees": changed(r"\^\\circ", r"\\text{ degrees}"),
    "\\left removed": changed(r"\\(left|right)", ""),
    "\\left added": changed(r"^([(\[])([^()\[\]]*)([)\]])$", r"\\left\1\2\\right\3"),
    "no spaces": changed(r"\s*([-+=,()\[\]{}&]|\\\\)\s*", r"\1"),
    "wide commas": changed(r",\s*(?!\d{3})(?!\\!)", r",\\; "),
    "unicode": lambda gold: (
        (new if (new := gold.replace("-", "−").replace("\\pi", "π").replace("\\infty", "∞")) != gold else None)
    ),
    "x =": lambda gold: f"x = {gold}" if re.fullmatch(r"[^=,a-z]*(\\(frac|sqrt|pi)[^=,a-z]*)*", gold) else None,
    "prefix dropped": changed(r"^[a-z] (=|\\in) (?!.*=)|^x=", ""),
    "\\text dropped": changed(r"\\text\{([^{}]*)\}$", r"\1"),
    "\\textbf": changed(r"\\text\{(\(?\w+\)?)\}", r"\\textbf{\1}"),
    "\\mathrm": changed(r"\\text\{(\(?\w+\)?)\}", r"\\mathrm{\1}"),
    "choice without brackets": changed(r"\\text\{\((\w)\)\}", r"\1"),
    "lower case": lambda gold: gold.lower() if re.fullmatch(r"\\text\{\w{2,}\}", gold) else None,
    "base in braces": changed(r"^(\d+)_\{?(\d)\}?$", r"\1_{\2}"),
    "base in words": changed(r"^(\d+)_\{?(\d)\}?$", r"\1 \\text{ (base } \2)"),
    "base dropped": changed(r"^(\d+)_\{?(\d)\}?$", r"\1"),
    "reversed list": lambda gold: ",".join(reversed(as_list(gold) or [])) or None,
    "set braces": lambda gold: f"\\{{{gold}\\}}" if as_list(gold) and gold[0] != "\\" else None,
    "bmatrix": changed("pmatrix", "bmatrix"),
    "as SymPy prints it": printed_by_sympy,
}
AROUND: dict[str, Callable[[str], str | None]] = {
    "box": lambda gold: f"\\boxed{{{gold}}}",
    "\\fbox": lambda gold: f"\\fbox{{{gold}}}",
    "space after \\boxed": lambda gold: f"\\boxed {{{gold}}}",
    "nested boxes": lambda gold: f"\\boxed{{\\boxed{{{gold}}}}}",
    "the last of several boxes": lambda gold: f"\\boxed{{123456}} no, \\boxed{{{gold}}}",
    "a box for each element": lambda gold: ", ".join(f"$\\boxed{{{e}}}$" for e in as_list(gold) or []) or None,
    "after thinking": lambda gold: f"<think>\\boxed{{1}} hm</think>\n**Answer:** $\\boxed{{{gold}}}$",
    "Chinese sentence": lambda gold: f"所以答案是 $\\boxed{{{gold}}}$。",
    "####": lambda gold: f"It is so.\n#### {gold}",
    "last formula, no box": lambda gold: f"The answer is ${gold}$." if "$" not in gold else None,
    "last number, no box": lambda gold: f"It costs ${gold} a day." if is_integer(gold) else None,
}


def responses(golds: list[str]) -> Iterator[tuple[str, str, str]]:
    """(rewriting, response, gold)"""
    for gold in golds:
        for name, rewrite in INSIDE.items():
            new = rewrite(gold)
            if new is not None:
                yield name, f"\\boxed{{{new}}}", gold
        for name, rewrite in AROUND.items():
            new = rewrite(gold)
            if new is not None:
                yield name, new, gold


# Wrong answers


def pairs_of_rows(golds: list[str]) -> Iterator[tuple[str, str]]:
    """Every ordered pair of two different gold answers."""
    different = list(dict.fromkeys(golds))
    return ((given, gold) for given in different for gold in different if given != gold)


PERTURBATIONS: dict[str, Callable[[str], str | None]] = {
    "first number + 1": lambda gold: re.sub(r"\d+", lambda m: str(int(m[0]) + 1), gold, count=1),
    "last number + 1": lambda gold: re.sub(r"\d+(?=\D*$)", lambda m: str(int(m[0]) + 1), gold),
    "last number - 1": lambda gold: re.sub(r"[1-9]\d*(?=\D*$)", lambda m: str(int(m[0]) - 1), gold),
    "last digit": lambda gold: re.sub(r"\d(?=\D*$)", lambda m: str((int(m[0]) + 3) % 10), gold),
    "a digit more": lambda gold: re.sub(r"\d(?=\D*$)", r"\g<0>1", gold),
    "a digit less": changed(r"(?<=[1-9])\d(?=\D*$)", ""),
    "times ten": changed(r"^(\d+)$", r"\g<1>0"),
    "plus a millionth": changed(r"^(\d+)$", r"\1.000001"),
    "minus sign": lambda gold: f"-{gold}" if re.fullmatch(r"[1-9.]\S*|0\.\d+|\\(d?frac|sqrt|pi)\S*", gold) else None,
    "minus dropped": changed(r"^-", ""),
    "inner sign": changed(r"(?<=\w) ?\+ ?(?=\w)", " - "),
    "upside down": changed(r"frac\{([^{}]+)\}\{([^{}]+)\}", r"frac{\2}{\1}"),
    "square root dropped": changed(r"\\sqrt\{?(\d+)\}?", r"\1"),
    "pi dropped": changed(r"\\pi", ""),
    "i dropped": changed(r"(?<=\d)i$", ""),
    "exponent": changed(r"\^(\d)", r"^1\1"),
    "another variable": lambda gold: re.sub(r"\bx\b", "t", gold) if "\\" not in gold else None,
    "closed interval": changed(r"^\((.*[^)])\)$", r"[\1]"),
    "half-open interval": changed(r"\)$", "]"),
    "other order": changed(r"^\(([^,()]+),([^,()]+)\)$", r"(\2,\1)"),
    "an element less": changed(r"^(-?\d+), ?(-?\d+)(.*)$", r"\1\3"),
    "an element more": lambda gold: f"{gold},17" if is_integer(gold) else None,
    "two answers": lambda gold: f"{gold} or 17" if is_integer(gold) and gold != "17" else None,
    "not": lambda gold: f"\\text{{not }} {gold}" if is_integer(gold) else None,
    "another base": changed(r"_\{?(\d)\}?$", r"_7"),
    "matrix entry": changed(r"\\\\ ", r"\\\\ 1"),
    "transposed vector": lambda gold: gold.replace("\\\\", "&") if "pmatrix" in gold and "&" not in gold else None,
    "anagram": lambda gold: re.sub(r"(\w)(\w)\}$", r"\2\1}", gold) if re.fullmatch(r"\\text\{\w+\}", gold) else None,
    "another word": changed(r"\\text\{\w+\}", r"\\text{neither}"),
    "another choice": changed(r"\\text\{\(\w\)\}", r"\\text{(D)}"),
    "thousand": lambda gold: f"{gold} \\text{{ thousand}}" if is_integer(gold) and gold != "0" else None,
    "squared": lambda gold: f"{gold}^2" if is_integer(gold) and gold not in ("0", "1") else None,
    "a variable more": lambda gold: f"{gold}x" if is_integer(gold) else None,
    "rounded": lambda gold: (
        f"{float(Fraction(value)):.3f}" if (value := _endless(gold)) else None
    ),
}


def _endless(gold: str) -> Fraction | None:
    """The value of a plain fraction that has no finite decimal."""
    match = re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", gold)
    return Fraction(int(match[1] + match[2]), int(match[3])) if match and decimal(gold) is None else None
