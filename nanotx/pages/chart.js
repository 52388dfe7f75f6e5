"use strict";
// Curves as inline SVG, for every page: chart(place, spec) draws into an element and returns {show(spec)}.
//
// spec = {
//   title: "Loss",                   heading
//   y: "nats per token",             what the vertical axis shows; its unit
//   x: "step",                       which of the x values of the series is the axis
//   log: false,                      a logarithmic vertical axis
//   logX: false,                     a logarithmic horizontal axis
//   height: 300,                     in pixels
//   legend: false,                   optional: no names above, as where another chart has them
//   series: [{
//     name: "validation",
//     x: {step: [...], tokens: [...]},   ascending numbers for each x that may be chosen
//     y: [...],                          null is a gap
//     low: [...], high: [...],           optional: a band around the curve, such as the extremes of thinned data
//     dots: true,                        optional: a dot at each point
//     colour: 0,                         optional: 0 to 7; without it, the place in the list
//     dash: "4 3",                       optional
//   }],
//   references: [{name: "unigram", y: 3.31}],                          horizontal lines
//   points: [{name: "best 1.525", x: {step: 900}, y: 1.525}],          single points that have a name
//   marks: [{name: "resumed", x: {step: 400}, kind: "good|bad"}],      vertical lines: events
//   group: [],                       optional: charts with the same array share their cursor and their range of x
// }
//
// Pointer: hover for values, drag to enlarge a range, double click for all of it. Keys, when the chart has the focus:
// arrows, Home and End move the cursor, + and - enlarge and shrink around it, Escape shows all. A name in the legend
// hides its curve. choice(place, label, {value: text}, chosen, change) is a row of buttons of which one is pressed.
const { chart, choice } = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEFT = 58, RIGHT = 14, TOP = 14, BOTTOM = 26;
  const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

  function shape(tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function make(tag, kind, text) {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // Numbers as text.

  function clock(seconds) {
    const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return hours ? hours + ":" + two(minutes) + ":" + two(whole % 60) : minutes + ":" + two(whole % 60);
  }

  function compact(value) {
    const size = Math.abs(value);
    if (size >= 1e15) return value.toExponential(2).replace(/\.?0+e\+?/, "e");
    for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e4, "k"]])
      if (size >= unit) return Number((value / (letter === "k" ? 1e3 : unit)).toPrecision(4)) + letter;
    if (size >= 1e3) return Math.round(value).toLocaleString("en");
    if (size && size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
    return String(Number(value.toPrecision(4)));
  }

  const textOfX = (key, value) =>
    key === "seconds" ? clock(value) : value < 1e6 ? Math.round(value).toLocaleString("en") : compact(value);

  // Scales and ticks.

  function scale(low, high, from, to, log) {
    const f = log ? Math.log10 : Number;
    const start = f(low), size = f(high) - start || 1;
    const at = (value) => from + (f(value) - start) / size * (to - from);
    at.back = (place) => {
      const value = start + (place - from) / (to - from) * size;
      return log ? 10 ** value : value;
    };
    return at;
  }

  function ticks(low, high, count, { log, times }) {
    if (log) {
      const decades = Math.log10(high / low), fit = [];
      const digits = decades > 4 ? [1] : decades > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        for (const digit of digits) fit.push(Number((digit * 10 ** power).toPrecision(3)));
      const inside = fit.filter((value) => value >= low && value <= high);
      if (inside.length > 1) return inside.filter((_, index) => index % Math.ceil(inside.length / (count + 1)) === 0);
    }
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough * 0.999);
    if (times && rough > 0.5) step = TIMES.find((size) => size >= rough * 0.999) || Math.ceil(rough / 86400) * 86400;
    const found = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++)
      found.push(Number((index * step).toPrecision(12)));
    return found;
  }

  function extent(values, fits) {
    let low = Infinity, high = -Infinity;
    for (const value of values) {
      if (value === null || value === undefined || !fits(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return [low, high];
  }

  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return xs.length && Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  }

  // Paths.

  function line(xs, ys) {
    let path = "", open = false;
    xs.forEach((x, index) => {
      const y = ys[index];
      if (y === null || x === null) { open = false; return; }
      path += (open ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1) + (open ? "" : "h0");
      open = true;
    });
    return path;
  }

  function band(xs, lows, highs) {
    const parts = [];
    let run = [];
    const close = () => {
      if (run.length > 1)
        parts.push("M" + run.map((at) => xs[at].toFixed(1) + " " + highs[at].toFixed(1)).join("L") + "L" +
          run.reverse().map((at) => xs[at].toFixed(1) + " " + lows[at].toFixed(1)).join("L") + "Z");
      run = [];
    };
    xs.forEach((x, at) => {
      if (x === null || lows[at] === null || highs[at] === null) close(); else run.push(at);
    });
    close();
    return parts.join("");
  }

  // The chart.

  class Chart {
    constructor(place, spec) {
      this.hidden = new Set();
      this.range = null; // of x, when a part is enlarged
      this.cursor = null; // a value of x
      this.figure = make("figure", "chart");
      this.heading = make("figcaption", "chart-head");
      this.frame = make("div", "chart-frame");
      this.frame.tabIndex = 0;
      this.frame.setAttribute("role", "group");
      this.tip = make("div", "chart-tip");
      this.tip.setAttribute("aria-hidden", "true");
      this.tip.hidden = true;
      this.spoken = make("p", "unseen");
      this.spoken.setAttribute("aria-live", "polite");
      this.figure.append(this.heading, this.frame, this.spoken);
      place.append(this.figure);
      this.listen();
      this.show(spec);
      new ResizeObserver(() => { if (this.frame.clientWidth !== this.width) this.draw(); }).observe(this.frame);
    }

    show(spec) {
      if (this.spec && this.spec.x !== spec.x) { this.range = null; this.cursor = null; }
      this.spec = spec;
      this.mates = spec.group || [];
      if (!this.mates.includes(this)) this.mates.push(this);
      this.legend();
      this.draw();
    }

    get series() {
      return this.spec.series.filter((one) => !this.hidden.has(one.name) && one.x[this.spec.x]);
    }

    colour(one) {
      const index = one.colour === undefined ? this.spec.series.indexOf(one) : one.colour;
      return "var(--curve-" + (index % 8) + ")";
    }

    legend() {
      this.heading.replaceChildren(make("strong", "", this.spec.title), make("span", "chart-unit", this.spec.y));
      if (this.spec.series.length < 2 || this.spec.legend === false) return;
      this.spec.series.forEach((one) => {
        const button = make("button", "chart-name");
        const swatch = make("i", one.dash ? "dashed" : "");
        swatch.style.setProperty("--colour", this.colour(one));
        button.append(swatch, make("span", "", one.name));
        button.type = "button";
        button.setAttribute("aria-pressed", String(!this.hidden.has(one.name)));
        button.addEventListener("click", () => {
          if (!this.hidden.delete(one.name)) this.hidden.add(one.name);
          button.setAttribute("aria-pressed", String(!this.hidden.has(one.name)));
          this.draw();
        });
        this.heading.append(button);
      });
    }

    // The values of x and y that are to be seen.
    bounds() {
      const key = this.spec.x, fits = this.spec.log ? (value) => value > 0 : () => true;
      const fitsX = this.spec.logX ? (value) => value > 0 : () => true;
      const [first, last] = this.range || extent(this.series.flatMap((one) => one.x[key]), fitsX);
      const values = [];
      this.series.forEach((one) => one.x[key].forEach((x, index) => {
        if (x < first || x > last) return;
        values.push(one.y[index]);
        if (one.low) values.push(one.low[index], one.high[index]);
      }));
      if (!this.range) values.push(...(this.spec.references || []).map((reference) => reference.y));
      let [low, high] = extent(values, fits);
      if (low > high) [low, high] = this.spec.log ? [1, 10] : [0, 1];
      if (this.spec.log) return { first, last, low: low / 1.15, high: high * 1.15 };
      const margin = 0.06 * (high - low) || 0.05 * Math.abs(high) || 0.5;
      return { first, last, low: low - margin, high: high + margin };
    }

    draw() {
      this.width = this.frame.clientWidth;
      if (!this.width) return;
      const height = this.spec.height || 300, { first, last, low, high } = this.bounds();
      const any = first <= last;
      this.at = {
        x: scale(any ? first : 0, any ? last : 1, LEFT, this.width - RIGHT, any && this.spec.logX),
        y: scale(low, high, height - BOTTOM, TOP, this.spec.log),
      };
      const picture = shape("svg", { width: this.width, height, "aria-hidden": "true" });
      const plot = shape("svg", { x: LEFT - 6, y: 0, width: this.width - LEFT - RIGHT + 12, height: height - BOTTOM + 1,
        viewBox: [LEFT - 6, 0, this.width - LEFT - RIGHT + 12, height - BOTTOM + 1].join(" ") });
      this.axes(picture, height, any ? [first, last] : [0, 1], [low, high]);
      this.events(plot, height);
      this.curves(plot);
      this.lines(plot);
      if (!any || !this.series.length)
        picture.append(shape("text", { x: this.width / 2, y: height / 2, class: "chart-empty" }, "nothing to draw yet"));
      this.overlay = shape("g", {});
      plot.append(this.overlay);
      picture.append(plot);
      this.frame.replaceChildren(picture, this.tip);
      this.frame.setAttribute("aria-label", this.alt(first, last));
      this.point(this.cursor, false);
    }

    axes(picture, height, [first, last], [low, high]) {
      const key = this.spec.x, bottom = height - BOTTOM;
      const across = ticks(first, last, Math.max(2, Math.floor(this.width / 80)),
        { log: this.spec.logX, times: key === "seconds" });
      for (const value of ticks(low, high, Math.max(2, Math.floor(height / 44)), { log: this.spec.log })) {
        const y = this.at.y(value);
        picture.append(shape("line", { x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y, class: "chart-grid" }),
          shape("text", { x: LEFT - 8, y: y + 4, class: "chart-tick end" }, compact(value)));
      }
      for (const value of across) {
        const x = this.at.x(value);
        picture.append(shape("line", { x1: x, x2: x, y1: bottom, y2: bottom + 4, class: "chart-axis" }),
          shape("text", { x: Math.min(x, this.width - 22), y: height - 7, class: "chart-tick middle" },
            key === "seconds" ? clock(value) : compact(value)));
      }
      picture.append(shape("line", { x1: LEFT, x2: this.width - RIGHT, y1: bottom, y2: bottom, class: "chart-axis" }));
    }

    events(plot, height) {
      for (const mark of this.spec.marks || []) {
        if (mark.x[this.spec.x] === undefined || mark.x[this.spec.x] === null) continue;
        const x = this.at.x(mark.x[this.spec.x]), kind = "chart-mark " + (mark.kind || "");
        const group = shape("g", { class: kind });
        group.append(shape("title", {}, mark.name), shape("line", { x1: x, x2: x, y1: TOP - 6, y2: height - BOTTOM }),
          shape("path", { d: "M" + (x - 5) + " 2h10l-5 8z" }));
        plot.append(group);
      }
    }

    curves(plot) {
      const inside = (ys) => ys.map((y) => (y === null || (this.spec.log && y <= 0) ? null : this.at.y(y)));
      this.series.forEach((one) => {
        const xs = one.x[this.spec.x].map((x) => (this.spec.logX && x <= 0 ? null : this.at.x(x)));
        const style = { style: "--colour:" + this.colour(one) };
        if (one.low) plot.append(shape("path", { d: band(xs, inside(one.low), inside(one.high)), class: "chart-band", ...style }));
        const ys = inside(one.y);
        plot.append(shape("path", { d: line(xs, ys), class: "chart-line", "stroke-dasharray": one.dash || "none", ...style }));
        if (one.dots) xs.forEach((x, index) => {
          if (x !== null && ys[index] !== null) plot.append(shape("circle", { cx: x, cy: ys[index], r: 3, class: "chart-dot", ...style }));
        });
      });
    }

    // References and named points: each with its name.
    lines(plot) {
      const right = this.width - RIGHT;
      for (const reference of this.spec.references || []) {
        const y = this.at.y(reference.y);
        if (!Number.isFinite(y)) continue;
        plot.append(shape("line", { x1: LEFT, x2: right, y1: y, y2: y, class: "chart-reference" }),
          shape("text", { x: right - 4, y: y - 5, class: "chart-label end" }, reference.name));
      }
      for (const point of this.spec.points || []) {
        const value = point.x[this.spec.x];
        if (value === undefined || value === null) continue;
        const x = this.at.x(value), y = this.at.y(point.y), end = x > right - 90;
        plot.append(shape("circle", { cx: x, cy: y, r: 5, class: "chart-point" }),
          shape("text", { x: end ? x - 8 : x + 8, y: y - 9, class: "chart-label strong" + (end ? " end" : "") }, point.name));
      }
    }

    alt(first, last) {
      const parts = this.series.slice(0, 12).map((one) => {
        const [low] = extent(one.y, () => true), end = one.y.filter((y) => y !== null).at(-1);
        return end === undefined ? one.name + ": no values" : one.name + ": lowest " + compact(low) + ", last " + compact(end);
      });
      const from = first <= last ? " from " + textOfX(this.spec.x, first) + " to " + textOfX(this.spec.x, last) : "";
      const references = (this.spec.references || []).map((one) => one.name);
      return this.spec.title + " (" + this.spec.y + ") against " + this.spec.x + from + ". " + [...parts, ...references].join("; ") +
        ". Arrow keys read the values.";
    }

    // The cursor: a line, a dot on each curve, and the values there.

    point(x, tell) {
      this.cursor = x;
      this.overlay?.replaceChildren();
      this.tip.hidden = true;
      if (x === null || !this.overlay || !this.series.length) return;
      const rows = this.series.map((one) => {
        const xs = one.x[this.spec.x], index = nearest(xs, x);
        return { one, index, x: xs[index], y: one.y[index] };
      }).filter((row) => row.x !== undefined);
      const lead = rows.reduce((best, row) => (Math.abs(row.x - x) < Math.abs(best.x - x) ? row : best), rows[0]);
      if (!lead) return;
      const across = this.at.x(lead.x), height = this.spec.height || 300;
      this.overlay.append(shape("line", { x1: across, x2: across, y1: TOP - 6, y2: height - BOTTOM, class: "chart-cursor" }));
      for (const row of rows) {
        if (row.y === null || (this.spec.log && row.y <= 0)) continue;
        this.overlay.append(shape("circle", { cx: this.at.x(row.x), cy: this.at.y(row.y), r: 4, class: "chart-dot",
          style: "--colour:" + this.colour(row.one) }));
      }
      const head = this.spec.x + " " + textOfX(this.spec.x, lead.x);
      if (tell) this.tell(head, rows, across);
    }

    tell(head, rows, across) {
      const value = ({ one, index, y }) => {
        const spread = one.low && one.low[index] !== null && one.low[index] !== one.high[index];
        return (y === null ? "not finite" : compact(y)) + (spread ? " (" + compact(one.low[index]) + " to " + compact(one.high[index]) + ")" : "");
      };
      this.tip.replaceChildren(make("strong", "", head));
      for (const row of rows.slice(0, 12)) {
        const item = make("div"), swatch = make("i");
        swatch.style.setProperty("--colour", this.colour(row.one));
        const where = row.x === rows[0].x || this.spec.x === "seconds" ? "" : " at " + textOfX(this.spec.x, row.x);
        item.append(swatch, make("span", "", row.one.name + where), make("b", "", value(row)));
        this.tip.append(item);
      }
      if (rows.length > 12) this.tip.append(make("div", "", "and " + (rows.length - 12) + " more"));
      this.tip.hidden = false;
      const room = this.tip.offsetWidth, right = across + 14 + room < this.width;
      this.tip.style.left = Math.max(0, right ? across + 14 : across - 14 - room) + "px";
      this.spoken.textContent = head + ": " + rows.slice(0, 12).map((row) => row.one.name + " " + value(row)).join(", ");
    }

    share(x, tell) {
      for (const mate of this.mates) mate.point(x, tell && mate === this);
    }

    zoom(range) {
      for (const mate of this.mates) { mate.range = range; mate.draw(); }
    }

    // Pointer and keys.

    listen() {
      let from = null;
      const place = (event) => event.clientX - this.frame.getBoundingClientRect().left;
      const value = (pixels) => this.at.x.back(Math.min(Math.max(pixels, LEFT), this.width - RIGHT));
      this.frame.addEventListener("pointermove", (event) => {
        if (!this.at) return;
        this.share(value(place(event)), true);
        if (from === null) return;
        const [start, end] = [from, place(event)].map((x) => Math.min(Math.max(x, LEFT), this.width - RIGHT)).sort((a, b) => a - b);
        this.overlay.append(shape("rect", { x: start, y: TOP - 6, width: end - start,
          height: (this.spec.height || 300) - BOTTOM - TOP + 6, class: "chart-drag" }));
      });
      this.frame.addEventListener("pointerdown", (event) => {
        if (event.pointerType !== "touch" && event.button === 0 && this.at) {
          from = place(event);
          this.frame.setPointerCapture(event.pointerId);
        }
      });
      this.frame.addEventListener("pointerup", (event) => {
        const start = from;
        from = null;
        if (start !== null && Math.abs(place(event) - start) > 10)
          this.zoom([value(start), value(place(event))].sort((a, b) => a - b));
      });
      for (const name of ["pointercancel", "lostpointercapture"]) this.frame.addEventListener(name, () => { from = null; });
      this.frame.addEventListener("pointerleave", () => { if (from === null) this.share(null, false); });
      this.frame.addEventListener("blur", () => this.share(null, false));
      this.frame.addEventListener("dblclick", () => this.zoom(null));
      this.frame.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const longest = this.series.reduce((best, one) => (one.x[this.spec.x].length > best.length ? one.x[this.spec.x] : best), []);
      if (!longest.length || event.ctrlKey || event.metaKey || event.altKey) return;
      const now = this.cursor === null ? longest.length - 1 : nearest(longest, this.cursor);
      const stride = event.shiftKey ? 10 : 1;
      const to = { ArrowLeft: now - stride, ArrowRight: now + stride, Home: 0, End: longest.length - 1 }[event.key];
      if (to !== undefined) this.share(longest[Math.min(Math.max(to, 0), longest.length - 1)], true);
      else if (event.key === "+" || event.key === "=") this.enlarge(0.5);
      else if (event.key === "-") this.enlarge(2);
      else if (event.key === "Escape") { this.zoom(null); this.share(null, false); }
      else return;
      event.preventDefault();
    }

    enlarge(factor) {
      const keep = this.cursor, { first, last } = this.bounds(), middle = keep === null ? (first + last) / 2 : keep;
      const half = (last - first) / 2 * factor;
      const whole = extent(this.series.flatMap((one) => one.x[this.spec.x]), () => true);
      const range = [Math.max(middle - half, whole[0]), Math.min(middle + half, whole[1])];
      this.zoom(range[0] <= whole[0] && range[1] >= whole[1] ? null : range);
      this.share(keep, true);
    }
  }

  function choice(place, label, values, chosen, change) {
    const group = make("span", "choice");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", label);
    group.append(make("span", "choice-label", label));
    const press = (value) => {
      for (const button of group.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.value === value));
    };
    for (const [value, text] of Object.entries(values)) {
      const button = make("button", "", text);
      button.type = "button";
      button.value = value;
      button.addEventListener("click", () => { press(value); change(value); });
      group.append(button);
    }
    press(chosen);
    place.append(group);
    return group;
  }

  return { chart: (place, spec) => new Chart(place, spec), choice };
})();
