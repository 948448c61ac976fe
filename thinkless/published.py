"""Figures that others published, for tables and figures beside ours; `published.yaml` names each source."""

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
