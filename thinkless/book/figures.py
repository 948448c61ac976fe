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
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import DisplayHandle, display
from plotly.io._base_renderers import MimetypeRenderer
from plotly.subplots import make_subplots

from thinkless.evaluation import Report
from thinkless.evaluation.report import bootstrap_interval

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
    where = {"row": row, "col": col}
    edges = go.Scatter(
        x=[*points, *points[::-1]], y=[*high, *low[::-1]], mode="lines", line={"width": 0}, fill="toself",
        fillcolor=faded(color), hoverinfo="skip", showlegend=False, legendgroup=name,
    )  # fmt: skip
    line = go.Scatter(
        x=points,
        y=list(mean),
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode="lines",
        line={"color": color},
    )
    figure.add_trace(edges, **where)
    figure.add_trace(line, **where)


def think_rate_panels(curves: Mapping[str, Mapping[int, np.ndarray]]) -> go.Figure:
    """Think rate by level against RL steps, a panel for each objective: {arm: {level: (runs, steps)}}."""
    figure = make_subplots(
        cols=len(curves), shared_yaxes=True, subplot_titles=[OBJECTIVE_NAMES[arm] for arm in curves]
    )
    for column, levels in enumerate(curves.values(), start=1):
        for level, runs in levels.items():
            color = LEVEL_COLORS[(level - 1) % len(LEVEL_COLORS)]
            steps = range(1, np.atleast_2d(runs).shape[1] + 1)
            band(figure, steps, runs, name=f"level {level}", color=color, col=column, legend=column == 1)
    figure.update_xaxes(title_text="RL step")
    figure.update_yaxes(range=[-0.02, 1.02])
    figure.update_yaxes(title_text="think rate", col=1)
    figure.update_layout(height=HEIGHT + 60, legend={"y": 1.12}, margin={"t": 90})
    return figure


def arm_panels(panels: Mapping[str, Mapping[str, np.ndarray]]) -> go.Figure:
    """One panel per quantity, below each other, one band per objective: {title: {arm: (runs, steps)}}."""
    figure = make_subplots(
        rows=len(panels), shared_xaxes=True, subplot_titles=list(panels), vertical_spacing=0.09
    )
    for row, arms in enumerate(panels.values(), start=1):
        for arm, runs in arms.items():
            steps = range(1, np.atleast_2d(runs).shape[1] + 1)
            name, color = OBJECTIVE_NAMES[arm], OBJECTIVE_COLORS[arm]
            band(figure, steps, runs, name=name, color=color, row=row, legend=row == 1)
    figure.update_xaxes(title_text="RL step", row=len(panels))
    figure.update_layout(height=190 * len(panels) + 60, legend={"y": 1.06})
    return figure


def forced_accuracy(report: Report) -> go.Figure:
    """Forced accuracy of both modes by level with 95 % bootstrap intervals, and the free think rate."""
    figure = go.Figure()
    for setting, color in (("think", THINK), ("short", SHORT)):
        levels = report.setting(setting).groupby("level")["correct"]
        means = levels.mean()
        low, high = np.array([bootstrap_interval(group.to_numpy(float)) for _, group in levels]).T
        errors = {"type": "data", "symmetric": False, "array": high - means, "arrayminus": means - low}
        figure.add_scatter(
            x=means.index,
            y=means,
            name=f"forced {setting}",
            mode="lines+markers",
            line_color=color,
            error_y=errors,
        )
    rate = report.by_level()["think rate"]
    dotted = {"color": NEUTRAL, "dash": "dot"}
    figure.add_scatter(x=rate.index, y=rate, name="think rate (free)", mode="lines+markers", line=dotted)
    figure.update_layout(xaxis={"title": "level", "dtick": 1}, yaxis_title="accuracy, think rate")
    figure.update_yaxes(range=[0, 1.05])
    return figure


ROUTER_MARKS = {
    "model": ("DeGRPO", "star", OBJECTIVE_COLORS["degrpo"]),
    "always short": ("always short", "circle", SHORT),
    "always think": ("always think", "circle", THINK),
    "oracle by level": ("oracle by level", "diamond-open", "#8e44ad"),
    "oracle by question": ("oracle by question", "square-open", "#8e44ad"),
}


def router_plane(routers: pd.DataFrame) -> go.Figure:
    """Accuracy against tokens of the routers of `Report.routers`, with the chord of random routers."""
    chord = routers.loc[["always short", "always think"]]
    figure = go.Figure()
    dotted = {"color": NEUTRAL, "dash": "dot"}
    figure.add_scatter(
        x=chord["tokens"], y=chord["accuracy"], mode="lines", name="random router", line=dotted
    )
    for row, (label, symbol, color) in ROUTER_MARKS.items():
        tokens, accuracy = routers.loc[row, ["tokens", "accuracy"]]
        marker = {"symbol": symbol, "size": 14, "color": color, "line": {"width": 2, "color": color}}
        figure.add_scatter(x=[tokens], y=[accuracy], name=label, mode="markers", marker=marker)
    figure.update_layout(xaxis_title="tokens per answer", yaxis_title="accuracy", height=HEIGHT + 60)
    return figure


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
        self.drawn = -1
        self.due = 0.0

    def update(self):
        """Redraw if it is time and there are new rows."""
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + self.every
            self._draw()

    def close(self):
        """Draw the final state."""
        self._draw()

    def _draw(self):
        rows = {arm: [self.read(folder) for folder in runs] for arm, runs in self.folders.items()}
        total = sum(len(run) for runs in rows.values() for run in runs)
        if total in (0, self.drawn):
            return
        self.drawn = total
        figure = go.Figure()
        for arm, runs in rows.items():
            name, color = OBJECTIVE_NAMES[arm], OBJECTIVE_COLORS[arm]
            for number, run in enumerate(runs):
                figure.add_scatter(
                    x=[row["step"] for row in run],
                    y=[row.get("think_rate") for row in run],
                    mode="lines",
                    line={"color": color, "width": 1.5},
                    name=name,
                    legendgroup=name,
                    showlegend=number == 0,
                )
        figure.update_layout(
            title="Think rate of every run, all levels", xaxis_title="RL step", yaxis_title="think rate"
        )
        figure.update_yaxes(range=[-0.02, 1.02])
        ends = {
            arm: [round(run[-1].get("think_rate", np.nan), 2) for run in runs if run]
            for arm, runs in rows.items()
        }
        self.handle = show(
            figure,
            alt=f"Think rate against RL steps, one line per run. Latest values: {ends}.",
            handle=self.handle,
        )
