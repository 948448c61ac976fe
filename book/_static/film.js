// The film of "Reinforcement learning: collapse or choice": a group of every tenth step, as it really was.
//
// The page brings one group as a still. Where there is a script, the reader scrubs through the run.
(() => {
  "use strict";
  const { signed } = Touch;
  const FULL = 1; // what a cell of full colour adds

  const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

  function cell(token, value) {
    const much = Math.min(1, Math.sqrt(Math.abs(value) / FULL)).toFixed(3);
    return `<i class="${value < 0 ? "down" : "up"}" style="--much: ${much}" title="${value.toPrecision(8)}">${escaped(token)}</i>`;
  }

  const select = (name, words, options) =>
    `<label>${words} <select name="${name}">${options.map(([key, text]) => `<option value="${key}">${text}`).join("")}</select></label>`;

  function start(box) {
    const { runs, names, objective } = JSON.parse(box.dataset.start);
    const arms = Object.keys(runs).map((arm) => [arm, names[arm]]);
    box.insertAdjacentHTML(
      "afterbegin",
      `<form><p>${select("run", "Run", arms)} ${select("objective", "coloured by", Object.entries(names))}
      <label class="wide">step <input type="range" name="frame" min="0"> <output></output></label></p></form>`,
    );
    const form = box.querySelector("form"), fields = form.elements;
    fields.objective.value = objective;
    fields.frame.max = fields.frame.value = runs[fields.run.value].length - 1;

    function show() {
      const frames = runs[fields.run.value], chosen = fields.objective.value;
      fields.frame.max = frames.length - 1;
      const { step, prompt, rows } = frames[Number(fields.frame.value)];
      Touch.label(form, () => String(step));
      box.querySelector(".group").innerHTML = rows
        .map(({ mode, tokens, reward, advantage, adds }) => {
          const [control, other] = adds[chosen];
          const cells = tokens.map((token, t) => cell(token, t ? other : control)).join("");
          return `<p class="tokens ${mode}"><span>${cells}</span>reward ${signed(reward, 1)}, advantage ${signed(advantage, 2)}</p>`;
        })
        .join("");
      let front = 0, all = 0;
      for (const { length, adds } of rows) {
        const [control, other] = adds[chosen].map(Math.abs);
        front += control;
        all += control + (length - 1) * other;
      }
      const thinking = rows.filter(({ mode }) => mode === "think").length;
      const share = all > 1e-9 ? `the control tokens carry ${Math.round((100 * front) / all)}\u00a0% of the signal` : "a silent group";
      box.querySelector("[role=status]").textContent =
        `Step ${step}, question ${prompt}; ${thinking} of ${rows.length} answers think; under ${names[chosen]}, ${share}.`;
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", show);
    show();
  }

  Touch.ready(".film", start);
})();
