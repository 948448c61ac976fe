"""The stages of the method, in order: base model, distillation, warm-up, RL, evaluation.

``thinkless stage rl-degrpo-0 --profile laptop --seed 1`` makes sure that one stage is done;
so does ``pipeline("laptop", seed=1).run("rl-degrpo-0")``. Chapters call the latter. What a stage computes is
in `stages.py`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars
from transformers.utils import logging as transformers_logging

from thinkless.runs.parameters import check_seed, runs_folder
from thinkless.runs.profiles import ProfileError, load_profile
from thinkless.runs.questions import QUESTIONS
from thinkless.runs.runner import Run, Runner, Stage
from thinkless.runs.schema import StageKind
from thinkless.runs.settings import PretrainedModel, Profile


def rl_stage(objective: str, repetition: int) -> str:
    """Name of the RL stage of one objective and repetition, such as ``rl-degrpo-0``."""
    return f"rl-{objective}-{repetition}"


def stages(profile: Profile) -> dict[str, Stage]:
    """Every stage that the profile asks for, in the order of the method."""
    trained = ("model",)
    result = [
        Stage("base", _settings("fetch"), _compute("fetch_base"), (), trained)
        if isinstance(profile.model, PretrainedModel)
        else Stage(
            "base", _settings("base"), _compute("train_base"), (), trained, True, _compute("prepare_base")
        ),
    ]
    if profile.sft is None:
        result.append(Stage("sft", _settings("sft"), _compute("warmed_up"), ("base",), trained))
    else:
        train, prepare = _compute("train_sft"), _compute("prepare_sft")
        result += [
            Stage("distill", _settings("distill"), _compute("distill"), ("base",), ("pairs",)),
            Stage("sft", _settings("sft"), train, ("base", "distill"), trained, True, prepare),
        ]
    sources = ["sft"]
    starts: tuple[str, ...] = ("sft",)
    if profile.rl.select is not None:
        starts = ("sft", "select")
        result.append(Stage("select", _settings("rl"), _compute("select"), ("sft",), (QUESTIONS,)))
    if profile.rl.choice_only is not None:
        starts = ("sft", "answers")
        result.append(Stage("answers", _settings("rl"), _compute("answer_both_ways"), ("sft",), (QUESTIONS,)))
    for repetition in range(profile.rl.repetitions):
        for arm in profile.rl.arms:
            sources.append(rl_stage(arm, repetition))
            train = _compute("train_with", arm, repetition)
            result.append(Stage(sources[-1], _settings("rl"), train, starts, trained, True))
    for source in sources:
        ask, answers = _compute("evaluate_model", source), ("answers.jsonl",)
        result.append(Stage(f"eval-{source}", _settings("eval"), ask, (source,), answers))
    return {stage.name: stage for stage in result}


def _compute(name: str, *arguments: Any) -> Callable[[Run], Any]:
    """A function of `stages.py`, which is imported when it runs: a command that runs none starts at once."""

    def compute(run: Run) -> Any:
        return getattr(import_module("thinkless.stages"), name)(run, *arguments)

    return compute


def _settings(kind: StageKind) -> Callable[[Profile], dict[str, Any]]:
    """Pick the settings that results of this kind of stage depend on, as they are marked."""
    return lambda profile: profile.settings_for(kind)


def pipeline(
    profile: str,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "",
) -> Runner:
    """The runner of a profile's stages, in the folder that `runs_folder` makes of `runs_dir`.

    Raises ProfileError if a parameter is impossible.
    """
    check_seed(seed)
    if "\0" in f"{profile}{runs_dir}":
        raise ProfileError("profile or runs_dir has a NUL character in it, which no file may have")
    folder = runs_folder(runs_dir)
    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    loaded = load_profile(profile, overrides)

    def command(name: str) -> list[str]:
        where = ["--seed", str(seed), "--runs-dir", str(folder)]
        changes = ["--overrides", json.dumps(dict(overrides or {}))]
        return [sys.executable, "-m", "thinkless", "stage", name, "--profile", profile, *where, *changes]

    return Runner(stages(loaded), loaded, seed, folder, command)
