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

  // Chapters begin at headings, with nothing around them; what is linked to is a heading, too.
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
