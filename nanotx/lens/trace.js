"use strict";
// Draws the numbers of each result, and marks an axis everywhere while a pointer is on it.
const data = JSON.parse(document.getElementById("data").textContent);
const CELL = 9;

// The colours of the page as a canvas needs them, which knows no variables.
function resolved(name) {
  const probe = document.createElement("span");
  probe.style.color = "var(" + name + ")";
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function draw(canvas, panel, colours) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = panel[0].length * CELL * scale;
  canvas.height = panel.length * CELL * scale;
  canvas.style.width = panel[0].length * CELL + "px";
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  panel.forEach((row, index) => row.forEach((value, column) => {
    if (value === null) return;
    pen.globalAlpha = Math.min(100, Math.abs(value)) / 100;
    pen.fillStyle = value < 0 ? colours.negative : colours.positive;
    pen.fillRect(column * CELL, index * CELL, CELL, CELL);
  }));
}

// Names the cell under the pointer: its place on each axis, and its number.
function caption(picture, number, row, column) {
  const value = picture.panels[number][row] && picture.panels[number][row][column];
  if (value === undefined) return "";
  const places = [[picture.names[0], number, picture.panels.length], [picture.names[1], row, picture.panels[0].length],
    [picture.names[2], column, 2]];
  const at = places.filter((place) => place[2] > 1).map((place) => place[0] + " " + place[1]).join(", ");
  return at + ": " + (value === null ? "not finite" : (value * picture.scale / 100).toPrecision(3));
}

// A picture is a list of panels, a panel a list of rows, and a row a list of hundredths of the picture's `scale`.
function drawAll() {
  const colours = { positive: resolved("--weight"), negative: resolved("--surprise") };
  document.querySelectorAll(".picture").forEach((figure) => {
    const picture = data.pictures[Number(figure.dataset.picture)];
    figure.replaceChildren(...picture.panels.map((panel, number) => {
      const canvas = document.createElement("canvas");
      draw(canvas, panel, colours);
      canvas.addEventListener("pointermove", (event) => {
        canvas.title = caption(picture, number, Math.floor(event.offsetY / CELL), Math.floor(event.offsetX / CELL));
      });
      return canvas;
    }));
  });
}

function mark(axis) {
  document.querySelectorAll(".axis").forEach((node) =>
    node.classList.toggle("marked", axis !== "" && node.dataset.axis === axis));
}
for (const event of ["pointerover", "pointerout"]) {
  document.addEventListener(event, (moved) => {
    const axis = moved.target instanceof Element && moved.target.closest(".axis");
    if (axis) mark(event === "pointerover" ? axis.dataset.axis : "");
  });
}
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
