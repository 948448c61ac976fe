"""Which Python and which build of torch `environment.sh` takes, and what it refuses before it downloads.

It runs through `make`, in a copy of what it reads, with a path of stubs: what a Python, pip, `nvidia-smi` and
`uname` would say is the outside world. The question that the script asks a Python is run as it stands.

Run: python -m pytest tests/test_environment.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("sh", "make", "dirname", "sed", "grep", "touch")
PIN = re.search(r"^torch==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE).group(1)
CPU, CUDA = f"{PIN}+cpu", PIN
GPU = "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)'"

PYTHON = r'''
"""A stub of CPython `kind` ("3.12", "3.12 without venv", "3.12 of PyPy"): its facts, its venv, its pip."""
import builtins, importlib.metadata, json, os, shutil, sys
from pathlib import Path

me, world, kind, *args = sys.argv[1:]
state = json.loads(Path(world).read_text())
log = Path(world).with_name("log")
version = kind.split()[0]
open_really = open

def note(*words):
    with open_really(log, "a") as file:
        print(*words, file=file)

def open_here(path, *more):
    if str(path).startswith("/sys/fs/cgroup") and not state["container"]:
        raise FileNotFoundError(path)
    return open_really(state["container"] if str(path).startswith("/sys/fs/cgroup") else path, *more)

def torch_version(name):
    return (Path(me).parents[1] / name).read_text()

if args[0] == "-c":
    sys.version_info = (*map(int, version.split(".")), 1)
    sys.implementation.name = "pypy" if "PyPy" in kind else "cpython"
    if "without" in kind:
        sys.modules["ensurepip"] = None
    shutil.disk_usage = lambda _: shutil._ntuple_diskusage(0, 0, state["disk"] * 10**6)
    os.sysconf = lambda name: 1000 if name == "SC_PAGE_SIZE" else state["memory"] * 1000
    importlib.metadata.version = torch_version
    exec(args[1], {"open": open_here})
elif args[:3] == ["-m", "venv", "--clear"]:
    folder = Path(args[3])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    python = folder / "bin" / "python"
    python.write_text(Path(me).read_text().replace(me, str(python.resolve())))
    python.chmod(0o755)
    note("venv", version)
elif args == ["-m", "pip", "--version"]:
    print(f"pip 25.0 from somewhere (python {version})")
elif args[:3] == ["-m", "pip", "install"]:
    note("pip", *args[3:])
    if state["breaks"] and state["breaks"] in " ".join(args):
        sys.exit("ERROR: Connection reset by peer")
    asked = [word.rpartition("=")[2] for word in args if word.startswith("torch=")]
    for torch in asked:
        if torch not in state["builds"]:
            print("WARNING: Location is ignored", file=sys.stderr)
            sys.exit("ERROR: " + state["missing"])
    if "-r" in args or asked:
        (Path(me).parents[1] / "torch").write_text((asked or state["builds"])[0])
else:
    sys.exit(f"no stub of {args}")
'''


class Machine:
    """A checkout and a path, both made of what a test puts there."""

    def __init__(self, folder: Path):
        self.folder, self.path, self.checkout = folder, folder / "bin", folder / "checkout"
        self.path.mkdir()
        self.checkout.mkdir()
        for name in ("Makefile", "environment.sh", "requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout)
        for tool in TOOLS:
            (self.path / tool).symlink_to(shutil.which(tool))
        (folder / "python.py").write_text(PYTHON)
        self.put("uname", "case $1 in -s) echo Linux ;; -m) echo x86_64 ;; esac")
        self.world = {"disk": 100_000, "memory": 8_000, "container": None, "builds": [CPU, CUDA]}
        self.world |= {"breaks": None, "missing": "No matching distribution found for torch"}

    def put(self, name: str, script: str) -> Path:
        path = self.path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def python(self, name: str, kind: str) -> Path:
        """A stub of a Python on the path; `kind` "shim" is there and does not run."""
        if kind == "shim":
            return self.put(name, f"echo 'pyenv: {name}: command not found' >&2; exit 127")
        stub = f"'{sys.executable}' -S -I '{self.folder}/python.py' '{self.path / name}'"
        return self.put(name, f"exec {stub} '{self.folder}/world.json' '{kind}' \"$@\"")

    def make(self, **variables: str) -> subprocess.CompletedProcess:
        (self.folder / "world.json").write_text(json.dumps(self.world))
        command = [str(self.path / "make"), ".venv/ready"]
        command += [f"{name}={value}" for name, value in variables.items()]
        environment = {"PATH": str(self.path), "LC_ALL": "C"}
        return subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True)

    def log(self) -> list[str]:
        """What was done so far: environments made and what pip was called with."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def ready(self) -> bool:
        return (self.checkout / ".venv" / "ready").exists()


@pytest.fixture
def bare(tmp_path):
    """A machine without any Python."""
    return Machine(tmp_path)


@pytest.fixture
def machine(bare):
    bare.python("python3.12", "3.12")
    return bare


def said(result) -> list[str]:
    """The lines of the script itself, without those of make."""
    lines = (result.stdout + result.stderr).splitlines()
    return [line for line in lines if not re.match(r"make|sh environment|touch|Installing in", line)]


def torch_calls(machine) -> list[str]:
    return [line for line in machine.log() if "torch=" in line]


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3.12": "3.12"}, "3.12"),
        ({"python3.13": "3.13"}, "3.13"),
        ({"python3": "3.12"}, "3.12"),
        ({"python": "3.11"}, "3.11"),
        ({"python3.11": "3.11", "python3.13": "3.13", "python3": "3.12"}, "3.11"),
        ({"python3.11": "shim", "python3.12": "shim", "python3.13": "3.13"}, "3.13"),
        ({"python3": "3.10", "python": "3.13"}, "3.13"),
        ({"python3": "3.14", "python3.13": "3.13"}, "3.13"),
        ({"python3": "3.12 of PyPy", "python": "3.13"}, "3.13"),
        ({"python3": "2.7", "python": "3.12"}, "3.12"),
        ({"python3.11": "3.11 without venv", "python3.12": "3.12"}, "3.12"),
    ],
    ids=str,
)
def test_the_first_python_that_will_do_is_taken(bare, pythons, taken):
    for name, kind in pythons.items():
        bare.python(name, kind)
    result = bare.make()
    assert (result.returncode, bare.ready()) == (0, True), result.stderr
    assert bare.log()[0] == f"venv {taken}"


def test_a_python_that_is_named_is_taken(machine):
    machine.python("python3.13", "3.13")
    assert machine.make(PYTHON="python3.13").returncode == 0
    assert machine.log()[0] == "venv 3.13"


def refusal(machine, **variables) -> str:
    """The one line that is said when something is missing, and before anything is done."""
    result = machine.make(**variables)
    assert result.returncode != 0
    assert machine.log() == []
    assert not machine.ready()
    (line,) = said(result)
    return line


def test_no_python(bare):
    for name, kind in {"python3.11": "shim", "python3": "3.10", "python": "3.14"}.items():
        bare.python(name, kind)
    line = refusal(bare)
    assert "No Python 3.11, 3.12 or 3.13" in line
    assert "python3.11 python3.12 python3.13 python3 python" in line


@pytest.mark.parametrize("kind", ["3.10", "shim", None])
def test_a_python_that_is_named_and_will_not_do(machine, kind):
    if kind:
        machine.python("mine", kind)
    assert "(tried: mine)" in refusal(machine, PYTHON="mine")


def test_no_venv(bare):
    bare.python("python3.11", "shim")
    bare.python("python3", "3.13 without venv")
    assert "apt install python3.13-venv" in refusal(bare)


def test_too_little_disk(machine):
    machine.world["disk"] = 3_990
    assert refusal(machine).startswith("4.0 GB of free disk are needed")
    machine.world["disk"] = 4_000
    assert machine.make().returncode == 0


def test_too_little_disk_for_cuda(machine):
    machine.put("nvidia-smi", GPU)
    machine.world["disk"] = 8_900
    assert re.match(r"9\.0 GB of free disk are needed .* there are 8\.9 GB", refusal(machine))


def test_too_little_memory(machine):
    machine.world["memory"] = 2_048
    assert refusal(machine) == "3.5 GB of memory are needed, there are 2.0 GB"


@pytest.mark.parametrize(("limit", "enough"), [("2000000000", False), ("max", True), ("4000000000", True)])
def test_a_container_has_less_memory_than_its_machine(machine, limit, enough):
    path = machine.folder / "memory.max"
    path.write_text(f"{limit}\n")
    machine.world["container"] = str(path)
    if enough:
        assert machine.make().returncode == 0
    else:
        assert refusal(machine).endswith("there are 2.0 GB")


@pytest.mark.parametrize(
    ("system", "processor", "line"),
    [("MINGW64_NT-10.0", "x86_64", "on Windows use WSL"), ("Darwin", "x86_64", "Macs with Intel processors")],
)
def test_other_systems(machine, system, processor, line):
    machine.put("uname", f"case $1 in -s) echo {system} ;; -m) echo {processor} ;; esac")
    assert line in refusal(machine)


def test_a_folder_of_another_kind_is_not_cleared(machine):
    folder = machine.checkout / ".venv"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert "no Python environment" in refusal(machine)
    assert (folder / "thesis.tex").exists()


def test_the_needs_are_those_of_the_readme():
    script, readme = ((ROOT / name).read_text() for name in ("environment.sh", "README.md"))
    needs = {int(need) / 1000 for need in re.findall(r'need_disk (\d+) "\$all', script)}
    assert needs == {4, 9}
    assert all(f"{need:g} GB" in readme for need in (*needs, 3.5))


@pytest.mark.parametrize("driver", [None, "echo 'No devices were found'", "echo 'failed: no driver'; exit 9"])
def test_without_a_gpu_torch_is_the_cpu_build(machine, driver):
    if driver:
        machine.put("nvidia-smi", driver)
    result = machine.make()
    asked, requirements = machine.log()[2:4]
    assert asked.endswith(f"--extra-index-url https://download.pytorch.org/whl/cpu torch=={CPU}")
    assert "--no-deps" in asked
    assert requirements == "pip -qq -r requirements.txt"
    assert said(result) == []


@pytest.mark.parametrize("missing", ["No matching distribution found", "ResolutionImpossible: for help"])
def test_without_a_gpu_and_without_a_cpu_build(machine, missing):
    machine.world |= {"builds": [CUDA], "missing": missing}
    result = machine.make()
    assert (result.returncode, machine.ready()) == (0, True)
    (line,) = said(result)
    assert line.startswith(f"No CPU build of torch {PIN}")
    assert "2.7 GB to download" in line


def test_without_a_cpu_build_cuda_must_fit_on_the_disk(machine):
    machine.world |= {"builds": [CUDA], "disk": 5_000}
    result = machine.make()
    (line,) = said(result)
    assert line.startswith("9.0 GB of free disk are needed")
    assert not any("-r requirements.txt" in call for call in machine.log())
    assert not machine.ready()


def test_a_broken_download_is_not_a_missing_build(machine):
    machine.world["breaks"] = "torch="
    result = machine.make()
    assert said(result) == ["ERROR: Connection reset by peer"]
    assert "torch=" in machine.log()[-1]
    assert not machine.ready()


def test_with_a_gpu_torch_is_the_ordinary_build(machine):
    machine.put("nvidia-smi", GPU)
    assert said(machine.make()) == []
    (asked,) = torch_calls(machine)
    assert asked.endswith(f" torch==={CUDA}")
    assert "download.pytorch.org" not in asked


def test_with_a_gpu_and_without_its_build(machine):
    machine.put("nvidia-smi", GPU)
    machine.world["builds"] = [CPU]
    result = machine.make()
    assert machine.ready()
    (line,) = said(result)
    assert line.startswith("No CUDA build of torch")


def test_a_mac_has_one_build(machine):
    machine.put("uname", "case $1 in -s) echo Darwin ;; -m) echo arm64 ;; esac")
    assert machine.make().returncode == 0
    assert torch_calls(machine) == []


def test_the_build_can_be_named(machine):
    assert machine.make(TORCH="cuda").returncode == 0
    (asked,) = torch_calls(machine)
    assert asked.endswith(f" torch==={CUDA}")


def test_the_version_of_torch_stands_in_one_place(machine):
    path = machine.checkout / "requirements.txt"
    path.write_text(path.read_text().replace(f"torch=={PIN}", "torch==2.99.1   # newer"))
    machine.world["builds"] = ["2.99.1+cpu"]
    assert machine.make().returncode == 0
    (asked,) = torch_calls(machine)
    assert asked.endswith(" torch==2.99.1+cpu")


@pytest.mark.parametrize("step", ["-r requirements.txt", "--editable"])
def test_an_interrupted_installation_is_done_again(machine, step):
    machine.world["breaks"] = step
    assert machine.make().returncode != 0
    assert not machine.ready()
    before = len(machine.log())

    machine.world["breaks"] = None
    assert machine.make().returncode == 0
    assert machine.ready()
    again = machine.log()[before:]
    assert not [line for line in again if "venv" in line or "torch=" in line]  # what is there stays
    assert again[-1] == "pip -qq --no-deps --editable ."


def test_what_is_ready_is_left_alone(machine):
    machine.make()
    before = machine.log()
    assert machine.make().returncode == 0
    assert machine.log() == before


def test_an_environment_stays_with_its_python(machine):
    """A newer or older Python that turned up later is no reason to install everything again."""
    machine.make()
    machine.python("python3.11", "3.11")
    os.utime(machine.checkout / "requirements.txt", (4e9, 4e9))
    assert machine.make().returncode == 0
    assert machine.log().count("venv 3.12") == 1
    assert "venv 3.11" not in machine.log()


@pytest.mark.parametrize("state", ["gone", "shim", "3.10"])
def test_an_environment_without_its_python_is_made_anew(machine, state):
    machine.make()
    python = machine.checkout / ".venv" / "bin" / "python"
    python.unlink()
    if state == "gone":  # what is left of it, a link to nowhere; the mark `ready` is still there
        python.symlink_to("/nowhere/python3.12")
    else:
        shutil.copy(machine.python("old", state), python)
        (machine.checkout / ".venv" / "ready").unlink()
    assert machine.make().returncode == 0
    assert machine.log().count("venv 3.12") == 2


def test_an_environment_of_another_version_than_the_named_is_made_anew(machine):
    machine.make()
    (machine.checkout / ".venv" / "ready").unlink()
    machine.python("python3.13", "3.13")
    assert machine.make(PYTHON="python3.13").returncode == 0
    assert [line for line in machine.log() if line.startswith("venv")] == ["venv 3.12", "venv 3.13"]


def test_this_very_python_would_do(bare):
    """The question to a Python, asked of a real one: it passes, and stops at a choice that does not exist."""
    assert refusal(bare, PYTHON=sys.executable, TORCH="rocm") == "TORCH=rocm: cpu or cuda is expected"
