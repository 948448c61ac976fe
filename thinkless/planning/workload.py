"""What each stage of a profile has to do: answers to generate, rows to train on, tokens in and out.

Nobody knows the answers' lengths before the run. `Assumptions` holds them by name, with defaults from the
paper's Table 2, so that a plan can be made again with the lengths that the first steps show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from thinkless.evaluation.report import SETTINGS
from thinkless.modes import Mode
from thinkless.planning.hardware import PlanError
from thinkless.planning.roofline import Length, capped_lognormal, mixture
from thinkless.runs.questions import ChainProblems
from thinkless.runs.runner import Stage
from thinkless.runs.settings import Profile, Teacher

TABLE_2: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "aime_2024": (18_685, 3977),
        "minerva_algebra": (3064, 690),
        "math_500": (6209, 989),
        "gsm8k": (2363, 441),
    }
)
"""Mean tokens of (think, short) answers of the warm-up model by benchmark: the paper's Table 2, last rows."""
ALIKE: Mapping[str, str] = MappingProxyType({"deepscaler": "math_500", "gsm8k_train": "gsm8k"})
"""The benchmark whose lengths stand in for a training set's."""
QUESTIONS: Mapping[str, int] = MappingProxyType(
    {
        "aime_2024": 30,
        "minerva_algebra": 1187,
        "math_500": 500,
        "gsm8k": 1319,
        "gsm8k_train": 7473,
        "deepscaler": 40_315,
    }
)
SPREAD_THINK, SPREAD_SHORT = 0.9, 0.6
"""Standard deviation of the lengths over their mean: an assumption, rms = mean x sqrt(1 + spread^2)."""


@dataclass(frozen=True)
class Assumptions:
    """What a plan has to assume about the answers, in tokens, before any limit cuts them off."""

    think_mean: float
    think_rms: float
    short_mean: float
    short_rms: float
    think_rate: float = 0.72
    """Share of think answers in RL and in free evaluation: the mean of the paper's curve."""
    prompt: float = 150
    longest_prompt: int = 1024
    """The released code's limit; it sizes memory and context."""
    exact: bool = False
    """Whether the lengths are known, as those of the laptop world are: then no limit cuts them off."""

    def length(self, mode: Mode, limit: float, answers: float = 1024) -> Length:
        """Lengths of `answers` answers in one mode under a limit in tokens."""
        mean, rms = getattr(self, f"{mode.label}_mean"), getattr(self, f"{mode.label}_rms")
        if self.exact:
            return Length(mean, rms, limit)
        return capped_lognormal(mean, rms, limit, answers)

    def mixed(self, limit: float, answers: float = 1024) -> Length:
        """Lengths of answers whose mode the model chose."""
        rate = self.think_rate
        parts = ((rate, Mode.THINK), (1 - rate, Mode.SHORT))
        return mixture([(share, self.length(mode, limit, share * answers)) for share, mode in parts])


def assume(profile: Profile, changes: Mapping[str, Any] | None = None) -> Assumptions:
    """The assumptions for a profile, `changes` applied. A changed mean keeps its spread unless the rms is
    given too. Raises PlanError for an unknown name or an impossible value."""
    if changes is not None and not isinstance(changes, Mapping):
        raise PlanError(f"assumptions are a mapping such as {{'think_mean': 9000}}, got {changes!r}")
    changes = dict(changes or {})
    known = {field.name for field in fields(Assumptions)} - {"exact"}
    for name, value in changes.items():
        if name not in known:
            raise PlanError(f"there is no assumption {name!r}: there are {', '.join(sorted(known))}")
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise PlanError(f"{name}={value!r}: expected a positive number")
    if changes.get("think_rate", 0) > 1:
        raise PlanError(f"think_rate={changes['think_rate']}: expected a share, at most 1")
    if profile.problems.kind == "chain":
        return Assumptions(**(_chain_lengths(profile.problems) | changes))
    train = profile.problems.train
    means = TABLE_2[ALIKE.get(train, train if train in TABLE_2 else "math_500")]
    spread = _spread(changes.get("think_mean", means[0]), changes.get("short_mean", means[1]))
    return Assumptions(**(spread | changes))


def _spread(think: float, short: float) -> dict[str, Any]:
    """Means of both modes, and the rms that go with them."""
    rms = think * (1 + SPREAD_THINK**2) ** 0.5, short * (1 + SPREAD_SHORT**2) ** 0.5
    return {"think_mean": think, "think_rms": rms[0], "short_mean": short, "short_rms": rms[1]}


def _chain_lengths(problems: ChainProblems) -> dict[str, Any]:
    world = problems.world()
    shares = [share / sum(problems.mix) for share in problems.mix]

    def moments(tokens: Callable[[int], int]) -> tuple[float, float]:
        lengths = [tokens(level) for level in range(1, problems.levels + 1)]
        mean = sum(share * n for share, n in zip(shares, lengths, strict=True))
        return mean, sum(share * n * n for share, n in zip(shares, lengths, strict=True)) ** 0.5

    think, short = moments(world.think_length), moments(world.short_length)
    prompt = sum(share * (2 * level + 2) for level, share in enumerate(shares, start=1))
    longest = 2 * problems.levels + 3  # with a textbook's cue
    lengths = {"think_mean": think[0], "think_rms": think[1], "short_mean": short[0], "short_rms": short[1]}
    return {**lengths, "prompt": prompt, "longest_prompt": longest, "exact": True}


NO_ANSWERS = Length(0, 0, 0)


@dataclass(frozen=True)
class Work:
    """What one stage does. Token counts are expected values."""

    stage: str
    kind: Literal["ready", "supervised", "distill", "rl", "evaluation"]
    chapter: str
    processes: int = 1
    machines: int = 1
    rows: float = 0
    """Rows trained on once, or completions."""
    length: Length = NO_ANSWERS
    """Of the answers among them."""
    tokens_in: float = 0
    tokens_out: float = 0
    teachers: tuple[tuple[Teacher, Length, float], ...] = ()
    """For distillation: each teacher, the lengths of its answers, and how many it gives."""


def works(profile: Profile, stages: Sequence[Stage], assumptions: Assumptions) -> list[Work]:
    """The work of every stage, in order. A stage's kind is read off its name."""
    result = []
    for stage in stages:
        launch = profile.launch
        where = (launch.processes, launch.machines) if stage.distributed else (1, 1)
        result.append(_WORK[stage.name.partition("-")[0]](profile, assumptions, stage.name, *where))
    return result


def limit(profile: Profile, section: Literal["distill", "rl", "evaluation"]) -> int:
    """The longest completion of a section in tokens, its own limit or that of the questions."""
    tokens = getattr(profile, section).max_tokens or profile.problems.longest_answer()
    assert tokens is not None, "settings.Profile lets no profile through without a limit"
    return tokens


def _base(profile: Profile, a: Assumptions, name: str, processes: int, machines: int) -> Work:
    if profile.base is None:
        return Work(name, "ready", "01_world")
    length = _both(a, limit(profile, "distill"))
    rows = profile.base.rows
    tokens = rows * (a.prompt + 1 + length.mean)  # 1: the textbook's cue
    return Work(name, "supervised", "01_world", processes, machines, rows, length, tokens)


def _both(a: Assumptions, cap: float) -> Length:
    return mixture([(0.5, a.length(mode, cap)) for mode in Mode])


def _pairs(profile: Profile, a: Assumptions) -> tuple[float, float]:
    """(questions asked, pairs kept): a long teacher that is a data set brings questions of its own."""
    settings, problems = profile.distill, profile.problems
    asked = float(settings.questions)
    if problems.kind == "math" and settings.think.kind != "data":
        asked = min(asked, QUESTIONS.get(problems.train, asked))
    kept = asked
    if settings.overlong == "drop":
        for mode in Mode:
            kept *= 1 - a.length(mode, limit(profile, "distill")).capped
    return asked, kept


def _distill(profile: Profile, a: Assumptions, name: str, processes: int, machines: int) -> Work:
    cap, (asked, _) = limit(profile, "distill"), _pairs(profile, a)
    teachers = tuple(
        (teacher, a.length(mode, cap, asked), asked)
        for mode in Mode
        if (teacher := getattr(profile.distill, mode.label)).kind != "data"
    )
    written = sum(answers * length.mean for _, length, answers in teachers)
    read = len(teachers) * asked * a.prompt
    length = _both(a, cap)
    return Work(
        *(name, "distill", "02_distillation", processes, machines),
        *(asked * len(teachers), length, read, written, teachers),
    )


def _sft(profile: Profile, a: Assumptions, name: str, processes: int, machines: int) -> Work:
    rows, length = 2 * _pairs(profile, a)[1], _both(a, limit(profile, "distill"))
    tokens = rows * (a.prompt + length.mean)
    return Work(name, "supervised", "03_sft", processes, machines, rows, length, tokens)


def _rl(profile: Profile, a: Assumptions, name: str, processes: int, machines: int) -> Work:
    per_step = profile.rl.prompts_per_step * profile.rl.group_size
    rows, length = float(profile.rl.steps * per_step), a.mixed(limit(profile, "rl"), per_step)
    return Work(
        *(name, "rl", "05_rl", processes, machines, rows, length),
        *(rows * a.prompt, rows * length.mean),
    )


def _evaluation(profile: Profile, a: Assumptions, name: str, processes: int, machines: int) -> Work:
    cap, parts = limit(profile, "evaluation"), []
    if profile.problems.kind == "chain":
        sets = {"chain": float(profile.problems.levels * profile.problems.held_out_per_level)}
    else:
        known = {key: QUESTIONS.get(key, 1000) for key in profile.problems.evaluate}
        sets = {key: float(min(n, profile.problems.limit or n)) for key, n in known.items()}
    questions = sum(sets.values())
    for key, count in sets.items():
        own = a
        if key in TABLE_2:
            own = replace(a, **_spread(*TABLE_2[key]))
        for mode in SETTINGS.values():
            length = own.mixed(cap, count) if mode is None else own.length(mode, cap, count)
            parts.append((count / questions / len(SETTINGS), length))
    rows, length = questions * len(SETTINGS) * profile.evaluation.samples, mixture(parts)
    return Work(
        *(name, "evaluation", "06_evaluation", processes, machines, rows, length),
        *(rows * a.prompt, rows * length.mean),
    )


_WORK: Mapping[str, Callable[[Profile, Assumptions, str, int, int], Work]] = MappingProxyType(
    {"base": _base, "distill": _distill, "sft": _sft, "rl": _rl, "eval": _evaluation}
)
