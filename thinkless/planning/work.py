"""What each stage has to do: answers to generate, rows to train on, tokens in and out.

Nobody knows the answers' lengths before the run. `Assumptions` names them, with defaults from the paper's
Table 2, so that a plan can be made again with the lengths that the first steps show.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError
from scipy.stats import norm

from thinkless.evaluation import published
from thinkless.evaluation.report import SETTINGS
from thinkless.modes import Mode
from thinkless.planning.hardware import PlanError
from thinkless.problems.benchmarks import PROBLEM_SETS
from thinkless.runs.questions import MathProblems
from thinkless.runs.runner import Stage
from thinkless.runs.schema import Section
from thinkless.runs.settings import Profile, Teacher

TITLES = {"aime_2024": "AIME 2024", "minerva_algebra": "Minerva Algebra", "gsm8k": "GSM8K"}
"""The benchmark of Table 2 whose lengths stand for a problem set's; MATH-500's stand for any other."""


class Assumptions(Section):
    """What a plan takes for granted, in tokens, before any limit cuts answers off."""

    think_mean: PositiveFloat
    short_mean: PositiveFloat
    think_spread: NonNegativeFloat = 0.9
    """Standard deviation of the lengths over their mean."""
    short_spread: NonNegativeFloat = 0.6
    think_rate: float = Field(0.72, gt=0, le=1)
    """Share of think answers in RL and in free evaluation: the mean of the paper's curve."""
    prompt: PositiveFloat = 150
    longest_prompt: PositiveInt = 1024
    """The released code's limit; it sizes memory and context."""

    def lengths(self, think_rate: float) -> pd.Series:
        """Lengths of answers of which `think_rate` think: shares that sum to 1, indexed by tokens."""
        think = think_rate * lognormal(self.think_mean, self.think_spread)
        return pd.concat([think, (1 - think_rate) * lognormal(self.short_mean, self.short_spread)])


def assume(problems: MathProblems, changes: Mapping[str, float] | None = None) -> Assumptions:
    """The assumptions for a run on these problems, from Table 2, with `changes`.

    Raises PlanError for an unknown name or an impossible value.
    """
    if not isinstance(changes or {}, Mapping):
        raise PlanError(f"assumptions are a mapping such as {{'think_mean': 9000}}, got {changes!r}")
    try:
        return Assumptions(**{**published_means(problems.train), **(changes or {})})
    except ValidationError as error:
        name, given, wrong = (error.errors()[0][key] for key in ("loc", "input", "msg"))
        names = ", ".join(Assumptions.model_fields)
        raise PlanError(f"assumed {name[0]}={given!r}: {wrong}; what can be assumed is {names}") from None


def published_means(problems: str) -> dict[str, Any]:
    """Mean lengths of the paper's warm-up model on a problem set."""
    title = TITLES.get(problems.removesuffix("_train"), "MATH-500")
    think, short = published.table("table_2").iloc[-2:][title, "tokens"]
    return {"think_mean": think, "short_mean": short}


def lognormal(mean: float, spread: float, n: int = 4000) -> pd.Series:
    """`n` equally likely lengths, quantiles of the lognormal with this mean and deviation `spread` x mean."""
    quantiles = (np.arange(n) + 0.5) / n
    tokens = np.exp(math.sqrt(math.log1p(spread**2)) * norm.ppf(quantiles))
    return pd.Series(1 / n, tokens * mean / tokens.mean())


class Length(NamedTuple):
    """Tokens per answer: mean, root mean square, and the longest to expect among those counted."""

    mean: float
    rms: float
    longest: float
    capped: float = 0.0
    """Share of the answers that the length limit cuts off."""


def cut(lengths: pd.Series, limit: float, answers: float = 1024) -> Length:
    """Summarise `answers` answers of these lengths, cut off at `limit` tokens.

    The longest to expect is the quantile 1 - 1/answers.
    """
    shares = lengths.sort_index()
    tokens = shares.index.to_numpy()
    place = shares.cumsum().searchsorted(1 - 1 / max(answers, 2))
    kept = np.minimum(tokens, limit)
    return Length(
        mean=float(shares @ kept),
        rms=math.sqrt(shares @ kept**2),
        longest=float(kept[place]),
        capped=float(shares[tokens > limit].sum()),
    )


def typical(lengths: pd.Series, limit: float, answers: int) -> np.ndarray:
    """The lengths of `answers` typical answers, cut off at `limit` tokens, the shortest first."""
    shares = lengths.sort_index()
    places = shares.cumsum().searchsorted((np.arange(answers) + 0.5) / answers)
    return np.minimum(shares.index.to_numpy()[places], limit)


class Work(NamedTuple):
    """The work of one stage, or of one teacher in it. Numbers of tokens are expected values."""

    stage: str
    rows: float
    """Rows trained on once, or completions."""
    length: Length
    """Of the answers among them."""
    processes: int
    prompt: float
    """Tokens of a question."""
    teacher: Teacher | None = None
    answers: np.ndarray | None = None
    """Lengths in tokens of one RL step's."""

    @property
    def kind(self) -> str:
        """The first word of the stage's name: base, distill, sft, rl or eval."""
        return self.stage.partition("-")[0]

    @property
    def tokens(self) -> float:
        """Tokens of all answers."""
        return self.rows * self.length.mean


def work_of(stage: Stage, profile: Profile, problems: MathProblems, a: Assumptions) -> Iterator[Work]:
    """The expected work of one stage; distillation has a row for each teacher that is no data set."""
    distill, limit, questions = profile.distill, profile.longest("distill"), profile.distill.questions
    if distill.think.kind != "data":  # recorded answers bring their own questions
        questions = min(questions, PROBLEM_SETS[problems.train].rows)
    processes = profile.launch.processes if stage.distributed else 1
    work = partial(Work, processes=processes, prompt=a.prompt)
    match stage.name.partition("-")[0]:
        case "base" | "sft" as kind if kind == "base" or profile.sft is None:  # only fetched
            yield work(stage.name, 0, Length(0, 0, 0))
        case "distill":
            for rate, teacher in ((1, distill.think), (0, distill.short)):
                if teacher.kind != "data":
                    length = cut(a.lengths(rate), limit, questions)
                    yield work(f"distill-{'think' if rate else 'short'}", questions, length, teacher=teacher)
        case "sft":
            whole = math.prod(1 - cut(a.lengths(rate), limit).capped for rate in (0, 1))
            rows = 2 * questions * (whole if distill.overlong == "drop" else 1)
            yield work(stage.name, rows, cut(a.lengths(0.5), limit))
        case "select" if profile.rl.select is not None:
            answers = profile.rl.select.candidates * profile.rl.group_size
            yield work(stage.name, answers, cut(a.lengths(a.think_rate), profile.longest("rl"), answers))
        case "answers" if (choice := profile.rl.choice_only) is not None:
            answers = choice.questions * choice.samples * len(Mode)
            yield work(stage.name, answers, cut(a.lengths(1 / len(Mode)), profile.longest("rl"), answers))
        case "rl":
            answers = profile.rl.prompts_per_step * profile.rl.group_size
            lengths, longest = a.lengths(a.think_rate), profile.rollout
            step = typical(lengths, longest, answers)
            length = cut(lengths, longest, answers)
            yield work(stage.name, profile.rl.steps * answers, length, answers=step)
        case _:
            completions, lengths = _evaluation(problems, a)
            length = cut(lengths, profile.longest("evaluation"), completions)
            yield work(stage.name, completions * profile.evaluation.samples, length)


def _evaluation(problems: MathProblems, a: Assumptions) -> tuple[float, pd.Series]:
    """Answers of one evaluation, to every set under each setting, and their lengths, those of Table 2."""
    counts = {name: min(PROBLEM_SETS[name].rows, problems.limit or math.inf) for name in problems.evaluate}
    questions, think_rate = sum(counts.values()), (a.think_rate + 1 + 0) / len(SETTINGS)  # free, think, short
    own = {name: a.model_copy(update=published_means(name)).lengths(think_rate) for name in counts}
    lengths = pd.concat([own[name] * count / questions for name, count in counts.items()])
    return questions * len(SETTINGS), lengths
