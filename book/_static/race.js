// The race of "Reinforcement learning: collapse or choice": the closed form, walked along step by step.
//
// The page brings a still picture and a table, drawn by `race` of thinkless/evaluation/prediction.py; this is the same.
(() => {
  "use strict";
  const { sigmoid } = Touch;
  const WIDTH = 320, HEIGHT = 210, LEFT = 34, TOP = 8, BOTTOM = 24, RIGHT = 6; // pixels
  const PAUSE = 40; // milliseconds between two steps

  // As `pull`: what a step on every kind would do to its own mode logit, by its share.
  function pulls(kinds, rates, [think, short], { gamma, scaled }) {
    return kinds.map(({ share, accuracy_think: worked, accuracy_short: at_once }, k) => {
      const p = rates[k], weight = (1 - p) * think[k] + p * short[k];
      const found = share * p * (1 - p) * (worked * (2 - gamma) - 2 * at_once) * weight;
      if (!scaled) return found;
      const right = [p * worked, (1 - p) * at_once], wrong = 1 - right[0] - right[1];
      const mean = (1 - gamma) * right[0] + right[1] - wrong;
      const square = (1 - gamma) ** 2 * right[0] + right[1] + wrong;
      return found / (Math.sqrt(Math.max(square - mean ** 2, 0)) + 1e-4);
    });
  }

  /** Think rates, steps by kinds. */
  function race(kinds, weights, setting) {
    const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
    const heard = sum(kinds.map(({ share }, k) => (share * (weights[0][k] + weights[1][k])) / 2));
    let logits = kinds.map(({ think_rate: p }) => Math.log(p / (1 - p)));
    const rates = [logits.map(sigmoid)];
    for (let step = 0; step < setting.steps; step++) {
      const own = pulls(kinds, rates[step], weights, setting).map((pull) => pull / heard), all = sum(own);
      logits = logits.map((z, k) => z + setting.rate * (all + setting.apart * own[k]));
      rates.push(logits.map(sigmoid));
    }
    return rates;
  }

  const CONTROLS = `
    <form><p class="buttons"><button type="submit">Play</button> <button type="button" name="one">One step</button>
    <button type="button" name="again">To the start</button>
    <label class="wide">step <input type="range" name="step" min="0"> <output></output></label></p>
    <p><label>price of thinking γ <input type="range" name="gamma" min="0" max="0.95" step="0.05"> <output></output></label>
    <label>how well kinds are told apart <input type="range" name="apart" min="0" max="1" step="0.05"> <output></output></label></p></form>`;

  function start(box) {
    const { kinds, arms, gamma, apart, ...fixed } = JSON.parse(box.dataset.start), { steps } = fixed;
    box.insertAdjacentHTML("afterbegin", CONTROLS);
    const form = box.querySelector("form"), fields = form.elements, play = box.querySelector("[type=submit]");
    fields.step.max = steps;
    Object.entries({ step: 0, gamma, apart }).forEach(([name, value]) => (fields[name].value = value));
    const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / steps;
    const y = (rate) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate);
    let runs, turn = 0;

    function show() {
      const now = Number(fields.step.value);
      Touch.label(form, ({ name, value }) => (name === "step" ? value : Number(value).toFixed(2)));
      const usual = runs.map((rates) => kinds.reduce((sum, { share }, k) => sum + share * rates[now][k], 0));
      box.querySelectorAll("svg").forEach((drawing, i) => {
        drawing.querySelectorAll("polyline").forEach((line, k) =>
          line.setAttribute("points", runs[i].slice(0, now + 1).map((rates, step) => `${x(step)},${y(rates[k])}`).join(" ")),
        );
        drawing.querySelectorAll("circle").forEach((dot, k) => {
          dot.setAttribute("cx", x(now));
          dot.setAttribute("cy", y(runs[i][now][k]));
        });
      });
      box.querySelectorAll("tbody tr").forEach((row, k) =>
        row.querySelectorAll("td").forEach((cell, i) => {
          cell.textContent = runs[i][now][k].toFixed(3);
          cell.dataset.rate = runs[i][now][k];
        }),
      );
      const means = arms.map(({ name }, i) => `${name} thinks on ${Math.round(100 * usual[i])}\u00a0% of the questions`);
      box.querySelector("[role=status]").textContent = `After ${now} steps, ${means.join(", ")}.`;
    }

    function stop() {
      turn++;
      play.textContent = "Play";
    }

    function again() {
      const setting = { ...fixed, gamma: Number(fields.gamma.value), apart: Number(fields.apart.value) };
      runs = arms.map(({ weights }) => race(kinds, weights, setting));
      show();
    }

    function go(step) {
      fields.step.value = step;
      show();
    }

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (play.textContent === "Pause") return stop();
      if (matchMedia("(prefers-reduced-motion)").matches) return go(steps);
      const mine = ++turn;
      play.textContent = "Pause";
      if (Number(fields.step.value) === steps) go(0);
      while (mine === turn && Number(fields.step.value) < steps) {
        go(Number(fields.step.value) + 1);
        await new Promise((done) => setTimeout(done, PAUSE));
      }
      if (mine === turn) stop();
    });
    fields.one.addEventListener("click", () => {
      stop();
      go(Math.min(steps, Number(fields.step.value) + 1));
    });
    fields.again.addEventListener("click", () => {
      stop();
      go(0);
    });
    form.addEventListener("input", ({ target }) => {
      if (target === fields.step) stop();
      if (target === fields.step) show();
      else again();
    });
    again();
    go(steps);
  }

  Touch.ready(".race", start);
})();
