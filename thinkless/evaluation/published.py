"""Figures that others published, for tables and figures beside ours. `published.yaml` and
`published_curves.csv` name each source."""

from functools import cache
from pathlib import Path

import pandas as pd
import yaml

COLUMNS = ("pass@1", "tokens", "think rate")


@cache
def _figures() -> dict:
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def table(name: str) -> pd.DataFrame:
    """``"table_1"``, ``"table_2"`` or ``"rerun"``: one row per model, columns (benchmark, figure).

    The figures of a benchmark are `COLUMNS`; NaN where the source gives none.
    """
    figures = _figures()
    columns = pd.MultiIndex.from_product([figures["benchmarks"], COLUMNS])
    rows = {model: [value for cells in row for value in cells] for model, row in figures[name].items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float)


def by_mode() -> pd.DataFrame:
    """Shares and accuracies of the modes that the paper's policy chose, by benchmark (figure 3d)."""
    columns = ["think share", "right where it thinks", "right where it is short"]
    return pd.DataFrame.from_dict(_figures()["figure_3d"], orient="index", columns=columns)


def curve(run: str, figure: str) -> pd.Series:
    """A curve of the paper's figures by step: of the run "vanilla" or "DeGRPO", the figure "think" (answers
    of 1024), and for DeGRPO also "accuracy of think" and "accuracy of short"."""
    points = pd.read_csv(Path(__file__).with_name("published_curves.csv"), comment="#")
    chosen = points[(points["run"] == run) & (points["figure"] == figure)]
    if chosen.empty:
        raise ValueError(f"no curve {figure!r} of {run!r}: there are {_names(points)}")
    return chosen.set_index("step")["value"]


def _names(points: pd.DataFrame) -> str:
    pairs = points[["run", "figure"]].drop_duplicates().itertuples(index=False)
    return ", ".join(f"{figure} of {run}" for run, figure in pairs)
