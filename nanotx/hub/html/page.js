"use strict";
// The page: what is typed is read as it is typed, the model writes on, and a pointer shows where each head looks.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const tensors = Nanotx.readTensors(data.table, data.weights);
delete data.weights;
const tokenizer = new Nanotx.Tokenizer(data.tokenizer);
const text = new Nanotx.Text(new Nanotx.Model(data.model, tensors));
const SLICE = 12;  // milliseconds of computing between two looks at the keyboard
const LISTED = 10;

const state = {
  promptLength: 0, random: null, writing: true, busy: false, checked: false,
  pointed: -1,  // the token under the pointer; -1 for none, so that the last one is shown
  lit: -1, kept: -1,  // the head under the pointer, and the one that was clicked
  typed: 0, firstAfter: null, began: 0, written: 0,
};

// Settings.

function settings() {
  return { temperature: Number(by("temperature").value), topK: Number(by("top-k").value), undefinedIds: data.undefined };
}

function showSettings() {
  const { temperature, topK } = settings();
  by("temperature-value").textContent = temperature === 0 ? "greedy" : temperature.toFixed(2);
  by("top-k-value").textContent = topK === 0 ? "all" : String(topK);
  by("count-value").textContent = by("count").value;
  by("seed-value").textContent = by("seed").value;
}

// Computing, in slices.

const channel = new MessageChannel();
channel.port1.onmessage = work;

function wake() {
  if (state.busy) return;
  state.busy = true;
  channel.port2.postMessage(0);
}

function work() {
  const end = performance.now() + SLICE;
  let left = true;
  while (left && performance.now() < end) left = step();
  schedule();
  if (left) channel.port2.postMessage(0);
  else {
    state.busy = false;
    if (!state.checked) setTimeout(check, 0);
  }
}

// Read or write one token; return whether there is more to do.
function step() {
  if (text.unread > 0) {
    text.readOne();
    return true;
  }
  if (!state.writing || text.ids.length - state.promptLength >= Number(by("count").value)) return false;
  text.append(Nanotx.draw(Nanotx.chances(text.logits, settings()), state.random));
  state.written++;
  if (state.firstAfter === null) state.firstAfter = performance.now() - state.typed;
  if (state.written === 1) state.began = performance.now();
  return true;
}

function check() {
  state.checked = true;
  const worst = Nanotx.selfCheck(new Nanotx.Model(data.model, tensors), data.probe);
  by("check").textContent = "The logits of this page differ from PyTorch's, with the same weights, by at most "
    + worst.toExponential(1) + ", computed here just now.";
}

// Put the prompt in place of the text, and write on from there.
function restart() {
  state.typed = performance.now();
  state.firstAfter = null;
  state.written = 0;
  state.pointed = -1;
  let ids;
  try {
    ids = tokenizer.encode(by("prompt").value);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    by("status").textContent = error.message + ".";
    by("status").className = "error";
    return;
  }
  by("status").className = "";
  if (!ids.length) ids = [data.start];
  text.replace(ids);
  state.promptLength = ids.length;
  state.random = Nanotx.randomNumbers(Number(by("seed").value));
  showSettings();
  wake();
  schedule();
}

// Texts of tokens.

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function shown(id) {
  const bytes = tokenizer.bytes[id] || new Uint8Array(0);
  try {
    return decoder.decode(bytes);
  } catch {
    return "‹" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ") + "›";
  }
}

function visible(id) {
  return shown(id).replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");
}

function percent(share) {
  return share >= 0.1 || share === 0 ? (100 * share).toFixed(0) + "%" : share >= 0.001 ? (100 * share).toFixed(1) + "%" : "<0.1%";
}

// Drawing, once for each frame.

let scheduled = false;

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    showStatus();
    if (text.unread > 1 && state.written === 0) return;  // a pasted text: compute first, draw then
    showText();
    showNext();
    showHeads();
  });
}

function placeShown() {
  const last = text.ids.length - text.unread - 1;
  return state.pointed >= 0 && state.pointed <= last ? state.pointed : last;
}

function headShown() {
  return state.lit >= 0 ? state.lit : state.kept;
}

// The attention weights on each token of the text, of one head or the mean of all.
function looksAt(place, head) {
  const entry = text.seen[place], weights = new Map();
  if (!entry) return weights;
  const length = place - entry.start + 1, heads = entry.maps.length / length;
  for (let key = 0; key < length; key++) {
    let sum = 0;
    for (let row = head < 0 ? 0 : head; row < (head < 0 ? heads : head + 1); row++) sum += entry.maps[row * length + key];
    weights.set(entry.start + key, head < 0 ? sum / heads : sum);
  }
  return weights;
}

function surprise(place) {
  const before = place > 0 && text.seen[place - 1];
  return before ? -Math.log(Math.max(own(place - 1)[text.ids[place]], 1e-30)) : 0;
}

// The model's own probabilities after a token, computed once.
function own(place) {
  const entry = text.seen[place];
  if (!entry.own) entry.own = Nanotx.chances(entry.logits, { temperature: 1 });
  return entry.own;
}

// The node of a token; one that ends inside of a character is a dot, and the token that completes it has the character.
function tokenNode(piece) {
  const node = document.createElement("span");
  const faint = (sign) => {
    const mark = document.createElement("i");
    mark.textContent = sign;
    return mark;
  };
  if (piece === "") node.append(faint("·"));
  piece.split("\n").forEach((line, number) => {
    if (number) node.append(faint("↵"), "\n");
    node.append(line);
  });
  return node;
}

const drawn = [];  // the ids whose nodes are there

function showText() {
  const box = by("text"), place = placeShown();
  let same = 0;
  while (same < drawn.length && drawn[same] === text.ids[same]) same++;
  while (drawn.length > same) {
    drawn.pop();
    box.lastChild.remove();
  }
  if (same < text.ids.length) {
    const reader = new TextDecoder("utf-8", { ignoreBOM: true });
    text.ids.forEach((id, place) => {
      const piece = reader.decode(tokenizer.bytes[id] || new Uint8Array(0), { stream: true });
      if (place < same) return;
      drawn.push(id);
      box.append(tokenNode(piece));
    });
  }
  const looking = state.pointed >= 0 || headShown() >= 0;
  const weights = looking ? looksAt(place, headShown()) : null;
  const most = weights ? Math.max(...weights.values(), 1e-9) : 1;
  box.classList.toggle("looking", looking);
  [...box.children].forEach((node, key) => {
    const strength = weights ? Math.sqrt((weights.get(key) || 0) / most) : Math.min(surprise(key) / 7, 1);
    node.style.setProperty("--strength", (100 * strength).toFixed(0) + "%");
    node.classList.toggle("prompt", key < state.promptLength);
    node.classList.toggle("here", looking && key === place);
  });
  by("scale-start").textContent = looking ? "not at all" : "expected";
  by("scale-end").textContent = looking ? "most looked at" : "a surprise";
}

function title(node, before, id, after) {
  const code = document.createElement("code");
  code.textContent = visible(id);
  node.replaceChildren(before, code, after);
}

function showNext() {
  const place = placeShown(), list = by("next");
  if (place < 0 || !text.seen[place]) {
    list.replaceChildren();
    by("next-title").textContent = "Next token: this one is out of the window";
    return;
  }
  title(by("next-title"), "Next after ", text.ids[place], "");
  const probabilities = own(place), chances = Nanotx.chances(text.seen[place].logits, settings());
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  const shownIds = order.slice(0, LISTED), actual = text.ids[place + 1];
  if (actual !== undefined && !shownIds.includes(actual)) shownIds.push(actual);
  list.replaceChildren(...shownIds.map((id) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const token = document.createElement("span"), bar = document.createElement("span"), number = document.createElement("span");
    token.className = "token";
    token.textContent = visible(id);
    bar.className = "bar";
    bar.append(document.createElement("b"), document.createElement("u"));
    bar.style.setProperty("--drawn", (100 * chances[id]).toFixed(1) + "%");
    bar.style.setProperty("--own", (100 * probabilities[id]).toFixed(1) + "%");
    number.className = "percent";
    number.textContent = percent(chances[id]);
    button.type = "button";
    button.title = "id " + id + ": drawn with " + percent(chances[id]) + "; the model's own probability is "
      + percent(probabilities[id]) + ", rank " + (order.indexOf(id) + 1);
    button.setAttribute("aria-pressed", String(id === actual));
    button.append(token, bar, number);
    button.addEventListener("click", () => choose(place, id));
    item.append(button);
    return item;
  }));
}

// The text up to a token, and another one after it, become the prompt.
function choose(place, id) {
  by("prompt").value = tokenizer.decode([...text.ids.slice(0, place + 1), id]);
  restart();
}

const heads = data.model.layers.flatMap((layer, number) =>
  Array.from({ length: layer.attention.heads }, (_, head) => ({ layer: number, name: number + "." + head })));

function makeHeads() {
  const most = Math.max(...data.model.layers.map((layer) => layer.attention.heads));
  const room = by("heads");
  const columns = () => {
    const fit = Math.max(2, Math.floor(room.clientWidth / 150));
    room.style.gridTemplateColumns = "repeat(" + Math.min(most, fit) + ", minmax(0, 1fr))";
    schedule();
  };
  heads.forEach((head, row) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "head";
    button.append(document.createElement("canvas"), document.createElement("span"));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => { state.lit = row; schedule(); });
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => { state.lit = -1; schedule(); });
    button.addEventListener("click", () => { state.kept = state.kept === row ? -1 : row; schedule(); });
    room.append(button);
  });
  new ResizeObserver(columns).observe(room);
}

function showHeads() {
  const place = placeShown(), entry = text.seen[place];
  if (!entry) return;
  title(by("heads-title"), "Where each head looks from ", text.ids[place], "");
  const length = place - entry.start + 1;
  [...by("heads").children].forEach((button, row) => {
    const weights = entry.maps.subarray(row * length, (row + 1) * length);
    let best = 0;
    weights.forEach((weight, key) => { if (weight > weights[best]) best = key; });
    paint(button.firstChild, weights);
    const target = visible(text.ids[entry.start + best]);
    button.lastChild.textContent = heads[row].name + " → " + target + " " + weights[best].toFixed(2);
    button.title = "layer " + heads[row].layer + ", head " + heads[row].name.split(".")[1] + ": most at token "
      + (entry.start + best) + ", weight " + weights[best].toFixed(3);
    button.setAttribute("aria-pressed", String(state.kept === row));
    button.classList.toggle("lit", headShown() === row);
  });
}

function paint(canvas, weights) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const brush = canvas.getContext("2d"), cell = width / weights.length;
  brush.clearRect(0, 0, width, height);
  brush.fillStyle = getComputedStyle(canvas).color;
  weights.forEach((weight, key) => {
    brush.globalAlpha = Math.sqrt(weight);
    brush.fillRect(Math.floor(key * cell), 0, Math.max(1, Math.ceil(cell)), height);
  });
}

function showStatus() {
  const node = by("status");
  if (node.className === "error") return;
  const end = state.promptLength + Number(by("count").value);
  by("write").textContent = state.writing && text.ids.length < end ? "Stop" : "Write on";
  if (text.unread > 0 && state.written === 0) node.textContent = "reading " + text.unread + " tokens ...";
  else if (state.firstAfter !== null) {
    const speed = state.busy && state.written > 1 ? (state.written - 1) / (performance.now() - state.began) * 1000 : 0;
    if (state.busy || !node.textContent.startsWith("first")) {
      node.textContent = "first token after " + Math.max(1, Math.round(state.firstAfter)) + " ms"
        + (speed ? " · " + Math.round(speed) + " tokens per second" : "");
    }
  } else node.textContent = "";
}

// Events.

by("prompt").value = data.prompt;
for (const id of ["prompt", "temperature", "top-k", "count", "seed"]) {
  by(id).addEventListener("input", () => { state.writing = true; restart(); });
}
by("write").addEventListener("click", () => {
  const full = text.ids.length >= state.promptLength + Number(by("count").value);
  state.writing = full || !state.writing;
  if (full) by("count").value = Math.min(1000, Number(by("count").value) + 200);
  showSettings();
  wake();
  schedule();
});
by("text").addEventListener("pointerover", (event) => {
  const node = event.target.closest("#text > span");
  if (!node) return;
  state.pointed = [...by("text").children].indexOf(node);
  schedule();
});
by("text").addEventListener("pointerleave", () => { state.pointed = -1; schedule(); });
by("text").addEventListener("blur", () => { state.pointed = -1; schedule(); });
by("text").addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (event.key === "Escape") state.pointed = -1;
  else if (move === undefined) return;
  else state.pointed = Math.min(Math.max(placeShown() + move, 0), text.ids.length - 1);
  event.preventDefault();
  schedule();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schedule);
makeHeads();
restart();
