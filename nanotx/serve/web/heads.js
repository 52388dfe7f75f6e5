"use strict";
// The heads of a run: a button for each, whose pointer or focus shows where the head looks, and whose click removes it.
const MOST_MAPPED = 128; // tokens of a map

// Draw the weights of a map, four pixels square each; the row of the selected token has a frame.
function drawMap(canvas, rows, selected) {
  const size = rows.length, ink = canvas.getContext("2d"), style = getComputedStyle(canvas);
  if (canvas.width !== size * 4) canvas.width = canvas.height = size * 4;
  ink.clearRect(0, 0, size * 4, size * 4);
  ink.fillStyle = style.getPropertyValue("color");
  rows.forEach((row, y) => row.forEach((weight, x) => {
    ink.globalAlpha = Math.sqrt(weight);
    ink.fillRect(x * 4, y * 4, 4, 4);
  }));
  ink.globalAlpha = 1;
  if (selected < 0 || selected >= size) return;
  ink.strokeStyle = style.getPropertyValue("outline-color");
  ink.strokeRect(0.5, selected * 4 + 0.5, selected * 4 + 3, 3);
}

class Heads {
  constructor(panel, change) {
    this.panel = panel;
    this.change = change; // is called when a head is removed or comes back
    this.removed = new Set();
    this.shown = ""; // the head whose map is shown
    this.map = null; // {first, rows}
    this.asked = 0;
    this.box = make("div", "heads");
    this.title = make("h3");
    this.grid = make("div", "head-grid");
    this.grid.setAttribute("role", "group");
    this.grid.setAttribute("aria-label", "Heads: a row for each layer");
    this.canvas = make("canvas", "map");
    this.canvas.setAttribute("role", "img");
    this.caption = make("p", "map-caption");
    this.all = make("button", "all", "All heads on");
    this.all.type = "button";
    this.all.hidden = true;
    this.all.addEventListener("click", () => this.restore());
    const figure = make("div", "map-box");
    figure.append(this.canvas, this.caption);
    const side = make("div", "head-side");
    side.append(this.grid, this.all);
    this.box.append(this.title, side, figure);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerenter", () => clearTimeout(this.leaving));
    this.canvas.addEventListener("pointerleave", () => this.leave());
  }

  build(layers) {
    this.names = layers.flat();
    this.title.textContent = this.names.length ? "Heads: point to see, click to remove" : "";
    this.grid.replaceChildren();
    layers.forEach((names, layer) => {
      if (!names.length) return;
      const row = make("div", "head-row");
      row.append(make("span", "layer", "layer " + layer));
      names.forEach((name) => row.append(this.button(name)));
      this.grid.append(row);
    });
    this.explain();
    this.mark();
  }

  button(name) {
    const button = make("button", "head", name.split("head").pop());
    button.type = "button";
    button.dataset.name = name;
    button.setAttribute("aria-label", "Head " + name);
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => this.show(name));
    button.addEventListener("blur", () => this.leave());
    button.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.leave(); });
    // A finger cannot point: its first tap shows the head, the second one removes it.
    let shownBefore = false;
    button.addEventListener("pointerdown", () => { shownBefore = this.shown === name; });
    button.addEventListener("click", (event) => {
      if (event.pointerType !== "touch" || shownBefore) this.toggle(name);
    });
    button.addEventListener("keydown", (event) => this.key(event));
    return button;
  }

  key(event) {
    const buttons = [...this.grid.querySelectorAll("button")];
    const width = event.target.parentElement.children.length - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
    const next = step && buttons[buttons.indexOf(event.target) + step];
    if (next) { event.preventDefault(); next.focus(); }
  }

  toggle(name) {
    if (!this.removed.delete(name)) this.removed.add(name);
    this.mark();
    this.change();
  }

  restore() {
    this.removed.clear();
    this.mark();
    this.change();
  }

  mark() {
    for (const button of this.grid.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(!this.removed.has(button.dataset.name)));
      button.classList.toggle("shown", button.dataset.name === this.shown);
    }
    this.all.hidden = !this.removed.size;
  }

  // The map.

  async show(name) {
    clearTimeout(this.leaving);
    const asked = ++this.asked;
    if (!this.panel.tokens.length) return;
    const body = { run: this.panel.place, ids: this.ids(), head: name, removed: [...this.removed] };
    try {
      const map = await ask("api/attention", body);
      if (asked !== this.asked) return;
      this.map = { first: map.first, rows: map.rows.map((row) => row.map((weight) => weight / 1000)) };
      this.shown = name;
      this.mark();
      this.panel.recolour();
      this.draw();
    } catch (error) {
      if (asked === this.asked) this.caption.textContent = error.message;
    }
  }

  // The text, or where the selected token is older than a map reaches, the text up to it.
  ids() {
    const ids = this.panel.tokens.map((token) => token.id), reach = Math.min(this.panel.run.context, MOST_MAPPED);
    return this.panel.selected < ids.length - reach ? ids.slice(0, this.panel.selected + 1) : ids;
  }

  // The selected token is another one: show where the head looks from there.
  follow() {
    const row = this.panel.selected - this.map.first;
    if (row < 0 || row >= this.map.rows.length) this.show(this.shown);
    else { this.panel.recolour(); this.draw(); }
  }

  leave() {
    this.asked += 1;
    this.leaving = setTimeout(() => {
      this.shown = "";
      this.mark();
      this.panel.recolour();
      this.explain();
    }, 250);
  }

  explain() {
    this.canvas.hidden = true;
    this.caption.textContent = this.names.length ? "Point at a head, or move the focus to it, to see where it looks."
      : "This model has no heads that can be shown.";
  }

  // The weight that the selected token gives to the token of a place; null without a map.
  weight(place) {
    if (!this.shown || !this.map) return null;
    return this.map.rows[this.panel.selected - this.map.first]?.[place - this.map.first] ?? 0;
  }

  draw() {
    const query = this.panel.selected - this.map.first;
    this.canvas.hidden = false;
    drawMap(this.canvas, this.map.rows, query);
    const text = this.describe(query);
    this.caption.textContent = text;
    this.canvas.setAttribute("aria-label", "Attention map. " + text);
  }

  describe(query) {
    const { first, rows } = this.map, token = (place) => "“" + visible(this.panel.tokens[place].text) + "”";
    const short = this.shown.replace(".attention.head", ".").replace(".head", ".");
    const window = first || rows.length < this.panel.tokens.length
      ? " The map has tokens " + first + " to " + (first + rows.length - 1) + "." : "";
    if (query < 0 || query >= rows.length) return "Head " + short + "." + window;
    const best = rows[query].indexOf(Math.max(...rows[query]));
    return "Head " + short + ": from token " + (first + query) + ", " + token(first + query) + ", it looks most at token "
      + (first + best) + ", " + token(first + best) + " (" + rows[query][best].toFixed(2) + ")." + window;
  }

  point(event) {
    const row = Math.floor(event.offsetY / this.canvas.clientHeight * this.map.rows.length);
    if (row >= 0 && row < this.map.rows.length) this.panel.pick(this.map.first + row);
  }
}
