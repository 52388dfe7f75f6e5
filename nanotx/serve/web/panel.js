"use strict";
// A panel shows one run: its text token by token, the likeliest tokens at the selected place, and its heads.
const by = (id) => document.getElementById(id);
const SIGNS = { " ": "·", "\n": "⏎", "\t": "→", "\r": "␍" };
const FAINTEST = 6; // surprise in nats from which a token has the full colour

function make(tag, kind, text) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  return node;
}

// A token as one line in which every character can be seen.
function visible(text) {
  const shown = text.startsWith("bytes:") ? text.slice(6) : text;
  return shown === "" ? "(empty)" : [...shown].map((letter) => SIGNS[letter] ?? letter).join("");
}

function percent(p) {
  if (p === null) return "–";
  return p >= 0.9995 ? "100%" : p < 0.001 ? "< 0.1%" : (100 * p).toFixed(1) + "%";
}

class Panel {
  constructor(place, run, change) {
    this.place = place;
    this.run = run;
    this.change = change; // is called when the text is to begin anew
    this.tokens = [];
    this.selected = -1;
    this.follows = true; // the newest token is selected until another one is picked
    this.prompted = 0; // tokens of the prompt
    this.box = make("section", "panel");
    this.box.setAttribute("aria-label", run.name);
    this.head = make("h2", "run-name");
    this.note = make("p", "note");
    this.note.setAttribute("role", "status");
    this.talk = new Talk(run.name);
    this.buildText();
    this.buildLikeliest();
    this.heads = new Heads(this, change);
    const below = make("div", "below");
    below.append(this.likeliest, this.heads.box);
    this.box.append(this.head, this.talk.box, this.note, this.text, this.legend(), below);
    this.about(run);
  }

  about(run) {
    this.run = run;
    const facts = run.step === null ? "no checkpoint yet" : "step " + run.step.toLocaleString("en") + " · "
      + run.parameters.toLocaleString("en") + " parameters · " + run.tokenizer + " tokens · context " + run.context;
    this.head.replaceChildren(make("span", "", run.name), make("small", "", facts));
    this.heads.build(run.heads || []);
  }

  buildText() {
    this.text = make("div", "text");
    this.text.tabIndex = 0;
    this.text.setAttribute("role", "listbox");
    this.text.setAttribute("aria-label", "Text of " + this.run.name + ", token by token; arrow keys move");
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.text.addEventListener("pointerover", (event) => {
      const token = event.target.closest(".token");
      if (token) this.pick(Number(token.dataset.place));
    });
  }

  legend() {
    const legend = make("p", "legend");
    legend.append(make("span", "", "likely"), make("i", "scale"), make("span", "", "surprising"));
    this.legendText = legend;
    return legend;
  }

  buildLikeliest() {
    this.likeliest = make("div", "likeliest");
    this.caption = make("h3");
    this.caption.setAttribute("aria-live", "polite");
    this.list = make("ol");
    this.likeliest.append(this.caption, this.list);
  }

  // The text.

  clear() {
    this.tokens = [];
    this.text.replaceChildren();
    this.selected = -1;
    this.follows = true;
    this.caption.replaceChildren();
    this.list.replaceChildren();
  }

  begin(event) {
    this.clear();
    this.prompted = event.prompt.length;
    if (event.step !== this.run.step) this.about({ ...this.run, step: event.step });
    this.say(event.left_out ? "The prompt is longer than the context of " + this.run.context + " tokens: its first "
      + event.left_out.toLocaleString("en") + " are not read." : event.dropped ? "The context of " + this.run.context
      + " tokens is full: the oldest " + (event.dropped === 1 ? "turn is" : event.dropped + " turns are") + " not read." : "");
    this.add(event.prompt);
  }

  say(text, bad) {
    this.note.textContent = text;
    this.note.classList.toggle("bad", Boolean(bad));
  }

  fail(message) {
    this.say(message, true);
    if (chatting) this.talk.fail();
  }

  add(tokens) {
    const bottom = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 40;
    for (const token of tokens) {
      const place = this.tokens.push(token) - 1;
      const span = make("span", place < this.prompted ? "token prompt" : "token");
      if (token.text.startsWith("bytes:")) span.classList.add("bytes");
      span.textContent = token.text.startsWith("bytes:") ? token.text.slice(6) : token.text.replaceAll("\n", "⏎\n");
      span.id = "token-" + this.place + "-" + place;
      span.dataset.place = place;
      span.setAttribute("role", "option");
      span.setAttribute("aria-label", visible(token.text) + (token.p === null ? "" : ", " + percent(token.p)));
      this.colour(span, place);
      this.text.append(span);
    }
    if (bottom) this.text.scrollTop = this.text.scrollHeight;
    if (this.follows && this.tokens.length) this.select(this.tokens.length - 1);
  }

  colour(span, place) {
    const weight = this.heads ? this.heads.weight(place) : null;
    const p = this.tokens[place].p;
    const strength = weight !== null ? weight : p === null ? 0 : Math.min(-Math.log(Math.max(p, 1e-9)) / FAINTEST, 1);
    span.style.setProperty("--strength", (100 * strength).toFixed(0) + "%");
    span.classList.toggle("weight", weight !== null);
  }

  recolour() {
    [...this.text.children].forEach((span, place) => this.colour(span, place));
    this.legendText.classList.toggle("weight", this.heads.shown !== "");
    this.legendText.firstChild.textContent = this.heads.shown ? "not looked at" : "likely";
    this.legendText.lastChild.textContent = this.heads.shown ? "looked at" : "surprising";
  }

  key(event) {
    const last = this.tokens.length - 1;
    const target = { ArrowLeft: this.selected - 1, ArrowRight: this.selected + 1, Home: 0, End: last,
      ArrowUp: this.lineFrom(-1), ArrowDown: this.lineFrom(1) }[event.key];
    if (target === undefined || target < 0 || target > last) return;
    event.preventDefault();
    this.pick(target);
    this.text.children[target].scrollIntoView({ block: "nearest" });
  }

  // The place one line up or down, at about the same height of column.
  lineFrom(step) {
    const from = this.text.children[this.selected];
    if (!from) return -1;
    const x = from.offsetLeft, y = from.offsetTop;
    for (let place = this.selected + step, best = -1, line = null; ; place += step) {
      const span = this.text.children[place];
      if (!span || (line !== null && span.offsetTop !== line)) return best;
      if (span.offsetTop === y) continue;
      line = span.offsetTop;
      if (best < 0 || Math.abs(span.offsetLeft - x) < Math.abs(this.text.children[best].offsetLeft - x)) best = place;
    }
  }

  pick(place) {
    this.follows = false;
    this.select(place);
  }

  select(place) {
    if (place === this.selected) return;
    this.text.children[this.selected]?.removeAttribute("aria-selected");
    this.selected = place;
    const span = this.text.children[place];
    span.setAttribute("aria-selected", "true");
    this.text.setAttribute("aria-activedescendant", span.id);
    this.showLikeliest();
    if (this.heads.shown) this.heads.follow();
  }

  // The likeliest tokens at the selected place.

  showLikeliest() {
    const token = this.tokens[this.selected];
    const before = this.tokens.slice(Math.max(0, this.selected - 12), this.selected).map((other) => visible(other.text));
    this.caption.replaceChildren(make("span", "before", "after “" + before.join("") + "”"));
    this.list.replaceChildren();
    if (token.p === null) {
      this.list.append(make("li", "none", "the first token is not predicted from anything"));
      return;
    }
    const known = token.top.some((row) => row[2] === token.id);
    const rows = known ? token.top : [...token.top.slice(0, 9), [token.text, token.p, token.id]];
    for (const [text, p, id] of rows) {
      this.list.append(this.alternative(text, p, id === token.id));
    }
  }

  // A button that continues from the selected place with another token.
  alternative(text, p, chosen) {
    const item = make("li"), button = make("button", chosen ? "alternative chosen" : "alternative");
    button.type = "button";
    button.style.setProperty("--p", (100 * p).toFixed(1) + "%");
    button.append(make("code", "", visible(text)), make("span", "bar"), make("span", "p", percent(p)));
    const kind = chosen ? (this.selected < this.prompted ? ", in the prompt" : ", sampled") : "";
    button.setAttribute("aria-label", visible(text) + ", " + percent(p) + kind);
    const texts = [...this.tokens.slice(0, this.selected).map((token) => token.text), text];
    button.disabled = chatting || texts.some((other) => other.startsWith("bytes:"));
    button.title = button.disabled ? "" : "Continue the text with this token";
    button.addEventListener("click", () => { by("prompt").value = texts.join(""); this.change(); });
    item.append(button);
    return item;
  }
}
