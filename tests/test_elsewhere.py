"""Proves that the recipes' commands are commands of this package, and their scripts are shell scripts.

Run: python -m pytest tests/test_elsewhere.py
"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from thinkless.__main__ import parser
from thinkless.runs.profiles import load_profile

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "elsewhere.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"thinkless (?=plan |train |stage )[a-z0-9 .-]+(?=[`\n]| 2>&1| >>)", PAGE)


def test_every_place_has_its_commands():
    assert len(COMMANDS) >= 7
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_of_ours(command):
    options = parser().parse_args(shlex.split(command)[1:])
    assert load_profile(options.profile).name in ("sanity", "h100x4")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_script_is_one(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_a_container_gets_files_that_are_there():
    lines = (ROOT / ".devcontainer" / "Containerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert len(copied) > 8
    assert all((ROOT / name).exists() for name in copied)
