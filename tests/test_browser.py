"""The built book in a real browser: nothing broken, nothing fetched, every figure drawn and readable.

Every page is opened in light and dark, on a laptop's screen and on a phone's. Needs a Chromium on the
PATH; reads `_build/html`, or the folder named by THINKLESS_BOOK_HTML.
"""

import functools
import html
import json
import math
import os
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from chromium import CHROMIUM, Chromium, Tab, wait_for
from live_pages import answers_in_page, answers_in_python, assert_equal, read_index

from thinkless.book import figures, formats
from thinkless.evaluation.prediction import race
from thinkless.objectives import OBJECTIVES, group_advantages, token_advantages
from thinkless.runs.profiles import load_profile

ROOT = Path(__file__).resolve().parents[1]
BOOK = Path(os.environ.get("THINKLESS_BOOK_HTML") or ROOT / "_build" / "html").resolve()
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
XHTML = "{http://www.w3.org/1999/xhtml}"
PAGES = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.book,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)"),
    pytest.mark.skipif(
        not os.environ.get("THINKLESS_BOOK_HTML") and not BOOK.is_dir(),
        reason="the book is not built: run `make book`, or set THINKLESS_BOOK_HTML to its folder",
    ),
]


UNFOLD = """(() => {
  const still = "*, ::before, ::after { transition: none !important; animation: none !important; }";
  document.head.append(Object.assign(document.createElement("style"), { textContent: still }));
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  document.querySelectorAll(".toggle-hidden").forEach((fold) => fold.classList.remove("toggle-hidden"));
})()"""

FITTED = """[...document.querySelectorAll(".plotly-graph-div")].every((plot) =>
  Math.abs(plot._fullLayout.width - plot.closest(".book-figure").clientWidth) <= 1)"""

FIGURES = """[...document.querySelectorAll(".book-figure")].map((figure) => {
  const layers = ".mlayer, .polarlayer, .pielayer, .sankey, .treemaplayer, .indicatorlayer, .gl-container";
  const marks = [...figure.querySelectorAll(layers)].flatMap((layer) =>
    [...layer.querySelectorAll("path, rect, circle, image, canvas")]);
  const seen = marks.filter((mark) => {
    const box = mark.getBoundingClientRect();
    return box.width + box.height > 1;
  });
  const box = figure.getBoundingClientRect();
  return {alt: figure.getAttribute("aria-label"), marks: seen.length, width: box.width, height: box.height,
          room: figure.parentElement.clientWidth};
})"""

CONTRAST = """(() => {
  const channels = (color) => color.match(/[\\d.]+/g)
    .map((part, i) => (color.startsWith("color(") && i < 3 ? 255 * part : Number(part)));
  const luminance = (rgb) => rgb.slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const texts = ".xtick text, .ytick text, text[class*=title], .legendtext, .cbaxis text, .annotation text";
  const figure = [...document.querySelectorAll(".book-figure")].flatMap((box) =>
    [...box.querySelectorAll(texts)].map((text) => [text, getComputedStyle(text).fill, background(box)]));
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const prose = [...document.querySelectorAll(".bd-main *, .bd-sidebar-primary *, footer *")]
    .filter((element) => own(element) && !element.closest("svg, script, style, noscript, [disabled]"))
    .filter((element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
    .map((element) => [element, getComputedStyle(element).color, background(element)]);
  return [...figure, ...prose].map(([element, color, page]) =>
    ({text: element.textContent, color, ratio: ratio(luminance(channels(color)), luminance(page))}))
    .filter((one) => one.text.trim() && one.ratio < 4.5);
})()"""

AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")

BARRIERS = """axe.run({ exclude: [[".js-plotly-plot"]] }, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
  resultTypes: ["violations"],
  rules: { "color-contrast": { enabled: false } },
}).then(({ violations }) => violations.flatMap(({ id, help, nodes }) =>
  nodes.map((node) => `${id}: ${help}: ${node.html.slice(0, 120)}`)))"""

UNREACHABLE = """[...document.querySelectorAll("article pre")]
  .filter((box) => box.scrollWidth > box.clientWidth && box.tabIndex < 0)
  .map((box) => box.textContent.slice(0, 80))"""

CROWDED = """[...document.querySelectorAll(".book-figure")].flatMap((figure) => {
  const frame = figure.getBoundingClientRect();
  const words = "text[class*=title], .legendtext, .annotation text, .cbaxis text, .heatmap-label";
  const texts = [...figure.querySelectorAll(words)]
    .filter((text) => text.textContent.trim())
    .map((text) => ({text: text.textContent, box: text.getBoundingClientRect()}));
  const overlap = (a, b) =>
    Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
    Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  const area = (box) => box.width * box.height;
  const cut = texts.filter(({box}) => box.left < frame.left - 2 || box.right > frame.right + 2
    || box.top < frame.top - 2 || box.bottom > frame.bottom + 2).map(({text}) => `cut off: ${text}`);
  const covered = texts.flatMap((one, i) => texts.slice(i + 1)
    .filter((other) => overlap(one.box, other.box) > 0.15 * Math.min(area(one.box), area(other.box)))
    .map((other) => `one over the other: ${one.text} | ${other.text}`));
  const axes = figure.querySelector(".plotly-graph-div")._fullLayout;
  const long = Object.keys(axes).filter((name) => /^[xy]axis\\d*$/.test(name)).flatMap((name) => {
    const title = figure.querySelector(`.${name.replace("axis", "title")}`);
    const { width, height } = title?.getBoundingClientRect() || {};
    return (name[0] === "x" ? width : height) > axes[name]._length + 2 ? [title.textContent] : [];
  }).map((text) => `longer than its axis: ${text}`);
  return [...cut, ...covered, ...long];
})"""

TOO_WIDE = """((width) => {
  const right = (element) => element.getBoundingClientRect().right;
  const scrolls = (element) => {
    for (let at = element; at && at !== document.body; at = at.parentElement) {
      const overflow = getComputedStyle(at).overflowX;
      if (["auto", "scroll"].includes(overflow) && right(at) <= width + 1) return true;
    }
    return false;
  };
  return [...document.querySelectorAll("article *")]
    .filter((element) => !element.closest("svg svg, mjx-assistive-mml, .visually-hidden"))
    .filter((element) => right(element) > width + 1 && !scrolls(element))
    .map((element) => element.outerHTML.slice(0, 120));
})"""

SCROLLING = """[...document.querySelectorAll("article *")]
  .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)
  .filter((box) => ["auto", "scroll"].includes(getComputedStyle(box).overflowX))
  .map((box) => box.outerHTML.slice(0, 120))"""

WORDS = """(() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const words = [];
  while (walk.nextNode()) {
    const text = walk.currentNode;
    if (!text.textContent.trim() || text.parentElement.closest("mjx-assistive-mml")) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const { left, top, width, height } = range.getBoundingClientRect();
    if (width) words.push([text.textContent, left, top, width, height].join(" "));
  }
  return words;
})()"""


BLANK = """(() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const drawn = (font, sign) => {
    pen.font = font;
    pen.clearRect(0, 0, 99, 99);
    pen.fillText(sign, 9, 60);
    return pen.getImageData(0, 0, 99, 99).data.join();
  };
  const signs = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const odd = walk.currentNode.textContent.match(/[^\\0-\\x7f]/gu);
    if (!odd || element.closest("mjx-assistive-mml") || !element.checkVisibility()) continue;
    const { fontStyle, fontWeight, fontFamily } = getComputedStyle(element);
    odd.forEach((sign) => signs.add(`${sign} ${fontStyle} ${fontWeight} 40px ${fontFamily}`));
  }
  const nobody = "\\uf8fe";
  return [...signs].filter((sign) => {
    const [letter, ...font] = sign.split(" ");
    return drawn(font.join(" "), letter) === drawn(font.join(" "), nobody);
  });
})()"""


@dataclass
class Visit:
    """What one page in one view looked like to the browser."""

    errors: list[str] = field(default_factory=list)
    """Console errors, uncaught exceptions, failed requests, and what was waited for in vain."""
    external: list[str] = field(default_factory=list)
    """Addresses that were asked of another server."""
    figures: list[dict] = field(default_factory=list)
    faint: list[dict] = field(default_factory=list)
    """Texts, those of figures included, whose contrast with the page is under 4.5."""
    barriers: list[str] = field(default_factory=list)
    """What axe finds against WCAG 2.1 A and AA but for contrast, in one view of each width."""
    unreachable: list[str] = field(default_factory=list)
    """Boxes that scroll sideways and that no key gets into."""
    crowded: list[str] = field(default_factory=list)
    """Titles, legends and notes of figures that are cut off or lie on each other."""
    foreign: list[str] = field(default_factory=list)
    """Texts drawn in a font of the system's, which others may not have, and signs that no font has.

    Looked for in one view only.
    """
    malformed: int = 0
    """Formulas that MathJax could not read."""
    too_wide: list[str] = field(default_factory=list)
    """Elements that stick out of the page and do not scroll in a box of their own."""
    page_width: int = 0
    theme: str = ""


VIEWS = {
    "light": ("light", 1280),
    "dark": ("dark", 1280),
    "phone": ("light", 390),
    "dark phone": ("dark", 390),
}
"""Theme and width in pixels."""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of the book on a local server."""

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(BOOK))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[Chromium]:
    """One browser for all tests."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chromium_without_letters(tmp_path_factory) -> Iterator[Chromium]:
    """A browser on a system (Linux) whose only fonts are icons; with none it would not load a page's."""
    icons = BOOK / "_static" / "vendor" / "fontawesome" / "webfonts"
    browser = Chromium(tmp_path_factory.mktemp("chromium"), font_folder=icons)
    yield browser
    browser.close()


@pytest.fixture
def tab(chromium) -> Iterator[Tab]:
    """A tab of its own."""
    tab = chromium.new_tab()
    yield tab
    tab.close()


@pytest.fixture
def piece(tab) -> Iterator[Callable[[str, str], str]]:
    """`piece(chapter, name)` opens a chapter from the disk; what stands there to touch, as an expression of
    JavaScript. Afterwards nothing has failed, and nothing was fetched."""

    def opened(chapter: str, name: str) -> str:
        tab.open((BOOK / "book" / "executed" / f"{chapter}.html").as_uri(), "light", 1280)
        return f"document.querySelector('.{name}')"

    yield opened
    assert errors(tab) == []
    assert external_requests(tab, f"file://{BOOK}") == []


@pytest.fixture(scope="session")
def visit(chromium, server) -> Callable[[str, str], Visit]:
    """`visit(page, view)` opens a page, unfolds what is folded and looks around; once for all tests.

    In one tab, which has to compile the pages' scripts only once.
    """
    tab = chromium.new_tab()

    @functools.cache
    def look(page: str, view: str) -> Visit:
        theme, width = VIEWS[view]
        tab.events.clear()
        stuck = []
        try:
            tab.open(f"{server}/{page}.html", theme, width)
            tab.run(UNFOLD)
            wait_for(lambda: tab.run(FITTED), "its figures to fill their boxes")
        except AssertionError as error:  # look around all the same: it says why
            stuck = [str(error)]
        return Visit(
            errors=stuck + errors(tab),
            external=external_requests(tab, server),
            figures=tab.run(FIGURES),
            faint=tab.run(CONTRAST),
            barriers=tab.run(f"{AXE}; {BARRIERS}") if view in ("light", "dark phone") else [],
            unreachable=tab.run(UNREACHABLE),
            crowded=tab.run(CROWDED),
            foreign=foreign_texts(tab) + tab.run(BLANK) if view == "light" else [],
            malformed=tab.run("document.querySelectorAll('[data-mml-node=merror]').length"),
            too_wide=tab.run(f"{TOO_WIDE}({width})"),
            page_width=tab.run("document.documentElement.scrollWidth"),
            theme=tab.run("document.documentElement.dataset.theme"),
        )

    return look


def errors(tab: Tab) -> list[str]:
    """Everything that a developer's console would show in red."""
    found = [params["exceptionDetails"]["text"] for params in tab.named("Runtime.exceptionThrown")]
    for params in tab.named("Runtime.consoleAPICalled"):
        if params["type"] in ("error", "assert"):
            found.append(" ".join(str(value.get("value", value)) for value in params["args"]))
    for params in tab.named("Log.entryAdded"):
        if params["entry"]["level"] == "error":
            found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
    for params in tab.named("Network.responseReceived"):
        if params["response"]["status"] >= 400:
            found.append(f"{params['response']['status']} {params['response']['url']}")
    return found


def external_requests(tab: Tab, server: str) -> list[str]:
    """Addresses asked for that are neither on the local server nor inside the page itself."""
    asked = [params["request"]["url"] for params in tab.named("Network.requestWillBeSent")]
    asked += [params["url"] for params in tab.named("Network.webSocketCreated")]
    return [url for url in asked if not url.startswith((f"{server}/", "data:", "blob:", "about:"))]


def foreign_texts(tab: Tab) -> list[str]:
    """Texts drawn, wholly or in part, in a font that did not come with the page."""
    return [
        f"{font['familyName']}: {text[:80]}"
        for text, fonts in tab.fonts()
        for font in fonts
        if not font["isCustomFont"]
    ]


def press_key(tab: Tab, element: str, key: str, code: int, text: str = ""):
    """Focus an element, an expression of JavaScript, and press a key there."""
    tab.run(f"{element}.focus()")
    for kind in ("keyDown", "keyUp"):
        tab.send(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code
        )


def fill(tab: Tab, form: str, **values):
    """Set fields of a form, an expression of JavaScript, as if by hand."""
    for name, value in values.items():
        kind = "checked" if isinstance(value, bool) else "value"
        tab.run(f"{form}.elements[{name!r}].{kind} = {json.dumps(value)}")
    tab.run(f"{form}.dispatchEvent(new Event('input'))")


def source(page: str) -> str:
    """The HTML of a page as it lies on disk."""
    return (BOOK / f"{page}.html").read_text(encoding="utf-8")


every_page = pytest.mark.parametrize("page", PAGES)
every_view = pytest.mark.parametrize("view", VIEWS)


@every_page
@every_view
def test_page_loads_without_an_error(visit, page, view):
    assert visit(page, view).errors == []


@every_page
@every_view
def test_nothing_is_fetched_from_elsewhere(visit, page, view):
    assert visit(page, view).external == []


@every_page
@every_view
def test_page_wears_its_theme(visit, page, view):
    assert visit(page, view).theme == VIEWS[view][0]


@every_page
@every_view
def test_every_figure_is_drawn_and_fills_its_column(visit, page, view):
    assert len(visit(page, view).figures) == source(page).count('class="book-figure"')
    for figure in visit(page, view).figures:
        assert figure["marks"] > 0, f"nothing is drawn in: {figure['alt']}"
        assert figure["height"] > 100, f"flat: {figure['alt']}"
        assert 0.95 * figure["room"] <= figure["width"] <= figure["room"] + 1, figure


@every_page
@every_view
def test_every_text_has_contrast(visit, page, view):
    assert visit(page, view).faint == []


@every_page
@every_view
def test_nothing_keeps_people_out(visit, page, view):
    assert visit(page, view).barriers == []
    assert visit(page, view).unreachable == []


@every_page
@every_view
def test_words_of_a_figure_are_whole_and_apart(visit, page, view):
    assert visit(page, view).crowded == []


@every_page
def test_every_text_is_drawn_in_a_font_of_the_book(visit, page):
    assert visit(page, "light").foreign == []


@every_page
def test_formulas_are_well_formed(visit, page):
    assert visit(page, "light").malformed == 0


@every_page
@every_view
def test_page_does_not_scroll_sideways(visit, page, view):
    assert visit(page, view).page_width <= VIEWS[view][1]
    assert visit(page, view).too_wide == []


def test_switching_the_theme_repaints_the_figures(tab, server):
    page = next(page for page in PAGES if 'class="book-figure"' in source(page))
    tab.open(f"{server}/{page}.html", "light", 1280)
    color = "getComputedStyle(document.querySelector('.book-figure .xtick text')).fill"
    before = tab.run(color)
    buttons = "[...document.querySelectorAll('.theme-switch-button')]"
    switch = f"{buttons}.find((button) => button.checkVisibility()).click()"
    for _ in range(3):  # the switch goes round: light, dark, as the system says
        if tab.run("document.documentElement.dataset.theme") == "dark":
            break
        tab.run(switch)
    assert tab.run("document.documentElement.dataset.theme") == "dark"
    wait_for(lambda: tab.run(color) != before, "the figures to take the dark theme's colours")
    assert tab.run(CONTRAST) == []
    assert errors(tab) == []


def test_every_word_is_in_its_place_on_a_system_without_letters(tab, chromium_without_letters, server):
    page = next(page for page in PAGES if 'class="book-figure"' in source(page))
    elsewhere = chromium_without_letters.new_tab()
    for one in (tab, elsewhere):
        one.open(f"{server}/{page}.html", "light", 1280)
    assert len(tab.run(WORDS)) > 100
    assert elsewhere.run(WORDS) == tab.run(WORDS)
    elsewhere.close()


def test_the_book_in_one_file_is_whole(tab, monkeypatch):
    """As a PDF on A4, whose margins leave 673 pixels, and as an EPUB."""
    titles = {re.search(r"<h1>(.*?)<", source(page)).group(1) for page in PAGES}
    assert len(titles) > 20
    printed = formats.pdf(BOOK.parents[1]).read_bytes()
    bookmarks = {mark.decode("latin-1") for mark in re.findall(rb"/Title \((.*)\)", printed)}
    assert {title for title in titles if title.isascii()} <= bookmarks
    assert [mark for mark in bookmarks if mark[: len(mark) // 2] * 2 == mark] == []
    assert len(re.findall(rb"/Type /Page\n", printed)) > 100
    assert b"/URI (file:" not in printed

    page = BOOK.parent / "singlehtml" / "book.html"
    tab.open(page.as_uri(), "light", 673)
    tab.send("Emulation.setEmulatedMedia", media="print")
    tab.run("window.dispatchEvent(new Event('beforeprint'))")
    plots = "[...document.querySelectorAll('.plotly-graph-div')]"
    fit = f"{plots}.every((plot) => plot._fullLayout.width === 620)"
    wait_for(lambda: tab.run(fit), "the figures to fit the paper")
    assert tab.run(f"{TOO_WIDE}(673)") == []
    assert tab.run(SCROLLING) == []
    assert external_requests(tab, f"file://{BOOK.parent}") == []

    pytest.importorskip("pypandoc", reason="no Pandoc: make .venv/epub")
    monkeypatch.setattr(formats, "_one_page", lambda root: page)
    with zipfile.ZipFile(formats.epub(BOOK.parents[1])) as archive:
        names = [name for name in archive.namelist() if name.endswith(".xhtml")]
        chapters = {name: ElementTree.fromstring(archive.read(name)).find(f"{XHTML}body") for name in names}
        pictures = [name for name in archive.namelist() if name.endswith(".svg")]
    elements = [element for chapter in chapters.values() for element in chapter.iter()]
    tags = Counter(element.tag.partition("}")[2] for element in elements)
    headings = {"".join(element.itertext()) for element in elements if element.tag == f"{XHTML}h1"}
    assert {straight(title) for title in titles} == {straight(heading) for heading in headings}
    whole = page.read_text(encoding="utf-8")
    assert len(pictures) >= whole.count('class="plotly-graph-div"') > 30
    assert tags["math"] >= len(re.findall(r'class="[^"]*\bmath\b', whole)) > 100
    assert tags["script"] == tags["style"] == 0
    places = {f"{name}#{e.get('id')}" for name, chapter in chapters.items() for e in chapter.iter()}
    links = [(name, e.get("href")) for name, chapter in chapters.items() for e in chapter.iter(f"{XHTML}a")]
    inside = [urljoin(name, href) for name, href in links if href and not urlsplit(href).scheme]
    assert len(inside) > 100
    assert set(inside) <= places | chapters.keys()


def straight(title: str) -> str:
    """A title without the entities, and with the apostrophes that are typed."""
    return html.unescape(title).replace("’", "'")


def test_figures_are_resized_for_paper_and_back(tab, server):
    page = next(page for page in PAGES if 'class="book-figure"' in source(page))
    tab.open(f"{server}/{page}.html", "light", 1280)
    width = "document.querySelector('.plotly-graph-div')._fullLayout.width"
    assert tab.run(width) > 620
    tab.run("window.dispatchEvent(new Event('beforeprint'))")
    wait_for(lambda: tab.run(width) == 620, "a figure to fit the paper")
    tab.run("window.dispatchEvent(new Event('afterprint'))")
    wait_for(lambda: tab.run(FITTED), "the figures to fill their boxes again")
    assert errors(tab) == []


def test_search_finds_a_word_without_a_network(tab, server):
    tab.open(f"{server}/search.html?q=advantage", "light", 1280)
    wait_for(lambda: tab.run("document.querySelectorAll('#search-results li a').length"), "a search result")
    assert errors(tab) == []
    assert external_requests(tab, server) == []


def test_the_live_model_runs_from_the_disk_and_chooses_the_tokens_of_python(tab):
    """The last checkpoint of the book, on 200 questions, beside the model that its chapters trained."""
    live = BOOK / "_static" / "live"
    index = read_index(live)
    if not index["checkpoints"]:
        pytest.skip("the book was built without models of the laptop world")
    world, stage = index["world"], index["checkpoints"][-1]["stage"]
    tab.open((BOOK / "book" / "live.html").as_uri(), "light", 1280)
    wait_for(lambda: tab.run("document.querySelector('.live-said').textContent"), "the first answers")
    assert errors(tab) == []
    assert external_requests(tab, f"file://{BOOK}") == []
    trained = BOOK.parents[1] / "runs" / world["profile"] / f"seed{world['seed']}" / stage / "model"
    if not trained.is_dir():
        pytest.skip(f"nothing to compare with: no {trained}")
    tab.run((live / f"{stage}.js").read_text(encoding="utf-8"))  # the page forgot it when it had read it
    expected = answers_in_python(trained, index, world["questions"])
    assert_equal(answers_in_page(tab, stage, world["questions"]), expected)


def test_the_coin_is_tossed_and_moved_by_keyboard_from_the_disk(tab, piece):
    """Shares of 1 and 0 leave no luck: thinking alone earns, so ten steps with a baseline raise P(think)."""
    box = piece("04_policy_gradients", "coin")
    text = f"(selector) => {box}.querySelector(selector).textContent"

    def press(name: str):
        press_key(tab, f"{box}.querySelector({name!r})", "Enter", 13, "\r")

    def number(shown: str) -> float:
        return float(shown.replace("−", "-"))

    def think_probability() -> float:
        return float(re.search(r"[0-9.]+[0-9]", tab.run(f"({text})('.coin-line output')"))[0])

    for name, value in {"worked": 1, "short": 0, "size": 16}.items():
        tab.run(f"{box}.querySelector('[name={name}]').value = {value}")
    assert think_probability() == 0.5
    press("[type=submit]")
    cells = "(row) => [...row.cells].map((cell) => cell.textContent)"
    group = tab.run(f"[...{box}.querySelectorAll('tbody tr')].map({cells})")
    assert len(group) == 16 == tab.run(f"{box}.querySelectorAll('polygon:not(.step)').length")
    assert {row[1]: row[2] for row in group}.items() <= {"think": "+0.5", "short": "−1.0"}.items()
    mean = number(re.search(r"z: (\S+[0-9])", tab.run(f"({text})('[role=status]')"))[1])
    assert mean == pytest.approx(sum(number(row[-1]) for row in group) / 16, abs=1e-3)
    press("[name=step]")
    assert think_probability() == pytest.approx(1 / (1 + math.exp(-4 * mean)), abs=5e-3)
    press("[name=ten]")
    wait_for(lambda: tab.run(f"{box}.querySelectorAll('.before').length") == 11, "ten steps")
    assert think_probability() > 0.9
    press("[name=again]")
    assert think_probability() == 0.5


def test_the_weight_of_every_token_is_that_of_the_package(tab, piece):
    """Any objective, any lengths, any α and rewards; the table beneath agrees with the cells above it."""
    box = piece("05_grpo_to_degrpo", "weight")
    form, page = f"{box}.querySelector('form')", json.loads(tab.run(f"{box}.dataset.start"))
    cells = "(line) => [...line.querySelectorAll('i')].map((cell) => Number(cell.title))"
    settings = [(3, 5, -1, False, True), (13, page["longest"], 0.25, True, True), (40, 2, 0, True, False)]
    for objective in OBJECTIVES:
        for short, think, exponent, short_right, think_right in settings:
            values = {"short": short, "think": think, "alpha": exponent, "objective": objective}
            fill(tab, form, **values, short_right=short_right, think_right=think_right)
            alpha = float(tab.run(f"{form}.elements.alpha.nextElementSibling.textContent"))
            assert alpha == pytest.approx(10**exponent, rel=0.02)
            size = torch.tensor([[short], [think]])
            rewards = [1 if short_right else -1, 1 - page["gamma"] if think_right else -1]
            advantages = group_advantages(torch.tensor(rewards, dtype=torch.float64), group_size=2)
            limits = {"alpha": alpha, "max_length": page["longest"]}
            per_token = token_advantages(
                advantages, torch.arange(40 + page["longest"]) < size, objective, **limits
            )
            found = tab.run(f"[...{box}.querySelectorAll('.tokens')].map({cells})")
            for row, length, shown in zip(per_token / size, size[:, 0].tolist(), found, strict=True):
                assert shown == pytest.approx(row[:length].tolist(), abs=1e-6)
            row = tab.run(f"{box}.querySelector('.chosen').textContent").replace("−", "-")
            sums = [part for shown in found for part in (shown[0], sum(shown[1:]))]
            assert [float(x) for x in re.findall(r"[+-]?\d\.\d{3}", row)] == pytest.approx(sums, abs=6e-4)
    press_key(tab, f"{form}.elements.think", "ArrowRight", 39)
    assert tab.run(f"{box}.querySelectorAll('.tokens.think i').length") == 3


def test_the_race_takes_the_steps_of_the_package(tab, piece):
    """Whatever the price and however well kinds are told apart; played, scrubbed and stepped by keyboard."""
    box = piece("06_rl", "race")
    form, page = f"{box}.querySelector('form')", json.loads(tab.run(f"{box}.dataset.start"))
    still = re.search(r'class="touch race".*?</table>', source("book/executed/06_rl"), re.DOTALL)[0]
    cells = "(row) => [...row.querySelectorAll('td')].map((cell) => Number(cell.dataset.rate))"

    def shown() -> list[list[float]]:
        return tab.run(f"[...{box}.querySelectorAll('tbody tr')].map({cells})")

    kinds, names = pd.DataFrame(page["kinds"]), {figures.OBJECTIVE_NAMES[arm]: arm for arm in OBJECTIVES}
    drawn = [float(rate) for rate in re.findall(r"<td>([0-9.]+)</td>", still)]
    assert [rate for row in shown() for rate in row] == pytest.approx(drawn, abs=6e-4)
    for gamma, apart in ((page["gamma"], page["apart"]), (0.2, 0), (0.7, 0.85)):
        fill(tab, form, gamma=gamma, apart=apart)
        scaling = {"gamma": gamma, "scale_rewards": "group" if page["scaled"] else "none"}
        rule = load_profile("laptop").rl.model_copy(update=scaling)
        walk = {"steps": page["steps"], "rate": page["rate"], "apart": apart}
        walks = [race(kinds, names[arm["name"]], rule, **walk) for arm in page["arms"]]
        for step in (0, 1, 40, page["steps"]):
            fill(tab, form, step=step)
            assert shown() == [pytest.approx(row) for row in np.array([w.loc[step] for w in walks]).T]
    press_key(tab, f"{box}.querySelector('[name=again]')", "Enter", 13, "\r")
    press_key(tab, f"{box}.querySelector('[name=one]')", "Enter", 13, "\r")
    assert tab.run(f"{form}.elements.step.value") == "1"
    press_key(tab, f"{form}.elements.step", "ArrowRight", 39)
    assert shown() == [pytest.approx(row) for row in np.array([w.loc[2] for w in walks]).T]
    press_key(tab, f"{box}.querySelector('[type=submit]')", "Enter", 13, "\r")
    wait_for(lambda: tab.run(f"{form}.elements.step.value") == str(page["steps"]), "the race to end")


def test_the_film_shows_the_groups_that_the_runs_kept(tab, piece):
    """Each token of each rollout in each frame: under GRPO by hand, under the others by the page's data."""
    box = piece("06_rl", "film")
    if not tab.run(f"!!{box}"):
        pytest.skip("the book's runs are from before groups were kept")
    form, page = f"{box}.querySelector('form')", json.loads(tab.run(f"{box}.dataset.start"))
    cells = "(line) => [...line.querySelectorAll('i')].map((cell) => [cell.textContent, Number(cell.title)])"
    for run, frames in page["runs"].items():
        assert frames[0]["step"] == 1
        for number, frame in enumerate(frames):
            rows = frame["rows"]
            rewards = [row["reward"] for row in rows]
            for objective in page["names"]:
                fill(tab, form, run=run, objective=objective, frame=number)
                shown = tab.run(f"[...{box}.querySelectorAll('.tokens')].map({cells})")
                for row, line in zip(rows, shown, strict=True):
                    control, other = row["adds"][objective]
                    if objective == "grpo":
                        assert row["advantage"] == pytest.approx(row["reward"] - np.mean(rewards), abs=1e-5)
                        control = other = row["advantage"] / row["length"]
                    assert [text for text, _ in line] == row["tokens"]
                    adds = [control, *[other] * (len(line) - 1)]
                    assert [value for _, value in line] == pytest.approx(adds, abs=1e-6)
    fill(tab, form, frame=1)
    press_key(tab, f"{form}.elements.frame", "ArrowLeft", 37)
    assert tab.run(f"{box}.querySelector('[role=status]').textContent").startswith("Step 1,")
