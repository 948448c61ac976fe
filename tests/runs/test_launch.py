"""Proves that accelerate is told what the profile says, and that two machines train one model together.

Run: python -m pytest tests/runs/test_launch.py
"""

import json
import os
import subprocess
import sys

import pytest
from servers import free_port

from thinkless.errors import StageError
from thinkless.runs.launch import accelerate_launch, this_machine
from thinkless.runs.metrics import read_metrics
from thinkless.runs.profiles import load_profile
from thinkless.runs.settings import Launch


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "first.example")
    monkeypatch.setenv("MASTER_PORT", "1234")
    monkeypatch.setenv("NODE_RANK", "1")


def option(arguments, name):
    return arguments[arguments.index(name) + 1]


def test_one_machine_needs_no_environment(monkeypatch):
    monkeypatch.delenv("NODE_RANK", raising=False)
    monkeypatch.setenv("MASTER_PORT", "another program's")
    assert this_machine(1).rank == 0
    arguments = accelerate_launch(Launch(processes=4))
    assert (option(arguments, "--num_processes"), option(arguments, "--num_machines")) == ("4", "1")
    assert "--multi_gpu" in arguments
    assert "--main_process_ip" not in arguments
    assert option(arguments, "--main_process_port") == "0"  # any that is free


def test_a_machine_among_several_says_which_it_is(second_of_two):
    arguments = accelerate_launch(Launch(processes=16, machines=2, precision="bfloat16", sharding="fsdp2"))
    expected = {
        "--num_processes": "16",
        "--num_machines": "2",
        "--machine_rank": "1",
        "--main_process_ip": "first.example",
        "--main_process_port": "1234",
        "--mixed_precision": "bf16",
        "--fsdp_version": "2",
    }
    assert {name: option(arguments, name) for name in expected} == expected
    assert "--multi_gpu" not in arguments


def test_slurm_numbers_the_machines(second_of_two, monkeypatch):
    monkeypatch.delenv("NODE_RANK")
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert this_machine(2).rank == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("NODE_RANK", "2"), ("NODE_RANK", "one"), ("MASTER_ADDR", ""), ("MASTER_PORT", "http")],
)
def test_a_machine_that_does_not_know_its_place(second_of_two, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(StageError, match=f"{name}={value!r}") as error:
        this_machine(2)
    assert "0 to 1" in str(error.value)


def test_every_flag_is_one_that_accelerate_knows(second_of_two):
    from accelerate.commands.launch import launch_command_parser

    for sharding in ("none", "fsdp2"):
        _, _, *arguments = accelerate_launch(Launch(processes=2, machines=2, sharding=sharding))
        parsed = launch_command_parser().parse_args([*arguments, "script.py"])
        assert (parsed.num_machines, parsed.machine_rank, parsed.use_fsdp) == (2, 1, sharding == "fsdp2")


@pytest.mark.slow
def test_two_machines_train_what_one_machine_trains(tmp_path):
    """Two runners with a rank each, as on two machines with a shared disk, against one with two ranks."""
    port = free_port()
    overrides = {"base.rows": 320, "launch.processes": 2, "rl.micro_batch": 8}

    def start(machines, rank, folder):
        command = [
            sys.executable,
            "-m",
            "thinkless",
            "stage",
            "base",
            "--profile",
            "smoke",
            "--runs-dir",
            folder,
        ]
        command += ["--overrides", json.dumps({**overrides, "launch.machines": machines})]
        place = {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return subprocess.Popen(command, env={**os.environ, **place}, stderr=subprocess.PIPE, text=True)

    runs = [start(2, rank, tmp_path / "two") for rank in (1, 0)] + [start(1, 0, tmp_path / "one")]
    for run in runs:
        _, error = run.communicate()
        assert run.returncode == 0, error
    losses = []
    for folder in ("one", "two"):
        base = tmp_path / folder / load_profile("smoke").name / "seed0" / "base"
        assert json.loads((base / "manifest.json").read_text())["metrics"]["updates"] == 10
        losses.append([row["loss"] for row in read_metrics(base) if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
