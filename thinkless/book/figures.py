"""Figures: Plotly, offline, readable on light and dark pages, each with a text alternative.

A notebook calls `setup()` once and then `show(figure, alt=...)`. JupyterLab draws the figure from its
JSON; the book's pages draw it from HTML that loads no script of its own (they share one local copy
of plotly.js). Colours are mid-tones that keep their contrast on white and on black.
"""

import html
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import DisplayHandle, display
from plotly.io._base_renderers import MimetypeRenderer

THINK, SHORT, NEUTRAL = "#d9730d", "#2e86c1", "#7f8c8d"
"""Colours of the two modes, and of everything that is neither."""
OBJECTIVE_COLORS = {
    "degrpo": "#27996b",
    "grpo": "#c0392b",
    "dr_grpo": "#8e44ad",
    "token_mean": "#b8860b",
    "degrpo_token_mean": "#16a0a0",
}
OBJECTIVE_NAMES = {
    "degrpo": "DeGRPO",
    "grpo": "vanilla GRPO",
    "dr_grpo": "Dr. GRPO",
    "token_mean": "GRPO, token mean",
    "degrpo_token_mean": "DeGRPO, token mean",
}
LEVEL_COLORS = ("#2e86c1", "#27996b", "#b8860b", "#d9730d", "#c0392b")
HEIGHT = 380
"""Pixels."""
FONTS = "Inter, JetBrains Mono, sans-serif"
"""As on the book's pages, which bring the first two along (book/_static/fonts)."""


class _BookRenderer(MimetypeRenderer):
    """HTML without plotly.js, wrapped in an image role that carries the text alternative."""

    def to_mimebundle(self, fig_dict):
        layout = dict(fig_dict["layout"])
        alt = html.escape((layout.get("meta") or {}).get("alt", ""), quote=True)
        # On a phone the legend wraps, and would grow into the title: the title goes above the figure.
        title = html.escape((layout.pop("title", None) or {}).get("text") or "")
        layout.setdefault("margin", {"t": 35})
        body = pio.to_html(
            {**fig_dict, "layout": layout},
            include_plotlyjs=False,
            include_mathjax=False,
            full_html=False,
            default_width="100%",
            default_height=layout.get("height", HEIGHT),
            validate=False,
            config={"displayModeBar": False, "responsive": True},
        )
        heading = f'<p class="book-figure-title">{title}</p>' if title else ""
        return {"text/html": f'{heading}<div class="book-figure" role="img" aria-label="{alt}">{body}</div>'}


def setup():
    """Register the book's renderer and figure template and make them the default."""
    axis = {"gridcolor": "rgba(127,140,141,0.25)", "zeroline": False, "automargin": True, "fixedrange": True}
    pio.templates["thinkless"] = go.layout.Template(
        layout={
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONTS, "size": 14, "color": NEUTRAL},
            "colorway": [SHORT, THINK, "#27996b", "#8e44ad", "#b8860b", "#c0392b"],
            "xaxis": axis | {"ticklabelstandoff": 5},  # clear of the other axis's, in the corner
            "yaxis": axis,
            "height": HEIGHT,
            "margin": {"l": 50, "r": 15, "t": 75, "b": 45},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": {"text": ""}},
            "title": {"x": 0, "xanchor": "left", "y": 0.98, "yanchor": "top", "yref": "container"},
            "hoverlabel": {"font": {"size": 13}},
        }
    )
    pio.templates.default = "thinkless"
    pio.renderers["book"] = _BookRenderer()
    pio.renderers.default = "plotly_mimetype+book"


def show(figure: go.Figure, *, alt: str, handle: DisplayHandle | None = None) -> DisplayHandle | None:
    """Display a figure with `alt`, one or two sentences that say what it shows.

    Returns a handle; passing it back in redraws that figure in place (live curves).
    Raises ValueError for an empty alt.
    """
    if not alt.strip():
        raise ValueError("show() needs alt=: one or two sentences for a reader who cannot see the figure")
    figure.update_layout(meta={"alt": alt})
    bundle: dict = {}
    for name in pio.renderers.default.split("+"):
        bundle |= pio.renderers[name].to_mimebundle(
            figure.to_plotly_json() if name == "book" else figure.to_dict()
        )
    if handle is None:
        return display(bundle, raw=True, display_id=True)
    handle.update(bundle, raw=True)
    return handle


def faded(color: str, opacity: float = 0.2) -> str:
    """A `#rrggbb` colour as rgba, for bands."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def band(
    figure: go.Figure,
    x: Sequence[float],
    runs: np.ndarray,
    *,
    name: str,
    color: str,
    row: int = 1,
    col: int = 1,
    legend: bool = True,
):
    """Add to a panel the mean of `runs` (runs, points) as a line and their range as a band.

    Points at which every run is NaN are left out.
    """
    runs = np.atleast_2d(runs)
    known = ~np.isnan(runs).all(axis=0)
    points, runs = list(np.asarray(x)[known]), runs[:, known]
    low, mean, high = np.nanmin(runs, axis=0), np.nanmean(runs, axis=0), np.nanmax(runs, axis=0)
    where: dict[str, Any] = {"row": row, "col": col, "mode": "lines", "legendgroup": name}
    edges = {"x": [*points, *points[::-1]], "y": [*high, *low[::-1]], "fillcolor": faded(color)}
    figure.add_scatter(**edges, fill="toself", line_width=0, hoverinfo="skip", showlegend=False, **where)
    figure.add_scatter(x=points, y=list(mean), name=name, line_color=color, showlegend=legend, **where)


class LiveCurves:
    """Think rate of running trainings, redrawn in place every few seconds while they go on."""

    def __init__(
        self,
        folders: Mapping[str, Sequence[Path]],
        read: Callable[[Path], list[dict[str, Any]]],
        every: float = 5.0,
    ):
        """`folders` by objective; `read(folder)` returns a run's metrics rows so far; `every` seconds."""
        self.folders, self.read, self.every = folders, read, every
        self.handle: DisplayHandle | None = None
        self.drawn, self.due = 0, 0.0

    def update(self):
        """Redraw if it is time and there are new rows."""
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + self.every
            self.close()

    def close(self):
        """Draw the newest state, if it is not what is shown."""
        rows = {arm: [self.read(folder) for folder in runs] for arm, runs in self.folders.items()}
        total = sum(len(run) for runs in rows.values() for run in runs)
        if total == self.drawn:
            return
        self.drawn = total
        ends = {a: [round(r[-1].get("think_rate", np.nan), 2) for r in runs if r] for a, runs in rows.items()}
        alt = f"Think rate against RL steps, one line per run. Latest values: {ends}."
        self.handle = show(_think_rates(rows), alt=alt, handle=self.handle)


def _think_rates(rows: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> go.Figure:
    """A line for each run: {arm: the metrics rows of its runs}."""
    figure = go.Figure()
    for arm, runs in rows.items():
        for number, run in enumerate(runs):
            figure.add_scatter(
                x=[row["step"] for row in run],
                y=[row.get("think_rate") for row in run],
                mode="lines",
                line={"color": OBJECTIVE_COLORS[arm], "width": 1.5},
                name=OBJECTIVE_NAMES[arm],
                legendgroup=arm,
                showlegend=number == 0,
            )
    figure.update_layout(title="Think rate of every run, all levels", xaxis_title="RL step")
    figure.update_yaxes(title="think rate", range=[-0.02, 1.02])
    return figure
