"""Profiles: every number of a run, in one typed and validated place.

A profile is a YAML file in `thinkless/profiles/`, or any path ending in .yaml. It may `extend`
another one and then states only what differs. `load_profile("laptop", {"rl.alpha": 0.5})` applies
overrides, given as dotted keys or as nested mappings. A key that does not exist is an error that
names the nearest one that does.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thinkless.objectives import OBJECTIVES
from thinkless.problems.chain import VERBOSITY, ChainWorld

FOLDER = Path(__file__).with_suffix("")


class ProfileError(ValueError):
    """A profile that does not exist or does not validate; the message is one line."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Problems(_Section):
    """Which questions are asked, and how the textbook answers them."""

    levels: int = Field(ge=1, le=20)
    verbosity: str
    """A key of `problems.chain.VERBOSITY`."""
    noise_short: list[float] = []
    """Share of wrong short answers in the textbook, one entry per level; empty means none."""
    noise_think: list[float] = []
    redundancy: int = Field(0, ge=0)
    """Worked answers check themselves 0..redundancy times."""
    mix: list[float]
    """Share of each level in the questions of RL."""
    held_out_per_level: int = Field(ge=1, le=300)

    def world(self) -> ChainWorld:
        """The dials as the world takes them."""
        return ChainWorld(
            self.levels, self.verbosity, tuple(self.noise_short), tuple(self.noise_think), self.redundancy
        )

    def model_post_init(self, _):
        if self.verbosity not in VERBOSITY:
            raise ValueError(f"verbosity={self.verbosity!r}: expected one of {', '.join(VERBOSITY)}")
        self.world()
        if len(self.mix) != self.levels or min(self.mix) < 0 or sum(self.mix) <= 0:
            raise ValueError(f"mix={self.mix}: expected {self.levels} shares, none negative, not all zero")


class Model(_Section):
    """Size of the model made for the laptop world."""

    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    initializer_range: float = Field(gt=0)
    """Standard deviation of the initial weights; about 1/sqrt(hidden_size) for models this small."""


class Optimizer(_Section):
    """AdamW and its schedule, shared by the three trainings."""

    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    beta2: float = Field(gt=0, lt=1)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    save_steps: int = Field(ge=1)
    """Checkpoint every so many steps; a killed run resumes from the last one."""


class Base(Optimizer):
    """The base model reads a textbook written in two styles."""

    rows: int = Field(ge=1)
    batch_size: int = Field(ge=1)


class Distill(_Section):
    """The two teachers answer the same questions."""

    questions: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)


class SFT(Optimizer):
    """Supervised warm-up of the hybrid model, one pass over the pairs."""

    batch_size: int = Field(ge=2, multiple_of=2)
    """Rows per update; even, so that the two modes of a question are never parted."""


class RL(Optimizer):
    """Reinforcement learning of the mode."""

    arms: list[str]
    """The objectives trained side by side, keys of `objectives.OBJECTIVES`."""
    repetitions: int = Field(ge=1)
    """Runs of each arm from the same warm-up model, with seeds seed, seed+1, ..."""
    alpha: float = Field(gt=0)
    gamma: float = Field(ge=0, lt=1)
    steps: int = Field(ge=1)
    prompts_per_step: int = Field(ge=1)
    group_size: int = Field(ge=2)
    micro_batch: int = Field(ge=1)
    """Completions per forward pass on one device."""
    length_buckets: int = Field(ge=1)
    """Parts of similar length that a micro-batch is split into."""
    temperature: float = Field(gt=0)
    beta: float = Field(ge=0)
    """Weight of the KL to the warm-up model."""
    epsilon: float = Field(gt=0, lt=1)

    def model_post_init(self, _):
        unknown = [arm for arm in self.arms if arm not in OBJECTIVES]
        if unknown or not self.arms:
            raise ValueError(f"arms={self.arms}: expected some of {', '.join(OBJECTIVES)}")
        if self.prompts_per_step * self.group_size % self.micro_batch:
            raise ValueError(
                f"micro_batch={self.micro_batch} does not divide the completions of a step, "
                f"prompts_per_step x group_size = {self.prompts_per_step * self.group_size}"
            )


class Evaluation(_Section):
    """How models are measured on held-out questions."""

    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    samples: int = Field(ge=1)
    """Completions per question and setting."""


class Launch(_Section):
    """Where the work runs."""

    processes: int = Field(1, ge=1)
    """Processes of one training; above 1 the stage goes through `accelerate launch`."""
    workers: int = Field(1, ge=1)
    """Independent runs at a time."""


class Expect(_Section):
    """What a chapter's checkpoints hold the results to; a profile that only tests wiring asks little."""

    base_think_accuracy: float
    """Least held-out accuracy of the base model's worked answers, on every level."""
    base_short_level_1: float
    """Least held-out accuracy of its short answers at level 1."""
    short_drop: float
    """Least drop of short accuracy from the first level to the last."""
    distill_dropped: float
    """Largest share of pairs lost to the length limit."""
    think_gain: float
    """Least lead of the long teacher over the short one, in accuracy over all questions."""
    mode_balance: float
    """Largest distance of the warm-up model's think rate from one half."""
    think_accuracy: float
    """Least forced-think accuracy of the warm-up model, on every level."""
    short_level_1: float
    """Least forced-short accuracy of the warm-up model at level 1."""
    rl_think_rate_level_1: float
    """Largest think rate at level 1 at the end of the DeGRPO runs, on their own rollouts."""
    rl_think_rate_hard: float
    """Least think rate on the levels above, likewise."""
    degrpo_lead: float
    """Least lead of DeGRPO over vanilla GRPO in reward at the end of RL."""
    router_lift: float
    """Least accuracy above a random router of the same cost."""
    think_rate_level_1: float
    """Largest think rate at level 1 after DeGRPO."""
    think_rate_hard: float
    """Least think rate after DeGRPO on the levels where the decision rule says think."""
    accuracy_gap: float
    """Largest loss of accuracy against always thinking."""
    regret: float
    """Largest regret to the oracle by level, in reward."""


class Profile(_Section):
    """A whole run."""

    name: str
    description: str
    problems: Problems
    model: Model
    base: Base
    distill: Distill
    sft: SFT
    rl: RL
    evaluation: Evaluation
    launch: Launch
    expect: Expect

    def model_post_init(self, _):
        batches = {
            "base.batch_size": self.base.batch_size,
            "sft.batch_size": self.sft.batch_size,
            "prompts_per_step x group_size / micro_batch": (
                self.rl.prompts_per_step * self.rl.group_size // self.rl.micro_batch
            ),
        }
        for name, value in batches.items():
            if value % self.launch.processes:
                raise ValueError(
                    f"launch.processes={self.launch.processes} does not divide {name}={value}: "
                    "every process must get the same share"
                )


def available_profiles() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """The profile `name` (or a path to a YAML file) with `overrides` applied.

    Raises ProfileError, in one line, for an unknown profile, unknown key or impossible value.
    """
    values = _read(name)
    for dotted, value in _flatten(overrides or {}):
        _set(values, dotted, value, name)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise ProfileError(_one_line(error, name)) from None


def _read(name: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(name, str) or name in children:
        raise ProfileError(
            f"profile {children[-1]!r} cannot extend {name!r}: expected another profile's name"
        )
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"unknown profile {name!r}{_nearest(name, available_profiles())}") from None
    except OSError as error:
        raise ProfileError(f"cannot read profile {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ProfileError(f"profile {path}: expected a mapping of sections, got {type(values).__name__}")
    values.setdefault("name", path.stem)
    if "extends" in values:
        parent = _read(values.pop("extends"), (*children, name))
        for dotted, value in _flatten(values):
            _set(parent, dotted, value, name)
        return parent
    return values


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        raise ProfileError(f"overrides must be a mapping such as {{'rl.alpha': 0.5}}, got {values!r}")
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        flat += _flatten(value, f"{dotted}.") if isinstance(value, Mapping) else [(dotted, value)]
    return flat


def _set(values: dict[str, Any], dotted: str, value: Any, name: str):
    *sections, last = dotted.split(".")
    known: type[_Section] = Profile
    target = values
    for section in sections:
        field = known.model_fields.get(section)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, _Section)
        ):
            raise ProfileError(f"profile {name!r} has no section {section!r}{_nearest(dotted, known_keys())}")
        known, target = field.annotation, target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ProfileError(f"profile {name!r}: {section} is {target!r}, expected a mapping of settings")
    if last not in known.model_fields:
        raise ProfileError(f"profile {name!r} has no setting {dotted!r}{_nearest(dotted, known_keys())}")
    target[last] = value


def known_keys() -> list[str]:
    """Every setting as a dotted key, such as ``rl.alpha``."""
    keys = []
    for section, field in Profile.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            keys += [f"{section}.{key}" for key in field.annotation.model_fields]
        else:
            keys.append(section)
    return keys


def _nearest(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if not close:  # a bare name: compare with the last part of each key
        parts = {key.rpartition(".")[2]: key for key in known}
        close = [
            parts[m]
            for m in difflib.get_close_matches(given.rpartition(".")[2], list(parts), n=1, cutoff=0.5)
        ]
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _one_line(error: ValidationError, name: str) -> str:
    problems = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in ("value_error", "missing") else f", got {item['input']!r}"
        nearest = _nearest(where, known_keys()) if item["type"] == "extra_forbidden" else ""
        problems.append(f"{where}: {text}{given}{nearest}")
    return f"profile {name!r}: " + "; ".join(problems)
