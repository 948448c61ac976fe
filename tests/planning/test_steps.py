"""Proves the model of an RL step by hand, and against an independent simulation of the code's first version.

Run: python -m pytest tests/planning/test_steps.py
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.planning.hardware import GPUS, shape_of
from thinkless.planning.steps import MASKED, REST, SCORED, TOKEN, TRAINED, Ways, rl_step
from thinkless.planning.work import assume, lognormal, typical
from thinkless.runs.profiles import load_profile

PAPER, H100 = load_profile("h100x4"), GPUS["h100"]
R1 = shape_of(PAPER.model.path)
FIRST = Ways(trimmed=False, aligned=False)
"""As the code was at first."""
WAITING, TAIL = "GPUs waiting for each other", "long tail of generation"


def step_of(answers, overrides=None, ways=None, prompt=150):
    profile = load_profile("h100x4", overrides)
    return rl_step(np.asarray(answers, float), profile, R1, H100, prompt=prompt, ways=ways or Ways())


def papers(**changes):
    a = assume(PAPER.problems, changes)
    return typical(a.lengths(a.think_rate), 24_576, 1024)


@pytest.mark.parametrize(
    ("changes", "seconds", "share"),
    [({}, (510, 965), (0.08, 0.15)), ({"think_mean": 9000, "short_mean": 1200}, (620, 1110), (0.12, 0.21))],
)
def test_the_first_version_comes_out_as_in_an_independent_simulation(changes, seconds, share):
    """Ranges of another model, answer by answer: its ends are attention at 300 and 100 Tflop/s."""
    step = step_of(papers(**changes), ways=FIRST)
    assert seconds[0] < step.seconds < seconds[1]
    assert share[0] < step.floor / step.seconds < share[1]
    # trimmed, it had 303 and 423 s; its generation was slower by a quarter
    trimmed = step_of(papers(**changes), ways=Ways(aligned=False)).seconds
    assert trimmed == pytest.approx(423 if changes else 303, rel=0.1)


def test_padding_by_hand():
    """One of four GPUs has an answer of 80 tokens beside one of 8,000, and scores it twice at that width."""
    small = {"rl.prompts_per_step": 2, "rl.group_size": 4, "rl.updates_per_step": 1}
    assert step_of([8000.0] * 8, small, FIRST).losses["padding"] == pytest.approx(0, abs=1e-9)
    padded, trimmed = (step_of([80.0] * 7 + [8000.0], small, Ways(trimmed=x)) for x in (False, True))
    wide, short = 8150, 230
    more = 2 * R1.matmul * (wide - short) / 0.45 + 2 * 28 * 1536 * (wide**2 * 2 / MASKED - short**2 / 0.45)
    assert trimmed.losses["padding"] == pytest.approx(0, abs=1e-9)
    assert padded.losses["padding"] == pytest.approx(2 * more / H100.flops / 4, rel=1e-6)


def test_generation_lasts_as_long_as_its_longest_answer():
    """One answer alone: every token takes the time of launching the layers, 3.5 ms."""
    small = {"rl.prompts_per_step": 4, "rl.group_size": 2, "rl.updates_per_step": 1}
    step = step_of([10.0] * 7 + [20_000.0], small)
    cache, weights = 28_672 * (150 * 20_070 + (20_000**2 + 7 * 100) / 2) / 4, 20_070 / 4 * 3.09e9 / 2
    generation = max((cache + weights) / 3.35e12, 20_000 * 3.09e9 / 3.35e12)
    assert step.losses[TAIL] == pytest.approx(20_000 * TOKEN - generation / 0.65, rel=0.01)
    assert step_of([10.0] * 7 + [20_000.0], small, Ways(carried=True)).losses[TAIL] == 0


def test_waiting_is_for_the_longest_of_each_micro_batch():
    """GPUs with equal answers wait for nobody; those with the same lengths in the same order hardly."""
    assert step_of([4000.0] * 1024).losses[WAITING] == pytest.approx(0, abs=1e-6)
    mixed = [500.0, 20_000.0] * 512
    random, ordered = (step_of(mixed, ways=Ways(aligned=x)).losses[WAITING] for x in (False, True))
    # at random three of four GPUs or more wait in 15/16 - 1/2 of the micro-batches; the deal is not even
    long = 4 * (2 * R1.matmul * 20_150 + 2 * 28 * 1536 * 20_150**2) / 0.42 / H100.flops
    assert random == pytest.approx(256 * (15 / 16 - 1 / 2) * (long - TRAINED), rel=0.1)
    assert ordered < random / 3


def test_short_rows_take_as_long_as_their_kernels_are_launched():
    """256 rows of 10 tokens on each GPU: 130 ms to train, 40 to score, twice."""
    launches = step_of([10.0] * 1024).losses["kernel launches of short rows"]
    assert launches == pytest.approx(256 * (TRAINED + 2 * SCORED), rel=0.1)


def test_a_pass_of_the_old_policy_is_a_loss_where_a_rollout_serves_one_update():
    name = "separate pass of the old policy"
    assert step_of(papers()).losses[name] == 0
    assert step_of(papers(), {"rl.updates_per_step": 1}).losses[name] > 1
    lean = {"rl.updates_per_step": 1, "rl.engine": "transformers"}
    assert step_of(papers(), lean).losses[name] == 0


@given(
    mean=st.floats(50, 2e4),
    spread=st.floats(0, 2),
    micro_batch=st.sampled_from([1, 2, 8]),
    buckets=st.sampled_from([1, 2, 8]),
    attention=st.sampled_from(["sdpa", "flash_attention_2"]),
)
def test_no_loss_is_negative_and_no_better_way_is_slower(mean, spread, micro_batch, buckets, attention):
    answers = typical(lognormal(mean, spread), 24_576, 1024)
    overrides = {"rl.micro_batch": micro_batch, "rl.length_buckets": buckets, "launch.attention": attention}
    ways = [FIRST, Ways(aligned=False), Ways(aligned=True), Ways(aligned=True, carried=True)]
    steps = [step_of(answers, overrides, way) for way in ways]
    for step in steps:
        assert min(step.losses.values()) > -1e-6 * step.seconds
        assert step.losses["grading, weights to vLLM, checkpoints"] == REST
        assert step.floor == pytest.approx(steps[0].floor)
    seconds = [step.seconds for step in steps]
    assert all(a * (1 + 1e-9) >= b for a, b in pairwise(seconds))
