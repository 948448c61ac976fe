"""The live model in a browser beside the same model in Python, for the tests of both.

`answers_in_page` and `answers_in_python` ask a checkpoint of a page the same things in the same order.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from chromium import Tab

from thinkless.generation import TransformersGenerator
from thinkless.models import load
from thinkless.modes import Mode

SETTINGS = ({}, {"mode": "short"}, {"mode": "think"}, {"tolerance": 1.5})
"""Greedy decoding: free, short, think, and free under a tolerance."""

ASK = """((stage, questions, settings) => {{
  const world = LiveModel.index.world;
  const checkpoint = LiveModel.index.checkpoints.find((one) => one.stage === stage);
  window.tested ??= {{}};
  const model = (tested[stage] ??= LiveModel.read(checkpoint, LiveModel.weights[stage]));
  const all = (asked, setting) => [...LiveModel.answer(asked, {{ longest: world.longest, ...setting }})];
  return questions.map(({{ prompt }}) => {{
    if (!model.controls)
      return [null, Object.values(world.cues).map((cue) => all(LiveModel.ask(model, prompt + cue), {{}}))];
    const asked = LiveModel.ask(model, prompt);
    return [LiveModel.share(asked.preference), settings.map((setting) => all(asked, setting))];
  }});
}})({})"""


class Answered(NamedTuple):
    """Greedy answers to a question: ids for each of `SETTINGS`; of a model without modes, for each cue."""

    think_probability: float | None
    ids: list[list[int]]


def read_index(folder: Path) -> dict:
    """The index that `publish` wrote into `folder`."""
    return json.loads(
        (folder / "index.js").read_text(encoding="utf-8").splitlines()[-1].partition(" = ")[2][:-1]
    )


def answers_in_page(tab: Tab, stage: str, questions: list[dict]) -> list[Answered]:
    """What the page of `tab` makes of `questions`, twenty at a time: no call may take minutes."""
    answered = []
    for start in range(0, len(questions), 20):
        arguments = json.dumps([stage, questions[start : start + 20], SETTINGS])[1:-1]
        answered += [Answered(*row) for row in tab.run(ASK.format(arguments))]
    return answered


def answers_in_python(folder: Path, index: dict, questions: list[dict]) -> list[Answered]:
    """The same of the model in `folder`, its parameters rounded as the page's are."""
    model, tokenizer = load(folder)
    with torch.no_grad():
        for parameter in model.parameters():  # not its buffers, which the page computes itself
            parameter.copy_(parameter.half())
    generator = TransformersGenerator(model, tokenizer)
    prompts, limit = (
        [row["prompt"] for row in questions],
        {"max_tokens": index["world"]["longest"], "temperature": 0},
    )
    if "<short>" not in tokenizer.get_vocab():
        by_cue = [
            generator.generate([prompt + cue for prompt in prompts], **limit)
            for cue in index["world"]["cues"].values()
        ]
        return [
            Answered(None, [list(answer.token_ids) for [answer] in row]) for row in zip(*by_cue, strict=True)
        ]
    answers = []
    for setting in SETTINGS:
        mode = Mode(f"<{setting['mode']}>") if "mode" in setting else None
        bias = setting.get("tolerance", 0.0)
        answers.append(generator.generate(prompts, mode=mode, mode_bias=bias, **limit))
    return [
        Answered(row[0][0].think_probability, [list(answer.token_ids) for [answer] in row])
        for row in zip(*answers, strict=True)
    ]


def assert_equal(page: list[Answered], python: list[Answered]):
    """Every token is the same, and P(think) but for rounding."""
    assert [row.ids for row in page] == [row.ids for row in python]
    shares = [[row.think_probability for row in rows] for rows in (page, python)]
    if None not in shares[0]:
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
