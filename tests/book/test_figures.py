"""Proves what the shared figures draw from what they are given, and when live curves are drawn again.

Run: python -m pytest tests/book/test_figures.py
"""

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from thinkless import OBJECTIVES
from thinkless.book import figures


@pytest.fixture(autouse=True)
def renderers():
    """As a notebook sets them up."""
    figures.setup()


def test_a_band_is_the_mean_and_range_of_runs_where_one_is_known():
    figure = make_subplots()
    runs = np.array([[0.0, 1.0, np.nan, 4.0], [1.0, np.nan, np.nan, 8.0]])
    figures.band(figure, [1, 2, 3, 4], runs, name="runs", color="#27996b")
    edges, line = figure.data
    assert list(line.x) == [1, 2, 4]  # at 3 nothing is known
    assert list(line.y) == [0.5, 1.0, 6.0]
    assert list(edges.x) == [1, 2, 4, 4, 2, 1]
    assert list(edges.y) == [1.0, 1.0, 8.0, 4.0, 1.0, 0.0]
    assert edges.fillcolor == "rgba(39,153,107,0.2)"


def test_a_figure_needs_words_for_those_who_cannot_see_it():
    with pytest.raises(ValueError, match="needs alt="):
        figures.show(go.Figure(), alt=" ")


def test_the_books_html_has_the_words_and_no_script_of_its_own():
    figure = go.Figure(layout={"title": {"text": "A <title>"}, "meta": {"alt": 'falls "fast"'}})
    html = figures._BookRenderer().to_mimebundle(figure.to_plotly_json())["text/html"]
    assert 'aria-label="falls &quot;fast&quot;"' in html
    assert '<p class="book-figure-title">A &lt;title&gt;</p>' in html
    assert "plotly.min.js" not in html


def test_live_curves_are_drawn_again_only_for_new_rows_and_at_their_time(tmp_path, monkeypatch):
    now, drawn, rows = [100.0], [], {"a": [], "b": []}
    monkeypatch.setattr(figures.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(figures, "show", lambda figure, alt, handle: drawn.append((figure, alt)))
    folders = {"degrpo": [tmp_path / "a"], "grpo": [tmp_path / "b"]}
    live = figures.LiveCurves(folders, lambda folder: rows[folder.name], every=5.0)
    live.update()
    assert not drawn  # nothing to see yet
    rows["a"].append({"step": 1, "think_rate": 0.5})
    live.update()
    assert not drawn  # too soon
    now[0] += 5
    live.update()
    live.update()
    assert len(drawn) == 1
    now[0] += 5
    live.update()
    assert len(drawn) == 1  # no new rows
    rows["b"].append({"step": 1, "think_rate": 0.25})
    live.close()
    figure, alt = drawn[-1]
    assert [list(trace.y) for trace in figure.data] == [[0.5], [0.25]]
    assert "'degrpo': [0.5], 'grpo': [0.25]" in alt


def test_every_objective_has_a_name_and_a_colour():
    assert set(figures.OBJECTIVE_COLORS) == set(figures.OBJECTIVE_NAMES) == set(OBJECTIVES)
