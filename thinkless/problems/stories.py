"""Word problems: somebody has some things, more comes and goes, and how many are there in the end?

``How many beads does Leo have in the end? Leo has 11 beads. Leo buys 8 more beads. Leo loses 2 beads.`` The
*level* of a question is the number of its events that matter, 2 here. A short answer has to hold them all in
one breath; a worked one writes ``11 + 8 = 19. 19 - 2 = 17.`` first. What is asked comes first, since a model
that reads from left to right then knows of every sentence whether it matters.

With `distractors` every story is about two people and tells as many events whatever its level: one more
than there are levels, the rest of them the other's. Exchanging the two makes level 1 the highest, so nothing
but the person who is asked about tells them apart: neither length nor words.

Questions are solved by reading them (`solve`): the forms of `FORMS` are written and read. Nothing here knows
about models.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datasets import Dataset

from thinkless.problems.chain import is_held_out

# fmt: off
NAMES = [
    "Ada", "Alma", "Amir", "Anna", "Ben", "Bruno", "Carla", "Chen", "Clara", "Dana", "David", "Diego",
    "Ella", "Emil", "Emma", "Farid", "Felix", "Finn", "Grace", "Greta", "Hana", "Hugo", "Ida", "Igor",
    "Iris", "Ivan", "Jack", "Jana", "Jonas", "Julia", "Kai", "Kofi", "Lara", "Lena", "Leo", "Lina",
    "Luca", "Lucy", "Marco", "Maria", "Mia", "Milo", "Mona", "Nadia", "Nina", "Noah", "Nora", "Olga",
    "Omar", "Oscar", "Paul", "Petra", "Priya", "Rosa", "Ruth", "Sam", "Sara", "Sofia", "Theo", "Tim",
    "Vera", "Yuki", "Zara",
]
THINGS = [
    "apples", "badges", "balls", "balloons", "beads", "books", "bottles", "boxes", "bricks", "buttons",
    "candles", "cards", "chairs", "coins", "cookies", "cups", "eggs", "feathers", "flowers", "hats",
    "jars", "keys", "lemons", "letters", "marbles", "nails", "oranges", "pears", "pencils", "pens",
    "photos", "plates", "ribbons", "rings", "rocks", "seeds", "shells", "shirts", "spoons", "stamps",
    "stickers", "stones", "tickets", "toys",
]
# fmt: on
TIMES = {2: "twice", 3: "three times", 4: "four times"}
PARTS = {2: "half", 3: "a third", 4: "a quarter"}

FORMS: dict[str, tuple[str, ...]] = {
    "=": (
        "{who} has {n} {things}",
        "{who} starts with {n} {things}",
        "{who} owns {n} {things}",
        "{n} {things} belong to {who}",
        "In the beginning there are {n} {things} in the bag of {who}",
        "On Monday {who} counts {n} {things}",
    ),
    "+": (
        "{who} buys {n} more {things}",
        "{who} finds {n} more {things}",
        "{who} gets {n} {things} as a present",
        "{who} wins {n} {things} in a game",
        "A friend gives {who} {n} {things}",
        "{n} new {things} arrive for {who}",
        "Then {who} makes {n} more {things}",
        "{who} adds {n} {things} to the bag",
    ),
    "-": (
        "{who} loses {n} {things}",
        "{who} sells {n} {things}",
        "{who} gives {n} {things} to a friend",
        "{who} throws away {n} {things}",
        "A thief steals {n} {things} from {who}",
        "{n} {things} of {who} break",
        "Then {who} leaves {n} {things} on the bus",
        "{who} takes {n} {things} out of the bag",
    ),
    "*": (
        "{who} trades them for {times} as many {things}",
        "{who} works hard and soon has {times} as many {things}",
        "A week later {who} has {times} as many {things}",
        "By magic {who} gets {times} as many {things}",
    ),
    "/": (
        "{who} keeps only {part} of the {things}",
        "Only {part} of the {things} stay with {who}",
        "{who} gives everything away but {part} of the {things}",
        "After the rain {who} can use only {part} of the {things}",
    ),
    "?": (
        "How many {things} does {who} have in the end?",
        "How many {things} are left for {who} in the end?",
        "What is the number of {things} that {who} has in the end?",
        "In the end, how many {things} are there for {who}?",
    ),
}
"""How a story begins (=), what may happen, and how it is asked about (?). Every sentence says who."""

LARGEST = 30
"""No number on the way exceeds this one, and none is below 1. Small, so that one step is known by heart and
what parts the modes is the number of steps: a model of 135 million parameters knew half of them up to 60."""


@dataclass(frozen=True)
class StoryWorld:
    """The dials of the world. Raises ValueError naming the dial if a value is impossible."""

    levels: int = 4
    distractors: bool = True
    """Whether a story is about two people, with as many events at every level."""

    def __post_init__(self):
        if self.levels < 1:
            raise ValueError(f"levels={self.levels}: expected at least 1")


def _reader(form: str) -> re.Pattern[str]:
    groups = {
        "who": r"(?P<who>[A-Z]\w+)",
        "things": "[a-z]+",
        "n": r"(?P<n>\d+)",
        "times": f"(?P<times>{'|'.join(TIMES.values())})",
        "part": f"(?P<part>{'|'.join(PARTS.values())})",
    }
    return re.compile(re.sub(r"\{(\w+)\}", lambda hole: groups[hole[1]], form.replace("?", r"\?")))


_READERS = [(sign, _reader(form)) for sign, forms in FORMS.items() for form in forms]
_VALUES = {word: number for words in (TIMES, PARTS) for number, word in words.items()}


def _read(sentence: str) -> tuple[str, str, int]:
    """Who a sentence is about, the sign of `FORMS` and the number, 0 in a question. Raises ValueError."""
    for sign, reader in _READERS:
        if found := reader.fullmatch(sentence):
            given = found.groupdict()
            word = given.get("times") or given.get("part")
            return given["who"], sign, _VALUES[word] if word else int(given.get("n") or 0)
    raise ValueError(f"cannot read {sentence!r}: expected a sentence of thinkless.problems.stories.FORMS")


def _apply(value: int, sign: str, number: int) -> int:
    """Raises ValueError where a part is no whole number."""
    if sign == "/" and value % number:
        raise ValueError(f"{value} / {number} is no whole number")
    return {"+": value + number, "-": value - number, "*": value * number, "/": value // number}[sign]


def solve(question: str) -> list[str]:
    """The worked steps of a question, such as ``["11 + 8 = 19", "19 - 2 = 17"]``.

    Raises ValueError for a sentence that is none of this world's.
    """
    first, mark, story = question.partition("? ")
    (asked, _, _), value, steps = _read(first + mark.rstrip()), 0, []
    for who, sign, number in map(_read, story.removesuffix(".").split(". ")):
        if who != asked:
            continue
        if sign == "=":
            value = number
            continue
        result = _apply(value, sign, number)
        steps.append(f"{value} {sign} {number} = {result}")
        value = result
    return steps


def answer_to(question: str) -> str:
    """The number that a question asks for."""
    return solve(question)[-1].rpartition(" ")[2]


def write_answer(question: str, style: str) -> str:
    """The solver's answer in `style` ("short" or "think"), as text behind the control token."""
    thought = " ".join(f"{step}." for step in solve(question)) + "</think>" if style == "think" else ""
    return f"{thought}The answer is {answer_to(question)}."


def draw_question(world: StoryWorld, level: int, rng: random.Random, *, held_out: bool) -> str:
    """One question of `level`, drawn from its split: a fixed property of its text."""
    while is_held_out(question := _draw(world, level, rng)) != held_out:
        pass
    return question


def _draw(world: StoryWorld, level: int, rng: random.Random) -> str:
    people, things = rng.sample(NAMES, 2), rng.sample(THINGS, 2)
    events = [level, world.levels + 1 - level] if world.distractors else [level]
    told = [_story(*of, rng) for of in zip(people, things, events, strict=False)]
    # each story in its order, the two mixed; both begin before anything happens
    begun = [story[0] for story in told]
    rng.shuffle(begun)
    turns = [person for person, count in enumerate(events) for _ in range(count)]
    rng.shuffle(turns)
    rest = [iter(story[1:]) for story in told]
    happened = [next(rest[person]) for person in turns]
    asked = rng.choice(FORMS["?"]).format(who=people[0], things=things[0])
    return f"{asked} {'. '.join([*begun, *happened])}."


def _story(who: str, things: str, events: int, rng: random.Random) -> list[str]:
    """The sentences of one person: a beginning and so many events."""
    value = rng.randint(3, 20)
    sentences = [rng.choice(FORMS["="]).format(who=who, things=things, n=value)]
    for _ in range(events):
        sign, number = rng.choice(_possible(value, rng))
        value = _apply(value, sign, number)
        words = {"n": number, "times": TIMES.get(number), "part": PARTS.get(number)}
        sentences.append(rng.choice(FORMS[sign]).format(who=who, things=things, **words))
    return sentences


def _possible(value: int, rng: random.Random) -> list[tuple[str, int]]:
    """What may happen to `value` things: a sign and a number for each sign that keeps them in bounds."""
    more, less = min(9, LARGEST - value), min(9, value - 1)
    found = [("+", rng.randint(2, more))] if more >= 2 else []
    found += [("-", rng.randint(2, less))] if less >= 2 else []
    factors = [k for k in TIMES if value * k <= LARGEST]
    divisors = [k for k in PARTS if value % k == 0]
    found += [("*", rng.choice(factors))] if factors else []
    return found + ([("/", rng.choice(divisors))] if divisors else [])


def _to_dataset(questions: Iterator[str] | Sequence[str]) -> Dataset:
    def row(question: str) -> dict[str, str | int]:
        steps = solve(question)
        return {"question": question, "answer": answer_to(question), "level": len(steps)}

    return Dataset.from_list(list(map(row, questions)))


def draw_problems(world: StoryWorld, count: int, *, mix: Sequence[float] | None = None, seed: int) -> Dataset:
    """Training questions with columns `question`, `answer`, `level`, levels in the shares of `mix`
    (equal when None)."""
    rng = random.Random(f"train-{seed}")
    levels = rng.choices(range(1, world.levels + 1), weights=mix, k=count)
    return _to_dataset(draw_question(world, level, rng, held_out=False) for level in levels)


def held_out_problems(world: StoryWorld, per_level: int, *, seed: int) -> Dataset:
    """`per_level` distinct held-out questions of each level, laid out as by `draw_problems`."""
    rng, questions = random.Random(f"held-out-{seed}"), dict[str, None]()
    for level in range(1, world.levels + 1):
        while len(questions) < per_level * level:
            questions[draw_question(world, level, rng, held_out=True)] = None
    return _to_dataset(list(questions))
