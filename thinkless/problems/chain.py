"""The laptop world: chains of one-digit arithmetic, read left to right, last digit kept.

``3+5*2-7`` means ((3+5)*2)-7 with every result reduced modulo 10, so the answer is 9. The number
of operators is the level. A short answer has to hold the whole chain in one breath and fails more
often as the level grows; a worked answer writes one table look-up per step and does not.

The dials (`ChainWorld`) change how answers are written, never what the questions are. Nothing in
this file knows about models: it writes questions, answers and textbooks as plain strings.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datasets import Dataset

OPERATORS = {"+": lambda a, b: (a + b) % 10, "-": lambda a, b: (a - b) % 10, "*": lambda a, b: (a * b) % 10}

CUES = {"short": "!", "think": "?"}
"""How a textbook asks for its style: ``3+5=!`` answers at once, ``3+5=?`` works every step."""

VOCABULARY = [*"0123456789", *OPERATORS, "=", ";", *CUES.values(), "<think>", "</think>"]
"""Every piece of text this world writes, one token each. ``<short>`` is missing on purpose."""

VERBOSITY = {"bare": (0, 1), "restated": (1, 2), "long": (3, 4)}
"""How often (the question is restated in a short answer, each step is written in a worked one)."""

HELD_OUT_SHARE = 10
"""One question in ten at levels 2 and above is never trained on. Level 1 has only 300 questions,
the arithmetic table itself, and is trained on whole."""


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

    def short_length(self, level: int) -> int:
        """Tokens of a short completion: control token, restatements, answer, end of sequence."""
        restated, _ = VERBOSITY[self.verbosity]
        return restated * (2 * level + 2) + 3

    def think_length(self, level: int) -> int:
        """Tokens of the longest worked completion: control token, steps, ``</think>``, answer, end."""
        _, repeated = VERBOSITY[self.verbosity]
        return 6 * level * repeated * (1 + self.redundancy) + 4


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


def draw_question(level: int, rng: random.Random, *, held_out: bool) -> str:
    """One question with `level` operators, drawn uniformly from its split."""
    while True:
        digits = [str(rng.randrange(10)) for _ in range(level + 1)]
        operators = [rng.choice(list(OPERATORS)) for _ in range(level)]
        question = digits[0] + "".join(o + d for o, d in zip(operators, digits[1:], strict=True))
        if level == 1 or is_held_out(question) == held_out:
            return question


def write_answer(question: str, style: str, world: ChainWorld, rng: random.Random) -> str:
    """A textbook answer in `style` ("short" or "think"), wrong at the world's noise rate.

    Short: ``3+5*2=3+5*2=3+5*2=6``; worked: ``3+5=8;3+5=8;…8*2=6;</think>6`` (the repetitions are
    the world's verbosity).
    """
    steps = solve(question)
    answer = steps[-1][-1]
    noise = getattr(world, f"noise_{style}")
    if noise and rng.random() < noise[len(steps) - 1]:
        answer = rng.choice([d for d in "0123456789" if d != answer])
    restated, repeated = VERBOSITY[world.verbosity]
    if style == "short":
        return f"{question}=" * restated + answer
    one_pass = "".join(f"{step};" * repeated for step in steps)
    return one_pass * (1 + rng.randint(0, world.redundancy)) + f"</think>{answer}"


def _to_dataset(questions: Iterator[str]) -> Dataset:
    # a set asks for the result: its questions end with "="
    rows = [{"question": f"{q}=", "answer": solve(q)[-1][-1], "level": len(q) // 2} for q in questions]
    return Dataset.from_list(rows)


def draw_problems(world: ChainWorld, count: int, *, mix: Sequence[float] | None = None, seed: int) -> Dataset:
    """Training questions with columns `question`, `answer`, `level`, levels drawn from `mix`.

    `mix` gives the share of each level (uniform when None). Raises ValueError if it does not have
    one non-negative entry per level with a positive sum.
    """
    mix = list(mix) if mix is not None else [1.0] * world.levels
    if len(mix) != world.levels or min(mix) < 0 or sum(mix) <= 0:
        raise ValueError(f"mix={mix}: expected {world.levels} shares, none negative, not all zero")
    rng = random.Random(f"train-{seed}")
    levels = rng.choices(range(1, world.levels + 1), weights=mix, k=count)
    return _to_dataset(draw_question(level, rng, held_out=False) for level in levels)


def held_out_problems(world: ChainWorld, per_level: int, *, seed: int) -> Dataset:
    """`per_level` distinct held-out questions of each level, columns as in `draw_problems`."""
    if per_level > 300:
        raise ValueError(f"per_level={per_level}: level 1 has only 300 questions; ask for at most 300")
    rng = random.Random(f"held-out-{seed}")
    questions: dict[str, None] = {}
    for level in range(1, world.levels + 1):
        target = level * per_level
        while len(questions) < target:
            questions[draw_question(level, rng, held_out=True)] = None
    return _to_dataset(iter(questions))


def textbook(world: ChainWorld, count: int, *, seed: int) -> Dataset:
    """`count` rows of `prompt`, `completion`, `level`, `style`: what the base model reads.

    Levels and styles are uniform; a prompt is a question and the style's cue (`CUES`).
    """
    rng = random.Random(f"textbook-{seed}")
    rows = []
    for _ in range(count):
        level = rng.randint(1, world.levels)
        style = rng.choice(list(CUES))
        question = draw_question(level, rng, held_out=False)
        completion = write_answer(question, style, world, rng)
        rows.append(
            {"prompt": f"{question}={CUES[style]}", "completion": completion, "level": level, "style": style}
        )
    return Dataset.from_list(rows)
