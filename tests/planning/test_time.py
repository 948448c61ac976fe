"""Proves the floors and the levels above them against numbers derived by hand, and that they are monotone.

Run: python -m pytest tests/planning/test_time.py
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.planning.hardware import GPUS, shape_of
from thinkless.planning.steps import forward_seconds, generation_seconds
from thinkless.planning.time import LEVELS, stage_seconds
from thinkless.planning.work import Length, Work, cut, lognormal, typical
from thinkless.runs.profiles import load_profile
from thinkless.runs.settings import ModelTeacher, ServerTeacher

FAMILY = "deepseek-ai/DeepSeek-R1-Distill-Qwen"
R1, H100 = shape_of(f"{FAMILY}-1.5B"), GPUS["h100"]
PAPER = load_profile("h100x4")
"""Its RL: 600 steps of 1024 answers on four GPUs, 5 passes: the old policy's and the reference's are two."""


ANSWERS = typical(lognormal(5000, 1.1), 24_576, 1024)
PAPERS = Length(float(ANSWERS.mean()), float(np.sqrt((ANSWERS**2).mean())), 24_576)
"""Of a step: about 4,600 on average, rms 6,900."""


def hours_of(stage, length, profile=PAPER, *, rows=600 * 1024.0, gpu=H100, processes=4, answers=None):
    profile = profile.model_copy(
        update={"launch": profile.launch.model_copy(update={"processes": processes})}
    )
    work = Work(stage, rows, length, processes, prompt=150, answers=ANSWERS if answers is None else answers)
    return pd.Series(stage_seconds(work, profile, R1, gpu), LEVELS) / 3600


# Floors. Expected values are those of an independent calculation with means and rms rounded to three digits.


@pytest.mark.parametrize(
    ("mean", "rms", "lean", "full"),
    [
        (3500, 5500, 8.0, 9.9),
        (4600, 6500, 11.1, 13.4),
        (6800, 9400, 21.2, 25.0),
        (3900, 4800, 6.9, 8.7),
    ],
)
def test_floor_of_the_paper_run(mean, rms, lean, full):
    """Hours on four H100, training with 3 forward passes (forward, backward) or with 6."""
    length = Length(mean, rms, 24_576)
    generation = 600 * generation_seconds(R1, H100, length, 256, prompt=150, batch=256)
    unit = forward_seconds(R1, H100, length, 600 * 256, 150)
    assert (generation + 3 * unit) / 3600 == pytest.approx(lean, rel=0.025)
    assert (generation + 6 * unit) / 3600 == pytest.approx(full, rel=0.025)


@pytest.mark.parametrize(("batch", "rate"), [(1, 1028), (8, 6000), (64, 15_200), (256, 18_200)])
def test_tokens_per_second_at_a_mean_context_of_6000(batch, rate):
    """batch / ((2 x 1.544e9 + batch x 6000 x 28,672) bytes / 3.35e12 bytes/s)"""
    length = Length(12_000, 12_000, 12_000)
    seconds = generation_seconds(R1, H100, length, 1e6, prompt=0, batch=batch)
    assert 12_000 * 1e6 / seconds == pytest.approx(rate, rel=0.01)


def test_the_longest_answer_bounds_a_step_on_any_number_of_gpus():
    """24,576 tokens x 3.09e9 bytes / 3.35e12 bytes/s = 22.6 s, 3.8 h in 600 steps"""
    length = Length(4600, 6500, 24_576)
    assert generation_seconds(R1, H100, length, 1, prompt=150, batch=1) == pytest.approx(22.65, abs=0.05)
    floors = [hours_of("rl-degrpo-0", PAPERS, processes=n).floor for n in (64, 512)]
    assert min(floors) > 3.77


# Levels


def test_the_levels_of_the_paper_run():
    hours = hours_of("rl-degrpo-0", PAPERS)
    generation = 600 * generation_seconds(R1, H100, PAPERS, 256, prompt=150, batch=256) / 3600
    unit = 600 * forward_seconds(R1, H100, PAPERS, 256, 150) / 3600
    assert hours.floor == pytest.approx(generation + 5 * unit)
    spent = generation + 6 * unit  # one more is recomputed
    assert (hours.others_low, hours.others_high) == pytest.approx((4 * spent, 7 * spent))
    # at the rates of the runs behind the factors: 2.83e9 tokens / 4 / 2,900 and 2,300 per second, 68 to 85 h
    assert hours.others_low < 68 < 85 < hours.others_high


def test_passes_that_a_run_does_without():
    """3 passes with one update a step and without the reference; three fifths of the training's floor."""
    lean = load_profile("h100x4", {"rl.engine": "transformers", "rl.beta": 0.0, "rl.updates_per_step": 1})
    saved = hours_of("rl-degrpo-0", PAPERS).floor - hours_of("rl-degrpo-0", PAPERS, lean).floor
    unit = forward_seconds(R1, H100, PAPERS, 600 * 256, 150) / 3600
    assert saved == pytest.approx(2 * unit)


def test_another_gpu_gets_the_same_distance_from_its_floor():
    plain = load_profile("h100x4", {"launch.gradient_checkpointing": False})
    hours = hours_of("rl-degrpo-0", PAPERS, plain, gpu=GPUS["a100"])
    assert (hours.others_low / hours.floor, hours.others_high / hours.floor) == pytest.approx((4, 7))


def test_the_warm_up_of_the_paper_takes_a_day():
    """17,000 updates of 128 rows of 4,000 tokens: 1.3e20 operations, 23 h at 40 %, 37 h at 25 %."""
    work = Work("sft", 17_000 * 128, Length(4000, 5500, 16_384), processes=4, prompt=0)
    seconds = 4 * forward_seconds(R1, H100, work.length, work.rows / 4, 0)
    assert 4 * seconds * H100.flops == pytest.approx(1.3e20, rel=0.01)
    floor, configured, others_low, _ = stage_seconds(work, PAPER, R1, H100)
    assert floor == pytest.approx(seconds * 3 / 4)
    assert configured / 3600 == pytest.approx(23, abs=0.5)
    assert others_low / 3600 == pytest.approx(37, abs=1)


def test_generation_levels():
    hours = hours_of("eval-sft", Length(3000, 4000, 16_384))
    shares = [hours.floor / level for level in hours]
    assert shares == pytest.approx([1, 0.65, 0.47, 0.35])


def test_nothing_to_do_and_a_server_take_no_time_of_ours():
    assert not hours_of("base", Length(0, 0, 0), rows=0).any()
    server = ServerTeacher(kind="server", base_url="http://gpu7:8000/v1", model="any")
    work = Work("distill-short", 1000, Length(900, 1100, 3000), 1, 150, server)
    assert not any(stage_seconds(work, PAPER, R1, H100))


def test_a_teacher_takes_the_time_of_its_own_size():
    """Seven billion parameters read 4.6 times as many bytes of weights a token as one and a half."""
    length = Length(900, 1100, 3000)
    small, large = (
        Work("distill-think", 1000, length, 1, 150, ModelTeacher(kind="model", path=f"{FAMILY}-{size}"))
        for size in ("1.5B", "7B")
    )
    ratio = stage_seconds(large, PAPER, R1, H100)[0] / stage_seconds(small, PAPER, R1, H100)[0]
    assert 2 < ratio < 4.6


@given(
    mean=st.floats(50, 2e4),
    spread=st.floats(0, 2),
    longer=st.floats(1, 3),
    gpu=st.sampled_from(sorted(GPUS)),
    more=st.sampled_from([1, 2, 4, 8]),
)
def test_more_tokens_never_take_less_time_and_more_gpus_never_more(mean, spread, longer, gpu, more):
    def hours(scale, gpus):
        lengths = lognormal(scale * mean, spread)
        answers = typical(lengths, 24_576, 1024)
        length = cut(lengths, 24_576)
        return hours_of("rl-degrpo-0", length, gpu=GPUS[gpu], processes=gpus, answers=answers)

    one = hours(1, 4)
    slack = 1 + 1e-9
    assert all(a <= b * slack for a, b in zip(one, hours(longer, 4), strict=True))
    assert all(a * slack >= b for a, b in zip(one, hours(1, 4 * more), strict=True))
