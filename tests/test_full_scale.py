"""Runs every stage of `h100x4` on two CPU cores, through the chapters, changed only by an override file.

The checkpoint is tiny and random, but has the layout of DeepSeek-R1-Distill-Qwen-1.5B: architecture,
byte-level tokenizer, stock chat template. The short teacher is a live OpenAI-compatible server.

Run: python -m pytest tests/test_full_scale.py -s    (-s prints the keys that are overridden)
"""

import json
from pathlib import Path

import papermill
import pytest
import yaml
from real_layout import make_qwen25_layout, make_r1_layout
from safetensors.torch import load_file, save_file
from servers import free_port, serving
from transformers import GenerationConfig

from thinkless.book.chapters import own_sockets
from thinkless.models import load_tokenizer
from thinkless.runs.metrics import read_metrics
from thinkless.runs.profiles import load_profile

ROOT = Path(__file__).parents[1]
STAGE_CHAPTERS = ("02_distillation", "03_sft", "06_rl", "08_evaluation")

PLACES = ("model.", "distill.think.", "distill.short.", "problems.folder")
SIZES = {
    *("problems.limit", "distill.questions", "distill.max_tokens", "launch.processes"),
    *("sft.batch_size", "sft.warmup_steps", "sft.save_steps"),
    *("rl.steps", "rl.prompts_per_step", "rl.group_size", "rl.max_tokens", "rl.save_steps", "rl.engine"),
    *("evaluation.engine", "evaluation.max_tokens", "evaluation.samples"),
}
"""What the override file may change. Precision, sharding, checkpointing, micro-batches and the fate of long
answers are the paper run's own: what fails in them has to fail here."""

pytestmark = pytest.mark.slow


def flat(values, prefix=""):
    for key, value in values.items():
        yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a real server and the name of its model, a tiny one in Qwen2.5's layout."""
    folder = make_qwen25_layout(tmp_path_factory.mktemp("teacher") / "short")
    config = GenerationConfig.from_pretrained(folder)
    vocabulary = load_tokenizer(folder).get_vocab()
    # It writes at random, and the server would take a tool call apart and fail on what is in it.
    config.suppress_tokens = [vocabulary["<tool_call>"], vocabulary["</tool_call>"]]
    config.save_pretrained(folder)
    port = free_port()
    command = ["transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, folder / "serve.log") as address:
        yield f"{address}/v1", str(folder)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def teach_to_think(folder):
    """Give an untrained model the real one's habit of opening with `<think>`: a few updates teach it none,
    and chapters stop at a model that chooses no mode.

    One coordinate is as large in every embedding, so that it outlasts the layers and is the whole of the
    last state (length sqrt(d)); the row of `<think>` in the output reads it: a logit of 24.
    """
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][:, 0] = 100.0
    output = weights["lm_head.weight"]
    output[load_tokenizer(folder).convert_tokens_to_ids("<think>"), 0] = 24 / output.shape[1] ** 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def profile(tmp_path_factory, server):
    """The override file with its paths filled in, and a model and questions for it to name."""
    folder = tmp_path_factory.mktemp("full_scale")
    make_r1_layout(folder / "r1")
    teach_to_think(folder / "r1")
    sums = [(a, b) for a in range(2, 6) for b in range(3)]
    write_jsonl(
        folder / "openthoughts.jsonl",
        [
            {
                "conversations": [
                    {"from": "user", "value": f"What is {a}+{b}?"},
                    {
                        "from": "assistant",
                        "value": f"<think>\nI add {b} to {a}.\n</think>\n\nIt is \\boxed{{{a + b}}}.",
                    },
                ]
            }
            for a, b in sums
        ],
    )
    sets = folder / "sets"
    sets.mkdir()
    questions = [{"problem": f"Find {a}+{b}.", "answer": str(a + b)} for a, b in sums]
    write_jsonl(sets / "deepscaler.jsonl", questions)
    write_jsonl(sets / "aime_2024.jsonl", [{**row, "answer": "025"} for row in questions])
    write_jsonl(sets / "math_500.jsonl", [{**row, "level": 1 + n % 5} for n, row in enumerate(questions)])
    write_jsonl(
        sets / "minerva_algebra.jsonl",
        [
            {"problem": row["problem"], "solution": f"\\boxed{{{row['answer']}}}", "level": "Level 2"}
            for row in questions
        ],
    )
    write_jsonl(
        sets / "gsm8k.jsonl",
        [{"question": row["problem"], "answer": f"Add.\n#### {row['answer']}"} for row in questions],
    )
    address, name = server
    values = yaml.safe_load((ROOT / "tests" / "h100x4_on_cpu.yaml").read_text())
    values["problems"]["folder"] = str(sets)
    values["model"] = {"path": str(folder / "r1")}
    values["distill"]["think"] = {"path": str(folder / "openthoughts.jsonl")}
    values["distill"]["short"] = {"kind": "server", "base_url": address, "model": name, "parallel": 2}
    path = folder / "h100x4_on_cpu.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_override_file_changes_sizes_and_places_only(profile):
    paper, ours = (dict(flat(load_profile(name).model_dump())) for name in ("h100x4", str(profile)))
    changed = sorted(key for key in ours if ours[key] != paper.get(key) and "." in key)
    print(f"\n{len(changed)} of {len(ours)} settings differ from h100x4:")
    for key in changed:
        print(f"{key:32}{paper.get(key)!s:>44}  ->  {ours[key]}")
    assert {key for key in changed if not key.startswith(PLACES)} == SIZES


def test_every_stage_runs_through_its_chapter(profile, tmp_path):
    """Distillation from open data and a live server, SFT and RL as two processes, evaluation."""
    runs = tmp_path / "runs"
    for chapter in STAGE_CHAPTERS:
        with own_sockets() as config:
            papermill.execute_notebook(
                str(ROOT / "notebooks" / f"{chapter}.ipynb"),
                str(tmp_path / f"{chapter}.ipynb"),
                parameters={"profile": str(profile), "runs_dir": str(runs)},
                progress_bar=False,
                cwd=str(tmp_path),
                config=config,
            )
    root = runs / "h100x4_on_cpu" / "seed0"

    distilled = json.loads((root / "distill" / "manifest.json").read_text())["metrics"]
    assert distilled["questions"] == 12
    (counts,) = distilled["sources"].values()
    assert counts["used"] == counts["rows"] - counts["duplicate"] >= 12
    answers = [json.loads(line) for line in (root / "distill" / "short.jsonl").read_text().splitlines()]
    assert len({answer["question"] for answer in answers}) == 12

    losses = [row["loss"] for row in read_metrics(root / "sft") if "loss" in row]
    assert losses
    steps = [row for row in read_metrics(root / "rl-degrpo-0") if "step_time" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]  # two updates for each of two rollouts
    report = json.loads((root / "eval-rl-degrpo-0" / "manifest.json").read_text())["metrics"]
    assert report["questions"] == 4 * 3
    # every benchmark here asks what the training set asks
    assert list(report["also_in_training"].values()) == [3] * 4
