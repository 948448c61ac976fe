"""Proves the floors and the levels above them against numbers derived by hand, and that they are monotone.

Run: python -m pytest tests/planning/test_roofline.py
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.planning.hardware import GPUS, shape_of
from thinkless.planning.roofline import (
    Length,
    capped_lognormal,
    generation_seconds,
    mixture,
    training_seconds,
)
from thinkless.planning.timing import generation_hours, measured, rl_hours, supervised_hours

R1, H100 = shape_of("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"), GPUS["h100"]
RUN = {"answers": 600 * 1024, "steps": 600, "gpus": 4, "prompt": 150}
"""The paper's RL: 600 steps of 1024 answers on four GPUs."""


# Lengths


def test_moments_of_capped_lengths_are_those_of_a_sample():
    mean, rms, limit = 6000.0, 8000.0, 16_384.0
    variance = 2 * math.log(rms / mean)
    draws = np.random.default_rng(0).lognormal(math.log(mean) - variance / 2, math.sqrt(variance), 400_000)
    assert draws.mean() == pytest.approx(mean, rel=0.01)
    length, cut = capped_lognormal(mean, rms, limit), np.minimum(draws, limit)
    assert length.mean == pytest.approx(cut.mean(), rel=0.005)
    assert length.rms == pytest.approx(np.sqrt((cut**2).mean()), rel=0.005)
    assert length.capped == pytest.approx((draws > limit).mean(), abs=0.001)
    assert capped_lognormal(mean, rms, 1e9, answers=1000).longest == pytest.approx(
        np.quantile(draws, 0.999), rel=0.03
    )


def test_no_limit_changes_nothing_and_equal_lengths_have_no_spread():
    free = capped_lognormal(500, 700, 1e12)
    assert (free.mean, free.rms, free.capped) == pytest.approx((500, 700, 0))
    assert capped_lognormal(500, 500, 300) == Length(300, 300, 300, 1.0)


@given(mean=st.floats(10, 1e4), spread=st.floats(0.05, 2), low=st.floats(20, 1e5), factor=st.floats(1, 10))
def test_a_higher_limit_never_shortens_answers(mean, spread, low, factor):
    rms = mean * math.sqrt(1 + spread**2)
    short, long = (capped_lognormal(mean, rms, limit) for limit in (low, low * factor))
    assert short.mean <= long.mean * (1 + 1e-9)
    assert short.rms <= long.rms * (1 + 1e-9)
    assert short.capped >= long.capped
    assert short.mean <= short.rms * (1 + 1e-9)
    assert short.longest <= low


def test_a_mixture_weighs_means_and_squares():
    mixed = mixture([(0.75, Length(4, 6, 9, 0.2)), (0.25, Length(8, 10, 12))])
    assert (mixed.mean, mixed.rms, mixed.longest) == (5, math.sqrt(0.75 * 36 + 0.25 * 100), 12)
    assert mixed.capped == pytest.approx(0.15)


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
    unit = training_seconds(R1, H100, length, 600 * 256, prompt=150, units=1)
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
    floors = [
        rl_hours(R1, H100, length, **{**RUN, "gpus": n}, units=3, recompute=False).floor for n in (64, 512)
    ]
    assert min(floors) > 3.77


# Levels


def test_the_levels_of_the_paper_run():
    hours = rl_hours(R1, H100, Length(4600, 6500, 24_576), **RUN, units=5, recompute=True)
    assert hours.floor == pytest.approx(12.7, abs=0.1)  # 8.7 generation + 5 units of 0.79
    assert hours.tuned == pytest.approx(27, abs=0.3)  # 8.7 / .65 + 6 x 0.79 / .35
    assert (hours.others_low, hours.others_high) == pytest.approx((67.7, 85.3), abs=0.1)  # 2.83e9 / 4 / rate


def test_another_gpu_gets_the_same_distance_from_its_floor():
    length = Length(4600, 6500, 24_576)
    hours = rl_hours(R1, GPUS["a100"], length, **RUN, units=6, recompute=False)
    assert (hours.others_low / hours.floor, hours.others_high / hours.floor) == pytest.approx((4, 7))


def test_the_warm_up_of_the_paper_takes_a_day():
    """17,000 updates of 128 rows of 4,000 tokens: 1.3e20 operations, 23 h at 40 %, 37 h at 25 %."""
    length = Length(4000, 5500, 16_384)
    seconds = training_seconds(R1, H100, length, 17_000 * 128 / 4, prompt=0, units=4)
    assert 4 * seconds * H100.flops == pytest.approx(1.3e20, rel=0.01)
    hours = supervised_hours(seconds * 3 / 4, seconds)
    assert hours.tuned == pytest.approx(23, abs=0.5)
    assert hours.others_low == pytest.approx(37, abs=1)


def test_generation_levels():
    hours = generation_hours(3600)
    assert hours.floor == 1
    assert (hours.tuned, hours.others_low, hours.others_high) == pytest.approx((1 / 0.65, 1 / 0.47, 1 / 0.35))


@given(
    mean=st.floats(50, 2e4),
    spread=st.floats(0, 2),
    longer=st.floats(1, 3),
    gpu=st.sampled_from(sorted(GPUS)),
    units=st.integers(3, 5),
    more=st.integers(1, 8),
)
def test_more_tokens_never_take_less_time_and_more_gpus_never_more(mean, spread, longer, gpu, units, more):
    def hours(scale, gpus):
        rms = mean * math.sqrt(1 + spread**2)
        length = capped_lognormal(scale * mean, scale * rms, 24_576)
        run = {**RUN, "gpus": gpus}
        levels = rl_hours(R1, GPUS[gpu], length, **run, units=units, recompute=True)
        return [levels.floor, levels.tuned, levels.others_low, levels.others_high]

    one = hours(1, 4)
    slack = 1 + 1e-9
    assert all(a <= b * slack for a, b in zip(one, hours(longer, 4), strict=True))
    assert all(a * slack >= b for a, b in zip(one, hours(1, 4 * more), strict=True))


# Records


def record(folder, **row):
    command = "python -m thinkless stage x --profile h100x4 --seed 0"
    rows = [{"command": command, **row}]
    (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps({"rows": rows}))


def test_hours_of_records(tmp_path):
    assert measured("h100x4", tmp_path) == {}
    record(tmp_path, stage="rl-degrpo-0", wall_seconds=7200)
    record(tmp_path, stage="rl-degrpo-0", wall_seconds=14_400)
    record(tmp_path, stage="rl-degrpo-0", wall_seconds=18_000)
    record(tmp_path, stage="eval-sft", training_wall_seconds=3600)
    record(tmp_path, stage="sft", wall_seconds=1, command="x --profile h100x40")
    assert measured("h100x4", tmp_path) == {"rl-degrpo-0": 4, "sft": 1}
