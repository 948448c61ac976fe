// A small Qwen3 that runs in a page: a forward pass of one token, a cache of keys and values, and a choice of the next.
//
// It computes what `generate` of Transformers computes, in a few lines and without a library, since the models are
// small. Everything about a model is read from what thinkless/book/live.py wrote.
window.LiveModel = (() => {
  "use strict";

  // A float16 as a number: sign, 5 bits of exponent, 10 of fraction.
  function half(bits) {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  // A checkpoint of the index and its base64 become a model: its parameters by name.
  function read(checkpoint, base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), weights = {};
    let at = 0;
    for (const [name, size] of checkpoint.parameters) {
      weights[name] = Float32Array.from({ length: size }, (_, i) => half(view.getUint16(2 * (at + i), true)));
      at += size;
    }
    return { ...checkpoint, weights, width: weights["model.norm.weight"].length };
  }

  function times(matrix, x, bias) {
    const y = new Float64Array(matrix.length / x.length);
    for (let row = 0, at = 0; row < y.length; row++) {
      let sum = bias ? bias[row] : 0;
      for (let column = 0; column < x.length; column++) sum += matrix[at++] * x[column];
      y[row] = sum;
    }
    return y;
  }

  const plus = (a, b) => a.map((value, i) => value + b[i]);

  // RMSNorm: one length for every vector, then a gain for each of its numbers.
  function normed(x, gain, epsilon) {
    const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + epsilon);
    return x.map((value, i) => value * scale * gain[i]);
  }

  // Rotary positions: number i and number i + half of a head turn together, by an angle that grows with the place.
  function turned(x, place, theta) {
    const middle = x.length / 2, y = x.slice();
    for (let i = 0; i < middle; i++) {
      const angle = place * theta ** (-i / middle), sin = Math.sin(angle), cos = Math.cos(angle);
      y[i] = x[i] * cos - x[i + middle] * sin;
      y[i + middle] = x[i + middle] * cos + x[i] * sin;
    }
    return y;
  }

  function softmax(scores) {
    const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const shares = scores.map((score) => Math.exp(score - most));
    const total = shares.reduce((a, b) => a + b, 0);
    return shares.map((share) => share / total);
  }

  // The logits behind one more token. `cache` holds the keys and values of those before it, and takes this one's.
  function forward(model, token, cache) {
    const place = cache.places++;
    let x = Float64Array.from(rowOf(model.weights["model.embed_tokens.weight"], token, model.width));
    for (let layer = 0; layer < model.layers; layer++) {
      const weight = (name) => model.weights[`model.layers.${layer}.${name}`];
      const norm = (vector, name) => normed(vector, weight(`${name}.weight`), model.epsilon);
      const linear = (vector, name) => times(weight(`${name}.weight`), vector, weight(`${name}.bias`));
      const heads = (vector, count, name) => {
        const size = vector.length / count;
        const parts = Array.from({ length: count }, (_, head) => rowOf(vector, head, size));
        return name ? parts.map((part) => turned(norm(part, name), place, model.theta)) : parts;
      };

      const seen = norm(x, "input_layernorm");
      const queries = heads(linear(seen, "self_attn.q_proj"), model.heads, "self_attn.q_norm");
      const { keys, values } = (cache.layers[layer] ??= { keys: [], values: [] });
      keys.push(heads(linear(seen, "self_attn.k_proj"), model.keyHeads, "self_attn.k_norm"));
      values.push(heads(linear(seen, "self_attn.v_proj"), model.keyHeads));
      const mixed = queries.flatMap((query, head) => {
        const shared = Math.floor((head * model.keyHeads) / model.heads);
        const score = (key) => key[shared].reduce((sum, value, i) => sum + value * query[i], 0);
        const shares = softmax(keys.map((key) => score(key) / Math.sqrt(query.length)));
        const sum = new Float64Array(query.length);
        values.forEach((value, at) => value[shared].forEach((number, i) => (sum[i] += shares[at] * number)));
        return [...sum];
      });
      x = plus(x, linear(mixed, "self_attn.o_proj"));

      const summed = norm(x, "post_attention_layernorm");
      const gate = linear(summed, "mlp.gate_proj"), up = linear(summed, "mlp.up_proj");
      x = plus(x, linear(gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]), "mlp.down_proj"));
    }
    const output = model.weights["lm_head.weight"] || model.weights["model.embed_tokens.weight"];
    return times(output, normed(x, model.weights["model.norm.weight"], model.epsilon));
  }

  const rowOf = (matrix, row, width) => matrix.subarray(row * width, (row + 1) * width);

  // The ids of a text, one for each character or tag; undefined where the model has no token.
  const encode = (model, text) => text.match(/<\/?\w+>|./gs).map((piece) => ids(model).get(piece));
  const ids = (model) => (model.ids ??= new Map(model.tokens.map((token, id) => [token, id])));

  // A prompt that was read: where every answer to it begins, and P(think) there, before any tolerance.
  function ask(model, prompt) {
    const cache = { places: 0, layers: [] };
    const logits = encode(model, prompt).reduce((_, id) => forward(model, id, cache), null);
    const [think, short] = ["think", "short"].map((mode) => logits[ids(model).get(model.controls?.[mode])]);
    return { model, cache, logits, preference: think - short };
  }

  const share = (preference) => 1 / (1 + Math.exp(-preference));

  // The next token: the likeliest at temperature 0, else drawn from the likeliest whose shares add up to topP.
  function choose(logits, { temperature = 0, topP = 1, random = Math.random } = {}) {
    if (temperature === 0) return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    const shares = softmax(logits.map((logit) => logit / temperature));
    const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
    let kept = 0, sum = 0;
    while (kept < order.length && sum < topP) sum += shares[order[kept++]];
    let left = random() * sum;
    return order.slice(0, kept).find((id) => (left -= shares[id]) < 0) ?? order[kept - 1];
  }

  // The ids of an answer, as they come. `mode` forces the control token; `tolerance`, in nats, tilts the choice.
  function* answer({ model, cache, logits }, { mode = null, tolerance = 0, longest, ...sampling }) {
    const own = { places: cache.places, layers: cache.layers.map(({ keys, values }) => ({ keys: [...keys], values: [...values] })) };
    let next = logits.slice();
    if (tolerance) next[ids(model).get(model.controls.think)] += tolerance;
    for (let count = 0; count < longest; count++) {
      const id = mode && count === 0 ? ids(model).get(model.controls[mode]) : choose(next, sampling);
      yield id;
      if (id === model.end) return;
      if (count + 1 < longest) next = forward(model, id, own);
    }
  }

  return { read, encode, ask, share, choose, answer };
})();
