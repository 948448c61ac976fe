"""Plans of grids of runs, such as `evidence.yaml`: which variants of a profile are trained, with which
objectives and how many seeds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from thinkless.errors import StageError
from thinkless.pipeline import rl_stage


class Task(NamedTuple):
    """One stage of one variant's pipeline."""

    variant: str
    seed: int
    stage: str

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}, {self.stage}"


@dataclass
class Plan:
    """The grids of `evidence.yaml`. Raises StageError if one name stands for two variants, or two variants
    are `tabled`: the table of questions has room for one."""

    profile: str
    grids: dict[str, dict[str, Any]]
    expectations: bool = False
    """Whether the figures of whole pipelines are recorded, for `expectations.py`."""
    readings: list[str] = field(default_factory=list)
    """Stages of the first variant, pipeline seed 0, whose questions and texts are kept; see `readings.py`."""
    results: Path | None = None
    """Where its records go."""
    name: str = "evidence"
    """The package's name for it, or the path of its file."""
    variants: dict[str, dict[str, Any]] = field(init=False, default_factory=dict)
    """Overrides of every variant that some grid has; `repetitions` and `arms` included."""
    environments: dict[str, dict[str, str]] = field(init=False, default_factory=dict)
    """Environment variables that a variant's processes run under, such as `MKL_CBWR`."""

    def __post_init__(self):
        self.results = self.results and Path(self.results)
        for grid in self.grids.values():
            for name, changes in grid["variants"].items():
                self._add(name, dict(changes), grid)
        tasks = self.tasks()
        first = {task.stage.removeprefix("eval-") for task in tasks if task[:2] == tasks[0][:2]}
        if unknown := [stage for stage in self.readings if stage not in first]:
            raise StageError(
                f"readings names {', '.join(unknown)}: expected some of {', '.join(sorted(first))}"
            )
        tabled = list(dict.fromkeys(task.variant for task in tasks if self.tabled(task)))
        if len(tabled) > 1:
            raise StageError(
                "evaluation.samples or readings are for one variant only, not for " + " and ".join(tabled)
            )

    def _add(self, name: str, overrides: dict[str, Any], grid: Mapping[str, Any]):
        slug, environment = _slug(name, overrides), overrides.pop("environment", {})
        if self.environments.setdefault(slug, environment) != environment:
            raise StageError(f"two variants are called {name!r}: they have different environments")
        mine = self.variants.setdefault(slug, {**overrides, "rl.arms": [], "rl.repetitions": 1})
        if changes_of(mine) != changes_of(overrides):
            raise StageError(f"two variants are called {name!r}: they have different overrides")
        mine["rl.arms"] = list(dict.fromkeys([*mine["rl.arms"], *grid["arms"]]))
        mine["rl.repetitions"] = max(mine["rl.repetitions"], grid.get("repetitions", 3))

    def variants_of(self, grid: str) -> dict[str, str]:
        """The variants of one grid: what it calls them, and the name of their folders and records."""
        return {name: _slug(name, overrides) for name, overrides in self.grids[grid]["variants"].items()}

    def tasks(self) -> list[Task]:
        """Every evaluation that the grids ask for, in their order, without repetitions."""
        found: list[Task] = []
        for grid_name, grid in self.grids.items():
            runs = [rl_stage(arm, k) for k in range(grid.get("repetitions", 3)) for arm in grid["arms"]]
            places = product(self.variants_of(grid_name).values(), range(grid.get("pipeline_seeds", 1)))
            found += [Task(*place, f"eval-{stage}") for place in places for stage in ["sft", *runs]]
        return list(dict.fromkeys(found))

    def tabled(self, task: Task) -> bool:
        """Whether an evaluation's questions are tabled: its variant asks each repeatedly, or it is read."""
        (variant, seed, _), *_ = self.tasks()
        read = task[:2] == (variant, seed) and task.stage.removeprefix("eval-") in self.readings
        return read or "evaluation.samples" in self.variants[task.variant]


def read_plan(name: str | Path = "evidence") -> Plan:
    """The plan of the package that has this name, or of a YAML file. Raises StageError if it is none."""
    own = Path(__file__).parent / f"{name}.yaml"
    path = own if own.exists() else Path(name)
    try:
        plan = Plan(**yaml.safe_load(path.read_text(encoding="utf-8")), name=str(name))
        plan.tasks()  # whether its counts are numbers
        return plan
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise StageError(f"{path} is no plan such as evidence or arithmetic: {error!r}") from None


def _slug(name: str, overrides: Mapping[str, Any]) -> str:
    """The name of a variant's folder; the sampling of the evaluation makes it another one."""
    samples = overrides.get("evaluation.samples")
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") + (f"-x{samples}" if samples else "")


def changes_of(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides without those that say which runs there are, and how they are measured."""
    which = {"rl.arms", "rl.repetitions", "evaluation.samples"}
    return {name: value for name, value in overrides.items() if name not in which}
