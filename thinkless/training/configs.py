"""From a profile to TRL's configurations."""

import math
from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig

from thinkless.errors import StageError
from thinkless.runs.settings import RL, SFT, Base, Launch, Optimizer
from thinkless.trainer import DeGRPOConfig

PATIENCE = 2 * 3600
"""Seconds that a process waits for the others, for a long answer or a slow disk; otherwise half an hour."""


def _arguments(settings: Optimizer, launch: Launch, folder: Path, seed: int) -> dict[str, Any]:
    """The arguments that all three trainings pass to Transformers' Trainer.

    Raises StageError for a GPU that has no bfloat16, or an Apple GPU, if that is asked for.
    """
    gpu = torch.cuda.is_available()
    if not gpu and launch.precision == "bfloat16" and torch.backends.mps.is_available():
        raise StageError(
            "launch.precision=bfloat16: an Apple GPU (MPS) is not used here, and its processor is slow at "
            "such numbers: take float32 to train on the processor, or a machine with an NVIDIA GPU"
        )
    if gpu and launch.precision == "bfloat16" and torch.cuda.get_device_capability() < (8, 0):
        raise StageError(
            f"launch.precision=bfloat16: a {torch.cuda.get_device_name()} has no such numbers, and imitates "
            "them slowly: take float32, or a GPU of the Ampere generation or later"
        )
    minimum = {"min_lr": settings.min_learning_rate} if settings.schedule == "cosine_with_min_lr" else {}
    return {
        "output_dir": str(folder / "checkpoints"),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "lr_scheduler_kwargs": minimum or None,
        "warmup_steps": settings.warmup_steps,
        "adam_beta2": settings.beta2,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "save_steps": settings.save_steps,
        "seed": seed,
        "logging_nan_inf_filter": False,  # it would report a mean in place of a loss that is not finite
        "use_cpu": not gpu,
        "bf16": launch.precision == "bfloat16",
        "pad_to_multiple_of": launch.padding if launch.padding > 1 else None,
        "gradient_checkpointing": launch.gradient_checkpointing,
        "report_to": list(launch.report_to) or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": gpu,
        "ddp_timeout": PATIENCE,
    }


def _on_one_device(config: Any) -> Any:
    """`config` of a process that takes one GPU of those in sight; Transformers would split batches."""
    config._n_gpu = min(config.n_gpu, 1)
    return config


def sft_config(settings: Base | SFT, launch: Launch, folder: Path, *, seed: int) -> SFTConfig:
    """TRL's configuration of a supervised training, for each of `launch.processes` processes."""
    share = settings.batch_size // launch.processes  # rows of an update on one process
    micro_batch = getattr(settings, "micro_batch", None) or share
    config = SFTConfig(
        **_arguments(settings, launch, folder, seed),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=share // micro_batch,
        num_train_epochs=1,
        logging_steps=math.gcd(10, settings.save_steps),  # a mean must not straddle a checkpoint
        train_sampling_strategy="sequential",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return _on_one_device(config)


def rl_config(
    objective: str, settings: RL, launch: Launch, folder: Path, *, max_tokens: int, seed: int
) -> DeGRPOConfig:
    """TRL's configuration of an RL run, for each of `launch.processes` processes."""
    completions = settings.prompts_per_step * settings.group_size  # of one step, on all processes
    rollout = completions // settings.micro_batch // launch.processes  # micro-batches of one process
    vllm: dict[str, Any] = {"use_vllm": False}
    if settings.engine != "transformers":
        vllm = {
            "use_vllm": True,
            "vllm_mode": "colocate" if settings.engine == "vllm" else "server",
            "vllm_server_base_url": settings.server,
            "vllm_gpu_memory_utilization": settings.vllm_memory,
            "vllm_enable_sleep_mode": settings.engine == "vllm",
            # Engine and trainer round differently. Over 24k tokens the product of their ratios is noise,
            # and masking whole answers by it (TRL's default) would drop most of the long ones.
            "vllm_importance_sampling_mode": "token_truncate",
        }
    arguments = _arguments(settings, launch, folder, seed)
    # profiles count steps, which are rollouts; TRL counts updates
    arguments["save_steps"] *= settings.updates_per_step
    config = DeGRPOConfig(
        **arguments,
        **vllm,
        objective=objective,
        alpha=settings.alpha,
        epsilon=settings.epsilon,
        beta=settings.beta,
        entropy_coef=settings.entropy,
        scale_rewards=settings.scale_rewards,
        kl_on_control_token=settings.kl_on_control_token,
        reject_equal_groups=settings.reject_equal_groups,
        max_steps=settings.steps * settings.updates_per_step,
        num_generations=settings.group_size,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=rollout // settings.updates_per_step,
        steps_per_generation=rollout,
        length_buckets=settings.length_buckets,
        generation_parts=settings.generation_parts,
        max_completion_length=max_tokens,
        temperature=settings.temperature,
        logging_steps=1,
        shuffle_dataset=False,
    )
    return _on_one_device(config)
