// The coin of "Policy gradients from one coin": toss a group, see what each answer pushes, take the step.
//
// The page brings a still picture and a table of one group. Where there is a script, both become this.
(() => {
  "use strict";
  const RATE = 4; // what one step makes of the mean push
  const WIDTH = 440, MIDDLE = 220, LOGIT = 48, PUSH = 100, ROW = 16, TOP = 56; // pixels
  const PAUSE = 150; // milliseconds between two steps of ten

  const { sigmoid, signed } = Touch;
  const mean = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

  function toss(z, { size, worked, short, price, baseline }) {
    const answers = Array.from({ length: size }, () => {
      const think = Math.random() < sigmoid(z), right = Math.random() < (think ? worked : short);
      return { think, reward: right ? (think ? 1 - price : 1) : -1 };
    });
    const usual = baseline === "group" ? mean(answers.map(({ reward }) => reward)) : 0;
    return answers.map(({ think, reward }) => {
      const advantage = reward - usual, score = think ? 1 - sigmoid(z) : -sigmoid(z);
      return { think, reward, advantage, push: advantage * score };
    });
  }

  function arrow(name, from, to, y) {
    if (Math.abs(to - from) < 1) return `<circle class="${name}" cx="${from}" cy="${y}" r="3"/>`;
    const size = Math.min(7, Math.abs(to - from)), back = to - Math.sign(to - from) * size;
    const head = `${to},${y} ${back},${y - 5} ${back},${y + 5}`;
    return `<line class="${name}" x1="${from}" y1="${y}" x2="${back}" y2="${y}"/><polygon class="${name}" points="${head}"/>`;
  }

  const CONTROLS = `
    <form>
    <p class="buttons"><button type="submit">Toss a group</button> <button type="button" name="step">Take the step</button>
    <button type="button" name="ten">Ten tosses and steps</button> <button type="button" name="again">Start again</button></p>
    <p><label>Group <select name="size"><option>2<option>4<option selected>8<option>16</select></label>
    <label>Baseline <select name="baseline"><option value="group">mean of the group<option value="none">none</select></label></p>
    <p><label>worked answers right <input type="range" name="worked" min="0" max="1" step="0.05" value="0.95"> <output></output></label>
    <label>short answers right <input type="range" name="short" min="0" max="1" step="0.05" value="0.55"> <output></output></label>
    <label>price of thinking γ <input type="range" name="price" min="0" max="0.95" step="0.05" value="0.5"> <output></output></label></p>
    </form><p class="coin-line"><span>short</span> <output></output> <span>think</span></p>`;

  function start(box) {
    box.insertAdjacentHTML("afterbegin", CONTROLS);
    const find = (selector) => box.querySelector(selector);
    const form = find("form"), drawing = find("svg"), said = find("[role=status]"), body = find("tbody");
    let path = [0], group = [], turn = 0;

    const z = () => path.at(-1);
    const push = () => mean(group.map((answer) => answer.push));
    const number = (name) => Number(form.elements[name].value);
    const settings = () => ({
      size: number("size"),
      worked: number("worked"),
      short: number("short"),
      price: number("price"),
      baseline: form.baseline.value,
    });

    function show() {
      const { worked, short, price } = settings(), p = sigmoid(z());
      Touch.label(form, (slider) => Number(slider.value).toFixed(2));
      find(".coin-line output").textContent = `P(think) = ${p.toFixed(3)}, z = ${signed(z(), 2)}`;
      const gain = worked * (2 - price) - 2 * short, slope = p * (1 - p) * gain;
      const truth = `On average thinking earns ${signed(gain, 2)}, a slope of ${signed(slope)}.`;
      const thinking = group.filter(({ think }) => think).length;
      const silent = group.every((answer) => Math.abs(answer.push) < 1e-9) ? " A silent group." : "";
      said.textContent = group.length
        ? `${thinking} of ${group.length} answers think. Mean push on z: ${signed(push())}.${silent} ${truth}`
        : truth;
      form.step.disabled = !group.length;

      const place = (logit) => MIDDLE + LOGIT * Math.max(-4.4, Math.min(4.4, logit));
      const reach = (x) => MIDDLE + PUSH * Math.max(-2.1, Math.min(2.1, x));
      const height = TOP + ROW * Math.max(group.length, 2) + 6;
      const marks = [-4, -2, 0, 2, 4].map((at) => `<line class="axis" x1="${place(at)}" y1="20" x2="${place(at)}" y2="28"/>`);
      const before = path.slice(0, -1).map((at) => `<circle class="before" cx="${place(at)}" cy="24" r="4"/>`);
      const arrows = group.map((answer, i) =>
        arrow(answer.think ? "think" : "short", MIDDLE, reach(answer.push), TOP + ROW * (i + 0.5)),
      );
      const step = group.length ? arrow("step", place(z()), place(z() + RATE * push()), 24) : "";
      drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
      drawing.setAttribute("aria-label", said.textContent);
      drawing.innerHTML =
        `<line class="axis" x1="6" y1="24" x2="${WIDTH - 6}" y2="24"/>${marks.join("")}${before.join("")}` +
        `<line class="axis" x1="${MIDDLE}" y1="${TOP - 6}" x2="${MIDDLE}" y2="${height}"/>${arrows.join("")}${step}` +
        `<circle class="now" cx="${place(z())}" cy="24" r="8"/>`;
      const row = ({ think, reward, advantage, push }, i) =>
        [i + 1, think ? "think" : "short", signed(reward, 1), signed(advantage, 2), signed(push)]
          .map((cell) => `<td>${cell}</td>`)
          .join("");
      body.innerHTML = group.map((answer, i) => `<tr>${row(answer, i)}</tr>`).join("");
    }

    function sample() {
      group = toss(z(), settings());
      show();
    }

    function step() {
      path.push(z() + RATE * push());
      group = [];
      show();
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      turn++;
      sample();
    });
    form.step.addEventListener("click", () => {
      turn++;
      if (group.length) step();
    });
    form.ten.addEventListener("click", async () => {
      const mine = ++turn, still = matchMedia("(prefers-reduced-motion)").matches;
      for (let i = 0; i < 10; i++) {
        if (i || !group.length) sample();
        if (!still) await new Promise((done) => setTimeout(done, PAUSE));
        if (mine !== turn) return;
        step();
      }
    });
    form.again.addEventListener("click", () => {
      turn++;
      path = [0];
      group = [];
      show();
    });
    form.addEventListener("input", () => {
      turn++;
      group = [];
      show();
    });
    sample();
  }

  Touch.ready(".coin", start);
})();
