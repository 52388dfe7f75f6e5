"use strict";
// A run that trains: its curve and its samples as they come, and a film of a head over the checkpoints.
const EVERY = 1000; // milliseconds between two questions
const MOST_DRAWN = 800; // points of a curve

// Means of runs of neighbouring points, so that a long curve has no more than a screen can show.
function thinned(x, y) {
  const size = Math.ceil(x.length / MOST_DRAWN);
  if (size <= 1) return { x, y };
  const out = { x: [], y: [] };
  for (let from = 0; from < x.length; from += size) {
    const part = y.slice(from, from + size).filter((value) => value !== null);
    out.x.push(x[Math.min(from + size, x.length) - 1]);
    out.y.push(part.length ? part.reduce((sum, value) => sum + value, 0) / part.length : null);
  }
  return out;
}

class Training {
  constructor(place, panel) {
    this.place = place;
    this.panel = panel;
    this.version = [-1, -1];
    this.points = [];
    this.frames = [];
    this.film = [];
    this.chosen = { sample: -1, frame: -1 }; // -1 is the newest
    this.head = "";
    this.build();
  }

  build() {
    this.box = make("div", "training-run");
    this.state = make("p", "state");
    this.state.setAttribute("role", "status");
    const curve = make("div", "curve"), lower = make("div", "training-lower");
    this.chart = chart(curve, this.curves());
    this.sampleBox = make("div", "samples");
    this.sampleTitle = make("h3", "", "Samples");
    this.sampleRange = this.range("Sample, by step", (value) => { this.chosen.sample = value; this.showSample(); });
    this.sample = make("pre", "sample");
    this.sampleBox.append(this.sampleTitle, this.sampleRange, this.sample);
    this.filmBox = make("div", "film");
    this.buildFilm();
    lower.append(this.filmBox, this.sampleBox);
    this.box.append(make("h2", "run-name", "Training of " + this.panel.run.name), this.state, curve, lower);
  }

  range(label, change) {
    const input = make("input");
    input.type = "range";
    input.min = 0;
    input.setAttribute("aria-label", label);
    input.addEventListener("input", () => change(Number(input.value) === Number(input.max) ? -1 : Number(input.value)));
    return input;
  }

  buildFilm() {
    this.filmTitle = make("h3", "", "A head over the checkpoints");
    this.filmRange = this.range("Checkpoint, by step", (value) => { this.chosen.frame = value; this.showFrame(); });
    this.headChoice = make("select");
    this.headChoice.setAttribute("aria-label", "Head");
    this.headChoice.addEventListener("change", () => { this.head = this.headChoice.value; this.showFrame(); });
    this.play = make("button", "play", "Play");
    this.play.type = "button";
    this.play.addEventListener("click", () => this.run());
    this.canvas = make("canvas", "map");
    this.canvas.setAttribute("role", "img");
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.frameCaption = make("p", "map-caption");
    const row = make("p", "film-row");
    row.append(this.headChoice, this.play, this.filmRange);
    this.filmBox.append(this.filmTitle, row, this.canvas, this.frameCaption);
  }

  // What is new.

  async look() {
    let news;
    do {
      const query = "run=" + this.place + "&version=" + this.version + "&after=" + [this.points.length, this.frames.length];
      news = await (await fetch("api/training?" + query)).json();
      if (news.error) throw new Error(news.error.message);
      this.points.length = news.from[0];
      this.frames.length = news.from[1];
      this.version = news.version;
      this.points.push(...news.points);
      this.frames.push(...news.frames);
      this.film = news.film;
      if (news.points.length) this.showPoints();
      if (news.frames.length) this.showFilm();
    } while (news.more);
    if (news.problem) this.state.textContent = news.problem;
    if (news.about.step !== this.panel.run.step) { this.panel.about(news.about); offerChat(); begin(); }
  }

  of(kind) {
    return this.points.filter((point) => point[0] === kind);
  }

  curves() {
    const loss = this.of("loss"), evals = this.of("eval").filter((point) => point[2] !== null);
    const drawn = thinned(loss.map((point) => point[1]), loss.map((point) => point[2]));
    return {
      title: "Loss", y: "nats per token", x: "step", height: 240,
      series: [
        { name: "training", x: { step: drawn.x }, y: drawn.y, colour: 7 },
        { name: "validation", x: { step: evals.map((point) => point[1]) }, y: evals.map((point) => point[2]), dots: true, colour: 0 },
      ],
      marks: this.of("resume").map((point) => ({ name: "resumed", x: { step: point[1] } })),
    };
  }

  showPoints() {
    const spec = this.curves(), last = this.points.at(-1);
    this.chart.show(spec);
    const steps = [...this.of("start"), ...this.of("resume")].at(-1)?.[2], step = last[1];
    const ended = this.of("end").at(-1)?.[1] >= step;
    this.state.textContent = "Step " + step.toLocaleString("en") + (steps ? " of " + steps.toLocaleString("en") : "")
      + (ended ? "; the run has ended" : "");
    this.showSample();
  }

  showSample() {
    const samples = this.of("sample");
    this.sampleBox.hidden = !samples.length;
    if (!samples.length) return;
    const place = this.chosen.sample < 0 ? samples.length - 1 : this.chosen.sample;
    this.sampleRange.max = samples.length - 1;
    this.sampleRange.value = place;
    this.sampleRange.hidden = samples.length < 2;
    this.sampleRange.setAttribute("aria-valuetext", "step " + samples[place][1]);
    this.sampleTitle.textContent = "Sample of step " + samples[place][1].toLocaleString("en");
    this.sample.textContent = samples[place][2];
  }

  // The film.

  showFilm() {
    const heads = Object.keys(this.frames.at(-1).maps);
    this.filmBox.hidden = !heads.length;
    if (!heads.length) return;
    if (!heads.includes(this.head)) this.head = this.strongest(heads);
    if (this.headChoice.options.length !== heads.length) {
      this.headChoice.replaceChildren(...heads.map((head) => {
        const option = make("option", "", "head " + head);
        option.value = head;
        return option;
      }));
    }
    this.headChoice.value = this.head;
    this.filmRange.max = this.frames.length - 1;
    this.filmRange.hidden = this.play.hidden = this.frames.length < 2;
    this.showFrame();
  }

  // The head with the highest induction score in the newest frame.
  strongest(heads) {
    const scores = this.frames.at(-1).scores;
    return heads.reduce((best, head) => (scores[head]?.[0] ?? 0) > (scores[best]?.[0] ?? 0) ? head : best);
  }

  run() {
    let place = 0;
    clearInterval(this.playing);
    this.playing = setInterval(() => {
      this.chosen.frame = place < this.frames.length - 1 ? place : -1;
      this.showFrame();
      if (++place >= this.frames.length) clearInterval(this.playing);
    }, matchMedia("(prefers-reduced-motion: reduce)").matches ? 1200 : 400);
  }

  showFrame() {
    const place = this.chosen.frame < 0 ? this.frames.length - 1 : this.chosen.frame, frame = this.frames[place];
    this.filmRange.value = place;
    this.filmRange.setAttribute("aria-valuetext", "step " + frame.step);
    const rows = frame.maps[this.head].map((row) => row.map((weight) => weight / 100));
    drawMap(this.canvas, rows, -1);
    const scores = frame.scores[this.head];
    this.caption = "Step " + frame.step.toLocaleString("en") + ", " + (place + 1) + " of " + this.frames.length + " checkpoints"
      + (scores ? "; on repeated random tokens: induction " + scores[0].toFixed(2) + ", previous token " + scores[1].toFixed(2) : "");
    this.frameCaption.textContent = this.caption;
    this.canvas.setAttribute("aria-label", "Attention map of head " + this.head + ". " + this.caption);
    this.rows = rows;
  }

  point(event) {
    const size = this.rows.length, at = (offset, whole) => Math.floor(offset / whole * size);
    const y = at(event.offsetY, this.canvas.clientHeight), x = at(event.offsetX, this.canvas.clientWidth);
    if (!(this.rows[y]?.[x] >= 0)) { this.frameCaption.textContent = this.caption; return; }
    this.frameCaption.textContent = "From token " + y + ", “" + visible(this.film[y]) + "”, to token " + x + ", “"
      + visible(this.film[x]) + "”: " + this.rows[y][x].toFixed(2);
  }
}

function watch() {
  const all = panels.map((panel, place) => new Training(place, panel));
  by("training").hidden = false;
  by("training").classList.toggle("two", all.length > 1);
  by("training").append(...all.map((training) => training.box));
  const look = async () => {
    for (const training of all) {
      try {
        await training.look();
      } catch (error) {
        training.state.textContent = "The server does not answer: " + error.message;
      }
    }
    setTimeout(look, document.hidden ? 5 * EVERY : EVERY);
  };
  look();
}

if (page.watched) watch();
