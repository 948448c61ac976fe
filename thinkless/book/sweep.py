"""Grids of runs: ``thinkless sweep``, and the records that the chapters draw from.

`evidence.yaml` says which runs there are. Every variant of the profile has a folder of its own under
``runs/evidence/``, with a pipeline like any other. A stage that another variant has already computed, from
the same settings, seed and inputs, is linked and not run again. Kill it anywhere and call it again.

Each finished evaluation becomes one row of `results/evidence.jsonl`, in the order of the grids; rows of the
records that this call has not computed stay as they are.
"""

import fnmatch
import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from thinkless.book.expectations import EXPECTATIONS, read_expectations
from thinkless.book.grids import Plan, Task, changes_of, read_plan
from thinkless.book.results import QUESTIONS, RECORDS, read_question_table, read_records
from thinkless.book.statistics import pipeline_record
from thinkless.errors import StageError
from thinkless.evaluation import load_report
from thinkless.files import digest, write_json_lines, write_text
from thinkless.pipeline import pipeline
from thinkless.runs.metrics import read_metrics
from thinkless.runs.runner import Runner, ended_at_exit

CURVES = ("think_rate", "reward", "correct", "length", "control_share")
"""Metrics of RL that a record keeps step by step, with those by level of the first."""


def settings_digest(runner: Runner, stage: str) -> str:
    """The settings that a stage and all stages before it depend on, as a hash."""
    upstream = [settings_digest(runner, name) for name in runner.stages[stage].inputs]
    return digest([stage, runner.stages[stage].settings(runner.profile), *upstream])


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
        variant, seed = place = task[:2]
        if place not in self.runners:
            overrides = self.plan.variants[variant]
            self.runners[place] = pipeline(self.plan.profile, seed, overrides, self.folder / variant)
        return self.runners[place]

    def tasks(self, evaluations: Iterable[Task] | None = None) -> list[Task]:
        """All that has to be done for these evaluations, or for those asked for; inputs come first."""
        found: dict[Task, None] = {}
        for task in self._asked() if evaluations is None else evaluations:
            found |= dict.fromkeys([*self.tasks(self._inputs(task)), task])
        return list(found)

    def _asked(self) -> list[Task]:
        """The evaluations of the variants to run. Raises StageError if no variant matches."""
        found = [task for task in self.plan.tasks() if fnmatch.fnmatch(task.variant, self.only)]
        if not found:
            raise StageError(f"no variant matches {self.only!r}: there are {', '.join(self.plan.variants)}")
        return found

    def _finished(self) -> list[Task]:
        return [task for task in self._asked() if self.runner(task).is_done(task.stage)]

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
        took: dict[str, list[float]] = defaultdict(list)
        _say(f"{len(tasks) - len(waiting)} of {len(tasks)} stages are done")
        with ended_at_exit(running):
            while waiting or running:
                if len(running) < self.workers:
                    self._go_on(waiting, running, done)
                time.sleep(0.5)
                for task in [task for task, process in running.items() if process.poll() is not None]:
                    self.runner(task).check_exit(task.stage, running.pop(task).returncode)
                    done[task] = self._identity(task)
                    took[_kind(task)].append(self.runner(task).manifest(task.stage)["seconds"])
                    left = [*waiting, *running]
                    minutes = sum(_guess(other, took) for other in left) / self.workers / 60
                    count = f"{len(tasks) - len(left)}/{len(tasks)}"
                    _say(f"[{count}] {task}: {took[_kind(task)][-1]:.0f} s; at most {minutes:.0f} min left")

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
        return map(self._row, self._finished())

    def _row(self, task: Task) -> dict[str, Any]:
        trained, runner = task.stage.removeprefix("eval-"), self.runner(task)
        evaluation, training = (runner.manifest(name) for name in (task.stage, trained))
        environment = self.plan.environments[task.variant]
        row = {
            "variant": task.variant,
            "profile": self.plan.profile,
            "overrides": changes_of(self.plan.variants[task.variant]),
            **({"environment": environment} if environment else {}),
            "pipeline_seed": task.seed,
            "stage": trained,
            "key": training["key"],
            "settings": settings_digest(runner, task.stage),
            "metrics": evaluation["metrics"],
            "command": self._command(task),
            "training_seconds": training["seconds"],
            "training_cpu_seconds": training["cpu_seconds"],
            "training_memory_mib": training["peak_memory_mib"],
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
        finished = set(self._finished())
        where = ("variant", "profile", "overrides", "environment", "pipeline_seed", "command")
        made = ("settings", "commit", "finished", "hardware", "versions")
        for place in dict.fromkeys(task[:2] for task in self._asked()):
            tasks = [task for task in self.plan.tasks() if task[:2] == place]
            if finished.issuperset(tasks):
                row = self._row(tasks[-1])
                kept = {name: row[name] for name in (*where, *made) if name in row}
                yield _rounded({**kept, **pipeline_record(self.runner(tasks[-1]))})

    def questions(self) -> pd.DataFrame:
        """Tabulate what each mode is worth on each question, for evaluations that are `tabled`."""
        tables = []
        for task in filter(self.plan.tabled, self._finished()):
            profile, folder = self.runner(task).profile, self.runner(task).folder(task.stage)
            report = load_report(folder / "answers.jsonl", profile.rl.gamma)
            table = report.by_question().reset_index()
            table.insert(0, "stage", task.stage.removeprefix("eval-"))
            table.insert(0, "pipeline_seed", task.seed)
            tables.append(table)
        return pd.concat(tables) if tables else pd.DataFrame()


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """The row as its file will have it, with floats to five digits."""
    return json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 5))


def _kind(task: Task) -> str:
    """The group of tasks that take about as long, for the time estimate."""
    return task.stage.partition("-")[0] + ("-x" if "-x" in task.variant else "")


def _guess(task: Task, took: Mapping[str, list[float]]) -> float:
    """Seconds that a task takes if it is like its like, and not linked."""
    return fmean(took.get(_kind(task)) or chain.from_iterable(took.values()))


def _say(line: str):
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def record(grid: Grid, folder: Path) -> tuple[int, list[str]]:
    """Write the rows of what is finished; returns how many of them are as they were, and which are not."""
    folder.mkdir(parents=True, exist_ok=True)
    before = {_place(row): row for row in (read_records(folder) if (folder / RECORDS).exists() else [])}
    fresh = {_place(row): row for row in grid.rows()}
    rows = before | fresh
    write_json_lines(folder / RECORDS, [rows[task] for task in grid.plan.tasks() if task in rows])
    if grid.plan.expectations:
        pipelines = [*read_expectations(folder), *grid.pipelines()]
        by_place = {(row["variant"], row["pipeline_seed"]): row for row in pipelines}
        write_json_lines(folder / EXPECTATIONS, by_place.values())
    if len(questions := grid.questions()):
        _write_questions(folder / QUESTIONS, questions)
    if grid.plan.readings:
        from thinkless.book.readings import record_readings  # needs a model: seconds of imports

        first, *_ = grid.plan.tasks()
        record_readings(grid.runner(first), grid.plan.readings, folder)
    again = [task for task in fresh if task in before]
    changed = [str(task) for task in again if _result(fresh[task]) != _result(before[task])]
    return len(again) - len(changed), changed


def _write_questions(path: Path, questions: pd.DataFrame):
    """Write the table of questions; those of runs that were not looked at stay as they are."""
    place = ["pipeline_seed", "stage"]
    if path.exists():
        known = read_question_table(path).set_index(place)
        kept = known.drop(questions.set_index(place).index, errors="ignore").reset_index()
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

    Raises StageError for an impossible plan or a stage that fails, OSError if it cannot write.
    """
    if workers < 1:
        raise StageError(f"workers={workers}: expected at least 1")
    grid = Grid(read_plan(plan), runs_dir, workers, only)
    folder = results or grid.plan.results
    if folder is None:
        raise StageError(f"{plan} does not say where its records go: give --results, or the key results")
    if not record_only:
        grid.run()
    same, changed = record(grid, folder)
    _say(f"recorded in {folder}: {same} results as before, {len(changed)} changed")
    for row in changed:
        print(f"  changed: {row}")
