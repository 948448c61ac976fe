"""Findings recomputed from the raw records by other means, and the closed form against its own derivation.

Run: python -m pytest tests/book/test_results.py
"""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from thinkless.book.results import _sorting, read_questions, read_records, runs
from thinkless.errors import StageError
from thinkless.evaluation import calibration, routers
from thinkless.evaluation.prediction import gamma_without_pull, measured, predicted_pull, safe_at_once
from thinkless.objectives import token_advantages
from thinkless.runs.profiles import load_profile
from thinkless.runs.provenance import RESULTS

RUN = (0, "rl-degrpo-0")
MODES = ("think", "short")


@pytest.fixture(scope="module")
def raw():
    """The rows of one run in the committed table of questions, as plain dictionaries."""
    with (RESULTS / "evidence_questions.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if (int(r["pipeline_seed"]), r["stage"]) == RUN]
    numbers = {
        "level",
        "probability",
        "chosen",
        "accuracy_short",
        "accuracy_think",
        "reward_short",
        "reward_think",
    }
    return [{name: float(row[name]) for name in numbers} for row in rows]


def test_regret_of_the_model_and_of_a_random_router(raw):
    by_level = defaultdict(list)
    for row in raw:
        by_level[row["level"]].append(row)
    best = 0.0
    for rows in by_level.values():
        best += max(sum(r["reward_short"] for r in rows), sum(r["reward_think"] for r in rows))
    rate = sum(r["chosen"] for r in raw) / len(raw)
    earned = sum(r["chosen"] * r["reward_think"] + (1 - r["chosen"]) * r["reward_short"] for r in raw)
    blind = sum(rate * r["reward_think"] + (1 - rate) * r["reward_short"] for r in raw)
    table = read_questions()[RUN]
    found = routers.compare(table, routers.choose(table))["regret", "mean"]
    assert found["model"] == pytest.approx((best - earned) / len(raw), abs=1e-9)
    assert found["random, same rate"] == pytest.approx((best - blind) / len(raw), abs=1e-9)


def test_auroc_by_counting_pairs(raw):
    """Every pair of a question in need and one that is not, weighed by how much each is so."""
    need = np.array([(1 - r["accuracy_short"]) * r["accuracy_think"] for r in raw])
    score = np.array([r["probability"] for r in raw])
    won = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    pairs = need[:, None] * (1 - need)
    expected = (won * pairs).sum() / pairs.sum()
    assert calibration.ranking(read_questions()[RUN])["auroc"] == pytest.approx(expected)


def test_calibration_error_bin_by_bin(raw):
    bins = defaultdict(list)
    for row in raw:
        need = (1 - row["accuracy_short"]) * row["accuracy_think"]
        bins[min(int(row["probability"] * 10), 9)].append((row["probability"], need))
    expected = sum(abs(sum(p for p, _ in pairs) - sum(n for _, n in pairs)) for pairs in bins.values())
    found = calibration.calibration_error(read_questions()[RUN])
    assert found == pytest.approx(expected / len(raw))


def test_share_of_no_worse_choices(raw):
    right = 0.0
    for row in raw:
        ahead = row["accuracy_think"] - row["accuracy_short"]
        right += row["chosen"] * (ahead >= 0) + (1 - row["chosen"]) * (ahead <= 0)
    table = read_questions()[RUN]
    assert calibration.no_worse(table, table["chosen"].to_numpy()) == pytest.approx(right / len(raw))


def level_shares(profile):
    """The share of each level among held-out questions, (levels,)."""
    shares = defaultdict(float)
    for kind, share in profile.problems.shares().items():
        shares[kind.level] += share
    return [shares[level] for level in sorted(shares)]


def test_final_regret_of_every_run_from_its_own_figures():
    """Regret of the records between the bounds that think rates and accuracies by level leave.

    Within a level a mode may be chosen where it is right, or where it is wrong, and that is all that these
    figures do not say. The free answers are other draws than the forced ones: four standard errors of a
    mean of rewards between -1 and 1 may lie between.
    """
    for record in read_records():
        if record["stage"] == "sft" or record["variant"].endswith("-x8"):
            continue
        metrics, profile = record["metrics"], load_profile(record["profile"], record["overrides"])
        gamma, shares = profile.rl.gamma, level_shares(profile)
        least, most = [], []
        for level, rate in metrics["think_rate_by_level"].items():
            think, short = (metrics[f"accuracy_{mode}_by_level"][level] for mode in ("think", "short"))
            best = max(think * (2 - gamma) - 1, short * 2 - 1)
            luck = min(rate, think), min(1 - rate, short)
            bad_luck = max(0, think - (1 - rate)), max(0, short - rate)
            for (right_think, right_short), bounds in ((luck, least), (bad_luck, most)):
                bounds.append(best - right_think * (2 - gamma) - right_short * 2 + 1)
        error = 4 / np.sqrt(metrics["questions"])
        low, high = (np.dot(shares, bounds) for bounds in (least, most))
        assert low - error < metrics["regret"] < high + error, record["variant"]
        oracle = metrics["reward"] + metrics["regret"]  # what the best mode by level earns
        forced = [
            max(think * (2 - gamma) - 1, short * 2 - 1)
            for think, short in zip(
                metrics["accuracy_think_by_level"].values(),
                metrics["accuracy_short_by_level"].values(),
                strict=True,
            )
        ]
        assert oracle == pytest.approx(np.dot(shares, forced), abs=1e-4), record["variant"]


def test_the_table_of_questions_and_the_records_are_of_the_same_runs():
    records = {
        (r["pipeline_seed"], r["stage"]): r["metrics"] for r in read_records() if r["variant"].endswith("-x8")
    }
    tables = read_questions()
    assert set(tables) == set(records)
    for place, table in tables.items():
        for mode in ("short", "think"):
            expected = records[place][f"accuracy_{mode}_by_level"]
            found = table.groupby("level")[f"accuracy_{mode}"].mean()
            assert list(found) == pytest.approx(list(expected.values()), abs=1e-4)


@pytest.mark.parametrize("scale", ["none", "group"])
@pytest.mark.parametrize("objective", ["grpo", "dr_grpo", "token_mean", "degrpo", "degrpo_token_mean"])
def test_the_pull_is_that_of_the_token_advantages(objective, scale):
    """The weights that the trainer really puts on control tokens, on one answer of every kind."""
    changed = {"rl.alpha": 0.3, "rl.scale_rewards": scale, "problems.distractors": False}
    profile = load_profile("laptop", {**changed, "problems.mix": [0.6, 0.4, 0, 0]})
    kinds = {f"{n} of {n}": n for n in range(1, 5)}
    warm = {
        "think_rate_by_kind": dict.fromkeys(kinds, 0.4),
        "accuracy_think_by_kind": dict.fromkeys(kinds, 1.0),
        "accuracy_short_by_kind": {kind: float(n == 1) for kind, n in kinds.items()},
        "tokens_think_by_kind": {kind: 20.0 * n for kind, n in kinds.items()},
        "tokens_short_by_kind": {kind: 5.0 * n for kind, n in kinds.items()},
    }
    # rewards: one operator think .5, short 1; two think .5, short -1; each centred on the policy's mean
    lengths, modes, values = [20, 5, 40, 10], [1, 0, 1, 0], [0.5, 1.0, 0.5, -1.0]
    chances, shares = [0.4, 0.6] * 2, [0.6, 0.6, 0.4, 0.4]
    means = [0.4 * 0.5 + 0.6 * 1.0] * 2 + [0.4 * 0.5 + 0.6 * -1.0] * 2
    spreads = [np.std([0.5] * 4 + [1.0] * 6)] * 2 + [np.std([0.5] * 4 + [-1.0] * 6)] * 2
    centred = torch.tensor(values) - torch.tensor(means)
    if scale == "group":
        centred = centred / (torch.tensor(spreads, dtype=torch.float32) + 1e-4)
    mask = (torch.arange(40) < torch.tensor(lengths)[:, None]).float()
    advantages = token_advantages(centred, mask, objective, alpha=0.3, mean_length=20, max_length=40)
    control = advantages[:, 0] / torch.tensor(lengths)  # the per-sequence mean
    scores = [mode - 0.4 for mode in modes]  # d log P / d logit
    terms = [
        chance * share * score * weight.item()
        for chance, share, score, weight in zip(chances, shares, scores, control, strict=True)
    ]
    pull = predicted_pull(warm, profile, objective)
    shared = {"dr_grpo": 40, "token_mean": 20}.get(objective, 1)  # a factor that all answers share
    assert pull["1 of 1"] == pytest.approx(shared * sum(terms[:2]), rel=1e-4)
    assert pull["2 of 2"] == pytest.approx(shared * sum(terms[2:]), rel=1e-4)


@pytest.mark.parametrize("objective", ["grpo", "degrpo"])
def test_without_pull_there_is_none(objective):
    (record,) = (r for r in read_records() if (r["variant"], r["stage"]) == ("as-it-is", "sft"))
    profile = load_profile("laptop", record["overrides"])
    gamma = gamma_without_pull(measured(record["metrics"], profile), objective, profile.rl)
    pulls = [
        predicted_pull(
            record["metrics"], load_profile("laptop", {**record["overrides"], "rl.gamma": g}), objective
        )
        for g in (gamma - 0.1, gamma, gamma + 0.1)
    ]
    below, there, above = (pull.sum() for pull in pulls)
    assert there == pytest.approx(0, abs=1e-6 * below)
    assert below > 1e-3
    assert above < -1e-3


def test_runs_by_hand(tmp_path):
    rates = [0.5, 0.5, 0.6, 0.7, 0.6, 0.7, 0.6, 0.7, 0.1]
    kinds = ("1 of 1", "1 of 3", "1 of 4", "2 of 2", "2 of 4", "3 of 3", "4 of 4")
    warm = {
        f"{figure}_{m}_by_kind": dict.fromkeys(kinds, 1.0) for figure in ("accuracy", "tokens") for m in MODES
    }
    warm["think_rate_by_kind"] = dict.fromkeys(kinds, 0.5)
    warm["think_rate_by_level"] = {str(n): 0.5 for n in range(1, 5)}
    climbing = {"rl.warmup_steps": 12}  # so steps 1 to 3 are not yet looked at
    shared = {"variant": "v", "profile": "laptop", "overrides": climbing, "pipeline_seed": 0}
    rows = [
        {**shared, "stage": "sft", "metrics": {**warm, "tokens_always_think": 8.0}},
        {
            **shared,
            "stage": "rl-token_mean-2",
            "metrics": {**warm, "regret": 0.3, "tokens": 6.0},
            "curves": {"think_rate": rates},
        },
    ]
    (tmp_path / "evidence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = runs(read_records(tmp_path)).to_dict("records")
    assert (run["objective"], run["seed"], run["regret"]) == ("token_mean", 2, 0.3)
    assert run["pull"] < 0  # both modes are always right, so the short one pays
    assert run["early"] == pytest.approx(0.16)
    assert run["held"] is False
    assert (run["level 3"], run["2 of 4"]) == (0.5, 0.5)
    assert run["saved"] == 0.25
    # both modes are always right, so every kind is safe at once
    assert (run["most safe"], run["sorted"], run["collapsed"]) == (0.5, False, False)
    assert np.isnan(run["least hard"])


def test_a_story_s_kind_is_its_level():
    levels = ("1", "2", "3", "4")
    warm = {
        "think_rate_by_level": dict.fromkeys(levels, 0.5),
        "accuracy_think_by_level": dict.fromkeys(levels, 1.0),
        "accuracy_short_by_level": {"1": 1.0, "2": 0.2, "3": 0.2, "4": 0.2},
        **{f"tokens_{mode}_by_level": dict.fromkeys(levels, 9.0) for mode in MODES},
    }
    shared = {"variant": "v", "profile": "pocket", "overrides": {}, "pipeline_seed": 0}
    after = {**warm, "think_rate_by_level": {"1": 0.02, "2": 0.9, "3": 1.0, "4": 0.95}, "tokens": 9.0}
    (run,) = runs(
        [
            {**shared, "stage": "sft", "metrics": {**warm, "tokens_always_think": 9.0}},
            {**shared, "stage": "rl-degrpo-0", "metrics": after, "curves": {"think_rate": [0.5] * 9}},
        ]
    ).to_dict("records")
    assert (run["most safe"], run["least hard"], run["sorted"]) == (0.02, 0.9, True)


@pytest.mark.parametrize(
    ("safe", "hard", "found"),
    [
        (0.05, 0.9, "sorted"),
        (0.06, 1.0, None),
        (0.0, 0.89, None),
        (0.05, 0.05, "collapsed"),
        (1.0, 0.0, None),
    ],
)
def test_sorted_and_collapsed_are_about_the_worst_kind(safe, hard, found):
    """At γ = 0.5 the rule answers at once what is right at once in three cases of four: `1 of 3` just so."""
    short = {"1 of 1": 1.0, "1 of 3": 0.75, "2 of 2": 0.7, "3 of 3": 0.0}
    kinds = pd.DataFrame({"accuracy_short": short, "accuracy_think": dict.fromkeys(short, 1.0)})
    rates = {"1 of 1": 0.0, "1 of 3": safe, "2 of 2": hard, "3 of 3": min(1.0, hard + 0.01)}
    rates = pd.Series(rates if hard != 0.05 else rates | {"3 of 3": 0.0})
    row = _sorting(rates, safe_at_once(kinds, 0.5))
    assert [name for name in ("sorted", "collapsed") if row[name]] == ([found] if found else [])


def test_damaged_records_are_named(tmp_path):
    (tmp_path / "evidence.jsonl").write_text('{"variant": "v"}\n{"varia')
    with pytest.raises(StageError, match=r"evidence\.jsonl, line 2 cannot be read"):
        read_records(tmp_path)


def test_no_records_say_how_to_make_them():
    for read in (read_records, read_questions):
        with pytest.raises(StageError, match="run `make evidence`"):
            read(Path("nowhere"))
