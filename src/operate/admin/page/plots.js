// The last hour as small plots.

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
    Object.assign(this, { title, series, shape, format, ceiling, least, samples: [] });
    this.classes = ["one", "two", "three"];
    this.now = make("p", { class: "now" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.most = make("span");
    this.legend = make("div", { class: "legend" });
    this.element = make("div", { class: "plot" },
      make("h2", {}, title), this.now, this.picture,
      make("div", { class: "axis", "aria-hidden": "true" }, make("span", {}, "1 h ago"), this.most, make("span", {}, "now")),
      this.legend);
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.point(null));
  }

  x(sample) {
    return WIDTH - (this.end - sample.at) * WIDTH / HOUR;
  }

  y(value) {
    return HEIGHT - value * HEIGHT / this.height;
  }

  update(samples, end, now) {
    this.end = end;
    this.samples = samples.filter((sample) => end - sample.at <= HOUR);
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
    tell(this.most, `top: ${this.format(this.height)}`);
    const summary = this.series.map((one) => {
      const all = this.samples.map((sample) => one.value(sample)).filter((value) => value !== null);
      return all.length ? `${one.word} at most ${this.format(Math.max(...all))}` : `${one.word}: nothing`;
    });
    this.picture.setAttribute("aria-label", `${this.title} over the last hour: ${summary.join("; ")}`);
    if (this.pointed) this.point(this.pointed);
    else this.words(null);
  }

  lines() {
    const parts = [];
    this.series.forEach((one, index) => {
      const pieces = [];
      let piece = [];
      for (const sample of this.samples) {
        const value = one.value(sample);
        if (value === null) { if (piece.length) pieces.push(piece); piece = []; continue; }
        piece.push(`${this.x(sample).toFixed(1)} ${this.y(value).toFixed(1)}`);
      }
      if (piece.length) pieces.push(piece);
      // A single point is a short stroke.
      const path = pieces.map((points) => `M${points.join("L")}${points.length === 1 ? "h.6" : ""}`).join("");
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
    const step = WIDTH * 10 / HOUR;
    for (const sample of this.samples) {
      let base = 0;
      values(sample).forEach((value, index) => {
        if (value > 0) {
          const [low, high] = [this.y(base), this.y(base + value)];
          paths[index] += `M${(this.x(sample) - step).toFixed(2)} ${low.toFixed(1)}h${(step * 0.85).toFixed(2)}V${high.toFixed(1)}h${(-step * 0.85).toFixed(2)}Z`;
        }
        base += value;
      });
    }
    return paths.map((d, index) => svg("path", { class: `bar ${this.classes[index]}`, d }));
  }

  // Shows the sample under the pointer in the legend.
  point(event) {
    this.pointed = event;
    this.picture.querySelector(".cursor")?.remove();
    if (!event || this.samples.length === 0) return this.words(null);
    const box = this.picture.getBoundingClientRect();
    const at = this.end - HOUR + (event.clientX - box.left) / box.width * HOUR;
    const nearest = this.samples.reduce((a, b) => (Math.abs(b.at - at) < Math.abs(a.at - at) ? b : a));
    const x = this.x(nearest);
    this.picture.append(svg("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: HEIGHT }));
    this.words(nearest);
  }

  words(sample) {
    const words = this.series.map((one, index) => {
      const value = sample && one.value(sample);
      const told = !sample ? "" : value === null ? " –" : ` ${this.format(value)}`;
      return make("span", { class: this.classes[index] }, one.word + told);
    });
    if (sample) words.unshift(make("span", { class: "at" }, new Date(sample.at * 1000).toISOString().slice(11, 19)));
    this.legend.replaceChildren(...words);
  }
}
