"""The laptop world: chains of one-digit arithmetic, read left to right, last digit kept.

``3+5*2-7`` means ((3+5)*2)-7 with every result reduced modulo 10, so the answer is 9. The *level* of a
question is the number of its operators that matter. A short answer has to hold them all in one breath and
fails more often as the level grows; a worked answer writes one table look-up per operator and does not.

With `distractors` more operators may be written than matter: nothing before a ``*0+`` does, so that
``3+5*2-7*0+4-1`` is 3 at a glance, and its length says nothing about its level. A *kind* of question is both
numbers together, "1 of 6".

The dials (`ChainWorld`) change how answers are written, never what is right. Nothing in this file knows
about models: it writes questions, answers and textbooks as plain strings.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datasets import Dataset

OPERATORS = {"+": lambda a, b: (a + b) % 10, "-": lambda a, b: (a - b) % 10, "*": lambda a, b: (a * b) % 10}

CUES = {"short": "!", "think": "?"}
"""How a textbook asks for its style: ``3+5=!`` answers at once, ``3+5=?`` works every step."""

VOCABULARY = [*"0123456789", *OPERATORS, "=", ";", *CUES.values(), "<think>", "</think>"]
"""Every piece of text this world writes, one token each. ``<short>`` is missing on purpose."""

START = ":"
"""Opens every question of a world with distractors, as a token of its own opens what language models read.
Without one nothing tells the last token how long its question is, and RL needs twice the steps."""

VERBOSITY: dict[str, tuple[int, Callable[[int], int]]] = {
    "bare": (0, lambda step: 1),
    "restated": (1, lambda step: 2),
    "long": (3, lambda step: 4),
    "growing": (1, lambda step: step),
}
"""How often a short answer restates the question, and a worked one writes its first, second … step."""

HELD_OUT_SHARE = 10
"""One question in ten at levels 2 and above is never trained on. Level 1 has only 300 questions,
the arithmetic table itself, and is trained on whole."""


class Kind(NamedTuple):
    """What questions of equal difficulty and length have in common."""

    level: int
    """Operators that matter."""
    operators: int
    """Operators that are written."""

    def __str__(self) -> str:
        return f"{self.level} of {self.operators}"


@dataclass(frozen=True)
class ChainWorld:
    """The dials of the world. A field with one entry per level starts at level 1.

    Raises ValueError naming the dial if a value is impossible.
    """

    levels: int = 5
    verbosity: str = "long"
    noise_short: tuple[float, ...] = ()
    """Share of wrong final digits in the textbook's short answers; empty means none."""
    noise_think: tuple[float, ...] = ()
    """As `noise_short`, for worked answers."""
    redundancy: int = 0
    """A worked answer checks itself 0..redundancy times, drawn uniformly, after its first pass."""
    distractors: bool = False
    """Whether questions may open with operators that do not matter. Then a short answer restates only what
    matters, and nothing at level 1."""

    def __post_init__(self):
        if self.levels < 1:
            raise ValueError(f"levels={self.levels}: expected at least 1")
        if self.verbosity not in VERBOSITY:
            raise ValueError(f"verbosity={self.verbosity!r}: expected one of {', '.join(VERBOSITY)}")
        if self.redundancy < 0:
            raise ValueError(f"redundancy={self.redundancy}: expected 0 or more")
        for dial in ("noise_short", "noise_think"):
            share = getattr(self, dial)
            if share and len(share) != self.levels:
                raise ValueError(
                    f"{dial} has {len(share)} entries: expected one for each of {self.levels} levels"
                )
            if any(not 0 <= s <= 1 for s in share):
                raise ValueError(f"{dial}={share}: every entry must lie between 0 and 1")

    def kinds(self, level: int) -> list[Kind]:
        """The kinds of question of a level: none of its operators is a distractor, or two and more are."""
        written = [level, *(range(level + 2, self.levels + 1) if self.distractors else ())]
        return [Kind(level, operators) for operators in written]

    def all_kinds(self) -> list[Kind]:
        """Every kind, by level and then by operators."""
        return [kind for level in range(1, self.levels + 1) for kind in self.kinds(level)]

    def vocabulary(self) -> list[str]:
        """The pieces of text that questions and answers are made of."""
        return [*VOCABULARY, START] if self.distractors else VOCABULARY

    def asked(self, question: str) -> str:
        """A chain as a question of a problem set, which asks for the result."""
        return f"{START if self.distractors else ''}{question}="

    def restated(self, level: int) -> int:
        """How often a short answer restates what matters of its question."""
        times, _ = VERBOSITY[self.verbosity]
        return 0 if self.distractors and level == 1 else times

    def short_length(self, level: int) -> int:
        """Tokens of a short completion: control token, restatements, answer, end of sequence."""
        return self.restated(level) * (2 * level + 2) + 3

    def think_length(self, operators: int) -> int:
        """Tokens of the longest worked completion: control token, steps, ``</think>``, answer, end."""
        _, times = VERBOSITY[self.verbosity]
        return 6 * sum(map(times, range(1, operators + 1))) * (1 + self.redundancy) + 4


def solve(question: str) -> list[str]:
    """The worked steps of a question: ``solve("3+5*2") == ["3+5=8", "8*2=6"]``."""
    value, steps = int(question[0]), []
    for operator, digit in zip(question[1::2], question[2::2], strict=True):
        result = OPERATORS[operator](value, int(digit))
        steps.append(f"{value}{operator}{digit}={result}")
        value = result
    return steps


def is_held_out(question: str) -> bool:
    """Whether the question belongs to the held-out split: a fixed property of its text."""
    if len(question) <= 3:
        return False
    return hashlib.sha256(question.encode()).digest()[0] * HELD_OUT_SHARE < 256


def what_matters(question: str) -> str:
    """The part of a question that its answer depends on: ``what_matters("3+5*0+4-1") == "4-1"``."""
    return question.rpartition("*0+")[2]


def draw_question(kind: Kind, rng: random.Random, *, held_out: bool, distractors: bool = False) -> str:
    """One question of `kind`, drawn uniformly from its split."""
    level, written = kind
    while True:
        question = matters = _chain(level, rng)
        if written > level:
            question = f"{_chain(written - level - 2, rng)}*0+{matters}"
        # another zero would make still less of it matter
        easier = distractors and level > 1 and ("*0" in matters or matters.startswith("0*"))
        if not easier and (written == 1 or is_held_out(question) == held_out):
            return question


def _chain(operators: int, rng: random.Random) -> str:
    digits = [str(rng.randrange(10)) for _ in range(operators + 1)]
    signs = [rng.choice(list(OPERATORS)) for _ in range(operators)]
    return digits[0] + "".join(sign + digit for sign, digit in zip(signs, digits[1:], strict=True))


def write_answer(question: str, style: str, world: ChainWorld, rng: random.Random) -> str:
    """A textbook answer in `style` ("short" or "think"), wrong at the world's noise rate.

    Short: ``3+5*2=3+5*2=3+5*2=6``; worked: ``3+5=8;3+5=8;…8*2=6;</think>6`` (the repetitions are
    the world's verbosity).
    """
    steps = solve(question)
    matters = what_matters(question) if world.distractors else question
    answer, level = steps[-1][-1], len(matters) // 2
    noise = getattr(world, f"noise_{style}")
    if noise and rng.random() < noise[level - 1]:
        answer = rng.choice([d for d in "0123456789" if d != answer])
    if style == "short":
        return f"{matters}=" * world.restated(level) + answer
    _, times = VERBOSITY[world.verbosity]
    one_pass = "".join(f"{step};" * times(place) for place, step in enumerate(steps, start=1))
    return one_pass * (1 + rng.randint(0, world.redundancy)) + f"</think>{answer}"


def _to_dataset(questions: Iterator[str], world: ChainWorld) -> Dataset:
    def row(question: str) -> dict[str, str | int]:
        level = len(what_matters(question) if world.distractors else question) // 2
        kind = {"kind": str(Kind(level, len(question) // 2))} if world.distractors else {}
        return {"question": world.asked(question), "answer": solve(question)[-1][-1], "level": level, **kind}

    return Dataset.from_list(list(map(row, questions)))


def evenly(world: ChainWorld) -> dict[Kind, float]:
    """Equal shares for the levels, and within a level for its kinds; they sum to 1."""
    return {kind: 1 / world.levels / len(world.kinds(kind.level)) for kind in world.all_kinds()}


def draw_problems(
    world: ChainWorld, count: int, *, mix: Mapping[Kind, float] | None = None, seed: int
) -> Dataset:
    """Training questions with columns `question`, `answer`, `level`, kinds drawn from `mix`.

    `mix` gives the share of each kind (`evenly` when None). With distractors there is a column `kind`.
    """
    mix, rng = mix or evenly(world), random.Random(f"train-{seed}")
    kinds = rng.choices(list(mix), weights=list(mix.values()), k=count)
    drawn = (draw_question(kind, rng, held_out=False, distractors=world.distractors) for kind in kinds)
    return _to_dataset(drawn, world)


def held_out_problems(
    world: ChainWorld, count: int, *, mix: Mapping[Kind, float] | None = None, seed: int
) -> Dataset:
    """About `count` distinct held-out questions, drawn and laid out as by `draw_problems`.

    Each kind has its share, rounded. Raises ValueError where there are not as many.
    """
    mix, rng = mix or evenly(world), random.Random(f"held-out-{seed}")
    questions: dict[str, None] = {}
    for kind, share in mix.items():
        target = len(questions) + round(count * share)
        if kind.operators == 1 and target > 300:
            raise ValueError(f"{count} questions: {target} of one operator, and there are only 300")
        while len(questions) < target:
            questions[draw_question(kind, rng, held_out=True, distractors=world.distractors)] = None
    return _to_dataset(iter(questions), world)


def textbook(world: ChainWorld, count: int, *, levels: Sequence[float] = (), seed: int) -> Dataset:
    """`count` rows of `prompt`, `completion`, `level`, `style`: what the base model reads.

    `levels` gives the share of each level, uniform if empty. The kinds of a level and styles are uniform; a
    prompt is a question and the style's cue (`CUES`).
    """
    rng = random.Random(f"textbook-{seed}")
    rows = []
    for _ in range(count):
        every = range(1, world.levels + 1)
        level = rng.choices(every, weights=levels)[0] if levels else rng.choice(every)
        style = rng.choice(list(CUES))
        kind = rng.choice(world.kinds(level)) if world.distractors else Kind(level, level)
        question = draw_question(kind, rng, held_out=False, distractors=world.distractors)
        completion = write_answer(question, style, world, rng)
        rows.append(
            {
                "prompt": world.asked(question) + CUES[style],
                "completion": completion,
                "level": level,
                "style": style,
            }
        )
    return Dataset.from_list(rows)
