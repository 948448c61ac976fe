"""Grids of runs: ``thinkless sweep``, and the records that the chapters draw from.

`evidence.yaml` says which runs there are. Every variant of the profile has a folder of its own under
``runs/evidence/``, with a pipeline like any other. A stage that another variant has already computed, from
the same settings, seed and inputs, is linked and not run again. Kill it anywhere and call it again.

Each finished evaluation becomes one row of `results/evidence.jsonl`, in the order of the grids; rows of the
records that this call has not computed stay as they are.
"""

import fnmatch
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from thinkless.book.expectations import EXPECTATIONS, pipeline_record, read_expectations
from thinkless.book.results import QUESTIONS, RECORDS, read_question_table, read_records
from thinkless.errors import StageError
from thinkless.evaluation import load_report
from thinkless.files import digest, write_text
from thinkless.pipeline import pipeline, rl_stage
from thinkless.runs.runner import Runner, ended_at_exit
from thinkless.training import read_metrics

CURVES = ("think_rate", "reward", "correct", "length", "control_share")
"""Metrics of RL that a record keeps step by step, with those by level of the first."""
_DIGITS = 5


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
    have `evaluation.samples`: the table of questions has room for one."""

    profile: str
    grids: dict[str, dict[str, Any]]
    expectations: bool = False
    """Whether the figures of whole pipelines are recorded, for `expectations.py`."""
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
            for name, variant in grid["variants"].items():
                slug, overrides = _slug(name, variant), dict(variant)
                environment = overrides.pop("environment", {})
                if self.environments.setdefault(slug, environment) != environment:
                    raise StageError(f"two variants are called {name!r}: they have different environments")
                mine = self.variants.setdefault(slug, {**overrides, "rl.arms": [], "rl.repetitions": 1})
                if _changes(mine) != _changes(overrides):
                    raise StageError(f"two variants are called {name!r}: they have different overrides")
                mine["rl.arms"] = [*mine["rl.arms"], *(a for a in grid["arms"] if a not in mine["rl.arms"])]
                mine["rl.repetitions"] = max(mine["rl.repetitions"], grid.get("repetitions", 3))
        sampled = [slug for slug, mine in self.variants.items() if "evaluation.samples" in mine]
        if len(sampled) > 1:
            raise StageError(f"evaluation.samples is for one variant only, not for {' and '.join(sampled)}")

    def variants_of(self, grid: str) -> dict[str, str]:
        """The variants of one grid: what it calls them, and the name of their folders and records."""
        return {name: _slug(name, overrides) for name, overrides in self.grids[grid]["variants"].items()}

    def tasks(self) -> list[Task]:
        """Every evaluation that the grids ask for, in their order, without repetitions."""
        found: dict[Task, None] = {}
        for grid in self.grids.values():
            for name, overrides in grid["variants"].items():
                for seed in range(grid.get("pipeline_seeds", 1)):
                    runs = [rl_stage(a, k) for k in range(grid.get("repetitions", 3)) for a in grid["arms"]]
                    for stage in ["sft", *runs]:
                        found[Task(_slug(name, overrides), seed, f"eval-{stage}")] = None
        return list(found)


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


def settings_digest(runner: Runner, stage: str) -> str:
    """The settings that a stage and all stages before it depend on, as a hash."""
    upstream = [settings_digest(runner, name) for name in runner.stages[stage].inputs]
    return digest([stage, runner.stages[stage].settings(runner.profile), *upstream])


def _slug(name: str, overrides: Mapping[str, Any]) -> str:
    """The name of a variant's folder; the sampling of the evaluation makes it another one."""
    samples = overrides.get("evaluation.samples")
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") + (f"-x{samples}" if samples else "")


@dataclass
class Grid:
    """The runs of a plan under `folder`, several at a time."""

    plan: Plan
    folder: Path
    workers: int
    only: str = "*"
    """Pattern of the variants to run."""
    runners: dict[tuple[str, int], Runner] = field(default_factory=dict)

    def runner(self, task: Task) -> Runner:
        """The pipeline of the task's variant and seed."""
        place = task.variant, task.seed
        if place not in self.runners:
            overrides = self.plan.variants[task.variant]
            folder = self.folder / task.variant
            self.runners[place] = pipeline(self.plan.profile, task.seed, overrides, folder)
        return self.runners[place]

    def tasks(self, evaluations: Iterable[Task] | None = None) -> list[Task]:
        """All that has to be done for these evaluations, or for those asked for; inputs come first."""
        found: dict[Task, None] = {}

        def add(task: Task):
            for upstream in self._inputs(task):
                add(upstream)
            found[task] = None

        for task in self._asked() if evaluations is None else evaluations:
            add(task)
        return list(found)

    def _asked(self) -> list[Task]:
        """The evaluations of the variants to run. Raises StageError if no variant matches."""
        found = [task for task in self.plan.tasks() if fnmatch.fnmatch(task.variant, self.only)]
        if not found:
            raise StageError(f"no variant matches {self.only!r}: there are {', '.join(self.plan.variants)}")
        return found

    def _finished(self) -> list[tuple[Task, Runner]]:
        runners = [(task, self.runner(task)) for task in self._asked()]
        return [(task, runner) for task, runner in runners if runner.is_done(task.stage)]

    def run(self):
        """Do all tasks, base models first: they take long, and everything else waits for them.

        Raises StageError when a task fails; what is finished is kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        tasks = self.tasks()
        every = self.tasks(self.plan.tasks())  # a variant that was not asked for may have what is needed
        done = {task: self._identity(task) for task in every if self.runner(task).is_done(task.stage)}
        waiting = sorted((task for task in tasks if task not in done), key=lambda t: bool(self._inputs(t)))
        running: dict[Task, subprocess.Popen] = {}
        seconds: dict[str, list[float]] = {}
        _say(f"{len(tasks) - len(waiting)} of {len(tasks)} stages are done")
        with ended_at_exit(running):
            while waiting or running:
                if len(running) < self.workers:
                    self._go_on(waiting, running, done)
                time.sleep(0.5)
                for task in [task for task, process in running.items() if process.poll() is not None]:
                    self.runner(task).check_exit(task.stage, running.pop(task).returncode)
                    done[task] = self._identity(task)
                    took = self.runner(task).manifest(task.stage)["seconds"]
                    seconds.setdefault(_kind(task), []).append(took)
                    left = _left(waiting, list(running), seconds) / self.workers
                    count = f"{len(tasks) - len(waiting) - len(running)}/{len(tasks)}"
                    _say(f"[{count}] {task}: {took:.0f} s; at most {left / 60:.0f} min left")

    def _go_on(self, waiting: list[Task], running: dict[Task, subprocess.Popen], done: dict[Task, Any]):
        """Link or start what can be: its inputs are done, and nobody else is at the same thing."""
        known = {key: task for task, key in done.items()}
        busy = {self._identity(task) for task in running}
        for task in list(waiting):
            if not all(upstream in done for upstream in self._inputs(task)):
                continue
            key = self._identity(task)
            if key in known:
                source = known[key]
                self.runner(task).adopt(task.stage, self.runner(source).folder(source.stage))
                done[task] = key
            elif key not in busy and len(running) < self.workers:
                environment = self.plan.environments[task.variant]
                running[task] = self.runner(task).start(task.stage, environment)
                busy.add(key)
            else:
                continue
            waiting.remove(task)

    def _inputs(self, task: Task) -> list[Task]:
        return [task._replace(stage=name) for name in self.runner(task).stages[task.stage].inputs]

    def _identity(self, task: Task) -> tuple[str, str]:
        """Key and environment, which are equal for two tasks that are the same computation."""
        return self.runner(task).key(task.stage), digest(self.plan.environments[task.variant])

    def rows(self) -> Iterator[dict[str, Any]]:
        """A record of every finished evaluation, and of the training that it evaluates."""
        for task, runner in self._finished():
            yield self._row(task, runner)

    def _row(self, task: Task, runner: Runner) -> dict[str, Any]:
        trained = task.stage.removeprefix("eval-")
        evaluation, training = (runner.manifest(name) for name in (task.stage, trained))
        environment = self.plan.environments[task.variant]
        row = {
            "variant": task.variant,
            "profile": self.plan.profile,
            "overrides": _changes(self.plan.variants[task.variant]),
            **({"environment": environment} if environment else {}),
            "pipeline_seed": task.seed,
            "stage": trained,
            "key": training["key"],
            "settings": settings_digest(runner, task.stage),
            "metrics": evaluation["metrics"],
            "command": self._command(task),
            "training_seconds": training["seconds"],
            "training_cpu_seconds": training["cpu_seconds"],
            **{name: training[name] for name in ("commit", "finished", "hardware", "versions")},
        }
        if trained.startswith("rl-"):
            metrics = [m for m in read_metrics(runner.folder(trained)) if "reward" in m]
            names = dict.fromkeys(name for step in metrics for name in step)
            kept = [name for name in names if name in CURVES or name.startswith("think_rate/")]
            row["curves"] = {name: [step.get(name) for step in metrics] for name in kept}
        return _rounded(row)

    def _command(self, task: Task) -> str:
        """The command that runs this variant and records it again, without folders of this machine."""
        name = Path(self.plan.name)
        return f"thinkless sweep --plan {name.name if name.is_absolute() else name} --only '{task.variant}'"

    def pipelines(self) -> Iterator[dict[str, Any]]:
        """The figures of every pipeline whose evaluations are all finished, with where they were made."""
        finished = {task for task, _ in self._finished()}
        for variant, seed in dict.fromkeys(task[:2] for task in self._asked()):
            tasks = [task for task in self.plan.tasks() if task[:2] == (variant, seed)]
            if finished >= set(tasks):
                row = self._row(tasks[-1], self.runner(tasks[-1]))
                where = ("variant", "profile", "overrides", "environment", "pipeline_seed", "command")
                made = ("settings", "commit", "finished", "hardware", "versions")
                kept = {name: row[name] for name in (*where, *made) if name in row}
                yield _rounded({**kept, **pipeline_record(self.runner(tasks[-1]))})

    def questions(self) -> pd.DataFrame:
        """Tabulate what each mode is worth on each question, for evaluations with repeated answers."""
        tables = []
        for task, runner in self._finished():
            if runner.profile.evaluation.samples > 1:
                report = load_report(runner.folder(task.stage) / "answers.jsonl", runner.profile.rl.gamma)
                table = report.by_question().reset_index()
                table.insert(0, "stage", task.stage.removeprefix("eval-"))
                table.insert(0, "pipeline_seed", task.seed)
                tables.append(table)
        return pd.concat(tables) if tables else pd.DataFrame()


def _changes(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides without those that say which runs there are, and how they are measured."""
    return {
        k: v for k, v in overrides.items() if k not in ("rl.arms", "rl.repetitions", "evaluation.samples")
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _kind(task: Task) -> str:
    """The group of tasks that take about as long, for the time estimate."""
    return task.stage.partition("-")[0] + ("-x" if "-x" in task.variant else "")


def _left(waiting: list[Task], running: list[Task], seconds: Mapping[str, list[float]]) -> float:
    """Seconds of work left, if every stage takes as long as its like on average and none can be linked."""
    known = [took for kind in seconds.values() for took in kind]

    def guess(task: Task) -> float:
        like = seconds.get(_kind(task), known)
        return sum(like) / len(like)

    return sum(map(guess, waiting)) + sum(map(guess, running)) / 2


def _say(line: str):
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def record(grid: Grid, folder: Path) -> tuple[int, list[str]]:
    """Write the rows of what is finished; returns how many of them are as they were, and which are not."""
    folder.mkdir(parents=True, exist_ok=True)
    order = {task: number for number, task in enumerate(grid.plan.tasks())}
    before = {_place(row): row for row in (read_records(folder) if (folder / RECORDS).exists() else [])}
    fresh = {_place(row): row for row in grid.rows()}
    rows = {task: row for task, row in {**before, **fresh}.items() if task in order}
    _write_rows(folder / RECORDS, [rows[task] for task in sorted(rows, key=order.__getitem__)])
    if grid.plan.expectations:
        pipelines = [*read_expectations(folder), *grid.pipelines()]
        by_place = {(row["variant"], row["pipeline_seed"]): row for row in pipelines}
        _write_rows(folder / EXPECTATIONS, by_place.values())
    if len(questions := grid.questions()):
        _write_questions(folder / QUESTIONS, questions)
    again = [task for task in fresh if task in before]
    changed = [str(task) for task in again if _result(fresh[task]) != _result(before[task])]
    return len(again) - len(changed), changed


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]):
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write_questions(path: Path, questions: pd.DataFrame):
    """Write the table of questions; those of runs that were not looked at stay as they are."""
    place = ["pipeline_seed", "stage"]
    if path.exists():
        known = read_question_table(path).set_index(place)
        kept = known[~known.index.isin(questions.set_index(place).index)].reset_index()
        questions = pd.concat([kept, questions]).sort_values([*place, "number"])
    write_text(path, questions.to_csv(index=False, lineterminator="\n", float_format="%.9g"))


def _place(row: Mapping[str, Any]) -> Task:
    return Task(row["variant"], row["pipeline_seed"], f"eval-{row['stage']}")


def _result(row: Mapping[str, Any]) -> Any:
    return row["metrics"], row.get("curves")


def sweep(
    plan: str,
    runs_dir: Path,
    results: Path | None = None,
    *,
    only: str = "*",
    workers: int = 1,
    record_only: bool = False,
):
    """Run the grids of a plan (see `read_plan`) under `runs_dir` and record in `results` what they found.

    Raises StageError for an impossible plan, a stage that fails, or a place that cannot be written to.
    """
    if workers < 1:
        raise StageError(f"workers={workers}: expected at least 1")
    grid = Grid(read_plan(plan), runs_dir, workers, only)
    folder = results or grid.plan.results
    if folder is None:
        raise StageError(f"{plan} does not say where its records go: give --results, or the key results")
    try:
        if not record_only:
            grid.run()
        same, changed = record(grid, folder)
    except OSError as error:
        place = error.filename or folder
        raise StageError(
            f"cannot write to {place} ({error.strerror}): choose another, or free some space"
        ) from None
    _say(f"recorded in {folder}: {same} results as before, {len(changed)} changed")
    for row in changed:
        print(f"  changed: {row}")
