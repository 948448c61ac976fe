"""What the chapters use to show things: running source code, where a stage's numbers came from."""

import inspect
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML, Code

from thinkless.evaluation import t_interval
from thinkless.stages import Runner


def show_source(*functions) -> Code:
    """The source of the functions that really run, highlighted."""
    return Code(
        "\n\n".join(inspect.getsource(function).rstrip() for function in functions), language="python"
    )


def wrapped(table: pd.DataFrame) -> HTML:
    """A table of texts: their lines wrap, and on a phone a row's cells stand below each other."""
    return HTML(table.to_html(border=0, classes="texts"))


def over_runs(values: Iterable[float]) -> str:
    """Mean and 95 % t-interval over runs, as text; a single run has no interval."""
    mean, half = t_interval(np.array(list(values)))
    return f"{mean:z.3f}" if np.isnan(half) else f"{mean:z.3f} ± {half:.3f}"  # z: no -0.000


def cost(runner: Runner, stages: Sequence[str]) -> pd.DataFrame:
    """Seconds, memory, hardware and commit of finished stages, from their manifests."""
    rows = []
    for name in stages:
        manifest = runner.manifest(name)
        hardware = manifest["hardware"]
        rows.append(
            {
                "stage": name,
                "wall s": manifest["seconds"],
                "CPU s": manifest["cpu_seconds"],
                "peak MiB": manifest["peak_memory_mib"],
                "hardware": ", ".join(hardware["gpus"]) or f"{hardware['cores']} CPU cores",
                "seed": manifest["seed"],
                "commit": manifest["commit"],
            }
        )
    return pd.DataFrame(rows).set_index("stage")
