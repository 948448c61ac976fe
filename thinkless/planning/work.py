"""What each stage has to do: answers to generate, rows to train on, tokens in and out.

Nobody knows the answers' lengths before the run. `Assumptions` names them, with defaults from the paper's
Table 2, so that a plan can be made again with the lengths that the first steps show.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from thinkless.evaluation import published
from thinkless.evaluation.report import SETTINGS
from thinkless.modes import Mode
from thinkless.planning.hardware import PlanError
from thinkless.problems.benchmarks import PROBLEM_SETS
from thinkless.runs.runner import Stage
from thinkless.runs.settings import Profile, Teacher

TITLES = {"aime_2024": "AIME 2024", "minerva_algebra": "Minerva Algebra", "math_500": "MATH-500"}
TITLES |= dict.fromkeys(("gsm8k", "gsm8k_train"), "GSM8K")
"""The benchmark of Table 2 whose lengths stand for a problem set's; MATH-500's stand for any other."""
SPREAD = {Mode.THINK: 0.9, Mode.SHORT: 0.6}
"""Standard deviation of the lengths over their mean: an assumption."""
ASSUMED = ("think_mean", "short_mean", "think_rate", "prompt", "longest_prompt")
"""What can be assumed otherwise, see `Assumptions`."""
QUANTILES = (np.arange(4000) + 0.5) / 4000

Part = tuple[float, np.ndarray]
"""A share of the answers, and lengths (n,) that are equally likely among them."""


class Length(NamedTuple):
    """Tokens per answer: mean, root mean square, and the longest to expect among those counted."""

    mean: float
    rms: float
    longest: float
    capped: float = 0.0
    """Share of the answers that the length limit cuts off."""


NONE = Length(0, 0, 0)


def lognormal(mean: float, spread: float) -> np.ndarray:
    """Equally likely lengths, `QUANTILES` of the lognormal with this mean and deviation `spread` x mean."""
    variance = math.log1p(spread**2)
    lengths = np.exp(math.sqrt(variance) * norm.ppf(QUANTILES))
    return lengths * mean / lengths.mean()


def cut(parts: Sequence[Part], limit: float, answers: float = 1024) -> Length:
    """Summarise `answers` answers of these kinds, cut off at `limit` tokens; the shares sum to 1.

    The longest to expect is the quantile 1 - 1/answers of each kind's own number.
    """

    def over(value: Any) -> float:
        return float(sum(share * np.mean(value(tokens)) for share, tokens in parts))

    longest = max(float(np.quantile(t, 1 - 1 / max(s * answers, 2))) for s, t in parts if s)
    return Length(
        over(lambda tokens: np.minimum(tokens, limit)),
        over(lambda tokens: np.minimum(tokens, limit) ** 2) ** 0.5,
        min(longest, limit),
        over(lambda tokens: tokens > limit),
    )


@dataclass(frozen=True)
class Assumptions:
    """Lengths of answers that a plan takes for granted, in tokens, before any limit cuts them off."""

    think: np.ndarray
    """Equally likely lengths (n,) of answers that think."""
    short: np.ndarray
    think_rate: float = 0.72
    """Share of think answers in RL and in free evaluation: the mean of the paper's curve."""
    prompt: float = 150
    longest_prompt: int = 1024
    """The released code's limit; it sizes memory and context."""

    def parts(self, mode: Mode | None = None) -> list[Part]:
        """The lengths of answers in a mode, or of those whose mode the model chose."""
        if mode is not None:
            return [(1.0, getattr(self, mode.label))]
        return [(self.think_rate, self.think), (1 - self.think_rate, self.short)]

    @property
    def pair(self) -> list[Part]:
        """The lengths of a question's two answers, one of each mode."""
        return [(0.5, self.think), (0.5, self.short)]

    def told(self) -> dict[str, float]:
        """The values of `ASSUMED`."""
        means = {"think_mean": self.think.mean(), "short_mean": self.short.mean()}
        return {name: means[name] if name in means else getattr(self, name) for name in ASSUMED}


def assume(profile: Profile, changes: Mapping[str, float] | None = None) -> Assumptions:
    """The assumptions for a profile, with `changes`; a changed mean keeps the spread.

    Raises PlanError for an unknown name or an impossible value.
    """
    if changes is not None and not isinstance(changes, Mapping):
        raise PlanError(f"assumptions are a mapping such as {{'think_mean': 9000}}, got {changes!r}")
    own = _own(profile)
    for name, value in (changes or {}).items():
        if name not in ASSUMED:
            raise PlanError(f"there is no assumption {name!r}: there are {', '.join(ASSUMED)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise PlanError(f"{name}={value!r}: expected a positive number")
        if name == "think_rate" and value > 1:
            raise PlanError(f"think_rate={value}: expected a share, at most 1")
        if (mode := name.removesuffix("_mean")) in own and mode != name:
            own[mode] = own[mode] * value / own[mode].mean()
        else:
            own[name] = value
    return Assumptions(**own)


def _own(profile: Profile) -> dict[str, Any]:
    """What is known of a profile's answers: the laptop world's own lengths, else those of Table 2."""
    problems = profile.problems
    if problems.kind == "math":
        return _lengths(problems.train)
    world, levels = problems.world(), np.arange(1, problems.levels + 1)
    of_level = np.repeat(levels, np.round(1000 * np.array(problems.mix) / sum(problems.mix)).astype(int))
    tokens = {"think": world.think_length, "short": world.short_length}
    own = {mode: np.array([float(count(int(n))) for n in of_level]) for mode, count in tokens.items()}
    return own | {"prompt": float(np.mean(2 * of_level + 2)), "longest_prompt": 2 * problems.levels + 3}


def _lengths(problems: str) -> dict[str, Any]:
    """Lengths of the paper's warm-up model on a problem set, by mode."""
    means = (
        published.table("table_2").iloc[-2:].xs("tokens", axis=1, level=1)[TITLES.get(problems, "MATH-500")]
    )
    modes = zip((Mode.THINK, Mode.SHORT), means, strict=True)
    return {mode.label: lognormal(mean, SPREAD[mode]) for mode, mean in modes}


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of one stage. Token counts are expected values."""

    stage: str
    processes: int
    rows: float = 0
    """Rows trained on once, or completions."""
    length: Length = NONE
    """Of the answers among them."""
    tokens_in: float = 0
    tokens_out: float = 0
    teachers: tuple[tuple[Teacher, Length, float], ...] = ()
    """For distillation: each teacher, the lengths of its answers, and how many it gives."""

    @property
    def kind(self) -> str:
        """The first word of the stage's name: base, distill, sft, rl or eval."""
        return self.stage.partition("-")[0]


def work_of(stage: Stage, profile: Profile, a: Assumptions) -> Work:
    """The expected work of one stage."""
    work = Work(stage=stage.name, processes=profile.launch.processes if stage.distributed else 1)
    limit, questions, prompt = profile.longest("distill"), _asked(profile), a.prompt
    match work.kind:
        case "base" | "sft":
            pairs = questions
            if work.kind == "base":
                if profile.base is None:
                    return work
                pairs, prompt = profile.base.rows / 2, a.prompt + 1  # the textbook's cue
            elif profile.distill.overlong == "drop":
                pairs *= math.prod(1 - cut(a.parts(mode), limit).capped for mode in Mode)
            length = cut(a.pair, limit)
            return replace(work, rows=2 * pairs, length=length, tokens_in=2 * pairs * (prompt + length.mean))
        case "distill":
            named = [(getattr(profile.distill, mode.label), mode) for mode in Mode]
            asked = [(t, cut(a.parts(m), limit, questions), questions) for t, m in named if t.kind != "data"]
            work = replace(work, teachers=tuple(asked))
            rows, length = questions * len(asked), cut(a.pair, limit)
            written = sum(length.mean * answers for _, length, answers in asked)
        case "rl":
            per_step = profile.rl.prompts_per_step * profile.rl.group_size
            rows, length = profile.rl.steps * per_step, cut(a.parts(), profile.longest("rl"), per_step)
            written = rows * length.mean
        case _:
            rows, length = _evaluation(profile, a)
            written = rows * length.mean
    return replace(work, rows=rows, length=length, tokens_in=rows * prompt, tokens_out=written)


def _rows(name: str, unknown: float) -> float:
    return float(PROBLEM_SETS[name].rows) if name in PROBLEM_SETS else unknown


def _asked(profile: Profile) -> float:
    """Questions asked: a long teacher that is a data set brings questions of its own."""
    asked, problems = float(profile.distill.questions), profile.problems
    if problems.kind == "math" and profile.distill.think.kind != "data":
        return min(asked, _rows(problems.train, asked))
    return asked


def _evaluation(profile: Profile, a: Assumptions) -> tuple[float, Length]:
    """Completions of one evaluation, over all its sets and settings, and their lengths."""
    limit, problems = profile.longest("evaluation"), profile.problems
    sets = (
        {"": float(problems.levels * problems.held_out_per_level)}
        if problems.kind == "chain"
        else {name: min(_rows(name, 1000), problems.limit or math.inf) for name in problems.evaluate}
    )
    questions, parts = sum(sets.values()), []
    for name, count in sets.items():
        own = replace(a, **_lengths(name)) if name in TITLES else a
        for mode in SETTINGS.values():
            parts += [(s * count / questions / len(SETTINGS), tokens) for s, tokens in own.parts(mode)]
    answers = questions * len(SETTINGS)
    return answers * profile.evaluation.samples, cut(parts, limit, answers)
