"""Questions of the right difficulty: those that a model solves sometimes, of which alone it can learn.

A group whose answers all earn the same teaches nothing. Asked before a training, the model itself says
which questions those will be.
"""

from datasets import Dataset

from thinkless.generation import Generator
from thinkless.rewards import judge


def solved_sometimes(
    generator: Generator,
    problems: Dataset,
    low: float,
    high: float,
    *,
    tries: int,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> Dataset:
    """The `problems` (with `prompt` and `answer`) of which a share of `low` to `high` of `tries` free answers
    are right, bounds included; the column `solved` has the share."""
    answers = generator.generate(
        problems["prompt"], n=tries, max_tokens=max_tokens, temperature=temperature, seed=seed
    )
    solved = [
        sum(bool(judge(one, gold).correct) for one in own) / tries
        for own, gold in zip(answers, problems["answer"], strict=True)
    ]
    kept = [place for place, share in enumerate(solved) if low <= share <= high]
    return problems.add_column("solved", solved).select(kept)
