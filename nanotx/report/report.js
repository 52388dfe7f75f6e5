"use strict";
// The report: curves with a choice of axes, samples over time, a passage coloured by surprise, attention maps.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const single = data.runs.length === 1;
  const LEVELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

  function make(tag, kind, text) {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // Curves.

  const state = { x: "step", unit: data.unit, scale: "linear", show: "validation" };
  const group = [], charts = new Map(), knownBits = data.runs.every((run) => run.bits[0] !== null);
  if (!knownBits) state.unit = "nats";

  function withFlops(run, table) {
    return run.flops ? { ...table, flops: table.tokens.map((tokens) => tokens * run.flops) } : table;
  }

  const inUnit = (run, values, text) => {
    const factor = state.unit === "bits" ? run.bits[text] : 1;
    return values.map((value) => (value === null || factor === null ? null : value * factor));
  };

  function trainingCurve(run, colour) {
    const metric = run.metrics.find((one) => one.name === "loss");
    if (!metric) return [];
    const one = { name: single ? "training batches" : run.name, colour, x: withFlops(run, run.tables[metric.x]), y: inUnit(run, metric.y, 1) };
    if (metric.low && single) Object.assign(one, { low: inUnit(run, metric.low, 1), high: inUnit(run, metric.high, 1) });
    return [one];
  }

  function evalCurve(run, key, name, text, colour, dash) {
    if (!run.evals[key] || run.evals[key].every((loss) => loss === null)) return [];
    return [{ name, colour, dash, dots: run.evals[key].length < 60, x: withFlops(run, run.tables[run.evals.x]), y: inUnit(run, run.evals[key], text) }];
  }

  function lossSeries() {
    if (single) {
      const run = data.runs[0];
      return [...trainingCurve(run, 1), ...evalCurve(run, "train_loss", "training text", 1, 2, "5 4"),
        ...evalCurve(run, "val_loss", "validation text", 0, 0)];
    }
    return data.runs.flatMap((run, index) =>
      state.show === "training" ? trainingCurve(run, index) : evalCurve(run, "val_loss", run.name, 0, index));
  }

  function best() {
    const run = data.runs[0], losses = single && run.evals.val_loss;
    if (!losses || !losses.some((loss) => loss !== null)) return [];
    const at = losses.reduce((found, loss, index) => (loss !== null && (found < 0 || loss < losses[found]) ? index : found), -1);
    const table = withFlops(run, run.tables[run.evals.x]), [y] = inUnit(run, [losses[at]], 0);
    if (y === null) return [];
    return [{ name: "best " + y.toFixed(4), y, x: Object.fromEntries(Object.entries(table).map(([key, xs]) => [key, xs[at]])) }];
  }

  function marks() {
    if (!single) return [];
    const run = data.runs[0], table = withFlops(run, run.event_x);
    const kinds = { warning: "bad", nonfinite: "bad", changed: "good" };
    return run.events.map((event, index) => ({
      name: "step " + event.step + ": " + event.text, kind: kinds[event.kind] || "",
      x: Object.fromEntries(Object.entries(table).map(([key, xs]) => [key, xs[index]])),
    }));
  }

  function references() {
    return data.references.map((one) => {
      const y = state.unit === "nats" ? one.nats : one.bits !== undefined ? one.bits : one.nats * data.runs[0].bits[0];
      return { name: one.name + " " + (y === null ? "" : y.toFixed(2)), y };
    }).filter((one) => one.y !== null && Number.isFinite(one.y));
  }

  const TITLES = {
    lr: ["Learning rate", ""], grad_norm: ["Gradient norm", "before clipping"],
    tokens_per_second: ["Throughput", "tokens per second"], total_loss: ["Total loss", "what is minimised"],
  };

  // Metrics by chart: those of one prefix, such as grad_norm/..., share one; of several runs each has one.
  function metricGroups() {
    const groups = new Map();
    for (const run of data.runs)
      for (const metric of run.metrics) {
        if (metric.name === "loss") continue;
        const prefix = single && metric.name.includes("/") ? metric.name.split("/")[0] + "/" : metric.name;
        if (!groups.has(prefix)) groups.set(prefix, new Set());
        groups.get(prefix).add(metric.name);
      }
    return groups;
  }

  function metricSpec(prefix, names) {
    const several = names.size > 1;
    const series = data.runs.flatMap((run, index) => run.metrics.filter((metric) => names.has(metric.name)).map((metric) => {
      const short = several ? metric.name.slice(prefix.length) : metric.name;
      const one = { name: single ? short : run.name, x: withFlops(run, run.tables[metric.x]), y: metric.y, dots: metric.dots };
      if (!several) one.colour = single ? 3 : index;
      if (metric.low && single && !several) Object.assign(one, { low: metric.low, high: metric.high });
      return one;
    }));
    const log = /grad_norm/.test(prefix) && series.every((one) => one.y.every((y) => y === null || y > 0));
    const [title, y] = TITLES[prefix] || [prefix.replace(/\/$/, ""), ""];
    return { title, legend: single, y: log ? (y ? y + ", " : "") + "log scale" : y, series, log, height: 190 };
  }

  function draw(key, place, spec) {
    const full = { ...spec, x: state.x, logX: state.scale === "log", group };
    if (charts.has(key)) charts.get(key).show(full); else charts.set(key, chart(place, full));
  }

  function drawAll() {
    const unit = state.unit === "bits" ? "bits per byte" : "nats per token";
    const title = single ? "Loss" : state.show === "training" ? "Training loss" : "Validation loss";
    draw("loss", by("main-chart"), { title, y: unit, series: lossSeries(), references: references(), points: best(), marks: marks(), height: 360 });
    for (const [prefix, names] of metricGroups()) draw(prefix, by("small-charts"), metricSpec(prefix, names));
  }

  function controls() {
    const place = by("controls");
    const known = (key) => data.runs.some((run) => run.tables.some((table) => (withFlops(run, table)[key] || []).some((value) => value > 0)));
    const names = { step: "steps", tokens: "tokens", seconds: "seconds of training", flops: "FLOPs" };
    const axes = Object.fromEntries(Object.entries(names).filter(([key]) => key === "step" || known(key)));
    const set = (key) => (value) => { state[key] = value; drawAll(); };
    choice(place, "against", axes, state.x, set("x"));
    choice(place, "axis", { linear: "linear", log: "logarithmic" }, state.scale, set("scale"));
    if (knownBits)
      choice(place, "in", { nats: "nats per token", bits: "bits per byte" }, state.unit, set("unit"));
    if (!single) choice(place, "of", { validation: "validation", training: "training" }, state.show, set("show"));
  }

  if (!single) {
    const curves = data.runs.map((run) => (run.evals.val_loss || []).length);
    if (Math.max(...curves, 0) < 2) state.show = "training";
  }
  controls();
  drawAll();
  const widest = Math.max(...data.runs.map((run) => run.window));
  by("window").textContent = widest.toLocaleString("en");
  by("thinned").hidden = widest < 2;

  // Samples: the newest of each run at a step.

  function samples() {
    const steps = [...new Set(data.runs.flatMap((run) => run.samples.map((sample) => sample.step)))].sort((a, b) => a - b);
    const slider = by("sample-step");
    slider.max = steps.length - 1;
    slider.value = steps.length - 1;
    const show = () => {
      const step = steps[slider.value];
      by("sample-at").textContent = step.toLocaleString("en");
      slider.setAttribute("aria-valuetext", "step " + step);
      by("sample-texts").replaceChildren(...data.runs.map((run) => {
        const sample = run.samples.filter((one) => one.step <= step).at(-1), figure = make("figure");
        const loss = sample && sample.loss !== null ? "validation loss " + sample.loss.toFixed(4) : "";
        const head = [single ? "" : run.name, sample && sample.step !== step ? "step " + sample.step : "", loss].filter(Boolean).join(", ");
        figure.append(make("figcaption", "", head), make("pre", "", sample ? sample.text : "no sample yet"));
        return figure;
      }));
    };
    slider.addEventListener("input", show);
    show();
  }
  if (by("sample-step")) samples();

  // Texts: a token is a span; the end of a line is shown.

  function tokenSpan(text) {
    const span = make("span", "", text.replace(/\n/g, ""));
    for (const _ of text.match(/\n/g) || []) span.append(make("i", "end-of-line", "⏎"), "\n");
    return span;
  }

  const quoted = (text) => "“" + text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "·") + "”";

  function passage() {
    const { tokens, surprise, guesses } = data.passage, place = by("tokens");
    const spans = tokens.map(tokenSpan);
    let chosen = -1;
    const choose = (index) => {
      if (chosen >= 0) { spans[chosen].removeAttribute("aria-current"); spans[chosen].tabIndex = -1; }
      chosen = index;
      spans[index].setAttribute("aria-current", "true");
      spans[index].tabIndex = 0;
      const expected = guesses[index].map(([text, percent]) => quoted(text) + " " + percent.toFixed(0) + " %").join(", ");
      by("token").textContent = !index ? "Token 0, " + quoted(tokens[index]) + ": nothing comes before it."
        : surprise[index] === null ? "Token " + index + ", " + quoted(tokens[index]) + ": the prediction is not finite."
        : "Token " + index + ", " + quoted(tokens[index]) + ": surprise " + surprise[index].toFixed(2) + " nats (probability " +
          (100 * Math.exp(-surprise[index])).toPrecision(2) + " %); expected " + expected;
    };
    spans.forEach((span, index) => {
      span.tabIndex = index ? -1 : 0;
      span.style.setProperty("--strength", (100 * Math.min((surprise[index] || 0) / 8, 1)).toFixed(0) + "%");
      for (const event of ["pointerenter", "focus"]) span.addEventListener(event, () => choose(index));
    });
    place.append(...spans);
    place.addEventListener("keydown", (event) => {
      const next = spans[chosen + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] || NaN)];
      if (next) { event.preventDefault(); next.focus(); }
    });
    const known = surprise.filter((value) => value !== null);
    by("token").textContent = known.length.toLocaleString("en") + " tokens, read by the weights of step " +
      data.passage_step.toLocaleString("en") + ": " + (known.reduce((sum, value) => sum + value, 0) / known.length).toFixed(3) + " nats per token in the mean";
  }
  if (by("tokens")) passage();

  // Attention.

  function weights(map) {
    return map.map((row) => [...row].map((letter) => LEVELS.indexOf(letter) / (LEVELS.length - 1)));
  }

  function paint(canvas, map, size) {
    const context = canvas.getContext("2d");
    canvas.width = canvas.height = size;
    context.fillStyle = getComputedStyle(canvas).getPropertyValue("color");
    map.forEach((row, query) => row.forEach((weight, key) => {
      context.globalAlpha = weight ** 0.6;
      context.fillRect(key, query, 1, 1);
    }));
  }

  function attention() {
    const names = Object.keys(data.passage.maps), size = data.passage.map_tokens;
    const maps = Object.fromEntries(names.map((name) => [name, weights(data.passage.maps[name])]));
    const tokens = data.passage.tokens.slice(0, size), layers = new Map(), buttons = new Map();
    const large = by("map"), spans = tokens.map(tokenSpan);
    let head = names[0], query = size - 1, key = null;
    by("looked-at").append(...spans);
    for (const name of names) {
      const layer = name.slice(0, name.lastIndexOf("."));
      if (!layers.has(layer)) {
        layers.set(layer, make("div"));
        layers.get(layer).append(make("small", "", "layer " + layer));
        by("heads").append(layers.get(layer));
      }
      const button = make("button"), canvas = make("canvas");
      button.type = "button";
      button.title = "head " + name;
      button.setAttribute("aria-label", "head " + name);
      button.append(canvas);
      button.addEventListener("click", () => { head = name; show(); });
      buttons.set(name, [button, canvas]);
      layers.get(layer).append(button);
    }
    const show = () => {
      for (const [name, [button]] of buttons) button.setAttribute("aria-pressed", String(name === head));
      paint(large, maps[head], size);
      const context = large.getContext("2d"), row = maps[head][query];
      context.globalAlpha = 0.16;
      context.fillRect(0, query, query + 1, 1);
      const strongest = row.indexOf(Math.max(...row)), at = key === null || key > query ? strongest : key;
      spans.forEach((span, index) => {
        span.style.setProperty("--strength", (100 * (row[index] || 0) ** 0.6).toFixed(0) + "%");
        if (index === query) span.setAttribute("aria-current", "true"); else span.removeAttribute("aria-current");
      });
      by("looks").textContent = "Head " + head + ": from token " + query + ", " + quoted(tokens[query]) + ", to token " + at + ", " + quoted(tokens[at]) +
        ": weight " + row[at].toFixed(2) + (at === strongest ? ", the largest" : "");
      large.setAttribute("aria-label", "attention map. " + by("looks").textContent);
    };
    large.addEventListener("pointermove", (event) => {
      const box = large.getBoundingClientRect(), cell = (part, whole) => Math.min(size - 1, Math.max(0, Math.floor(part / whole * size)));
      query = cell(event.clientY - box.top, box.height);
      key = cell(event.clientX - box.left, box.width);
      show();
    });
    large.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [];
      if (down === undefined) return;
      event.preventDefault();
      query = Math.min(size - 1, Math.max(0, query + down));
      key = down ? null : Math.min(query, Math.max(0, (key === null ? query : key) + right));
      show();
    });
    const all = () => { for (const [name, [, canvas]] of buttons) paint(canvas, maps[name], size); show(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
    all();
  }
  if (by("heads")) attention();

  // The recipe.

  const differing = by("differing");
  if (differing) differing.addEventListener("change", () => by("fields").classList.toggle("only", differing.checked));
})();
