// The last hour, or the time since the start, as small plots.

const SVG = "http://www.w3.org/2000/svg";
const HOUR = 3600;
const WIDTH = 360;
const HEIGHT = 64;

function svg(tag, properties) {
  const element = document.createElementNS(SVG, tag);
  set(element, properties);
  return element;
}

// A round number at or above the value, for the top of the plot.
function top(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

// 1024-based, because otherwise the scale of a plot of bytes would have odd numbers.
function topOfBytes(value) {
  let unit = 1;
  while (value / unit >= 1024) unit *= 1024;
  return Math.max(1, top(value / unit)) * unit;
}

// `series`: [{word, value(sample)}]; `shape` is "lines" or "bars" (on top of each other).
class Plot {
  constructor({ title, series, shape, format, ceiling = top, least = 0 }) {
    Object.assign(this, { title, series, shape, format, ceiling, least, samples: [], pointed: null });
    this.classes = ["one", "two", "three"];
    this.now = make("p", { class: "now" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.tip = make("div", { class: "tip", role: "status", hidden: true });
    this.frame = make("div", { class: "frame", role: "group", tabindex: "0", "aria-label": `${title}: the left and right arrow keys tell the values` }, this.picture, this.tip);
    this.most = make("p", { class: "most", "aria-hidden": "true" });
    this.from = make("span");
    const legend = series.length > 1 ? series.map((one, index) => make("span", { class: this.classes[index] }, one.word)) : [];
    this.element = make("div", { class: "plot" }, make("h2", {}, title), this.now, this.most, this.frame,
      make("div", { class: "axis", "aria-hidden": "true" }, this.from, make("span", {}, "now")), make("div", { class: "legend" }, ...legend));
    this.frame.addEventListener("pointermove", (event) => this.point(this.under(event.clientX)));
    this.frame.addEventListener("pointerleave", () => this.point(null));
    this.frame.addEventListener("blur", () => this.point(null));
    this.frame.addEventListener("keydown", (event) => this.step(event));
  }

  x(at) {
    return WIDTH - (this.end - at) * WIDTH / this.span;
  }

  y(value) {
    return HEIGHT - 1 - value * (HEIGHT - 2) / this.height;
  }

  // `end` and `span` in seconds.
  update(samples, end, span, now) {
    Object.assign(this, { end, span });
    this.samples = samples.filter((sample) => end - sample.at <= span);
    tell(this.now, now.text);
    if (now.small) this.now.append(" ", make("small", {}, now.small));
    const values = (sample) => this.series.map((one) => one.value(sample) ?? 0);
    const sizes = this.samples.map((sample) =>
      this.shape === "bars" ? values(sample).reduce((a, b) => a + b, 0) : Math.max(...values(sample)));
    const largest = Math.max(this.least, ...sizes);
    this.height = this.ceiling(largest);
    const parts = [0, 0.5, 1].map((part) =>
      svg("line", { class: "grid-line", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part }));
    parts.push(...(this.shape === "bars" ? this.bars(values) : this.lines()));
    this.picture.replaceChildren(...parts);
    tell(this.most, this.format(this.height));
    tell(this.from, span < HOUR ? `start, ${Math.ceil(span / 60)} min ago` : "1 h ago");
    const summary = this.series.map((one) => {
      const all = this.samples.map((sample) => one.value(sample)).filter((value) => value !== null);
      return all.length ? `${one.word} at most ${this.format(Math.max(...all))}` : `${one.word}: nothing`;
    });
    this.picture.setAttribute("aria-label", `${this.title} ${span < HOUR ? "since the start" : "in the last hour"}: ${summary.join("; ")}`);
    this.point(this.pointed);
  }

  lines() {
    const parts = [];
    this.series.forEach((one, index) => {
      const pieces = [];
      let piece = [];
      for (const sample of this.samples) {
        const value = one.value(sample);
        if (value === null) { if (piece.length) pieces.push(piece); piece = []; continue; }
        piece.push(`${this.x(sample.at).toFixed(1)} ${this.y(value).toFixed(1)}`);
      }
      if (piece.length) pieces.push(piece);
      // A single point is a short stroke.
      const path = pieces.map((points) => `M${points.join("L")}${points.length === 1 ? "h2" : ""}`).join("");
      if (index === 0 && pieces.length === 1 && pieces[0].length > 1) {
        const points = pieces[0];
        const [first, last] = [points[0], points[points.length - 1]].map((point) => point.split(" ")[0]);
        parts.push(svg("path", { class: "area", d: `M${first} ${HEIGHT}L${points.join("L")}L${last} ${HEIGHT}Z` }));
      }
      parts.push(svg("path", { class: `curve ${this.classes[index]}`, d: path }));
    });
    return parts;
  }

  bars(values) {
    const paths = this.series.map(() => "");
    const step = WIDTH * 10 / this.span;
    for (const sample of this.samples) {
      let base = 0;
      values(sample).forEach((value, index) => {
        if (value > 0) {
          const [low, high] = [this.y(base), this.y(base + value)];
          paths[index] += `M${(this.x(sample.at) - step).toFixed(2)} ${low.toFixed(1)}h${(step * 0.85).toFixed(2)}V${high.toFixed(1)}h${(-step * 0.85).toFixed(2)}Z`;
        }
        base += value;
      });
    }
    return paths.map((d, index) => svg("path", { class: `bar ${this.classes[index]}`, d }));
  }

  // The time of the sample that is nearest to the pointer.
  under(clientX) {
    const box = this.frame.getBoundingClientRect();
    const at = this.end - this.span + (clientX - box.left) / box.width * this.span;
    return this.samples.reduce((a, b) => (a === null || Math.abs(b.at - at) < Math.abs(a - at) ? b.at : a), null);
  }

  // By key: the sample before or after, beginning with the last one.
  step(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || this.samples.length === 0) return;
    event.preventDefault();
    const last = this.samples.length - 1;
    const at = this.samples.findIndex((sample) => sample.at === this.pointed);
    this.point(this.samples[at < 0 ? last : Math.min(last, Math.max(0, at + way))].at);
  }

  // Shows the values at this time, beside a line; none without a time. A later answer moves the line with its sample.
  point(at) {
    this.pointed = at;
    this.picture.querySelector(".cursor")?.remove();
    const sample = this.samples.find((one) => one.at === at);
    this.tip.hidden = !sample;
    if (!sample) return;
    const x = this.x(sample.at);
    this.picture.append(svg("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: HEIGHT }));
    const rows = this.series.map((one, index) => {
      const value = one.value(sample);
      return make("span", { class: this.classes[index] }, `${one.word} ${value === null ? "–" : this.format(value)}`);
    });
    this.tip.replaceChildren(make("span", { class: "at" }, `${new Date(sample.at * 1000).toISOString().slice(11, 19)} UTC`), ...rows);
    const part = 100 * x / WIDTH;
    this.tip.style.left = part < 50 ? `${part}%` : "auto";
    this.tip.style.right = part < 50 ? "auto" : `${100 - part}%`;
  }
}
