// The weight of one token: what every token of a short and of a worked answer adds to the gradient.
//
// The page brings the picture and the table of one group of two. Where there is a script, both follow the controls.
(() => {
  "use strict";
  const { signed } = Touch;
  const FULL = 0.75; // what a cell of full colour adds

  // The rules of thinkless/objectives.py: weight of the control token and of any other, under the mean over the tokens.
  const RULES = {
    grpo: () => [1, 1],
    dr_grpo: ({ length, longest }) => [length / longest, length / longest],
    token_mean: ({ length, usual }) => [length / usual, length / usual],
    degrpo: ({ length, alpha }) => [alpha * length, length / Math.max(length - 1, 1)],
    degrpo_token_mean: ({ length, alpha, usual }) => [alpha * length, length / Math.max(usual - 1, 1e-9)],
  };

  /** For both answers, what the control token weighs in the loss, what any other does, and the advantage. */
  function weigh(objective, { lengths, rewards, alpha, longest }) {
    const usual = (lengths[0] + lengths[1]) / 2, baseline = (rewards[0] + rewards[1]) / 2;
    return lengths.map((length, i) => {
      const [control, other] = RULES[objective]({ length, alpha, usual, longest }).map((weight) => weight / length);
      return { length, control, other, advantage: rewards[i] - baseline };
    });
  }

  const cell = (value) => {
    const much = Math.min(1, Math.sqrt(Math.abs(value) / FULL));
    return `<i class="${value < 0 ? "down" : "up"}" title="${value.toPrecision(8)}" style="--much: ${much.toFixed(3)}"></i>`;
  };

  const slider = (name, words, range) => `<label>${words} <input type="range" name="${name}" ${range}> <output></output></label>`;
  const right = (name, words) => `<label><input type="checkbox" name="${name}"> ${words}</label>`;

  function start(box) {
    const { names, gamma, longest, ...begin } = JSON.parse(box.dataset.start);
    const options = Object.entries(names).map(([key, name]) => `<option value="${key}">${name}`);
    box.insertAdjacentHTML(
      "afterbegin",
      `<form><p><label>Objective <select name="objective">${options.join("")}</select></label>
      ${slider("alpha", "α", 'min="-3" max="1" step="0.25"')}</p>
      <p>${slider("short", "tokens of the short answer", `min="2" max="${longest}"`)}
      ${slider("think", "of the worked one", `min="2" max="${longest}"`)}</p>
      <p>${right("short_right", "short answer is right")} ${right("think_right", "worked answer is right")}</p></form>`,
    );
    const form = box.querySelector("form"), fields = form.elements;
    for (const [name, value] of Object.entries(begin)) {
      if (typeof value === "boolean") fields[name].checked = value;
      else fields[name].value = name === "alpha" ? Math.log10(value) : value;
    }
    const alphaOf = (exponent) => Number(Math.pow(10, exponent).toPrecision(2));

    function show() {
      Touch.label(form, ({ name, value }) => (name === "alpha" ? String(alphaOf(value)) : value));
      const setting = {
        lengths: [Number(fields.short.value), Number(fields.think.value)],
        rewards: [fields.short_right.checked ? 1 : -1, fields.think_right.checked ? 1 - gamma : -1],
        alpha: alphaOf(fields.alpha.value),
        longest,
      };
      const chosen = fields.objective.value, answers = weigh(chosen, setting);
      fields.alpha.disabled = !chosen.startsWith("degrpo");
      box.querySelectorAll(".tokens").forEach((line, i) => {
        const { length, control, other, advantage } = answers[i];
        const rest = Array(length - 1).fill(cell(other * advantage)).join("");
        const drawn = line.querySelector("span");
        drawn.innerHTML = cell(control * advantage) + rest;
        drawn.setAttribute("aria-label", `${i ? "think" : "short"} answer of ${length} tokens, a cell for each`);
        line.querySelector("output").textContent =
          `reward ${signed(setting.rewards[i], 1)}, control token ${control.toFixed(3)} × ${signed(advantage, 2)} = ${signed(control * advantage)}`;
      });
      const [short, think] = answers, times = short.control / think.control;
      const compared =
        Math.abs(times - 1) < 1e-9
          ? "the same in both answers"
          : `${Math.max(times, 1 / times).toFixed(1)} times as much in the ${times > 1 ? "short" : "worked"} answer`;
      const silent = short.advantage ? "" : " But both earned the same: a silent group.";
      box.querySelector("[role=status]").textContent = `${names[chosen]}: the control token weighs ${compared}.${silent}`;
      box.querySelector("tbody").innerHTML = Object.keys(names)
        .map((objective) => {
          const parts = weigh(objective, setting).flatMap(({ length, control, other, advantage }) => [
            control * advantage,
            (length - 1) * other * advantage,
          ]);
          const cells = parts.map((value) => `<td>${signed(value)}</td>`).join("");
          return `<tr${objective === chosen ? ' class="chosen"' : ""}><th scope="row">${names[objective]}</th>${cells}</tr>`;
        })
        .join("");
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", show);
    show();
  }

  Touch.ready(".weight", start);
})();
