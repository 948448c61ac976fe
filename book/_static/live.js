// The page "Talk to the model": loads a model, shows P(think), then three answers token by token.
//
// Scripts beside the page are the one thing that a page may load from a disk, so models are scripts, too.
(() => {
  "use strict";
  const folder = new URL("live/", document.currentScript.src);
  const MODES = { free: null, short: "short", think: "think" };
  const PAUSE = 25; // milliseconds between two tokens, for the eye

  const load = (name) =>
    new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { onload: done, onerror: failed });
      script.src = new URL(`${name}.js`, folder);
      document.head.append(script);
    });
  const pause = () => new Promise((done) => setTimeout(done, matchMedia("(prefers-reduced-motion)").matches ? 0 : PAUSE));
  const element = (name, content, attributes = {}) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...[content].flat());
    return made;
  };

  document.addEventListener("DOMContentLoaded", async () => {
    const box = document.querySelector(".live-model");
    const find = (selector) => box.querySelector(selector);
    const note = find(".live-note"), form = find("form"), results = find(".live-results");
    await load("index").catch(() => {});
    const { checkpoints = [], world } = LiveModel.index || {};
    if (!checkpoints.length) {
      note.textContent = "The models are not in this book: it was built without their training.";
      return;
    }

    const models = {};
    let turn = 0, asked = null;

    async function chosen() {
      const stage = form.elements.checkpoint.value;
      if (!models[stage]) {
        await load(stage);
        const checkpoint = checkpoints.find((one) => one.stage === stage);
        const base64 = LiveModel.weights[stage];
        models[stage] = { ...LiveModel.read(checkpoint, base64), size: base64.length, preferences: [] };
        delete LiveModel.weights[stage];
      }
      return models[stage];
    }

    // The digit that a chain ends in; null for what is no chain.
    function solve(chain) {
      const signs = Object.keys(world.results).map((sign) => `\\${sign}`).join("");
      if (!new RegExp(`^[0-9]([${signs}][0-9])+$`).test(chain)) return null;
      const steps = chain.match(/\D\d/g);
      return steps.reduce((value, [sign, digit]) => world.results[sign][value][digit], chain[0]);
    }

    // A chain without what the world writes around it, or a space.
    const bare = (text) => world.around.reduce((rest, mark) => rest.replace(mark, ""), text.replace(/\s/g, ""));

    function written() {
      const chain = bare(form.question.value), right = solve(chain);
      const signs = Object.keys(world.results).join(" "), operators = chain.length >> 1;
      let hint = "";
      if (right === null) hint = `Write a chain such as ${example}: digits, and one of ${signs} between two of them.`;
      else if (operators > world.levels) hint = `The models were trained on at most ${world.levels} operators, not ${operators}.`;
      find(".live-hint").textContent = hint;
      form.question.setAttribute("aria-invalid", right === null);
      return right === null ? null : { right, prompt: world.around.join(chain) };
    }

    // A question of the highest level, to begin with.
    const example = bare(world.questions.find(({ level }) => level === world.levels).prompt);

    const tolerance = () => Number(form.tolerance.value);
    const rounded = (share) => (share < 0.0005 ? "< 0.001" : share >= 0.9995 ? "> 0.999" : share.toFixed(3));
    const signed = (nats) => (nats > 0 ? "+" : nats < 0 ? "−" : "") + Math.abs(nats).toFixed(1);

    function showChoice() {
      find(".live-tolerance output").textContent = `${signed(tolerance())} nats`;
      const { model, preference } = asked;
      const known = model.controls, share = LiveModel.share(preference + tolerance());
      find(".live-choice").classList.toggle("unknown", !known);
      find(".live-bar i").style.width = known ? `${100 * share}%` : 0;
      find(".live-choice output").textContent = known ? rounded(share) : "none: this model has no control tokens";
      showLevels(model);
    }

    // What an answer is worth, once it has ended: the digit behind the last mark, if nothing else stands there.
    function verdict(model, ids, right) {
      if (ids.at(-1) !== model.end) return `cut off after ${ids.length} tokens`;
      const text = ids.slice(0, -1).map((id) => model.tokens[id]).join("");
      const { think, short } = model.controls || {};
      if (short && ![think, short].some((control) => text.startsWith(control))) return "wrong: no control token";
      if (text.startsWith(short) && [think, world.endOfThinking].some((mark) => text.includes(mark)))
        return "wrong: thinks in a short answer";
      const said = text.split(world.endOfThinking).at(-1).split("=").at(-1).replace(short ?? "", "");
      return said === String(right) ? `${said} is right` : `${said || "nothing"} is wrong, ${right} is right`;
    }

    function panel(mode) {
      const cost = element("p", [], { className: "cost" }), tokens = element("p", [], { className: "tokens" });
      tokens.setAttribute("role", "img");
      const shown = element("div", [cost, tokens], { className: `answer ${mode}` });
      find(".two-answers").append(shown);
      return { shown, cost, tokens };
    }

    function write({ shown, cost, tokens }, mode, model, ids, ended, right) {
      const texts = ids.map((id) => (id === model.end ? "end" : model.tokens[id]));
      const chose = Object.keys(model.controls || {}).find((name) => model.controls[name] === texts[0]);
      if (chose) shown.className = `answer ${chose}`;
      const who = mode !== "free" ? `${mode}` : chose ? `free: chose ${chose}` : "free: no mode";
      const count = `${ids.length} token${ids.length === 1 ? "" : "s"}`;
      cost.textContent = [who, count, ...(ended ? [verdict(model, ids, right)] : [])].join(" · ");
      tokens.append(...texts.slice(tokens.children.length).map((text) => element("b", text)));
      tokens.setAttribute("aria-label", `${mode} answer: ${texts.join(" ")}`);
    }

    async function run() {
      const question = written(), mine = ++turn;
      if (!question) return;
      const model = await chosen();
      if (mine !== turn) return;
      results.hidden = false;
      find(".two-answers").replaceChildren();
      find(".live-facts").textContent = find(".live-said").textContent = "";
      let spent = 0, count = 0;
      const timed = (work) => {
        const begun = performance.now(), result = work();
        spent += performance.now() - begun;
        return result;
      };
      asked = timed(() => LiveModel.ask(model, question.prompt));
      showChoice();
      survey(model);
      const draw = form.drawn.checked ? { temperature: world.temperature, topP: world.topP } : {};
      const answers = Object.entries(MODES)
        .filter(([, mode]) => mode || model.controls)
        .map(([name, mode]) => {
          const settings = { longest: world.longest, mode: model.controls ? mode : null, ...draw };
          if (!mode) settings.tolerance = tolerance();
          const start = model.controls ? asked : LiveModel.ask(model, question.prompt + world.cues[mode]);
          return { name, ids: [], coming: LiveModel.answer(start, settings), panel: panel(name) };
        });
      for (let open = answers; open.length; await pause()) {
        if (mine !== turn) return;
        for (const answer of open) {
          const { value, done } = timed(() => answer.coming.next());
          if (!done) count += answer.ids.push(value) && 1;
          answer.ended = done;
          write(answer.panel, answer.name, model, answer.ids, done, question.right);
        }
        open = open.filter((answer) => !answer.ended);
      }
      const parameters = model.parameters.reduce((sum, [, size]) => sum + size, 0);
      find(".live-facts").textContent =
        `${parameters.toLocaleString("en")} parameters in ${(model.size / 1e6).toFixed(2)} MB, ` +
        `${Math.round((1000 * count) / spent).toLocaleString("en")} tokens per second in this browser.`;
      find(".live-said").textContent = answers.map((answer) => answer.panel.cost.textContent).join("; ");
    }

    // Mean P(think) on each level's held-out questions, as far as they have been read.
    function showLevels(model) {
      const table = find(".live-levels");
      table.hidden = !model.controls;
      if (!model.controls) return;
      const levels = [...new Set(world.questions.map(({ level }) => level))].sort();
      const rows = levels.map((level) => {
        const known = model.preferences.filter((_, at) => world.questions[at].level === level);
        const share = known.reduce((sum, one) => sum + LiveModel.share(one + tolerance()), 0) / known.length || 0;
        const bar = element("span", element("i", [], { style: `width: ${100 * share}%` }), { className: "live-bar" });
        const cells = [element("td", bar), element("td", known.length ? rounded(share) : "")];
        return element("tr", [element("th", `level ${level}`, { scope: "row" }), ...cells]);
      });
      table.tBodies[0].replaceChildren(...rows);
      table.caption.textContent = `Mean P(think) of this model on ${model.preferences.length} held-out questions`;
    }

    // A few questions at a time, so that the page stays alive.
    async function survey(model) {
      if (!model.controls || model.preferences.length) return;
      for (const { prompt } of world.questions) {
        model.preferences.push(LiveModel.ask(model, prompt).preference);
        if (model.preferences.length % 10 === 0) {
          if (asked.model === model) showLevels(model);
          await new Promise((done) => setTimeout(done));
        }
      }
    }

    find(".live-checkpoints div").append(
      ...checkpoints.map(({ stage, name }, at) => {
        const radio = element("input", [], { type: "radio", name: "checkpoint", value: stage, id: `live-${stage}` });
        radio.checked = at === checkpoints.length - 1;
        return element("span", [radio, element("label", name, { htmlFor: radio.id })]);
      }),
    );
    form.question.value = example;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run();
    });
    form.addEventListener("change", ({ target }) => target !== form.question && run());
    form.tolerance.addEventListener("input", () => asked && showChoice());
    form.elements.another.addEventListener("click", () => {
      form.question.value = bare(world.questions[Math.floor(Math.random() * world.questions.length)].prompt);
      run();
    });
    note.hidden = true;
    form.hidden = false;
    run();
  });
})();
