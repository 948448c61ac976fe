// The page as it stands, for readers without scripts: formulas as MathML, figures as pictures, nothing to click.
window.addEventListener("load", async () => {
  "use strict";
  const all = (selector) => [...document.querySelectorAll(selector)];
  const drawn = () =>
    all(".math").every((formula) => formula.querySelector("mjx-container")) &&
    all(".plotly-graph-div").every((plot) => plot._bookLines);
  while (!drawn()) await new Promise((next) => setTimeout(next, 100));

  for (const formula of all(".math")) formula.replaceWith(formula.querySelector("mjx-assistive-mml math"));
  for (const plot of all(".plotly-graph-div")) {
    const picture = new Image();
    const box = plot.closest(".book-figure");
    picture.src = await Plotly.toImage(plot, { format: "svg", width: 640, height: plot._fullLayout.height });
    picture.alt = box.getAttribute("aria-label");
    box.replaceWith(picture);
  }
  const moving = "script, style, button, .headerlink, .live-model, .touch, details:not([open])";
  all(moving).forEach((gone) => gone.remove());
  all(".admonition-title").forEach((title) => {
    const strong = document.createElement("strong");
    strong.append(...title.childNodes);
    title.append(strong);
  });

  all('a[href="#"]').forEach((link) => link.removeAttribute("href")); // to the first page
  // A box for each token, and a place to link to, that outlive being bound.
  all(".two-answers b").forEach((token) => token.after(" "));
  for (const term of all("dt[id]")) {
    const place = Object.assign(document.createElement("span"), { id: term.id });
    term.removeAttribute("id");
    place.append(...term.childNodes);
    term.append(place);
  }

  // Chapters begin at headings of the second level, with nothing around them; those of the first page are lower.
  const chapters = document.querySelector('span[id^="document-"]');
  const precedes = (heading) => heading.compareDocumentPosition(chapters) & Node.DOCUMENT_POSITION_FOLLOWING;
  for (const heading of all("article h2").filter(precedes)) {
    const lower = document.createElement("h3");
    lower.append(...heading.childNodes);
    heading.replaceWith(lower);
  }
  for (const place of all('span[id^="document-"]')) {
    const chapter = place.nextElementSibling;
    all(`a[href="#${place.id}"]`).forEach((link) => link.setAttribute("href", `#${chapter.id}`));
    place.remove();
  }
  for (const section of all("section").reverse()) {
    if (all(`[id="${section.id}"]`).length === 1) section.firstElementChild.id = section.id;
    section.replaceWith(...section.childNodes);
  }
  all(".toctree-wrapper").forEach((box) => box.replaceWith(...box.childNodes));
  document.body.replaceChildren(...document.querySelector("article").childNodes);
});
