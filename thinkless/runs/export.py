"""A trained model as a folder that can stand alone: weights, tokenizer, and a card that says what it is.

Everything in the card was recorded when the model was made: by its stage, and by the evaluation of it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from httpx import HTTPError
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData

from thinkless.errors import StageError
from thinkless.files import read_json, write_json
from thinkless.runs.runner import Runner
from thinkless.runs.settings import PretrainedModel

CARD = "README.md"

_BODY = """
# {name}

A hybrid model: the first token of an answer is `<short>` or `<think>`, and the model chooses it. Trained
as in [Thinkless](https://arxiv.org/abs/2505.13379), stage `{stage}` of the profile `{profile}`, seed {seed}.

## What it does

{figures}

## Use

```bash
python -m thinkless chat FOLDER                                              # in a terminal
vllm serve FOLDER --logits-processors thinkless.generation.vllm_plugin:ModeBias             # as a server
```

A request to the server leaves the mode to the model, forces it with
`"chat_template_kwargs": {{"mode": "short"}}`, or tilts it with `"vllm_xargs": {{"mode_bias": 1.5}}`.

## How it was made

| | |
|---|---|
{facts}
"""
_SHOWN = {
    "accuracy": "accuracy, mode free",
    "accuracy_always_think": "accuracy, always thinking",
    "accuracy_always_short": "accuracy, never thinking",
    "think_rate": "share of answers that think",
    "tokens": "mean tokens, mode free",
    "tokens_always_think": "mean tokens, always thinking",
}
"""Figures of an evaluation's manifest that the card shows."""


def export(runner: Runner, stage: str, folder: Path) -> Path:
    """Copy a finished stage's model into the new `folder`, with a card.

    Its generation config says how long answers may be: as long as in its training. A server keeps to that.

    Raises StageError if the stage has no model or has not finished with these settings, or if `folder`
    exists already.
    """
    source = runner.folder(stage) / "model"
    if "model" not in runner.stages[stage].outputs:
        raise StageError(f"stage {stage} makes no model: choose one that does, such as sft")
    card = model_card(runner, stage, folder.name)
    if not runner.is_done(stage):
        raise StageError(
            f"{source} was made with other settings, or from inputs that are gone: run {stage} first"
        )
    if folder.exists():
        raise StageError(f"{folder} exists already: choose another folder, or remove it")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    if longest := runner.manifest(stage)["metrics"].get("longest_answer"):  # as the manifest stays behind
        path = partial / "generation_config.json"
        write_json(path, read_json(path) | {"max_new_tokens": longest})
    card.save(partial / CARD)
    partial.rename(folder)
    return folder


def model_card(runner: Runner, stage: str, name: str) -> ModelCard:
    """The card of a finished stage's model, with the figures of ``eval-<stage>`` if that has finished."""
    made = runner.manifest(stage)
    evaluated = f"eval-{stage}"
    done = evaluated in runner.stages and runner.is_done(evaluated)
    metrics = runner.manifest(evaluated)["metrics"] if done else {}
    base = runner.profile.model
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        license="other",
        license_name="as-of-base-model-and-data",
        base_model=base.path if isinstance(base, PretrainedModel) else None,
        tags=["thinkless", "reasoning", "hybrid-reasoning"],
        model_name=name,
        eval_results=_results(metrics, runner.profile.name),
    )
    facts = {
        "profile": f"{made['profile']}, settings {made['profile_hash'][:12]}",
        "stage": f"{stage}, key {made['key'][:12]}",
        "commit of thinkless": made["commit"],
        "versions": ", ".join(f"{package} {version}" for package, version in made["versions"].items()),
        "hardware": ", ".join(made["hardware"]["gpus"]) or f"{made['hardware']['cores']} CPU cores",
        "finished": made["finished"],
        "hours": f"{made['seconds'] / 3600:.2f}",
    }
    body = _BODY.format(
        name=name,
        stage=stage,
        profile=runner.profile.name,
        seed=runner.seed,
        figures=_figures(metrics),
        facts="\n".join(f"| {key} | {value} |" for key, value in facts.items()),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def _results(metrics: dict[str, Any], profile: str) -> list[EvalResult] | None:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=f"thinkless-{profile}",
            dataset_name=f"questions of the profile {profile}",
            metric_type=name,
            metric_value=round(metrics[name], 4),
        )
        for name in _SHOWN
        if name in metrics
    ] or None


def _figures(metrics: dict[str, Any]) -> str:
    if not metrics:
        return "Not yet evaluated."
    rows = [f"| {label} | {metrics[name]:.3f} |" for name, label in _SHOWN.items() if name in metrics]
    return "\n".join([f"On {metrics['questions']} held-out questions:", "", "| | |", "|---|---|", *rows])


def push_model(folder: Path, repo_id: str, *, private: bool = True) -> str:
    """Put an exported folder on the Hugging Face hub; returns the address.

    Needs a token: `hf auth login`, or the environment's ``HF_TOKEN``. Raises StageError in one line.
    """
    hub = HfApi()
    with pushing_to(repo_id):
        address = hub.create_repo(repo_id, private=private, exist_ok=True)
        hub.upload_folder(folder_path=folder, repo_id=repo_id)
    return str(address)


@contextmanager
def pushing_to(repo_id: str) -> Iterator[None]:
    """Turns what the hub refuses (no token, an impossible name, no network) into a StageError of one line."""
    try:
        yield
    except (OSError, ValueError, HTTPError) as error:
        raise StageError(f"cannot push to {repo_id}: {' '.join(str(error).split())}") from error
