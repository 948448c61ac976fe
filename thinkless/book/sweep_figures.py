"""Figures of the chapters on evidence, drawn from records."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from thinkless.book.figures import HEIGHT, LEVEL_COLORS, NEUTRAL, OBJECTIVE_COLORS
from thinkless.evaluation.calibration import reliability


def reliability_diagram(groups: Mapping[str, tuple[str, pd.DataFrame]], bins: int = 10) -> go.Figure:
    """Mean need against mean P(think) in bins: {name: (colour, table)}; areas of marks follow the counts."""
    figure = go.Figure()
    dotted = {"color": NEUTRAL, "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line=dotted)
    for name, (color, table) in groups.items():
        points = reliability(table, bins)
        share = points["questions"] / points["questions"].sum()
        figure.add_scatter(
            x=points["probability"],
            y=points["need"],
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 1},
            marker={"color": color, "size": 6 + 30 * np.sqrt(share)},
            hovertext=[f"{count} questions" for count in points["questions"]],
        )
    figure.update_layout(xaxis_title="P(think)", yaxis_title="need", height=HEIGHT + 40)
    return figure


def dial_figure(
    curves: Mapping[str, tuple[str, pd.DataFrame]],
    rates: pd.DataFrame,
    at: pd.DataFrame,
    trained: pd.DataFrame,
) -> go.Figure:
    """The tolerance dial: accuracy against tokens, and the think rate by level at the slider's bias.

    `curves`: {name: (dash, columns tokens and accuracy)}; `rates`: think rate, biases by levels; `at`: tokens
    and accuracy of the dial, one row per bias; `trained`: the same of models trained at several gamma.
    """
    figure = make_subplots(rows=2, row_heights=[0.68, 0.32], vertical_spacing=0.2)
    green = OBJECTIVE_COLORS["degrpo"]
    for (name, (dash, curve)), color in zip(curves.items(), (NEUTRAL, green, "#8e44ad"), strict=True):
        line = {"color": color, "dash": dash}
        figure.add_scatter(x=curve["tokens"], y=curve["accuracy"], mode="lines", name=name, line=line)
    diamonds = {"symbol": "diamond-open", "size": 10, "color": "#b8860b", "line_width": 2}
    figure.add_scatter(
        x=trained["tokens"],
        y=trained["accuracy"],
        mode="markers",
        name="trained at γ",
        hovertext=list(trained.index),
        marker=diamonds,
    )
    # what the slider moves: one point above, one bar per level below
    labels = [f"level {level}" for level in rates.columns]
    data = {
        bias: {
            "x": [[at.loc[bias, "tokens"]], labels],
            "y": [[at.loc[bias, "accuracy"]], list(rates.loc[bias])],
        }
        for bias in at.index
    }
    zero = int(np.abs(at.index.to_numpy()).argmin())
    (point_x, bars_x), (point_y, bars_y) = data[at.index[zero]].values()
    dot = {"size": 16, "color": green}
    figure.add_scatter(x=point_x, y=point_y, mode="markers", name="slider", marker=dot)
    figure.add_bar(
        x=bars_x, y=bars_y, marker_color=LEVEL_COLORS[: len(labels)], showlegend=False, row=2, col=1
    )
    moving = [len(figure.data) - 2, len(figure.data) - 1]
    steps = [
        {"method": "restyle", "label": f"{bias:g}", "args": [moved, moving]} for bias, moved in data.items()
    ]
    slider = {"active": zero, "steps": steps, "currentvalue": {"prefix": "bias, nats: "}, "pad": {"t": 45}}
    figure.update_xaxes(title_text="tokens per answer", row=1, col=1)
    figure.update_yaxes(title_text="accuracy", row=1, col=1)
    figure.update_yaxes(title_text="think rate", range=[0, 1.02], row=2, col=1)
    figure.update_layout(sliders=[slider], height=HEIGHT + 260)
    return figure


def grid_dots(
    values: Mapping[str, Mapping[str, Sequence[float]]], *, colors: Mapping[str, str], title: str
) -> go.Figure:
    """One dot per run and a line for each mean: {series: {setting: values over seeds}}."""
    figure = go.Figure()
    for series, settings in values.items():
        x = [name for name, runs in settings.items() for _ in runs]
        y = [value for runs in settings.values() for value in runs]
        dots = {"color": colors[series], "size": 9, "opacity": 0.6}
        figure.add_scatter(x=x, y=y, mode="markers", name=series, marker=dots)
        x, y = list(settings), [float(np.mean(runs)) for runs in settings.values()]
        line = {"color": colors[series], "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, showlegend=False, hoverinfo="skip")
    figure.update_layout(yaxis_title=title, xaxis_type="category")
    return figure
