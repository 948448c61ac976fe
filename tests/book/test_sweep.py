"""Grids of runs: nothing is run twice, a killed grid goes on, and records say what changed.

Run: python -m pytest tests/book/test_sweep.py

Real runs of a profile smaller than smoke, as processes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import SMALLEST

from thinkless.__main__ import main
from thinkless.book import readings
from thinkless.book.expectations import read_expectations
from thinkless.book.grids import Plan, Task, read_plan
from thinkless.book.readings import read_readings
from thinkless.book.results import read_records
from thinkless.book.sweep import Grid, record, settings_digest
from thinkless.errors import StageError
from thinkless.evaluation import load_report
from thinkless.pipeline import pipeline
from thinkless.problems import chain
from thinkless.runs.provenance import RESULTS
from thinkless.runs.runner import MANIFEST

PLAN = {
    "profile": "smoke",
    "expectations": True,
    "readings": ["sft", "rl-degrpo-0"],
    "grids": {
        "questions": {
            "pipeline_seeds": 1,
            "repetitions": 1,
            "arms": ["degrpo"],
            "variants": {"as it is": {"evaluation.samples": 2}},
        },
        "alpha": {
            "repetitions": 1,
            "arms": ["degrpo"],
            "variants": {"as it is": {}, "alpha 2": {"rl.alpha": 2.0}},
        },
        "again": {"repetitions": 1, "arms": ["grpo"], "variants": {"as it is": {}}},
    },
}
MINE = ["--plan", "plan.yaml", "--results", "results"]


@pytest.mark.parametrize("name", ["evidence", "arithmetic", "pocket"])
def test_the_packages_plans_are_possible(name):
    """Every variant is a profile, and every task one of its stages."""
    plan = read_plan(name)
    grid = Grid(plan, Path("nowhere"), 1)
    tasks = plan.tasks()
    assert len(set(tasks)) == len(tasks)
    for task in tasks:
        assert task.stage in grid.runner(task).stages
    assert set(plan.variants) == {task.variant for task in tasks}


def test_recorded_pipelines_have_todays_settings():
    """The ranges that chapters compare with are of the profile as it is now, or they are worth nothing."""
    grid = Grid(read_plan("arithmetic"), Path("nowhere"), 1)
    for row in read_expectations():
        place = row["variant"], row["pipeline_seed"]
        last = [task for task in grid.plan.tasks() if task[:2] == place][-1]
        assert row["settings"] == settings_digest(grid.runner(last), last.stage), place


def test_a_variant_has_the_arms_and_seeds_of_all_its_grids():
    plan = Plan(**PLAN)
    assert plan.variants["as-it-is"] == {"rl.arms": ["degrpo", "grpo"], "rl.repetitions": 1}
    assert plan.variants["as-it-is-x2"]["evaluation.samples"] == 2
    assert [str(task) for task in plan.tasks()] == [
        "as-it-is-x2, seed 0, eval-sft",
        "as-it-is-x2, seed 0, eval-rl-degrpo-0",
        "as-it-is, seed 0, eval-sft",
        "as-it-is, seed 0, eval-rl-degrpo-0",
        "alpha-2, seed 0, eval-sft",
        "alpha-2, seed 0, eval-rl-degrpo-0",
        "as-it-is, seed 0, eval-rl-grpo-0",
    ]


@pytest.mark.parametrize("readings", [["rl-grpo-0"], "sft"])
def test_readings_are_of_the_first_variants_stages(readings):
    with pytest.raises(StageError, match=r"readings names .*: expected some of rl-degrpo-0, sft"):
        Plan(**{**PLAN, "readings": readings})


def test_what_is_read_is_tabled_and_one_variant_only():
    alpha = {"alpha": PLAN["grids"]["alpha"]}
    plan = Plan(**{**PLAN, "grids": alpha, "readings": ["rl-degrpo-0"]})
    assert [str(task) for task in filter(plan.tabled, plan.tasks())] == ["as-it-is, seed 0, eval-rl-degrpo-0"]
    assert not list(filter(Plan("smoke", alpha).tabled, plan.tasks()))
    with pytest.raises(StageError, match="one variant only, not for as-it-is and as-it-is-x2"):
        Plan("smoke", alpha | {"questions": PLAN["grids"]["questions"]}, readings=["sft"])


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The plan as a file, run by a process that is killed when something is under way, then to its end."""
    folder = tmp_path_factory.mktemp("evidence")
    profile = folder / "smallest.yaml"
    profile.write_text(yaml.safe_dump({"extends": "smoke", **SMALLEST}))
    (folder / "plan.yaml").write_text(yaml.safe_dump({**PLAN, "profile": str(profile)}, sort_keys=False))
    command = [sys.executable, "-m", "thinkless", "sweep", "--workers", "2", *MINE]
    first = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    runs = folder / "runs" / "evidence"
    while not list(runs.glob("*/smallest/seed0/rl-degrpo-0/begun.json")):
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (folder / "results").exists()
    second = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return folder, second.stdout


@pytest.mark.slow
def test_a_killed_grid_goes_on(grid):
    """The second call begins with what the first had finished, and counts to the end."""
    folder, output = grid
    first, *_, last = output.splitlines()
    done = int(first.split()[1])
    assert 0 < done < 20
    assert "of 20 stages are done" in first
    assert last.endswith("recorded in results: 0 results as before, 0 changed")
    rows = read_records(folder / "results")
    assert [(row["variant"], row["stage"]) for row in rows] == [
        ("as-it-is-x2", "sft"),
        ("as-it-is-x2", "rl-degrpo-0"),
        ("as-it-is", "sft"),
        ("as-it-is", "rl-degrpo-0"),
        ("alpha-2", "sft"),
        ("alpha-2", "rl-degrpo-0"),
        ("as-it-is", "rl-grpo-0"),
    ]
    assert rows[5]["overrides"] == {"rl.alpha": 2.0}
    steps = len(rows[5]["curves"]["think_rate"])
    assert steps == read_grid(folder).runner(Task("alpha-2", 0, "sft")).profile.rl.steps


def read_grid(folder, only="*"):
    return Grid(read_plan(folder / "plan.yaml"), folder / "runs" / "evidence", 2, only)


def test_a_variant_with_an_environment_is_another_computation(tmp_path):
    """Same key, other arithmetic: it is not linked, and its processes see the variables."""
    variants = {"as it is": {}, "oldest": {"environment": {"MKL_CBWR": "COMPATIBLE"}}}
    common = {"repetitions": 1, "arms": ["degrpo"]}
    plan = Plan(profile="smoke", grids={"one": {**common, "variants": variants}})
    assert "environment" not in plan.variants["oldest"]
    grid = Grid(plan, tmp_path, 2)
    here, other = Task("as-it-is", 0, "base"), Task("oldest", 0, "base")
    assert grid.runner(here).key("base") == grid.runner(other).key("base")
    started = []
    for task in (here, other):
        grid.runner(task).start = lambda name, environment: started.append(environment)
    grid._go_on([other], {}, {here: grid._identity(here)})
    assert started == [{"MKL_CBWR": "COMPATIBLE"}]
    with pytest.raises(StageError, match="two variants are called 'oldest': they have different env"):
        Plan(
            profile="smoke",
            grids={
                "one": {**common, "variants": variants},
                "two": {**common, "variants": {"oldest": {}}},
            },
        )


@pytest.mark.slow
def test_figures_of_whole_pipelines_are_recorded(grid):
    """Two of the three pipelines have one arm only, and so no lead; a row knows where it was made."""
    folder, _ = grid
    rows = read_expectations(folder / "results")
    assert [row["variant"] for row in rows] == ["as-it-is-x2", "as-it-is", "alpha-2"]
    assert ["degrpo_lead" in row["values"] for row in rows] == [False, True, False]
    assert all({"settings", "commit", "command"} <= row.keys() for row in rows)
    assert rows[0]["counts"] == {"level": 4, "all": 12, "pairs": 32}
    assert all(0 <= row["values"]["think_accuracy"] <= 1 for row in rows)
    assert rows[2]["command"].startswith("thinkless sweep --plan plan.yaml --only")


@pytest.mark.slow
def test_readings_end_where_the_evaluation_began(grid, monkeypatch):
    """P(think) after the last word is the evaluation's, and a model that is the same is not read again."""
    folder, _ = grid
    rows = read_readings(folder / "results")
    assert [(row["stage"], row["level"]) for row in rows] == [
        (stage, level) for stage in ("sft", "rl-degrpo-0") for level in (1, 2, 3) for _ in range(4)
    ]
    runner = read_grid(folder).runner(Task("as-it-is-x2", 0, "sft"))
    answers = load_report(runner.folder("eval-sft") / "answers.jsonl", 0.5).answers.set_index("number")
    for row in rows[:12]:
        own = answers.loc[row["number"]]
        assert len(row["think_probability"]) == len(row["question"].split())
        assert row["think_probability"][-1] == pytest.approx(own["think_probability"].iloc[0], abs=1e-4)
        assert row["answers"]["short"]["text"] == own["text"][own["setting"] == "short"].iloc[0]
        assert (
            row["answer"]
            == chain.solve(chain.what_matters(row["question"].strip(":=")))[-1].rpartition("=")[2]
        )

    monkeypatch.setattr(readings, "open_generator", None)
    readings.record_readings(runner, ["sft"], folder / "results")
    assert read_readings(folder / "results") == rows[:12]
    again = [{**row, "key": "of another model"} for row in rows]
    (folder / "results" / "readings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in again))
    with pytest.raises(TypeError):  # when the model would be opened
        readings.record_readings(runner, ["sft"], folder / "results")


@pytest.mark.slow
def test_what_is_the_same_is_run_once(grid):
    folder, _ = grid
    runs = folder / "runs" / "evidence"

    def seed0(variant):
        return runs / variant / "smallest" / "seed0"

    for stage in ("base", "distill", "sft", "eval-sft"):
        one, other = (seed0(variant) / stage / MANIFEST for variant in ("as-it-is", "alpha-2"))
        assert one.samefile(other)
    one, other = (seed0(v) / "rl-degrpo-0" / MANIFEST for v in ("as-it-is", "as-it-is-x2"))
    assert one.samefile(other)
    keys = [
        json.loads((seed0(v) / "rl-degrpo-0" / MANIFEST).read_text())["key"] for v in ("as-it-is", "alpha-2")
    ]
    assert keys[0] != keys[1]


@pytest.mark.slow
def test_what_another_variant_has_is_not_run_again(grid, monkeypatch):
    """Also if that other variant was not asked for."""
    folder, _ = grid
    again = read_grid(folder, "alpha-2")
    runs = folder / "runs" / "evidence"
    (runs / "alpha-2").rename(runs / "aside")
    monkeypatch.setattr(again.runner(Task("alpha-2", 0, "sft")), "start", None)
    with pytest.raises(TypeError):  # when RL, which nobody else has, would start
        again.run()
    assert sorted(p.name for p in (runs / "alpha-2" / "smallest" / "seed0").glob("*/")) == [
        "base",
        "distill",
        "eval-sft",
        "sft",
    ]
    shutil.rmtree(runs / "alpha-2")
    (runs / "aside").rename(runs / "alpha-2")


@pytest.mark.slow
def test_a_finished_grid_runs_nothing_and_finds_its_records_as_they_were(grid, capsys, monkeypatch):
    folder, _ = grid
    monkeypatch.chdir(folder)
    monkeypatch.setattr("subprocess.Popen", None)
    before = (folder / "results" / "evidence.jsonl").read_text()
    assert main(["sweep", *MINE]) == 0
    output = capsys.readouterr().out
    assert "20 of 20 stages are done" in output
    assert "7 results as before, 0 changed" in output
    assert (folder / "results" / "evidence.jsonl").read_text() == before


@pytest.mark.slow
def test_a_result_that_differs_is_named_and_others_stay(grid, tmp_path):
    folder, _ = grid
    rows = read_records(folder / "results")
    rows[5]["metrics"]["accuracy"] += 0.01  # alpha 2 after RL
    rows[3]["metrics"]["accuracy"] += 0.01  # as it is: not looked at
    rows.append({**rows[0], "variant": "gone"})
    (tmp_path / "evidence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    same, changed = record(read_grid(folder, "alpha*"), tmp_path)
    assert (same, changed) == (1, ["alpha-2, seed 0, eval-rl-degrpo-0"])
    after = read_records(tmp_path)
    assert len(after) == 7
    assert after[3] == rows[3]
    assert after[5] == read_records(folder / "results")[5]


@pytest.mark.slow
def test_questions_of_other_runs_stay(grid, tmp_path):
    folder, _ = grid
    table = pd.read_csv(folder / "results" / "evidence_questions.csv")
    others = table.assign(pipeline_seed=7)
    pd.concat([table.assign(probability=0.5), others]).to_csv(
        tmp_path / "evidence_questions.csv", index=False
    )
    record(read_grid(folder, "alpha*"), tmp_path)
    assert len(pd.read_csv(tmp_path / "evidence_questions.csv")) == 2 * len(table)
    record(read_grid(folder), tmp_path)
    after = pd.read_csv(tmp_path / "evidence_questions.csv")
    assert len(after) == 2 * len(table)
    assert after[after["pipeline_seed"] == 0]["probability"].tolist() == table["probability"].tolist()


@pytest.mark.slow
def test_a_curve_that_begins_late_is_recorded(grid, monkeypatch):
    folder, _ = grid
    mine = read_grid(folder)
    rows = [{"reward": 0.0}, {"reward": 0.5, "think_rate/level2": 1.0}]
    monkeypatch.setattr("thinkless.book.sweep.read_metrics", lambda folder: rows)
    row = next(row for row in mine.rows() if row["stage"] == "rl-degrpo-0")
    assert row["curves"] == {"reward": [0.0, 0.5], "think_rate/level2": [None, 1.0]}


@pytest.mark.parametrize("row", ["{}", "[]", "3", '{"variant": "a"}'])
def test_a_line_that_is_no_record_is_damage(row, tmp_path):
    (tmp_path / "evidence.jsonl").write_text(row + "\n")
    with pytest.raises(StageError, match="cannot be read"):
        read_records(tmp_path)


def test_one_variant_at_most_is_asked_again_and_again():
    variants = {"a": {"evaluation.samples": 2}, "b": {"evaluation.samples": 2, "rl.alpha": 2.0}}
    with pytest.raises(StageError, match="one variant only, not for a-x2 and b-x2"):
        Plan("smoke", {"grid": {"arms": ["degrpo"], "variants": variants}})


def test_two_meanings_of_one_name_are_refused():
    once, again = ({"arms": ["degrpo"], "variants": {"same": {"rl.alpha": a}}} for a in (1, 2))
    with pytest.raises(StageError, match="two variants are called 'same'"):
        Plan("smoke", {"a": once, "b": again})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "alpa*"], "no variant matches 'alpa*': there are as-it-is, "),
        (["--plan", "absent.yaml"], "absent.yaml is no plan such as evidence or arithmetic: FileNotFound"),
        (["--plan", "text.yaml"], "text.yaml is no plan"),
        (["--plan", "number.yaml"], "number.yaml is no plan"),
        (["--plan", "typo.yaml", "--results", "mine"], "did you mean 'rl.alpha'?"),
        (["--plan", "typo.yaml"], "typo.yaml does not say where its records go: give --results"),
        (["--runs-dir", "text.yaml/below"], "cannot use text.yaml/below"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("text.yaml").write_text("grids: [alpha]")
    typo = {"arms": ["degrpo"], "variants": {"typo": {"rl.alfa": 1}}}
    Path("typo.yaml").write_text(yaml.safe_dump({"profile": "smoke", "grids": {"typo": typo}}))
    number = {"arms": ["degrpo"], "pipeline_seeds": "3", "variants": {"typo": {}}}
    Path("number.yaml").write_text(yaml.safe_dump({"profile": "smoke", "grids": {"number": number}}))
    assert main(["sweep", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("results").exists()


recorded_plans = pytest.mark.parametrize(
    ("name", "folder"), [("evidence", RESULTS), ("pocket", RESULTS / "pocket")]
)


@recorded_plans
def test_the_committed_records_are_of_todays_settings(name, folder):
    """Whoever changes a profile has to run `make evidence` or `make pocket` again."""
    grid = Grid(read_plan(name), Path("nowhere"), 1)
    for row in read_records(folder):
        task = Task(row["variant"], row["pipeline_seed"], f"eval-{row['stage']}")
        assert row["settings"] == settings_digest(grid.runner(task), task.stage), str(task)


@recorded_plans
def test_every_run_of_the_plan_is_recorded(name, folder):
    """The chapters draw all of them; a variant that is added has to be run."""
    places = [(row["variant"], row["pipeline_seed"], f"eval-{row['stage']}") for row in read_records(folder)]
    assert places == [tuple(task) for task in read_plan(name).tasks()]


def test_the_settings_of_a_record_hold_those_of_earlier_stages():
    def of(overrides):
        return settings_digest(pipeline("smoke", 0, overrides, Path("nowhere")), "eval-rl-degrpo-0")

    assert of({}) == of({"rl.arms": ["degrpo"], "rl.repetitions": 1})
    assert len({of({}), of({"base.rows": 9}), of({"rl.alpha": 2.0}), of({"evaluation.samples": 2})}) == 4


@pytest.mark.slow
def test_the_table_of_questions(grid):
    folder, _ = grid
    table = pd.read_csv(folder / "results" / "evidence_questions.csv")
    assert set(table["stage"]) == {"sft", "rl-degrpo-0"}
    profile = read_grid(folder).runner(Task("as-it-is-x2", 0, "sft")).profile
    assert len(table) == 2 * profile.problems.levels * profile.problems.held_out_per_level
    assert table["probability"].between(0, 1).all()
    assert set(table["accuracy_short"]) <= {0.0, 0.5, 1.0}


@pytest.mark.slow
def test_a_stage_that_fails_is_named_and_the_rest_is_kept(grid, tmp_path, capsys):
    profile = read_grid(grid[0]).plan.profile
    plan = {"profile": profile, "grids": {"bad": {**PLAN["grids"]["again"], "variants": {"bad": {}}}}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    blocked = tmp_path / "runs" / "bad" / "smallest" / "seed0"
    blocked.mkdir(parents=True)
    (blocked / ".distill.lock").mkdir()
    folders = ["--runs-dir", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert main(["sweep", "--plan", str(tmp_path / "plan.yaml"), *folders]) == 1
    assert "stage distill ended with exit code 1" in capsys.readouterr().err
    assert (blocked / "base" / MANIFEST).exists()
