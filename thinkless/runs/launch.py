"""How one training becomes several processes, on one machine or on several: accelerate's launcher.

On several machines the same command runs on each, on a shared file system, with the variables that
torch and Slurm users know: `MASTER_ADDR` and `MASTER_PORT` of the first machine, and `NODE_RANK` (or
`SLURM_NODEID`), 0 on the first. The first machine keeps the books; the others follow it.
"""

import os
from dataclasses import dataclass

from thinkless.errors import StageError
from thinkless.runs.settings import Launch

SHARDING = {
    # "--multi_gpu" also on CPUs: without it a machine with no GPUs gets one process, silently
    "none": ("--multi_gpu",),
    "fsdp2": (
        *("--use_fsdp", "--fsdp_version", "2", "--fsdp_reshard_after_forward", "true"),
        *("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
        *("--fsdp_state_dict_type", "SHARDED_STATE_DICT"),
        # by default one rank reads the weights and sends them to the others; to the reference model nobody
        # does, and most of it would be zeros
        *("--fsdp_cpu_ram_efficient_loading", "false"),
    ),
}
"""What the launcher is told for each value of `launch.sharding`."""


@dataclass(frozen=True)
class Machine:
    """One of a run's machines."""

    rank: int
    address: str
    """Of the first machine."""
    port: int
    """Of the first machine; 0 is any free one, or two trainings on a machine would take the same."""


def this_machine(machines: int) -> Machine:
    """This machine's place among `machines`, from the environment.

    Raises StageError if there are several and the environment does not say which one this is.
    """
    if machines == 1:
        return Machine(0, "127.0.0.1", 0)
    rank = os.environ.get("NODE_RANK", os.environ.get("SLURM_NODEID", ""))
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "29500")
    if not (rank.isdigit() and int(rank) < machines and address and port.isdigit()):
        raise StageError(
            f"NODE_RANK={rank!r}, MASTER_ADDR={address!r}, MASTER_PORT={port!r}: expected this machine's "
            f"number, 0 to {machines - 1}, and the address and port of machine 0"
        )
    return Machine(int(rank), address, int(port))


def accelerate_launch(launch: Launch) -> list[str]:
    """Arguments after `python` that start this machine's share of a training's processes."""
    machine = this_machine(launch.machines)
    arguments = ["-m", "accelerate.commands.launch", *SHARDING[launch.sharding], "--dynamo_backend", "no"]
    arguments += ["--mixed_precision", {"float32": "no", "bfloat16": "bf16"}[launch.precision]]
    arguments += ["--num_processes", str(launch.processes), "--num_machines", str(launch.machines)]
    if launch.machines > 1:
        arguments += ["--machine_rank", str(machine.rank), "--main_process_ip", machine.address]
    arguments += ["--main_process_port", str(machine.port)]
    return arguments
