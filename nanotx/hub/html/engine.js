"use strict";
// A decoder-only transformer with its tokenizer and its sampler, in plain JavaScript: no page is needed to run it.
// Weights are 32-bit floats and sums are 64-bit ones, so logits differ from PyTorch's by its own rounding alone.
// The parts, their weights and their names are those that `model.py` writes into the page.

const Nanotx = (() => {
  const TINY = 1e-300;

  // Weights: bytes of the page to 32-bit floats.

  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  // Each tensor is "float32": its numbers; or "int8": a byte for each, and a 32-bit scale for each group of a row.
  function readTensors(table, base64) {
    const bytes = bytesOf(base64);
    const tensors = {};
    for (const entry of table) {
      const count = entry.shape.reduce((product, size) => product * size, 1);
      const floats = (at, length) => new Float32Array(bytes.slice(at, at + 4 * length).buffer);
      let data;
      if (entry.kind === "float32") data = floats(entry.at, count);
      else {
        const columns = entry.shape[entry.shape.length - 1];
        const groups = Math.ceil(columns / entry.group);
        const scales = floats(entry.scales_at, (count / columns) * groups);
        const codes = new Int8Array(bytes.buffer, entry.at, count);
        data = new Float32Array(count);
        for (let i = 0; i < count; i++) {
          const row = Math.floor(i / columns);
          data[i] = codes[i] * scales[row * groups + Math.floor((i - row * columns) / entry.group)];
        }
      }
      tensors[entry.name] = { data, shape: entry.shape };
    }
    return tensors;
  }

  // Mathematics.

  function linear(weight, bias, x, y) {
    const w = weight.data, [rows, columns] = weight.shape;
    let row = 0;
    for (; row + 3 < rows; row += 4) {  // four rows at once: a processor need not wait for each addition
      const p = row * columns, q = p + columns, r = q + columns, s = r + columns;
      let a = 0, b = 0, c = 0, d = 0;
      for (let i = 0; i < columns; i++) {
        const number = x[i];
        a += w[p + i] * number;
        b += w[q + i] * number;
        c += w[r + i] * number;
        d += w[s + i] * number;
      }
      y[row] = a;
      y[row + 1] = b;
      y[row + 2] = c;
      y[row + 3] = d;
    }
    for (; row < rows; row++) {
      let sum = 0;
      for (let i = 0; i < columns; i++) sum += w[row * columns + i] * x[i];
      y[row] = sum;
    }
    if (bias) for (row = 0; row < rows; row++) y[row] += bias.data[row];
    return y;
  }

  function norm(config, x, y, start, size) {
    if (config.kind === "none") {
      for (let i = start; i < start + size; i++) y[i] = x[i];
      return;
    }
    let mean = 0, square = 0;
    if (config.kind === "layernorm") {
      for (let i = start; i < start + size; i++) mean += x[i];
      mean /= size;
    }
    for (let i = start; i < start + size; i++) square += (x[i] - mean) ** 2;
    const scale = 1 / Math.sqrt(square / size + config.eps);
    const { weight, bias } = config;
    for (let i = 0; i < size; i++) {
      y[start + i] = (x[start + i] - mean) * scale * weight.data[i] + (bias ? bias.data[i] : 0);
    }
  }

  // Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 7.1.6; all its terms have one sign.
  function erf(x) {
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) + TINY; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }

  const activations = {
    relu: (x) => Math.max(x, 0),
    relu2: (x) => Math.max(x, 0) ** 2,
    gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
    silu: (x) => x / (1 + Math.exp(-x)),
  };

  // The model reads one token at a time; keys and values of the tokens before it are in a cache.

  class Model {
    constructor(config, tensors) {
      this.config = config;
      this.tensors = tensors;
      this.length = 0;
      this.layers = config.layers.map((block, layer) => this.layer(block, layer));
      this.norm = this.normOf(config.norm, "norm");
      this.heads = config.layers.map((block) => block.attention.heads);
      this.x = new Float64Array(config.dim);
      this.y = new Float64Array(config.dim);
      this.z = new Float64Array(config.dim);
      this.logits = new Float64Array(config.vocab_size);
    }

    tensor(name) {
      return this.tensors[name];
    }

    normOf(config, name) {
      return { ...config, weight: this.tensor(`${name}.weight`), bias: this.tensor(`${name}.bias`) };
    }

    layer(block, layer) {
      const { dim, context } = this.config;
      const prefix = `blocks.${Math.floor(layer / this.config.share)}`;
      const { heads, kv_heads, qk_norm } = block.attention;
      const width = dim / heads;
      const named = (name) => ({ weight: this.tensor(`${prefix}.${name}.weight`), bias: this.tensor(`${prefix}.${name}.bias`) });
      return {
        heads, kvHeads: kv_heads, width,
        attentionNorm: this.normOf(block.norm, `${prefix}.attention_norm`),
        ffnNorm: this.normOf(block.norm, `${prefix}.ffn_norm`),
        qNorm: qk_norm && this.normOf(qk_norm, `${prefix}.attention.q_norm`),
        kNorm: qk_norm && this.normOf(qk_norm, `${prefix}.attention.k_norm`),
        toQkv: named("attention.to_qkv"), toOut: named("attention.to_out"),
        toHidden: named("ffn.to_hidden"), ffnOut: named("ffn.to_out"),
        activation: activations[block.ffn.activation], gated: block.ffn.gated,
        qkv: new Float64Array((heads + 2 * kv_heads) * width),
        hidden: new Float64Array(this.tensor(`${prefix}.ffn.to_hidden.weight`).shape[0]),
        keys: new Float32Array(context * kv_heads * width),
        values: new Float32Array(context * kv_heads * width),
      };
    }

    // Read a token, which follows those read so far; return the attention weights of each layer and head on all of them.
    read(id) {
      const { dim, context, position } = this.config;
      if (this.length >= context) throw new RangeError("the context is full");
      const at = this.length, x = this.x;
      const rows = this.tensor("embedding.weight").data;
      const table = position.kind === "table" ? this.tensor("position.table.weight").data : null;
      for (let i = 0; i < dim; i++) x[i] = rows[id * dim + i] + (table ? table[at * dim + i] : 0);
      const maps = new Float32Array(this.heads.reduce((sum, heads) => sum + heads, 0) * (at + 1));
      let row = 0;
      for (const layer of this.layers) {
        norm(layer.attentionNorm, x, this.y, 0, dim);
        row = this.attend(layer, at, maps, row);
        for (let i = 0; i < dim; i++) x[i] += this.z[i];
        norm(layer.ffnNorm, x, this.y, 0, dim);
        this.feedForward(layer);
        for (let i = 0; i < dim; i++) x[i] += this.z[i];
      }
      this.length = at + 1;
      return maps;
    }

    attend(layer, at, maps, row) {
      const { heads, kvHeads, width, qkv, keys, values } = layer;
      linear(layer.toQkv.weight, layer.toQkv.bias, this.y, qkv);
      for (let head = 0; head < heads + kvHeads; head++) {
        const normed = head < heads ? layer.qNorm : layer.kNorm;
        if (normed) norm(normed, qkv, qkv, head * width, width);
        if (this.config.position.kind === "rotary") this.rotate(qkv, head * width, width, at);
      }
      const size = kvHeads * width;
      for (let i = 0; i < size; i++) {
        keys[at * size + i] = qkv[heads * width + i];
        values[at * size + i] = qkv[heads * width + size + i];
      }
      const mixed = this.y.fill(0);
      for (let head = 0; head < heads; head++, row++) {
        const q = head * width, group = Math.floor((head * kvHeads) / heads) * width;
        const weights = maps.subarray(row * (at + 1), (row + 1) * (at + 1));
        this.weigh(qkv, q, keys, group, size, width, at, head, weights);
        for (let s = 0; s <= at; s++) {
          const weight = weights[s], from = s * size + group;
          for (let i = 0; i < width; i++) mixed[q + i] += weight * values[from + i];
        }
      }
      linear(layer.toOut.weight, layer.toOut.bias, mixed, this.z);
      return row;
    }

    // softmax(Q K^T / sqrt(k)) of one query and one head
    weigh(qkv, q, keys, group, size, width, at, head, weights) {
      const slopes = this.config.position.slopes, scores = new Float64Array(at + 1);
      let most = -Infinity, sum = 0;
      for (let s = 0; s <= at; s++) {
        let score = 0;
        for (let i = 0; i < width; i++) score += qkv[q + i] * keys[s * size + group + i];
        score = score / Math.sqrt(width) - (slopes ? slopes[head] * (at - s) : 0);
        scores[s] = score;
        if (score > most) most = score;
      }
      for (let s = 0; s <= at; s++) sum += scores[s] = Math.exp(scores[s] - most);
      for (let s = 0; s <= at; s++) weights[s] = scores[s] / sum;
    }

    // A channel is paired with the one half a head away.
    rotate(x, start, width, at) {
      const { rates, scale } = this.config.position, half = width / 2;
      for (let i = 0; i < half; i++) {
        const angle = Math.fround(at * rates[i]);
        const cos = scale * Math.cos(angle), sin = scale * Math.sin(angle);
        const left = x[start + i], right = x[start + half + i];
        x[start + i] = left * cos - right * sin;
        x[start + half + i] = right * cos + left * sin;
      }
    }

    feedForward(layer) {
      const { hidden, activation, gated } = layer;
      linear(layer.toHidden.weight, layer.toHidden.bias, this.y, hidden);
      const size = gated ? hidden.length / 2 : hidden.length;
      for (let i = 0; i < size; i++) hidden[i] = activation(hidden[i]) * (gated ? hidden[size + i] : 1);
      linear(layer.ffnOut.weight, layer.ffnOut.bias, hidden, this.z);
    }

    // Return the logits of the token after those read so far.
    nextLogits() {
      const { dim, softcap, tied } = this.config;
      norm(this.norm, this.x, this.y, 0, dim);
      linear(this.tensor(tied ? "embedding.weight" : "head.weight"), this.tensor("head.bias"), this.y, this.logits);
      if (softcap) for (let i = 0; i < this.logits.length; i++) this.logits[i] = softcap * Math.tanh(this.logits[i] / softcap);
      return new Float32Array(this.logits);
    }
  }

  // A text that grows: the window that the model reads, as `nanotx sample` keeps it. A full window keeps its newer half.

  class Text {
    constructor(model) {
      this.model = model;
      this.start = 0;  // place in the text of the window's first token
      this.ids = [];  // all tokens
      this.seen = [];  // for each token that was read: its attention weights, where their window starts, and the logits
    }

    get unread() {
      return this.ids.length - this.start - this.model.length;
    }

    // Put a prompt in place of the text; what both begin with is not read again where the window is the same.
    replace(ids) {
      const start = Math.max(0, ids.length - this.model.config.context);
      let same = 0;
      if (start === this.start) while (same < ids.length && this.ids[same] === ids[same]) same++;
      this.model.length = Math.min(this.model.length, Math.max(0, same - start));
      this.seen.length = Math.min(this.seen.length, start + this.model.length);
      for (let place = 0; place < start; place++) this.seen[place] = null;
      this.start = start;
      this.ids = [...ids];
    }

    append(id) {
      const { context } = this.model.config;
      if (this.ids.length - this.start === context) {
        this.start += context - Math.floor(context / 2);
        this.model.length = 0;
      }
      this.ids.push(id);
    }

    // Read the next token; a token that is read again in a newer window keeps what it saw first.
    readOne() {
      const place = this.start + this.model.length;
      const maps = this.model.read(this.ids[place]);
      const entry = { start: this.start, maps, logits: this.model.nextLogits() };
      if (!this.seen[place] || place === this.ids.length - 1) this.seen[place] = entry;
    }

    get logits() {
      return this.seen[this.ids.length - 1].logits;
    }
  }

  // Sampling.

  // Numbers from 0 to 1: a hash of the seed and of how many were drawn before.
  // Source of the hash: MurmurHash3's finalizer, https://github.com/aappleby/smhasher
  function randomNumbers(seed) {
    let drawn = 0;
    const mixed = (value) => {
      value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
      value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
      return (value ^ (value >>> 16)) >>> 0;
    };
    return () => mixed(mixed(seed + 1) + Math.imul(drawn++, 0x9e3779b1)) / 4294967296;
  }

  // The chance of each token to be drawn. A temperature of 0 draws the likeliest, and a top-k of 0 draws from all.
  function chances(logits, { temperature = 1, topK = 0, undefinedIds = [] } = {}) {
    const values = Float64Array.from(logits);
    for (const id of undefinedIds) values[id] = -Infinity;
    let likeliest = 0;
    for (let i = 1; i < values.length; i++) if (values[i] > values[likeliest]) likeliest = i;
    const result = new Float64Array(values.length);
    if (temperature <= 0) {
      result[likeliest] = 1;
      return result;
    }
    const least = topK > 0 && topK < values.length ? Float64Array.from(values).sort()[values.length - topK] : -Infinity;
    let sum = 0;
    for (let i = 0; i < values.length; i++) {
      if (values[i] >= least) sum += result[i] = Math.exp((values[i] - values[likeliest]) / temperature);
    }
    for (let i = 0; i < values.length; i++) result[i] /= sum;
    return result;
  }

  function draw(probabilities, random) {
    let left = random(), last = 0;
    for (let i = 0; i < probabilities.length; i++) {
      if (probabilities[i] === 0) continue;
      last = i;
      left -= probabilities[i];
      if (left < 0) break;
    }
    return last;
  }

  // Tokenizers: text to ids, and each id to its bytes.

  class Tokenizer {
    constructor(config) {
      this.config = config;
      const encoder = new TextEncoder();
      if (config.kind === "char") {
        const characters = [...config.alphabet];
        this.ids = new Map(characters.map((character, id) => [character, id]));
        this.bytes = characters.map((character) => encoder.encode(character));
      } else {
        this.bytes = Array.from({ length: 256 }, (_, value) => Uint8Array.of(value));
        this.pattern = config.pattern && new RegExp(config.pattern, "gu");
        this.ranks = new Map();
        for (const [left, right] of config.merges || []) {
          this.ranks.set(left * 2 ** 26 + right, this.bytes.length);
          this.bytes.push(Uint8Array.of(...this.bytes[left], ...this.bytes[right]));
        }
        if (config.ids && config.ids.length) {
          const tokens = this.bytes;
          this.bytes = [];
          config.ids.forEach((id, token) => { this.bytes[id] = tokens[token]; });
        }
      }
      for (const [name, id] of Object.entries(config.special_tokens || {})) this.bytes[id] = encoder.encode(name);
    }

    // Return the ids of a text, or throw a RangeError that names the first character that has none.
    encode(text) {
      const whole = this.config.nfc ? text.normalize("NFC") : text;
      const lone = /\p{Surrogate}/u.exec(whole);
      if (lone) throw new RangeError("half of a surrogate pair is not a character");
      if (this.config.kind === "char") return this.encodeCharacters(whole);
      const ids = [];
      for (const piece of this.pieces(whole)) ids.push(...this.merge(new TextEncoder().encode(piece)));
      return ids;
    }

    encodeCharacters(text) {
      const { unknown } = this.config;
      return [...text].map((character) => {
        const id = this.ids.get(character) ?? unknown;
        if (id === null || id === undefined) {
          throw new RangeError(`“${character}” is not among the ${this.ids.size} characters that this model knows`);
        }
        return id;
      });
    }

    // Matches of the pattern, and what is between them.
    pieces(text) {
      if (!this.pattern) return [text];
      const pieces = [];
      let at = 0;
      for (const match of text.matchAll(this.pattern)) {
        if (match.index > at) pieces.push(text.slice(at, match.index));
        if (match[0]) pieces.push(match[0]);
        at = match.index + match[0].length;
      }
      if (at < text.length) pieces.push(text.slice(at));
      return pieces;
    }

    // The earliest merge first, the leftmost of them first.
    merge(bytes) {
      const tokens = Array.from(bytes);
      for (;;) {
        let rank = Infinity, at = -1;
        for (let i = 0; i + 1 < tokens.length; i++) {
          const other = this.ranks.get(tokens[i] * 2 ** 26 + tokens[i + 1]);
          if (other !== undefined && other < rank) [rank, at] = [other, i];
        }
        if (at < 0) break;
        tokens.splice(at, 2, rank);
      }
      const { ids } = this.config;
      return ids && ids.length ? tokens.map((token) => ids[token]) : tokens;
    }

    decode(ids) {
      const parts = ids.map((id) => this.bytes[id] || new Uint8Array(0));
      const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        bytes.set(part, at);
        at += part.length;
      }
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    }
  }

  // The largest difference of the logits from those that PyTorch computed with the same weights.
  function selfCheck(model, probe) {
    const text = new Text(model), first = probe.ids.length - probe.rows;
    text.replace(probe.ids);
    while (text.unread) text.readOne();
    const size = text.logits.length;
    return probe.logits.reduce((worst, logit, i) =>
      Math.max(worst, Math.abs(text.seen[first + Math.floor(i / size)].logits[i % size] - logit)), 0);
  }

  return { readTensors, Model, Text, Tokenizer, randomNumbers, chances, draw, selfCheck, erf };
})();

if (typeof module !== "undefined") module.exports = Nanotx;
