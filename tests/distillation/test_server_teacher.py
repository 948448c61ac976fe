"""Proves that a distillation from a live server outlives the death of the server and its own.

The server is `transformers serve`, a process of its own on a model made here; so is the distillation.
Both are killed with SIGKILL in the middle of it. tests/with_vllm does the same on vLLM.

Run: python -m pytest tests/distillation/test_server_teacher.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY
from datasets import Dataset, disable_progress_bars, load_from_disk
from servers import free_port, start

from thinkless.distillation.card import save_pairs
from thinkless.distillation.gate import summary
from thinkless.distillation.pairs import Teacher, distill
from thinkless.errors import StageError
from thinkless.generation import ServerGenerator
from thinkless.modes import Mode

CUES = {Mode.THINK: "?", Mode.SHORT: "!"}
IN_FLIGHT = 3
PROBLEMS = Dataset.from_list(
    [{"question": f"{a}+{b}=", "answer": str((a + b) % 10)} for a in range(8) for b in range(5)]
)


def teachers(generator):
    return [
        Teacher(generator, mode, ask=lambda prompt, cue=cue: prompt + cue, name=mode.label)
        for mode, cue in CUES.items()
    ]


def main(url: str, model: str, folder: str, settings: str):
    """One distillation: the process that is killed, and run again."""
    disable_progress_bars()
    generator = ServerGenerator(url, model, extensions=False, in_flight=IN_FLIGHT, retries=1)
    sampling = json.loads(settings)
    try:
        pairs = distill(PROBLEMS, teachers(generator), **sampling, folder=Path(folder))
    except StageError as error:
        sys.exit(f"error: {error}")
    save_pairs(
        pairs,
        Path(folder, "pairs"),
        counts=summary(pairs, pairs),
        teachers=teachers(generator),
        sampling=sampling,
    )


class Distillation:
    """Starts that process, and looks at what it has stored."""

    def __init__(self, url, model, folder, settings):
        self.arguments = [url, str(model), str(folder), json.dumps(settings)]
        self.files = [folder / f"{mode.label}.jsonl" for mode in CUES]

    def start(self):
        return subprocess.Popen(
            [sys.executable, __file__, *self.arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))},
        )

    def lines(self) -> list[bytes]:
        """All complete lines of the two files, which are written one after the other."""
        stored = b"".join(file.read_bytes() for file in self.files if file.exists())
        return [line for line in stored.splitlines(keepends=True) if line.endswith(b"\n")]

    def wait_for(self, lines: int, process):
        deadline = time.monotonic() + 300
        while len(self.lines()) < lines:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "nothing arrives"
            time.sleep(0.01)


def survives_both_deaths(start_server, url, model, tmp_path, settings) -> Dataset:
    """Kill the distillation in its first third and the server in its second; returns the pairs."""
    total = 2 * len(PROBLEMS)
    run = Distillation(url, model, tmp_path, settings)
    server = start_server()
    try:
        process = run.start()
        run.wait_for(total // 4, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        first = run.lines()
        assert total // 4 <= len(first) < total - IN_FLIGHT, "killed too late to prove anything"

        process = run.start()
        run.wait_for(total * 5 // 8, process)
        server.kill()
        server.wait()
        assert process.wait(300) == 1
        error = process.stderr.read()
        assert error.count("\n") == 1
        assert error.startswith(f"error: {url} gave no answer to prompt ")
        second = run.lines()
        assert second[: len(first)] == first
        assert len(first) < len(second) < total, "killed too late to prove anything"

        server = start_server()
        process = run.start()
        assert process.wait(300) == 0, process.stderr.read()
    finally:
        server.kill()
        server.wait()
    stored = [[json.loads(line) for line in file.read_bytes().splitlines()] for file in run.files]
    assert run.lines()[: len(second)] == second
    for rows in stored:
        assert sorted(row["question"] for row in rows) == sorted(PROBLEMS["question"])  # none lost or doubled
        assert len({row["key"] for row in rows}) == len(rows)
    pairs = load_from_disk(tmp_path / "pairs")
    assert list(pairs["question"]) == list(PROBLEMS["question"])
    for mode, rows in zip(CUES, stored, strict=True):
        responses = {row["question"]: row["response"] for row in rows}
        assert list(pairs[f"{mode.label}_response"]) == [
            responses[question] for question in pairs["question"]
        ]
    return pairs


@pytest.mark.slow
def test_a_distillation_outlives_its_server_and_itself(tokenizer, tmp_path):
    """Greedy, so what is pieced together must be what the model says in this process, in one go."""
    pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi")
    from thinkless.generation import TransformersGenerator  # the processes of `main` start without it
    from thinkless.models import build_model

    model = build_model(tokenizer, **TINY)
    # Servers leave special tokens out of their text, and a model of random weights writes any: with rows of
    # zeros (of the output, too) these two are never the likeliest.
    model.get_input_embeddings().weight.data[[tokenizer.pad_token_id, tokenizer.unk_token_id]] = 0
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    port = free_port()
    command = ["transformers.cli.transformers", "serve", str(tmp_path / "model"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    settings = {"max_tokens": 24, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    pairs = survives_both_deaths(
        lambda: start(command, port, tmp_path / "server.log"),
        f"http://127.0.0.1:{port}/v1",
        tmp_path / "model",
        tmp_path,
        settings,
    )
    at_once = distill(PROBLEMS, teachers(TransformersGenerator(model, tokenizer)), **settings)
    said = [f"{mode.label}_response" for mode in CUES]
    assert list(pairs.select_columns(said)) == list(at_once.select_columns(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
