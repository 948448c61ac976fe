"""The built book: complete, whole without a network, and usable without eyes.

Reads `_build/html`, or the folder named by THINKLESS_BOOK_HTML.
"""

import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
BOOK = Path(os.environ.get("THINKLESS_BOOK_HTML") or ROOT / "_build" / "html").resolve()
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
CHAPTERS = [page for page in PAGES if "/executed/" in page]

pytestmark = [
    pytest.mark.book,
    pytest.mark.skipif(
        not os.environ.get("THINKLESS_BOOK_HTML") and not BOOK.is_dir(),
        reason="the book is not built: run `make book`, or set THINKLESS_BOOK_HTML to its folder",
    ),
]


@cache
def page_html(page: str) -> str:
    """Source of a page, named as in _toc.yml."""
    return (BOOK / f"{page}.html").read_text(encoding="utf-8")


@cache
def parse(page: str) -> BeautifulSoup:
    """The same, parsed."""
    return BeautifulSoup(page_html(page), "html.parser")


@cache
def notebook(chapter: str) -> dict:
    """The executed notebook that a chapter offers for download."""
    return json.loads((BOOK / "_sources" / f"{chapter}.ipynb").read_text(encoding="utf-8"))


def outputs(chapter: str) -> list[dict]:
    """All outputs of all code cells of a chapter."""
    return [output for cell in notebook(chapter)["cells"] for output in cell.get("outputs", [])]


def is_external(address: str) -> bool:
    """Whether a browser would go to another server for this address."""
    parts = urlsplit(address.strip())
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp", "ws", "wss")


@pytest.mark.parametrize("page", PAGES)
def test_page_of_the_table_of_contents_exists(page):
    assert (BOOK / f"{page}.html").is_file()
    assert parse(page).h1, "a page without a title"


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_nothing_from_another_server(page):
    loads = {
        "script": ("src",),
        "link": ("href",),
        "img": ("src", "srcset"),
        "iframe": ("src",),
        "source": ("src", "srcset"),
        "video": ("src", "poster"),
        "audio": ("src",),
        "embed": ("src",),
        "object": ("data",),
    }
    external = [
        f"<{tag.name} {attribute}={tag[attribute]!r}>"
        for name, attributes in loads.items()
        for tag in parse(page).find_all(name)
        for attribute in attributes
        if tag.has_attr(attribute) and is_external(tag[attribute].split()[0] if tag[attribute] else "")
    ]
    assert not external
    styles = [tag.get_text() for tag in parse(page).find_all("style")]
    styles += [tag["style"] for tag in parse(page).find_all(style=True)]
    assert not [style for style in styles if STYLE_LOADS.search(style)]


STYLE_LOADS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?(?:https?:)?//", re.IGNORECASE)


def test_style_sheets_load_nothing_from_another_server():
    sheets = list(BOOK.glob("_static/**/*.css"))
    assert sheets
    assert not [str(s) for s in sheets if STYLE_LOADS.search(s.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_lead_somewhere(page):
    broken = []
    for tag, attribute in [("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")]:
        for element in parse(page).find_all(tag, **{attribute: True}):
            address = element[attribute]
            parts = urlsplit(address)
            if is_external(address) or parts.scheme or address in ("", "#"):
                continue
            here = BOOK / f"{page}.html"
            target = here.parent / unquote(parts.path) if parts.path else here
            if not target.exists() or (parts.fragment and not has_anchor(target, unquote(parts.fragment))):
                broken.append(address)
    assert not broken


@cache
def anchors(html: Path) -> frozenset[str]:
    """Every id and name on a page."""
    soup = BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")
    return frozenset(tag[key] for key in ("id", "name") for tag in soup.find_all(attrs={key: True}))


def has_anchor(target: Path, fragment: str) -> bool:
    """Whether a page has the anchor; anchors of other files (images) are not looked into."""
    return target.suffix != ".html" or fragment in anchors(target.resolve())


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_has_a_text_alternative(page):
    soup = parse(page)
    figures = soup.select(".book-figure")
    assert not [figure for figure in figures if not figure.get("aria-label", "").strip()]
    assert all(plot.find_parent(class_="book-figure") for plot in soup.select(".plotly-graph-div")), (
        "a figure was shown without thinkless.book.figures.show(figure, alt=...)"
    )
    assert not [image for image in soup.find_all("img") if not image.get("alt", "").strip()]
    assert not [tag for tag in soup.select("[role=img]") if not tag.get("aria-label", "").strip()]


@pytest.mark.parametrize("page", PAGES)
def test_no_formula_is_left_as_source(page):
    article = BeautifulSoup(str(parse(page).article), "html.parser")
    for tag in article.select("pre, code, script, style, .math"):
        tag.decompose()
    assert re.findall(r"\\[A-Za-z]{2,}|\$\$", article.get_text()) == [], (
        "write $...$ and $$...$$, not \\[...\\]"
    )


@pytest.mark.parametrize("page", PAGES)
def test_page_names_no_place_on_the_machine_that_built_it(page):
    found = machine_paths(page_html(page))
    assert found == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_downloaded_notebook_names_no_place_on_the_machine_that_ran_it(chapter):
    found = machine_paths(json.dumps(notebook(chapter), ensure_ascii=False))
    assert found == []


def machine_paths(text: str) -> list[str]:
    """Absolute paths in `text`: usual places of people and temporary files, and this machine's own."""
    usual = r"(?:home|root|tmp|Users|private|var/folders|mnt|opt|usr/lib|usr/local)/"
    places = {str(ROOT), str(Path.home())} | ({sys.prefix} if sys.prefix != sys.base_prefix else set())
    own = {re.escape(place) for place in places if len(place) > 1}
    pattern = rf"(?<![\w.:/~-])(?:/{usual}|(?:{'|'.join(sorted(own))})(?![\w-]))[^\s\"'<>&]*"
    return re.findall(pattern, text)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_executed_notebook_can_be_downloaded(chapter):
    links = [link["href"] for link in parse(chapter).select("a[href$='.ipynb']")]
    assert links, "no download button"
    for link in links:
        assert (BOOK / f"{chapter}.html").parent.joinpath(unquote(link)).is_file()
    assert notebook(chapter)["nbformat"] >= 4
    assert outputs(chapter), "the notebook was never executed"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_ran_to_its_end_without_a_word_on_stderr(chapter):
    assert not [output for output in outputs(chapter) if output["output_type"] == "error"]
    assert not [output["text"] for output in outputs(chapter) if output.get("name") == "stderr"]
    statuses = [cell["metadata"].get("papermill", {}).get("status") for cell in notebook(chapter)["cells"]]
    assert set(statuses) <= {None, "completed"}
    assert not parse(chapter).select(".output.stderr, .output.traceback")


def test_search_index_covers_every_page():
    index = (BOOK / "searchindex.js").read_text(encoding="utf-8")
    assert (BOOK / "search.html").is_file()
    missing = [page for page in PAGES if f'"{page}"' not in index]
    assert not missing
    assert '"advantag"' in index or "advantag:" in index, "a word of every chapter, stemmed, is not indexed"
