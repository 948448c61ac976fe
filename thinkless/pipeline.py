"""The stages of the method, in order: base model, distillation, warm-up, RL, evaluation.

``python -m thinkless stage rl-degrpo-0 --profile laptop --seed 1`` makes sure that one stage is done;
so does ``pipeline("laptop", seed=1).run("rl-degrpo-0")``. Chapters call the latter.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars, load_from_disk
from transformers.utils import logging as transformers_logging

from thinkless import distill as distillation
from thinkless.cards import save_pairs
from thinkless.evaluation import evaluate
from thinkless.generation import TransformersGenerator
from thinkless.models import build_model, build_tokenizer
from thinkless.modes import Mode, add_control_tokens
from thinkless.problems import chain
from thinkless.profiles import Profile, load_profile
from thinkless.stages import Run, Runner, Stage
from thinkless.training import in_batches_of_similar_length, load, save, train_rl, train_supervised

SLACK = 8
"""Tokens that a completion may run past the longest right answer before it is cut off."""


def max_tokens(profile: Profile) -> int:
    """The length limit of a completion: the longest worked answer of the world and some slack."""
    return profile.problems.world().think_length(profile.problems.levels) + SLACK


def _base(run: Run) -> dict[str, Any]:
    """The base model reads a textbook that answers some questions at once and works others out."""
    settings, world = run.profile.base, run.profile.problems.world()
    tokenizer = build_tokenizer(chain.VOCABULARY)
    start = run.folder / "untrained"
    save(
        build_model(tokenizer, **run.profile.model.model_dump(), context=1024, seed=run.seed),
        tokenizer,
        start,
    )
    rows = chain.textbook(world, settings.rows, seed=run.seed)
    lengths = [len(text) for text in rows["completion"]]
    rows = in_batches_of_similar_length(rows, lengths, settings.batch_size, seed=run.seed)
    return train_supervised(start, rows, settings, run.folder, seed=run.seed)


def teachers(base: TransformersGenerator) -> list[distillation.Teacher]:
    """The laptop's two teachers, long and short: the base model, asked under its textbook's cues."""

    def ask(mode: Mode):
        return lambda prompt: prompt + chain.CUES[mode.label]

    return [
        distillation.Teacher(
            base, mode, ask(mode), name=f"the base model, asked with {chain.CUES[mode.label]!r}"
        )
        for mode in (Mode.THINK, Mode.SHORT)
    ]


def _distill(run: Run) -> dict[str, Any]:
    """Both teachers answer every question; pairs that ended in time are kept."""
    settings, world = run.profile.distill, run.profile.problems.world()
    base = TransformersGenerator(*load(run.inputs["base"] / "model"))
    problems = chain.draw_problems(world, settings.questions, seed=run.seed)
    writers = teachers(base)
    sampling: dict[str, Any] = {
        "max_tokens": max_tokens(run.profile),
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": run.seed,
    }
    pairs = distillation.distill(problems, writers, **sampling, folder=run.folder)
    kept = distillation.keep_pairs(pairs)
    counts = distillation.summary(problems, pairs, kept)
    save_pairs(kept, run.folder / "pairs", counts=counts, teachers=writers, sampling=sampling)
    return counts


def _sft(run: Run) -> dict[str, Any]:
    """The base model becomes a hybrid: it learns the control tokens and both kinds of answer."""
    settings = run.profile.sft
    model, tokenizer = load(run.inputs["base"] / "model")
    add_control_tokens(tokenizer, model)
    start = run.folder / "untrained"
    save(model, tokenizer, start)
    pairs = load_from_disk(run.inputs["distill"] / "pairs")
    lengths = list(pairs["think_tokens"])
    pairs = in_batches_of_similar_length(pairs, lengths, settings.batch_size // 2, seed=run.seed)
    return train_supervised(start, distillation.sft_rows(pairs), settings, run.folder, seed=run.seed)


def _rl(objective: str, repetition: int):
    def compute(run: Run) -> dict[str, Any]:
        settings, seed = run.profile.rl, run.seed + repetition
        problems = chain.draw_problems(
            run.profile.problems.world(),
            settings.steps * settings.prompts_per_step,
            mix=run.profile.problems.mix,
            seed=seed,
        )
        return train_rl(
            run.inputs["sft"] / "model",
            problems,
            objective,
            settings,
            run.folder,
            max_tokens=max_tokens(run.profile),
            seed=seed,
        )

    return compute


def _evaluate(source: str):
    def compute(run: Run) -> dict[str, Any]:
        generator = TransformersGenerator(*load(run.inputs[source] / "model"))
        report = evaluate(
            generator,
            chain.held_out_problems(
                run.profile.problems.world(), run.profile.problems.held_out_per_level, seed=run.seed
            ),
            max_tokens=max_tokens(run.profile),
            gamma=run.profile.rl.gamma,
            **run.profile.evaluation.model_dump(),
            seed=run.seed,
        )
        report.save(run.folder / "answers.jsonl")
        return report.summary()

    return compute


def _settings(*sections: str, without: tuple[str, ...] = ()):
    """A stage's settings: these sections of the profile, without keys that do not change its result."""
    return lambda profile: {
        name: getattr(profile, name).model_dump(exclude=set(without)) for name in sections
    }


def _measured(profile: Profile) -> dict[str, Any]:
    """What an evaluation depends on, beside the model: the questions, the sampling and the reward."""
    questions = {"levels", "verbosity", "redundancy", "held_out_per_level"}
    return profile.model_dump(include={"evaluation": True, "problems": questions, "rl": {"gamma"}})


def rl_stage(objective: str, repetition: int) -> str:
    """Name of the RL stage of one objective and repetition, such as ``rl-degrpo-0``."""
    return f"rl-{objective}-{repetition}"


def stages(profile: Profile) -> dict[str, Stage]:
    """Every stage that the profile asks for, in the order of the method."""
    trained = ("model",)
    unseen = ("mix", "held_out_per_level")  # dials of the problems that only later stages look at
    result = [
        Stage("base", _settings("base", "model", "problems", without=unseen), _base, (), trained, True),
        Stage("distill", _settings("distill", "problems", without=unseen), _distill, ("base",), ("pairs",)),
        Stage("sft", _settings("sft"), _sft, ("base", "distill"), trained, True),
    ]
    sources = ["sft"]
    rl = _settings("rl", "problems", without=("arms", "repetitions", "held_out_per_level"))
    for repetition in range(profile.rl.repetitions):
        for arm in profile.rl.arms:
            sources.append(rl_stage(arm, repetition))
            result.append(Stage(sources[-1], rl, _rl(arm, repetition), ("sft",), trained, True))
    for source in sources:
        compute = _evaluate(source)
        result.append(Stage(f"eval-{source}", _measured, compute, (source,), ("answers.jsonl",)))
    return {stage.name: stage for stage in result}


def pipeline(
    profile: str,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
) -> Runner:
    """The runner of a profile's stages. Raises ProfileError if profile or overrides are impossible."""
    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    loaded = load_profile(profile, overrides)

    def command(name: str) -> list[str]:
        arguments = [
            name,
            "--profile",
            profile,
            "--seed",
            str(seed),
            "--runs-dir",
            str(Path(runs_dir).resolve()),
        ]
        arguments += ["--overrides", json.dumps(dict(overrides or {}))]
        return [sys.executable, "-m", "thinkless", "stage", *arguments]

    return Runner(stages(loaded), loaded, seed, runs_dir, command)
