"""What the chapters use to show things: running source code, what was expected, where numbers came from."""

import ast
import html
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, Code, display

from thinkless.book.checks import MISSED
from thinkless.book.expectations import Expectation, compare
from thinkless.book.figures import THINK, faded
from thinkless.evaluation.report import t_interval
from thinkless.runs.parameters import check_seed, runs_folder
from thinkless.runs.profiles import ProfileError, load_profile, nearest
from thinkless.runs.runner import Runner

INJECTED = "# Parameters\n"
"""How the cell begins that papermill puts behind the one with the parameters."""


def check_parameters(profile: str, seed: int, overrides: Mapping[str, Any], runs_dir: str):
    """Refuse a parameter that no chapter has, which papermill sets all the same, and impossible values.

    Raises ProfileError, which names the nearest parameter or setting.
    """
    shell = get_ipython()
    known = list(inspect.signature(check_parameters).parameters)
    for cell in shell.user_ns["In"] if shell else ():
        nodes = ast.walk(ast.parse(cell)) if cell.startswith(INJECTED) else ()
        for node in nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in known:
                raise ProfileError(f"there is no parameter {node.id!r}{nearest(node.id, known)}")
    load_profile(profile, overrides)
    check_seed(seed)
    runs_folder(runs_dir)


def show_source(*functions) -> Code:
    """The source of the functions that really run, highlighted."""
    return Code(
        "\n\n".join(inspect.getsource(function).rstrip() for function in functions), language="python"
    )


def wrapped(table: pd.DataFrame) -> HTML:
    """A table of texts: their lines wrap, and on a phone a row's cells stand below each other."""
    return HTML(table.to_html(border=0, classes="texts"))


def bars(question: str, probabilities: Sequence[float]) -> HTML:
    """A question as text; the bar behind each word is as high as its probability."""
    tone = faded(THINK, 0.45)
    words = [
        f'<span title="{p:.2f}" style="background: linear-gradient(to top, {tone} {p:.0%}, #0000 {p:.0%})">'
        f"{html.escape(word)}</span>"
        for word, p in zip(question.split(), probabilities, strict=True)
    ]
    return HTML(f'<p class="bars" style="line-height: 2">{" ".join(words)}</p>')


def over_runs(values: Iterable[float]) -> str:
    """Mean and 95 % t-interval over runs, as text; a single run has no interval."""
    mean, half = t_interval(np.array(list(values)))
    return f"{mean:z.3f}" if np.isnan(half) else f"{mean:z.3f} ± {half:.3f}"  # z: no -0.000


def cost(runner: Runner, stages: Sequence[str]) -> pd.DataFrame:
    """Seconds, memory, hardware and commit of finished stages, from their manifests."""
    rows = {}
    for name in stages:
        made = runner.manifest(name)
        machine = made["hardware"]
        rows[name] = {
            "wall s": made["seconds"],
            "CPU s": made["cpu_seconds"],
            "peak MiB": made["peak_memory_mib"],
            "hardware": ", ".join(machine["gpus"]) or f"{machine['cores']} CPU cores",
            "seed": made["seed"],
            "commit": made["commit"],
        }
    return pd.DataFrame(rows.values(), pd.Index(rows, name="stage"))


def show_expected(runner: Runner, values: Mapping[str, float]):
    """A box that holds figures of this run beside what is expected of its profile, see `expectations`."""
    found = compare(runner.profile.name, values)
    missed = [str(expectation) for expectation in found if not expectation.met]
    bundle = {"text/html": _box(found), "text/plain": "\n".join(map(str, found))}
    display(bundle, raw=True, metadata={MISSED: missed})


def _box(found: Sequence[Expectation]) -> str:
    known = [expectation for expectation in found if expectation.bound is not None]
    missed = sum(not expectation.met for expectation in known)
    if not known:
        kind, title = "note", "What to expect of this profile is not yet measured"
    elif missed:
        kind, title = "warning", f"{missed} of {len(known)} expectations missed"
    else:
        kind, title = "tip", "As expected"
    rows = []
    for e in found:
        verdict = "" if e not in known else "met" if e.met else "<b>missed</b>"
        rows.append(f"<tr><th>{e.title}</th><td>{e.value:z.3f}</td><td>{e.range}</td><td>{verdict}</td></tr>")
    head = "<thead><tr><th></th><th>here</th><th>expected</th><th></th></tr></thead>"
    table = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    body = [f'<p class="admonition-title">{title}</p>', table]
    if known:
        sources = "; ".join(dict.fromkeys(html.escape(e.source) for e in known))
        body.append(f"<p>Where the bounds come from: {sources}.</p>")
    if missed:
        body.append(
            "<p>This run differs from those behind the bounds by more than they differ from each other, or "
            "its settings are others. The figures above show where.</p>"
        )
    return f'<div class="admonition {kind} expected">{"".join(body)}</div>'
