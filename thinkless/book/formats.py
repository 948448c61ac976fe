"""The book as one file, to print or to carry: ``thinkless book pdf`` and ``thinkless book epub``.

Sphinx writes the executed chapters as one page, and a browser draws its formulas and figures. It prints that
page, with headings as bookmarks; or it gives it back as it stands, for Pandoc to bind as an EPUB.
"""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from thinkless.book.chapters import BookError, check, jupyter_book

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
PANDOC = "pypandoc-binary"
"""The package that holds it; a system's own may be years older."""
PATIENCE = 120_000
"""Milliseconds of the page's own clock, which runs ahead while nothing happens, for formulas and figures."""
WINDOW = "794,1123"
"""A4 in pixels, so that figures are drawn as they will stand on paper."""


def pdf(root: Path) -> Path:
    """Print the book from chapters that pass `check`; returns the file.

    Raises BookError if there is no browser, or it or Sphinx fails.
    """
    page, target = _one_page(root), root / "_build" / "thinkless.pdf"
    target.unlink(missing_ok=True)
    options = ["--generate-pdf-document-outline", "--no-pdf-header-footer", f"--print-to-pdf={target}"]
    _browse(page, options)
    if not target.exists():
        raise BookError("the browser has printed nothing")
    target.write_bytes(_each_title_once(target.read_bytes()))
    return target


def epub(root: Path) -> Path:
    """Bind the book as an EPUB from chapters that pass `check`; returns the file. Formulas are MathML.

    Raises BookError if there is no browser or no Pandoc, or one of them or Sphinx fails.
    """
    pandoc, page, target = _pandoc(), _one_page(root), root / "_build" / "thinkless.epub"
    still = page.with_name("still.html")
    script = '<script src="_static/still.js"></script></body>'
    still.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    command = [str(pandoc), "--from=html", "--to=epub3", f"--output={target}"]
    command += ["--mathml", "--toc", "--toc-depth=2"]
    command += ["--shift-heading-level-by=-1", "--split-level=1"]  # chapters stand one level below the title
    command += [f"--css={page.parent / '_static' / 'epub.css'}", f"--resource-path={page.parent}"]
    command.append(f"--metadata=author={_yaml(root / '_config.yml')['author']}")
    drawn = _browse(still, ["--dump-dom"])
    if "still.js" in drawn:  # it removes itself at its end
        raise BookError("the browser has not drawn every formula and figure")
    _said(command, drawn)
    return target


def _one_page(root: Path) -> Path:
    """All chapters as one page of HTML, with its styles and scripts beside it."""
    _browser()  # before the work
    check(root)
    folder, first = jupyter_book(root, "singlehtml"), f"{_yaml(root / '_toc.yml')['root']}.html"
    text = (folder / first).read_text(encoding="utf-8")
    # Sphinx links to the file that it wrote, and has named citations id1, id2, ... anew on every page
    text = re.sub(rf'href="(book/)?{re.escape(Path(first).name)}#?', 'href="#', text)
    text = re.sub(r'(<span class="bibtex-citation") id="id\d+"', r"\1", text)
    page = folder / "book.html"
    page.write_text(text, encoding="utf-8")
    return page


def _each_title_once(printed: bytes) -> bytes:
    """A PDF without the bookmarks that Chromium doubles, those of headings that it moves to a new page.

    Nothing moves in the file: its parts are found by their places.
    """
    doubled = re.compile(rb"/Title \((.+?)\1\)\n")
    return doubled.sub(lambda found: (b"/Title (%b)\n" % found[1]).ljust(len(found[0])), printed)


def _yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _pandoc() -> Path:
    try:
        files = metadata.files(PANDOC) or []
        return next(Path(str(file.locate())) for file in files if file.match("files/pandoc*"))
    except (metadata.PackageNotFoundError, StopIteration):
        raise BookError(f"no Pandoc to bind with: pip install {PANDOC}") from None


def _browser() -> str:
    for found in filter(None, map(shutil.which, BROWSERS)):
        return found
    raise BookError(f"no browser to draw with: install one of {', '.join(BROWSERS)}")


def _browse(page: Path, options: list[str]) -> str:
    """What a browser says that opens a page until it stands still, with options of its own."""
    command = [_browser(), "--headless", "--disable-gpu", "--disable-dev-shm-usage"]
    command.append("--no-sandbox")  # needed in containers; the page is our own
    command += [f"--window-size={WINDOW}", f"--virtual-time-budget={PATIENCE}", *options]
    with TemporaryDirectory() as profile:  # not that of a browser that is open
        return _said([*command, f"--user-data-dir={profile}", page.as_uri()])


def _said(command: list[str], text: str | None = None) -> str:
    """What a program writes that is given a text. Raises BookError if it fails."""
    result = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False)
    if result.returncode:
        raise BookError(f"{Path(command[0]).name} has failed: {result.stderr.strip()[-300:]}")
    return result.stdout
