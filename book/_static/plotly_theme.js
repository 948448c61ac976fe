// Figures that fit the page: its fonts, its colours, light or dark, and the width of the box they stand in.
//
// Loaded before the first figure: Plotly measures words when it draws, so it waits for the fonts.
// Text takes the page's text colour. Lines that the figure's author left at Plotly's default (#444:
// axis lines, ticks, frames of colour bars, reference lines, arrows) take the page's muted colour.
// A colour that was chosen is never touched.
(function () {
  "use strict";
  const DEFAULT_LINE = "#444";
  const AXIS_LINES = ["linecolor", "tickcolor", "zerolinecolor", "minor.tickcolor"];
  const AXIS = /^[xy]axis\d*$/;
  const STYLES = ["1em", "italic 1em", "600 1em"];
  const PAPER = 620; // pixels of a figure on A4 or Letter, within the margins of custom.css

  const draw = Plotly.newPlot;
  const draws = [];
  Plotly.newPlot = (...figure) => {
    draws.push(fonts().then(() => draw(...figure)));
    return draws.at(-1);
  };

  // A font that is missing holds no figure up.
  function fonts() {
    const family = getComputedStyle(document.documentElement).getPropertyValue("--pst-font-family-base");
    return Promise.allSettled(STYLES.map((style) => document.fonts.load(`${style} ${family}`)));
  }

  function figures() {
    return [...document.querySelectorAll(".plotly-graph-div")].filter((gd) => gd._fullLayout);
  }

  function read(object, path) {
    return path.split(".").reduce((value, key) => (value == null ? value : value[key]), object);
  }

  // Paths of everything drawn in the default line colour: {layout: [path], traces: [[index, path]]}.
  function defaultLines(gd) {
    const layout = gd._fullLayout;
    const candidates = ["coloraxis.colorbar.outlinecolor", "coloraxis.colorbar.tickcolor"];
    for (const name of Object.keys(layout)) {
      if (AXIS.test(name)) AXIS_LINES.forEach((line) => candidates.push(`${name}.${line}`));
      if (/^coloraxis\d+$/.test(name)) candidates.push(`${name}.colorbar.outlinecolor`, `${name}.colorbar.tickcolor`);
    }
    const found = candidates.filter((path) => read(layout, path) === DEFAULT_LINE);
    (layout.shapes || []).forEach((shape, i) => {
      if ([undefined, DEFAULT_LINE].includes(read(shape, "line.color"))) found.push(`shapes[${i}].line.color`);
    });
    (layout.annotations || []).forEach((note, i) => {
      if (note.arrowcolor === DEFAULT_LINE) found.push(`annotations[${i}].arrowcolor`);
    });
    const traces = [];
    gd._fullData.forEach((trace, i) => {
      for (const bar of ["colorbar", "marker.colorbar"]) {
        for (const line of ["outlinecolor", "tickcolor"]) {
          if (read(trace, `${bar}.${line}`) === DEFAULT_LINE) traces.push([i, `${bar}.${line}`]);
        }
      }
    });
    return { layout: found, traces };
  }

  function paint(gd) {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--pst-color-text-base").trim();
    const line = style.getPropertyValue("--pst-color-text-muted").trim();
    gd._bookLines = gd._bookLines || defaultLines(gd);
    const layout = { "font.color": text };
    gd._bookLines.layout.forEach((path) => (layout[path] = line));
    for (const [i, path] of gd._bookLines.traces) Plotly.restyle(gd, { [path]: line }, [i]);
    Plotly.relayout(gd, layout);
  }

  // The words of a text in lines no wider than `room`, in pixels.
  function broken(text, font, room) {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${font.size}px ${font.family}`;
    pen.textRendering = "geometricPrecision"; // as on the page
    const lines = [];
    for (const word of text.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`;
      if (lines.length && pen.measureText(longer).width <= room) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines.join("<br>");
  }

  // The title of an axis takes as many lines as it needs to be no longer than its axis.
  function wrapTitles(gd) {
    const titles = {};
    for (const name of Object.keys(gd._fullLayout).filter((key) => AXIS.test(key))) {
      const axis = gd._fullLayout[name];
      if (!gd.querySelector(`.${name.replace("axis", "title")}`)) continue;
      const title = broken(axis.title.text.replaceAll("<br>", " "), axis.title.font, axis._length);
      if (title !== axis.title.text) titles[`${name}.title.text`] = title;
    }
    if (Object.keys(titles).length) Plotly.relayout(gd, titles);
  }

  // Plotly watches the window only; a folded solution or a closed sidebar changes the box alone.
  const boxes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const gd = target.querySelector(".plotly-graph-div");
      const width = target.clientWidth;
      if (!gd || !gd._fullLayout || !width) continue;
      const fits = Math.abs(width - gd._fullLayout.width) <= 1;
      Promise.resolve(fits || Plotly.Plots.resize(gd)).then(() => wrapTitles(gd));
    }
  });

  function start() {
    figures().forEach((gd) => {
      paint(gd);
      wrapTitles(gd);
      boxes.observe(gd.closest(".book-figure") || gd.parentElement);
    });
    const size = (width) =>
      figures().forEach((gd) => Plotly.relayout(gd, { width, autosize: !width }).then(() => wrapTitles(gd)));
    window.addEventListener("beforeprint", () => size(PAPER));
    window.addEventListener("afterprint", () => size(null));
    new MutationObserver(() => figures().forEach(paint)).observe(document.documentElement, {
      attributes: true,
      attributeFilter: ["data-theme"],
    });
  }

  window.addEventListener("load", () => Promise.all(draws).finally(start));
})();
