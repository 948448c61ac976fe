"""Proves that the published figures were copied right, as far as they can check each other.

Run: python -m pytest tests/book/test_published.py
"""

import pytest

from thinkless.book import published
from thinkless.book.published import curve
from thinkless.planning.workload import TABLE_2

NAMES = {
    "aime_2024": "AIME 2024",
    "minerva_algebra": "Minerva Algebra",
    "math_500": "MATH-500",
    "gsm8k": "GSM8K",
}


@pytest.mark.parametrize(("name", "rows"), [("table_1", 12), ("table_2", 6), ("rerun", 1)])
def test_every_row_has_a_share_and_a_rate_for_every_benchmark(name, rows):
    table = published.table(name)
    assert len(table) == rows
    assert list(table.columns.levels[0].sort_values()) == sorted(NAMES.values())
    assert table.xs("pass@1", axis=1, level=1).stack().between(0.01, 1).all()
    assert table.xs("think rate", axis=1, level=1).stack().dropna().between(0, 1).all()


def test_the_lengths_that_plans_assume_are_those_of_table_2():
    last = published.table("table_2").iloc[-2:].xs("tokens", axis=1, level=1)
    assert {key: tuple(last[name]) for key, name in NAMES.items()} == dict(TABLE_2)


def test_the_policys_modes_recombine_to_its_accuracy():
    """Accuracy by mode, read from the paper's figure 3d, weighted with Table 1's think rates."""
    by_mode = {"MATH-500": (72.9, 91.3), "Minerva Algebra": (89.4, 96.4), "GSM8K": (69.7, 86.4)}
    thinkless = published.table("table_1").loc["Thinkless"]
    for benchmark, (think, short) in by_mode.items():
        rate = thinkless[benchmark, "think rate"]
        assert rate * think + (1 - rate) * short == pytest.approx(
            100 * thinkless[benchmark, "pass@1"], abs=0.1
        )


def test_curves_by_what_the_text_says_of_them():
    """Facts that can be read off the paper's figures without its vector graphics."""
    vanilla, degrpo = (curve(run, "think") for run in ("vanilla", "DeGRPO"))
    assert (vanilla.index[0], vanilla.index[-1], degrpo.index[-1]) == (1, 123, 585)
    assert (vanilla[1], degrpo[1]) == (476, 476)  # the same warm-up model, the same batch
    assert (vanilla < 10).idxmax() == 49
    assert 120 <= degrpo.idxmax() <= 135
    for mode in ("think", "short"):
        accuracy = curve("DeGRPO", f"accuracy of {mode}")
        assert accuracy.between(0, 1).all()
        assert accuracy.index.is_unique


def test_a_curve_that_there_is_not():
    with pytest.raises(ValueError, match="no curve 'reward' of 'vanilla': there are think of vanilla"):
        curve("vanilla", "reward")
