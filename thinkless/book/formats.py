"""The book as one file to print: ``thinkless book pdf``.

Sphinx writes the executed chapters as one page, and a browser prints it: formulas and figures are those of
the pages, and headings become bookmarks.
"""

import shutil
import subprocess
from pathlib import Path

import yaml

from thinkless.book.chapters import BookError, check, jupyter_book

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120_000
"""Milliseconds of the page's own clock, which runs ahead while nothing happens, for formulas and figures."""
WINDOW = "794,1123"
"""A4 in pixels, so that figures are drawn as they will stand on paper."""


def pdf(root: Path) -> Path:
    """Print the book from chapters that pass `check`; returns the file.

    Raises BookError if there is no browser, or it or Sphinx fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise BookError(f"no browser to print with: install one of {', '.join(BROWSERS)}")
    check(root)
    folder, target = jupyter_book(root, "singlehtml"), root / "_build" / "thinkless.pdf"
    first = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["root"]
    page = folder / "book.html"  # its links to styles and scripts start at the top
    shutil.copyfile(folder / f"{first}.html", page)
    target.unlink(missing_ok=True)
    command = [
        browser,
        "--headless",
        "--no-sandbox",  # needed in containers; the page is our own
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--window-size={WINDOW}",
        f"--virtual-time-budget={PATIENCE}",
        "--generate-pdf-document-outline",
        "--no-pdf-header-footer",
        f"--print-to-pdf={target}",
        page.as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode or not target.exists():
        raise BookError(f"{Path(browser).name} has printed nothing: {result.stderr.strip()[-300:]}")
    return target
