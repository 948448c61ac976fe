"""Proves that a stage runs once, resumes where it was killed, and never passes off damage as a result.

Run: python -m pytest tests/runs/test_runner.py

The stages here only write small files. Worker processes run this very file as a script.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from datasets import Dataset

from thinkless.__main__ import end_with_owner
from thinkless.files import write_text
from thinkless.runs import runner as stages
from thinkless.runs.profiles import load_profile
from thinkless.runs.runner import ARCHIVE, BEGUN, MANIFEST, Run, Runner, Stage, StageError

SLOW_DISK = 3 * stages.FOLLOWING


def note(run: Run, text: str = ""):
    """One line for every computation: stage, process, threads."""
    with (run.folder.parent / "calls.txt").open("a") as calls:
        calls.write(f"{run.folder.name} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")


def calls(runner: Runner) -> list[list[str]]:
    path = runner.root / "calls.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def computed(runner: Runner) -> list[str]:
    return [name for name, *_ in calls(runner)]


def wait_for(path: Path):
    while not path.exists():
        time.sleep(0.02)


def numbers(run: Run):
    """The same result for every number of RL steps above 5."""
    note(run)
    (run.folder / "numbers.txt").write_text(" ".join(map(str, range(min(run.profile.rl.steps, 5)))))
    return {"seed": run.seed}


def total(run: Run):
    note(run)
    values = (run.inputs["numbers"] / "numbers.txt").read_text().split()
    (run.folder / "deep").mkdir()
    (run.folder / "deep" / "total.txt").write_text(str(sum(map(int, values)) * run.profile.rl.alpha))
    return {}


def patient(run: Run):
    """Half of the work, then the rest once there is a file `go`."""
    note(run)
    resumed = (run.folder / "half").exists()
    (run.folder / "half").touch()
    wait_for(run.folder.parent / "go")
    return {"resumed": resumed}


def fails_halfway(run: Run):
    note(run)
    (run.folder / "half").touch()
    raise RuntimeError("halfway is far enough")


def fails_once_patient_has_begun(run: Run):
    wait_for(run.folder.parent / "patient" / "half")
    print("all is well so far")
    raise RuntimeError("it broke")


def kills_its_process(run: Run):
    note(run)
    (run.folder / "half").touch()
    if not (run.folder.parent / "go").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def prepares(run: Run):
    time.sleep(float(os.environ.get("PREPARING", "0")))
    assert not (run.folder.parent / ".ranks.1.log").exists(), "another machine waits already"
    with (run.folder / "prepared").open("a") as file:
        file.write(f"by {os.environ.get('RANK', 'the launcher')}\n")


def each_rank(run: Run):
    rank = os.environ["RANK"]
    assert (run.folder / "prepared").exists()
    (run.folder / f"rank{rank}").write_text(os.environ["WORLD_SIZE"])
    return {"rank": rank}


def nothing(profile):
    return {}


STAGES = {
    stage.name: stage
    for stage in (
        Stage("numbers", lambda p: {"steps": p.rl.steps}, numbers, outputs=("numbers.txt",)),
        Stage("total", lambda p: {"alpha": p.rl.alpha}, total, ("numbers",), ("deep",)),
        Stage("patient", lambda p: {"alpha": p.rl.alpha}, patient, outputs=("half",)),
        Stage("fails_halfway", lambda p: {"alpha": p.rl.alpha}, fails_halfway),
        Stage("fails", nothing, fails_once_patient_has_begun),
        Stage("killed", nothing, kills_its_process),
        Stage("left", nothing, lambda run: note(run) or {}, ("numbers",)),
        Stage("right", nothing, lambda run: note(run) or {}, ("numbers",)),
        Stage("forgetful", nothing, lambda run: {}, outputs=("model", "metrics.jsonl")),
        Stage("ranks", nothing, each_rank, outputs=("rank0", "rank1"), distributed=True, prepare=prepares),
    )
}


def make(runs_dir, overrides=None, seed=0) -> Runner:
    def command(name):
        return [sys.executable, __file__, name, str(runs_dir), json.dumps(overrides or {})]

    return Runner(STAGES, load_profile("smoke", overrides), seed, runs_dir, command)


def error_of(action, *names) -> str:
    """The message of the StageError that the action raises; always a single line."""
    with pytest.raises(StageError) as error:
        action(*names)
    assert "\n" not in str(error.value)
    return str(error.value)


# Once


def test_a_stage_runs_after_its_inputs_and_says_what_it_did(tmp_path):
    runner = make(tmp_path, {"rl.alpha": 2.0}, seed=3)
    folder = runner.run("total")
    assert folder == tmp_path / "smoke" / "seed3" / "total"
    assert (folder / "deep" / "total.txt").read_text() == "12.0"  # (0 + 1 + 2 + 3) * 2
    assert computed(runner) == ["numbers", "total"]
    manifest = runner.manifest("total")
    assert manifest["settings"] == {"alpha": 2.0}
    assert (manifest["stage"], manifest["profile"], manifest["seed"]) == ("total", "smoke", 3)
    assert list(manifest["files"]) == ["deep/total.txt"]
    assert manifest["inputs"] == {"numbers": runner.manifest("numbers")["key"]}
    assert runner.manifest("numbers")["metrics"] == {"seed": 3}
    assert manifest["versions"].keys() >= {"python", "torch", "trl"}
    assert not (folder / BEGUN).exists()


def test_a_finished_stage_is_skipped(tmp_path):
    make(tmp_path).run("total")
    before = (tmp_path / "smoke/seed0/total" / MANIFEST).stat().st_mtime_ns
    runner = make(tmp_path)
    assert runner.is_done("total")
    runner.run("total")
    assert computed(runner) == ["numbers", "total"]
    assert (tmp_path / "smoke/seed0/total" / MANIFEST).stat().st_mtime_ns == before


def test_seeds_live_apart(tmp_path):
    for seed in (0, 1):
        make(tmp_path, seed=seed).run("numbers")
    assert (
        make(tmp_path, seed=0).manifest("numbers")["key"] != make(tmp_path, seed=1).manifest("numbers")["key"]
    )
    assert make(tmp_path, seed=0).is_done("numbers")


def test_only_stages_whose_settings_changed_run_again(tmp_path):
    make(tmp_path).run("total")
    runner = make(tmp_path, {"rl.alpha": 2.0})  # not a setting of numbers
    assert runner.is_done("numbers")
    assert not runner.is_done("total")
    runner.run("total")
    assert computed(runner) == ["numbers", "total", "total"]
    make(tmp_path, {"rl.alpha": 2.0, "rl.gamma": 0.1}).run("total")  # a setting of neither
    assert computed(runner) == ["numbers", "total", "total"]


def test_a_changed_input_runs_again_what_needs_it(tmp_path):
    make(tmp_path, {"rl.steps": 4}).run("total")
    runner = make(tmp_path, {"rl.steps": 5})
    assert not runner.is_done("total")
    assert (runner.run("total") / "deep" / "total.txt").read_text() == "10.0"
    assert computed(runner) == ["numbers", "total"] * 2


def test_an_input_with_the_same_files_does_not(tmp_path):
    make(tmp_path, {"rl.steps": 6}).run("total")
    runner = make(tmp_path, {"rl.steps": 7})  # numbers has to run, and writes what it wrote before
    runner.run("total")
    assert computed(runner) == ["numbers", "total", "numbers"]


def test_going_back_to_earlier_settings_costs_nothing(tmp_path):
    first = make(tmp_path, {"rl.alpha": 1.0})
    manifest = (first.run("total") / MANIFEST).read_text()
    make(tmp_path, {"rl.alpha": 2.0}).run("total")
    assert len(list((first.root / ARCHIVE).iterdir())) == 1
    assert (first.run("total") / MANIFEST).read_text() == manifest
    assert (first.folder("total") / "deep" / "total.txt").read_text() == "6.0"
    assert make(tmp_path, {"rl.alpha": 2.0}).run("total")
    assert computed(first) == ["numbers", "total", "total"]


# Resuming


def test_a_broken_off_stage_goes_on_in_its_folder(tmp_path):
    runner = make(tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="halfway is far enough"):
            runner.run("fails_halfway")
        folder = runner.folder("fails_halfway")
        assert sorted(path.name for path in folder.iterdir()) == [BEGUN, "half"]
        assert not runner.is_done("fails_halfway")


def test_what_a_library_was_writing_when_it_was_killed_is_gone(tmp_path):
    """`datasets` writes into files such as tmphvi5_ac5 beside its rows, and moves them when they are done."""
    runner = make(tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            runner.run("fails_halfway")
        folder = runner.folder("fails_halfway")
        assert sorted(path.name for path in folder.iterdir()) == [BEGUN, "half"]
        (folder / "tmphvi5_ac5").touch()


def test_half_a_stage_is_put_aside_too_and_comes_back(tmp_path):
    one, two = make(tmp_path, {"rl.alpha": 1.0}), make(tmp_path, {"rl.alpha": 2.0})
    with pytest.raises(RuntimeError):
        one.run("fails_halfway")
    (one.folder("fails_halfway") / "mine").touch()
    with pytest.raises(RuntimeError):
        two.run("fails_halfway")
    assert not (two.folder("fails_halfway") / "mine").exists()
    with pytest.raises(RuntimeError):
        one.run("fails_halfway")
    assert (one.folder("fails_halfway") / "mine").exists()


def test_what_a_folder_of_unknown_origin_holds_is_kept_aside(tmp_path):
    runner = make(tmp_path)
    runner.folder("numbers").mkdir(parents=True)
    (runner.folder("numbers") / "precious").touch()
    runner.run("numbers")
    assert not (runner.folder("numbers") / "precious").exists()
    assert [path.name for path in (runner.root / ARCHIVE).glob("*/precious")] == ["precious"]


# Damage


@pytest.mark.parametrize("text", ["", "{", '{"key": "1', "[]", "null", "\x00\x00", "{}", '{"key": "1"}'])
def test_a_damaged_manifest_names_the_folder_to_delete(text, tmp_path):
    runner = make(tmp_path)
    folder = runner.run("numbers")
    (folder / MANIFEST).write_text(text)
    for action in (runner.run, runner.is_done):
        assert f"delete the folder {folder} to run the stage again" in error_of(action, "numbers")
    assert computed(runner) == ["numbers"]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_beginning_too(text, tmp_path):
    runner = make(tmp_path)
    runner.folder("numbers").mkdir(parents=True)
    (runner.folder("numbers") / BEGUN).write_text(text)
    assert f"delete the folder {runner.folder('numbers')}" in error_of(runner.run, "numbers")


def test_a_beginning_without_its_key_counts_as_unknown(tmp_path):
    runner = make(tmp_path)
    runner.folder("numbers").mkdir(parents=True)
    (runner.folder("numbers") / BEGUN).write_text("{}")
    runner.run("numbers")
    assert len(list((runner.root / ARCHIVE).iterdir())) == 1


def test_a_result_that_is_gone_or_changed_is_named(tmp_path):
    runner = make(tmp_path)
    file = runner.run("total") / "deep" / "total.txt"
    content = file.read_text()
    file.unlink()
    assert f"{file} is gone since stage total wrote it: delete the folder" in error_of(runner.run, "total")
    file.write_text("7.0")
    assert f"{file} changed since stage total wrote it: delete the folder" in error_of(runner.run, "total")
    file.write_text(content)
    assert runner.is_done("total")


def test_a_stage_that_leaves_out_a_result_is_not_done(tmp_path):
    runner = make(tmp_path)
    assert "stage forgetful ended without writing model, metrics.jsonl in" in error_of(
        runner.run, "forgetful"
    )
    assert not runner.is_done("forgetful")


def test_an_unknown_stage_lists_the_known_ones(tmp_path):
    assert "there is no stage 'nubmers': there are numbers, total" in error_of(make(tmp_path).run, "nubmers")


def test_an_unfinished_stage_has_no_manifest(tmp_path):
    assert "stage total has not finished" in error_of(make(tmp_path).manifest, "total")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_runs_dir_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").touch()
    message = error_of(make(tmp_path / place).run, "total")
    assert message.startswith("cannot write to ")
    assert "choose another runs_dir" in message


def writes_text(folder: Path):
    write_text(folder / "result.arrow", "x" * 10_000)


def writes_weights(folder: Path):
    safetensors.torch.save_file({"weight": torch.zeros(10_000)}, folder / "result.arrow")


def writes_optimizer(folder: Path):
    torch.save({"moments": torch.zeros(10_000)}, folder / "result.arrow")


def writes_rows(folder: Path):
    Dataset.from_dict({"text": ["x" * 1000] * 10}).map(dict, cache_file_name=str(folder / "result.arrow"))


@pytest.mark.parametrize("write", [writes_text, writes_weights, writes_optimizer, writes_rows])
def test_a_disk_that_fills_is_one_line_and_what_was_finished_is_kept(write, tmp_path):
    """No file may have more than 5,000 bytes, then it may: the kernel's refusal is that of a full disk."""
    stage = Stage("writes", nothing, lambda run: write(run.folder) or {}, ("numbers",), ("result.arrow",))
    runner = Runner(STAGES | {"writes": stage}, load_profile("smoke"), 0, tmp_path)
    runner.run("numbers")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        message = error_of(runner.run, "writes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message.startswith(f"cannot write to {runner.folder('writes')}")
    assert "free some space; what was finished is kept" in message
    assert runner.is_done("numbers")
    assert not runner.is_done("writes")
    runner.run("writes")
    assert runner.is_done("writes")
    assert computed(runner) == ["numbers"]


# Several processes


def start(runs_dir, name, *flags, overrides="{}"):
    return subprocess.Popen([sys.executable, __file__, name, str(runs_dir), overrides, *flags])


def test_a_finished_folder_of_the_same_key_is_adopted_and_another_put_aside(tmp_path):
    """As two variants of a grid do: the second takes the first one's result and keeps its own old one."""
    first, second = make(tmp_path / "a"), make(tmp_path / "b", {"rl.steps": 3})
    first.run("numbers")
    second.run("numbers")
    second = make(tmp_path / "b")
    assert not second.is_done("numbers")
    second.adopt("numbers", first.folder("numbers"))
    assert second.is_done("numbers")
    assert second.folder("numbers").joinpath("numbers.txt").samefile(first.folder("numbers") / "numbers.txt")
    assert computed(second) == ["numbers"]
    assert len(list((second.root / ARCHIVE).iterdir())) == 1
    second.run("total")
    assert computed(second) == ["numbers", "total"]


@pytest.mark.slow
def test_two_at_once_are_refused_and_a_killed_one_leaves_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LOCK_PATIENCE", 0.1)
    runner = make(tmp_path)
    other = start(tmp_path, "patient")
    wait_for(runner.folder("patient") / "half")
    assert "stage patient is already running in another process" in error_of(runner.run, "patient")
    other.kill()
    other.wait()
    (runner.root / "go").touch()
    runner.run("patient")
    assert runner.manifest("patient")["metrics"] == {"resumed": True}


def test_with_one_worker_everything_runs_here(tmp_path):
    runner, progress = make(tmp_path, {"launch.workers": 1}), []
    runner.run_many(["left", "right"], lambda: progress.append(1))
    assert [(name, int(pid)) for name, pid, _ in calls(runner)] == [
        (name, os.getpid()) for name in ("numbers", "left", "right")
    ]
    assert len(progress) == 2


@pytest.mark.slow
def test_several_workers_are_processes_of_one_thread(tmp_path):
    runner, progress = make(tmp_path, {"launch.workers": 2}), []
    runner.run_many(["left", "right"], lambda: progress.append(1))
    assert all(runner.is_done(name) for name in ("numbers", "left", "right"))
    (first, pid, _), *workers = calls(runner)
    assert (first, int(pid)) == ("numbers", os.getpid())  # what both need, before either
    assert {name for name, *_ in workers} == {"left", "right"}
    assert len({pid, *(pid for _, pid, _ in workers)}) == 3
    assert [threads for *_, threads in workers] == ["1", "1"]
    assert progress
    runner.run_many(["left", "right"])
    assert len(calls(runner)) == 3


@pytest.mark.slow
def test_the_first_failure_stops_the_others_which_can_go_on_later(tmp_path):
    runner = make(tmp_path, {"launch.workers": 2})
    message = error_of(runner.run_many, ["fails", "patient"])
    assert message.startswith("stage fails ended with exit code 1: RuntimeError: it broke (whole log: ")
    assert "all is well so far" in (runner.root / ".fails.log").read_text()
    [[name, pid, _]] = calls(runner)
    assert name == "patient"
    assert not alive(int(pid))
    (runner.root / "go").touch()
    runner.run("patient")
    assert runner.manifest("patient")["metrics"] == {"resumed": True}


@pytest.mark.slow
def test_a_machine_that_follows_lends_its_processes_once(tmp_path):
    """Two runners as on two machines. The first is slow to hash what was trained: the second looks several
    times while begun.json is there and the manifest is not; if it began again, it would wait in vain. The
    first also takes its time to prepare, and torch would not wait for it for long."""
    from servers import free_port  # only here: processes that run this file do not find it

    overrides = {"launch.machines": 2, "launch.processes": 2, "rl.micro_batch": 8}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    place["PREPARING"] = str(2 * stages.FOLLOWING)
    command = [sys.executable, __file__, "ranks", str(tmp_path), json.dumps(overrides)]
    machines = [
        subprocess.Popen([*command, *flags], env={**os.environ, **place, "NODE_RANK": str(rank)})
        for rank, flags in ((0, ["--slow-disk"]), (1, []))
    ]
    with stages.ended_at_exit(dict(enumerate(machines))):
        assert [machine.wait(timeout=120) for machine in machines] == [0, 0]
    folder = tmp_path / "smoke" / "seed0" / "ranks"
    assert [(folder / f"rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    assert (
        folder / "prepared"
    ).read_text() == "by the launcher\n"  # on one machine only, before the other came
    assert json.loads((folder / MANIFEST).read_text())["seconds"] > SLOW_DISK
    logs = [folder.parent / name for name in (".ranks.log", ".ranks.1.log")]
    assert all(log.exists() for log in logs)  # each machine has lent a process


@pytest.mark.slow
def test_a_killed_worker_is_an_error_and_its_folder_stays(tmp_path):
    runner = make(tmp_path, {"launch.workers": 2})
    assert "stage killed ended with exit code -9: no output" in error_of(runner.run_many, ["killed"])
    assert (runner.folder("killed") / "half").exists()
    (runner.root / "go").touch()
    runner.run_many(["killed"])
    assert runner.is_done("killed")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.timeout(120)  # what it takes to fail
def test_workers_end_with_the_run_that_started_them(tmp_path):
    """Without that, a killed run would leave workers that go on writing."""
    owner = start(tmp_path, "patient", "--many", overrides='{"launch.workers": 2}')
    runner = make(tmp_path)
    wait_for(runner.folder("patient") / "half")
    [[_, pid, _]] = calls(runner)
    assert int(pid) != owner.pid
    owner.kill()
    owner.wait()
    while alive(int(pid)):
        time.sleep(0.02)
    assert not runner.is_done("patient")


@pytest.mark.slow
def test_a_stage_on_a_gpu_has_a_process_of_its_own(tmp_path, monkeypatch):
    """It takes what it holds of the GPU's memory with it. The models of the laptop hold next to nothing."""
    from test_profiles import FULL  # only here: processes that run this file do not need it

    runners = [make(tmp_path / "large", FULL), make(tmp_path / "small")]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for runner in runners:
        runner.run("total")
    large, small = ([int(pid) for _, pid, _ in calls(runner)] for runner in runners)
    assert len({os.getpid(), *large}) == 3
    assert small == [os.getpid()] * 2


@pytest.mark.slow
def test_a_distributed_stage_is_launched_as_several_ranks(tmp_path):
    runner = make(tmp_path, {"launch.processes": 2, "rl.micro_batch": 8})
    folder = runner.run("ranks")
    assert [(folder / f"rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    assert runner.manifest("ranks")["metrics"] == {"rank": "0"}
    assert (folder / "prepared").read_text() == "by the launcher\n"  # once, before any of them


def main():
    name, runs_dir, overrides, *flags = sys.argv[1:]
    if "--owned" in flags:
        end_with_owner()
    if "--slow-disk" in flags:
        hashed = stages.digest_files
        stages.digest_files = lambda *place: time.sleep(SLOW_DISK) or hashed(*place)
    runner = make(runs_dir, json.loads(overrides))
    if "--rank" in flags:
        runner.compute(name)
    elif "--many" in flags:
        runner.run_many([name])
    else:
        runner.run(name)


if __name__ == "__main__":
    try:
        main()
    except StageError as error:
        sys.exit(f"error: {error}")
