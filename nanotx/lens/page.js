"use strict";
// A pointer, or the arrow keys, pick a token; a pointer on a head colours the tokens that it looks at.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
let place = data.tokens.length - 1;
let head = "";

function make(tag, text, kind) {
  const node = document.createElement(tag);
  node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function weights(name) {
  return data.maps[name][place];
}

function strongest(name) {
  const row = weights(name);
  let best = 0;
  row.forEach((weight, key) => { if (weight > row[best]) best = key; });
  return best;
}

function showTokens() {
  [...by("tokens").children].forEach((button, key) => {
    const weight = head && key <= place ? weights(head)[key] : 0;
    const surprise = data.surprise[key];
    const strength = head ? weight / 100 : (surprise === null ? 0 : Math.min(surprise / 8, 1));
    button.style.setProperty("--strength", (strength * 100).toFixed(0) + "%");
    button.classList.toggle("weight", head !== "");
    button.setAttribute("aria-pressed", key === place ? "true" : "false");
    button.tabIndex = key === place ? 0 : -1;
  });
}

function showLayers() {
  const body = by("layers");
  body.replaceChildren();
  data.layers.forEach((layer) => {
    const guess = layer.guesses[place];
    const row = make("tr", "");
    [layer.name, guess[0], guess[1], guess[2], guess[3]].forEach((cell) =>
      row.append(make("td", cell === null ? "-" : String(cell))));
    const cell = make("td", "");
    layer.heads.forEach((name) => {
      const key = strongest(name);
      const chip = make("button", name + " → " + data.tokens[key] + " " + (weights(name)[key] / 100).toFixed(2), "head");
      chip.style.setProperty("--strength", weights(name)[key] + "%");
      for (const event of ["pointerenter", "focus"]) chip.addEventListener(event, () => { head = name; showAll(false); });
      for (const event of ["pointerleave", "blur"]) chip.addEventListener(event, () => { head = ""; showAll(false); });
      cell.append(chip);
    });
    row.append(cell);
    body.append(row);
  });
}

function showAll(layers) {
  const next = place + 1 < data.tokens.length ? "; next is “" + data.tokens[place + 1] + "”" : "";
  by("where").textContent = head
    ? "Head " + head + ": where it looks from token " + place + ", “" + data.tokens[place] + "”"
    : "After token " + place + ", “" + data.tokens[place] + "”" + next + "; tokens are coloured by surprise";
  showTokens();
  if (layers) showLayers();
}

data.tokens.forEach((text, key) => {
  const button = make("button", text, "token");
  const surprise = data.surprise[key];
  button.title = "token " + key + (surprise === null ? "" : ", surprise " + surprise + " nats");
  for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => { place = key; showAll(true); });
  by("tokens").append(button);
});
by("tokens").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const button = step && by("tokens").children[place + step];
  if (button) { event.preventDefault(); button.focus(); }
});
showAll(true);
