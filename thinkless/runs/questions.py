"""Which questions a run is about: the laptop world, stories, or published sets: a profile's `problems`.

All kinds answer the same calls, so that no stage asks which kind it has: `teaching` (questions for
distillation), `training` (for RL, in the order they are asked), `held_out` (for evaluation),
`longest_answer`, two that count, `source_counts` and `contamination`, and `commits`. The questions themselves
come from the folder `problems/`.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from datasets import Dataset, concatenate_datasets
from pydantic import Field

from thinkless.errors import StageError
from thinkless.problems import chain, stories
from thinkless.problems.chain import VERBOSITY, ChainWorld, Kind
from thinkless.problems.stories import StoryWorld
from thinkless.runs.schema import For, Section

if TYPE_CHECKING:
    from thinkless.problems.benchmarks import Counts

EVERYWHERE = For("base", "distill", "rl", "eval")
QUESTIONS = "questions.jsonl"
"""What the stages `select` and `answers` leave in their folders: the questions of RL."""
SLACK = 8
"""Tokens that a completion may run past the longest right answer before it is cut off."""


class MadeProblems(Section):
    """What holds for every world whose questions are made here."""

    def source_counts(self) -> dict[str, dict[str, int]]:
        """Nothing is read, so there is nothing to count."""
        return {}

    def commits(self) -> dict[str, str]:
        """Nothing is read, so there is nothing to pin."""
        return {}

    def contamination(self) -> dict[str, int]:
        """No question of the evaluation can be trained on, except the laptop's of level 1, which all are."""
        return {}


def check_shares(name: str, given: Sequence[float] | Sequence[float | list[float]], levels: int):
    """Raises ValueError unless there is one share, or a list of them, for each level."""
    shares = [share for one in given for share in (one if isinstance(one, list) else [one])]
    if len(given) != levels or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"{name}={given}: expected {levels} shares, none negative, not all zero")


def in_passes(questions: Dataset, count: int, seed: int) -> Dataset:
    """`count` of the questions, in a new order at every pass through them."""
    passes = -(-count // len(questions))
    order = concatenate_datasets([questions.shuffle(seed=seed + k) for k in range(passes)])
    return order.select(range(count))


class ChainProblems(MadeProblems):
    """The laptop world: which questions are asked, and how the textbook answers them."""

    kind: Literal["chain"]
    levels: Annotated[int, EVERYWHERE] = Field(ge=1, le=20)
    verbosity: Annotated[str, EVERYWHERE]
    """A key of `problems.chain.VERBOSITY`."""
    noise_short: list[float] = []
    """Share of wrong short answers in the textbook, one entry per level; empty means none."""
    noise_think: list[float] = []
    redundancy: Annotated[int, EVERYWHERE] = Field(0, ge=0)
    """Worked answers check themselves 0..redundancy times."""
    distractors: Annotated[bool, EVERYWHERE] = Field(False, exclude_if=lambda on: not on)
    """Whether questions may open with operators that do not matter. Off it is no part of any stage's key."""
    mix: Annotated[list[float | list[float]], For("rl")]
    """Share of each level in the questions of RL; with distractors a list may give those of its kinds."""
    held_out_per_level: Annotated[int | None, For("eval")] = Field(None, ge=1, le=300)
    """Held-out questions of each level in the evaluation."""
    held_out_questions: Annotated[int | None, For("eval")] = Field(None, ge=1, exclude_if=lambda n: n is None)
    """Or held-out questions in the shares of `mix`, so that the evaluation is of what RL asks."""

    def world(self) -> ChainWorld:
        """The dials as the world takes them."""
        return ChainWorld(
            self.levels,
            self.verbosity,
            tuple(self.noise_short),
            tuple(self.noise_think),
            self.redundancy,
            self.distractors,
        )

    def shares(self) -> dict[Kind, float]:
        """`mix` by kind of question; a level without a list has its kinds in equal shares. They sum to 1."""
        found: dict[Kind, float] = {}
        for level, given in enumerate(self.mix, start=1):
            kinds = self.world().kinds(level)
            of_kinds = given if isinstance(given, list) else [given / len(kinds)] * len(kinds)
            found |= dict(zip(kinds, of_kinds, strict=True))
        return {kind: share / sum(found.values()) for kind, share in found.items()}

    def longest_answer(self) -> int | None:
        """Length limit of a completion in tokens: the longest worked answer and some slack."""
        return self.world().think_length(self.levels) + SLACK

    def teaching(self, count: int, seed: int) -> Dataset:
        """`count` questions for the teachers, levels in equal shares."""
        return chain.draw_problems(self.world(), count, seed=seed)

    def training(self, count: int, seed: int) -> Dataset:
        """`count` questions for RL, levels in the shares of `mix`."""
        return chain.draw_problems(self.world(), count, mix=self.shares(), seed=seed)

    def held_out(self, seed: int) -> Dataset:
        """The questions of the evaluation, never among the others above level 1."""
        if self.held_out_per_level is None:
            assert self.held_out_questions is not None
            return chain.held_out_problems(
                self.world(), self.held_out_questions, mix=self.shares(), seed=seed
            )
        return chain.held_out_problems(self.world(), self.held_out_per_level * self.levels, seed=seed)

    def model_post_init(self, _):
        if self.verbosity not in VERBOSITY:
            raise ValueError(f"verbosity={self.verbosity!r}: expected one of {', '.join(VERBOSITY)}")
        kinds = [len(self.world().kinds(level)) for level in range(1, self.levels + 1)]
        check_shares("mix", self.mix, self.levels)
        if any(
            isinstance(given, list) and len(given) != count
            for given, count in zip(self.mix, kinds, strict=True)
        ):
            raise ValueError(f"mix={self.mix}: expected as many shares as a level has kinds, {kinds}")
        if (self.held_out_per_level is None) == (self.held_out_questions is None):
            raise ValueError("expected one of held_out_per_level and held_out_questions")


class StoryProblems(MadeProblems):
    """Word problems, see `problems.stories`."""

    kind: Literal["stories"]
    levels: Annotated[int, EVERYWHERE] = Field(ge=1, le=10)
    distractors: Annotated[bool, EVERYWHERE] = True
    """Whether a story is about two people, so that neither its length nor its words tell its level."""
    teaching_mix: Annotated[list[float], For("distill")] = Field([], exclude_if=lambda mix: not mix)
    """Share of each level in the questions of distillation; none given are equal shares."""
    mix: Annotated[list[float], For("rl")]
    """Share of each level in the questions of RL."""
    held_out_per_level: Annotated[int, For("eval")] = Field(ge=1)
    """Held-out questions of each level in the evaluation."""

    def world(self) -> StoryWorld:
        """The dials as the world takes them."""
        return StoryWorld(self.levels, self.distractors)

    def shares(self) -> dict[int, float]:
        """`mix` by level; they sum to 1."""
        return {level: share / sum(self.mix) for level, share in enumerate(self.mix, start=1)}

    def longest_answer(self) -> int | None:
        """How many tokens a story's answer has is the tokenizer's affair."""
        return None

    def teaching(self, count: int, seed: int) -> Dataset:
        """`count` questions for the teachers, levels in the shares of `teaching_mix`."""
        return stories.draw_problems(self.world(), count, mix=self.teaching_mix or None, seed=seed)

    def training(self, count: int, seed: int) -> Dataset:
        """`count` questions for RL, levels in the shares of `mix`."""
        return stories.draw_problems(self.world(), count, mix=self.mix, seed=seed)

    def held_out(self, seed: int) -> Dataset:
        """The questions of the evaluation, never among the others."""
        return stories.held_out_problems(self.world(), self.held_out_per_level, seed=seed)

    def model_post_init(self, _):
        check_shares("mix", self.mix, self.levels)
        if self.teaching_mix:
            check_shares("teaching_mix", self.teaching_mix, self.levels)


class MathProblems(Section):
    """Published problem sets, from the hub or from local files; see `problems.benchmarks`."""

    kind: Literal["math"]
    train: Annotated[str, EVERYWHERE]
    """The set whose questions are distilled and trained on, such as ``deepscaler``."""
    evaluate: Annotated[list[str], For("eval")] = Field(min_length=1)
    """The benchmarks, each a set's name."""
    folder: Annotated[str | None, EVERYWHERE] = Field(None, min_length=1)
    """Every set is read from its file or folder in here, such as ``gsm8k.jsonl`` or ``gsm8k/``; None takes
    all from the hub."""
    revisions: Annotated[dict[str, str], EVERYWHERE] = Field({}, exclude_if=lambda revisions: not revisions)
    """Commit on the hub of a set, by its name, where another is wanted than `PROBLEM_SETS` pins."""
    limit: Annotated[int | None, For("eval")] = Field(None, ge=1)
    """At most so many questions of each benchmark."""
    instruct_evaluation: Annotated[bool, For("base", "distill", "eval")] = True
    """Ask for step-by-step reasoning and a boxed answer in distillation, warm-up and evaluation."""
    instruct_rl: Annotated[bool, For("rl")] = False
    """The same in RL; the released code does without."""

    def longest_answer(self) -> int | None:
        """Published questions set no limit of their own."""
        return None

    def teaching(self, count: int, seed: int) -> Dataset:
        """At most `count` questions of the training set, shuffled."""
        questions = self._read(self.train, self.instruct_evaluation)[0].shuffle(seed=seed)
        return questions.select(range(min(count, len(questions))))

    def source_counts(self) -> dict[str, dict[str, int]]:
        """Count the training set's rows: `read`, `empty`, `duplicates`, `kept`."""
        return {self.train: asdict(self._read(self.train, self.instruct_evaluation)[1])}

    def training(self, count: int, seed: int) -> Dataset:
        """`count` questions of the training set, in a new order at every pass through it."""
        return in_passes(self._read(self.train, self.instruct_rl)[0], count, seed)

    def held_out(self, seed: int) -> Dataset:
        """Every benchmark, one after the other; the column `source` names them. `seed` changes nothing."""
        sets = [self._read(name, self.instruct_evaluation, self.limit)[0] for name in self.evaluate]
        return concatenate_datasets(sets)

    def commits(self) -> dict[str, str]:
        """The commit of each set that is read from the hub."""
        from thinkless.problems.benchmarks import PROBLEM_SETS

        if self.folder is not None:
            return {}
        return {
            name: self.revisions.get(name, PROBLEM_SETS[name].revision)
            for name in [self.train, *self.evaluate]
        }

    def model_post_init(self, _):
        for name, revision in self.revisions.items():
            if not re.fullmatch("[0-9a-f]{40}", revision):
                raise ValueError(f"revisions.{name}={revision!r}: expected a commit, 40 hexadecimal digits")
        if unknown := self.revisions.keys() - {self.train, *self.evaluate}:
            raise ValueError(f"revisions names {', '.join(sorted(unknown))}: expected sets of this profile")

    def contamination(self) -> dict[str, int]:
        """Count the questions of each benchmark that the training set asks, too."""
        from thinkless.problems.benchmarks import overlap

        train = self._read(self.train, False)[0]
        return {name: len(overlap(train, self._read(name, False, self.limit)[0])) for name in self.evaluate}

    def _read(self, name: str, instruction: bool, limit: int | None = None) -> tuple[Dataset, "Counts"]:
        from thinkless.problems.benchmarks import read_problems

        try:
            revision = self.revisions.get(name)
            return read_problems(
                name, folder=self.folder, instruction=instruction, limit=limit, revision=revision
            )
        except (ValueError, OSError) as error:
            raise StageError(" ".join(str(error).split())) from error
