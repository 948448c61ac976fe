"""What the figures of the evidence show is what they were given; the slider moves what it should.

Run: python -m pytest tests/book/test_sweep_figures.py
"""

import pandas as pd
import pytest

from thinkless.book.notebook import over_runs, wrapped
from thinkless.book.sweep_figures import (
    dial_figure,
    grid_dots,
    reliability_diagram,
)


def test_reliability_marks_are_bins():
    table = pd.DataFrame(
        {"probability": [0.05, 0.05, 0.95], "accuracy_short": [1, 0, 0], "accuracy_think": 1}
    )
    diagonal, points = reliability_diagram({"after": ("#27996b", table)}).data
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert list(points.x) == pytest.approx([0.05, 0.95])
    assert list(points.y) == [0.5, 1]
    assert list(points.hovertext) == ["2 questions", "1 questions"]


def test_the_slider_moves_the_point_and_the_bars():
    line = pd.DataFrame({"tokens": [1.0, 9.0], "accuracy": [0.2, 1.0]})
    at = pd.DataFrame({"tokens": [2.0, 5.0, 8.0], "accuracy": [0.3, 0.6, 0.9]}, index=[-1.0, 0.0, 1.0])
    rates = pd.DataFrame({1: [0.0, 0.1, 0.9], 2: [0.2, 0.8, 1.0]}, index=at.index)
    curves = {"random": ("dot", line), "dial": ("solid", line), "oracle": ("dash", line)}
    figure = dial_figure(curves, rates, at, at.rename(index=str))
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["-1", "0", "1"]
    assert slider.active == 1
    moved, traces = slider.steps[2].args
    point, bars = (figure.data[trace] for trace in traces)
    assert (point.name, bars.type) == ("slider", "bar")
    assert (point.x, point.y) == ((5.0,), (0.6,))
    assert list(bars.y) == [0.1, 0.8]
    assert [list(x) for x in moved["x"]] == [[8.0], ["level 1", "level 2"]]
    assert [list(y) for y in moved["y"]] == [[0.9], [0.9, 1.0]]


def test_every_run_is_a_dot_and_the_line_joins_the_means():
    dots, means = grid_dots(
        {"DeGRPO": {"0.1": [0.2, 0.4], "1": [0.0]}}, colors={"DeGRPO": "#27996b"}, title="regret"
    ).data
    assert list(zip(dots.x, dots.y, strict=True)) == [("0.1", 0.2), ("0.1", 0.4), ("1", 0.0)]
    assert list(means.y) == pytest.approx([0.3, 0.0])


def test_a_table_of_texts_shows_them_as_they_are():
    html = wrapped(pd.DataFrame({"says": ["<think> | more"]}, index=["a claim"])).data
    assert "&lt;think&gt; | more" in html
    assert 'class="dataframe texts"' in html


def test_figures_over_runs_come_with_a_t_interval():
    assert over_runs([1.0, 2.0, 3.0]) == "2.000 ± 2.484"
    assert over_runs(iter([0.5])) == "0.500"
    assert over_runs([-0.0001]) == "0.000"
