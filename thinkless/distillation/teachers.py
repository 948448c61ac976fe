"""The teachers that a profile names, ready to answer: the base model, the world's solver, a published
model, a server, or data.

All of them are a `pairs.Teacher`, so that distillation does not know which it has.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from thinkless.distillation.open_data import Recorded, as_completion
from thinkless.distillation.pairs import Teacher, distill
from thinkless.errors import StageError
from thinkless.generation import Completion
from thinkless.generation.load import open_generator
from thinkless.generation.server import ServerGenerator
from thinkless.generation.transformers import TransformersGenerator
from thinkless.grading import is_correct
from thinkless.models import load, load_tokenizer
from thinkless.modes import Mode
from thinkless.problems import chain, in_words, stories
from thinkless.runs.settings import (
    CueTeacher,
    DataTeacher,
    ModelTeacher,
    Profile,
    ServerTeacher,
    SolverTeacher,
)

AnyTeacher = CueTeacher | SolverTeacher | ModelTeacher | ServerTeacher | DataTeacher


def cue_teachers(base: TransformersGenerator) -> list[Teacher]:
    """The laptop's two teachers, long and short: the base model, asked under its textbook's cues."""
    return [Teacher(base, mode, _cue(mode), name=f"base model, cue {mode.label}") for mode in Mode]


def accuracy_by_cue(base: TransformersGenerator, questions: Dataset, max_tokens: int) -> pd.DataFrame:
    """Greedy accuracy of the base model by level (rows) and style of its cue (columns `short`, `think`)."""
    scores = []
    for teacher in cue_teachers(base):
        asked = [teacher.ask(words) for words in in_words(questions)]
        answers = base.generate(asked, max_tokens=max_tokens, temperature=0)
        for row, (answer, *_) in zip(questions, answers, strict=True):
            scores.append((row["level"], teacher.mode.label, is_correct(answer.text, row["answer"])))
    table = pd.DataFrame(scores, columns=["level", "style", "accuracy"])
    return table.pivot_table(index="level", columns="style", values="accuracy")


class Solver:
    """The answers that the solver of stories writes in one mode, as a generator."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mode: Mode):
        self.tokenizer = tokenizer
        self.mode = mode

    def generate(
        self, prompts: Sequence[str], *, max_tokens: int, n: int = 1, **_: Any
    ) -> list[list[Completion]]:
        """See `Generator.generate`: only `max_tokens` and `n` matter, for a question has one answer."""
        written = [stories.write_answer(prompt, self.mode.label) for prompt in prompts]
        return [[as_completion(text, self.mode, self.tokenizer, max_tokens)] * n for text in written]


@contextmanager
def open_teacher(settings: AnyTeacher, mode: Mode, base: Path) -> Iterator[Teacher]:
    """The teacher that `settings` describe; `base` is the student's model folder.

    Its engine is shut down on exit.
    """
    match settings:
        case CueTeacher():
            yield Teacher(
                TransformersGenerator(*load(base)), mode, _cue(mode), name=f"base model, cue {mode.label}"
            )
        case SolverTeacher():
            yield Teacher(Solver(load_tokenizer(base), mode), mode, name="solver of stories")
        case DataTeacher():
            recorded = Recorded(settings.path, load_tokenizer(base), mode=mode, revision=settings.revision)
            yield Teacher(recorded, mode, name=settings.path)
        case ServerTeacher():
            server = ServerGenerator(
                settings.base_url,
                settings.model,
                load_tokenizer(base),  # counts the tokens where the server does not
                chat=True,
                extensions=False,
                in_flight=settings.parallel,
            )
            yield Teacher(server, mode, name=settings.model, max_tokens=settings.max_tokens)
        case ModelTeacher():
            with closing(open_generator(settings.path, settings.engine, settings.revision)) as engine:
                if engine.tokenizer.chat_template is None:
                    raise StageError(
                        f"teacher {settings.path}: has no chat template, expected a model that was trained "
                        "to answer: name such a one, or serve it with a template of its own (kind: server)"
                    )
                yield Teacher(engine, mode, _chat(engine.tokenizer), name=settings.path)


def _cue(mode: Mode) -> Callable[[str], str]:
    return lambda words: words + chain.CUES[mode.label]


def _chat(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str]:
    """A question in the teacher's own chat template."""
    return lambda words: tokenizer.apply_chat_template(
        [{"role": "user", "content": words}], tokenize=False, add_generation_prompt=True
    )


def ask_teachers(
    profile: Profile, base: Path, *, questions: int, seed: int, folder: Path | None = None
) -> tuple[Dataset, list[Teacher]]:
    """Both teachers' answers to `questions` questions, and the teachers, whose engines have ended.

    One after the other, since they may need the same GPU. `base` is the student's model folder. Answers
    are stored in `folder` as they arrive.
    """
    settings, pairs, teachers = profile.distill, None, []
    for mode in Mode:
        with open_teacher(getattr(settings, mode.label), mode, base) as teacher:
            recorded = teacher.generator if isinstance(teacher.generator, Recorded) else None
            if recorded and pairs is None:  # recorded answers bring their own questions
                pairs = recorded.problems().shuffle(seed=seed)
                pairs = pairs.select(range(min(questions, len(pairs))))
            elif recorded:
                pairs = _answered(pairs, recorded)
            pairs = distill(
                profile.problems.teaching(questions, seed) if pairs is None else pairs,
                [teacher],
                max_tokens=profile.longest("distill"),
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=seed,
                folder=folder,
            )
            teachers.append(teacher)
    assert pairs is not None
    return pairs, teachers


def _answered(pairs: Dataset, recorded: Recorded) -> Dataset:
    """The pairs whose question has a recorded answer; `recorded` counts those that have none.

    Raises StageError if none has one.
    """
    places = [place for place, question in enumerate(pairs["question"]) if question in recorded]
    recorded.counts["not_recorded"] = len(pairs) - len(places)
    if not places:
        raise StageError(
            f"distill.short: none of {len(pairs)} questions has a recorded answer, expected both "
            "answers to the same question, word by word"
        )
    return pairs.select(places)
