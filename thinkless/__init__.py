"""DeGRPO: one language model that answers briefly or at length, and learns which a question needs.

Read the method in this order; each file fits on a few screens:

    modes.py        the control tokens <short> and <think>, and the mode of a completion
    rewards.py      the verdict on a completion, and what it is worth
    objectives.py   what each token of it weighs: GRPO, DeGRPO and their relatives
    losses.py       the same losses written out: the reference, which no training calls
    trainer.py      DeGRPOTrainer: those weights inside TRL's GRPOTrainer
    generation/     completions from Transformers, vLLM or a server

`training/` and `pipeline.py` run the whole of it, from a base model to an evaluated hybrid. The names
below are loaded when they are first used, so that `import thinkless` costs no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Mode": "modes",
    "add_control_tokens": "modes",
    "install_chat_template": "generation.chat_template",
    "group_advantages": "objectives",
    "token_advantages": "objectives",
    "OBJECTIVES": "objectives",
    "grpo_loss": "losses",
    "degrpo_loss": "losses",
    "reward": "rewards",
    "judge": "rewards",
    "Verdict": "rewards",
    "ModeReward": "rewards",
    "DeGRPOConfig": "trainer",
    "DeGRPOTrainer": "trainer",
    "Completion": "generation",
    "TransformersGenerator": "generation",
    "VLLMGenerator": "generation",
    "ServerGenerator": "generation",
    "is_correct": "grading",
    "evaluate": "evaluation",
    "Report": "evaluation",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("thinkless")
    if name in _HOMES:
        return getattr(import_module(f"thinkless.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'thinkless' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
