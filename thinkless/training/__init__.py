"""The trainings: supervised (base model and warm-up) and reinforcement learning, through TRL.

Each function trains from a model folder into a run folder: `metrics.jsonl` grows as it goes,
checkpoints let a killed run go on, and the result is an ordinary Transformers folder, `model/`.
"""

from thinkless.training.configs import rl_config, sft_config
from thinkless.training.train import train_rl, train_supervised

__all__ = ["rl_config", "sft_config", "train_rl", "train_supervised"]
