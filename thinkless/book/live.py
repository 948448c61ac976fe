"""The models of the book's live page, as scripts: a page on a disk may run those, but fetch nothing.

`book/_static/live_model.js` has the forward pass, and `book/_static/live.js` the page. They know no model
and no world: everything that they need stands in what `publish` writes.
"""

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thinkless.book.figures import OBJECTIVE_NAMES
from thinkless.generation.interface import has_modes
from thinkless.models import load
from thinkless.modes import END_OF_THINKING, Mode
from thinkless.pipeline import pipeline, rl_stage
from thinkless.problems import chain, in_words
from thinkless.runs.profiles import load_profile
from thinkless.runs.questions import ChainProblems
from thinkless.runs.runner import Runner

INDEX = "index.js"
QUESTIONS = 200
"""Held-out questions that come along, in equal shares of the levels."""


def laptop_runner(root: Path, chapters: Sequence[Mapping[str, Any]]) -> Runner | None:
    """The runs of the laptop world that `chapters`, by their parameters, left in the book at `root`."""
    for options in chapters:
        if load_profile(options["profile"], options["overrides"]).problems.kind == "chain":
            # chapters work in the book's folder, so a relative `runs_dir` is one of its
            return pipeline(**{**options, "runs_dir": root / (options["runs_dir"] or "runs")})
    return None


def publish(runner: Runner | None, folder: Path) -> list[str]:
    """Write the finished models of the laptop world into `folder`; returns their stages.

    They are the base model, the warm-up's and the first of each objective's. The index names them and holds
    the world; the weights of each are a script of their own. Without a finished model it names none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index: dict[str, Any] = {"checkpoints": []}
    if runner is not None and isinstance(runner.profile.problems, ChainProblems):
        arms = {rl_stage(arm, 0): OBJECTIVE_NAMES[arm] for arm in runner.profile.rl.arms}
        names = {"base": "Base", "sft": "Warm-up"} | arms
        for stage in [stage for stage in names if runner.is_done(stage)]:
            model, tokenizer = load(runner.folder(stage) / "model")
            (folder / f"{stage}.js").write_text(_script(f"weights[{stage!r}]", half_precision(model)))
            index["checkpoints"].append({"stage": stage, "name": names[stage], **describe(model, tokenizer)})
        index["world"] = _world(runner)
    (folder / INDEX).write_text(f"LiveModel.weights = {{}};\n{_script('index', index)}", encoding="utf-8")
    return [checkpoint["stage"] for checkpoint in index["checkpoints"]]


def _script(name: str, value: Any) -> str:
    return f"LiveModel.{name} = {json.dumps(value, ensure_ascii=False)};\n"


def half_precision(model: PreTrainedModel) -> str:
    """Every parameter once, in order, rounded to float16, little endian, in base64."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return base64.b64encode(flat.half().numpy().astype("<f2").tobytes()).decode()


def describe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a reader of the weights must know: the shape, the parameters in order, the tokens by id.

    Raises ValueError for a model that `live_model.js` would compute wrongly.
    """
    config = model.config
    if (config.model_type, config.hidden_act, config.rope_parameters["rope_type"]) != (
        "qwen3",
        "silu",
        "default",
    ):
        raise ValueError(f"{config.model_type}: the page computes plain Qwen3 models only")
    ids = tokenizer.get_vocab()
    return {
        "tokens": sorted(ids, key=lambda token: ids[token]),
        "end": tokenizer.eos_token_id,
        "controls": {mode.label: mode.value for mode in Mode} if has_modes(tokenizer) else None,
        "parameters": [[name, parameter.numel()] for name, parameter in model.named_parameters()],
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "keyHeads": config.num_key_value_heads,
        "theta": config.rope_parameters["rope_theta"],
        "epsilon": config.rms_norm_eps,
        "context": config.max_position_embeddings,
    }


def _world(runner: Runner) -> dict[str, Any]:
    """How questions are asked, what is right, how long answers may be, and questions never trained on."""
    problems, evaluation = runner.profile.problems, runner.profile.evaluation
    assert isinstance(problems, ChainProblems)
    world, digits = problems.world(), range(10)
    asked = chain.held_out_problems(world, QUESTIONS, seed=runner.seed).shuffle(seed=runner.seed)
    return {
        "profile": runner.profile.name,
        "seed": runner.seed,
        "around": world.asked("?").split("?"),
        "cues": chain.CUES,
        "endOfThinking": END_OF_THINKING,
        "results": {sign: [[f(a, b) for b in digits] for a in digits] for sign, f in chain.OPERATORS.items()},
        "levels": world.levels,
        "longest": runner.profile.longest("evaluation"),
        "temperature": evaluation.temperature,
        "topP": evaluation.top_p,
        "questions": [
            {"prompt": prompt, "answer": row["answer"], "level": row["level"]}
            for prompt, row in zip(in_words(asked), asked, strict=True)
        ],
    }
