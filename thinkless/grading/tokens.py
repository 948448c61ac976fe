"""An answer as tokens: each way to write a sign becomes one token, and nothing is dropped but layout.

What a comma, a space or a letter means is decided here, where it can still be seen what stood beside
it: `12, 144` has two numbers, `12,144` one; ``\\text{m}`` is a word and `m` a variable.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from thinkless.grading.numerals import NUMERALS
from thinkless.grading.units import BARE, POWERS, SCALES, unit_name


class Token(NamedTuple):
    """A piece of an answer that has a meaning; its kind is number, name, word, sign or end."""

    kind: str
    text: str


END = Token("end", "")
_FUNCTIONS = (
    r"sin cos tan cot sec csc sinh cosh tanh asin acos atan exp log floor ceil abs factorial cbrt sqrt"
)
FUNCTIONS = {name: name for name in re.findall(r"\w+", _FUNCTIONS)}
FUNCTIONS |= {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "ln": "log"}
FUNCTIONS |= {"tg": "tan", "ctg": "cot", "arctg": "atan", "comb": "binomial", "nCr": "binomial"}
FUNCTIONS |= {name: name for name in ("cis", "gcd", "lcm", "max", "min", "binomial")}
FUNCTIONS |= {name.capitalize(): function for name, function in FUNCTIONS.items()}
VALUES = dict.fromkeys(("pi", "Pi", "PI"), "pi")
VALUES |= dict.fromkeys(("infty", "infinity", "Infinity", "oo", "inf"), "oo")
GREEK = re.findall(
    r"\w+",
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma
    tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell""",
)
_SHORT_WORDS = {"and", "or", "to", "mod", "st", "nd", "rd", "th", "per", "pct", "DNE"}
_ARGUMENT = re.compile(r"\s*+(?:[({\\|]|[A-Za-z](?![A-Za-z]))")

_SPELLINGS = {
    "": "left right big bigl bigr Big Bigl Bigr bigg Bigg middle displaystyle textstyle tiny "
    "small large Large checkmark hfill mathstrut nonumber /",
    " ": ", ; : > quad qquad space enspace",
    "*": "cdot times ast",
    "/": "div",
    "<=": "le leq leqslant",
    ">=": "ge geq geqslant",
    "<": "lt",
    ">": "gt",
    "!=": "ne neq",
    "~": "approx simeq",
    "|": "mid vert lvert rvert |",
    ":": "colon",
    "...": "ldots cdots dots",
    "°": "degree degrees deg",
    "or": "lor vee",
    "and": "land wedge",
    "\\{": "lbrace",
    "\\}": "rbrace",
    "[": "lbrack",
    "]": "rbrack",
    "&": "&",
    "\\frac": "dfrac tfrac cfrac",
    "\\binom": "dbinom tbinom",
    "\\emptyset": "varnothing",
    "\\setminus": "backslash smallsetminus",
    "\\mod": "bmod pmod",
}
_COMMANDS = {f"\\{name}": sign for sign, names in _SPELLINGS.items() for name in names.split(" ")}
_COMMANDS |= {"\\ ": " ", "\\%": "%"}
_LOOKALIKES = str.maketrans(
    dict(zip("−–∗⁄÷×·⋅。、：；（）“”’′º", "--*//***.,:;()\"\"''°", strict=True))
    | {
        sign: f"{name} "
        for sign, name in re.findall(
            r"(\S) (\S+)",
            r"≈ \approx √ \sqrt ∛ \sqrt[3] ∞ \infty ± \pm ∓ \mp ℝ \mathbbR … ... ≤ <= ≥ >= ⩽ <= ⩾ >= ≠ != "
            r"∪ \cup ∩ \cap ∈ \in ∅ \emptyset Ω \Omega ∠ \angle µ \mu ℃ °C ℉ °F ≡ \equiv "
            r"⌊ \lfloor ⌋ \rfloor ⌈ \lceil ⌉ \rceil",
        )
    }
)


def fold(text: str) -> str:
    """Write typographic signs as LaTeX or ASCII: full-width digits, ², ½, 0.3̅, −, π and so on."""
    if text.isascii():
        return text
    text = re.sub(
        "(?:\\d[\u0304\u0305])++", lambda run: r"\overline{" + re.sub(r"\D", "", run[0]) + "}", text
    )
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿⁱ]++", lambda run: "^{" + unicodedata.normalize("NFKC", run[0]) + "}", text)
    text = re.sub("[₀-₉ₙ]++", lambda run: "_{" + unicodedata.normalize("NFKC", run[0]) + "}", text)
    return "".join(map(_folded, text)).translate(_LOOKALIKES)


def _folded(sign: str) -> str:
    tag = unicodedata.decomposition(sign).partition(" ")[0]
    if tag in ("<fraction>", "<wide>", "<narrow>", "<font>", "<noBreak>"):  # not <circle>: ② is a label
        return " " * (tag == "<fraction>") + unicodedata.normalize("NFKC", sign)
    name = unicodedata.name(sign, "").split()
    if name[:1] == ["GREEK"] and name[2:3] == ["LETTER"] and len(name) == 4:
        return f"\\{name[3].lower() if name[1] == 'SMALL' else name[3].capitalize()} "
    if sign in "✓✔✅☑🎉👍😊🙂😀✨":
        return " "
    return str(unicodedata.decimal(sign, sign))


_BRACED = r"(?![A-Za-z])\s*+\{((?:[^{}]|\{[^{}]*+\})*+)\}"
_UP, _DOWN = "\ue000", "\ue001"  # around upright text


def _primes(found: re.Match[str]) -> str:
    return "'" * found[1].count("p")


def _lines_as_list(found: re.Match[str]) -> str:
    return found[1].replace("\\\\", ", ")


def _mixed(found: re.Match[str]) -> str:
    whole, top, bottom = found[1], found[2] or found[4] or found[6], found[3] or found[5] or found[7]
    return f"({whole}+{top}/{bottom})" if 0 < int(top) < int(bottom) else found[0]


def _selections(found: re.Match[str]) -> str:
    return rf"(\binom{{{found[1]}}}{{{found[3]}}}{rf'*{found[3]}!' if found[2] == 'P' else ''})"


_STYLES = r"\\(?:math(?!rm|sf|bb)[a-z]+|ensuremath|bm|boldsymbol|underline|emph|boxed|fbox)" + _BRACED
_UPRIGHT = r"\\(?:text[a-z]*|math(?:rm|sf)|operatorname\*?|mbox|hbox)" + _BRACED
_FRACTION = r"\\[dtc]?frac\s*+(?:\{(\d+)\}\s*+\{(\d+)\}|(\d)\s?(\d)(?!\d))"
_GAP = r"(?:\s|~|\\[,; ])"
_NO_POWER = r"(?<![\d.,^_])(?<!\\sqrt)(?<!\\sqrt )"
_LAYOUT: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (f"[{_UP}{_DOWN}]", ""),
    (r"\\!\s*+", ""),
    (r"\bUS(?:D\s++(?=[\d.])|D?\s*+\\?\$)", r"\\$"),
    (r"(?<=\d)'(?=\d{3}(?!\d))", ""),  # 2'500 is Swiss
    (r"\\lg(?![A-Za-z])", r"\\log_{10} "),
    (r"(?<![A-Za-z\\])log(10|2)\s*+(?=\()", r"\\log_{\1}"),
    (r"(?<=\d)\s*+[xX]\s*+(?=10\s*+\^\s*+\{?-?\d)", r"\\cdot "),
    (r"(?<=[)\]])\s*+(?:U|union)\s*+(?=[(\[])", r"\\cup "),
    (r"\\widebar(?![a-z])", r"\\overline"),
    (r"(?<=[.\d])\{\s*+(\\(?:overline|bar|dot)\s*+\{?\d++\}?)\s*+\}", r"\1"),
    (r"\\overline\s*+\{(?:\\[,;!]|\s)*+(\d++)(?:\\[,;!]|\s)*+\}", r"\\overline{\1}"),
    (r"(?<=\.)(\d++)\s*+(?:\\text\s*+\{\s*+)?(?:repeating|recurring)\s*+\}?$", r"\\overline{\1}"),
    (r"^(?:\s|\\[,;:>])++|(?:\s|\\[,;:>]|\\$)++$", ""),
    (r"\{([,:])\}", r"\1"),
    (r"\\(?:left|right)\s*+\.|\{\s*+\}(?=\s*+[_^])", ""),
    (r"(?<![\\A-Za-z])([dt]?frac|sqrt)(?=\{)", r"\\\1"),
    (r"\\(?:text|math)?color(?:box)?\s*+(?:\[[a-z]++\]\s*+)?\{[^{}]*+\}", ""),
    (r"\\(?:tag|label)\s*+\{[^{}]*+\}", ""),
    (r"\{\s*+\\(?:bf|rm|it|sf|tt)(?![a-z])([^{}]*+)\}|\\(?:bf|rm|it|sf|tt)(?![a-z])", r"\1"),
    (r"\\begin\s*+\{cases\}([^&]*?)\\end\s*+\{cases\}", _lines_as_list),
    (r"\\(?:[hv]space\*?|[hv]?phantom)\s*+\{[^{}]*+\}|\\hline(?![a-z])", " "),
    (r"\\(?:begin|end)\s*+\{(?:align|aligned|gather|gathered|split|equation)\*?\}|&(?=\s*+=)", " "),
    (r"\\mathbb\s*+\{?([A-Z])\}?", r"\\mathbb\1 "),
    *[(_STYLES, r" {\1}")] * 3,  # styles stand in styles, seldom deeper
    *[(_UPRIGHT, rf"{_UP}\1{_DOWN}")] * 3,
    (r"^\s*+\{([^{}]*+)\}\s*+$", r"\1"),
    (rf"(?i)^{_UP}?\s*+(?:the\s+)?(?:(?:final|correct)\s+)?answer(?:\s+is\b|\s*+[:=])\s*+{_DOWN}?", ""),
    (r"(?<!\\)(?:\$|\\[()\[\]])", " "),
    (rf"{_UP}\s*+degrees?\s*+{_DOWN}", "°"),
    (r"\\not\s*+=", "!="),
    (r"\^\s*+\{?\s*+(?:\\circ(?![a-z])|°)\s*+\}?|\\circ\s*+(?=[CF]?\s*+$)", "°"),
    (r"\^\s*+\{?\s*+((?:\\prime\s*+)++)\}?", _primes),
    (rf"\^\s*+\{{?(\s*+{_UP}\s*+(?:st|nd|rd|th)\s*+{_DOWN})\}}?", r" \1"),
    (r"\^\s*+\{\s*+((?:st|nd|rd|th)(?![a-z]))\s*+\}", r" \1"),
    (r"\\(?:hat|vec)(?![a-z])\s*+\{?\s*+\\?([A-Za-z])(?:(?<=[ij])math)?(?![A-Za-z])\s*+\}?", r" \1 "),
    (
        rf"(?<![A-Za-z0-9)}}\]])(?:\{{\s*+\}})?[_^]\s*+\{{?(\d+)\}}?\s*+{_UP}?([CP]){_DOWN}?\s*+_\s*+\{{?(\d+)\}}?",
        _selections,
    ),
    (rf"\\mu\s*+{_UP}", f"{_UP}micro"),
    (r"(?<=[\d ])\\mu\s*+(?=[mgsLlF](?![A-Za-z]))", " micro"),
    (rf"\(\s*+[{_UP}\\]?mod(?![a-z])[{_DOWN}\s]*+([^()]*+)\)", r"\\mod{\1}"),
    (r"\+/-|(?<=\s)\+-(?=\s)", r"\\pm "),
    (r"\bper cent\b", "percent"),
    (r"(?<=\d)(?:\\[,; ]|~)(?=\d{3}(?!\d))", " "),
    (rf"{_NO_POWER}(\d+)(?:{_GAP}*+{_FRACTION}|{_GAP}++(\d+)/(\d+))", _mixed),
    (r"^[\s,;:]++|(?:(?<!\.)\.(?!\.)|[\s,;:])++$", ""),
    (r"(?s)^(\*\*|[\"'])(.*)\1$", r"\2"),
]
_REWRITINGS = [(re.compile(pattern), new) for pattern, new in _LAYOUT]


def clean(text: str) -> str:
    """An answer without colours, styles and formula signs; upright text stands between two private marks."""
    text = fold(text)
    for pattern, new in _REWRITINGS:
        text = pattern.sub(new, text)
    return text


_DOTTED = r"\\dot\s*+(?:\{\s*+\d\s*+\}|\d)"
_REPEATING = (
    rf"\d*\.\d*(?:\\(?:overline|bar)\s*+(?:\{{\s*+\d++\s*+\}}|\d)|{_DOTTED}(?:\d*{_DOTTED})?|\(\d++\)"
    r"|(?<=\d)\s*+(?:\\[lc]?dots(?![a-z])|\.\.\.))"
)
_GROUPED = (
    r"(?<![\d.])(?<!\d,)(?:[1-9]\d{0,2}(?:,\d{3})++(?!,?\d)|\d{1,3}(?:\x20\d{3})++(?![\d/]| \d))(?:\.\d++)?"
)
_PLAIN = r"(?:\d++(?:\.\d++|\.(?![\d.]))?|\.\d++)"


def _pattern(grouped: str) -> re.Pattern[str]:
    literal = rf"{_REPEATING}|(?:{grouped}|{_PLAIN})(?:[eE][-+]?\d{{1,4}}(?![\d.A-Za-z]))?"
    return re.compile(
        rf"(?P<space>(?:\s|~(?=\\|\s|{_UP}))++)|(?P<number>{literal})|(?P<mark>[{_UP}{_DOWN}])|(?P<letters>[^\W\d_]++)"
        r"|(?P<row>\\\\(?:\s*+\[[^\[\]]{0,8}\])?)|(?P<command>\\(?:begin|end)\s*+\{[a-z]*+\*?\}|\\(?:[A-Za-z]++|.))"
        r"|(?P<sign><=|>=|!=|\*\*|.)",
        re.DOTALL,
    )


_WITH_GROUPS, _WITHOUT_GROUPS = _pattern(_GROUPED), _pattern(r"(?!)")


def tokenize(cleaned: str, grouped: bool = True, bare_units: bool = False) -> list[Token]:
    """Cut a cleaned answer into tokens.

    `grouped`: a tight 12,144 is one number, and not two. `bare_units`: in `5 m`, m is a unit and no variable.
    """
    tokens: list[Token] = []
    spaced, upright = False, 0
    for match in (_WITH_GROUPS if grouped else _WITHOUT_GROUPS).finditer(cleaned):
        kind, text = str(match.lastgroup), match[0]
        if kind == "command":
            kind, text = "sign", _COMMANDS.get(text, text)
            if text[1:] in FUNCTIONS or text[1:] in VALUES or text[1:] in GREEK:
                kind = "word" if text == "\\Omega" and tokens and tokens[-1].kind == "number" else "name"
        if kind == "mark":
            upright += 1 if text == _UP else -1
        elif kind == "letters":
            argument = _ARGUMENT.match(cleaned, match.end()) is not None
            tokens += _letters(text, tokens[-1] if tokens else END, spaced, upright > 0, bare_units, argument)
        elif kind == "row":
            tokens.append(Token("sign", "\\\\"))
        elif text and text != " " and kind != "space":
            tokens.append(Token(kind, re.sub(r"\s", "", text) if kind == "sign" else text))
        spaced = kind == "space" or text == " " or (spaced and (kind == "mark" or not text))
    return tokens


def _letters(
    run: str, before: Token, spaced: bool, upright: bool, bare_units: bool, argument: bool
) -> list[Token]:
    """A run of letters: a function, a word, or a product of variables."""
    behind_number = before.kind in ("number", "word", "name") or before.text in set("})/{.")
    is_measure = behind_number and not argument and unit_name(run) is not None  # 5 min, but min(5, 6)
    if (run in FUNCTIONS and not is_measure) or run in VALUES:
        return [Token("name", run)]
    if run in GREEK and (len(run) > 3 or run in ("phi", "psi", "chi", "rho", "tau")):
        return [Token("name", run)]
    known = (
        run in _SHORT_WORDS or run.lower() in {*SCALES, *NUMERALS} or run in POWERS or before.kind == "word"
    )
    known = known or (behind_number and unit_name(run) is not None)
    if len(run) == 1:
        is_unit = bare_units and run in BARE and (spaced or before.text in ("/", "{"))
        word = is_unit or not run.isascii() or (upright and run not in "ei")
    else:
        word = upright or known or len(run) > 3
    return [Token("word", run)] if word else [Token("name", letter) for letter in run]
