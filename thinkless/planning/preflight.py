"""What can be known to fail before a GPU is rented: impossible settings, and configurations refused by
the libraries that will get them. Those are built here for real, not described."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from thinkless.planning.hardware import GB, GPU, PlanError, Shape
from thinkless.planning.memory import vllm_room, vllm_weights
from thinkless.runs.settings import Profile
from thinkless.training import rl_config, sft_config

Check = tuple[str, str]
"""What was checked, and how it came out."""


def check(profile: Profile, shape: Shape, gpu: GPU | None, prompt: int) -> list[Check]:
    """Every check of a profile whose longest prompt has `prompt` tokens.

    Raises PlanError, naming the setting, at the first that fails.
    """
    for section in ("distill", "rl", "evaluation"):
        total = profile.longest(section) + prompt
        if total > shape.context:
            raise PlanError(
                f"{section}.max_tokens={profile.longest(section)}: with a prompt of {prompt} tokens that is "
                f"{total}, but {shape.name} was made for {shape.context} (max_position_embeddings)"
            )
    done = [("prompt + answer within the model's context", f"{shape.context:,} tokens")]
    with TemporaryDirectory() as folder:
        done += _trainers(profile, Path(folder))
    if gpu is not None and profile.rl.engine == "vllm":
        done.append(_vllm_memory(profile, shape, gpu))
    if "vllm" in (profile.rl.engine, profile.evaluation.engine):
        done.append(("vllm.EngineArgs", engine_arguments(profile, prompt)))
    return done


def _vllm_memory(profile: Profile, shape: Shape, gpu: GPU) -> Check:
    """vLLM beside the training: its weights, and the cache of one sequence of all the model's positions,
    without which it does not start."""
    share, room = profile.rl.vllm_memory, vllm_room(shape, gpu.memory, profile.rl.vllm_memory)
    given = f"rl.vllm_memory={share}: {share * gpu.memory / GB:.1f} GB of a {gpu.name}"
    if room <= 0:
        raise PlanError(
            f"{given} do not hold the {vllm_weights(shape) / GB:.1f} GB of weights and vLLM's own needs"
        )
    longest = shape.kv_bytes() * shape.context
    if longest > room:
        raise PlanError(
            f"{given} leave {room / GB:.2f} GB for keys and values, but a sequence of vllm_max_model_length="
            f"{shape.context} tokens takes {longest / GB:.2f} GB, and vLLM starts only if it could hold one"
        )
    return "vLLM holds its weights and one sequence", f"{shape.context:,} tokens in {room / GB:.1f} GB"


def _trainers(profile: Profile, folder: Path) -> list[Check]:
    """TRL's configurations, as one process that takes all micro-batches: TRL checks the batch over all
    processes, and here there is one process, and perhaps no GPU."""
    launch = profile.launch.model_copy(update={"processes": 1, "machines": 1})
    changed = "built as one process" + ("" if torch.cuda.is_available() else " on a CPU")
    done: list[Check] = []
    for section in ("base", "sft"):
        if (settings := getattr(profile, section)) is not None:
            args = _built(section, sft_config, settings, launch, folder, seed=0)
            batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
            done.append((f"trl.SFTConfig for {section}", f"{batch} rows an update, {changed}"))
    for arm in profile.rl.arms:
        tokens = profile.longest("rl")
        args = _built("rl", rl_config, arm, profile.rl, launch, folder, max_tokens=tokens, seed=0)
        rollout = f"{args.generation_batch_size} completions a rollout, groups of {args.num_generations}"
        done.append((f"DeGRPOConfig for {arm}", f"{rollout}, {changed}"))
    return done


def _built(section: str, build: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return build(*arguments, **named)
    except (ValueError, TypeError, ImportError) as error:
        raise PlanError(f"section {section}: {' '.join(str(error).split())}") from None


def engine_arguments(profile: Profile, prompt: int) -> str:
    """Build vLLM's arguments for rollouts and evaluation. Raises PlanError if vLLM refuses them."""
    if importlib.util.find_spec("vllm") is None:
        return "not checked, vllm is not installed"
    from vllm import EngineArgs

    built = []
    for section in ("rl", "evaluation"):
        if (settings := getattr(profile, section)).engine != "vllm":
            continue
        more: dict[str, Any] = {"max_model_len": profile.longest(section) + prompt}
        if section == "rl":
            more |= {"gpu_memory_utilization": settings.vllm_memory, "enable_sleep_mode": True}
        _built(section, EngineArgs, model=getattr(profile.model, "path", "runs"), **more)
        built.append(f"{section}: max_model_len={more['max_model_len']}")
    return "; ".join(built)
