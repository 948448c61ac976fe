"""Proves that the published figures were copied right, as far as they can check each other.

Run: python -m pytest tests/evaluation/test_published.py
"""

import pytest

from thinkless.evaluation import published
from thinkless.evaluation.published import curve

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


def test_the_policys_modes_recombine_to_its_accuracy():
    """Accuracy by mode, read from the paper's figure 3d, weighted with the shares of the modes."""
    thinkless = published.table("table_1").loc["Thinkless"]
    for benchmark, (share, think, short) in published.by_mode().iterrows():
        assert share == pytest.approx(thinkless[benchmark, "think rate"], abs=0.0006)
        assert share * think + (1 - share) * short == pytest.approx(thinkless[benchmark, "pass@1"], abs=0.001)


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
