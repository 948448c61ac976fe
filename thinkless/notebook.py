"""What the chapters use to show things: running source code, where a stage's numbers came from."""

import inspect
from collections.abc import Sequence

import pandas as pd
from IPython.display import Code, Markdown

from thinkless.stages import Runner


def show_source(*functions) -> Code:
    """The source of the functions that really run, highlighted."""
    return Code(
        "\n\n".join(inspect.getsource(function).rstrip() for function in functions), language="python"
    )


def wrapped(table: pd.DataFrame) -> Markdown:
    """A table of texts whose lines wrap in the book; `<` and `|` in them are shown as they are."""
    rows = [["", *table.columns], ["---"] * (len(table.columns) + 1)]
    rows += [[f"**{name}**", *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    escaped = [[cell.replace("<", "&lt;").replace("|", "&#124;") for cell in row] for row in rows]
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in escaped))


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
