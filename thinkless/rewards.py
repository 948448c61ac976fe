"""What a completion is worth: its verdict, the paper's reward (section 3.2 of arXiv 2505.13379), TRL's form.

A right short answer earns 1, a right long one 1 - gamma, a wrong one -1. A completion that breaks
the format earns -1 as well, and its fault is counted: a policy that gives up its format must show in
the metrics, not hide among the wrong answers.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from thinkless.generation import Completion
from thinkless.grading import is_correct
from thinkless.grading.sandbox import WORKERS
from thinkless.modes import END_OF_THINKING, Mode, end_ids, mode_of

FAULTS = ("no_control_token", "thinks_in_short", "never_ends")
"""Ways to break the format: the first token is no control token; the completion opens with `<short>` and
then thinks; it was cut off before its end token. Of several, the first in this order counts."""


def reward(mode: Mode | None, correct: bool, gamma: float) -> float:
    """The reward table: 1 (short, right), 1 - gamma (think, right), -1 (wrong, or no mode at all).

    Raises ValueError unless 0 <= gamma < 1: from 1 on, a right answer after thinking would earn nothing.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma={gamma}: expected 0 <= gamma < 1")
    if mode is None or not correct:
        return -1.0
    return 1.0 if mode is Mode.SHORT else 1.0 - gamma


@dataclass(frozen=True)
class Verdict:
    """The decision about one completion, for its reward, its evaluation and its use as training data."""

    mode: Mode | None
    fault: str | None
    """One of `FAULTS`, or None."""
    correct: bool | None
    """Whether the final answer is right and the format kept; None where no gold answer is known."""

    def reward(self, gamma: float) -> float:
        """See `reward`. Raises ValueError where no gold answer is known: nothing can be paid for that."""
        if self.correct is None:
            raise ValueError("no reward without a gold answer: leave out the questions that have none")
        return reward(self.mode, self.correct, gamma)


def judge(completion: Completion, gold: str | None) -> Verdict:
    """Decide what `completion` is: its mode, its first fault, and whether it gives the answer `gold`.

    A completion with a fault is wrong whatever it says. Raises what `is_correct` raises.
    """
    mode, text, fault = completion.mode, completion.text, None
    if mode is None:
        fault = "no_control_token"
    elif mode is Mode.SHORT and (Mode.THINK.value in text or END_OF_THINKING in text):
        fault = "thinks_in_short"
    elif completion.finish_reason != "stop":
        fault = "never_ends"
    if gold is None:
        return Verdict(mode, fault, None)
    answer = text.removeprefix(Mode.SHORT.value)  # `<think>` stays: grading looks for the end of the thought
    return Verdict(mode, fault, fault is None and is_correct(answer, gold))


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
        ends, judged = end_ids(self.tokenizer), []
        for text, ids in zip(completions, completion_ids, strict=True):
            ended = len(ids) > 0 and ids[-1] in ends
            mode = mode_of(ids, self.tokenizer)
            judged.append(Completion(tuple(ids), text, mode, math.nan, "stop" if ended else "length"))
        with ThreadPoolExecutor(WORKERS) as pool:  # a slow answer holds up no other
            verdicts = list(pool.map(lambda pair: judge(*pair), zip(judged, answer, strict=True)))
        levels: Sequence[int | None] = level or [None] * len(verdicts)
        for completion, verdict, its_level in zip(judged, verdicts, levels, strict=True):
            figures = {"correct": float(bool(verdict.correct)), "length": float(completion.tokens)}
            _log(log_metric, completion.mode, its_level, figures, verdict.fault)
        return [verdict.reward(self.gamma) for verdict in verdicts]


def right_column(mode: Mode) -> str:
    """The column of a question for the share of right answers among those that were stored for a mode."""
    return f"right_{mode.label}"


class ChoiceReward:
    """What a choice of mode earns where the answers are given: the mean reward of those that were stored.

    For completions of one token, the control token. Needs the columns `right_column` for both modes. Logs the
    metrics of `ModeReward`; of the faults, the one that a first token can have.
    """

    __name__ = "choice_reward"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, gamma: float):
        reward(Mode.THINK, True, gamma)
        self.tokenizer = tokenizer
        self.gamma = gamma

    def __call__(
        self,
        completion_ids: list[list[int]],
        level: list[int] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: list,
    ) -> list[float]:
        """Rewards, one per completion."""
        rewards: list[float] = []
        levels: Sequence[int | None] = level or [None] * len(completion_ids)
        for place, (ids, its_level) in enumerate(zip(completion_ids, levels, strict=True)):
            mode = mode_of(ids, self.tokenizer)
            right = columns[right_column(mode)][place] if mode else 0.0
            figures = {"correct": right, "length": float(len(ids))}
            _log(log_metric, mode, its_level, figures, None if mode else "no_control_token")
            paid, unpaid = (reward(mode, correct, self.gamma) for correct in (True, False))
            rewards.append(right * paid + (1 - right) * unpaid)
        return rewards


def _log(
    log_metric: Callable[[str, float], None] | None,
    mode: Mode | None,
    level: int | None,
    figures: dict[str, float],
    fault: str | None,
):
    """Log what is known of one completion, for all, for its level and for its mode."""
    if log_metric is None:
        return
    in_level = [] if level is None else [f"/level{level}"]
    for group in ["", *in_level]:
        log_metric(f"think_rate{group}", float(mode is Mode.THINK))
    for group in ["", *in_level, *([f"/{mode.label}"] if mode else [])]:
        for name, value in figures.items():
            log_metric(f"{name}{group}", value)
    for name in FAULTS:  # each for every completion, so that its mean is a share
        log_metric(f"fault/{name}", float(fault == name))
