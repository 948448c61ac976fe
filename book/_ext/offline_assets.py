"""Sphinx extension: the built book needs no network.

It writes one copy of plotly.js and of MathJax into `_static/`, both taken from installed Python
packages, loads plotly.js on the pages that have a figure and what a reader can touch where it has its
place, and drops the scripts of sphinx-thebe, which Jupyter Book adds to every page and which come from
elsewhere. It also mends what others' extensions write that is not HTML or not for screen readers.
"""

import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

MATHJAX_PACKAGE, MATHJAX_FILE = "sphinx-mathjax-offline", "tex-svg.js"
"""One file with TeX input and SVG output: it loads no web fonts."""
PIECES = {
    "live-model": ("live.css", "live_model.js", "live.js"),
    "touch coin": ("touch.css", "touch.js", "coin.js"),
    "touch weight": ("touch.css", "touch.js", "weight.js"),
    "touch film": ("touch.css", "touch.js", "film.js"),
    "touch race": ("touch.css", "touch.js", "race.js"),
}
"""What a reader can touch, by the class of its place on a page, and its files."""


def write_assets(app: Sphinx):
    """Write plotly.js and MathJax into the output's `_static/`.

    Raises ExtensionError if the package that holds MathJax is not installed.
    """
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    (static / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    shutil.copyfile(find_mathjax(), static / MATHJAX_FILE)


def teach_the_one_page(app: Sphinx):
    """What an extension registers for "singlehtml" hides what the others have registered for all HTML."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers["html"], **handlers.get("singlehtml", {})}


def find_mathjax() -> Path:
    """Where the installed package keeps its MathJax. Raises ExtensionError if it is not there."""
    try:
        files = metadata.files(MATHJAX_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == MATHJAX_FILE:
            return Path(str(file.locate()))
    raise ExtensionError(f"{MATHJAX_FILE} not found: pip install {MATHJAX_PACKAGE} (see requirements.txt)")


def choose_scripts(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any):
    """Per page: no thebe; plotly.js where there is a figure, the pieces to touch in their places."""
    scripts = context.get("script_files")
    if scripts is not None:
        scripts[:] = [script for script in scripts if not _is_thebe(script)]
    if "plotly-graph-div" in (context.get("body") or ""):
        app.add_js_file("plotly.min.js")
        app.add_js_file("plotly_theme.js")
    for place, files in PIECES.items():
        for file in files if f'class="{place}"' in (context.get("body") or "") else ():
            (app.add_css_file if file.endswith(".css") else app.add_js_file)(file)


def mend_html(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any):
    """Docutils marks bibliography entries, children of a list, with a role that ARIA has withdrawn; all
    exercises of a page, and all solutions, have an element of the same id."""
    if body := context.get("body"):
        body = body.replace('role="doc-biblioentry"', 'role="listitem"')
        context["body"] = re.sub(r'<section id="(?:exercise|solution)-content">', "<section>", body)


def _is_thebe(script: Any) -> bool:
    name = getattr(script, "filename", None) or str(script)
    return "thebe" in f"{name}{getattr(script, 'attributes', '')}".lower()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.config.mathjax_path = MATHJAX_FILE
    app.connect("builder-inited", write_assets)
    app.connect("builder-inited", teach_the_one_page)
    app.connect("html-page-context", choose_scripts, priority=900)
    app.connect("html-page-context", mend_html)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
