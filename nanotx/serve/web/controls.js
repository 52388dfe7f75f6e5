"use strict";
// The prompt and the sliders. A change begins a new text, or the last answer, at once; the one in progress is cancelled.
const page = JSON.parse(by("data").textContent);
const GAP = 80; // least milliseconds between two beginnings, while a slider moves

async function post(path, body, signal) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify(body), signal });
  if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message || "The server answered " + answer.status + ".");
  return answer;
}

async function ask(path, body) {
  return (await post(path, body)).json();
}

// Call a function with each server-sent event of an answer.
async function follow(answer, handle) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) handle(JSON.parse(part.slice(6)));
  }
}

const vocabulary = Math.max(...page.runs.map((run) => run.vocab_size || 256));
const SLIDERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, value: 0.8, help: "0 always takes the likeliest token" },
  { name: "top_k", label: "Top-k", min: 0, max: Math.min(vocabulary, 200), step: 1, value: 0, off: 0, help: "keeps the k likeliest tokens; 0 keeps all" },
  { name: "top_p", label: "Top-p", min: 0.01, max: 1, step: 0.01, value: 1, help: "keeps the likeliest tokens up to this probability; 1 keeps all" },
  { name: "min_p", label: "Min-p", min: 0, max: 1, step: 0.01, value: 0, help: "keeps tokens that are this likely relative to the likeliest; 0 keeps all" },
  { name: "seed", label: "Seed", min: 0, max: 999, step: 1, value: 0, help: "the same seed draws the same text" },
  { name: "max_tokens", label: "Tokens", min: 1, max: 1000, step: 1, value: 200, help: "length of the text" },
];
const values = {};

function slider(spec) {
  const row = make("div", "slider"), range = make("input"), number = make("input"), label = make("label", "", spec.label);
  range.type = "range";
  number.type = "number";
  range.id = "slider-" + spec.name;
  label.htmlFor = range.id;
  row.title = spec.help;
  number.setAttribute("aria-label", spec.label + ", as a number");
  for (const input of [range, number]) {
    for (const bound of ["min", "max", "step"]) input[bound] = spec[bound];
    input.value = spec.value;
    input.addEventListener("input", () => {
      const value = Number(input.value);
      if (input.value === "" || !(value >= spec.min && value <= spec.max)) return;
      (input === range ? number : range).value = input.value;
      values[spec.name] = value;
      begin();
    });
  }
  range.setAttribute("aria-description", spec.help);
  values[spec.name] = spec.value;
  spec.set = (value) => { range.value = number.value = value; values[spec.name] = value; };
  row.append(label, range, number);
  return row;
}

const panels = [];
let controller = null, timer = 0, began = -GAP;

// Begin a new text: now, or as soon as the gap is over.
function begin() {
  clearTimeout(timer);
  timer = setTimeout(generate, Math.max(0, began + GAP - performance.now()));
}

async function generate() {
  controller?.abort();
  const current = controller = new AbortController();
  began = performance.now();
  const body = { removed: panels.map((panel) => [...panel.heads.removed]) };
  if (chatting) {
    if (!panels.every((panel) => panel.talk.messages.length)) return;
    body.messages = questions();
    panels.forEach((panel) => panel.talk.begin());
  } else body.prompt = by("prompt").value;
  for (const spec of SLIDERS) if (values[spec.name] !== spec.off) body[spec.name] = values[spec.name];
  by("stop").disabled = false;
  const counts = { tokens: 0, first: 0 };
  try {
    await follow(await post(chatting ? "api/chat" : "api/generate", body, current.signal), (event) => receive(event, current, counts));
    if (current === controller) finished(counts);
  } catch (error) {
    if (current !== controller || error.name === "AbortError") return;
    by("stop").disabled = true;
    panels.forEach((panel) => panel.fail(error.message));
  }
}

function receive(event, current, counts) {
  if (current !== controller) return;
  const panel = panels[event.run];
  if (event.error) (panel ? [panel] : panels).forEach((other) => other.fail(event.error.message));
  if (event.prompt) panel.begin(event);
  if (event.text) panel.talk.add(event.text);
  if (event.tokens) {
    counts.first ||= performance.now() - began;
    counts.tokens += event.tokens.length;
    panel.add(event.tokens);
  }
}

function finished(counts) {
  by("stop").disabled = true;
  const seconds = (performance.now() - began) / 1000;
  by("status").textContent = counts.tokens ? counts.tokens.toLocaleString("en") + " tokens in " + seconds.toFixed(1) + " s; the first after "
    + counts.first.toFixed(0) + " ms" : "";
}

function start() {
  by("title").textContent = "nanotx serve";
  by("sliders").append(...SLIDERS.map(slider));
  if (matchMedia("(max-width: 52rem)").matches) by("settings").open = false;
  by("prompt").value = page.prompt;
  by("prompt").addEventListener("input", () => { if (!chatting) begin(); });
  by("prompt").placeholder = "Type a beginning";
  by("again").addEventListener("click", () => {
    const seed = SLIDERS.find((spec) => spec.name === "seed");
    seed.set((values.seed + 1) % (seed.max + 1));
    begin();
  });
  by("stop").addEventListener("click", () => { controller?.abort(); by("stop").disabled = true; });
  page.runs.forEach((run, place) => {
    panels.push(new Panel(place, run, begin));
    by("panels").append(panels[place].box);
  });
  by("panels").classList.toggle("two", panels.length > 1);
  begin();
  startChat();
}

start();
