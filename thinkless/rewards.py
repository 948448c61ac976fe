"""The reward of the paper (section 3.2 of arXiv 2505.13379) as a plain function and as a TRL reward.

A right short answer earns 1, a right long one 1 - gamma, a wrong one -1. A completion that breaks
the format earns -1 as well, and its fault is counted: a policy that gives up its format must show in
the metrics, not hide among the wrong answers.
"""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from thinkless.grading import is_correct
from thinkless.modes import END_OF_THINKING, Mode, mode_of

FAULTS = ("no_control_token", "never_ends", "thinks_in_short")
"""Ways to break the format: the first token is no control token; the completion was cut off before
its end token; it opens with `<short>` and then thinks."""


def reward(mode: Mode | None, correct: bool, gamma: float) -> float:
    """The reward table: 1 (short, right), 1 - gamma (think, right), -1 (wrong, or no mode at all).

    Raises ValueError unless 0 <= gamma < 1: from 1 on, a right answer after thinking would earn nothing.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma={gamma}: expected 0 <= gamma < 1")
    if mode is None or not correct:
        return -1.0
    return 1.0 if mode is Mode.SHORT else 1.0 - gamma


def format_fault(mode: Mode | None, finished: bool, text: str) -> str | None:
    """The first of `FAULTS` that a completion commits, or None.

    `finished`: its end token came; `text`: the decoded completion.
    """
    if mode is None:
        return "no_control_token"
    if not finished:
        return "never_ends"
    if mode is Mode.SHORT and (Mode.THINK.value in text or END_OF_THINKING in text):
        return "thinks_in_short"
    return None


class ModeReward:
    """The reward as TRL calls it; also logs what it sees, by mode and by level.

    Needs the dataset column `answer`; uses `level` where there is one. Every value is logged once
    per completion, so TRL's average over ranks is exact. Metrics: `think_rate`, `correct`, `length`,
    each also `/think`, `/short` or `/level<n>` where that applies, and `fault/<name>`.
    """

    __name__ = "mode_reward"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, gamma: float):
        reward(Mode.THINK, True, gamma)  # refuse a bad gamma now, not at the first rollout
        self.tokenizer = tokenizer
        self.gamma = gamma

    def __call__(
        self,
        completions: list[str],
        completion_ids: list[list[int]],
        answer: list[str],
        level: list[int] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **_,
    ) -> list[float]:
        """Rewards, one per completion; `**_` swallows the columns that TRL adds and we do not use."""
        log = log_metric or (lambda name, value: None)
        rewards = []
        for index, (text, ids, gold) in enumerate(zip(completions, completion_ids, answer, strict=True)):
            mode = mode_of(ids, self.tokenizer)
            finished = len(ids) > 0 and ids[-1] == self.tokenizer.eos_token_id
            fault = format_fault(mode, finished, text)
            correct = fault is None and is_correct(text, gold)
            rewards.append(reward(mode, correct, self.gamma))
            thinks = float(mode is Mode.THINK)
            groups = [""] + ([f"/{mode.label}"] if mode else [])
            groups += [f"/level{level[index]}"] if level is not None else []
            for group in groups:
                if group not in ("/think", "/short"):
                    log(f"think_rate{group}", thinks)
                log(f"correct{group}", float(correct))
                log(f"length{group}", float(len(ids)))
            for name in FAULTS:
                log(f"fault/{name}", float(fault == name))
        return rewards
