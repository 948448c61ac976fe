"""What can be known to fail before a GPU is rented: impossible settings, and configurations refused by
the libraries that will get them. Those are built here for real, not described."""

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.launch import launch_command_parser

from thinkless.planning.hardware import GB, GPU, PlanError, Shape
from thinkless.planning.memory import vllm_room, vllm_weights
from thinkless.planning.workload import Assumptions, limit
from thinkless.runs.launch import SHARDING
from thinkless.runs.settings import Profile
from thinkless.trainer import DeGRPOConfig
from thinkless.training import rl_config, sft_config

Check = tuple[str, str]
"""What was checked, and how it came out."""


def check(profile: Profile, shape: Shape, gpu: GPU | None, assumptions: Assumptions) -> list[Check]:
    """Every check of a profile. Raises PlanError, naming the setting, at the first that fails."""
    done = _context(profile, shape, assumptions)
    trainers, rl = _trainers(profile)
    positions = rl.vllm_max_model_length or shape.context
    return [
        *done,
        *_vllm_memory(profile, shape, gpu, positions),
        *trainers,
        *_launcher(profile),
        *_vllm_arguments(profile, assumptions),
        *_not_installed(profile),
    ]


def _context(profile: Profile, shape: Shape, a: Assumptions) -> list[Check]:
    """Prompt and answer fit into the model's positions."""
    for section in ("distill", "rl", "evaluation"):
        total = limit(profile, section) + a.longest_prompt
        if total > shape.context:
            raise PlanError(
                f"{section}.max_tokens={limit(profile, section)}: with a prompt of {a.longest_prompt} tokens "
                f"that is {total}, but {shape.name} was made for {shape.context} (max_position_embeddings)"
            )
    return [("prompt + answer within the model's context", f"{shape.context:,} tokens")]


def _vllm_memory(profile: Profile, shape: Shape, gpu: GPU | None, positions: int) -> list[Check]:
    """vLLM beside the training: its weights, and the cache of one sequence of `positions` tokens, without
    which it does not start."""
    if gpu is None or profile.rl.engine != "vllm":
        return []
    share, room = profile.rl.vllm_memory, vllm_room(shape, gpu.memory, profile.rl.vllm_memory)
    given = f"rl.vllm_memory={share}: {share * gpu.memory / GB:.1f} GB of a {gpu.name}"
    if room <= 0:
        raise PlanError(
            f"{given} do not hold the {vllm_weights(shape) / GB:.1f} GB of weights and vLLM's own needs"
        )
    longest = shape.kv_bytes() * positions
    if longest > room:
        raise PlanError(
            f"{given} leave {room / GB:.2f} GB for keys and values, but a sequence of vllm_max_model_length="
            f"{positions} tokens takes {longest / GB:.2f} GB, and vLLM starts only if it could hold one"
        )
    return [("vLLM holds its weights and one sequence", f"{positions:,} tokens in {room / GB:.1f} GB")]


def _trainers(profile: Profile) -> tuple[list[Check], DeGRPOConfig]:
    """TRL's configurations, as one process that takes all micro-batches: a batch over all processes is
    what TRL checks, and here there is one process. Returns the last of RL too."""
    launch = profile.launch.model_copy(update={"processes": 1, "machines": 1})
    done: list[Check] = []
    with TemporaryDirectory() as folder:
        for section in ("base", "sft"):
            if (settings := getattr(profile, section)) is not None:
                args = _built(section, sft_config, settings, launch, Path(folder), seed=0)
                batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
                done.append((f"trl.SFTConfig for {section}", f"{batch} rows an update"))
        for arm in profile.rl.arms:
            tokens = limit(profile, "rl")
            args = _built("rl", rl_config, arm, profile.rl, launch, Path(folder), max_tokens=tokens, seed=0)
            rollout = f"{args.generation_batch_size} completions a rollout, groups of {args.num_generations}"
            done.append((f"DeGRPOConfig (trl.GRPOConfig) for {arm}", rollout))
    if profile.launch.processes > 1:
        done.append(("  changed to build them here", f"launch.processes={profile.launch.processes} -> 1"))
    if args.use_cpu:
        done.append(("  changed to build them here", "use_cpu=True, dataloader_pin_memory=False"))
    return done, args


def _built(section: str, build: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return build(*arguments, **named)
    except (ValueError, TypeError, ImportError) as error:
        raise PlanError(f"section {section}: {' '.join(str(error).split())}") from None


def _launcher(profile: Profile) -> list[Check]:
    """Accelerate's own parser reads the arguments that `launching.accelerate_launch` gives it."""
    launch = profile.launch
    if launch.processes == 1:
        return []
    flags = [*SHARDING[launch.sharding], "--num_processes", str(launch.processes)]
    flags += ["--num_machines", str(launch.machines)]
    try:
        with redirect_stderr(StringIO()):
            launch_command_parser().parse_args([*flags, "script.py"])
    except SystemExit:
        raise PlanError(
            f"launch.sharding={launch.sharding!r}: accelerate refuses {' '.join(flags)}"
        ) from None
    done = [("accelerate launch reads its arguments", " ".join(flags))]
    if launch.sharding == "fsdp2":
        _built("launch", FullyShardedDataParallelPlugin, fsdp_version=2, reshard_after_forward=True)
        done.append(
            ("accelerate.FullyShardedDataParallelPlugin", "fsdp_version=2, reshard_after_forward=True")
        )
    return done


def _vllm_arguments(profile: Profile, a: Assumptions) -> list[Check]:
    if "vllm" not in (profile.rl.engine, profile.evaluation.engine):
        return []
    if importlib.util.find_spec("vllm") is None:
        return [("vllm.EngineArgs", "not checked, vllm is not installed")]
    return [("vllm.EngineArgs", engine_arguments(profile, a.longest_prompt))]


def engine_arguments(profile: Profile, prompt: int) -> str:
    """Build vLLM's arguments for rollouts and evaluation. Raises PlanError if vLLM refuses them."""
    from vllm import EngineArgs

    built = []
    for section in ("rl", "evaluation"):
        if (settings := getattr(profile, section)).engine != "vllm":
            continue
        more: dict[str, Any] = {"max_model_len": limit(profile, section) + prompt}
        if section == "rl":
            more |= {"gpu_memory_utilization": settings.vllm_memory, "enable_sleep_mode": True}
        path = getattr(profile.model, "path", "runs")
        _built(section, EngineArgs, model=path, **more)
        built.append(f"{section}: max_model_len={more['max_model_len']}")
    return "; ".join(built)


def _not_installed(profile: Profile) -> list[Check]:
    """What the run will need and this machine lacks: no fault of the profile."""
    wanted: Sequence[str] = profile.launch.report_to
    packages = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
    if profile.launch.attention in packages:
        wanted = [*wanted, packages[profile.launch.attention]]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    return [("needed there, not installed here", ", ".join(missing))] if missing else []
